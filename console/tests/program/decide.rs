//! `mose settle` and `mose abort`: what they tell is what has happened, and which host is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mose_console::exit;
use mose_orchestrator::decide::{self, Decided};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow::Follower;
use mose_pam::{Millis, Plan, Strategy};
use mose_protocol::handover::{ImagePolicy, Task};
use mose_protocol::heard::Heard;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_protocol::{
    HostName, MigrationId, Refusal, RefusalCode, Reply, Request, Response, ServiceName, Timestamp,
};
use mose_simulated::demo::{Demo, Scenario};

use crate::record::full_record;
use crate::script::{full_event, service};
use crate::support::{Agents, json_lines, mose, stderr, stdout};

/// How long anything with real agents may take.
const PATIENCE: Duration = Duration::from_secs(60);

type Answer = Option<(Response, Vec<StepEvent>)>;

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn tell(reply: Reply) -> Answer {
    Some((Ok(reply), Vec::new()))
}

fn refuse(code: RefusalCode, reason: &str) -> Answer {
    Some((Err(Refusal::new(code, reason, "")), Vec::new()))
}

/// As an agent that hangs.
fn nothing() -> Answer {
    refuse(RefusalCode::Unreachable, "")
}

fn recorded(outcome: Outcome, reason: &str) -> Reply {
    let reason = Some(Refusal::new(RefusalCode::Unreachable, reason, "bring its agent back"));
    Reply::Record(Some(Box::new(Record { reason, ..full_record(outcome) })))
}

/// The source of migration `m1`, edge-a, whose service is in doubt until it is settled and then ends like this.
fn in_doubt(hosts: &[&str], ends: Outcome) -> Agents {
    let settled = AtomicBool::new(false);
    Agents::start(hosts, move |host, request| match (host.as_str(), request) {
        ("edge-a", Request::Settle { migration, .. }) if migration.as_str() == "m1" => {
            settled.store(true, Ordering::SeqCst);
            tell(Reply::Ok)
        }
        ("edge-a", Request::Record(id)) if id.as_str() == "m1" => {
            let ended = settled.load(Ordering::SeqCst);
            tell(recorded(
                if ended { ends } else { Outcome::InDoubt },
                "edge-b has not said whether it restored web",
            ))
        }
        (_, Request::Record(_)) => tell(Reply::Record(None)),
        (_, Request::Steps { .. }) => tell(Reply::Steps(Vec::new())),
        (_, Request::Settle { migration, .. } | Request::Abort(migration)) => {
            refuse(RefusalCode::OutOfTurn, &format!("no migration {migration} is under way on {host}"))
        }
        ("edge-b", Request::Services) if ends == Outcome::Done => tell(Reply::Services(vec![service(host)])),
        (_, Request::Services) => tell(Reply::Services(Vec::new())),
        _ => None,
    })
}

#[test]
fn settling_tells_what_happened_and_whether_the_destination_is_needed() {
    let keep = ["settle", "m1", "--decision", "keep"];
    let give_up = ["settle", "m1", "--decision", "give-up"];
    for (words, there, ends, says) in [
        (
            keep,
            false,
            Outcome::RolledBack,
            &[
                "web was resumed at edge-a",
                "edge-b is needed (the agent on edge-b did not answer",
                "podman rm -f web",
            ][..],
        ),
        (
            keep,
            true,
            Outcome::RolledBack,
            &["web was resumed at edge-a", "edge-b answers and has nothing of it"],
        ),
        (
            keep,
            true,
            Outcome::Done,
            &["edge-b said that it runs web: it was not resumed at edge-a", "edge-b has it now: running"],
        ),
        (
            give_up,
            false,
            Outcome::GivenUp,
            &["edge-a has discarded its copy of web", "edge-b is needed", "`mose history m1` says which"],
        ),
        (
            give_up,
            true,
            Outcome::GivenUp,
            &["edge-a has discarded its copy", "has nothing of it: start it again"],
        ),
        (give_up, true, Outcome::Done, &["edge-b said that it runs web: nothing was given up"]),
        (
            give_up,
            true,
            Outcome::RolledBack,
            &["edge-b said that it will never run web: it was resumed at edge-a, not given up"],
        ),
    ] {
        let agents = in_doubt(if there { &["edge-a", "edge-b"] } else { &["edge-a"] }, ends);
        if !there {
            agents.silent("edge-b");
        }
        let output = agents.mose(&words);
        let said = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{words:?} {ends:?}: {said}{}", stderr(&output));
        for says in says {
            assert!(said.contains(says), "{words:?} {ends:?}: no `{says}` in\n{said}");
        }
        let agents = in_doubt(&["edge-a"], ends);
        let output = agents.mose(&[&words[..], &["--json"]].concat());
        let printed = json_lines(&output);
        assert_eq!(printed.len(), 1, "one document");
        crate::documents::fits("record", &printed[0]);
        assert!(stderr(&output).contains("web"), "{}", stderr(&output));
    }
}

