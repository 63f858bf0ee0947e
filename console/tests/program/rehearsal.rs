//! Rehearsals in the demo: the service goes on where it is, nothing of it runs elsewhere, and what was rehearsed then works.

use mose_console::table;
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::order::{self, Order};
use mose_pam::{Plan, Strategy};
use mose_protocol::handover::ImagePolicy;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::Step;
use mose_protocol::{HostName, ServiceName};
use mose_simulated::demo::{Demo, Scenario};
use mose_simulated::{Fault, FaultEffect, FaultStep};

async fn started() -> (Demo, Fleet) {
    let demo = Demo::start(&Scenario::load(Some("uav-handover")).unwrap()).await.unwrap();
    let fleet = Fleet::join(demo.endpoints()).await.unwrap();
    (demo, fleet)
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn service() -> ServiceName {
    "navigation".parse().unwrap()
}

async fn carried_out(fleet: &Fleet, plan: Plan, rehearsal: bool) -> Record {
    let order = Order {
        service: service(),
        from: None,
        to: host("edge-b"),
        plan,
        transport: None,
        image_policy: ImagePolicy::Bring,
        files: Default::default(),
        pre_copy: None,
        forecast: None,
        rehearsal,
    };
    order::carry_out(fleet, &order, |_| {}).await.unwrap()
}

/// At no instant did the service live anywhere but at its source.
fn stayed(demo: &Demo) {
    for placement in demo.world().placements() {
        assert_eq!(placement.live, [host("edge-a")], "{placement:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rehearsed_stayed_and_then_moves_as_foretold() {
    let (demo, fleet) = started().await;
    let plan = Plan { strategy: Strategy::IterativePrecopy, iterations: Some(2), ..Plan::cold() };
    for plan in [Plan::cold(), plan.clone()] {
        let record = carried_out(&fleet, plan, true).await;
        assert_eq!(record.outcome, Outcome::Rehearsed, "{:?}", record.reason);
        stayed(&demo);
        let (stood, would) = (record.downtime.blackout.unwrap(), record.would_stand_still().unwrap());
        assert!(stood < would, "{stood} of {would}");
        for step in [Step::Prepare, Step::Dump, Step::Transfer, Step::Restore] {
            assert!(record.steps.iter().any(|found| found.step == step), "{}", step.name());
        }
        for step in [Step::Redirect, Step::Relinquish, Step::Release, Step::Stop] {
            assert!(!record.steps.iter().any(|found| found.step == step), "{}", step.name());
        }
        let told = table::ending(&record);
        assert!(told.contains("rehearsed in") && told.contains("would have been"), "{told}");
    }
    let moved = carried_out(&fleet, plan, false).await;
    assert_eq!((moved.outcome, moved.rehearsal), (Outcome::Done, None), "{:?}", moved.reason);
    assert_eq!(demo.world().live_on(&service()), [host("edge-b")]);
    fleet.session().close().await.unwrap();
    demo.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_tells_what_the_migration_would_fail_with() {
    let (demo, fleet) = started().await;
    let effects =
        [(FaultStep::Restore, "edge-b"), (FaultStep::Dump, "edge-a"), (FaultStep::Prepare, "edge-b")];
    for (step, on) in effects {
        let (service, host) = (Some(service()), Some(host(on)));
        demo.world().inject(Fault { step, service, host, after: 0, times: 1, effect: FaultEffect::Fail });
        let record = carried_out(&fleet, Plan::cold(), true).await;
        let outcome = if step == FaultStep::Prepare { Outcome::Refused } else { Outcome::RolledBack };
        assert_eq!(record.outcome, outcome, "{:?}", record.reason);
        assert!(record.rehearsal.is_some() && record.outcome_name().ends_with("(rehearsal)"));
        assert!(record.reason.unwrap().reason.contains(step.name()));
        stayed(&demo);
    }
    let record = carried_out(&fleet, Plan::cold(), true).await;
    assert_eq!(record.outcome, Outcome::Rehearsed, "nothing is in its way: {:?}", record.reason);
    fleet.session().close().await.unwrap();
    demo.stop().await.unwrap();
}
