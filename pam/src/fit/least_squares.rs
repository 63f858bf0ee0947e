//! Linear least squares with coefficients that must not be negative, and how sure one may be of them.
//!
//! What counts is the relative error, for the bounds multiply what is fitted: each observation is weighted by the inverse
//! square of its fitted value, which a few rounds find. Without that, the largest states would settle the constants
//! of the smallest. A handful of columns at most: every subset of them is tried, so that the constrained optimum is exact.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// An observation: the columns' values, and what was measured.
pub(super) type Row<const K: usize> = ([f64; K], f64);

/// The columns say the same of all observations, so that their parts cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Singular;

/// Coefficients of K columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit<const K: usize> {
    /// The best that are not negative.
    pub(super) coefficients: [f64; K],
    /// The best without that condition: the intervals are theirs.
    free: [f64; K],
    covariance: [[f64; K]; K],
    /// Student's t for 90 %.
    t: f64,
}

/// Passes of reweighting; the weights settle after two or three.
const PASSES: usize = 5;

impl<const K: usize> Fit<K> {
    /// Fits more rows than there are columns.
    pub(super) fn new(rows: &[Row<K>]) -> Result<Self, Singular> {
        let largest = rows.iter().map(|(_, measured)| *measured).fold(0.0, f64::max);
        let mut scales: Vec<f64> =
            rows.iter().map(|(_, measured)| scale(*measured, *measured, largest)).collect();
        let mut normal = Normal::new(rows, &scales);
        let mut coefficients = normal.non_negative();
        for _ in 0..PASSES {
            for (scale_of, (columns, measured)) in scales.iter_mut().zip(rows) {
                *scale_of = scale(dot(columns, &coefficients), *measured, largest);
            }
            normal = Normal::new(rows, &scales);
            coefficients = normal.non_negative();
        }
        let free = normal.solve(all()).ok_or(Singular)?;
        let freedom = (rows.len() - K).max(1) as f64;
        let squares: f64 = rows
            .iter()
            .zip(&scales)
            .map(|((columns, measured), scale)| ((measured - dot(columns, &free)) / scale).powi(2))
            .sum();
        let mut covariance = [[0.0; K]; K];
        for (at, row) in covariance.iter_mut().enumerate() {
            let mut unit = [0.0; K];
            unit[at] = 1.0;
            let column = normal.solve_for(all(), &unit).ok_or(Singular)?;
            *row = column.map(|value| value * squares / freedom);
        }
        let t = StudentsT::new(0.0, 1.0, freedom).map_err(|_| Singular)?.inverse_cdf(0.95);
        Ok(Self { coefficients, free, covariance, t })
    }

    /// The sum of coefficients that `contrast` picks, and its 90 % confidence interval, which has no part below zero.
    pub(super) fn sum(&self, contrast: [f64; K]) -> (f64, [f64; 2]) {
        let value = dot(&contrast, &self.coefficients);
        // Around zero where it would lie below: an interval cut down to a point would claim to know it exactly.
        let centre = dot(&contrast, &self.free).max(0.0);
        let variance: f64 = (0..K)
            .flat_map(|i| (0..K).map(move |j| (i, j)))
            .map(|(i, j)| contrast[i] * self.covariance[i][j] * contrast[j])
            .sum();
        let half = self.t * variance.max(0.0).sqrt();
        (value, [(centre - half).max(0.0).min(value), (centre + half).max(value)])
    }
}

/// What an observation's error is measured in: its fitted value, kept away from zero.
fn scale(fitted: f64, measured: f64, largest: f64) -> f64 {
    let scale = fitted.max(0.2 * measured).max(1e-6 * largest);
    if scale > 0.0 { scale } else { 1.0 }
}

