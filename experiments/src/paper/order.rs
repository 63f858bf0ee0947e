//! In which order trials are made: the rows take turns, so that a machine that slows down slows all of them.

/// A trial to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Its place in the order of all, from 1.
    pub(crate) number: u32,
    /// Which row, by its place in the table.
    pub(crate) row: usize,
    /// Which trial of its row, from 1.
    pub(crate) repetition: u32,
}

/// Every row once, then every row again, each time in another order that follows from the seed: no row is always behind the same one.
pub(crate) fn order(rows: usize, runs: u32, seed: u64) -> Vec<Cell> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rows: Vec<usize> = (0..rows).collect();
    let mut cells = Vec::new();
    for repetition in 1..=runs {
        random.shuffle(&mut rows);
        for &row in &rows {
            let number = u32::try_from(cells.len() + 1).unwrap_or(u32::MAX);
            cells.push(Cell { number, row, repetition });
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_take_turns_in_an_order_that_follows_from_the_seed() {
        let cells = order(8, 20, 7);
        assert_eq!(cells, order(8, 20, 7));
        assert_ne!(cells, order(8, 20, 8));
        let rounds: Vec<Vec<usize>> =
            cells.chunks(8).map(|round| round.iter().map(|cell| cell.row).collect()).collect();
        for (number, round) in rounds.iter().enumerate() {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..8).collect::<Vec<_>>(), "each row once in round {number}");
        }
        assert!(rounds.windows(2).any(|pair| pair[0] != pair[1]));
        let numbers: Vec<u32> = cells.iter().map(|cell| cell.number).collect();
        assert_eq!(numbers, (1..=160).collect::<Vec<_>>());
        assert!(cells.iter().all(|cell| cell.repetition == (cell.number - 1) / 8 + 1));
    }
}
