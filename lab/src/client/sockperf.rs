//! sockperf's TCP ping-pong client.
//!
//! Its full log goes to the error stream, not to a file: the client may run in another mount namespace. What the log says:
//! times are in seconds since the program began, the first 0.4 s of the test and its last 50 ms are left out (warm-up and
//! cool-down), and a reply that never came has no line. It exits with 0 whatever happened, so its words decide. After a gap
//! it catches up with its schedule in a burst.

use super::{ClientReport, ClientSpec, Gap, Output, Recipe};
use crate::counter::ping::GAP;
use serde_json::json;
use std::time::Duration;

/// The text it prints when the test begins.
const START: &str = "Starting test...";
/// From there to the first message in the log: 0.4 s are cut, and the next message is sent up to 5 ms later.
const CUT_MS: f64 = 402.5;
/// What of the end is cut, and some air.
const CUT_AT_END_MS: f64 = 250.0;

pub(super) fn recipe(spec: &ClientSpec) -> Recipe {
    let argv = [
        // Into a pipe it would say everything at its end, and nobody would know when it began.
        "stdbuf".to_owned(),
        "-oL".to_owned(),
        "sockperf".to_owned(),
        "ping-pong".to_owned(),
        "--tcp".to_owned(),
        "-i".to_owned(),
        spec.target.ip().to_string(),
        "-p".to_owned(),
        spec.target.port().to_string(),
        "--mps".to_owned(),
        spec.rate.to_string(),
        "-t".to_owned(),
        spec.duration.as_secs().max(1).to_string(),
        "--full-rtt".to_owned(),
        "--full-log".to_owned(),
        "/dev/stderr".to_owned(),
    ];
    Recipe { argv: argv.into(), mark: START, settle: Duration::from_millis(500) }
}

