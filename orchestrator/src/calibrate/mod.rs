//! Calibrating: from the records of measured migrations to the calibration of a pair of hosts, and how long that holds.

mod sample;

use mose_pam::{Calibration, FitError, FitOptions, Provenance, Sample, fit};
use mose_protocol::HostName;
use mose_protocol::agent::Hello;

pub use sample::{FRAMING, sample};

/// A calibration older than this is said to be stale (days).
const FRESH_DAYS: i64 = 30;

/// Fits the samples of migrations from one host to another.
///
/// # Errors
/// Where the samples do not determine the parameters.
pub fn calibration(samples: &[Sample], from: &HostName, to: &Hello) -> Result<Calibration, FitError> {
    let mut options = FitOptions::new(format!("{from}→{}", to.host));
    options.provenance = Provenance {
        source: Some(format!("mose {} calibrate, {} migrations", env!("CARGO_PKG_VERSION"), samples.len())),
        date: Some(chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string()),
        from: Some(from.to_string()),
        to: Some(to.host.to_string()),
        tools: to.tools.iter().cloned().collect(),
        ..Provenance::default()
    };
    fit(samples, &options)
}

/// Why a calibration should not be relied upon any more, if there is a reason.
#[must_use]
pub fn staleness(calibration: &Calibration, to: &Hello) -> Option<String> {
    let provenance = calibration.provenance.as_ref()?;
    let date = provenance.date.as_deref()?;
    let age = chrono::DateTime::parse_from_rfc3339(date).ok().map(|then| chrono::Utc::now() - then.to_utc());
    if let Some(age) = age
        && age.num_days() > FRESH_DAYS
    {
        return Some(format!("it is {} days old", age.num_days()));
    }
    let changed: Vec<String> = to
        .tools
        .iter()
        .filter_map(|(name, now)| {
            let then = provenance.tools.get(name)?;
            (then != now).then(|| format!("{name} was {then} and is {now}"))
        })
        .collect();
    (!changed.is_empty()).then(|| changed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(tools: &[(&str, &str)]) -> Hello {
        Hello {
            host: "edge-b".parse().unwrap(),
            role: mose_protocol::agent::Role::Edge,
            release: String::new(),
            protocol: 1,
            capabilities: std::collections::BTreeSet::new(),
            underlay: std::net::Ipv4Addr::LOCALHOST,
            tools: tools.iter().map(|(name, version)| ((*name).into(), (*version).into())).collect(),
            started_at: mose_protocol::Timestamp(0),
            simulated: false,
        }
    }

    fn dated(date: &str) -> Calibration {
        let mut calibration = Calibration::tnsm2024();
        calibration.provenance = Some(Provenance {
            date: Some(date.into()),
            tools: [("podman".to_owned(), "5.4".to_owned())].into(),
            ..Provenance::default()
        });
        calibration
    }

    #[test]
    fn an_old_calibration_and_one_of_other_tools_are_stale() {
        let now = chrono::Utc::now().to_rfc3339();
        assert_eq!(staleness(&dated(&now), &hello(&[("podman", "5.4")])), None);
        let changed = staleness(&dated(&now), &hello(&[("podman", "5.8")])).unwrap();
        assert_eq!(changed, "podman was 5.4 and is 5.8");
        let old = staleness(&dated("2024-01-01T00:00:00Z"), &hello(&[])).unwrap();
        assert!(old.contains("days old"), "{old}");
        assert_eq!(staleness(&Calibration::tnsm2024(), &hello(&[])), None, "a published one does not age");
    }
}
