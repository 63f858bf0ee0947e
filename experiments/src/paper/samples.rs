//! Samples for the tests of this folder.

use mose_experiments::documents::{Machine, Measured, Setup, Trial};
use mose_protocol::record::Outcome;

pub(crate) fn setup() -> Setup {
    Setup {
        table: "table3".into(),
        runs: 2,
        seed: 1,
        build: "b1".into(),
        release: "0.1.0".into(),
        link: "1gbit".into(),
        machine: Machine {
            kernel: "6.18".into(),
            processor: "a processor".into(),
            processors: 2,
            memory_bytes: 8 << 30,
        },
        versions: [("podman".into(), "5.4".into())].into(),
    }
}

/// A move that stopped the service for 200 ms.
pub(crate) fn measured() -> Measured {
    Measured {
        outcome: Outcome::Done,
        why: None,
        from: "edge-a".into(),
        to: "edge-b".into(),
        began_unix_ms: 1_000_000,
        bandwidth_bps: Some(1_000_000_000),
        rounds: Some(3),
        client_silence_ms: Some(210.0),
        service_stopped_ms: Some(200.0),
        duration_ms: Some(900.5),
        deviation_m: Some(0.31),
        cross_track_m: Some(0.12),
        undisturbed_deviation_m: Some(0.28),
        undisturbed_cross_track_m: Some(0.1),
        requests_lost: 0,
        connections_lost: 0,
        offboard_losses: 0,
        behind_ms: 2.0,
        worst_case_downtime_ms: Some(250.0),
        worst_case_duration_ms: Some(1000.0),
        calibration: Some("edge-a-edge-b".into()),
    }
}

pub(crate) fn trial(row: &str, cell: u32) -> Trial {
    Trial { cell, row: row.into(), repetition: 1, took_s: 40.0, measured: measured() }
}