fn dot<const K: usize>(a: &[f64; K], b: &[f64; K]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Every column, as a set of bits.
const fn all() -> usize {
    usize::MAX
}

/// The normal equations of scaled rows, with columns brought to length 1.
struct Normal<const K: usize> {
    matrix: [[f64; K]; K],
    right: [f64; K],
    squares: f64,
    lengths: [f64; K],
}

impl<const K: usize> Normal<K> {
    fn new(rows: &[Row<K>], scales: &[f64]) -> Self {
        let mut normal = Self { matrix: [[0.0; K]; K], right: [0.0; K], squares: 0.0, lengths: [0.0; K] };
        for ((columns, measured), scale) in rows.iter().zip(scales) {
            let columns = columns.map(|value| value / scale);
            let measured = measured / scale;
            normal.squares += measured * measured;
            for i in 0..K {
                normal.right[i] += columns[i] * measured;
                for j in 0..K {
                    normal.matrix[i][j] += columns[i] * columns[j];
                }
            }
        }
        for i in 0..K {
            normal.lengths[i] = normal.matrix[i][i].sqrt().max(f64::MIN_POSITIVE);
        }
        for i in 0..K {
            normal.right[i] /= normal.lengths[i];
            for j in 0..K {
                normal.matrix[i][j] /= normal.lengths[i] * normal.lengths[j];
            }
        }
        normal
    }

    /// The coefficients with only the columns of `set`; `None` where they depend on each other.
    fn solve(&self, set: usize) -> Option<[f64; K]> {
        self.solve_scaled(set, self.right).map(|solution| self.unscaled(solution))
    }

    /// The solution for another right-hand side, given for columns as they were.
    fn solve_for(&self, set: usize, right: &[f64; K]) -> Option<[f64; K]> {
        let mut scaled = *right;
        scaled.iter_mut().zip(&self.lengths).for_each(|(value, length)| *value /= length);
        self.solve_scaled(set, scaled).map(|solution| self.unscaled(solution))
    }

    fn unscaled(&self, mut solution: [f64; K]) -> [f64; K] {
        solution.iter_mut().zip(&self.lengths).for_each(|(value, length)| *value /= length);
        solution
    }

    /// Gauss's elimination with pivots, over the columns of `set`.
    fn solve_scaled(&self, set: usize, mut right: [f64; K]) -> Option<[f64; K]> {
        let mut matrix = self.matrix;
        let inside = |i: usize| set >> i & 1 == 1;
        for i in (0..K).filter(|i| !inside(*i)) {
            matrix[i] = [0.0; K];
            matrix.iter_mut().for_each(|row| row[i] = 0.0);
            matrix[i][i] = 1.0;
            right[i] = 0.0;
        }
        for i in 0..K {
            let pivot = (i..K).max_by(|a, b| matrix[*a][i].abs().total_cmp(&matrix[*b][i].abs()))?;
            matrix.swap(i, pivot);
            right.swap(i, pivot);
            // Of columns of length 1, one that adds nothing leaves no more than rounding.
            if matrix[i][i].abs() < 1e-10 {
                return None;
            }
            for below in i + 1..K {
                let factor = matrix[below][i] / matrix[i][i];
                let above = matrix[i];
                matrix[below].iter_mut().zip(above).for_each(|(value, above)| *value -= factor * above);
                right[below] -= factor * right[i];
            }
        }
        for i in (0..K).rev() {
            let known: f64 = (i + 1..K).map(|j| matrix[i][j] * right[j]).sum();
            right[i] = (right[i] - known) / matrix[i][i];
        }
        right.iter().all(|value| value.is_finite()).then_some(right)
    }

    /// The best coefficients of which none is negative.
    fn non_negative(&self) -> [f64; K] {
        let mut best = ([0.0; K], self.squares);
        for set in 1..1_usize << K {
            let Some(solution) = self.solve_scaled(set, self.right) else { continue };
            if solution.iter().any(|value| *value < 0.0) {
                continue;
            }
            // At a set's optimum the rest is orthogonal: squares − solution · right.
            let rest = self.squares - dot(&solution, &self.right);
            if rest < best.1 {
                best = (solution, rest);
            }
        }
        self.unscaled(best.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_noise_is_found_exactly() {
        let rows: Vec<Row<2>> = (1..6).map(|x| ([1.0, f64::from(x)], 3.0 + 2.0 * f64::from(x))).collect();
        let fit = Fit::new(&rows).unwrap();
        assert!((fit.coefficients[0] - 3.0).abs() < 1e-9 && (fit.coefficients[1] - 2.0).abs() < 1e-9);
        let (value, [low, high]) = fit.sum([0.0, 1.0]);
        assert!(low <= value && value <= high && high - low < 1e-6);
    }

    #[test]
    fn a_coefficient_that_would_be_negative_is_zero_and_the_rest_is_best_without_it() {
        // Falls with x: a slope below zero is not allowed, and the best constant remains.
        let rows: Vec<Row<2>> = (1..6).map(|x| ([1.0, f64::from(x)], 10.0 - f64::from(x))).collect();
        let fit = Fit::new(&rows).unwrap();
        assert_eq!(fit.coefficients[1], 0.0);
        assert!((5.0..9.0).contains(&fit.coefficients[0]));
        assert_eq!(fit.sum([0.0, 1.0]).1[0], 0.0);
    }

    #[test]
    fn columns_that_say_the_same_are_refused() {
        let rows: Vec<Row<2>> = (1..6).map(|x| ([1.0, 1.0], f64::from(x))).collect();
        assert_eq!(Fit::new(&rows).unwrap_err(), Singular);
    }

    #[test]
    fn nothing_measured_is_nothing_fitted() {
        let rows: Vec<Row<1>> = vec![([1.0], 0.0); 4];
        let fit = Fit::new(&rows).unwrap();
        assert_eq!(fit.sum([1.0]), (0.0, [0.0, 0.0]));
    }

    #[test]
    fn the_interval_is_that_of_student() {
        // The mean of 1, 2, 3 with equal weights would have t(2) = 2.920 and s/√n = 0.577; the weights here are equal,
        // for the fitted value is the same everywhere.
        let rows: Vec<Row<1>> = [9.0, 10.0, 11.0].map(|y| ([1.0], y)).to_vec();
        let (value, [low, high]) = Fit::new(&rows).unwrap().sum([1.0]);
        assert!((value - 10.0).abs() < 1e-9);
        assert!((high - 10.0 - 2.920 / 3.0_f64.sqrt()).abs() < 1e-3, "{low} {high}");
    }
}
