//! What the lab's commands print with `--json`, held against the schemas that the program tells of it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../../console/tests/program/record.rs"]
mod record;
#[path = "../../console/tests/program/schema.rs"]
mod schema;

use std::process::Command;

use mose_experiments::documents::{
    AgentMemory, Answered, Claim, Compared, Comparison, Connections, Crossing, Elsewhere, Failure, FaultCell,
    FaultTable, FaultTotals, Fitted, Held, Kept, Lap, Laps, Machine, Measured, PlusMinus, Profiling, Promise,
    Promises, Published, RoundsCompared, RuleFigures, RulesRun, SentAgain, Series, Setup, Slowed, Soak,
    Spread, Strategies, Table3, Table3Row, Told, Trial, VolumeSeries, Volumes,
};
use mose_lab::baseline::{Breakdown, Row};
use mose_lab::client::{ClientReport, Gap, Wait};
use mose_pam::{BitsPerSec, Bytes, Calibration, Millis, Pass, RoundsRule, Sample, Strategy};
use mose_protocol::record::Outcome;
use record::full_record;
use schema::{each_property, violations};
use serde_json::{Map, Value};

/// The schemas that the program tells.
fn schemas() -> Map<String, Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_mose-lab")).args(["tell", "schemas"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn printed(document: &impl serde::Serialize) -> Value {
    serde_json::to_value(document).unwrap()
}

