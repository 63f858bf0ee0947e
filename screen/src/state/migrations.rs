//! The migrations that were seen under way: their steps as they happen, on one clock.

use std::collections::{BTreeMap, BTreeSet};

use mose_pam::{Bytes, Millis};
use mose_protocol::handover::Task;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::{Phase, Round, Step, StepEvent};
use mose_protocol::{HostName, MigrationId, ServiceName, Timestamp};

/// The most migrations that are kept; the oldest go.
const KEPT: usize = 64;
/// The most events of one that are kept.
const MOST_EVENTS: usize = 20_000;

/// A step of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// The host that does it.
    pub host: HostName,
    /// What.
    pub step: Step,
    /// When it began, on that host's clock.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The bytes that it has moved so far.
    pub bytes: Option<Bytes>,
    /// The figures of a round.
    pub round: Option<Round>,
    /// What a person may want to know.
    pub detail: Option<String>,
    /// Whether it failed; the detail tells why.
    pub failed: bool,
    /// Whether it was left undone as the operator aborted the migration.
    pub aborted: bool,
}

impl Bar {
    /// Whether it came to its good end.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.ended.is_some() && !self.failed && !self.aborted
    }
}

/// A bar on the console's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed<'a> {
    /// The bar.
    pub bar: &'a Bar,
    /// Its begin, after that of the migration.
    pub start: Millis,
    /// Its end; that of what is known so far, where it has not ended.
    pub end: Millis,
}

/// A migration that was seen under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Its identity.
    pub migration: MigrationId,
    /// The order, once it is known.
    pub task: Option<Task>,
    /// When the first of it was heard, on the console's clock.
    pub heard: Timestamp,
    /// When the last of it was heard.
    pub last_heard: Timestamp,
    /// Its steps, by begin.
    pub bars: Vec<Bar>,
    /// What remains of it.
    pub record: Option<Box<Record>>,
    /// Whether the whole has ended.
    pub over: bool,
    /// How far each host's clock is behind the console's, at most, in µs: what it tells cannot have been heard before it was.
    skews: BTreeMap<HostName, i64>,
    seen: BTreeSet<(HostName, u64)>,
}

impl Track {
    fn new(migration: MigrationId, now: Timestamp) -> Self {
        Self {
            migration,
            task: None,
            heard: now,
            last_heard: now,
            bars: Vec::new(),
            record: None,
            over: false,
            skews: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// What is moved.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        self.task.as_ref().map(|task| &task.service).or_else(|| self.record.as_ref().map(|r| &r.service))
    }

    /// From where.
    #[must_use]
    pub fn from(&self) -> Option<&HostName> {
        self.task.as_ref().map(|task| &task.from).or_else(|| self.record.as_ref().map(|r| &r.from))
    }

    /// Whereto.
    #[must_use]
    pub fn to(&self) -> Option<&HostName> {
        self.task.as_ref().map(|task| &task.to).or_else(|| self.record.as_ref().map(|r| &r.to))
    }

    /// How it ended, once that is known.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.record.as_ref().map(|record| record.outcome)
    }

