//! What is told of a migration is what became of the service: real agents on the demo testbed, in which it is known where it lives.

use std::time::{Duration, Instant};

use mose_orchestrator::decide::{self, Decided};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow::Follower;
use mose_orchestrator::order::{self, Order};
use mose_pam::{Plan, Strategy};
use mose_protocol::handover::{ImagePolicy, Task};
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_protocol::{HostName, MigrationId, RefusalCode, Reply, Request, ServiceName};
use mose_simulated::demo::{Demo, Scenario};
use mose_simulated::{Fault, FaultEffect, FaultStep};

/// How long anything in these tests may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn service() -> ServiceName {
    "control".parse().unwrap()
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// The scenario of the faults, without them: they are put in one by one.
async fn started() -> (Demo, Fleet) {
    let mut scenario = Scenario::load(Some("faults")).unwrap();
    scenario.faults.clear();
    let demo = Demo::start(&scenario).await.unwrap();
    let fleet = Fleet::join(demo.endpoints()).await.unwrap();
    (demo, fleet)
}

async fn end(demo: Demo, fleet: Fleet) {
    for placement in demo.world().placements() {
        assert!(placement.live.len() <= 1, "two copies: {placement:?}");
    }
    fleet.session().close().await.unwrap();
    demo.stop().await.unwrap();
}

/// A migration whose destination's agent dies in the restore: its service is in doubt.
async fn in_doubt(demo: &Demo, fleet: &Fleet) -> Record {
    demo.world().inject(Fault {
        step: FaultStep::Restore,
        service: Some(service()),
        host: Some(host("edge-b")),
        after: 0,
        times: 1,
        effect: FaultEffect::AgentLost { back_after: None },
    });
    let order = Order {
        service: service(),
        from: Some(host("edge-a")),
        to: host("edge-b"),
        plan: Plan::cold(),
        transport: None,
        image_policy: ImagePolicy::Bring,
        pre_copy: None,
        rehearsal: false,
        files: Default::default(),
        forecast: None,
    };
    let ordered = order::carry_out(fleet, &order, |_| {});
    let record = tokio::time::timeout(PATIENCE, ordered).await.expect("it falls into doubt").unwrap();
    assert_eq!(record.outcome, Outcome::InDoubt, "{:?}", record.reason);
    assert_eq!(record.downtime.blackout, None, "it still stands still");
    record
}

async fn settle(fleet: &Fleet, record: &Record, keep: bool) -> Record {
    match decide::settle(fleet, Some(&record.from), &record.migration, keep).await.unwrap() {
        Decided::AsOrdered(record) => *record,
        other => panic!("{other:?}"),
    }
}

