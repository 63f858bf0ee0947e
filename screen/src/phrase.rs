//! Phrases that notices, questions and views have in common: times, ages, plans.

use mose_pam::{Millis, Proposal, Rounds};

/// A time in the unit in which it is short: `31 µs`, `184 ms`, `2.90 s`, `3 min`.
#[must_use]
pub(crate) fn time(time: Millis) -> String {
    match time.0 {
        t if !t.is_finite() => "?".to_owned(),
        t if t != 0.0 && t.abs() < 0.095 => format!("{:.0} µs", t * 1e3),
        t if t.abs() < 9.95 => format!("{t:.1} ms"),
        t if t.abs() < 999.5 => format!("{t:.0} ms"),
        t if t.abs() < 99_950.0 => format!("{:.2} s", t / 1e3),
        t => format!("{:.0} min", t / 60_000.0),
    }
}

/// How long ago something was: `0.3s`, `12s`, `5m`, `2h`, `3d`.
#[must_use]
pub(crate) fn age(age: Millis) -> String {
    match age.0.max(0.0) / 1e3 {
        s if s < 9.95 => format!("{s:.1}s"),
        s if s < 119.5 => format!("{s:.0}s"),
        s if s < 7170.0 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0}h", s / 3600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// A plan in a line: strategy, rounds, L.
#[must_use]
pub(crate) fn headline(proposal: &Proposal) -> String {
    let rounds = proposal.rounds.as_ref().map(self::rounds).unwrap_or_default();
    format!("{}{rounds}  L = {}", proposal.strategy.words(), proposal.bandwidth)
}

/// How many rounds are planned, and of how many; empty where none fit.
pub(crate) fn rounds(rounds: &Rounds) -> String {
    match rounds.most {
        0 => String::new(),
        1 => format!("  {rounds} round"),
        _ => format!("  {rounds} rounds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_unit_in_which_they_are_short() {
        for (ms, shown) in [
            (0.031, "31 µs"),
            (0.31, "0.3 ms"),
            (184.4, "184 ms"),
            (999.4, "999 ms"),
            (2900.0, "2.90 s"),
            (240_000.0, "4 min"),
        ] {
            assert_eq!(time(Millis(ms)), shown);
        }
        assert_eq!(age(Millis(-5.0)), "0.0s");
        assert_eq!(age(Millis(61_000.0)), "61s");
        assert_eq!(age(Millis(1e9)), "12d");
    }
}