/// The number behind `name` and an equals sign.
fn number(text: &str, name: &str) -> Option<f64> {
    let rest = text[text.find(name)? + name.len()..].trim_start().strip_prefix('=')?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// When the replies in the log came, in ms since the program began, with their round-trip times in ms.
fn log(output: &Output) -> Vec<(f64, f64, f64)> {
    let mut rows = Vec::new();
    let mut in_log = false;
    for line in &output.stderr {
        if line.text.starts_with("packet,") {
            in_log = true;
        } else if in_log {
            let mut fields = line.text.split(',').skip(1).map(|field| field.trim().parse::<f64>());
            if let (Some(Ok(sent)), Some(Ok(received)), Some(Ok(rtt_us))) =
                (fields.next(), fields.next(), fields.next())
            {
                rows.push((sent * 1e3, received * 1e3, rtt_us / 1e3));
            }
        }
    }
    rows
}

pub(super) fn read(spec: &ClientSpec, output: &Output) -> Result<ClientReport, String> {
    let mut report = ClientReport { workload: "sockperf".to_owned(), streams: 1, ..ClientReport::default() };
    let mut started_unix_ms = None;
    let mut total = None;
    for line in output.stdout.iter().chain(&output.stderr) {
        let text = line.text.as_str();
        if text.contains(START) {
            started_unix_ms = Some(line.at_unix_ms as f64);
            report.connections = 1;
        }
        if text.contains("[Total Run]") {
            total = total.or(number(text, "SentMessages")
                .zip(number(text, "ReceivedMessages"))
                .zip(number(text, "RunTime")));
        }
        // Printed twice, on the screen and into the log: taken, not added up.
        if let Some(n) = number(text, "# dropped messages") {
            report.lost = n as u64;
        }
        if let Some(n) = number(text, "# duplicated messages") {
            report.repeated = n as u64;
        }
        if let Some(n) = number(text, "# out-of-order messages") {
            report.reordered = n as u64;
        }
        if text.contains("forcibly closed by a peer") {
            report.resets = 1;
        } else if let Some((_, error)) = text.split_once("ERROR: ") {
            report.errors.push(error.trim().to_owned());
        }
    }
    let Some(started_unix_ms) = started_unix_ms else {
        return Err("it never began its test".to_owned());
    };
    let Some(((sent, received), seconds)) = total else {
        if report.resets > 0 {
            // It leaves at once and counts nothing.
            report.from_unix_ms = started_unix_ms as u64;
            report.to_unix_ms = output.stdout.last().map_or(report.from_unix_ms, |line| line.at_unix_ms);
            return Ok(report);
        }
        return Err("it wrote no totals".to_owned());
    };
    (report.sent, report.received) = (sent as u64, received as u64);

    let rows = log(output);
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Err("its log is empty; it must run for more than half a second".to_owned());
    };
    let start_ms = first.0 - CUT_MS;
    let base_unix_ms = started_unix_ms - start_ms;
    report.from_unix_ms = (base_unix_ms + first.1) as u64;
    report.to_unix_ms = (base_unix_ms + last.1) as u64;
    let silence = |report: &mut ClientReport, from: f64, to: f64| {
        let ms = ((to - from) * 1e3).round() / 1e3;
        report.longest_gap_ms = report.longest_gap_ms.max(ms);
        if ms > GAP.as_secs_f64() * 1e3 {
            report.gaps.push(Gap { at_unix_ms: (base_unix_ms + from) as u64, ms });
        }
    };
    for pair in rows.windows(2) {
        silence(&mut report, pair[0].1, pair[1].1);
    }
    let unanswered = report.sent.saturating_sub(report.received);
    let end_ms = start_ms + seconds * 1e3;
    let mut in_flight = 0;
    if unanswered == 1 && report.lost == 0 && end_ms - last.1 < CUT_AT_END_MS {
        // The time was over between a message and its answer: nothing is missing.
        in_flight = 1;
    } else if unanswered > report.lost {
        report.lost = unanswered;
        silence(&mut report, last.1, end_ms);
    }
    let mut rtts: Vec<f64> = rows.iter().map(|row| row.2).collect();
    rtts.sort_unstable_by(f64::total_cmp);
    let part = |n: usize| rtts[(rtts.len() * n / 100).min(rtts.len() - 1)];
    report.extra.insert("rtt_ms".to_owned(), json!({"p50": part(50), "p99": part(99), "max": part(100)}));
    report.extra.insert("in_flight_at_end".to_owned(), json!(in_flight));
    report.extra.insert("logged".to_owned(), json!(rows.len()));
    report.extra.insert("mps".to_owned(), json!(spec.rate));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::{ClientKind, Line};
    use super::*;
    use std::net::SocketAddr;

    const GAP_OUT: &str = include_str!("fixtures/sockperf-gap.out");
    const GAP_LOG: &str = include_str!("fixtures/sockperf-gap.csv");
    const RESET_OUT: &str = include_str!("fixtures/sockperf-reset.out");
    const HANG_OUT: &str = include_str!("fixtures/sockperf-hang.out");
    const HANG_LOG: &str = include_str!("fixtures/sockperf-hang.csv");
    const REFUSED_OUT: &str = include_str!("fixtures/sockperf-refused.out");

    fn lines(text: &str) -> Vec<Line> {
        text.lines().map(|text| Line { at_unix_ms: 100_000, text: text.to_owned() }).collect()
    }

    fn read_texts(stdout: &str, stderr: &str) -> Result<ClientReport, String> {
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        let spec = ClientSpec::new(ClientKind::Sockperf, target, Duration::from_secs(4));
        read(&spec, &Output { stdout: lines(stdout), stderr: lines(stderr), ..Output::default() })
    }

    #[test]
    fn a_gap_in_its_log_is_found_where_it_was() {
        // Captured through a proxy that held everything for 0.9 s, 1.5 s after the first message.
        let report = read_texts(GAP_OUT, GAP_LOG).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.sent, report.received), (801, 801));
        assert_eq!(report.gaps.len(), 1);
        assert!((report.longest_gap_ms - 900.595).abs() < 0.001, "{report:?}");
        // The test began at 100 s; the proxy's pause came 1.5 s after the first message, which is when it begins.
        assert!(report.gaps[0].at_unix_ms.abs_diff(101_500) < 10, "{report:?}");
    }

    #[test]
    fn a_connection_that_was_reset_is_told_though_it_exits_with_0() {
        let report = read_texts(RESET_OUT, "").unwrap();
        assert_eq!((report.resets, report.connections), (1, 1));
        assert!(!report.is_clean());
    }

    #[test]
    fn an_answer_that_never_came_is_lost_and_a_gap_up_to_the_end() {
        let report = read_texts(HANG_OUT, HANG_LOG).unwrap();
        assert_eq!((report.sent, report.received, report.lost), (202, 201, 1));
        assert!(report.longest_gap_ms > 900.0, "{report:?}");
    }

    #[test]
    fn an_answer_still_under_way_when_the_time_is_over_is_not_lost() {
        let out = GAP_OUT.replace("SentMessages=801", "SentMessages=802");
        let report = read_texts(&out, GAP_LOG).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.extra["in_flight_at_end"], 1);
    }

    #[test]
    fn dropped_duplicated_and_disordered_messages_are_told_apart() {
        let out = GAP_OUT.replace("# dropped messages = 0", "# dropped messages = 3").replace(
            "# duplicated messages = 0; # out-of-order messages = 0",
            "# duplicated messages = 4; # out-of-order messages = 5",
        );
        let report = read_texts(
            &out,
            &GAP_LOG.replace("# dropped", "# other").replace("# d", "x").replace("# out", "x"),
        )
        .unwrap();
        assert_eq!((report.lost, report.repeated, report.reordered), (3, 4, 5));
    }

    #[test]
    fn a_refused_connection_is_no_report() {
        assert!(read_texts(REFUSED_OUT, "").is_err());
        assert!(read_texts("", "").is_err());
    }
}