async fn recorded(fleet: &Fleet, migration: &MigrationId) -> Record {
    match fleet.ask(&host("edge-a"), &Request::Record(migration.clone())).await.unwrap() {
        Reply::Record(Some(record)) => *record,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_given_up_is_never_told_to_be_done() {
    let (demo, fleet) = started().await;
    let doubt = in_doubt(&demo, &fleet).await;
    let given_up = settle(&fleet, &doubt, false).await;
    assert_eq!(given_up.outcome, Outcome::GivenUp, "{:?}", given_up.reason);
    assert!(demo.world().live_on(&service()).is_empty(), "the source's copy was discarded");
    assert_eq!((given_up.downtime.blackout, given_up.bounds_held()), (None, None));
    // The destination comes back, has nothing of it either, and says so.
    demo.bring_back(&host("edge-b")).await.unwrap();
    let began = Instant::now();
    let lost = loop {
        let record = recorded(&fleet, &doubt.migration).await;
        assert_eq!(record.outcome, Outcome::GivenUp);
        if record.reason.as_ref().is_some_and(|reason| reason.reason.ends_with("the service is lost")) {
            break record;
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", record.reason);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(demo.world().live_on(&service()).is_empty(), "{:?}", lost.reason);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_resumed_by_hand_runs_when_that_is_told() {
    let (demo, fleet) = started().await;
    let doubt = in_doubt(&demo, &fleet).await;
    let resumed = settle(&fleet, &doubt, true).await;
    assert_eq!(resumed.outcome, Outcome::RolledBack, "{:?}", resumed.reason);
    assert_eq!(demo.world().live_on(&service()), [host("edge-a")]);
    let stood_still = resumed.downtime.blackout.expect("it was frozen and is back");
    assert!(stood_still.0 > 10_000.0, "{stood_still}: it was in doubt for ten seconds");
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_comes_first_the_destinations_word_or_the_decision_what_is_told_is_so() {
    let (demo, fleet) = started().await;
    let doubt = in_doubt(&demo, &fleet).await;
    demo.bring_back(&host("edge-b")).await.unwrap();
    // It refuses: where that is heard first, the source's copy is the only one, and is not discarded.
    let ended = match decide::settle(&fleet, Some(&doubt.from), &doubt.migration, false).await {
        Ok(Decided::AsOrdered(record)) => *record,
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => {
            assert_eq!(refusal.code, RefusalCode::OutOfTurn, "{refusal}");
            let began = Instant::now();
            loop {
                let record = recorded(&fleet, &doubt.migration).await;
                if record.outcome != Outcome::InDoubt {
                    break record;
                }
                assert!(began.elapsed() < PATIENCE, "{:?}", record.reason);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let live = demo.world().live_on(&service());
    match ended.outcome {
        Outcome::RolledBack => assert_eq!(live, [host("edge-a")]),
        Outcome::GivenUp => assert!(live.is_empty(), "{live:?}"),
        other => panic!("{other:?}: {:?}", ended.reason),
    }
    end(demo, fleet).await;
}

/// Orders a migration, and waits until it is so far.
async fn until(fleet: &Fleet, plan: Plan, far: impl Fn(&StepEvent) -> bool) -> MigrationId {
    let migration: MigrationId = "m-told".parse().unwrap();
    let task = Task {
        migration: migration.clone(),
        service: service(),
        from: host("edge-a"),
        to: host("edge-b"),
        plan,
        transport: None,
        image_policy: ImagePolicy::Bring,
        pre_copy: None,
        rehearsal: false,
        files: Default::default(),
        forecast: None,
    };
    let mut follower = Follower::new(fleet).await.unwrap();
    fleet.ask(&host("edge-a"), &Request::Migrate(Box::new(task))).await.unwrap();
    let reached = async { while !far(&follower.next().await.expect("the session lives")) {} };
    tokio::time::timeout(PATIENCE, reached).await.expect("it comes so far");
    migration
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_is_no_failure_and_tells_what_was_sent() {
    let (demo, fleet) = started().await;
    let plan = Plan {
        strategy: Strategy::IterativePrecopy,
        iterations: Some(40),
        bandwidth: None,
        end_early: false,
    };
    let begun = |event: &StepEvent| event.step == Step::Iteration && event.phase == Phase::Started;
    let migration = until(&fleet, plan, begun).await;
    let aborted = match decide::abort(&fleet, Some(&host("edge-a")), &migration).await.unwrap() {
        Decided::AsOrdered(record) => *record,
        other => panic!("{other:?}"),
    };
    assert_eq!(aborted.outcome, Outcome::Aborted, "{:?}", aborted.reason);
    let reason = aborted.reason.clone().unwrap();
    assert_eq!(reason.code, RefusalCode::Aborted);
    assert!(reason.reason.ends_with("before the service was frozen") && reason.log.is_none(), "{reason}");
    assert!(aborted.image.0 >= 8 << 20, "the first round sent it all, not {}", aborted.image);
    assert_eq!((aborted.downtime.blackout, aborted.bounds_held()), (None, None));
    let Reply::Steps(steps) =
        fleet.ask(&host("edge-a"), &Request::Steps { migration: migration.clone(), from: 0 }).await.unwrap()
    else {
        panic!("its steps");
    };
    let failed: Vec<_> = steps.iter().filter(|event| event.phase == Phase::Failed).collect();
    assert!(failed.is_empty(), "nothing failed: {failed:?}");
    assert!(steps.iter().any(|event| event.step == Step::Migration && event.phase == Phase::Aborted));
    assert_eq!(demo.world().live_on(&service()), [host("edge-a")]);
    end(demo, fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_commit_point_an_abort_is_refused_and_the_migration_done() {
    let (demo, fleet) = started().await;
    let given = |event: &StepEvent| event.step == Step::Relinquish && event.phase == Phase::Finished;
    let migration = until(&fleet, Plan::cold(), given).await;
    let refusal = decide::abort(&fleet, Some(&host("edge-a")), &migration).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OutOfTurn, "{refusal}");
    let began = Instant::now();
    while demo.world().live_on(&service()) != [host("edge-b")] {
        assert!(began.elapsed() < PATIENCE, "{:?}", demo.world().live_on(&service()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    end(demo, fleet).await;
}
