//! Zenoh key expressions. The version is not part of them: a peer of another version must be seen to be named.

use crate::{HostName, MigrationId};

/// The liveliness token of the agent on `host`.
#[must_use]
pub fn live(host: &HostName) -> String {
    format!("mose/live/{host}")
}

/// Every agent's liveliness token.
pub const LIVE_ALL: &str = "mose/live/*";

/// The host that a liveliness token speaks of.
#[must_use]
pub fn host_of_live(key: &str) -> Option<HostName> {
    key.strip_prefix("mose/live/")?.parse().ok()
}

/// Where the agent on `host` answers requests.
#[must_use]
pub fn requests(host: &HostName) -> String {
    format!("mose/agent/{host}/request")
}

/// Where the agent on `host` publishes its telemetry.
#[must_use]
pub fn telemetry(host: &HostName) -> String {
    format!("mose/agent/{host}/telemetry")
}

/// The host whose telemetry is published there.
#[must_use]
pub fn host_of_telemetry(key: &str) -> Option<HostName> {
    key.strip_prefix("mose/agent/")?.strip_suffix("/telemetry")?.parse().ok()
}

/// Every agent's telemetry.
pub const TELEMETRY_ALL: &str = "mose/agent/*/telemetry";

/// Where `host` publishes its steps of `migration`.
#[must_use]
pub fn steps(migration: &MigrationId, host: &HostName) -> String {
    format!("mose/steps/{migration}/{host}")
}

/// Every host's steps of every migration.
pub const STEPS_ALL: &str = "mose/steps/*/*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_liveliness_token_names_its_host() {
        let host: HostName = "edge-a".parse().unwrap();
        assert_eq!(host_of_live(&live(&host)), Some(host));
        assert_eq!(host_of_live("mose/live/a/b"), None);
        assert_eq!(host_of_live("else"), None);
    }

    #[test]
    fn telemetry_names_its_host() {
        let host: HostName = "edge-a".parse().unwrap();
        assert_eq!(host_of_telemetry(&telemetry(&host)), Some(host.clone()));
        assert_eq!(host_of_telemetry(&requests(&host)), None);
    }
}
