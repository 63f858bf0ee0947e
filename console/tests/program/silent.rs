//! Hosts that do not answer: what they told last is told, marked, and holds up nobody.

use std::time::{Duration, Instant};

use mose_console::exit;
use mose_pam::Millis;
use mose_protocol::agent::ServiceInfo;
use mose_protocol::heard::{Heard, HeardServices};
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Response, Timestamp};
use mose_simulated::demo::{Demo, Scenario};
use serde_json::Value;

use crate::documents::fits;
use crate::script::{answer_as_source, link, service};
use crate::support::{Agents, hello, json_lines, mose, stderr, stdout};

/// How long a command may take that meets a silent host: its one deadline of three seconds, and the program's start on a busy machine.
const SOON: Duration = Duration::from_secs(8);

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn named(name: &str, on: &str) -> ServiceInfo {
    ServiceInfo { name: name.parse().unwrap(), ..service(&host(on)) }
}

fn heard(of: &str, seconds: f64, services: &[&str]) -> Heard {
    let ago = Millis(seconds * 1e3);
    let services = services.iter().map(|name| named(name, of)).collect();
    Heard {
        host: host(of),
        ago,
        hello: Some(Box::new(hello(&host(of)))),
        services: Some(HeardServices { ago, services }),
        links: Some(vec![link("edge-a")]),
        towards: Some(link(of)),
    }
}

/// edge-a and edge-b answer; edge-0 is there and silent; of edge-c they have heard, and it is gone. edge-b heard edge-0 later.
fn agents() -> Agents {
    let agents = Agents::start(&["edge-a", "edge-b"], |host, request| {
        let hosts = match (host.as_str(), request) {
            ("edge-a", Request::Heard) => {
                vec![heard("edge-0", 95.0, &["moved-away"]), heard("edge-b", 0.3, &[])]
            }
            (_, Request::Heard) => vec![
                heard("edge-0", 34.0, &["db"]),
                heard("edge-c", 400.0, &[]),
                // edge-a answers: what was heard of it does not count.
                heard("edge-a", 0.2, &["ghost"]),
            ],
            _ => return answer_as_source(host, request),
        };
        Some((Ok(Reply::Heard { at: Timestamp::now(), hosts }), Vec::new()))
    });
    agents.silent("edge-0");
    agents
}

fn marked(list: &Value) -> Vec<&Value> {
    list.as_array()
        .unwrap()
        .iter()
        .filter(|line| line.get("refused").is_none() && line.get("silent").is_some())
        .collect()
}

#[test]
fn services_tell_what_silent_hosts_told_last_marked_and_apart_from_what_is_so_now() {
    let agents = agents();
    let began = Instant::now();
    let printed = agents.mose(&["services"]);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(printed.status.code(), Some(exit::INCOMPLETE.into()), "{}", stderr(&printed));
    let lines: Vec<String> = stdout(&printed).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "a heading, one live and one that was told last: {lines:#?}");
    assert!(lines[1].starts_with("web ") && lines[1].contains(" running ") && lines[1].ends_with(" now"));
    assert!(lines[2].starts_with("db ") && lines[2].contains("was running"), "{lines:#?}");
    assert!(lines[2].contains("last told 3") && lines[2].ends_with(" s ago"), "{lines:#?}");
    let complaints = stderr(&printed);
    assert!(complaints.contains("edge-0 is in this list as it last told, 3"), "{complaints}");
    assert!(
        complaints.contains("edge-c is missing in this list: the agent on edge-c is gone, or cut off"),
        "{complaints}"
    );
    assert!(complaints.contains("it was heard last 6 min ago"), "{complaints}");

    let before = Timestamp::now();
    let list = json_lines(&agents.mose(&["services", "--json"])).remove(0);
    fits("services", &list);
    let last = marked(&list);
    assert_eq!(
        (last.len(), &last[0]["name"], &last[0]["silent"]),
        (1, &"db".into(), &true.into()),
        "{list:#}"
    );
    let told_at = Timestamp(last[0]["last_told_at"].as_u64().unwrap());
    let ago = before.since(told_at).0;
    assert!((20_000.0..35_000.0).contains(&ago), "{ago}");
    let silent: Vec<_> =
        list.as_array().unwrap().iter().filter(|line| line.get("refused").is_some()).collect();
    assert_eq!((&silent[0]["host"], &silent[1]["host"]), (&"edge-0".into(), &"edge-c".into()));
    assert!(silent.iter().all(|line| line["silent"] == true && line["last_told_at"].is_u64()), "{list:#}");
}

