//! How long the service may stand still for each kind of fault, as its client sees it.
//!
//! | fault | bound |
//! |---|---|
//! | none that the service should notice: refused, aborted or broken off before the freeze | 250 ms |
//! | none that lengthens the migration | the worst case + 1 s |
//! | something fails before the commit point, or in the restore: rolled back | the worst case + 3 s |
//! | something hangs, or a link is cut, before the commit point or in the restore | 2 · P + 4 s |
//! | an agent is killed while the service stands still | the worst case + 6 s: its restart, 3 s, and 3 s |
//! | an agent is stopped for T | T + P + 4 s |
//! | a link is cut for T after the commit point | T + P + 4 s |
//! | the operator decides T after the commit point | T + P + 4 s |
//! | CRIU computes for ever, as an image ends too early | 30 s + P + 7 s: what a slow machine is given, twice |
//!
//! *P* is what the agents wait for something that hangs: the plan's worst case, from 3 s to 15 s, and 5 s where nothing was promised.
//! The worst case of an order without a promise is what its bytes need on the link and a second and a half for the rest.

use std::time::Duration;

use mose_pam::Strategy;

use super::cell::{By, Cell, Daemon, Fault, Harm, Place, Span};

/// What the agents wait for where nothing was promised.
const PATIENCE: Duration = Duration::from_secs(5);
/// The least and the most that they wait.
const LEAST: Duration = Duration::from_secs(3);
const MOST: Duration = Duration::from_secs(15);

/// What no client notices: a moment of CPU time that an overloaded machine gives late.
const UNNOTICED: Duration = Duration::from_millis(250);

/// How long an agent that was killed needs until it is back, and to take the service back.
const RESTART: Duration = Duration::from_secs(3);

/// How long after the commit point the operator of this table decides: the source is in doubt by then.
pub(crate) const DOUBT: Duration = Duration::from_secs(10);

/// The service's memory, in bytes: enough that its transfer takes a second, so that a moment within it can be hit.
pub(crate) const STATE: u64 = 32 << 20;

/// The link of the table, in bits per second; slow for the same reason.
pub(crate) const LINK: u64 = 200_000_000;

/// What has to be known of an order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worst {
    /// How long the service stands still at worst, if nothing fails.
    pub(crate) downtime: Duration,
    /// Whether the order promised it.
    pub(crate) promised: bool,
}

impl Worst {
    /// What the table's service needs on the table's link.
    pub(crate) fn of(by: By) -> Self {
        let share = if by.strategy == Strategy::Cold { 1.25 } else { 0.4 };
        let travel = STATE as f64 * 8.0 / LINK as f64 * share;
        Self { downtime: Duration::from_secs_f64(1.5 + travel), promised: by.promised }
    }

    /// What the agents wait for something that hangs.
    pub(crate) fn patience(self) -> Duration {
        if self.promised { self.downtime.clamp(LEAST, MOST) } else { PATIENCE }
    }
}

/// How long the service may stand still.
pub(crate) fn bound(cell: &Cell, worst: Worst) -> Duration {
    let seconds = Duration::from_secs;
    let (place, patience) = (cell.moment.place(), worst.patience());
    let plain = worst.downtime + seconds(1);
    let back = worst.downtime + seconds(3);
    let hang = 2 * patience + seconds(4);
    let for_long = |span: Span| match span {
        Span::Seconds(time) => seconds(time) + patience + seconds(4),
        Span::UntilEnd => hang,
    };
    match cell.fault {
        // It was broken off while the service ran.
        Fault::Killed(Daemon::Agent) | Fault::Aborted if place == Place::Running => UNNOTICED,
        // It may be waited for while the service runs.
        Fault::Stopped(Daemon::Podman, _) | Fault::Killed(Daemon::Podman) if place == Place::Running => plain,
        Fault::DiskFull(super::cell::Full::Journal) => UNNOTICED,
        Fault::Runc(_) if place == Place::Running => UNNOTICED,
        Fault::Aborted if place == Place::Still => back,
        Fault::Aborted | Fault::OrderedTwice | Fault::ProcessStopped => plain,
        Fault::Killed(_) if place == Place::Over => plain,
        Fault::Killed(_) | Fault::TornJournal => worst.downtime + RESTART + seconds(3),
        Fault::Stopped(Daemon::Agent, span) => for_long(span),
        Fault::Stopped(..) => hang,
        Fault::Criu(Harm::Fails) | Fault::Runc(Harm::Fails) => back,
        Fault::Criu(Harm::Hangs) | Fault::Runc(Harm::Hangs) => hang,
        Fault::DiskFull(_) => back,
        // CRIU reads on for ever where a file ends too early.
        Fault::ImageTruncated => seconds(30) + patience + seconds(7),
        // After a pre-copy so little is left to send that the commit point may come first.
        Fault::LinkCut(_, span) if place >= Place::Handed || cell.by.strategy != Strategy::Cold => {
            for_long(span)
        }
        Fault::LinkCut(..) | Fault::LinkSlowed(_) => hang,
        Fault::Settled { .. } => DOUBT + patience + seconds(4),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Moment;
    use super::super::list::all;
    use super::*;

    const WORST: Worst = Worst { downtime: Duration::from_secs(3), promised: false };

    fn named(name: &str) -> Cell {
        all().into_iter().find(|cell| cell.name() == name).unwrap_or_else(|| panic!("{name}"))
    }

    #[test]
    fn a_bound_says_what_the_table_says() {
        let of = |name: &str| bound(&named(name), WORST).as_secs_f64();
        assert_eq!(of("agent-killed@prepare/source/cold"), 0.25);
        assert_eq!(of("aborted@pre-dump/source/iterative-precopy"), 0.25);
        assert_eq!(of("aborted@transfer/source/cold"), 6.0);
        assert_eq!(of("aborted@relinquished/source/cold"), 4.0);
        assert_eq!(of("agent-killed@transfer/source/cold"), 9.0);
        assert_eq!(of("agent-stopped-60s@transfer/source/cold"), 69.0);
        assert_eq!(of("criu-stopped@locked/source/cold"), 14.0);
        assert_eq!(of("link-cut-40s@transfer/destination/cold"), 14.0);
        assert_eq!(of("link-cut-20s@relinquished/destination/cold"), 29.0);
        assert_eq!(of("runc-fails@runc-restore/destination/cold"), 6.0);
    }

    #[test]
    fn the_agents_wait_as_long_as_was_promised_within_limits() {
        let promised = |seconds: f64| {
            Worst { downtime: Duration::from_secs_f64(seconds), promised: true }.patience().as_secs_f64()
        };
        assert_eq!((promised(0.2), promised(4.0), promised(90.0)), (3.0, 4.0, 15.0));
        assert_eq!(WORST.patience(), PATIENCE);
    }

    #[test]
    fn every_cell_has_a_bound_under_two_minutes() {
        for cell in all() {
            let bound = bound(&cell, WORST);
            assert!(bound >= UNNOTICED && bound < Duration::from_secs(120), "{}: {bound:?}", cell.name());
        }
    }

    #[test]
    fn a_pre_copy_is_expected_to_leave_less() {
        let of = |by| Worst::of(by).downtime;
        assert!(of(By::ITERATIVE) < of(By::COLD) && of(By::COLD) < Duration::from_secs(4));
        assert!(Worst::of(By::PROMISED).patience() < Worst::of(By::COLD).patience());
        assert_eq!(Moment::Before.place(), Place::Running);
    }
}
