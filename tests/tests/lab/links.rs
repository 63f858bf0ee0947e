//! The agents know what the link between them carries, what others use of it, and how long a round trip takes; and who else
//! uses it does not notice that they found out.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::{Child, Stdio};
use std::time::Duration;

use mose_tests::{Testbed, eventually, eventually_within, mose, text, whole};
use serde_json::Value;

/// The link from edge-a to edge-b, measured now or as it is known.
fn link(options: &[&str]) -> Option<Value> {
    let output = mose(&[&["--json", "links"], options].concat());
    assert!(output.status.success(), "{}", text(&output));
    let links: Value = serde_json::from_slice(&output.stdout).unwrap();
    links.as_array().unwrap().iter().find(|link| link["from"] == "edge-a" && link["to"] == "edge-b").cloned()
}

fn within(value: &Value, wanted: f64, tolerance: f64) -> bool {
    value.as_f64().is_some_and(|value| (value / wanted - 1.0).abs() <= tolerance)
}

/// iperf3 from edge-a to edge-b on the underlay, at 300 Mb/s, for so many seconds.
struct CrossTraffic(Child);

impl CrossTraffic {
    fn start(testbed: &Testbed, seconds: &str) -> Self {
        testbed.run("edge-b", &["iperf3", "-s", "-D"]);
        eventually("iperf3 listens", || {
            testbed.run("edge-b", &["cat", "/proc/net/tcp6", "/proc/net/tcp"]).contains(":1451 ")
        });
        let argv = ["iperf3", "-c", "10.99.0.12", "-b", "300M", "-t", seconds, "-J"];
        let client = testbed.lab.exec("edge-a", &argv).unwrap().stdout(Stdio::piped()).spawn();
        Self(client.unwrap())
    }

    /// Bits per second that arrived, by its own report.
    fn end(self, testbed: &Testbed) -> f64 {
        let output = self.0.wait_with_output().unwrap();
        testbed.run("edge-b", &["sh", "-c", "kill $(pidof iperf3)"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_else(|| panic!("{report}"))
    }
}

#[test]
fn the_capacity_is_that_of_the_link_also_after_it_changed() {
    let Some(mut testbed) = Testbed::up() else { return };
    // Without being asked, soon after the agents have met.
    eventually_within(Duration::from_secs(60), "the agents know a link of a gigabit by themselves", || {
        link(&[]).is_some_and(|link| within(&link["capacity"], 1e9, 0.1) && link["available"].is_number())
    });
    for (rate, bits) in [("1gbit", 1e9), ("100mbit", 100e6), ("20mbit", 20e6)] {
        testbed.lab.set_edge_link(rate.parse().unwrap()).unwrap();
        let link = link(&["--probe"]).unwrap();
        eprintln!("{rate}: {link}");
        assert!(within(&link["capacity"], bits, 0.1), "{rate}: {link}");
        assert!(link["used"].as_f64().unwrap() < bits * 0.05, "{rate}: {link}");
        assert!(within(&link["available"], bits, 0.12), "{rate}: {link}");
        let rtt = link["rtt"].as_f64().unwrap();
        assert!(rtt > 0.0 && rtt < 20.0, "{link}");
        assert_eq!((&link["capacity_from"], &link["rtt_from"]), (&"probe".into(), &"tcp".into()), "{link}");
    }
    let shown = text(&mose(&["links"]));
    assert!(shown.contains("edge-a → edge-b") && shown.contains("edge-b → edge-a"), "{shown}");
}

#[test]
fn what_is_available_is_what_cross_traffic_leaves() {
    let Some(testbed) = Testbed::up() else { return };
    let cross = CrossTraffic::start(&testbed, "25");
    // By themselves; then on demand.
    eventually_within(Duration::from_secs(20), "the agents see what others use", || {
        link(&[]).is_some_and(|link| within(&link["used"], 300e6, 0.15))
    });
    let measured = link(&["--probe"]).unwrap();
    let carried = cross.end(&testbed);
    eprintln!("{measured}\ncross traffic {carried:.0}");
    assert!(within(&measured["available"], 700e6, 0.15), "{measured}");
    assert!(within(&measured["capacity"], 1e9, 0.15), "{measured}");
}

#[test]
fn cross_traffic_does_not_notice_the_measuring() {
    let Some(testbed) = Testbed::up() else { return };
    // From the beginning, when bursts are most frequent; the whole test goes on over the first of those that come once a minute.
    let cross = CrossTraffic::start(&testbed, if whole() { "75" } else { "25" });
    let carried = cross.end(&testbed);
    let link = link(&[]).unwrap();
    eprintln!("cross traffic {carried:.0}; {link}");
    assert!(link["capacity_at"].is_number() && link["capacity_from"] == "probe", "there were bursts: {link}");
    assert!(carried >= 300e6 * 0.98, "the cross traffic had {carried} bit/s of 300 million");
}

#[test]
fn a_link_is_not_measured_while_a_migration_is_under_way() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("counter", "edge-a", &[], &["--state-size", "8MiB"]);
    let migration = std::thread::scope(|scope| {
        let migration =
            scope.spawn(|| testbed.migrate_with("counter", "edge-a", "edge-b", &["--bandwidth", "20Mbps"]));
        let mut refused = String::new();
        eventually("a migration is under way", || {
            let output = mose(&["links", "--probe"]);
            refused = text(&output);
            !output.status.success()
        });
        assert!(refused.contains("a migration is under way"), "{refused}");
        migration.join().unwrap()
    });
    assert_eq!(migration.1, 0, "{}", migration.0);
    assert!(mose(&["links", "--probe"]).status.success());
}
