//! The figures of the table as all of its forms show them: seconds, metres and Mb/s, with as many digits as the paper has.

use mose_experiments::documents::{Kept, PlusMinus, Spread, Table3Row};

/// What is not known.
pub(crate) const UNKNOWN: &str = "–";

/// A mean and half of its 90 % interval, in units of so many, with so many digits.
pub(crate) fn spread(spread: Option<Spread>, unit: f64, digits: usize) -> String {
    spread.map_or_else(
        || UNKNOWN.to_owned(),
        |spread| match spread.interval {
            Some(interval) => format!("{:.digits$} ± {:.digits$}", spread.mean / unit, interval / unit),
            None => format!("{:.digits$}", spread.mean / unit),
        },
    )
}

/// A mean alone.
pub(crate) fn mean(figures: Option<Spread>, unit: f64, digits: usize) -> String {
    figures.map_or_else(|| UNKNOWN.to_owned(), |figures| format!("{:.digits$}", figures.mean / unit))
}

/// The median, and the range.
pub(crate) fn range(spread: Option<Spread>, unit: f64, digits: usize) -> String {
    spread.map_or_else(
        || UNKNOWN.to_owned(),
        |Spread { median, min, max, .. }| {
            format!("{:.digits$} ({:.digits$} … {:.digits$})", median / unit, min / unit, max / unit)
        },
    )
}

pub(crate) fn published(figure: PlusMinus, unit: f64, digits: usize) -> String {
    format!("{:.digits$} ± {:.digits$}", figure.mean / unit, figure.interval / unit)
}

pub(crate) fn kept(kept: Option<Kept>) -> String {
    kept.map_or_else(|| UNKNOWN.to_owned(), |kept| format!("{}/{}", kept.held, kept.of))
}

/// How many trials moved the service, of how many.
pub(crate) fn done(row: &Table3Row) -> String {
    if row.done == row.trials { row.trials.to_string() } else { format!("{} of {}", row.done, row.trials) }
}

/// What went wrong, a line each.
pub(crate) fn failures(row: &Table3Row) -> Vec<String> {
    let mut lines: Vec<String> = row
        .failures
        .iter()
        .map(|failure| {
            let (trials, outcome) = (failure.trials, failure.outcome.name());
            format!("{}: {trials} of {} {outcome}; the first: {}", row.name, row.trials, failure.why)
        })
        .collect();
    lines.extend(row.not_measured.iter().map(|why| format!("{}: not measured here: {why}", row.name)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_figure_has_no_interval_and_an_unknown_one_no_number() {
        let two = Spread::of([1000.0, 1200.0]);
        assert_eq!(spread(two, 1e3, 2), "1.10 ± 0.63");
        assert_eq!(range(two, 1e3, 1), "1.1 (1.0 … 1.2)");
        assert_eq!(spread(Spread::of([180.0]), 1e3, 3), "0.180");
        assert_eq!(
            (spread(None, 1.0, 1), range(None, 1.0, 1), kept(None)),
            ("–".into(), "–".into(), "–".into())
        );
    }
}
