//! What a plan allots to its migration is what the link carries of it: no more, no less, and nothing once it is over.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use mose_lab::client::{Client, ClientKind, ClientReport, ClientSpec};
use mose_tests::{Testbed, eventually, kill, mose, programs, text};
use serde_json::Value;

/// Reads the counter of the queue that shapes the edge link, again and again, until it is dropped.
struct LinkMeter {
    child: Child,
    reader: Option<JoinHandle<Samples>>,
}

impl LinkMeter {
    /// From `host` to the other edge host. The queue counts the headers of every segment; what goes elsewhere passes it by.
    fn start(testbed: &Testbed, host: &str) -> Self {
        let script = "while :; do date +%s.%N; tc -s class show dev under0 classid 1:10; date +%s.%N; sleep 0.02; done";
        let mut command = testbed.lab.exec(host, &["sh", "-c", script]).unwrap();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let reader = std::thread::spawn(move || {
            let (mut samples, mut time, mut bytes) = (Vec::new(), None, None);
            for line in lines {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    ["Sent", count, "bytes", ..] => bytes = count.parse::<f64>().ok(),
                    [word] => {
                        let now: f64 = word.parse().unwrap();
                        if let (Some(from), Some(bytes)) = (time, bytes.take()) {
                            samples.push(Sample { from, to: now, bytes });
                        }
                        time = Some(now);
                    }
                    _ => {}
                }
            }
            samples
        });
        Self { child, reader: Some(reader) }
    }

    fn stop(mut self) -> Samples {
        self.child.kill().unwrap();
        self.reader.take().unwrap().join().unwrap()
    }
}

impl Drop for LinkMeter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many bytes the queue had sent at some time between two, in seconds since 1970: a look takes a while on a busy machine.
#[derive(Clone, Copy)]
struct Sample {
    from: f64,
    to: f64,
    bytes: f64,
}

type Samples = Vec<Sample>;

/// What was seen between two times.
fn during(samples: &Samples, from: f64, to: f64) -> Samples {
    samples.iter().copied().filter(|sample| sample.from >= from && sample.to <= to).collect()
}

/// Bits per second between two times.
fn average(samples: &Samples, from: f64, to: f64) -> f64 {
    let within = during(samples, from, to);
    assert!(to - from > 0.5 && within.len() > 5, "{} samples from {from} to {to}", within.len());
    let (a, b) = (within[0], within[within.len() - 1]);
    (b.bytes - a.bytes) * 8.0 / (f64::midpoint(b.from, b.to) - f64::midpoint(a.from, a.to))
}

/// The most bits per second that there certainly were over any time of that many seconds.
fn fastest(samples: &Samples, seconds: f64) -> f64 {
    let windows = samples.iter().filter_map(|a| {
        let b = samples.iter().find(|b| b.to >= a.from + seconds)?;
        Some((b.bytes - a.bytes) * 8.0 / (b.to - a.from))
    });
    windows.fold(0.0, f64::max)
}

/// A client of a second service beside the counter, at the pace of the paper's.
fn neighbour(testbed: &Testbed) -> Client {
    let mut options = mose_lab::ServiceOptions::of("sockperf");
    options.address = [10, 77, 0, 21].into();
    mose_lab::start_service(&testbed.lab, "sockperf", "edge-a", &options).unwrap();
    let spec =
        ClientSpec::new(ClientKind::Sockperf, ([10, 77, 0, 21], 11111).into(), Duration::from_secs(3600));
    let mut ready = None;
    eventually("the second service answers", || {
        let mut client = Client::start(spec.clone(), &|argv: &[String]| testbed.among_clients(argv)).unwrap();
        if client.wait_ready(Duration::from_secs(10)).is_ok() {
            ready = Some(client);
        }
        ready.is_some()
    });
    ready.unwrap()
}

/// The client saw nothing of its neighbour's migration: all of its messages were answered, at its own pace.
fn undisturbed(report: &ClientReport) {
    assert!(report.is_clean(), "{report:?}");
    let seconds = (report.to_unix_ms - report.from_unix_ms) as f64 / 1e3;
    let pace = report.extra["logged"].as_f64().unwrap() / seconds;
    assert!((190.0..=210.0).contains(&pace), "{pace} messages per second: {report:?}");
    // What a busy machine holds up for a moment is no sign; what waits for a migration waits for seconds.
    assert!(report.extra["rtt_ms"]["p50"].as_f64().unwrap() < 5.0, "{report:?}");
    assert!(report.longest_gap_ms < 1000.0, "{report:?}");
}

/// Migrates with options; the record, and what the link carried meanwhile.
fn metered(testbed: &Testbed, from: &str, to: &str, options: &[&str]) -> (Value, Samples) {
    let meter = LinkMeter::start(testbed, from);
    let (record, code) = testbed.migrate_with("counter", from, to, options);
    let samples = meter.stop();
    assert_eq!(code, 0, "{record}");
    (record, samples)
}

