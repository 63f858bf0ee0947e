//! Whether the container images of the services elsewhere are here: a service that comes needs its image.

use std::collections::BTreeSet;

use mose_bus::peers::QUICK;
use mose_engine::Engine;
use mose_pam::Bytes;
use mose_protocol::agent::{Capability, ServiceInfo};
use mose_protocol::doctor::Check;
use mose_protocol::{HostName, Refusal, Reply, Request};

use crate::agent::Agent;

const WHAT: &str = "container images";

/// The most images that are looked for.
const MOST: usize = 64;

/// What runs on the other edge hosts.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// The names of their images.
    images: BTreeSet<String>,
    /// The memory of the largest of the services.
    pub(super) largest: Bytes,
    /// Hosts that did not say.
    silent: Vec<String>,
    /// Hosts that did.
    hosts: usize,
}

impl Elsewhere {
    fn add(&mut self, host: &HostName, services: Result<Vec<ServiceInfo>, Refusal>) {
        match services {
            Ok(services) => {
                self.hosts += 1;
                for service in services {
                    self.largest = self.largest.max(service.memory.unwrap_or_default());
                    self.images.insert(service.image);
                }
            }
            Err(refusal) => self.silent.push(format!("{host} ({})", refusal.reason)),
        }
    }
}

/// Asks the other edge hosts what they run.
pub(super) async fn elsewhere(agent: &Agent) -> Elsewhere {
    let hosts =
        agent.peers.live().into_iter().filter(|hello| hello.capabilities.contains(&Capability::Containers));
    let asked = hosts.map(|hello| async move {
        let services = match agent.requests.ask(&hello.host, &Request::Services, QUICK).await {
            Ok(Reply::Services(services)) => Ok(services),
            Ok(_) => Ok(Vec::new()),
            Err(refusal) => Err(refusal),
        };
        (hello.host, services)
    });
    let mut elsewhere = Elsewhere::default();
    for (host, services) in futures_util::future::join_all(asked).await {
        elsewhere.add(&host, services);
    }
    elsewhere
}

/// Looks for the images of the services elsewhere.
pub(super) async fn checks(engine: &dyn Engine, elsewhere: &Elsewhere) -> Vec<Check> {
    let mut missing = Vec::new();
    let mut unclear = None;
    for image in elsewhere.images.iter().take(MOST) {
        match engine.has_image(image).await {
            Ok(true) => {}
            Ok(false) => missing.push(image.as_str()),
            Err(refusal) => unclear = Some(refusal),
        }
    }
    vec![judge(elsewhere, &missing, unclear.as_ref())]
}

fn judge(elsewhere: &Elsewhere, missing: &[&str], unclear: Option<&Refusal>) -> Check {
    if let Some(refusal) = unclear {
        return Check::unknown(WHAT, refusal.reason.as_str(), refusal.remedy.as_str());
    }
    if !missing.is_empty() {
        return Check::fallback(
            WHAT,
            format!("not here, and in use elsewhere: {}", missing.join(", ")),
            "the source sends a missing image before the freeze, which lengthens the migration and not the downtime",
            "podman pull or podman load them here; `mose migrate --require-image` refuses instead of sending",
        );
    }
    if !elsewhere.silent.is_empty() {
        return Check::unknown(
            WHAT,
            format!("which are needed is not known: {}", elsewhere.silent.join(", ")),
            "see whether the agents there run (`mose agents`), then ask again",
        );
    }
    let count = elsewhere.images.len();
    if count > MOST {
        let reason = format!("{count} are in use elsewhere, of which {MOST} were looked for and are here");
        return Check::unknown(WHAT, reason, "look for the others with podman images; a missing one is sent");
    }
    // Whether a tag means the same image on both hosts shows when a migration is prepared.
    Check::ok(
        WHAT,
        match (elsewhere.hosts, count) {
            (0, _) => "there is no other edge host".to_owned(),
            (_, 0) => "no service runs elsewhere".to_owned(),
            _ => format!("all {count} that services elsewhere use are here by name"),
        },
    )
}

#[cfg(test)]
mod tests {
    use mose_protocol::RefusalCode;
    use mose_protocol::agent::ServiceState;
    use mose_protocol::doctor::CheckState;

    use super::*;

    fn service(name: &str, image: &str, memory: u64) -> ServiceInfo {
        ServiceInfo {
            connections: None,
            name: name.parse().unwrap(),
            host: "edge-b".parse().unwrap(),
            state: ServiceState::Running,
            image: image.into(),
            address: None,
            memory: Some(Bytes(memory)),
            processes: Some(1),
        }
    }

    #[test]
    fn a_missing_image_is_sent_and_a_silent_host_leaves_it_unknown() {
        let mut elsewhere = Elsewhere::default();
        assert_eq!(judge(&elsewhere, &[], None).found, "there is no other edge host");
        let services = vec![service("a", "localhost/a", 7), service("b", "localhost/b", 5)];
        elsewhere.add(&"edge-b".parse().unwrap(), Ok(services));
        assert_eq!(elsewhere.largest, Bytes(7));
        assert_eq!(judge(&elsewhere, &[], None).state, CheckState::Ok);
        let missing = judge(&elsewhere, &["localhost/b"], None);
        assert_eq!(missing.state, CheckState::Fallback);
        assert!(missing.found.contains("localhost/b"), "{missing:?}");
        let refusal = Refusal::new(RefusalCode::Unreachable, "nobody answers", "");
        elsewhere.add(&"edge-c".parse().unwrap(), Err(refusal.clone()));
        let unknown = judge(&elsewhere, &[], None);
        assert_eq!(unknown.state, CheckState::Unknown);
        assert!(unknown.found.contains("edge-c (nobody answers)"), "{unknown:?}");
        assert_eq!(judge(&elsewhere, &[], Some(&refusal)).state, CheckState::Unknown);
    }
}
