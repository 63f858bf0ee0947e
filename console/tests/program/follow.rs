//! Following the agents, with one that hears every question and never answers: it delays nobody else's steps.

use std::sync::Arc;
use std::time::Duration;

use mose_console::app::{WAITING, follow};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow::Follower;
use mose_protocol::Timestamp;
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_screen::event::Event;
use mose_screen::fleet_event::FleetEvent;
use tokio::sync::mpsc;

use crate::support::Agents;

/// Longer than a step takes, and shorter than an answer may.
const SOON: Duration = Duration::from_secs(6);

/// The first step is told again and again: at first nobody may be listening yet.
const AGAIN: Duration = Duration::from_millis(100);

fn step(migration: &str, host: &str, seq: u64, step: Step, phase: Phase) -> StepEvent {
    StepEvent {
        migration: migration.parse().unwrap(),
        seq,
        host: host.parse().unwrap(),
        step,
        phase,
        at: Timestamp::now(),
        bytes: None,
        round: None,
        detail: None,
        task: None,
    }
}

fn begun(migration: &str, host: &str, seq: u64) -> StepEvent {
    step(migration, host, seq, Step::Inspect, Phase::Started)
}

/// One host that answers, and one that does not.
fn agents() -> Agents {
    let agents = Agents::start(&["edge-a"], |_, _| None);
    agents.silent("edge-b");
    agents
}

/// Tells of a step of edge-a's again and again until `heard` has it; nothing where that takes too long.
async fn until_heard<T>(
    agents: &Agents,
    migration: &str,
    within: Duration,
    heard: impl Future<Output = T>,
) -> Option<T> {
    let telling = async {
        loop {
            agents.tell(&begun(migration, "edge-a", 0)).await;
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        heard = heard => Some(heard),
        () = telling => None,
        () = tokio::time::sleep(within) => None,
    }
}

#[test]
fn what_one_host_is_asked_for_again_does_not_delay_the_steps_of_others() {
    let agents = agents();
    agents.run(async {
        let fleet = Fleet::join(std::slice::from_ref(&agents.endpoint)).await.unwrap();
        let mut follower = Follower::new(&fleet).await.unwrap();
        until_heard(&agents, "m-first", 10 * SOON, follower.next()).await.expect("nothing is heard");
        // Five steps of edge-b are missing, and it does not tell them.
        agents.tell(&begun("m-b", "edge-b", 5)).await;
        let next = async {
            loop {
                let event = follower.next().await.unwrap();
                if event.migration.as_str() != "m-first" {
                    return event;
                }
            }
        };
        let next = until_heard(&agents, "m-a", SOON, next).await.expect("edge-a is not waited with");
        assert_eq!(next.host.as_str(), "edge-a");
        fleet.session().close().await.unwrap();
    });
}

#[test]
fn the_console_waits_for_no_record_while_others_tell_their_steps() {
    let agents = agents();
    agents.run(async {
        let fleet = Arc::new(Fleet::join(std::slice::from_ref(&agents.endpoint)).await.unwrap());
        let (out, mut events) = mpsc::channel(WAITING);
        let mut following = tokio::task::JoinSet::new();
        following.spawn(follow(fleet.clone(), out));
        let of = |event: Event, migration: &str| match event {
            Event::Fleet(FleetEvent::Step(step)) => step.migration.as_str() == migration,
            _ => false,
        };
        let first = async { while !of(events.recv().await.unwrap(), "m-first") {} };
        until_heard(&agents, "m-first", 10 * SOON, first).await.expect("nothing is heard");
        // It ends at edge-b, which is asked for the record and does not answer.
        agents.tell(&step("m-b", "edge-b", 0, Step::Migration, Phase::Started)).await;
        agents.tell(&step("m-b", "edge-b", 1, Step::Migration, Phase::Finished)).await;
        let heard = async { while !of(events.recv().await.unwrap(), "m-a") {} };
        until_heard(&agents, "m-a", SOON, heard).await.expect("edge-a is not waited with");
        following.shutdown().await;
        fleet.session().close().await.unwrap();
    });
}
