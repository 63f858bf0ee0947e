//! The cells of the table.

use mose_protocol::record::Outcome;
use mose_protocol::record::Outcome::{Aborted, Done, Refused, RolledBack};
use mose_protocol::step::{Phase, Step};

use super::cell::{By, Cell, Daemon, Fault, Full, Harm, Moment, Side, Span, Way};

const PREPARE: Moment = Moment::Step(Step::Prepare, Phase::Started);
const PRE_COPY: Moment = Moment::Step(Step::PreDump, Phase::Started);
const FREEZE: Moment = Moment::Hook("pre-dump");
const DUMP: Moment = Moment::Step(Step::Freeze, Phase::Finished);
const SEIZED: Moment = Moment::Hook("network-lock");
const LOCKED: Moment = Moment::CriuLog("Lock network");
const POST_DUMP: Moment = Moment::Hook("post-dump");
const TRANSFER: Moment = Moment::Step(Step::Dump, Phase::Finished);
const RELINQUISHED: Moment = Moment::Step(Step::Relinquish, Phase::Finished);
const RESTORE: Moment = Moment::Step(Step::Restore, Phase::Started);
const PRE_RESTORE: Moment = Moment::Hook("pre-restore");
const POST_RESTORE: Moment = Moment::Hook("post-restore");
const PRE_RESUME: Moment = Moment::Hook("pre-resume");
const RELEASED: Moment = Moment::Step(Step::Release, Phase::Finished);

const AGENT_KILLED: Fault = Fault::Killed(Daemon::Agent);
const AGENT_5S: Fault = Fault::Stopped(Daemon::Agent, Span::Seconds(5));
const AGENT_60S: Fault = Fault::Stopped(Daemon::Agent, Span::Seconds(60));
const PODMAN_STOPPED: Fault = Fault::Stopped(Daemon::Podman, Span::UntilEnd);
const PODMAN_KILLED: Fault = Fault::Killed(Daemon::Podman);
const SWITCH_KILLED: Fault = Fault::Killed(Daemon::Switch);

/// Nothing was changed: it was refused, or was broken off while the service ran.
const BEFORE: &[Outcome] = &[Refused, RolledBack];
const BACK: &[Outcome] = &[RolledBack];
const DONE: &[Outcome] = &[Done];
/// Where the fault may be survived, and need not be.
const EITHER: &[Outcome] = &[Done, RolledBack, Refused];

const fn cell(fault: Fault, moment: Moment, side: Side, by: By, ends: &'static [Outcome]) -> Cell {
    Cell { fault, moment, side, by, ends, quick: false }
}

/// All cells, those of one fault together.
pub(crate) fn all() -> Vec<Cell> {
    let parts = [agents_killed(), agents_stopped(), engines(), files(), links(), operators()];
    parts.into_iter().flatten().collect()
}

fn agents_killed() -> Vec<Cell> {
    use Side::{Destination, Source};
    let of = |moment, side, by, ends| cell(AGENT_KILLED, moment, side, by, ends);
    vec![
        of(PREPARE, Source, By::COLD, BEFORE),
        of(PRE_COPY, Source, By::ITERATIVE, BEFORE),
        of(FREEZE, Source, By::COLD, BEFORE),
        of(FREEZE, Source, By::ITERATIVE, BEFORE),
        of(SEIZED, Source, By::COLD, BACK),
        of(POST_DUMP, Source, By::COLD, BACK),
        of(TRANSFER, Source, By::COLD, BACK).quick(),
        of(TRANSFER, Source, By::ZENOH, BACK),
        of(RELINQUISHED, Source, By::COLD, DONE),
        of(PRE_RESTORE, Source, By::COLD, DONE),
        of(POST_RESTORE, Source, By::PRECOPY, DONE),
        of(PRE_RESUME, Source, By::COLD, DONE),
        of(RELEASED, Source, By::ITERATIVE, DONE),
        of(PREPARE, Destination, By::COLD, BEFORE),
        of(PRE_COPY, Destination, By::ITERATIVE, BEFORE),
        of(FREEZE, Destination, By::COLD, BEFORE),
        of(SEIZED, Destination, By::ITERATIVE, BACK),
        of(POST_DUMP, Destination, By::COLD, BACK),
        of(TRANSFER, Destination, By::COLD, BACK).quick(),
        of(TRANSFER, Destination, By::ZENOH, BACK),
        of(TRANSFER, Destination, By::PRECOPY, EITHER),
        of(RELINQUISHED, Destination, By::COLD, EITHER),
        of(PRE_RESTORE, Destination, By::COLD, EITHER),
        of(POST_RESTORE, Destination, By::COLD, EITHER),
        of(PRE_RESUME, Destination, By::ITERATIVE, EITHER).quick(),
        of(RELEASED, Destination, By::COLD, DONE),
    ]
}

