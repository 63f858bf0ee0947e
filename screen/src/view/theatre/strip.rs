//! A strip of a client's requests: a cell for each that was answered, and a hole where the answers are missing. Nothing is drawn
//! of a time of which nothing is known.

use mose_protocol::agent::ClientInfo;
use mose_protocol::record::ClientGap;

/// What a cell of time shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// An answer came.
    Answer,
    /// None came, and one was waited for.
    Hole,
    /// Nothing is known of it.
    Unknown,
}

/// Cells of time, the oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Strip {
    pub(super) cells: Vec<Cell>,
    /// How many requests a cell stands for.
    pub(super) each: usize,
    /// How often answers come, in milliseconds; `None` where nobody knows.
    pub(super) period: Option<f64>,
}

/// Answers that come sooner after one another were under way together, in milliseconds.
const TOGETHER: f64 = 0.05;
/// Over so many answers the time between two is taken: one that is early or late changes little of it.
const OVER: usize = 8;

/// The usual time between two answers, of those before the gap where there are enough.
fn spacing(answers: &[f64]) -> Option<f64> {
    let (before, after) = answers.split_at(answers.partition_point(|at| *at <= 0.0));
    let steady = if before.len() > 3 { before } else { after };
    let over = OVER.min(steady.len().checked_sub(1).filter(|steps| *steps > 0)?);
    let mut steps: Vec<f64> =
        steady.windows(over + 1).map(|answers| (answers[over] - answers[0]) / over as f64).collect();
    steps.retain(|step| *step > TOGETHER);
    steps.sort_by(f64::total_cmp);
    steps.get(steps.len() / 2).copied()
}

/// How many requests a cell stands for, so that the hole takes up no more than half of the strip.
fn each(hole: f64, period: f64, width: usize) -> usize {
    let requests = (hole / period).min(1e9);
    (requests / (width as f64 * 0.5).max(1.0)).ceil().max(1.0) as usize
}

impl Strip {
    /// What is kept of a client's gap. `rate` is how often the client asks, for where its answers were not kept; `since` is for how long
    /// it has been answered after the gap, in milliseconds, where it tells that.
    pub(super) fn of_gap(
        gap: &ClientGap,
        rate: Option<f64>,
        since: Option<f64>,
        width: usize,
    ) -> Option<Self> {
        let hole = gap.gap?.0;
        if !hole.is_finite() || hole < 0.0 || width == 0 {
            return None;
        }
        let mut answers: Vec<f64> =
            gap.answers_ms.iter().map(|at| at.0).filter(|at| at.is_finite()).collect();
        answers.sort_by(f64::total_cmp);
        let asked = rate.filter(|rate| rate.is_finite() && *rate > 0.0).map(|rate| 1e3 / rate);
        let period = spacing(&answers).or(asked);
        let unit = period.unwrap_or_else(|| hole.max(1e-3) / (width as f64 * 0.3).max(1.0));
        let each = each(hole, unit, width);
        let cell = unit * each as f64;
        let holes = ((hole / cell).round() as usize).clamp(1, width);
        let begin = -(((width - holes) / 2) as f64) * cell;
        let known = answers.first().copied().zip(answers.last().copied());
        let shown = |place: usize| {
            let (from, to) = (begin + place as f64 * cell, begin + (place + 1) as f64 * cell);
            let came = |from: f64, to: f64| {
                let first = answers.partition_point(|at| *at <= from);
                answers.get(first).is_some_and(|at| *at <= to)
            };
            let middle = f64::midpoint(from, to);
            let silent = middle > 0.0 && middle < holes as f64 * cell;
            let known = known.is_some_and(|(first, last)| to > first && from < last);
            match (silent, known) {
                // An answer in the midst of it is one to another connection.
                (true, _) if came(from.max(TOGETHER), to.min(hole - TOGETHER)) => Cell::Answer,
                (true, _) => Cell::Hole,
                (false, false) if from > 0.0 && since.is_some_and(|since| to - hole <= since) => Cell::Answer,
                (false, false) => Cell::Unknown,
                // One that is a little early or late is in the cell beside.
                (false, true) if came(from - cell / 2.0, to + cell / 2.0) => Cell::Answer,
                (false, true) => Cell::Hole,
            }
        };
        Some(Self { cells: (0..width).map(shown).collect(), each, period })
    }

    /// What a client tells now, its newest request at the right: `silent` for how long it has waited.
    pub(super) fn live(client: &ClientInfo, silent: Option<f64>, width: usize) -> Option<Self> {
        let rate = client.rate.map(|rate| rate.0).filter(|rate| rate.is_finite() && *rate > 0.0)?;
        let period = 1e3 / rate;
        let silent = silent.filter(|silent| silent.is_finite() && *silent > 0.0).unwrap_or(0.0);
        let each = each(silent, period, width);
        let least = usize::from(silent > 0.0);
        let holes = ((silent / (period * each as f64)).round() as usize).max(least).min(width);
        let answered = std::iter::repeat_n(Cell::Answer, width - holes);
        let cells = answered.chain(std::iter::repeat_n(Cell::Hole, holes)).collect();
        Some(Self { cells, each, period: Some(period) })
    }