    /// Whether its service is in doubt.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.outcome() == Some(Outcome::InDoubt)
    }

    /// Whether it is only rehearsed.
    #[must_use]
    pub fn is_rehearsal(&self) -> bool {
        self.task.as_ref().is_some_and(|task| task.rehearsal)
            || self.record.as_ref().is_some_and(|record| record.rehearsal.is_some())
    }

    /// Whether the source has given the service up: it cannot be broken off any more. What is rehearsed can be until it is over.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        !self.is_rehearsal()
            && self.bars.iter().any(|bar| matches!(bar.step, Step::Relinquish | Step::Restore))
    }

    /// Whether the operator has aborted it, by what was heard so far.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        match self.outcome() {
            Some(outcome) => outcome == Outcome::Aborted,
            None => self.bars.iter().any(|bar| bar.aborted),
        }
    }

    /// The step that failed, and why.
    #[must_use]
    pub fn failure(&self) -> Option<&Bar> {
        self.bars
            .iter()
            .find(|bar| bar.failed && bar.step != Step::Migration)
            .or_else(|| self.bars.iter().find(|bar| bar.failed))
    }

    /// The round of pre-copy that was last heard of.
    #[must_use]
    pub fn round(&self) -> Option<u32> {
        let rounds = self.bars.iter().filter(|bar| matches!(bar.step, Step::PreDump | Step::Iteration));
        (rounds.count() as u32).checked_sub(1)
    }

    /// What is being done now: the step that began last and has not ended; between two, the one that ended last.
    #[must_use]
    pub fn doing(&self) -> Option<&Bar> {
        let part = |bar: &&Bar| !matches!(bar.step, Step::Migration | Step::Checkpoint | Step::ClientGap);
        let open = self.bars.iter().rev().filter(part).find(|bar| bar.ended.is_none());
        open.or_else(|| self.bars.iter().filter(part).max_by_key(|bar| bar.ended))
    }

    fn on_console(&self, host: &HostName, at: Timestamp) -> Timestamp {
        at.shifted(self.skews.get(host).copied().unwrap_or(0))
    }

    /// When it began, on the console's clock.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        let first = self.bars.iter().map(|bar| self.on_console(&bar.host, bar.begun)).min();
        first.unwrap_or(self.heard)
    }

    /// When it ended, on the console's clock, once it has. Of one whose record was amended this may be all that was heard, long after.
    #[must_use]
    pub fn ended(&self) -> Timestamp {
        let told = self.record.as_deref().map(|record| self.on_console(&record.from, record.ended()));
        told.map_or(self.last_heard, |told| told.min(self.last_heard))
    }

    /// For how long it has been going on, or went on.
    #[must_use]
    pub fn elapsed(&self, now: Timestamp) -> Millis {
        if let Some(record) = self.record.as_deref().filter(|_| !self.is_in_doubt()) {
            return record.duration;
        }
        let end = if self.has_ended() { self.last_heard } else { now };
        Millis(end.since(self.begun()).0.max(0.0))
    }

    /// Its steps on one clock: the console's, as far as that can be told from when they were heard.
    pub fn placed(&self, now: Timestamp) -> impl Iterator<Item = Placed<'_>> {
        let begun = self.begun();
        let open = if self.has_ended() { self.last_heard } else { now };
        self.bars.iter().map(move |bar| {
            let start = self.on_console(&bar.host, bar.begun).since(begun).0.max(0.0);
            let end = bar.ended.map_or(open, |ended| self.on_console(&bar.host, ended));
            Placed { bar, start: Millis(start), end: Millis(end.since(begun).0.max(start)) }
        })
    }

    /// Whether nothing more will come of it: in doubt it goes on, and the service stands still.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.over && !self.is_in_doubt()
    }

    /// From the freeze to the release (or now), after the begin: while the service stood still.
    #[must_use]
    pub fn frozen(&self, now: Timestamp) -> Option<(Millis, Millis)> {
        let (freeze, back) = self.stopped(now)?;
        let whole = if self.has_ended() { self.last_heard } else { now }.since(self.begun());
        Some((freeze, Millis(back.unwrap_or(whole).0.max(freeze.0))))
    }

    /// When the service was frozen, and when it was back, if it was: by what was heard, after the begin. Only a release or a
    /// taking back that came to its good end brings it back.
    pub(super) fn stopped(&self, now: Timestamp) -> Option<(Millis, Option<Millis>)> {
        let placed: Vec<Placed<'_>> = self.placed(now).collect();
        // Where the freeze itself was missed, what comes after it says that the service stands still since then at the latest.
        let still = |step| {
            matches!(
                step,
                Step::Freeze | Step::Dump | Step::Transfer | Step::Stop | Step::Relinquish | Step::Restore
            )
        };
        let starts = placed.iter().filter(|p| still(p.bar.step)).map(|p| p.start);
        let freeze = starts.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let back = placed
            .iter()
            .find(|p| matches!(p.bar.step, Step::Release | Step::Reclaim) && p.bar.is_done())
            .map(|p| Millis(p.end.0.max(freeze.0)));
        Some((freeze, back))
    }

    fn take(&mut self, event: StepEvent, now: Timestamp) {
        if self.seen.len() >= MOST_EVENTS || !self.seen.insert((event.host.clone(), event.seq)) {
            return;
        }
        let behind = i64::try_from(now.0).unwrap_or(i64::MAX) - i64::try_from(event.at.0).unwrap_or(i64::MAX);
        let skew = self.skews.entry(event.host.clone()).or_insert(behind);
        *skew = (*skew).min(behind);
        let ends = event.step == Step::Migration && event.phase.is_end();
        let goes_on =
            |bar: &Bar| bar.host == event.host && bar.step == Step::Migration && bar.ended.is_none();
        if ends && self.over && !self.bars.iter().any(goes_on) {
            // Its source has amended the record, and says so by telling the end again.
            return;
        }
        self.last_heard = now;
        if let Some(task) = event.task {
            self.task = Some(*task);
        }
        self.over |= ends;
        // One step of a kind at a time on a host.
        let open = self
            .bars
            .iter_mut()
            .rev()
            .find(|bar| bar.host == event.host && bar.step == event.step && bar.ended.is_none());
        let bar = match (event.phase, open) {
            (Phase::Started, _) | (_, None) => {
                self.bars.push(Bar {
                    host: event.host,
                    step: event.step,
                    begun: event.at,
                    ended: None,
                    bytes: None,
                    round: None,
                    detail: None,
                    failed: false,
                    aborted: false,
                });
                let Some(bar) = self.bars.last_mut() else { return };
                bar
            }
            (_, Some(bar)) => bar,
        };
        bar.bytes = event.bytes.or(bar.bytes);
        bar.round = event.round.or(bar.round);
        bar.detail = event.detail.or(bar.detail.take());
        if event.phase.is_end() {
            bar.ended = Some(event.at);
            bar.failed = event.phase == Phase::Failed;
            bar.aborted = event.phase == Phase::Aborted;
        }
    }
}

