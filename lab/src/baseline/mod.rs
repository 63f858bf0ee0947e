//! The scripted baseline: the same service moved the way people move it by hand, to be measured beside MOSE.
//!
//! The script (`migrate.sh`, part of this program) runs on the controller and reaches the hosts over SSH. Its service has a
//! name, an address and flows of its own, at a higher priority than the agents', so that neither disturbs the other. It
//! needs the agents' tunnels (ports of the bridge marked `mose-tunnel`) and makes everything else itself.

mod breakdown;

pub use breakdown::{Breakdown, Row};

use crate::client::Launch;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::net::Ipv4Addr;
use std::process::Stdio;

/// The script.
const SCRIPT: &str = include_str!("migrate.sh");
/// The steps in which the service does not answer.
const BLACKOUT: [&str; 4] = ["checkpoint", "copy", "restore", "flows"];

/// Why the baseline could not be run.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The script cannot be started.
    #[error("cannot run bash on the controller: {0}")]
    Start(#[from] io::Error),
    /// The script failed.
    #[error("the scripted baseline failed ({status}): {said}")]
    Failed {
        /// How it ended.
        status: String,
        /// The last lines it wrote.
        said: String,
    },
    /// What it wrote is not what it writes.
    #[error("cannot read what the scripted baseline wrote: {0}")]
    Unreadable(String),
}

/// The baseline's service and where it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// Name of the container and of its namespace.
    pub service: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of the overlay's prefix.
    pub prefix: u8,
    /// Its MAC address.
    pub mac: String,
    /// The overlay's MTU.
    pub mtu: u32,
    /// The Open vSwitch bridge on every host.
    pub bridge: String,
    /// Priority of its flows: above the agents'.
    pub priority: u16,
    /// The hosts of the overlay and their underlay addresses.
    pub hosts: Vec<(String, Ipv4Addr)>,
    /// The client's host.
    pub mobile: String,
    /// How often its memory is copied while it runs, before it is frozen. 0: cold. Needs a kernel with soft-dirty bits otherwise.
    pub iterations: u32,
}

/// One step of the script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "Step")]
pub struct ScriptStep {
    /// Its name.
    #[serde(rename = "step")]
    pub name: String,
    /// When it began, in ns since 1970.
    pub start_unix_ns: u64,
    /// When it ended.
    pub end_unix_ns: u64,
    /// What the tool it ran said of itself, e.g. Podman's statistics.
    #[serde(default)]
    pub detail: Value,
}

impl ScriptStep {
    /// How long it took, in ms.
    pub fn ms(&self) -> f64 {
        self.end_unix_ns.saturating_sub(self.start_unix_ns) as f64 / 1e6
    }
}

/// One migration by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineRun {
    /// The container.
    pub service: String,
    /// Where it was.
    pub from: String,
    /// Where it is.
    pub to: String,
    /// What was done, in order.
    pub steps: Vec<ScriptStep>,
}

impl BaselineRun {
    fn step(&self, name: &str) -> Option<&ScriptStep> {
        self.steps.iter().find(|step| step.name == name)
    }

    fn statistic(&self, step: &str, name: &str) -> Option<f64> {
        let container = self.step(step)?.detail.get("container_statistics")?.get(0)?;
        let criu = container.get("criu_statistics").and_then(|criu| criu.get(name));
        // Podman's are in µs.
        criu.or_else(|| container.get(name))?.as_f64().map(|us| us / 1e3)
    }

    /// From the checkpoint's start to the last flow, in ms: what the service was away as seen from the hosts.
    pub fn blackout_ms(&self) -> f64 {
        match (self.step(BLACKOUT[0]), self.step(BLACKOUT[3])) {
            (Some(first), Some(last)) => last.end_unix_ns.saturating_sub(first.start_unix_ns) as f64 / 1e6,
            _ => 0.0,
        }
    }

