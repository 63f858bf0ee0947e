//! `mose-counter ping`, and through it Redis and memcached.

use super::{ClientReport, ClientSpec, Output, Recipe};
use crate::counter::ping::Report;
use crate::counter::protocol::Protocol;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::time::Duration;

pub(super) fn recipe(spec: &ClientSpec) -> Recipe {
    of_counter(spec, "ping", Protocol::Counter)
}

/// A command of `mose-counter` that reports as JSON.
pub(super) fn of_counter(spec: &ClientSpec, command: &str, usual: Protocol) -> Recipe {
    let argv = [
        spec.counter_program.clone(),
        command.to_owned(),
        "--connect".to_owned(),
        spec.target.to_string(),
        "--protocol".to_owned(),
        spec.kind.protocol().unwrap_or(usual).name().to_owned(),
        "--rate".to_owned(),
        spec.rate.to_string(),
        "--duration".to_owned(),
        format!("{}ms", spec.duration.as_millis()),
        "--connections".to_owned(),
        spec.connections.to_string(),
        "--json".to_owned(),
        "-".to_owned(),
    ];
    Recipe { argv: argv.into(), mark: "connected to", settle: Duration::ZERO }
}

/// Its report.
pub(super) fn told<T: DeserializeOwned>(output: &Output) -> Result<T, String> {
    let line =
        output.stdout.iter().rev().find(|line| line.text.starts_with('{')).ok_or("it wrote no report")?;
    serde_json::from_str(&line.text).map_err(|e| e.to_string())
}

pub(super) fn read(spec: &ClientSpec, output: &Output) -> Result<ClientReport, String> {
    let seen: Report = told(output)?;
    let mut report = ClientReport {
        workload: spec.kind.name().to_owned(),
        sent: seen.sent,
        received: seen.received,
        lost: seen.lost,
        repeated: seen.repeated,
        reordered: seen.reordered,
        corrupted: seen.corrupted + seen.restarts,
        resets: seen.resets + seen.closed,
        connections: seen.connections,
        streams: u64::from(spec.connections),
        longest_gap_ms: seen.longest_gap_ms,
        gaps: seen.gaps,
        from_unix_ms: seen.started_at_unix_ms,
        to_unix_ms: seen.ended_at_unix_ms,
        errors: seen.errors,
        ..ClientReport::default()
    };
    report.extra.insert("rtt_ms".to_owned(), json!(seen.rtt_ms));
    report.extra.insert("restarts".to_owned(), json!(seen.restarts));
    report.extra.insert("closed".to_owned(), json!(seen.closed));
    report.extra.insert("last_counter".to_owned(), json!(seen.last_counter));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::{ClientKind, Line};
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn the_common_report_keeps_what_the_counter_saw() {
        let seen = Report { sent: 5, received: 4, lost: 1, restarts: 2, closed: 1, ..Report::default() };
        let text = serde_json::to_string(&seen).unwrap();
        let output = Output { stdout: vec![Line { at_unix_ms: 0, text }], ..Output::default() };
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        let spec = ClientSpec::new(ClientKind::Counter, target, Duration::from_secs(1));
        let report = read(&spec, &output).unwrap();
        assert_eq!((report.lost, report.corrupted, report.resets), (1, 2, 1));
        assert!(!report.is_clean());
        assert!(read(&spec, &Output::default()).is_err());
    }
}