#[test]
fn a_silent_source_is_named_with_why_it_is_needed_and_nothing_is_ordered() {
    let ordered = Arc::new(AtomicBool::new(false));
    let heard = ordered.clone();
    let agents = Agents::start(&["edge-b"], move |_, request| match request {
        Request::Settle { .. } | Request::Abort(_) => {
            heard.store(true, Ordering::SeqCst);
            tell(Reply::Ok)
        }
        Request::Record(_) => tell(Reply::Record(None)),
        // The destination has a part in it, and restored the service.
        Request::Steps { .. } => tell(Reply::Steps(vec![StepEvent {
            host: host("edge-b"),
            step: Step::Restore,
            phase: Phase::Finished,
            task: None,
            ..full_event()
        }])),
        Request::Heard => {
            let of = |name: &str| Heard {
                host: host(name),
                ago: Millis(34_000.0),
                hello: None,
                services: None,
                links: None,
                towards: None,
            };
            tell(Reply::Heard { at: Timestamp::now(), hosts: vec![of("edge-a"), of("edge-c")] })
        }
        _ => None,
    });
    agents.silent("edge-a");
    for (words, what) in [
        (&["settle", "m1", "--decision", "keep", "--from", "edge-a"][..], "it has the journal"),
        (&["settle", "m1", "--decision", "give-up", "--from", "edge-a"], "it has the journal"),
        // That one is gone, and not only silent.
        (&["settle", "m1", "--decision", "keep", "--from", "edge-c"], "it has the journal"),
        (&["abort", "m1", "--from", "edge-a"], "it drives the migration"),
    ] {
        let began = Instant::now();
        let output = agents.mose(words);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{words:?}: {}", stderr(&output));
        let said = stderr(&output);
        let source = words.last().unwrap();
        assert!(
            said.contains(&format!("nothing was ordered: {source} does not answer (heard last 3")),
            "{said}"
        );
        assert!(said.contains("only the source can") && said.contains(what), "{said}");
        assert!(said.contains("edge-b has restored the service, which runs there"), "{said}");
    }
    // Not named: who may be it is said.
    for words in [&["settle", "m1", "--decision", "keep"][..], &["abort", "m1"]] {
        let output = agents.mose(words);
        assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{words:?}: {}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("no host that answers is the source of a migration m1"), "{said}");
        assert!(said.contains("edge-b had a part in it as its destination"), "{said}");
        assert!(said.contains("edge-a does not answer") && said.contains("may be it"), "{said}");
    }
    assert!(!ordered.load(Ordering::SeqCst), "nothing was ordered of anybody");
}

#[test]
fn an_id_that_is_unknown_or_another_host_s_is_told_apart_from_one_that_has_ended() {
    let agents = in_doubt(&["edge-a", "edge-b"], Outcome::RolledBack);
    for (words, says) in [
        (
            &["settle", "m9", "--decision", "keep", "--from", "edge-a"][..],
            "no migration m9 is under way on edge-a",
        ),
        (&["settle", "m9", "--decision", "keep"], "no host that answers is the source of a migration m9"),
        (&["abort", "m9"], "`mose history` lists those that are known"),
        (
            &["settle", "m1", "--decision", "keep", "--from", "edge-b"],
            "edge-b is not the source of migration m1: edge-a is",
        ),
        (&["abort", "m1", "--from", "edge-b"], "say --from edge-a, or leave --from out"),
        (&["settle", "m1", "--decision", "keep", "--from", "edge-z"], "no agent of a host edge-z is live"),
    ] {
        let output = agents.mose(words);
        assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{words:?}: {}", stderr(&output));
    }
    // Over: an agent forgets what has ended, and its history has it.
    for (outcome, says) in [
        (Outcome::Done, "has ended (done), and web was moved to edge-b"),
        (Outcome::RolledBack, "has ended (rolled back), and web is at edge-a, as before"),
        (Outcome::GivenUp, "has ended (given up), and edge-a discarded its copy of web"),
    ] {
        let agents = Agents::start(&["edge-a"], move |_, request| match request {
            Request::Record(_) => tell(recorded(outcome, "")),
            Request::Steps { .. } => tell(Reply::Steps(Vec::new())),
            Request::Settle { .. } => {
                refuse(RefusalCode::OutOfTurn, "no migration m1 is under way on edge-a")
            }
            _ => None,
        });
        let output = agents.mose(&["settle", "m1", "--decision", "give-up"]);
        assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("there is nothing to settle") && said.contains(says), "{said}");
    }
}

