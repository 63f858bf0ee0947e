//! How a Zenoh session is set up for agents: what its defaults get wrong for them.

use mose_protocol::Refusal;
use zenoh::{Config, Session};

use crate::agent::session_refusal;

/// How long a peer may be silent before its session counts as dead, in milliseconds. The death of a process is seen
/// at once, by its connection; this is for hosts and links that die.
const LEASE_MS: u64 = 3000;

/// How long bulk data may wait for a slow receiver before Zenoh would drop it in silence, in microseconds.
const BLOCK_US: u64 = 120_000_000;

/// A session that listens at `listen` and connects to `connect`; with none of these it looks for others by multicast.
///
/// # Errors
/// Where an endpoint is not one, or cannot be listened on.
pub async fn open(listen: &[String], connect: &[String]) -> Result<Session, Refusal> {
    let config = configuration(listen, connect).map_err(|error| session_refusal(&error))?;
    zenoh::open(config).await.map_err(|error| session_refusal(&error))
}

fn configuration(
    listen: &[String],
    connect: &[String],
) -> Result<Config, Box<dyn std::error::Error + Send + Sync>> {
    let mut config = Config::default();
    let json = |value: &[String]| serde_json::to_string(value);
    let mut set = |key: &str, value: &str| config.insert_json5(key, value);
    set("mode", "\"peer\"")?;
    set("listen/endpoints", &json(listen)?)?;
    set("connect/endpoints", &json(connect)?)?;
    set("connect/timeout_ms", "0")?;
    set("connect/exit_on_failure", "false")?;
    set("connect/retry", r#"{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }"#)?;
    set("scouting/multicast/enabled", if connect.is_empty() { "true" } else { "false" })?;
    set("scouting/delay", "0")?;
    set("transport/link/tx/lease", &LEASE_MS.to_string())?;
    set("transport/link/tx/queue/congestion_control/block/wait_before_close", &BLOCK_US.to_string())?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_one_that_this_release_of_zenoh_knows() {
        let config = configuration(&["tcp/127.0.0.1:0".into()], &["tcp/127.0.0.1:1".into()]);
        assert!(config.is_ok(), "{}", config.err().map(|e| e.to_string()).unwrap_or_default());
    }
}
