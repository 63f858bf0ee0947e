//! The demo testbed from outside: real agents, real Zenoh and real transfers on loopback, in this process.

use std::time::{Duration, Instant};

use mose_console::table;
use mose_orchestrator::design::{self, Given, Wanted};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::order::{self, Order};
use mose_pam::{Limits, Millis, Objective, Plan, RoundsRule, Strategy, Targets};
use mose_protocol::agent::{Role, ServiceState, Telemetry};
use mose_protocol::handover::ImagePolicy;
use mose_protocol::link::CapacityFrom;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::Step;
use mose_protocol::{HostName, Refusal, ServiceName, envelope, keys};
use mose_simulated::demo::{Demo, Scenario};
use mose_simulated::{Fault, FaultEffect, FaultStep, swarm};

/// How long anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const CALM: &str = r#"
name = "calm"
about = "for tests"
seed = 1
profile = "simulated"

[[host]]
name = "a"
role = "edge"
still = { x = "-50m", y = "0m" }

[[host]]
name = "b"
role = "edge"
still = { x = "50m", y = "0m" }

[[host]]
name = "uav"
role = "mobile"
circle = { x = "0m", y = "0m", radius = "40m", speed = "20m/s", start = 330 }
client_address = "10.77.0.10/24"

[[link]]
between = ["a", "b"]
bandwidth = "1Gbps"
rtt = "1ms"
cross = { mean = "100Mbps", swing = "0bps", period = "10s" }

[[service]]
name = "one"
on = "a"
image = "localhost/one:test"
address = "10.77.0.20/24"
state = "8MiB"
writing = { rate = "400p/s", working_set = "4MiB" }
clients = [{ on = "uav", rate = 100, connections = 2 }]

[[service]]
name = "two"
on = "b"
image = "localhost/two:test"
address = "10.77.0.21/24"
state = "2MiB"
writing = { rate = "100p/s", working_set = "1MiB" }

[follow]
service = "one"
mobile = "uav"
between = ["a", "b"]
target_downtime = "500ms"
target_duration = "2s"
objective = "downtime"
"#;