fn agents_stopped() -> Vec<Cell> {
    use Side::{Destination, Source};
    vec![
        cell(AGENT_5S, FREEZE, Source, By::COLD, EITHER),
        cell(AGENT_5S, TRANSFER, Source, By::COLD, EITHER),
        cell(AGENT_5S, RELINQUISHED, Source, By::COLD, DONE),
        cell(AGENT_5S, TRANSFER, Destination, By::COLD, EITHER),
        cell(AGENT_5S, TRANSFER, Destination, By::ZENOH, EITHER),
        cell(AGENT_5S, RELINQUISHED, Destination, By::COLD, DONE),
        cell(AGENT_5S, PRE_RESTORE, Destination, By::ITERATIVE, DONE),
        cell(AGENT_5S, PRE_RESUME, Destination, By::COLD, DONE).quick(),
        cell(AGENT_60S, TRANSFER, Source, By::COLD, EITHER),
        cell(AGENT_60S, TRANSFER, Destination, By::COLD, EITHER),
    ]
}

fn engines() -> Vec<Cell> {
    use Harm::{Fails, Hangs};
    use Side::{Destination, Source};
    vec![
        cell(PODMAN_STOPPED, DUMP, Source, By::COLD, EITHER),
        cell(PODMAN_STOPPED, PREPARE, Destination, By::COLD, EITHER),
        cell(PODMAN_STOPPED, RESTORE, Destination, By::COLD, EITHER),
        cell(PODMAN_KILLED, DUMP, Source, By::COLD, EITHER),
        cell(PODMAN_KILLED, PREPARE, Destination, By::COLD, EITHER),
        cell(PODMAN_KILLED, RESTORE, Destination, By::COLD, EITHER),
        cell(Fault::Criu(Hangs), SEIZED, Source, By::COLD, BACK).quick(),
        cell(Fault::Criu(Hangs), LOCKED, Source, By::COLD, BACK),
        cell(Fault::Criu(Hangs), LOCKED, Source, By::PROMISED, BACK),
        cell(Fault::Criu(Hangs), LOCKED, Source, By::ITERATIVE, BACK),
        cell(Fault::Criu(Hangs), PRE_RESTORE, Destination, By::COLD, BACK),
        // Released by then: it is woken.
        cell(Fault::Criu(Hangs), PRE_RESUME, Destination, By::COLD, EITHER),
        cell(Fault::Criu(Fails), PRE_RESTORE, Destination, By::COLD, BACK),
        cell(Fault::Criu(Fails), PRE_RESUME, Destination, By::COLD, BACK).quick(),
        cell(Fault::Criu(Fails), POST_RESTORE, Destination, By::ITERATIVE, BACK),
        cell(Fault::Criu(Fails), FREEZE, Source, By::COLD, BEFORE),
        cell(Fault::Runc(Fails), Moment::Runc("checkpoint"), Source, By::COLD, BEFORE),
        cell(Fault::Runc(Hangs), Moment::Runc("checkpoint"), Source, By::COLD, BEFORE),
        cell(Fault::Runc(Fails), Moment::Runc("restore"), Destination, By::COLD, BACK).quick(),
        cell(Fault::Runc(Hangs), Moment::Runc("restore"), Destination, By::COLD, BACK),
        cell(Fault::Runc(Hangs), Moment::Runc("restore"), Destination, By::PROMISED, BACK),
        cell(Fault::ProcessStopped, Moment::Before, Source, By::COLD, DONE),
        cell(Fault::ProcessStopped, Moment::Before, Source, By::ITERATIVE, DONE),
        cell(SWITCH_KILLED, TRANSFER, Source, By::COLD, EITHER),
        cell(SWITCH_KILLED, TRANSFER, Destination, By::COLD, EITHER),
        cell(SWITCH_KILLED, PRE_RESUME, Destination, By::COLD, EITHER),
    ]
}

