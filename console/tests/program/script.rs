//! A script for two edge hosts: a service `web` on edge-a, and a migration of it that ends as it is told to.

use std::sync::{Arc, Mutex};

use mose_pam::{BitsPerSec, Bytes, Metres, MetresPerSec, Millis, PagesPerSec, Plan};
use mose_protocol::agent::{
    Cell, ClientInfo, Heading, MessagesPerSec, Position, Radio, ServiceInfo, ServiceState, Telemetry,
};
use mose_protocol::check::{Finding, Process, Report, Severity};
use mose_protocol::doctor::Check;
use mose_protocol::flight::FlightError;
use mose_protocol::following::{FollowNews, Following, NextMove};
use mose_protocol::handover::Task;
use mose_protocol::link::{CapacityFrom, LinkMetrics, RttFrom};
use mose_protocol::metrics::{DirtyFigures, ServiceMetrics};
use mose_protocol::record::{Downtime, Outcome, Record};
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Response, ServiceName, Timestamp};

use crate::record::{full_record, round};
use crate::support::Agents;

/// What the agents were asked to migrate, in order.
pub(crate) type Tasks = Arc<Mutex<Vec<Task>>>;

/// How the migration ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As a record says.
    Record(Outcome),
    /// The order is refused.
    Conflict,
    /// The order fails for a reason that is none of the migration's.
    Failure,
}

/// Agents of edge-a and edge-b, and what they are asked to migrate.
pub(crate) fn edges(ending: Ending) -> (Agents, Tasks) {
    let tasks = Tasks::default();
    let asked = tasks.clone();
    let agents =
        Agents::start(&["edge-a", "edge-b"], move |host, request| answer(host, request, ending, &asked));
    (agents, tasks)
}

/// What the source answers that has moved its service already.
pub(crate) fn answer_as_source(host: &HostName, request: &Request) -> Option<(Response, Vec<StepEvent>)> {
    answer(host, request, Ending::Record(Outcome::Done), &Tasks::default())
}

fn answer(
    host: &HostName,
    request: &Request,
    ending: Ending,
    tasks: &Mutex<Vec<Task>>,
) -> Option<(Response, Vec<StepEvent>)> {
    let at_source = host.as_str() == "edge-a";
    let reply = match request {
        Request::Services => Reply::Services(if at_source { vec![service(host)] } else { Vec::new() }),
        Request::Links => Reply::Links(vec![link(if at_source { "edge-b" } else { "edge-a" })]),
        Request::Profile(_) => Reply::Profile(Box::new(profile(host))),
        Request::Calibration(_) => Reply::Calibration(None),
        Request::Steps { .. } => Reply::Steps(Vec::new()),
        Request::Abort(_) | Request::Settle { .. } => Reply::Ok,
        Request::Doctor => Reply::Doctor(vec![
            Check::ok("CRIU", "CRIU 4.2.1 on kernel 6.18"),
            Check::fallback("soft-dirty", "the kernel has none", "live pre-copy", "another kernel"),
        ]),
        Request::Check { service, to } => Reply::Check(Box::new(checked(service, to.as_ref()))),
        Request::History(_) => {
            Reply::History(if at_source { vec![full_record(Outcome::Done)] } else { Vec::new() })
        }
        Request::Record(id) if full_record(Outcome::Done).migration == *id => {
            Reply::Record(at_source.then(|| Box::new(full_record(Outcome::Done))))
        }
        Request::Record(_) => {
            let task = tasks.lock().unwrap().last().cloned()?;
            let Ending::Record(outcome) = ending else { return None };
            Reply::Record(Some(Box::new(record(&task, outcome))))
        }
        Request::Migrate(task) => {
            tasks.lock().unwrap().push((**task).clone());
            let refuse =
                |code, reason: &str| Some((Err(Refusal::new(code, reason, "wait for its end")), Vec::new()));
            return match ending {
                Ending::Conflict => refuse(RefusalCode::Conflict, "another migration of web is under way"),
                Ending::Failure => refuse(RefusalCode::Failed, "the state folder cannot be written"),
                // Whose end nobody knows says nothing more.
                Ending::Record(Outcome::InDoubt) => {
                    Some((Ok(Reply::Ok), vec![event(task, 0, Phase::Started)]))
                }
                Ending::Record(outcome) => {
                    let end = if outcome == Outcome::Done { Phase::Finished } else { Phase::Failed };
                    Some((Ok(Reply::Ok), vec![event(task, 0, Phase::Started), event(task, 1, end)]))
                }
            };
        }
        _ => return None,
    };
    Some((Ok(reply), Vec::new()))
}

/// What stands in the way of `web`: something towards edge-b, and nothing while nobody asks whereto.
fn checked(service: &ServiceName, to: Option<&HostName>) -> Report {
    let process = Process { pid: 7, command: "node".into() };
    let ring = Finding::new(Severity::Blocks, "descriptor 12 (io_uring)", "CRIU cannot dump it", "use epoll");
    let session =
        Finding::new(Severity::LeftBehind, "exec session", "it does not move", "start it again there");
    let blocking = to.map(|_| ring.of(&process));
    Report {
        service: service.clone(),
        from: "edge-a".parse().unwrap(),
        to: to.cloned(),
        processes: 2,
        descriptors: 40,
        findings: blocking.into_iter().chain([session]).collect(),
    }
}

