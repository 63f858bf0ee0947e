//! iperf3's client: one stream of bytes, of which the throughput per tenth of a second is read.
//!
//! It numbers nothing, so what it shows is that the connection lives to the end and how the throughput dips and recovers.
//! A gap is a run of intervals in which next to nothing went through: true to 0.1 s at best, and short by what the
//! sender's own buffer took.

use super::{ClientReport, ClientSpec, Gap, Launch, Output, Recipe, Unit};
use crate::median::median;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;

/// An interval with less than this part of the median throughput is idle.
const IDLE: f64 = 0.05;
/// One with less than this part is a dip.
const DIP: f64 = 0.5;
/// From its start until bytes flow, where it does not tell.
const CONNECTING: Duration = Duration::from_secs(1);

/// Whether the program there can write its report interval by interval (from version 3.17 on), which tells when each was.
pub(super) fn streams_json(launch: &Launch<'_>) -> bool {
    let argv = ["iperf3".to_owned(), "--help".to_owned()];
    let help = launch(&argv).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped()).output();
    help.is_ok_and(|help| {
        [help.stdout, help.stderr].iter().any(|text| String::from_utf8_lossy(text).contains("--json-stream"))
    })
}

pub(super) fn recipe(spec: &ClientSpec, stream: bool) -> Recipe {
    let mut argv: Vec<String> = ["iperf3", "-i", "0.1", "-c"].map(str::to_owned).into();
    argv.extend([spec.target.ip().to_string(), "-p".to_owned(), spec.target.port().to_string()]);
    argv.extend(["-t".to_owned(), spec.duration.as_secs().max(1).to_string()]);
    argv.extend(["-P".to_owned(), spec.connections.max(1).to_string()]);
    if spec.rate > 0 {
        argv.extend(["-b".to_owned(), format!("{}K", spec.rate)]);
    }
    if stream {
        argv.extend(["--json-stream".to_owned(), "--forceflush".to_owned()]);
        return Recipe { argv, mark: "\"interval\"", settle: Duration::ZERO };
    }
    argv.push("-J".to_owned());
    // It says nothing before its end, so its start is all that can be waited for, and a shell tells of that.
    let script = "echo starting; exec \"$@\"".to_owned();
    let shell = ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    Recipe { argv: shell.into_iter().chain(argv).collect(), mark: "starting", settle: CONNECTING }
}

/// One interval.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Interval {
    start: f64,
    end: f64,
    bps: f64,
    retransmits: u64,
}

fn interval(value: &Value) -> Option<Interval> {
    let sum = value.get("sum")?;
    if sum.get("omitted").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let field = |name| sum.get(name).and_then(Value::as_f64);
    Some(Interval {
        start: field("start")?,
        end: field("end")?,
        bps: field("bits_per_second")?,
        retransmits: sum.get("retransmits").and_then(Value::as_u64).unwrap_or(0),
    })
}

/// What either way of writing the report comes down to.
#[derive(Debug, Default)]
struct Run {
    start: Value,
    intervals: Vec<Interval>,
    end: Value,
    error: Option<String>,
    began_unix_ms: f64,
}

fn parse(output: &Output) -> Result<Run, String> {
    let mut run = Run { began_unix_ms: output.started_unix_ms as f64, ..Run::default() };
    let mut streamed = false;
    let mut earliest = f64::INFINITY;
    for line in output.stdout.iter().filter(|line| line.text.starts_with("{\"event\"")) {
        let event: Value = serde_json::from_str(&line.text).map_err(|e| e.to_string())?;
        streamed = true;
        let data = event.get("data").cloned().unwrap_or_default();
        match event.get("event").and_then(Value::as_str) {
            Some("start") => run.start = data,
            Some("interval") => {
                if let Some(interval) = interval(&data) {
                    // A line may come late, but not early: the earliest is the nearest to the truth.
                    earliest = earliest.min(line.at_unix_ms as f64 - interval.end * 1e3);
                    run.intervals.push(interval);
                }
            }
            Some("end") => run.end = data,
            Some("error") => run.error = data.as_str().map(str::to_owned),
            _ => {}
        }
    }
    if streamed {
        if earliest.is_finite() {
            run.began_unix_ms = earliest;
        }
        return Ok(run);
    }
    let text: Vec<&str> = output
        .stdout
        .iter()
        .map(|line| line.text.as_str())
        .skip_while(|text| !text.starts_with('{'))
        .collect();
    if text.is_empty() {
        return Err("it wrote no report".to_owned());
    }
    let whole: Value = serde_json::from_str(&text.join("\n")).map_err(|e| e.to_string())?;
    run.start = whole.get("start").cloned().unwrap_or_default();
    run.end = whole.get("end").cloned().unwrap_or_default();
    run.error = whole.get("error").and_then(Value::as_str).map(str::to_owned);
    let intervals = whole.get("intervals").and_then(Value::as_array);
    run.intervals = intervals.into_iter().flatten().filter_map(interval).collect();
    Ok(run)
}

