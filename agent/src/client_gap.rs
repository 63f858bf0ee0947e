//! From what a clients' host saw to the gap that a record tells, or to why none can be told.

use std::time::Duration;

use mose_pam::Millis;
use mose_protocol::handover::{Outage, Watched};
use mose_protocol::record::{ClientGap, MOST_ANSWERS};
use mose_protocol::time::ClockOffset;
use mose_protocol::{HostName, Refusal, Timestamp};

/// What two clocks that were compared may drift apart until they are used.
const SLACK_US: u64 = 2_000;

/// When the service stood still, on one clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Away {
    /// From when on it answered nobody; `None`: it never stood still.
    pub(crate) from: Option<Timestamp>,
    /// When it was back; `None`: not yet.
    pub(crate) until: Option<Timestamp>,
    /// How far off both may be, in microseconds.
    pub(crate) uncertainty_us: u64,
}

impl Away {
    /// How long it was, as far as is known.
    pub(crate) fn length(&self) -> Duration {
        let us = self.from.zip(self.until).map_or(0, |(from, until)| until.0.saturating_sub(from.0));
        Duration::from_micros(us)
    }

    /// The same on a clock that is ahead.
    pub(crate) fn on(&self, clock: ClockOffset) -> Self {
        let shifted = |at: Option<Timestamp>| at.map(|at| at.shifted(clock.offset_us));
        Self {
            from: shifted(self.from),
            until: shifted(self.until),
            uncertainty_us: self.uncertainty_us + clock.uncertainty_us,
        }
    }

    /// The part of it that is beyond doubt. A request that is on its way at the freeze may still be answered: on a busy machine
    /// the switch and the freezer take their time. So the first quarter is no proof.
    pub(crate) fn outage(&self) -> Outage {
        let off = i64::try_from(self.uncertainty_us + SLACK_US).unwrap_or(i64::MAX);
        let quarter = i64::try_from(self.length().as_micros() / 4).unwrap_or(i64::MAX);
        Outage {
            from: self.from.map(|at| at.shifted(off.saturating_add(quarter))),
            until: self.until.map(|at| at.shifted(off.saturating_neg())),
        }
    }
}

/// Whether everybody who waited has been answered: nothing more is to be learnt.
pub(crate) fn answered(watched: &Watched, away: &Away) -> bool {
    if watched.asked > 0 {
        return watched.waiting_since.is_none();
    }
    watched.last.zip(away.until).is_none_or(|(last, until)| last > until)
}

/// The gap that a watch comes to.
pub(crate) fn judge(host: &HostName, watched: &Watched, away: &Away) -> ClientGap {
    let mut told = ClientGap {
        host: host.clone(),
        gap: None,
        at_least: false,
        note: None,
        asked: watched.asked,
        unanswered: 0,
        packets: watched.packets,
        resets: watched.resets,
        accepted: watched.accepted,
        answers_ms: Vec::new(),
    };
    if watched.asked == 0 {
        if watched.packets < 2 {
            told.note =
                Some("no client asked for anything, and the service said nothing by itself".to_owned());
            return told;
        }
        // Nobody asked: what the service says by itself is all there is to hear.
        let silent = watched.last.zip(away.until).filter(|(last, until)| last <= until);
        let open = silent.zip(watched.now).map(|((last, _), now)| now.since(last));
        (told.gap, told.at_least) = longer(watched.silence, open);
    } else {
        // A service that never stood still owes nobody an answer that is a matter of its migration.
        let open = watched.waiting_since.filter(|_| away.from.is_some());
        let open = open.zip(watched.now).map(|(since, now)| now.since(since));
        told.unanswered = if open.is_some() { watched.waiting } else { 0 };
        (told.gap, told.at_least) = longer(watched.wait.unwrap_or_default(), open);
    }
    if watched.missed > 0 {
        told.note = Some(format!("{} packets were not seen: it may be longer or shorter", watched.missed));
    }
    told.answers_ms.clone_from(&watched.answers_ms);
    told.answers_ms.retain(|at| at.0.is_finite());
    told.answers_ms.truncate(2 * MOST_ANSWERS);
    contradicted(told, watched, away)
}

/// The longer of a silence that is over and one that is not, and whether that is the latter.
fn longer(over: Millis, open: Option<Millis>) -> (Option<Millis>, bool) {
    match open {
        Some(open) if open.0 >= over.0 => (Some(open), true),
        _ => (Some(over), false),
    }
}

/// A client that asked while the service stood still heard nothing until it was back: a shorter gap is not true.
fn contradicted(mut told: ClientGap, watched: &Watched, away: &Away) -> ClientGap {
    let Some((asked, until)) = watched.first_ask.zip(away.outage().until) else { return told };
    let least = until.since(asked);
    if let Some(gap) = told.gap
        && gap.0 < least.0
    {
        told.gap = None;
        told.at_least = false;
        told.answers_ms.clear();
        told.note = Some(format!(
            "a client asked {least} before the service was back, but the longest wait that was seen is {gap}"
        ));
    }
    told
}