#[test]
fn what_is_under_way_and_not_in_doubt_is_not_settled() {
    let agents = Agents::start(&["edge-a"], |_, request| match request {
        Request::Record(_) => tell(Reply::Record(None)),
        Request::Steps { .. } => {
            tell(Reply::Steps(vec![StepEvent { step: Step::Migration, ..full_event() }]))
        }
        Request::Settle { .. } => refuse(RefusalCode::OutOfTurn, "migration m1 is not in doubt"),
        _ => None,
    });
    let output = agents.mose(&["settle", "m1", "--decision", "keep"]);
    assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{}", stderr(&output));
    assert!(stderr(&output).contains("migration m1 is not in doubt"), "{}", stderr(&output));
}

#[test]
fn a_source_that_falls_silent_over_an_order_leaves_open_whether_it_took_it() {
    for (silent_to_order, code, says) in [
        (true, exit::FAILED, "edge-a fell silent over the order, and may have taken it"),
        (false, exit::IN_DOUBT, "its source took the order and fell silent"),
    ] {
        let ordered = AtomicBool::new(false);
        let agents = Agents::start(&["edge-a"], move |_, request| match request {
            Request::Record(_) if ordered.load(Ordering::SeqCst) => nothing(),
            Request::Record(_) => tell(recorded(Outcome::InDoubt, "edge-b is silent")),
            Request::Steps { .. } => tell(Reply::Steps(Vec::new())),
            Request::Settle { .. } => {
                ordered.store(true, Ordering::SeqCst);
                if silent_to_order { nothing() } else { tell(Reply::Ok) }
            }
            _ => None,
        });
        let output = agents.mose(&["settle", "m1", "--decision", "keep"]);
        assert_eq!(output.status.code(), Some(code.into()), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains(says) && said.contains("`mose history m1` tells what c"), "{said}");
    }
}

#[test]
fn the_source_is_found_without_waiting_for_a_silent_host() {
    let agents = in_doubt(&["edge-a", "edge-b"], Outcome::RolledBack);
    agents.silent("edge-0");
    agents.run(async {
        let fleet = Fleet::join(std::slice::from_ref(&agents.endpoint)).await.unwrap();
        let began = Instant::now();
        let refusal = decide::abort(&fleet, None, &"m1".parse().unwrap()).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
        assert!(refusal.reason.contains("no migration m1 is under way on edge-a"), "{refusal}");
        fleet.session().close().await.unwrap();
    });
}