fn files() -> Vec<Cell> {
    use Side::{Destination, Source};
    vec![
        cell(Fault::DiskFull(Full::Images), Moment::Before, Source, By::COLD, BACK),
        cell(Fault::DiskFull(Full::Images), Moment::Before, Destination, By::COLD, BACK).quick(),
        cell(Fault::DiskFull(Full::Journal), Moment::Before, Source, By::COLD, BEFORE),
        cell(Fault::DiskFull(Full::Journal), Moment::Before, Destination, By::COLD, BEFORE),
        cell(Fault::TornJournal, TRANSFER, Source, By::COLD, BACK),
        cell(Fault::TornJournal, RELINQUISHED, Source, By::COLD, DONE),
        cell(Fault::TornJournal, PRE_RESTORE, Destination, By::COLD, EITHER),
        cell(Fault::ImageTruncated, Moment::Runc("restore"), Destination, By::COLD, BACK),
        cell(Fault::ImageTruncated, Moment::Runc("restore"), Destination, By::ITERATIVE, BACK),
    ]
}

fn links() -> Vec<Cell> {
    use Side::Destination;
    let cut = |way, seconds| Fault::LinkCut(way, Span::Seconds(seconds));
    vec![
        cell(cut(Way::Both, 40), TRANSFER, Destination, By::COLD, BACK),
        cell(cut(Way::Both, 40), TRANSFER, Destination, By::PROMISED, BACK),
        cell(cut(Way::Both, 40), TRANSFER, Destination, By::ITERATIVE, EITHER),
        cell(cut(Way::In, 20), TRANSFER, Destination, By::COLD, BACK),
        cell(cut(Way::Out, 20), TRANSFER, Destination, By::ZENOH, BACK),
        cell(cut(Way::Both, 20), RELINQUISHED, Destination, By::COLD, EITHER),
        cell(cut(Way::Out, 20), RELINQUISHED, Destination, By::COLD, EITHER),
        cell(Fault::LinkSlowed(Span::Seconds(20)), TRANSFER, Destination, By::COLD, EITHER),
        cell(Fault::LinkSlowed(Span::Seconds(20)), PRE_COPY, Destination, By::ITERATIVE, EITHER),
    ]
}

fn operators() -> Vec<Cell> {
    use Side::{Destination, Source};
    const OFF: &[Outcome] = &[Aborted];
    let abort = |moment, by, ends| cell(Fault::Aborted, moment, Source, by, ends);
    vec![
        cell(Fault::OrderedTwice, Moment::Before, Source, By::COLD, DONE).quick(),
        abort(PREPARE, By::COLD, OFF),
        abort(PRE_COPY, By::ITERATIVE, OFF),
        abort(FREEZE, By::COLD, OFF),
        abort(DUMP, By::COLD, OFF),
        abort(TRANSFER, By::COLD, OFF).quick(),
        abort(RELINQUISHED, By::COLD, DONE),
        cell(Fault::Settled { keep: true }, RELINQUISHED, Destination, By::COLD, BACK),
        cell(Fault::Settled { keep: false }, RELINQUISHED, Destination, By::COLD, DONE),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mose_pam::Strategy;

    use super::*;

    #[test]
    fn there_are_enough_cells_and_each_has_a_name_of_its_own() {
        let all = all();
        assert!(all.len() >= 60, "{}", all.len());
        let names: BTreeSet<String> = all.iter().map(Cell::name).collect();
        assert_eq!(names.len(), all.len());
        for name in names {
            assert!(!name.contains(char::is_whitespace), "{name}");
        }
    }

    #[test]
    fn the_quick_ones_are_few_and_of_many_kinds() {
        let quick: Vec<Cell> = all().into_iter().filter(|cell| cell.quick).collect();
        assert!((8..=12).contains(&quick.len()), "{}", quick.len());
        let faults: BTreeSet<String> = quick.iter().map(|cell| cell.fault.name()).collect();
        assert!(faults.len() >= 7, "{faults:?}");
    }

    #[test]
    fn every_strategy_and_both_transports_and_sides_are_struck() {
        let all = all();
        for strategy in Strategy::ALL {
            assert!(all.iter().any(|cell| cell.by.strategy == strategy), "{strategy}");
        }
        assert!(all.iter().any(|cell| cell.by == By::ZENOH));
        for side in [Side::Source, Side::Destination] {
            assert!(all.iter().filter(|cell| cell.side == side).count() > 20);
        }
        assert!(all.iter().all(|cell| !cell.ends.is_empty()));
    }

    #[test]
    fn what_is_to_be_copied_before_the_freeze_has_a_strategy_that_copies() {
        for cell in all().iter().filter(|cell| cell.moment == PRE_COPY) {
            assert_ne!(cell.by.strategy, Strategy::Cold, "{}", cell.name());
        }
    }
}
