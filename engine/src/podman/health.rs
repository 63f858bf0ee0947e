//! Health checks under systemd, whose timers run them.
//!
//! Podman makes such a timer when it starts a container, and none when it restores one, so we make it: set as Podman's own
//! (`libpod/healthcheck_linux.go`), under the name that Podman falls back to when it removes the timer of a container.

use mose_protocol::container::ContainerDescription;
use std::process::Stdio;
use std::time::Duration;

use mose_movable::under_systemd;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::socket::Socket;

/// How long systemd may take to make a timer.
const DEADLINE: Duration = Duration::from_secs(60);

/// One check, and the end of its timer (`$1`) where the container (`$0`) does not run any more. Podman ends timers itself, but where a
/// source took its service back it knows only the one that it made at the start.
const CHECK: &str = r#"podman healthcheck run "$0"
code=$?
if [ $code -eq 125 ]; then
  case "$(podman container inspect --format '{{.State.Status}}' "$0")" in
    running | paused) ;;
    *) systemctl --no-block stop "$1" ;;
  esac
fi
exit $code"#;

/// The tasks that have health checks go on. They end with it.
#[derive(Default)]
pub(super) struct Checks(Mutex<JoinSet<()>>);

impl Checks {
    /// Has a restored container's health check go on, if systemd runs here: beside whatever goes on, for the service runs already.
    pub(super) fn go_on(&self, socket: &Socket, container: &str) {
        if !under_systemd() {
            return;
        }
        let (socket, path) = (socket.clone(), format!("/containers/{container}/json"));
        let mut tasks = self.0.lock();
        // Those that are done.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(go_on(socket, path));
    }
}

async fn go_on(socket: Socket, path: String) {
    let made = async {
        let inspect =
            socket.get("inspect a container", &path).await.map_err(|refusal| refusal.to_string())?;
        let Some(timer) = Timer::of(&inspect) else { return Ok(()) };
        timer.make().await?;
        tracing::info!(unit = timer.unit, "its health check goes on");
        Ok::<_, String>(())
    };
    let made = tokio::time::timeout(DEADLINE, made).await;
    if let Err(error) = made.unwrap_or_else(|_| Err("systemd does not answer".into())) {
        tracing::error!(path, error, "no timer runs its health check: restart the service to have one");
    }
}

/// The timer of one container's health check.
#[derive(Debug, PartialEq, Eq)]
struct Timer {
    container: String,
    unit: String,
    interval: Duration,
}

impl Timer {
    /// The timer that a container has after its start, by Podman's inspection of it; `None` if its health check is not periodic.
    fn of(inspect: &Value) -> Option<Self> {
        let container = inspect["Id"].as_str()?.to_owned();
        let interval = health_interval(&inspect["Config"]["Healthcheck"])?;
        // Podman goes over to the check itself, and to a timer for it, once the startup's check has succeeded.
        let (unit, interval) = match interval_of_startup(&inspect["Config"]["StartupHealthCheck"]) {
            Some(interval) => (format!("{container}-startup"), interval),
            None => (container.clone(), interval),
        };
        Some(Self { container, unit, interval })
    }

    async fn make(&self) -> Result<(), String> {
        let (timer, service) = (format!("{}.timer", self.unit), format!("{}.service", self.unit));
        // One of an earlier restore, which has not noticed yet that the container was stopped. There is none, as a rule.
        for gone in [["stop", &timer], ["reset-failed", &service]] {
            if let Err(reason) = run(Command::new("systemctl").arg("--quiet").args(gone)).await {
                tracing::debug!(reason, "no earlier timer");
            }
        }
        let mut made = Command::new("systemd-run");
        made.args(["--quiet", "--collect", "--property", "LogLevelMax=notice", "--unit", &self.unit]);
        // systemd would give up a check that is made more than five times in ten seconds.
        made.args(["--property", "StartLimitIntervalSec=0"]);
        made.arg(format!("--description=podman healthcheck run {}", self.container));
        made.arg(format!("--on-unit-inactive={}us", self.interval.as_micros().max(1)));
        made.arg("--timer-property=AccuracySec=1s");
        if let Some(path) = std::env::var_os("PATH") {
            let mut setting = std::ffi::OsString::from("--setenv=PATH=");
            setting.push(path);
            made.arg(setting);
        }
        run(made.args(["sh", "-c", CHECK, &self.container, &timer])).await?;
        // It counts from the end of a check, so there must be a first one.
        run(Command::new("systemctl").args(["--no-block", "restart", &service])).await
    }
}

/// How often the health check of a described container runs by itself; `None` if it does not.
pub(super) fn health_check_interval(described: &ContainerDescription) -> Option<Duration> {
    health_interval(&described.config["healthcheck"])
}

/// How often a health check runs by itself, by its configuration or Podman's inspection; `None` if it does not.
fn health_interval(check: &Value) -> Option<Duration> {
    let nanoseconds = check["Interval"].as_u64().filter(|nanoseconds| *nanoseconds > 0)?;
    (check["Test"][0] != "NONE").then(|| Duration::from_nanos(nanoseconds))
}

/// The same of a startup's check: Podman's inspection has its fields beside its `Test`.
fn interval_of_startup(check: &Value) -> Option<Duration> {
    check["Test"].as_array().filter(|test| !test.is_empty())?;
    health_interval(check)
}

async fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn timer(config: Value) -> Option<Timer> {
        Timer::of(&json!({"Id": "cafe", "Config": config}))
    }

    #[test]
    fn only_a_check_with_an_interval_has_a_timer() {
        let every = |interval: u64| json!({"Test": ["CMD", "true"], "Interval": interval});
        let made = timer(json!({"Healthcheck": every(30_000_000_000)})).unwrap();
        assert_eq!((made.unit.as_str(), made.interval), ("cafe", Duration::from_secs(30)));
        assert_eq!(timer(json!({"Healthcheck": every(0)})), None);
        assert_eq!(timer(json!({"Healthcheck": {"Test": ["NONE"], "Interval": 30_000_000_000_u64}})), None);
        assert_eq!(timer(json!({})), None);
    }

    #[test]
    fn until_a_startup_succeeded_its_own_check_is_made() {
        let check = json!({"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64});
        let startup = json!({"Test": ["CMD", "ready"], "Interval": 2_000_000_000_u64});
        let made = timer(json!({"Healthcheck": check, "StartupHealthCheck": startup})).unwrap();
        assert_eq!((made.unit.as_str(), made.interval), ("cafe-startup", Duration::from_secs(2)));
    }
}