/// When a step of a migration ended, in seconds since 1970.
fn end_of(step: &str, record: &Value) -> f64 {
    let steps = record["steps"].as_array().unwrap();
    let step = steps.iter().find(|found| found["step"] == step).unwrap();
    let ms = step["start"].as_f64().unwrap() + step["took"].as_f64().unwrap();
    record["started_at"].as_f64().unwrap() / 1e6 + ms / 1e3
}

/// A migration without a limit has the link to itself.
fn released(testbed: &Testbed, from: &str, to: &str) {
    let (_, samples) = metered(testbed, from, to, &[]);
    let free = fastest(&samples, 0.03);
    eprintln!("without a limit: {:.0} Mb/s", free / 1e6);
    assert!(free > 600e6, "released: {free} bit/s");
}

/// Held to `limit`, the link carries that, within a twentieth; without a limit, it is the link's own again.
fn allotted(limit: &str, bits: f64, state: &str, transport: &str) {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("counter", "edge-a", &[], &["--state-size", state]);
    let client = testbed.client(ClientKind::Counter, 1);
    let beside = neighbour(&testbed);
    let (record, samples) =
        metered(&testbed, "edge-a", "edge-b", &["--bandwidth", limit, "--transport", transport]);
    let report = beside.stop().unwrap();
    // On a busy machine the dump may be slower than the link; what comes after it is not.
    let whole = average(&samples, end_of("dump", &record), end_of("transfer", &record) - 0.02);
    let most = fastest(&during(&samples, end_of("freeze", &record), end_of("transfer", &record)), 0.5);
    eprintln!(
        "{limit} over {transport}: {:.4} of it, at most {:.4} in half a second",
        whole / bits,
        most / bits
    );
    assert!((0.95..=1.05).contains(&(whole / bits)), "{limit}: the link carried {whole} bit/s");
    assert!(most / bits <= 1.05, "{limit}: up to {most} bit/s");
    undisturbed(&report);
    released(&testbed, "edge-b", "edge-a");
    let report = client.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn twenty_megabits_are_twenty_megabits() {
    allotted("20Mbps", 20e6, "10MiB", "tcp");
}

#[test]
fn a_hundred_megabits_are_a_hundred_megabits() {
    allotted("100Mbps", 100e6, "42MiB", "tcp");
}

#[test]
fn five_hundred_megabits_are_five_hundred_megabits() {
    allotted("500Mbps", 500e6, "256MiB", "tcp");
}

#[test]
fn a_hundred_megabits_over_zenoh_are_a_hundred_megabits() {
    allotted("100Mbps", 100e6, "42MiB", "zenoh");
}

#[test]
fn a_bandwidth_of_next_to_nothing_is_refused_and_nothing_is_changed() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("counter", "edge-a", &[], &[]);
    for limit in ["0bps", "63kbps"] {
        let (refused, code) = testbed.migrate_with("counter", "edge-a", "edge-b", &["--bandwidth", limit]);
        assert_eq!(code, 3, "{refused}");
        let reason = refused["refused"]["reason"].as_str().unwrap();
        assert!(reason.contains("below the least of 64.0 kb/s"), "{refused}");
    }
    let output = mose(&["migrate", "counter", "--to", "edge-b", "--bandwidth", "fast"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("a bandwidth such as"), "{}", text(&output));
    assert_eq!(testbed.running_on("counter"), ["edge-a"]);
}

#[test]
fn what_a_killed_agent_was_held_to_holds_nobody_afterwards() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("counter", "edge-a", &[], &["--state-size", "64MiB"]);
    let client = testbed.client(ClientKind::Counter, 1);
    let mut order = Command::new(programs().join("mose"))
        .args(["--json", "migrate", "counter", "--from", "edge-a", "--to", "edge-b", "--bandwidth", "20Mbps"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(order.stdout.take().unwrap()).lines();
    let dumped = lines.by_ref().map_while(Result::ok).any(|line| {
        let event: Value = serde_json::from_str(&line).unwrap();
        event["step"] == "dump" && event["phase"] == "finished"
    });
    assert!(dumped, "the migration ended before its transfer");
    kill(testbed.agent_pid("edge-a"));
    let last = lines.map_while(Result::ok).last().unwrap_or_default();
    let record: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(order.wait().unwrap().code(), Some(4), "{record}");
    let idle = LinkMeter::start(&testbed, "edge-a");
    std::thread::sleep(Duration::from_secs(2));
    let samples = idle.stop();
    let (begin, end) = (samples.first().unwrap(), samples.last().unwrap());
    let left = (end.bytes - begin.bytes) * 8.0 / (end.from - begin.to);
    assert!(left < 2e6, "the dead transfer still sends {left} bit/s");
    released(&testbed, "edge-a", "edge-b");
    let report = client.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");
}
