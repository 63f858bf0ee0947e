//! Health checks after a restore.
//!
//! Podman has systemd's timers run them, and starts such a timer when it starts a container, but not when it restores one. It may
//! make a timer anew when the interval is changed; so that is changed by a millisecond and back. Podman 5.4 does not: the check says
//! that the timer stays behind.

use std::path::Path;
use std::time::Duration;

use mose_protocol::{Refusal, ServiceName};
use serde_json::{Value, json};

use super::CALL_DEADLINE;
use super::socket::Socket;

/// Where systemd runs (sd_booted(3)).
pub(super) const SYSTEMD: &str = "/run/systemd/system";

/// How far the interval is changed.
const NUDGE: Duration = Duration::from_millis(1);

/// Has the health checks of a container that was just restored go on, while the service already runs. Without systemd there are no
/// timers to be had, here as anywhere.
pub(super) fn go_on(socket: &Socket, name: &ServiceName) {
    if !Path::new(SYSTEMD).exists() {
        return;
    }
    let (socket, name) = (socket.clone(), name.clone());
    tokio::spawn(async move {
        if let Err(refusal) = start_timer(&socket, &name).await {
            tracing::warn!(%name, %refusal, "its health is not looked at until it is started again");
        }
    });
}

async fn start_timer(socket: &Socket, name: &ServiceName) -> Result<(), Refusal> {
    let inspect = socket.get(&format!("inspect {name}"), &format!("/containers/{name}/json")).await?;
    let Some(interval) = interval(&inspect) else { return Ok(()) };
    for interval in [interval + NUDGE, interval] {
        let change = json!({ "health_interval": format!("{}ns", interval.as_nanos()) });
        let path = format!("/containers/{name}/update");
        let what = format!("have the health of {name} looked at");
        socket.post(&what, &path, Some(&change), CALL_DEADLINE).await?;
    }
    Ok(())
}

/// How often a container's health is looked at; `None` where nothing looks at it by itself.
pub(super) fn interval(inspect: &Value) -> Option<Duration> {
    let check = &inspect["Config"]["Healthcheck"];
    if check["Test"][0] == "NONE" {
        return None;
    }
    check["Interval"].as_u64().filter(|nanoseconds| *nanoseconds > 0).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_check_with_an_interval_goes_on() {
        let of = |check: Value| interval(&json!({"Config": {"Healthcheck": check}}));
        assert_eq!(
            of(json!({"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64})),
            Some(Duration::from_secs(30))
        );
        assert_eq!(of(json!({"Test": ["CMD", "true"], "Interval": 0})), None);
        assert_eq!(of(json!({"Test": ["NONE"], "Interval": 30_000_000_000_u64})), None);
        assert_eq!(of(Value::Null), None);
    }
}
