//! From what a cell came to, to its line of the table.

use mose_experiments::documents::FaultCell;
use mose_lab::client::ClientReport;
use mose_protocol::record::{Outcome, Silence};

use super::cell::Cell;
use super::underway::Ended;

/// How far a figure may be off: by this share, or so many milliseconds.
const OFF_SHARE: f64 = 0.1;
const OFF_MS: f64 = 20.0;

/// What was found at the end of a cell.
pub(crate) struct Found {
    pub(crate) ended: Ended,
    /// What the client saw, or why that is not known.
    pub(crate) client: Result<ClientReport, String>,
    /// When the cell began and when its service answered again, by the client's clock.
    pub(crate) span: (u64, u64),
    pub(crate) bound_ms: f64,
    /// The copies that run, by host.
    pub(crate) copies: Vec<(&'static str, u32)>,
    /// Where one copy has to run; `None` where the outcome does not say.
    pub(crate) place: Option<&'static str>,
    pub(crate) leaked: Vec<String>,
    pub(crate) took_s: f64,
}

/// How it ended, in words.
pub(crate) fn outcome(ended: &Ended) -> String {
    let names: Vec<&str> = ended.outcomes.iter().map(|outcome| outcome.name()).collect();
    match (names.as_slice(), &ended.refused) {
        ([], Some(_)) => "refused".into(),
        ([], None) => "unknown".into(),
        (names, _) => names.join(", then "),
    }
}

/// The cell's line.
pub(crate) fn judge(cell: &Cell, found: Found) -> FaultCell {
    let Found { ended, client, span, bound_ms, copies, place, leaked, took_s } = found;
    let mut why = ended.complaints.clone();
    if !ended.struck {
        why.push("the fault never struck: its moment did not come".into());
    }
    let last = ended.outcomes.last().copied().or(ended.refused.is_some().then_some(Outcome::Refused));
    if !last.is_some_and(|last| cell.ends.contains(&last)) {
        why.push(format!("it ended as {}", outcome(&ended)));
    }
    let report = client.unwrap_or_else(|error| {
        why.push(format!("the client told nothing: {error}"));
        ClientReport::default()
    });
    let listed = silence(&report, span);
    let silence_ms = listed.unwrap_or(report.longest_gap_ms.min(SHORTEST_MS));
    if silence_ms > bound_ms {
        why.push(format!("the service stood still for {silence_ms:.0} ms, of at most {bound_ms:.0}"));
    }
    let counts = [
        (report.lost, "requests lost"),
        (report.repeated, "answers repeated"),
        (report.corrupted, "answers corrupted"),
        (report.resets, "connections reset"),
        (report.errors.len() as u64, "connections failed"),
    ];
    why.extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    why.extend(report.errors.iter().cloned());
    let running: u32 = copies.iter().map(|(_, count)| count).sum();
    let on: Vec<String> =
        copies.iter().filter(|(_, count)| *count > 0).map(|(host, _)| (*host).to_owned()).collect();
    if running != 1 {
        why.push(format!("{running} copies run"));
    } else if place.is_some_and(|place| on != [place]) {
        why.push(format!(
            "it runs on {} and was told to run on {}",
            on.join(", "),
            place.unwrap_or_default()
        ));
    }
    why.extend(leaked.iter().cloned());
    let silence_told = ended.record.as_ref().map(|record| record.downtime.silence());
    let told_off = silence_told.is_some_and(|told| off(told, listed));
    let told_ms = ended.record.as_ref().and_then(|record| record.downtime.client_gap()).map(|gap| gap.0);
    if told_off {
        why.push(format!("the record tells a client gap of {:.0} ms", told_ms.unwrap_or_default()));
    }
    let reason = ended.record.as_ref().and_then(|record| record.reason.as_ref()).or(ended.refused.as_ref());
    FaultCell {
        name: cell.name(),
        fault: cell.fault.name(),
        moment: cell.moment.name(),
        side: cell.side.name().into(),
        strategy: cell.by.name(),
        outcome: outcome(&ended),
        expected: cell.ends.iter().map(|end| end.name()).collect::<Vec<_>>().join(" or "),
        silence_ms,
        bound_ms,
        lost: report.lost,
        repeated: report.repeated,
        corrupted: report.corrupted,
        resets: report.resets + report.errors.len() as u64,
        connections: report.connections,
        copies: running,
        on,
        leaked,
        told_ms,
        told_off,
        good: why.is_empty(),
        why,
        reason: reason.map(|refusal| refusal.reason.clone()),
        took_s,
    }
}

/// A client lists no silence that is shorter, in ms.
const SHORTEST_MS: f64 = 50.0;

/// The client's longest silence in a span, if it lists one.
fn silence(report: &ClientReport, (from, to): (u64, u64)) -> Option<f64> {
    Some(report.longest_gap_between(from, to)).filter(|listed| *listed > 0.0)
}

/// Whether a record tells something else than the client's own log. What either does not know is not wrong.
fn off(told: Silence, own_ms: Option<f64>) -> bool {
    let listed = own_ms.is_some();
    let own_ms = own_ms.unwrap_or(SHORTEST_MS);
    let beyond = |told: f64, own: f64| told - own > OFF_MS && told - own > OFF_SHARE * own;
    match told {
        Silence::Unwatched | Silence::Unknown => false,
        Silence::AtLeast(told) => beyond(told.0, own_ms),
        Silence::Known(told) if !listed => beyond(told.0, own_ms),
        Silence::Known(told) => {
            let distance = (told.0 - own_ms).abs();
            distance > OFF_MS && distance > OFF_SHARE * own_ms
        }
    }
}

#[cfg(test)]
mod tests {
    use mose_lab::client::Gap;
    use mose_pam::Millis;
    use mose_protocol::{Refusal, RefusalCode};

