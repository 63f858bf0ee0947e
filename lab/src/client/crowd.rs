//! `mose-counter crowd`: many connections to Redis.

use super::counter::{of_counter, told};
use super::{ClientReport, ClientSpec, Output, Recipe};
use crate::counter::crowd::Report;
use crate::counter::protocol::Protocol;
use serde_json::json;

pub(super) fn recipe(spec: &ClientSpec) -> Recipe {
    of_counter(spec, "crowd", Protocol::Redis)
}

pub(super) fn read(spec: &ClientSpec, output: &Output) -> Result<ClientReport, String> {
    let seen: Report = told(output)?;
    let mut report = ClientReport {
        workload: spec.kind.name().to_owned(),
        sent: seen.sent,
        received: seen.received,
        lost: seen.lost,
        repeated: seen.repeated,
        corrupted: seen.corrupted,
        resets: seen.resets + seen.closed,
        connections: seen.connections,
        streams: u64::from(spec.connections),
        longest_gap_ms: seen.worst_ms,
        waits: seen.waits,
        from_unix_ms: seen.started_at_unix_ms,
        to_unix_ms: seen.ended_at_unix_ms,
        errors: seen.errors,
        ..ClientReport::default()
    };
    report.extra.insert("closed".to_owned(), json!(seen.closed));
    report.extra.insert("segments_sent_again".to_owned(), json!(seen.sent_again));
    report.extra.insert("needlessly".to_owned(), json!(seen.needlessly));
    if seen.unlisted > 0 {
        report.extra.insert("unlisted_waits".to_owned(), json!(seen.unlisted));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::{ClientKind, Line};
    use super::*;
    use std::net::SocketAddr;
    use std::time::Duration;

    #[test]
    fn the_common_report_keeps_what_the_crowd_saw() {
        let seen = Report { connections: 3, sent: 5, received: 4, lost: 1, closed: 1, ..Report::default() };
        let text = serde_json::to_string(&seen).unwrap();
        let output = Output { stdout: vec![Line { at_unix_ms: 0, text }], ..Output::default() };
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        let spec = ClientSpec::new(ClientKind::Crowd, target, Duration::from_secs(1));
        let report = read(&spec, &output).unwrap();
        assert_eq!((report.lost, report.resets, report.connections), (1, 1, 3));
        assert!(!report.is_clean());
        assert!(read(&spec, &Output::default()).is_err());
    }
}