fn scenario() -> Scenario {
    Scenario::from_toml(CALM, "calm").unwrap()
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn order(name: &str, to: &str, plan: Plan) -> Order {
    Order {
        service: service(name),
        from: None,
        to: host(to),
        plan,
        transport: None,
        image_policy: ImagePolicy::Bring,
        files: Default::default(),
        pre_copy: None,
        rehearsal: false,
        forecast: None,
    }
}

async fn migrate(fleet: &Fleet, order: &Order) -> Result<Record, Refusal> {
    tokio::time::timeout(PATIENCE, order::carry_out(fleet, order, |_| {})).await.expect("the migration ends")
}

/// Plans for generous targets and carries it out.
async fn migrate_as_planned(fleet: &Fleet, name: &str, from: &str, to: &str) -> Record {
    let wanted = Wanted {
        targets: Targets::new(Millis(600.0), Millis(2500.0)).unwrap(),
        objective: Objective::Downtime,
        limits: Limits::default(),
        rounds: RoundsRule::default(),
        profile: None,
        given: Given::default(),
    };
    let design = design::design(fleet, &service(name), &host(from), &host(to), &wanted).await.unwrap();
    assert_eq!(design.profile.name, "simulated", "plans are made with what step times are drawn around");
    let forecast = Some(Box::new(design.forecast()));
    migrate(fleet, &Order { forecast, ..order(name, to, design.plan()) }).await.unwrap()
}

/// At no instant did more than one copy of any service live.
fn assert_single_copies(demo: &Demo) {
    let placements = demo.world().placements();
    assert!(!placements.is_empty());
    for placement in placements {
        assert!(placement.live.len() <= 1, "two copies: {placement:?}");
    }
}

fn fault(step: FaultStep, on: &str, effect: FaultEffect) -> Fault {
    Fault { step, service: Some(service("one")), host: Some(host(on)), after: 0, times: 1, effect }
}

pub(crate) async fn started() -> (Demo, Fleet) {
    let demo = Demo::start(&scenario()).await.unwrap();
    let fleet = Fleet::join(demo.endpoints()).await.unwrap();
    (demo, fleet)
}

pub(crate) async fn end(demo: Demo, fleet: Fleet) {
    assert_single_copies(&demo);
    let folder = demo.folder().to_owned();
    assert!(folder.exists());
    fleet.session().close().await.unwrap();
    demo.stop().await.unwrap();
    assert!(!folder.exists(), "the folder is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_built_in_scenario_starts_at_once_and_ends_without_a_trace() {
    for name in Scenario::built_in() {
        let scenario = Scenario::load(Some(name)).unwrap();
        let began = Instant::now();
        let demo = Demo::start(&scenario).await.unwrap();
        let took = began.elapsed();
        println!("{name}: {} agents met after {took:?}", scenario.hosts.len());
        assert!(took < Duration::from_secs(2), "{name} took {took:?}");
        let fleet = Fleet::join(demo.endpoints()).await.unwrap();
        let seen = fleet.agents(&[]).await.unwrap();
        assert_eq!(seen.len(), scenario.hosts.len());
        for agent in seen {
            let hello = agent.hello.unwrap();
            assert!(hello.simulated, "{} is not labelled", hello.host);
            assert!(table::marked(hello.role.name(), hello.simulated).ends_with("SIM"));
        }
        end(demo, fleet).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_and_an_iterative_migration_are_done_verified_and_labelled() {
    let (demo, fleet) = started().await;
    let cold = migrate(&fleet, &order("one", "b", Plan::cold())).await.unwrap();
    assert_eq!(cold.outcome, Outcome::Done, "{:?}", cold.reason);
    assert!(cold.simulated && table::ending(&cold).starts_with("SIM"), "{}", table::ending(&cold));
    assert!(table::history(std::slice::from_ref(&cold)).contains("done SIM"));
    assert!(cold.image.0 >= 8 << 20, "the whole memory travels: {}", cold.image);
    assert_eq!(demo.world().live_on(&service("one")), [host("b")]);

    let plan = Plan { strategy: Strategy::IterativePrecopy, iterations: Some(2), ..Plan::cold() };
    let iterative = migrate(&fleet, &order("one", "a", plan)).await.unwrap();
    assert_eq!(iterative.outcome, Outcome::Done, "{:?}", iterative.reason);
    assert_eq!(iterative.rounds.len(), 3);
    assert_eq!(iterative.rounds[0].pages, (8 << 20) / 4096);
    let in_rounds: u64 = iterative.rounds.iter().map(|round| round.bytes.0).sum();
    let stopped = iterative.image.0 - in_rounds;
    assert!(stopped < 1 << 20, "{stopped} bytes were sent while the service stood still");
    assert_eq!(demo.world().live_on(&service("one")), [host("a")]);

    for record in [&cold, &iterative] {
        let blackout = record.downtime.blackout.unwrap();
        let gap = record.downtime.client_gap().expect("the client was watched");
        // The client asks every 10 ms, and hears it again when the processes go on.
        assert!(gap.0 >= blackout.0 - 1.0 && gap.0 < blackout.0 + 150.0, "{gap} beside {blackout}");
        assert_eq!(record.downtime.clients[0].resets, 0);
        let restore = record.downtime.criu.restore.unwrap();
        assert!(restore.0 > 30.0, "a restore takes the profile's time, not {restore}");
    }
    assert!(iterative.downtime.blackout < cold.downtime.blackout);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_end_where_one_no_longer_pays_unless_all_are_wanted() {
    let (demo, fleet) = started().await;
    let plan = |end_early| Plan {
        strategy: Strategy::IterativePrecopy,
        iterations: Some(12),
        end_early,
        ..Plan::cold()
    };
    let early = migrate(&fleet, &order("one", "b", plan(true))).await.unwrap();
    assert_eq!(early.outcome, Outcome::Done, "{:?}", early.reason);
    // What is written between two rounds is about as much each time: it does not fall twelve times.
    let last = early.ended_early().expect("one that no longer paid");
    assert!(!early.rounds[last as usize].pays);
    assert!(early.rounds[..last as usize].iter().all(|round| round.pays), "{:?}", early.rounds);
    // The one right before the freeze is made all the same.
    assert_eq!(early.rounds.len() as u32, last + 2, "{:?}", early.rounds);
    assert_eq!(early.iterations_made(), last + 1);
    let ended = table::ending(&early);
    assert!(ended.contains(&format!("{} of 12 planned were made", last + 1)), "{ended}");
    assert!(table::history(std::slice::from_ref(&early)).contains(&format!("I={}/12", last + 1)));
    let left_out = format!("{last} of 12: ");
    let detail =
        early.steps.iter().filter_map(|step| step.detail.as_deref()).find(|d| d.starts_with(&left_out));
    assert!(detail.is_some_and(|detail| detail.contains("left out")), "{detail:?}");

    let all = migrate(&fleet, &order("one", "a", plan(false))).await.unwrap();
    assert_eq!(all.outcome, Outcome::Done, "{:?}", all.reason);
    assert_eq!((all.rounds.len(), all.ended_early()), (13, None));
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_with_the_scenarios_profile_mostly_holds() {
    let (demo, fleet) = started().await;
    let (mut held, mut runs) = (0, 0);
    for (from, to) in [("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")] {
        let record = migrate_as_planned(&fleet, "one", from, to).await;
        assert_eq!(record.outcome, Outcome::Done, "{:?}", record.reason);
        let (downtime, duration) = record.bounds_held().expect("it was promised and measured");
        println!("{}", table::ending(&record));
        runs += 2;
        held += u32::from(downtime) + u32::from(duration);
    }
    assert!(held * 4 >= runs * 3, "{held} of {runs} bounds held");
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_is_rolled_back_and_the_service_goes_on_at_its_source() {
    let (demo, fleet) = started().await;
    demo.world().inject(fault(FaultStep::Restore, "b", FaultEffect::Fail));
    let record = migrate(&fleet, &order("one", "b", Plan::cold())).await.unwrap();
    assert_eq!(record.outcome, Outcome::RolledBack);
    let reason = record.reason.unwrap();
    assert!(reason.reason.contains("simulated fault"), "{reason}");
    assert!(reason.log.is_some_and(|log| !log.is_empty()));
    assert_eq!(demo.world().live_on(&service("one")), [host("a")]);
    assert_eq!(order::locate(&fleet, &service("one")).await.unwrap(), host("a"));
    let again = migrate(&fleet, &order("one", "b", Plan::cold())).await.unwrap();
    assert_eq!(again.outcome, Outcome::Done, "{:?}", again.reason);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_page_at_the_destination_is_seen_and_the_restore_refused() {
    let (demo, fleet) = started().await;
    demo.world().inject(fault(FaultStep::Restore, "b", FaultEffect::StalePage));
    let plan = Plan { strategy: Strategy::IterativePrecopy, iterations: Some(1), ..Plan::cold() };
    let record = migrate(&fleet, &order("one", "b", plan)).await.unwrap();
    assert_eq!(record.outcome, Outcome::RolledBack);
    let reason = record.reason.unwrap().reason;
    assert!(reason.contains("is corrupted or stale: it says that it is version 0"), "{reason}");
    assert_eq!(demo.world().live_on(&service("one")), [host("a")]);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_before_the_hand_over_leave_the_service_where_it_was() {
    let (demo, fleet) = started().await;
    let pre_copy = Plan { strategy: Strategy::Precopy, ..Plan::cold() };
    for (step, on, plan, outcome) in [
        (FaultStep::Prepare, "b", Plan::cold(), Outcome::Refused),
        (FaultStep::PreDump, "a", pre_copy, Outcome::Refused),
        (FaultStep::Dump, "a", Plan::cold(), Outcome::RolledBack),
    ] {
        demo.world().inject(fault(step, on, FaultEffect::Fail));
        let record = migrate(&fleet, &order("one", "b", plan)).await.unwrap();
        assert_eq!(record.outcome, outcome, "{step:?}: {:?}", record.reason);
        assert_eq!(demo.world().live_on(&service("one")), [host("a")]);
    }
    let done = migrate(&fleet, &order("one", "b", Plan::cold())).await.unwrap();
    assert_eq!(done.outcome, Outcome::Done, "{:?}", done.reason);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_lost_in_the_restore_comes_back_and_gives_the_service_back() {
    let (demo, fleet) = started().await;
    let lost = FaultEffect::AgentLost { back_after: Some(Duration::from_millis(300)) };
    demo.world().inject(fault(FaultStep::Restore, "b", lost));
    let record = migrate(&fleet, &order("one", "b", Plan::cold())).await.unwrap();
    assert_eq!(record.outcome, Outcome::RolledBack, "{:?}", record.reason);
    assert!(record.reason.unwrap().reason.contains("restarted"));
    assert_eq!(demo.world().live_on(&service("one")), [host("a")]);
    let again = migrate(&fleet, &order("one", "b", Plan::cold())).await.unwrap();
    assert_eq!(again.outcome, Outcome::Done, "{:?}", again.reason);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_lost_in_the_dump_takes_its_service_back_when_it_comes_again() {
    let (demo, fleet) = started().await;
    demo.world().inject(fault(FaultStep::Dump, "a", FaultEffect::AgentLost { back_after: None }));
    let asked = order("one", "b", Plan::cold());
    let ordered = migrate(&fleet, &asked);
    let revived = async {
        // Its token vanishes; then it is started again.
        let subscriber = fleet
            .session()
            .liveliness()
            .declare_subscriber(keys::live(&host("a")))
            .history(true)
            .await
            .unwrap();
        loop {
            let sample = subscriber.recv_async().await.unwrap();
            if sample.kind() == zenoh::sample::SampleKind::Delete {
                break;
            }
        }
        demo.bring_back(&host("a")).await.unwrap();
    };
    let (record, ()) = tokio::join!(ordered, revived);
    let record = record.unwrap();
    assert_eq!(record.outcome, Outcome::RolledBack, "{:?}", record.reason);
    assert_eq!(demo.world().live_on(&service("one")), [host("a")]);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_migrations_at_once_pass_each_other() {
    let (demo, fleet) = started().await;
    let plan = || Plan { strategy: Strategy::IterativePrecopy, iterations: Some(2), ..Plan::cold() };
    let (one, two) = (order("one", "b", plan()), order("two", "a", plan()));
    let (one, two) = tokio::join!(migrate(&fleet, &one), migrate(&fleet, &two));
    for record in [one.unwrap(), two.unwrap()] {
        assert_eq!(record.outcome, Outcome::Done, "{:?}", record.reason);
    }
    assert_eq!(demo.world().live_on(&service("one")), [host("b")]);
    assert_eq!(demo.world().live_on(&service("two")), [host("a")]);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_pre_dumps_is_refused_with_what_to_use_instead() {
    let (demo, fleet) = started().await;
    let plan = Plan { strategy: Strategy::Precopy, ..Plan::cold() };
    let chain =
        Order { pre_copy: Some(mose_protocol::handover::PreCopyWay::Chain), ..order("one", "b", plan) };
    let record = migrate(&fleet, &chain).await.unwrap();
    assert_eq!(record.outcome, Outcome::Refused);
    assert!(record.reason.unwrap().remedy.contains("--pre-copy live"));
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_keep_to_the_bandwidth_that_the_scenario_leaves() {
    let slow = CALM.replace("bandwidth = \"1Gbps\"", "bandwidth = \"200Mbps\"");
    let demo = Demo::start(&Scenario::from_toml(&slow, "slow").unwrap()).await.unwrap();
    let fleet = Fleet::join(demo.endpoints()).await.unwrap();
    let told = fleet.links(false).await.unwrap();
    assert!(told.unanswered.is_empty(), "{:?}", told.unanswered);
    let links = told.told;
    assert_eq!(links.len(), 2);
    for link in &links {
        assert_eq!(link.metrics.capacity_from, Some(CapacityFrom::Scenario));
        assert_eq!(link.metrics.available.unwrap().0, 100_000_000);
    }
    let probed = fleet.links(true).await.unwrap().told;
    assert_eq!(probed.len(), 2, "asked to measure, the scenario's figures are told");
    let record = migrate(&fleet, &order("one", "b", Plan::cold())).await.unwrap();
    let transfer = record.steps.iter().find(|step| step.step == Step::Transfer).unwrap();
    let least = record.image.0 as f64 * 8.0 / 100e6 * 1e3;
    assert!(transfer.took.0 >= least * 0.95, "{} for at least {least} ms", transfer.took);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_tells_positions_clients_and_connections() {
    let (demo, fleet) = started().await;
    let subscriber = fleet.session().declare_subscriber(keys::TELEMETRY_ALL).await.unwrap();
    let mut positions = Vec::new();
    let (mut connections, mut rate) = (None, None);
    let watch = async {
        while positions.len() < 3 || connections.is_none() || rate.is_none() {
            let sample = subscriber.recv_async().await.unwrap();
            let telemetry: Telemetry = envelope::open(&sample.payload().to_bytes()).unwrap();
            if telemetry.host == host("uav") {
                positions.push(telemetry.position.unwrap());
                rate = telemetry.clients.first().and_then(|client| client.rate);
            }
            if let Some(one) = telemetry.services.iter().find(|info| info.name == service("one")) {
                assert_eq!(one.state, ServiceState::Running);
                connections = one.connections;
            }
        }
    };
    tokio::time::timeout(PATIENCE, watch).await.unwrap();
    assert_eq!((connections, rate.map(|rate| rate.0)), (Some(2), Some(100.0)));
    assert!(positions.iter().all(|place| place.speed.0 == 20.0 && place.x.0.hypot(place.y.0) < 40.001));
    assert!(positions[0].distance(&positions[2]).0 > 1.0, "it flies: {positions:?}");
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_dropped_leaves_neither_folder_nor_agent() {
    let (demo, fleet) = started().await;
    let folder = demo.folder().to_owned();
    fleet.session().close().await.unwrap();
    let endpoints: Vec<String> = demo.endpoints().to_vec();
    drop(demo);
    assert!(!folder.exists());
    let begin = Instant::now();
    for endpoint in endpoints {
        let address = endpoint.strip_prefix("tcp/").unwrap();
        while std::net::TcpStream::connect(address).is_ok() {
            assert!(begin.elapsed() < PATIENCE, "{address} is still listened on");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_is_seen_by_a_console_and_publishes_at_its_rate() {
    let period = Duration::from_millis(200);
    let mut swarm = swarm::swarm(20, 5, period).await.unwrap();
    let fleet = Fleet::join(&[swarm.endpoint().to_owned()]).await.unwrap();
    let subscriber = fleet.session().declare_subscriber(keys::TELEMETRY_ALL).await.unwrap();
    let seen = tokio::time::timeout(PATIENCE, async {
        let mut heard = std::collections::BTreeMap::new();
        while heard.len() < 20 || heard.values().any(|count| *count < 5) {
            let sample = subscriber.recv_async().await.unwrap();
            let telemetry: Telemetry = envelope::open(&sample.payload().to_bytes()).unwrap();
            assert_eq!((telemetry.services.len(), telemetry.profiles.len()), (5, 5));
            *heard.entry(telemetry.host).or_insert(0) += 1;
        }
        heard
    });
    let heard = seen.await.expect("telemetry of all comes");
    let (least, most) = (heard.values().min().unwrap(), heard.values().max().unwrap());
    assert!(most - least <= 2, "evenly: {heard:?}");
    let hosts: Vec<HostName> = heard.into_keys().collect();
    let agents = fleet.agents(&hosts).await.unwrap();
    assert_eq!(agents.len(), 20);
    let light = |agent: &mose_orchestrator::fleet::Seen| {
        agent.hello.as_ref().is_ok_and(|hello| hello.simulated && hello.role == Role::Edge)
    };
    assert!(agents.iter().all(light));
    assert_eq!(swarm.lose_one().await, Some(()));
    assert_eq!(swarm.agents(), 19);
    assert!(swarm::swarm(0, 1, period).await.is_err() && swarm::swarm(3, 1, Duration::ZERO).await.is_err());
    swarm.stop().await;
}
