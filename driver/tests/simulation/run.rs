//! One run of the world from a seed: some services, some orders, and what goes wrong meanwhile; then all is mended, and everything must
//! settle.

use std::time::Duration;

use mose_protocol::handover::Task;
use mose_protocol::record::Outcome;
use mose_protocol::{HostName, Request, Response, ServiceName};
use serde_json::json;
use tokio::time::sleep;

use crate::network::{Fault, deliver};
use crate::works::id_of;
use crate::world::{Container, Copy, Host, Odds, Ran, World};

const HOSTS: [&str; 3] = ["a", "b", "c"];

/// For how long things go wrong: shorter and longer than a source waits for a restore.
const CHAOS: [Duration; 2] = [Duration::from_secs(40), Duration::from_secs(400)];

/// How long it may take until everything is settled: the longest is a source that fell silent.
const SETTLING: u32 = 1200;

/// What a run has besides its seed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scenario {
    /// No other message is harmed.
    pub(crate) fault: Option<Fault>,
    /// Two consoles order at once, and nothing goes wrong.
    pub(crate) two_orders: bool,
    /// Every line is kept.
    pub(crate) traced: bool,
}

pub(crate) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// An order to migrate.
pub(crate) fn order(migration: &str, from: &HostName, to: &HostName) -> Task {
    serde_json::from_value(json!({
        "migration": migration, "service": "s", "from": from, "to": to,
        "plan": {"strategy": "cold", "iterations": null, "bandwidth": null}, "transport": null, "image_policy": "bring",
    }))
    .unwrap()
}

/// Runs a world.
pub(crate) fn run(seed: u64, scenario: Scenario) -> Ran {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(seed, scenario.traced);
        for name in HOSTS {
            world.state().hosts.insert(host(name), Host::default());
            world.start(&host(name));
        }
        let service: ServiceName = "s".parse().unwrap();
        let container = Container { service, made_by: None, copy: Copy::Running };
        let id = id_of(&order("m", &host("a"), &host("b")));
        world.with(&host("a"), |host| host.containers.insert(id.clone(), container));
        match (scenario.two_orders, scenario.fault) {
            (true, _) => two_orders(&world).await,
            (false, fault) => chaos(&world, fault).await,
        }
        settle(&world, &id).await;
        world.end()
    })
}

/// A request by a console, heard at once.
async fn console(world: &World, task: &Task) -> Option<Response> {
    let request = match task.rehearsal {
        true => Request::OrderRehearsal(Box::new(task.clone())),
        false => Request::Migrate(Box::new(task.clone())),
    };
    deliver(world, &host("console"), &task.from, request).await
}