    /// The longest hole: its first cell, and how many there are.
    pub(super) fn hole(&self) -> Option<(usize, usize)> {
        let mut longest: Option<(usize, usize)> = None;
        let mut place = 0;
        for cells in self.cells.chunk_by(|one, other| one == other) {
            if cells[0] == Cell::Hole && longest.is_none_or(|(_, length)| cells.len() > length) {
                longest = Some((place, cells.len()));
            }
            place += cells.len();
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use mose_pam::Millis;
    use mose_protocol::agent::MessagesPerSec;

    use super::*;

    fn gap(length: f64, answers: &[f64]) -> ClientGap {
        let answers: Vec<Millis> = answers.iter().map(|at| Millis(*at)).collect();
        serde_json::from_value(serde_json::json!({
            "host": "uav", "gap": length, "packets": 9, "resets": 0, "accepted": 0, "answers_ms": answers
        }))
        .unwrap()
    }

    fn drawn(strip: &Strip) -> String {
        let letter = |cell: &Cell| match cell {
            Cell::Answer => '|',
            Cell::Hole => '_',
            Cell::Unknown => ' ',
        };
        strip.cells.iter().map(letter).collect()
    }

    /// Answers each 20 ms, before a gap and after it.
    fn answers(length: f64) -> Vec<f64> {
        let before = (0..100).map(|n| -20.0 * f64::from(n));
        before.chain((0..100).map(|n| length + 20.0 * f64::from(n))).collect()
    }

    #[test]
    fn a_cell_is_a_request_and_the_hole_is_where_the_answers_are_missing() {
        let strip = Strip::of_gap(&gap(200.0, &answers(200.0)), None, None, 40).unwrap();
        assert_eq!(drawn(&strip), format!("{}{}{}", "|".repeat(15), "_".repeat(10), "|".repeat(15)));
        assert_eq!((strip.each, strip.period, strip.hole()), (1, Some(20.0), Some((15, 10))));
    }

    #[test]
    fn answers_that_are_early_or_late_make_no_holes() {
        let mut uneven = answers(200.0);
        uneven.iter_mut().enumerate().for_each(|(n, at)| {
            if at.abs() > 1.0 && (*at - 200.0).abs() > 1.0 {
                *at += if n % 2 == 0 { 6.0 } else { -6.0 };
            }
        });
        let strip = Strip::of_gap(&gap(200.0, &uneven), None, None, 40).unwrap();
        assert_eq!(strip.hole(), Some((15, 10)));
        assert_eq!(strip.cells.iter().filter(|cell| **cell == Cell::Hole).count(), 10);
    }

    #[test]
    fn a_further_hole_beside_the_gap_is_seen() {
        let missing = |at: &f64| !(*at < -100.0 && *at > -200.0);
        let told: Vec<f64> = answers(200.0).into_iter().filter(missing).collect();
        let strip = Strip::of_gap(&gap(200.0, &told), None, None, 40).unwrap();
        assert_eq!(drawn(&strip).matches("_|").count(), 2, "{}", drawn(&strip));
    }

    #[test]
    fn a_long_hole_takes_half_of_the_strip_and_each_cell_is_several_requests() {
        let strip = Strip::of_gap(&gap(4000.0, &answers(4000.0)), None, None, 40).unwrap();
        assert_eq!((strip.each, strip.hole().unwrap().1), (10, 20));
    }

    #[test]
    fn what_the_client_tells_afterwards_goes_on_where_the_kept_answers_end_and_not_beyond_now() {
        let few = &answers(200.0)[..103];
        let strip = |since| drawn(&Strip::of_gap(&gap(200.0, few), None, since, 40).unwrap());
        let kept = format!("{}{}||", "|".repeat(15), "_".repeat(10));
        assert_eq!(strip(None).trim_end(), kept);
        assert_eq!(strip(Some(160.0)).trim_end(), format!("{kept}{}", "|".repeat(6)));
        assert_eq!(strip(Some(9000.0)), format!("{kept}{}", "|".repeat(13)));
    }

    #[test]
    fn where_no_answers_were_kept_only_the_hole_is_drawn() {
        let strip = Strip::of_gap(&gap(200.0, &[]), Some(50.0), None, 40).unwrap();
        assert_eq!(drawn(&strip).trim(), "_".repeat(10));
        assert_eq!(strip.hole(), Some((15, 10)));
        let unasked = Strip::of_gap(&gap(200.0, &[]), None, None, 40).unwrap();
        assert_eq!((unasked.period, unasked.hole().unwrap().1), (None, 12));
        assert!(Strip::of_gap(&gap(f64::INFINITY, &[]), None, None, 40).is_none());
    }

    #[test]
    fn while_it_lasts_the_hole_grows_at_the_right() {
        let client = |rate: f64| ClientInfo {
            service: [10, 77, 0, 20].into(),
            rate: Some(MessagesPerSec(rate)),
            rtt: None,
            silent: None,
        };
        let strip = |silent| drawn(&Strip::live(&client(50.0), silent, 20).unwrap());
        assert_eq!(strip(None), "|".repeat(20));
        assert_eq!(strip(Some(100.0)), format!("{}_____", "|".repeat(15)));
        assert_eq!(strip(Some(5.0)), format!("{}_", "|".repeat(19)), "as soon as it waits it is seen");
        assert_eq!(strip(Some(60_000.0)).len(), 20);
        assert!(Strip::live(&client(0.0), None, 20).is_none());
    }
}