    /// From the checkpoint's start to the last flow, in ms since 1970.
    pub fn span_of_blackout_unix_ms(&self) -> (u64, u64) {
        let begin = self.step(BLACKOUT[0]).map_or(0, |step| step.start_unix_ns / 1_000_000);
        (begin, self.step(BLACKOUT[3]).map_or(0, |step| step.end_unix_ns / 1_000_000))
    }

    /// From the order to the last flow, in ms: the paper's T_mig.
    pub fn duration_ms(&self) -> f64 {
        match (self.steps.first(), self.step(BLACKOUT[3])) {
            (Some(first), Some(last)) => last.end_unix_ns.saturating_sub(first.start_unix_ns) as f64 / 1e6,
            _ => 0.0,
        }
    }

    /// How often its memory was copied while it ran.
    pub fn iterations(&self) -> usize {
        self.steps.iter().filter(|step| step.name == "pre-copy").count()
    }

    /// The span in which a client's gap belongs to this migration, in ms since 1970.
    pub fn span_unix_ms(&self) -> (u64, u64) {
        let begin = self.step(BLACKOUT[0]).map_or(0, |step| step.start_unix_ns / 1_000_000);
        let end = self.steps.last().map_or(0, |step| step.end_unix_ns / 1_000_000);
        (begin, end)
    }

    /// Bytes of the archive that was copied.
    pub fn image_bytes(&self) -> Option<u64> {
        self.step("copy")?.detail.get("bytes")?.as_u64()
    }

    /// How long CRIU kept the processes frozen, in ms, where Podman told.
    pub fn criu_frozen_ms(&self) -> Option<f64> {
        self.statistic("checkpoint", "frozen_time")
    }

    /// How long CRIU took to restore, in ms, where Podman told.
    pub fn criu_restore_ms(&self) -> Option<f64> {
        self.statistic("restore", "restore_time")
    }
}

impl Baseline {
    /// A service by hand between the lab's hosts: `hosts` are those of the overlay, with their underlay addresses.
    pub fn new(service: &str, address: Ipv4Addr, hosts: Vec<(String, Ipv4Addr)>, mobile: &str) -> Self {
        let [.., a, b, c] = address.octets();
        Self {
            service: service.to_owned(),
            address,
            prefix: 24,
            // Locally administered, and no other address of the overlay has the same.
            mac: format!("02:48:44:{a:02x}:{b:02x}:{c:02x}"),
            mtu: 1450,
            bridge: "br-mose".to_owned(),
            priority: 200,
            hosts,
            mobile: mobile.to_owned(),
            iterations: 0,
        }
    }

    fn argv(&self, words: &[&str]) -> Vec<String> {
        let hosts: Vec<String> =
            self.hosts.iter().map(|(name, address)| format!("{name}={address}")).collect();
        let settings = [
            ("SERVICE", self.service.clone()),
            ("ADDRESS", self.address.to_string()),
            ("PREFIX", self.prefix.to_string()),
            ("MAC", self.mac.clone()),
            ("MTU", self.mtu.to_string()),
            ("BRIDGE", self.bridge.clone()),
            ("PRIORITY", self.priority.to_string()),
            ("HOSTS", hosts.join(" ")),
            ("MOBILE", self.mobile.clone()),
            ("ITERATIONS", self.iterations.to_string()),
        ];
        let mut argv = vec!["env".to_owned()];
        argv.extend(settings.map(|(name, value)| format!("{name}={value}")));
        argv.extend(["bash", "-c", SCRIPT, "migrate.sh"].map(str::to_owned));
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        argv
    }

    fn run(&self, controller: &Launch<'_>, words: &[&str]) -> Result<String, BaselineError> {
        let output = controller(&self.argv(words)).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said = lines[lines.len().saturating_sub(8)..].join("; ");
        Err(BaselineError::Failed { status: output.status.to_string(), said })
    }