#[test]
fn links_tell_what_a_silent_host_told_last_and_what_is_known_of_the_way_to_it() {
    let agents = agents();
    let printed = agents.mose(&["links"]);
    assert_eq!(printed.status.code(), Some(exit::INCOMPLETE.into()), "{}", stderr(&printed));
    let text = stdout(&printed);
    let line = |way: &str| {
        text.lines().find(|line| line.starts_with(way)).unwrap_or_else(|| panic!("no {way} in\n{text}"))
    };
    assert!(line("edge-a → edge-b").ends_with(" now"), "{text}");
    for way in ["edge-0 → edge-a", "edge-a → edge-0", "edge-b → edge-0", "edge-b → edge-c"] {
        assert!(line(way).contains("last told "), "{text}");
    }
    let list = json_lines(&agents.mose(&["links", "--json"])).remove(0);
    fits("links", &list);
    assert!(marked(&list).len() >= 4, "{list:#}");
}

#[test]
fn doctor_tells_since_when_a_host_is_silent_what_it_was_and_what_to_do() {
    let agents = agents();
    let began = Instant::now();
    let output = agents.mose(&["doctor", "--json"]);
    assert!(began.elapsed() < 3 * SOON, "{:?}", began.elapsed());
    assert_eq!(output.status.code(), Some(exit::FAILED.into()), "{}", stderr(&output));
    let report = json_lines(&output).remove(0);
    fits("doctor", &report);
    let of = |name: &str| {
        let hosts = report["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["host"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))["checks"].clone()
    };
    let silent = of("edge-0");
    assert_eq!((&silent[0]["what"], &silent[0]["state"]), (&"agent".into(), &"broken".into()));
    let found = silent[0]["found"].as_str().unwrap();
    assert!(
        found.starts_with("silent; heard last at ")
            && found.contains(" s ago: the agent on edge-0 did not answer"),
        "{found}"
    );
    assert!(silent[0]["remedy"].as_str().unwrap().contains("mose-agent"), "{silent:#}");
    assert_eq!((&silent[1]["what"], &silent[1]["state"]), (&"services".into(), &"unknown".into()));
    assert!(silent[1]["found"].as_str().unwrap().contains("db was running"), "{silent:#}");
    assert!(silent[2]["found"].as_str().unwrap().contains("podman 5.4.2"), "{silent:#}");
    let gone = of("edge-c");
    assert!(
        gone[0]["found"].as_str().unwrap().contains("6 min ago: the agent on edge-c is gone"),
        "{gone:#}"
    );
    assert!(gone[1]["found"].as_str().unwrap().contains("nothing ran there"), "{gone:#}");
    assert!(of("edge-a").as_array().unwrap().iter().any(|check| check["what"] == "CRIU"), "{report:#}");
    // One that is named and gone is known too, and one that nobody has heard of is not.
    let named = stdout(&agents.mose(&["doctor", "edge-c", "edge-z"]));
    assert!(
        named.contains("the agent on edge-c is gone") && named.contains("no agent of a host edge-z is live"),
        "{named}"
    );
}

#[test]
fn a_service_that_only_a_silent_host_told_of_is_not_ordered_but_told() {
    let agents = agents();
    let output = agents.mose(&["migrate", "db", "--to", "edge-b"]);
    assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{}", stderr(&output));
    assert!(stderr(&output).contains("edge-0, which does not, last told of it 3"), "{}", stderr(&output));
}

#[test]
fn a_host_whose_engine_hangs_tells_by_itself_what_ran_and_the_list_marks_it() {
    let agents = Agents::start(&["edge-a", "edge-b"], |host, request| match (host.as_str(), request) {
        ("edge-b", Request::Services) => {
            let refused = Refusal::new(RefusalCode::Engine, "Podman does not answer", "look at it");
            let at = Timestamp(Timestamp::now().0 - 20_000_000);
            Some((Ok(Reply::LastServices { at, services: vec![named("db", "edge-b")], refused }), Vec::new()))
        }
        _ => answer_as_source(host, request),
    });
    let printed = agents.mose(&["services"]);
    assert_eq!(printed.status.code(), Some(exit::INCOMPLETE.into()));
    assert!(
        stdout(&printed).contains("was running") && stdout(&printed).contains("last told 2"),
        "{}",
        stdout(&printed)
    );
    let list = json_lines(&agents.mose(&["services", "--json"])).remove(0);
    fits("services", &list);
    let refused = list.as_array().unwrap().iter().find(|line| line.get("refused").is_some()).unwrap();
    assert_eq!(refused["silent"], false, "its agent speaks: {list:#}");
}

#[test]
fn agents_of_an_earlier_release_have_heard_nothing_and_are_not_blamed_for_it() {
    let agents = Agents::start(&["edge-a", "edge-b"], answer_as_source);
    let printed = agents.mose(&["services"]);
    assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
    assert!(!stdout(&printed).contains("told"), "{}", stdout(&printed));
}

#[test]
fn a_host_that_hangs_after_its_introduction_holds_up_nobody() {
    let hangs = || Some((Response::Err(Refusal::new(RefusalCode::Unreachable, "", "")), Vec::new()));
    let agents = Agents::start(&["edge-a", "edge-b"], move |host, request| match (host.as_str(), request) {
        ("edge-b", _) => hangs(),
        ("edge-a", Request::Heard) => Some((
            Ok(Reply::Heard { at: Timestamp::now(), hosts: vec![heard("edge-b", 5.0, &["db"])] }),
            Vec::new(),
        )),
        _ => answer_as_source(host, request),
    });
    let began = Instant::now();
    let printed = agents.mose(&["services"]);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(printed.status.code(), Some(exit::INCOMPLETE.into()));
    let text = stdout(&printed);
    assert!(text.contains("web ") && text.contains("db ") && text.contains("was running"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_agents_remember_a_host_whose_agent_is_lost_and_forget_its_silence_when_it_is_back() {
    let mut scenario = Scenario::load(Some("faults")).unwrap();
    scenario.faults.clear();
    let demo = Demo::start(&scenario).await.unwrap();
    let run = |words: &'static [&'static str]| {
        let named: Vec<String> =
            demo.endpoints().iter().flat_map(|at| ["--connect".into(), at.clone()]).collect();
        tokio::task::spawn_blocking(move || {
            let named: Vec<&str> = named.iter().map(String::as_str).collect();
            mose(&[&named[..], &["--json"], words].concat())
        })
    };
    let until = async |what: &str, holds: &dyn Fn(&Value) -> bool| {
        let began = Instant::now();
        loop {
            let list = json_lines(&run(&["services"]).await.unwrap()).remove(0);
            if holds(&list) {
                return list;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: {list:#}");
        }
    };
    until("all is well", &|list| marked(list).is_empty() && list[0]["name"] == "control").await;
    // Telemetry comes twice a second: by now all have heard it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    demo.lose(&host("edge-a")).await.unwrap();
    let list = until("it is lost", &|list| !marked(list).is_empty()).await;
    let last = marked(&list);
    assert_eq!((&last[0]["name"], &last[0]["host"]), (&"control".into(), &"edge-a".into()), "{list:#}");
    assert!(last[0]["last_told_at"].as_u64().is_some_and(|at| at <= Timestamp::now().0), "{list:#}");
    fits("services", &list);
    let links = json_lines(&run(&["links"]).await.unwrap()).remove(0);
    fits("links", &links);
    assert!(marked(&links).iter().any(|link| link["from"] == "edge-a"), "{links:#}");
    demo.bring_back(&host("edge-a")).await.unwrap();
    let list = until("it is back", &|list| marked(list).is_empty()).await;
    assert!(list.as_array().unwrap().iter().all(|line| line.get("refused").is_none()), "{list:#}");
    demo.stop().await.unwrap();
}
