//! A record with all that one can have: these tests' sample, and that of the tests of `mose-lab`.

use mose_pam::{
    BitsPerSec, Bytes, Components, Metres, Millis, Objective, PagesPerSec, Plan, Rounds, RoundsRule, Strategy,
};
use mose_protocol::flight::{FlightError, FlightReport};
use mose_protocol::forecast::{Figures, Forecast};
use mose_protocol::record::{ClientGap, CriuTimes, Downtime, Outcome, Record, Rehearsal, StepTime};
use mose_protocol::step::{Round, Step};
use mose_protocol::time::ClockOffset;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{Refusal, RefusalCode, Timestamp};

/// A record with all that one can have.
pub(crate) fn full_record(outcome: Outcome) -> Record {
    let (downtime, duration) = (Millis(203.0), Millis(2900.0));
    let figures = Figures { downtime, duration };
    let part = Millis(1.0);
    let parts = Components {
        prepare: part,
        predump: part,
        transfer_predump: part,
        files: part,
        files_changed: part,
        round: part,
        dump: part,
        transfer_dump: part,
        restore: part,
        overlay: part,
    };
    Record {
        migration: "m1".parse().unwrap(),
        service: "web".parse().unwrap(),
        from: "edge-a".parse().unwrap(),
        to: "edge-b".parse().unwrap(),
        plan: Plan {
            strategy: Strategy::IterativePrecopy,
            iterations: Some(1),
            bandwidth: Some(BitsPerSec(100_000_000)),
            end_early: true,
        },
        transport: Some(TransportKind::Tcp),
        started_at: Timestamp(1_000_000),
        duration,
        outcome,
        simulated: true,
        by_hand: false,
        rehearsal: Some(Rehearsal { would_stand_still_ms: Some(downtime) }),
        reason: Some(Refusal::new(RefusalCode::Engine, "CRIU failed", "see its log")),
        image: Bytes(602_000),
        downtime: Downtime {
            criu: CriuTimes {
                freezing: Some(Millis(0.4)),
                frozen: Some(Millis(57.8)),
                memdump: Some(Millis(3.0)),
                memwrite: Some(Millis(2.0)),
                restore: Some(Millis(63.1)),
                pages_written: Some(147),
            },
            blackout: Some(downtime),
            clock: ClockOffset { offset_us: -12, uncertainty_us: 40 },
            clients: vec![ClientGap {
                host: "uav".parse().unwrap(),
                gap: Some(Millis(233.0)),
                at_least: false,
                note: None,
                asked: 1,
                unanswered: 0,
                packets: 400,
                resets: 0,
                accepted: 0,
                answers_ms: vec![Millis(-5.0), Millis(184.0)],
            }],
        },
        forecast: Some(Box::new(Forecast {
            profile: "edge-a→edge-b".into(),
            state: Bytes(10_000_000),
            dirty_rate: PagesPerSec(300.0),
            normalized_dirty_rate: 0.12,
            available: BitsPerSec(999_000_000),
            objective: Objective::Downtime,
            targets: figures,
            bound: figures,
            expected: figures,
            components: parts,
            why: "it fits".into(),
            rounds: Some(Rounds { rule: RoundsRule::Enough, chosen: 1, most: 7 }),
        })),
        flights: vec![FlightReport {
            host: "uav".parse().unwrap(),
            worst: FlightError { deviation_m: Metres(0.31), cross_track_m: Some(Metres(0.2)) },
            undisturbed: Some(FlightError { deviation_m: Metres(0.15), cross_track_m: Some(Metres(0.1)) }),
            watched_ms: Millis(8200.0),
        }],
        rounds: vec![round()],
        steps: vec![StepTime {
            host: "edge-a".parse().unwrap(),
            step: Step::Dump,
            start: Millis(300.0),
            took: Millis(57.8),
            bytes: Some(Bytes(602_000)),
            detail: Some("CRIU".into()),
        }],
    }
}

/// A round with all that one can have.
pub(crate) const fn round() -> Round {
    Round { number: 1, pages: 9, sent: 1, bytes: Bytes(4096), took: Millis(3.5), pays: true }
}