#[test]
fn what_the_lab_prints_fits_its_schemas() {
    let schemas = schemas();
    let fits = |name: &str, document: &Value| {
        let found = violations(&schemas[name], document);
        assert!(found.is_empty(), "{name}: {found:#?}\nin {document:#}");
    };
    let gap = Gap { at_unix_ms: 1, ms: 203.4 };
    let client = || ClientReport { workload: "counter".into(), gaps: vec![gap], ..ClientReport::default() };
    let record = || full_record(Outcome::Done);
    let laps = Laps {
        workload: "counter".into(),
        migrations: vec![Lap { record: record(), client_gap_ms: 203.4 }],
        client: client(),
    };
    fits("lab-laps", &printed(&laps));
    let wait = Wait { connection: 3, sent_at_unix_us: 1, ms: 210.0, answered: true, needed_again: 1 };
    let again = SentAgain { segments: 5, needless: 3 };
    let crossing = Crossing::of(record(), Some(again), [wait, Wait { ms: 30.0, ..wait }].iter());
    assert_eq!((crossing.waited, crossing.after_own, crossing.worst_ms), (2, 2, Some(210.0)));
    let crowd = ClientReport { waits: vec![wait], ..client() };
    let summary = Answered::of(std::slice::from_ref(&crossing), &crowd);
    assert_eq!(summary.after_resend, 4, "two by the client's kernel, two by the service's");
    let migrations = vec![crossing];
    let connections = Connections { connections: 1000, rate: 2, summary, migrations, client: crowd };
    fits("lab-connections", &printed(&connections));
    let series = Series {
        strategy: Strategy::Cold,
        blackout_ms: Some(1.0),
        client_gap_ms: None,
        duration_ms: Some(2.0),
        bytes_in_downtime: Some(3.0),
        ratio: Some(1.0),
        records: vec![record()],
    };
    let strategies = Strategies {
        workload: "counter".into(),
        arguments: vec!["--state-size".into()],
        series: vec![series],
        client: client(),
    };
    fits("lab-strategies", &printed(&strategies));
    let series = VolumeSeries {
        volume: true,
        downtime_ms: Some(1.0),
        duration_ms: None,
        client: client(),
        records: vec![record()],
    };
    let volumes =
        Volumes { size_bytes: 1, files: 2, changed_percent: 3, series: vec![series], ratio: Some(1.1) };
    fits("lab-volumes", &printed(&volumes));
    let forecast = *record().forecast.expect("the full record has one");
    let promises = vec![Promise { service: "small", forecast, record: record() }];
    let summary = Held::of(&promises);
    assert_eq!(summary.migrations, 1);
    let figures =
        || RuleFigures::of(RoundsRule::Enough, [&record(), &full_record(Outcome::RolledBack)].into_iter());
    assert_eq!((figures().migrations, figures().rounds_at_most), (1, 1));
    fits("lab-targets", &printed(&Promises { summary, rules: vec![figures()], migrations: promises }));
    let none = RuleFigures::of(RoundsRule::Paper, std::iter::empty());
    let compared = RoundsCompared::of(&figures(), &figures());
    assert_eq!((compared.downtime_difference_ms, compared.duration_ratio), (Some(0.0), Some(1.0)));
    assert_eq!(RoundsCompared::of(&figures(), &none).downtime_difference_ms, None);
    let rules = RulesRun {
        workload: "sockperf".into(),
        arguments: Vec::new(),
        max_duration_ms: 5000.0,
        rules: vec![figures(), none],
        compared,
        client: client(),
        migrations: vec![record()],
    };
    fits("lab-rounds", &printed(&rules));
    let told = Told {
        asked: 100,
        rewritten: 99.0,
        told: 101.0,
        of_state: 100.0,
        error: Some(0.01),
        tracker: "write-protection".into(),
        cost: 0.001,
    };
    let slowed = Slowed { before: 2.0, during: 1.9, ratio: 0.95, looks: 3, record: record() };
    let profiling =
        Profiling { arguments: Vec::new(), told: vec![told], slowed: vec![slowed], ratio: Some(0.95) };
    fits("lab-profiling", &printed(&profiling));
    let row = Row { name: "copy".into(), median_ms: 2.0, min_ms: 1.0, max_ms: 3.0 };
    let comparison = Comparison {
        workload: "counter".into(),
        mose: vec![record()],
        mose_gaps_ms: vec![203.4],
        mose_client: client(),
        by_hand: Breakdown { runs: 1, rows: vec![row], image_bytes: Some(4) },
        by_hand_gaps_ms: vec![1470.0],
        by_hand_client: client(),
        summary: Compared {
            mose_gap_ms: Some(203.4),
            by_hand_gap_ms: Some(1470.0),
            ratio: Some(0.14),
            floor_ms: None,
        },
    };
    fits("lab-baseline", &printed(&comparison));
    let cell = FaultCell {
        told_ms: Some(1.0),
        reason: Some("it broke".into()),
        why: vec!["2 copies run".into()],
        leaked: vec!["1 port".into()],
        on: vec!["edge-a".into()],
        ..FaultCell::default()
    };
    let elsewhere = vec![Elsewhere { what: "a".into(), by: "b".into(), command: "c".into() }];
    let totals = FaultTotals::of(std::slice::from_ref(&cell));
    fits(
        "lab-faults",
        &printed(&FaultTable { totals: totals.clone(), cells: vec![cell.clone()], elsewhere }),
    );
    let agents = vec![AgentMemory::of("edge-a", 100, 105, 1)];
    let soak = Soak { seed: 1, totals, struck: 1, sent: 2, answered: 2, agents, migrations: vec![cell] };
    fits("lab-soak", &printed(&soak));
    fits("lab-paper-table3", &printed(&table3()));
    let pass = Pass { time: Millis(1.0), volume: Bytes(2) };
    let sample = Sample {
        memory: Bytes(1),
        rate: 0.1,
        strategy: Strategy::IterativePrecopy,
        bandwidth: BitsPerSec(1_000_000_000),
        prepare: Some(Millis(1.0)),
        predump: Some(pass),
        rounds: vec![pass],
        dump: Some(pass),
        restore: None,
        overlay: Some(Millis(1.0)),
    };
    let (from, to) = ("edge-a".parse().unwrap(), "edge-b".parse().unwrap());
    let fitted = Fitted { from, to, profile: Calibration::tnsm2024(), samples: vec![sample] };
    fits("calibrate", &printed(&vec![fitted]));
    let init = Some(mose_lab::Process { pid: 7, start: 8 });
    let underlay = [10, 99, 0, 11].into();
    let host = mose_lab::Host { name: "edge-a".into(), role: mose_lab::Role::Edge, underlay, init };
    let daemon = mose_lab::DaemonStatus {
        name: "mose-agent".into(),
        pid: Some(9),
        machine_pid: None,
        ready: true,
        restarts: 0,
        last_exit: None,
        late: false,
    };
    let host = mose_lab::HostStatus { host, up_since: Some(1), ready: true, daemons: vec![daemon] };
    let edge_link = mose_lab::LinkRate::Unshaped;
    let status = mose_lab::Status {
        ready: true,
        underlay: None,
        edge_link,
        cgroup_v2: false,
        radio: None,
        hosts: vec![host],
    };
    fits("lab-status", &printed(&status));
    fits("lab-down", &printed(&mose_lab::DownReport { hosts: 5, ..mose_lab::DownReport::default() }));
}

