//! What the engine stands on: Podman behind its socket, CRIU against the kernel, the means of finding dirty pages.

mod criu;
mod podman;
mod tracker;

use std::path::Path;
use std::time::Duration;

use mose_movable::Options;
use mose_pam::Bytes;
use mose_protocol::doctor::Check;

use super::hooks;
use super::socket::Socket;

/// For one answer of Podman, CRIU or the kernel.
const ANSWER: Duration = Duration::from_secs(6);

/// Looks at everything; `room` is what the images of a service may take.
pub(super) async fn checks(socket: &Socket, room: Bytes) -> Vec<Check> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (podman, criu, (means, tracker)) = tokio::join!(
        podman::checks(socket, room),
        criu::checks(Path::new(criu::PROGRAM), kernel.trim(), &hooks::CRIU_CONFIGURATIONS),
        tracker::check(),
    );
    let mut checks = podman;
    checks.extend(criu.into_checks(means.as_deref()));
    checks.push(tracker);
    checks.push(Options::read(&hooks::CRIU_CONFIGURATIONS).check());
    checks.push(mose_movable::limits());
    checks.push(hook());
    checks
}

/// Whether CRIU comes to the agent at every stage.
fn hook() -> Check {
    const WHAT: &str = "CRIU hook";
    match hooks::check_configured() {
        Ok(()) => Check::ok(WHAT, "CRIU asks the agent at every stage"),
        Err(refusal) => Check::broken(WHAT, refusal.reason, refusal.remedy),
    }
}

#[cfg(test)]
mod tests {
    use mose_protocol::doctor::CheckState;

    use super::*;

    #[tokio::test]
    async fn everything_is_looked_at_whatever_the_host_lacks_and_what_depends_on_it_is_unknown() {
        let checks = checks(&Socket::new(Path::new("/nowhere/podman.sock")), Bytes(1)).await;
        let names: Vec<&str> = checks.iter().map(|check| check.what.as_str()).collect();
        let expected = [
            "Podman",
            "container storage",
            "CRIU",
            "soft-dirty",
            "network lock",
            "dirty-page tracker",
            "CRIU options",
            "process limits",
            "CRIU hook",
        ];
        assert_eq!(names, expected);
        assert_eq!((checks[0].state, checks[1].state), (CheckState::Broken, CheckState::Unknown));
        for check in checks.iter().filter(|check| check.state != CheckState::Ok) {
            assert!(
                check.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty()),
                "{check:?} has no remedy"
            );
        }
    }
}