    /// Starts the service on `host`, from an image the host has. `controller` runs a command on the controller.
    ///
    /// # Errors
    /// [`BaselineError`] with what the script said; then [`Baseline::stop`] clears away what there is.
    pub fn start(
        &self,
        controller: &Launch<'_>,
        host: &str,
        image: &str,
        command: &[&str],
    ) -> Result<(), BaselineError> {
        self.run(controller, &[&["start", host, image], command].concat()).map(drop)
    }

    /// Moves the service.
    ///
    /// # Errors
    /// [`BaselineError`] with what the script said. If it failed after the checkpoint, it has restored the service on `from`.
    pub fn migrate(
        &self,
        controller: &Launch<'_>,
        from: &str,
        to: &str,
    ) -> Result<BaselineRun, BaselineError> {
        let steps = read_steps(&self.run(controller, &["migrate", from, to])?)?;
        Ok(BaselineRun { service: self.service.clone(), from: from.to_owned(), to: to.to_owned(), steps })
    }

    /// Removes the service, its endpoint and its flows from all hosts. Harmless if there is none.
    ///
    /// # Errors
    /// [`BaselineError`] with what the script said.
    pub fn stop(&self, controller: &Launch<'_>) -> Result<(), BaselineError> {
        self.run(controller, &["stop"]).map(drop)
    }
}

fn read_steps(text: &str) -> Result<Vec<ScriptStep>, BaselineError> {
    let unreadable = |why: String| BaselineError::Unreadable(why);
    let steps: Vec<ScriptStep> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).map_err(|e| unreadable(format!("{e}: {line}"))))
        .collect::<Result<_, _>>()?;
    match BLACKOUT.iter().find(|name| !steps.iter().any(|step| step.name == **name)) {
        Some(missing) => Err(unreadable(format!("it says nothing of its step `{missing}`"))),
        None => Ok(steps),
    }
}

#[cfg(test)]
mod script;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::process::Command;

    const RUN: &str = include_str!("fixtures/run.jsonl");

    pub(crate) fn captured() -> BaselineRun {
        let steps = read_steps(RUN).unwrap();
        BaselineRun { service: "s".to_owned(), from: "edge-a".to_owned(), to: "edge-b".to_owned(), steps }
    }

    fn baseline() -> Baseline {
        let hosts = vec![("edge-a".to_owned(), Ipv4Addr::new(10, 99, 0, 11))];
        Baseline::new("sockperf-hand", Ipv4Addr::new(10, 77, 0, 40), hosts, "uav")
    }

    fn here(argv: &[String]) -> Command {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]);
        command
    }

    #[test]
    fn a_captured_run_gives_its_steps_and_what_podman_and_criu_said() {
        let run = captured();
        let sum: f64 = BLACKOUT.iter().filter_map(|name| run.step(name)).map(ScriptStep::ms).sum();
        assert!(run.blackout_ms() >= sum, "{run:?}");
        assert!(run.image_bytes().unwrap() > 10_000);
        assert!(run.criu_frozen_ms().unwrap() > 1.0);
        assert!(run.criu_restore_ms().unwrap() > 1.0);
        let (begin, end) = run.span_unix_ms();
        assert!(begin > 0 && (end - begin) as f64 >= run.blackout_ms() - 2.0);
    }

    #[test]
    fn a_run_without_a_step_is_unreadable() {
        let text: String =
            RUN.lines().filter(|line| !line.contains("restore\"")).map(|l| format!("{l}\n")).collect();
        assert!(matches!(read_steps(&text), Err(BaselineError::Unreadable(_))));
    }

    #[test]
    fn an_unknown_host_and_a_move_to_the_same_host_are_refused_before_anything_is_done() {
        for (from, to, why) in [("edge-x", "edge-a", "edge-x"), ("edge-a", "edge-a", "both")] {
            let error = baseline().migrate(&here, from, to).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_mac_address_follows_from_the_address() {
        assert_eq!(baseline().mac, "02:48:44:4d:00:28");
    }
}