/// A table with a row that was flown, with a failure, and one that could not be.
fn table3() -> Table3 {
    let measured = Measured {
        outcome: Outcome::RolledBack,
        why: Some("CRIU failed".into()),
        from: "edge-a".into(),
        to: "edge-b".into(),
        began_unix_ms: 1,
        bandwidth_bps: Some(1),
        rounds: None,
        client_silence_ms: Some(1.0),
        service_stopped_ms: None,
        duration_ms: Some(2.0),
        deviation_m: Some(0.3),
        cross_track_m: None,
        undisturbed_deviation_m: Some(0.2),
        undisturbed_cross_track_m: None,
        requests_lost: 1,
        connections_lost: 1,
        offboard_losses: 1,
        behind_ms: 0.5,
        worst_case_downtime_ms: Some(1.0),
        worst_case_duration_ms: Some(1.0),
        calibration: Some("a".into()),
    };
    let spread = Spread::of([1.0, 2.0]);
    let plus = PlusMinus { mean: 1.0, interval: 0.1 };
    let row = |not_measured: Option<String>| Table3Row {
        row: "md-5s".into(),
        name: "MOSE-MD".into(),
        how: "MOSE".into(),
        not_measured,
        trials: 1,
        done: 0,
        failures: vec![Failure { outcome: Outcome::RolledBack, trials: 1, why: "CRIU failed".into() }],
        bandwidth_bps: spread,
        rounds: None,
        client_silence_ms: spread,
        service_stopped_ms: Spread::of([1.0]),
        duration_ms: spread,
        deviation_m: spread,
        cross_track_m: spread,
        undisturbed_deviation_m: spread,
        requests_lost: 1,
        connections_kept: 0,
        downtime_held: Kept::of([Some(true)].into_iter()),
        duration_held: None,
        published: Some(Published {
            bandwidth_bps: 1,
            rounds: Some(6),
            downtime_ms: plus,
            duration_ms: plus,
            deviation_m: plus,
        }),
        downtime_factor: Some(5.0),
    };
    Table3 {
        setup: Setup {
            table: "table3".into(),
            runs: 1,
            seed: 1,
            build: "b".into(),
            release: "0.1.0".into(),
            link: "1gbit".into(),
            machine: Machine { kernel: "6".into(), processor: "p".into(), processors: 2, memory_bytes: 1 },
            versions: [("podman".into(), "5".into())].into(),
        },
        trials_left: 0,
        rows: vec![row(None), row(Some("no soft-dirty bits".into()))],
        claims: vec![Claim { claim: "a".into(), holds: None, figures: "b".into() }],
        differences: vec!["a".into()],
        trials: vec![Trial { cell: 1, row: "md-5s".into(), repetition: 1, took_s: 1.0, measured }],
    }
}

#[test]
fn every_schema_says_what_each_key_is() {
    for (name, schema) in schemas() {
        each_property(&schema, &mut |key, property| {
            assert!(property.get("description").is_some(), "{name}: {key} is not described");
        });
    }
}