/// Runs the program with the demo's agents named, beside them.
async fn program(demo: &Demo, words: Vec<String>) -> std::process::Output {
    let named = demo.endpoints().iter().flat_map(|at| ["--connect".to_owned(), at.clone()]);
    let words: Vec<String> = named.chain(words).collect();
    let run = move || mose(&words.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Orders a migration from where the service is, and waits until a step of it begins.
async fn until(fleet: &Fleet, migration: &MigrationId, from: &HostName, plan: Plan, far: Step) {
    let to = if from.as_str() == "edge-a" { "edge-b" } else { "edge-a" };
    let task = Task {
        migration: migration.clone(),
        service: "control".parse().unwrap(),
        from: from.clone(),
        to: host(to),
        plan,
        transport: None,
        image_policy: ImagePolicy::Bring,
        pre_copy: None,
        files: Default::default(),
        rehearsal: false,
        forecast: None,
    };
    let mut follower = Follower::new(fleet).await.unwrap();
    fleet.ask(from, &Request::Migrate(Box::new(task))).await.unwrap();
    let reached = async {
        loop {
            let event = follower.next().await.expect("the session lives");
            if &event.migration == migration && event.step == far && event.phase == Phase::Started {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it comes so far");
}

/// The record of a migration once it has ended.
async fn ended(fleet: &Fleet, from: &HostName, migration: &MigrationId) -> Record {
    let began = Instant::now();
    loop {
        match fleet.ask(from, &Request::Record(migration.clone())).await.unwrap() {
            Reply::Record(Some(record)) if record.outcome != Outcome::InDoubt => return *record,
            _ => assert!(began.elapsed() < PATIENCE, "{migration} does not end"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_moment_an_abort_takes_effect_or_is_refused_with_what_is_true() {
    let mut scenario = Scenario::load(Some("faults")).unwrap();
    scenario.faults.clear();
    let demo = Demo::start(&scenario).await.unwrap();
    let fleet = Fleet::join(demo.endpoints()).await.unwrap();
    let control: ServiceName = "control".parse().unwrap();
    let mut aborted = 0;
    let moments = [
        Step::Migration,
        Step::Prepare,
        Step::PreDump,
        Step::Checkpoint,
        Step::Dump,
        Step::Transfer,
        Step::Relinquish,
        Step::Restore,
    ];
    for (number, far) in moments.into_iter().enumerate() {
        let from = demo.world().live_on(&control).remove(0);
        let migration: MigrationId = format!("m-abort-{number}").parse().unwrap();
        let plan = match far {
            Step::PreDump => Plan { strategy: Strategy::Precopy, ..Plan::cold() },
            _ => Plan::cold(),
        };
        until(&fleet, &migration, &from, plan, far).await;
        // Not named: it is found.
        match decide::abort(&fleet, None, &migration).await {
            Ok(Decided::AsOrdered(record)) => {
                assert_eq!(record.outcome, Outcome::Aborted, "{far:?}: {:?}", record.reason);
                assert_eq!(demo.world().live_on(&control), std::slice::from_ref(&from), "{far:?}");
                aborted += 1;
            }
            Ok(other) => panic!("{far:?}: {other:?}"),
            Err(refusal) => {
                assert_eq!(refusal.code, RefusalCode::OutOfTurn, "{far:?}: {refusal}");
                // By the time that it was refused it may have ended.
                let handed = refusal.reason.contains("cannot be aborted any more: control ");
                let over = refusal.reason.contains("has ended (done), and control was moved to");
                assert!(handed || over, "{far:?}: {refusal}");
                let record = ended(&fleet, &from, &migration).await;
                assert_eq!(
                    (record.outcome, demo.world().live_on(&control)),
                    (Outcome::Done, vec![record.to])
                );
            }
        }
    }
    assert!(aborted > 0, "none came in time");
    fleet.session().close().await.unwrap();
    demo.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_aborts_in_the_rounds_and_once_it_is_over_says_how_it_ended() {
    let mut scenario = Scenario::load(Some("faults")).unwrap();
    scenario.faults.clear();
    let demo = Demo::start(&scenario).await.unwrap();
    let fleet = Fleet::join(demo.endpoints()).await.unwrap();
    let (control, from): (ServiceName, _) = ("control".parse().unwrap(), host("edge-a"));
    let rounds = Plan {
        strategy: Strategy::IterativePrecopy,
        iterations: Some(60),
        bandwidth: None,
        end_early: false,
    };
    let migration: MigrationId = "m-rounds".parse().unwrap();
    until(&fleet, &migration, &from, rounds, Step::Iteration).await;
    let output = program(&demo, vec!["abort".into(), migration.to_string()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains(" aborted in "), "{}", stdout(&output));
    assert_eq!(demo.world().live_on(&control), [host("edge-a")]);
    let again = program(&demo, vec!["abort".into(), migration.to_string()]).await;
    assert_eq!(again.status.code(), Some(exit::REFUSED.into()), "{}", stdout(&again));
    let said = stderr(&again);
    assert!(said.contains("has ended (aborted), and control is at edge-a, as before"), "{said}");
    fleet.session().close().await.unwrap();
    demo.stop().await.unwrap();
}