    use super::super::list::all;
    use super::*;

    /// Something that goes wrong in what was found, and a word that has to be said of it.
    type Harm = (fn(&mut Found), &'static str);

    fn rolled_back() -> Cell {
        all().into_iter().find(|cell| cell.ends == [Outcome::RolledBack]).unwrap()
    }

    fn found() -> Found {
        let ended = Ended { outcomes: vec![Outcome::RolledBack], struck: true, ..Ended::default() };
        let gaps = vec![Gap { at_unix_ms: 1000, ms: 900.0 }, Gap { at_unix_ms: 9000, ms: 5000.0 }];
        let client =
            ClientReport { received: 9, connections: 2, streams: 2, gaps, ..ClientReport::default() };
        Found {
            ended,
            client: Ok(client),
            span: (900, 3000),
            bound_ms: 1000.0,
            copies: vec![("edge-a", 1), ("edge-b", 0)],
            place: Some("edge-a"),
            leaked: Vec::new(),
            took_s: 1.0,
        }
    }

    #[test]
    fn a_cell_that_is_as_it_should_be_is_good_and_a_later_silence_is_none_of_its() {
        let told = judge(&rolled_back(), found());
        assert!(told.good, "{:?}", told.why);
        assert_eq!((told.silence_ms, told.copies, told.outcome.as_str()), (900.0, 1, "rolled back"));
    }

    #[test]
    fn whatever_is_wrong_is_said() {
        let harms: [Harm; 9] = [
            (|found| found.ended.struck = false, "never struck"),
            (|found| found.ended.outcomes = vec![Outcome::InDoubt], "in doubt"),
            (|found| found.bound_ms = 100.0, "stood still for 900 ms"),
            (|found| found.copies[1].1 = 1, "2 copies"),
            (|found| found.copies[0].1 = 0, "0 copies"),
            (|found| found.place = Some("edge-b"), "runs on edge-a"),
            (|found| found.leaked.push("1 port too many".into()), "port"),
            (|found| found.client = Err("gone".into()), "gone"),
            (|found| found.ended.complaints.push("the next order".into()), "next order"),
        ];
        for (harm, word) in harms {
            let mut harmed = found();
            harm(&mut harmed);
            let told = judge(&rolled_back(), harmed);
            assert!(!told.good && told.why.iter().any(|why| why.contains(word)), "{word}: {:?}", told.why);
        }
    }

    #[test]
    fn a_figure_is_off_by_a_tenth_and_20_ms() {
        let known = |told: f64| Silence::Known(Millis(told));
        let second = Some(1000.0);
        assert!(!off(known(1090.0), second) && off(known(1110.0), second) && off(known(890.0), second));
        assert!(
            !off(known(79.0), Some(60.0)) && off(known(81.0), Some(60.0)) && off(known(39.0), Some(60.0))
        );
        assert!(!off(Silence::Unknown, Some(60.0)) && !off(Silence::AtLeast(Millis(500.0)), Some(9000.0)));
        assert!(off(Silence::AtLeast(Millis(9000.0)), Some(500.0)));
        // A client that lists none may have been silent for anything up to the shortest.
        assert!(!off(known(3.0), None) && !off(known(69.0), None) && off(known(71.0), None));
    }

    #[test]
    fn what_was_in_doubt_says_so() {
        let mut ended = Ended { outcomes: vec![Outcome::InDoubt, Outcome::Done], ..Ended::default() };
        assert_eq!(outcome(&ended), "in doubt, then done");
        ended.outcomes.clear();
        assert_eq!(outcome(&ended), "unknown");
        ended.refused = Some(Refusal::new(RefusalCode::Conflict, "no", ""));
        assert_eq!(outcome(&ended), "refused");
    }
}