/// Begin and end, in s, of each run of intervals in which next to nothing went through.
fn idle_runs(intervals: &[Interval], typical: f64) -> impl Iterator<Item = (f64, f64)> {
    let idle = move |i: &Interval| i.bps < typical * IDLE;
    intervals
        .chunk_by(move |a, b| idle(a) == idle(b))
        .filter(move |run| idle(&run[0]))
        .map(|run| (run[0].start, run[run.len() - 1].end))
}

/// Begin of the first and end of the last interruption, in s: of the idle runs at least half as long as the longest one, since
/// a stream also pauses for a tenth of a second by itself. Without any, all of the measurement is both before and after.
fn interruptions(intervals: &[Interval], typical: f64) -> (f64, f64) {
    let longest = idle_runs(intervals, typical).map(|(start, end)| end - start).fold(0.0, f64::max);
    let mut long = idle_runs(intervals, typical).filter(|(start, end)| end - start >= longest / 2.0);
    match long.next() {
        Some(first) => (first.0, long.last().unwrap_or(first).1),
        None => (intervals.last().map_or(0.0, |i| i.end), intervals.first().map_or(0.0, |i| i.start)),
    }
}

pub(super) fn read(spec: &ClientSpec, output: &Output) -> Result<ClientReport, String> {
    let run = parse(output)?;
    let connected = run.start.get("connected").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let mut report = ClientReport {
        workload: "iperf3".to_owned(),
        unit: Unit::Bytes,
        connections: connected,
        streams: u64::from(spec.connections.max(1)),
        ..ClientReport::default()
    };
    let bytes =
        |sum: &str| run.end.get(sum).and_then(|sum| sum.get("bytes")).and_then(Value::as_u64).unwrap_or(0);
    (report.sent, report.received) = (bytes("sum_sent"), bytes("sum_received"));
    match run.error {
        // We told it to end; it then has no figures from the other side.
        Some(error) if output.stopped && error.starts_with("interrupt") => {
            report.received = report.received.max(report.sent);
        }
        Some(error) if error.contains("reset by peer") || error.contains("Broken pipe") => {
            report.resets = 1;
            report.errors.push(error);
        }
        Some(error) => report.errors.push(error),
        None => {}
    }
    if connected == 0 || run.intervals.is_empty() {
        if report.errors.is_empty() {
            return Err("it measured no interval".to_owned());
        }
        return Ok(report);
    }

    // What is left of the last interval may be too short to say anything.
    let mut intervals = run.intervals.as_slice();
    if let [all @ .., previous, last] = intervals
        && last.end - last.start < 0.6 * (previous.end - previous.start)
    {
        intervals = &intervals[..=all.len()];
    }
    let typical = median(intervals.iter().map(|i| i.bps).filter(|bps| *bps > 0.0)).unwrap_or(0.0);
    let unix_ms = |seconds: f64| (run.began_unix_ms + seconds * 1e3) as u64;
    report.from_unix_ms = unix_ms(intervals[0].start);
    report.to_unix_ms = unix_ms(intervals[intervals.len() - 1].end);
    for (start, end) in idle_runs(intervals, typical) {
        let ms = ((end - start) * 1e6).round() / 1e3;
        report.longest_gap_ms = report.longest_gap_ms.max(ms);
        report.gaps.push(Gap { at_unix_ms: unix_ms(start), ms });
    }
    // The first second may be slow because TCP begins slowly; that is no dip.
    let settled = || intervals.iter().filter(|i| i.start >= 1.0);
    let minimum = settled().map(|i| i.bps).reduce(f64::min);
    let dipped = settled().any(|i| i.bps < typical * DIP);
    let (first, last) = interruptions(intervals, typical);
    let before = median(intervals.iter().filter(|i| i.end <= first).map(|i| i.bps));
    let after = median(intervals.iter().filter(|i| i.start >= last).map(|i| i.bps));
    report.extra.insert(
        "bits_per_second".to_owned(),
        json!({"before": before, "minimum": minimum, "after": after, "median": typical}),
    );
    let recovered = after.zip(before).is_some_and(|(after, before)| after >= before * 0.8);
    report.extra.insert("dipped".to_owned(), json!(dipped));
    report.extra.insert("recovered".to_owned(), json!(recovered));
    report
        .extra
        .insert("retransmits".to_owned(), json!(intervals.iter().map(|i| i.retransmits).sum::<u64>()));
    report.extra.insert("intervals".to_owned(), json!(intervals.len()));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::{ClientKind, Line};
    use super::*;
    use std::net::SocketAddr;

    const GAP: &str = include_str!("fixtures/iperf3-gap.json");
    const INTERRUPTED: &str = include_str!("fixtures/iperf3-interrupted.json");
    const RESET: &str = include_str!("fixtures/iperf3-reset.json");

    fn output(text: &str, stopped: bool) -> Output {
        let stdout = format!("starting\n{text}");
        let stdout = stdout.lines().map(|text| Line { at_unix_ms: 100_000, text: text.to_owned() }).collect();
        Output { stdout, stopped, started_unix_ms: 100_000, ..Output::default() }
    }

    fn spec() -> ClientSpec {
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        ClientSpec::new(ClientKind::Iperf3, target, Duration::from_secs(3))
    }

    #[test]
    fn a_pause_is_a_gap_with_a_dip_and_a_recovery() {
        // Captured through a proxy that held everything from 1.0 to 1.7 s.
        let report = read(&spec(), &output(GAP, false)).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.unit, report.connections), (Unit::Bytes, 1));
        assert!((400.0..=700.0).contains(&report.longest_gap_ms), "{report:?}");
        assert!(report.gaps[0].at_unix_ms.abs_diff(101_100) < 20, "{report:?}");
        assert_eq!((&report.extra["dipped"], &report.extra["recovered"]), (&json!(true), &json!(true)));
        assert_eq!(report.extra["bits_per_second"]["minimum"], 0.0);
    }

    #[test]
    fn the_same_run_written_line_by_line_reads_the_same() {
        let whole: Value = serde_json::from_str(GAP).unwrap();
        let mut output = output("", false);
        output.started_unix_ms = 0;
        output.stdout.clear();
        let mut say = |at_unix_ms: u64, event: &str, data: &Value| {
            let text = format!("{{\"event\":\"{event}\",\"data\":{data}}}");
            output.stdout.push(Line { at_unix_ms, text });
        };
        say(100_000, "start", &whole["start"]);
        for interval in whole["intervals"].as_array().unwrap() {
            let end = interval["sum"]["end"].as_f64().unwrap();
            say(100_003 + (end * 1e3) as u64, "interval", interval);
        }
        say(103_100, "end", &whole["end"]);
        let streamed = read(&spec(), &output).unwrap();
        let at_once = read(&spec(), &super::tests::output(GAP, false)).unwrap();
        assert_eq!((streamed.sent, &streamed.extra), (at_once.sent, &at_once.extra));
        assert!(streamed.gaps[0].at_unix_ms.abs_diff(101_103) < 20, "{streamed:?}");
    }

    #[test]
    fn a_pause_of_a_tenth_of_a_second_after_the_interruption_does_not_hide_the_recovery() {
        let speeds = [9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 8.0, 8.0, 0.0, 8.0, 8.0, 8.0];
        let intervals: Vec<Interval> = (0u32..)
            .zip(speeds)
            .map(|(n, bps)| Interval { start: f64::from(n), end: f64::from(n + 1), bps, retransmits: 0 })
            .collect();
        assert_eq!(interruptions(&intervals, 8.0), (3.0, 6.0));
        assert_eq!(interruptions(&intervals[..2], 8.0), (2.0, 0.0));
    }

    #[test]
    fn a_connection_that_was_reset_is_told() {
        let report = read(&spec(), &output(RESET, false)).unwrap();
        assert_eq!(report.resets, 1);
        assert!(!report.is_clean());
    }

    #[test]
    fn an_interrupt_is_an_error_only_if_we_did_not_ask_for_it() {
        assert!(read(&spec(), &output(INTERRUPTED, true)).unwrap().is_clean());
        assert!(!read(&spec(), &output(INTERRUPTED, false)).unwrap().errors.is_empty());
    }

    #[test]
    fn a_refused_connection_and_no_output_are_told() {
        let refused =
            r#"{"start":{"connected":[]},"intervals":[],"end":{},"error":"unable to connect to server"}"#;
        assert!(!read(&spec(), &output(refused, false)).unwrap().is_clean());
        assert!(read(&spec(), &output("", false)).is_err());
    }
}