fn event(task: &Task, seq: u64, phase: Phase) -> StepEvent {
    StepEvent {
        migration: task.migration.clone(),
        seq,
        host: task.from.clone(),
        step: Step::Migration,
        phase,
        at: Timestamp(1_000_000 + seq * 1000),
        bytes: Some(Bytes(7)),
        round: None,
        detail: Some("as the script says".into()),
        task: None,
    }
}

pub(crate) fn service(host: &HostName) -> ServiceInfo {
    ServiceInfo {
        name: "web".parse().unwrap(),
        host: host.clone(),
        state: ServiceState::Running,
        image: "localhost/web:latest".into(),
        address: Some("10.77.0.20/24".parse().unwrap()),
        memory: Some(Bytes(10_000_000)),
        processes: Some(2),
        connections: Some(1),
    }
}

pub(crate) fn link(to: &str) -> LinkMetrics {
    LinkMetrics {
        to: to.parse().unwrap(),
        capacity: Some(BitsPerSec(1_000_000_000)),
        capacity_from: Some(CapacityFrom::Probe),
        capacity_at: Some(Timestamp(5)),
        used: Some(BitsPerSec(1_000_000)),
        available: Some(BitsPerSec(999_000_000)),
        rtt: Some(Millis(0.25)),
        rtt_jitter: None,
        rtt_from: Some(RttFrom::Tcp),
        measured_at: Timestamp(7),
    }
}

fn profile(host: &HostName) -> ServiceMetrics {
    let rate = PagesPerSec(300.0);
    ServiceMetrics {
        service: "web".parse().unwrap(),
        host: host.clone(),
        at: Timestamp(9),
        state: Bytes(10_000_000),
        dirty: DirtyFigures { current: rate, mean: rate, worst: rate },
        working_set: Bytes(5_000_000),
        window: Millis(60_000.0),
        tracker: "write-protection".into(),
        cost: 0.001,
        files: None,
    }
}

/// What an agent publishes.
pub(crate) fn telemetry() -> Telemetry {
    let host: HostName = "edge-a".parse().unwrap();
    Telemetry {
        at: Timestamp(11),
        services: vec![service(&host)],
        profiles: vec![profile(&host)],
        links: vec![link("edge-b")],
        trouble: Some("Podman does not answer".into()),
        radio: Some(Radio { cell: Cell(2), signal_percent: Some(80) }),
        flight: Some(FlightError { deviation_m: Metres(0.2), cross_track_m: Some(Metres(0.1)) }),
        following: Some(Box::new(FollowNews {
            by: 7,
            told_at: Timestamp(11),
            following: Following {
                service: "web".parse().unwrap(),
                mobile: "uav".parse().unwrap(),
                on: true,
                trouble: Some("the link is down".into()),
                next: Some(NextMove {
                    from: host.clone(),
                    to: "edge-b".parse().unwrap(),
                    at: Timestamp(12),
                    why: "edge-b is nearer".into(),
                }),
            },
        })),
        position: Some(Position {
            x: Metres(3.0),
            y: Metres(4.0),
            heading: Heading(90.0),
            speed: MetresPerSec(5.0),
        }),
        clients: vec![ClientInfo {
            service: std::net::Ipv4Addr::new(10, 77, 0, 20),
            rate: Some(MessagesPerSec(200.0)),
            rtt: Some(Millis(1.5)),
            silent: Some(Millis(30.0)),
        }],
        host,
    }
}

/// A step event with all that one can have.
pub(crate) fn full_event() -> StepEvent {
    StepEvent {
        migration: "m1".parse().unwrap(),
        seq: 3,
        host: "edge-a".parse().unwrap(),
        step: Step::Iteration,
        phase: Phase::Finished,
        at: Timestamp(1),
        bytes: Some(Bytes(4096)),
        round: Some(round()),
        detail: Some("one page".into()),
        task: Some(Box::new(task())),
    }
}

fn task() -> Task {
    Task {
        migration: "m1".parse().unwrap(),
        service: "web".parse().unwrap(),
        from: "edge-a".parse().unwrap(),
        to: "edge-b".parse().unwrap(),
        plan: Plan::cold(),
        transport: Some(TransportKind::Tcp),
        image_policy: mose_protocol::handover::ImagePolicy::Bring,
        pre_copy: Some(mose_protocol::handover::PreCopyWay::Live),
        rehearsal: false,
        files: Default::default(),
        forecast: None,
    }
}

fn record(task: &Task, outcome: Outcome) -> Record {
    let reason =
        (outcome != Outcome::Done).then(|| Refusal::new(RefusalCode::Engine, "as the script says", ""));
    Record {
        migration: task.migration.clone(),
        service: task.service.clone(),
        from: task.from.clone(),
        to: task.to.clone(),
        plan: task.plan.clone(),
        transport: None,
        started_at: Timestamp(1_000_000),
        duration: Millis(512.0),
        rehearsal: None,
        outcome,
        simulated: false,
        by_hand: false,
        reason,
        image: Bytes(602_000),
        downtime: Downtime::default(),
        forecast: task.forecast.clone(),
        flights: Vec::new(),
        rounds: Vec::new(),
        steps: Vec::new(),
    }
}