/// Orders, aborts and decisions by chance, in a world in which everything fails sometimes.
async fn chaos(world: &World, fault: Option<Fault>) {
    let (kills, cuts, decides) = {
        let mut state = world.state();
        let all = [0.0, 0.02, 0.1];
        let mut draw = || all[state.random.usize(0..3)];
        let (loss, double, late, failure) = (draw(), draw(), draw(), draw());
        state.odds = match fault {
            Some(_) => Odds { failure, silence: 0.5, ..Odds::default() },
            None => Odds { loss, silence: loss * 3.0, double, late, failure },
        };
        state.fault = fault;
        // That is sent only where the operator has decided.
        let decides = fault.is_some_and(|fault| fault.request == "became");
        (state.random.bool(), state.random.bool(), decides || state.random.f64() < 0.3)
    };
    let mut troubles = Vec::new();
    for number in 0..world.state().random.u32(1..5) {
        troubles.push(tokio::spawn(orders(world.clone(), number)));
    }
    if kills {
        troubles.push(tokio::spawn(kill_and_start(world.clone())));
    }
    if cuts {
        troubles.push(tokio::spawn(cut_and_join(world.clone())));
    }
    if decides {
        troubles.push(tokio::spawn(decide(world.clone())));
    }
    let time = CHAOS[usize::from(decides || world.chance(0.3))];
    sleep(time).await;
    troubles.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A console that orders one migration or rehearsal, perhaps twice, and perhaps aborts it.
async fn orders(world: World, number: u32) {
    world.pause(0..20_000).await;
    let (from, to) = {
        let mut state = world.state();
        let runs =
            state.hosts.iter().find(|(_, host)| host.containers.values().any(|c| c.copy == Copy::Running));
        let from = runs.map_or_else(|| host("a"), |(name, _)| name.clone());
        let others: Vec<_> = state.hosts.keys().filter(|name| **name != from).cloned().collect();
        let to = others[state.random.usize(0..others.len())].clone();
        (from, to)
    };
    let rehearses = world.state().fault.is_some_and(|fault| fault.request == "rehearse");
    let rehearsal = rehearses || world.chance(0.2);
    let task = Task { rehearsal, ..order(&format!("m{number}"), &from, &to) };
    let times = if world.chance(0.2) { 2 } else { 1 };
    for _ in 0..times {
        let answer = console(&world, &task).await;
        world.log(format_args!(
            "{} {from} → {to} ordered: {}",
            task.migration,
            matches!(answer, Some(Ok(_)))
        ));
        world.pause(0..2000).await;
    }
    if world.chance(0.3) {
        world.pause(0..3000).await;
        let hand_overs = world.with(&from, |host| host.hand_overs.clone());
        let aborted = hand_overs.map(|hand_overs| hand_overs.abort(&task.migration).is_ok());
        world.log(format_args!("{} aborted: {aborted:?}", task.migration));
    }
}

async fn kill_and_start(world: World) {
    loop {
        world.pause(0..20_000).await;
        let name = host(HOSTS[world.state().random.usize(0..3)]);
        world.kill(&name);
        world.pause(0..30_000).await;
        world.start(&name);
    }
}

async fn cut_and_join(world: World) {
    loop {
        world.pause(0..20_000).await;
        let (one, other) = {
            let mut state = world.state();
            let one = state.random.usize(0..3);
            let other = (one + state.random.usize(1..3)) % 3;
            (host(HOSTS[one]), host(HOSTS[other]))
        };
        world.log(format_args!("{one} | {other}"));
        world.state().cut.insert((one, other));
        world.pause(0..30_000).await;
        world.state().cut.clear();
    }
}

/// An operator who decides about every service in doubt.
async fn decide(world: World) {
    loop {
        world.pause(0..3000).await;
        let keep = world.state().random.bool();
        let hosts: Vec<_> = world.state().hosts.values().filter_map(|host| host.hand_overs.clone()).collect();
        for hand_overs in hosts {
            for number in 0..5 {
                let migration = format!("m{number}").parse().unwrap();
                if hand_overs.settle(&migration, keep).is_ok() {
                    world.state().forced = true;
                    world.log(format_args!("{migration}: the operator decides, keep: {keep}"));
                }
            }
        }
    }
}

/// Two consoles that order the same service to two hosts, or to the same, at once.
async fn two_orders(world: &World) {
    let (a, b) = (host("a"), host("b"));
    let other = if world.chance(0.5) { host("c") } else { b.clone() };
    let (one, two) = (order("m0", &a, &b), order("m1", &a, &other));
    let later = world.state().random.u64(0..4000);
    let first = async { console(world, &one).await };
    let second = async {
        if later > 2000 {
            sleep(Duration::from_millis(later - 2000)).await;
        }
        console(world, &two).await
    };
    let answers = tokio::join!(first, second);
    let took = [answers.0, answers.1].map(|answer| matches!(answer, Some(Ok(_))));
    sleep(CHAOS[0]).await;
    let outcome =
        |task: &Task| world.with(&a, |host| host.records.get(&task.migration).map(|record| record.outcome));
    let outcomes = [outcome(&one), outcome(&two)];
    let done = outcomes.iter().filter(|outcome| **outcome == Some(Outcome::Done)).count();
    // The second one may come when the first one has ended: the service is not there any more.
    let refused = took.contains(&false) || outcomes.contains(&Some(Outcome::Refused));
    // That of the source, as it lives elsewhere, and nothing else.
    let removed = world.state().removed;
    if done != 1 || !refused || removed != 1 {
        world.violate(format_args!("of two orders {took:?} {outcomes:?}; {removed} containers were removed"));
    }
}

/// Mends all, has every agent begin another life, and looks whether everything is as it must be.
async fn settle(world: &World, id: &str) {
    {
        let mut state = world.state();
        state.odds = Odds::default();
        state.cut.clear();
        state.fault = None;
        state.log("all is mended");
    }
    for again in [false, true] {
        for name in HOSTS {
            let name = host(name);
            let down = world.with(&name, |host| host.hand_overs.is_none());
            // What could not be cleaned up is left to the agent's next start.
            if again {
                world.kill(&name);
            }
            if down || again {
                world.start(&name);
            }
        }
        for _ in 0..SETTLING {
            sleep(Duration::from_secs(1)).await;
            if world.has_violation() || (again && world.is_quiet()) {
                break;
            }
            if !again && world.nothing_moves() {
                break;
            }
        }
    }
    if world.has_violation() {
        return;
    }
    if !world.is_quiet() {
        return world.violate(format_args!("it does not settle: {}", world.left()));
    }
    let state = world.state();
    let copies: usize = state.hosts.values().map(|host| host.containers.len()).sum();
    let (running, forced) = (state.running(id), state.forced);
    drop(state);
    if !forced && (running, copies) != (1, 1) {
        world.violate(format_args!("in the end {id} runs {running} times: {}", world.left()));
    }
}
