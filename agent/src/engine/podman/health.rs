//! Health checks: which of them systemd has a timer for.
//!
//! Podman has systemd's timers run them, and starts such a timer when it starts a container. When it restores one it does not, and in
//! Podman 5.4 no update of the container makes one afterwards.

use std::path::Path;

use serde_json::Value;

/// Where systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Whether systemd looks at a container's health, by Podman's inspection of it.
pub(super) fn has_timer(inspect: &Value) -> bool {
    Path::new(SYSTEMD).exists() && is_periodic(&inspect["Config"]["Healthcheck"])
}

fn is_periodic(check: &Value) -> bool {
    check["Test"][0] != "NONE" && check["Interval"].as_u64().is_some_and(|nanoseconds| nanoseconds > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_check_with_an_interval_is_periodic() {
        assert!(is_periodic(&json!({"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64})));
        assert!(!is_periodic(&json!({"Test": ["CMD", "true"], "Interval": 0})));
        assert!(!is_periodic(&json!({"Test": ["NONE"], "Interval": 30_000_000_000_u64})));
        assert!(!is_periodic(&Value::Null));
    }
}
