//! A migration that a test looks into while it happens, and what must hold after it, however it ended.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{Testbed, eventually, eventually_within, programs, text};

/// A migration under way, its events read line by line.
pub struct Underway {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Underway {
    /// Orders a migration with further options.
    #[must_use]
    pub fn order(service: &str, from: &str, to: &str, options: &[&str]) -> Self {
        Self::begin("migrate", service, from, to, options)
    }

    /// Orders a rehearsal.
    #[must_use]
    pub fn rehearse(service: &str, from: &str, to: &str, options: &[&str]) -> Self {
        Self::begin("rehearse", service, from, to, options)
    }

    fn begin(command: &str, service: &str, from: &str, to: &str, options: &[&str]) -> Self {
        let mut child = Command::new(programs().join("mose"))
            .args(["--json", command, service, "--from", from, "--to", to])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        Self { child, lines: std::io::BufRead::lines(std::io::BufReader::new(stdout)) }
    }

    /// Reads on until a step reaches a phase; that event.
    pub fn until(&mut self, step: &str, phase: &str) -> Value {
        for line in self.lines.by_ref() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event["step"] == step && event["phase"] == phase {
                return event;
            }
        }
        panic!("the migration ended before {step} was {phase}");
    }

    /// The record at the end, and the exit code.
    #[must_use]
    pub fn end(mut self) -> (Value, i32) {
        let last = self.lines.by_ref().map_while(Result::ok).last().unwrap_or_default();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (serde_json::from_str(&last).unwrap_or(Value::Null), code)
    }
}

/// The service answers again, exactly once, and its clients never noticed more than silence.
pub fn lives_on(testbed: &Testbed, service: &str, host: &str, client: mose_lab::client::Client) {
    assert_eq!(testbed.running_on(service), [host]);
    // The longer a silence was, the longer the clients' TCP waits until it tries again (RFC 6298): up to as long again, and each
    // connection by itself.
    let all = f64::from(client.spec().rate * client.spec().connections);
    eventually_within(Duration::from_secs(60), "the clients are answered again", || {
        let argv =
            ["mose-counter", "stat", "--connect", "10.77.0.20:7070", "--over", "1s"].map(str::to_owned);
        let output = testbed.among_clients(&argv).output().unwrap();
        let stat: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        stat["replies_per_second"].as_f64().is_some_and(|rate| rate > 0.6 * all)
    });
    let report = client.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");
    let argv = ["mose-counter", "verify", "--connect", "10.77.0.20:7070"].map(str::to_owned);
    let verified = testbed.among_clients(&argv).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified));
    let other = if host == "edge-a" { "edge-b" } else { "edge-a" };
    eventually("nothing is left on the other host", || {
        testbed.traces(other).iter().all(|(what, count)| match *what {
            "network namespaces" | "containers" | "container folders" | "agent's files" | "hook markers"
            | "checkpoint images" | "container mounts" => *count == 0,
            _ => true,
        })
    });
    eventually("every journal is closed", || {
        ["edge-a", "edge-b"]
            .iter()
            .all(|host| testbed.traces(host).iter().all(|(what, count)| *what != "journals" || *count == 0))
    });
}