/// All of them, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Migrations {
    tracks: Vec<Track>,
}

impl Migrations {
    /// All of them, oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Track> {
        self.tracks.iter()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, migration: &MigrationId) -> Option<&Track> {
        self.tracks.iter().find(|track| &track.migration == migration)
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Option<&Track> {
        self.tracks.last()
    }

    /// The newest of a service.
    #[must_use]
    pub fn newest_of(&self, service: &ServiceName) -> Option<&Track> {
        self.tracks.iter().rev().find(|track| track.service() == Some(service))
    }

    /// The one of a service that is under way.
    #[must_use]
    pub fn current(&self, service: &ServiceName) -> Option<&Track> {
        self.newest_of(service).filter(|track| !track.over)
    }

    /// Those under way.
    pub fn under_way(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| !track.over)
    }

    /// Keeps an order that this console gives, before anybody has told of it.
    pub fn ordered(&mut self, task: Task, now: Timestamp) {
        let migration = task.migration.clone();
        if let Some(track) = self.entry(&migration, now) {
            track.task = Some(task);
        }
    }

    /// An order was not taken: there is nothing to be seen of it.
    pub fn refused(&mut self, migration: &MigrationId) {
        self.tracks.retain(|track| &track.migration != migration || !track.bars.is_empty());
    }

    fn entry(&mut self, migration: &MigrationId, now: Timestamp) -> Option<&mut Track> {
        if self.get(migration).is_none() {
            if self.tracks.len() >= KEPT {
                // One that is over, else the oldest.
                let place = self.tracks.iter().position(|track| track.over).unwrap_or(0);
                self.tracks.remove(place);
            }
            self.tracks.push(Track::new(migration.clone(), now));
        }
        self.tracks.iter_mut().find(|track| &track.migration == migration)
    }

    pub(super) fn step(&mut self, event: StepEvent, now: Timestamp) {
        let migration = event.migration.clone();
        if let Some(track) = self.entry(&migration, now) {
            track.take(event, now);
        }
    }

    pub(super) fn record(&mut self, record: &Record) {
        if let Some(track) = self.tracks.iter_mut().find(|track| track.migration == record.migration) {
            track.over = true;
            track.record = Some(Box::new(record.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(host: &str, seq: u64, step: Step, phase: Phase, at: u64) -> StepEvent {
        StepEvent {
            migration: "m1".parse().unwrap(),
            seq,
            host: host.parse().unwrap(),
            step,
            phase,
            at: Timestamp(at),
            bytes: None,
            round: None,
            detail: None,
            task: None,
        }
    }

    #[test]
    fn steps_of_hosts_whose_clocks_differ_are_put_on_one() {
        let mut all = Migrations::default();
        // edge-b's clock is 5 s ahead; each event is heard 1 ms after it was.
        let ahead = 5_000_000;
        all.step(event("edge-a", 0, Step::Migration, Phase::Started, 1_000_000), Timestamp(1_001_000));
        let b = event("edge-b", 0, Step::Restore, Phase::Started, 1_200_000 + ahead);
        all.step(b, Timestamp(1_201_000));
        let b = event("edge-b", 1, Step::Restore, Phase::Finished, 1_300_000 + ahead);
        all.step(b, Timestamp(1_301_000));
        let track = all.newest().unwrap();
        let placed: Vec<_> = track.placed(Timestamp(1_400_000)).collect();
        assert_eq!((placed[1].start, placed[1].end), (Millis(200.0), Millis(300.0)));
    }

    #[test]
    fn an_event_that_comes_twice_counts_once() {
        let mut all = Migrations::default();
        for _ in 0..2 {
            all.step(event("edge-a", 0, Step::Iteration, Phase::Started, 5), Timestamp(6));
            all.step(event("edge-a", 1, Step::Iteration, Phase::Finished, 7), Timestamp(8));
        }
        assert_eq!(all.newest().unwrap().bars.len(), 1);
        assert_eq!(all.newest().unwrap().round(), Some(0));
    }

    #[test]
    fn an_end_that_is_told_again_since_the_record_was_amended_changes_nothing() {
        let mut all = Migrations::default();
        all.step(event("edge-a", 0, Step::Migration, Phase::Started, 5), Timestamp(6));
        all.step(event("edge-a", 1, Step::Migration, Phase::Finished, 900), Timestamp(901));
        let before = all.newest().unwrap().clone();
        all.step(event("edge-a", 2, Step::Migration, Phase::Finished, 9_000_000), Timestamp(9_000_001));
        let after = all.newest().unwrap();
        assert_eq!((&after.bars, after.last_heard, after.over), (&before.bars, Timestamp(901), true));
    }

    #[test]
    fn of_a_migration_whose_events_all_came_late_an_amended_end_tells_how_late() {
        let mut all = Migrations::default();
        // Missed at first and fetched 8 s late; the amended end arrives at once.
        all.step(event("edge-a", 0, Step::Migration, Phase::Started, 1_000_000), Timestamp(9_000_000));
        all.step(event("edge-a", 1, Step::Migration, Phase::Finished, 1_500_000), Timestamp(9_000_000));
        all.step(event("edge-a", 2, Step::Migration, Phase::Finished, 9_500_000), Timestamp(9_501_000));
        assert_eq!(all.newest().unwrap().begun(), Timestamp(1_001_000));
    }

    #[test]
    fn a_step_whose_begin_was_missed_is_shown_all_the_same() {
        let mut all = Migrations::default();
        let failed =
            StepEvent { detail: Some("no space".into()), ..event("edge-a", 4, Step::Dump, Phase::Failed, 9) };
        all.step(failed, Timestamp(10));
        let failure = all.newest().unwrap().failure().unwrap();
        assert_eq!((failure.step, failure.detail.as_deref()), (Step::Dump, Some("no space")));
    }
}