/// What is told where the clients' host does not say what it saw.
pub(crate) fn unheard(host: &HostName, refusal: &Refusal) -> ClientGap {
    ClientGap {
        host: host.clone(),
        gap: None,
        at_least: false,
        note: Some(format!("{host} did not say what its clients saw: {}", refusal.reason)),
        asked: 0,
        unanswered: 0,
        packets: 0,
        resets: 0,
        accepted: 0,
        answers_ms: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(ms * 1000)
    }

    fn away(from: u64, until: u64) -> Away {
        Away { from: Some(at(from)), until: Some(at(until)), uncertainty_us: 0 }
    }

    fn seen() -> Watched {
        Watched {
            asked: 3,
            wait: Some(Millis(510.0)),
            since: Some(at(1000)),
            first_ask: Some(at(1010)),
            last: Some(at(1600)),
            now: Some(at(2000)),
            packets: 9,
            ..Watched::default()
        }
    }

    fn judged(watched: &Watched, away: &Away) -> ClientGap {
        judge(&"uav".parse().unwrap(), watched, away)
    }

    #[test]
    fn the_worst_wait_is_the_gap() {
        let told = judged(&seen(), &away(1000, 1500));
        assert_eq!((told.gap, told.at_least, told.unanswered), (Some(Millis(510.0)), false, 0));
        assert_eq!(told.note, None);
        assert!(answered(&seen(), &away(1000, 1500)));
    }

    #[test]
    fn a_connection_that_still_waits_makes_it_at_least() {
        let watched = Watched { waiting: 2, waiting_since: Some(at(1010)), ..seen() };
        assert!(!answered(&watched, &away(1000, 1500)));
        let told = judged(&watched, &away(1000, 1500));
        assert_eq!((told.gap, told.at_least, told.unanswered), (Some(Millis(990.0)), true, 2));
        let doubt = Away { until: None, ..away(1000, 0) };
        assert!(judged(&watched, &doubt).at_least);
    }

    #[test]
    fn a_gap_below_what_must_have_been_is_unknown_and_says_why() {
        let told = judged(&Watched { wait: Some(Millis(1.6)), ..seen() }, &away(1000, 1500));
        assert_eq!(told.gap, None);
        assert!(told.note.unwrap().contains("1.60 ms"));
        // A client that asks rarely may well wait for less than the blackout.
        let rare = Watched { wait: Some(Millis(90.0)), first_ask: Some(at(1420)), ..seen() };
        assert_eq!(judged(&rare, &away(1000, 1500)).gap, Some(Millis(90.0)));
        let idle = Watched { wait: Some(Millis(1.6)), first_ask: None, ..seen() };
        assert_eq!(judged(&idle, &away(1000, 1500)).gap, Some(Millis(1.6)));
    }

    #[test]
    fn clocks_that_are_not_sure_contradict_nobody() {
        let unsure = Away { uncertainty_us: 20_000, ..away(1000, 1500) };
        let watched = Watched { wait: Some(Millis(470.0)), ..seen() };
        assert_eq!(judged(&watched, &unsure).gap, Some(Millis(470.0)));
        let ahead = ClockOffset { offset_us: 1_000_000, uncertainty_us: 500 };
        assert_eq!(away(1000, 1500).on(ahead).outage().from, Some(Timestamp(2_127_500)));
    }

    #[test]
    fn where_nobody_asks_the_services_own_silence_counts() {
        let pushed = Watched { asked: 0, silence: Millis(300.0), first_ask: None, ..seen() };
        assert_eq!(judged(&pushed, &away(1000, 1500)).gap, Some(Millis(300.0)));
        let silent = Watched { last: Some(at(1400)), ..pushed.clone() };
        assert!(!answered(&silent, &away(1000, 1500)));
        let told = judged(&silent, &away(1000, 1500));
        assert_eq!((told.gap, told.at_least), (Some(Millis(600.0)), true));
        let one = Watched { packets: 1, ..pushed };
        assert!(judged(&one, &away(1000, 1500)).note.is_some());
    }

    #[test]
    fn the_answers_around_a_gap_are_told_with_it_and_around_one_that_is_not_true_none_are() {
        let answers_ms = [-20.0, -0.5, 510.0, 530.0].map(Millis).to_vec();
        let watched = Watched { answers_ms: answers_ms.clone(), ..seen() };
        assert_eq!(judged(&watched, &away(1000, 1500)).answers_ms, answers_ms);
        let contradicted = Watched { wait: Some(Millis(1.6)), ..watched.clone() };
        assert_eq!(judged(&contradicted, &away(1000, 1500)).answers_ms, []);
        let unasked = Watched { asked: 0, packets: 1, ..watched.clone() };
        assert_eq!(judged(&unasked, &away(1000, 1500)).answers_ms, []);
        let mad = Watched { answers_ms: vec![Millis(f64::INFINITY); 5000], ..watched.clone() };
        assert_eq!(judged(&mad, &away(1000, 1500)).answers_ms, []);
        let many = Watched { answers_ms: vec![Millis(600.0); 5000], ..watched };
        assert_eq!(judged(&many, &away(1000, 1500)).answers_ms.len(), 2 * MOST_ANSWERS);
    }

    #[test]
    fn what_was_missed_is_said() {
        let told = judged(&Watched { missed: 4, ..seen() }, &away(1000, 1500));
        assert!(told.gap.is_some() && told.note.unwrap().starts_with("4 packets"));
    }
}
