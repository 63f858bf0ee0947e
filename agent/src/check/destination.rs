//! The destination's part: what of a service would collide with what is here, and what it needs that is not.

use std::time::Duration;

use mose_engine::Described;
use mose_pam::Bytes;
use mose_protocol::check::{Arrival, Finding, Machine, Report, Severity};
use mose_protocol::doctor::CheckState;
use mose_protocol::handover::ImagePolicy;
use mose_protocol::{Refusal, RefusalCode};

use crate::agent::Agent;

/// How long the engine may take to look at what it stands on.
const DOCTOR_DEADLINE: Duration = Duration::from_secs(6);

/// What even the smallest service's images may come to.
const LEAST_ROOM: Bytes = Bytes(256 << 20);

impl Agent {
    /// What stands in the way of a service that may come here. Nothing is changed by it.
    pub(crate) async fn compare(&self, arrival: &Arrival) -> Report {
        let mut findings = Vec::new();
        if let Some(here) = self.engine.machine() {
            findings.extend(machine(arrival, &here, self.config.host.as_str()));
            let host = self.config.host.as_str();
            findings
                .extend(self.engine.apparmor_profile(&arrival.container).and_then(|p| confinement(&p, host)));
            if self.engine.health_check_interval(&arrival.container).is_some() {
                findings.extend(health_check(arrival, &here, host));
            }
        }
        // A hand-over's preparation refuses these by itself, before anything is sent.
        if arrival.thorough {
            let service = &arrival.task.service;
            let free = match self.hand_overs.busy_with(service) {
                Some(busy) => Err(busy.refusal(service)),
                None => self.check_free(service, &arrival.place).await,
            };
            if let Err(refusal) = free {
                findings.push(Finding::refused(self.config.host.as_str(), &refusal));
            }
            // The values of secrets travel with an order only.
            let described = Described { container: arrival.container.clone(), secrets: Vec::new() };
            if let Err(refusal) = self.engine.admit(&arrival.task, &described).await {
                findings.push(Finding::refused(self.config.host.as_str(), &refusal));
            }
            findings.extend(self.image(arrival).await);
            findings.extend(self.what_is_broken().await);
        }
        Report {
            service: arrival.task.service.clone(),
            from: arrival.task.from.clone(),
            to: Some(self.config.host.clone()),
            processes: 0,
            descriptors: 0,
            findings,
        }
        .bounded()
    }

    async fn image(&self, arrival: &Arrival) -> Option<Finding> {
        let host = self.config.host.as_str();
        match self.engine.has_image(&arrival.image_id).await {
            Ok(true) => None,
            Ok(false) if arrival.task.image_policy == ImagePolicy::Require => {
                let refusal = Refusal::new(
                    RefusalCode::ImageMissing,
                    format!("{host} lacks the image {}", arrival.image),
                    "pull or load it there, or let the source send it",
                );
                Some(Finding::refused(host, &refusal))
            }
            Ok(false) => {
                let another = self.engine.has_image(&arrival.image).await.is_ok_and(|there| there);
                let reason = if another {
                    format!(
                        "the image {} is another one there; the service's own is sent first",
                        arrival.image
                    )
                } else {
                    format!("the image {} is not there; it is sent first", arrival.image)
                };
                Some(Finding::new(
                    Severity::Note,
                    host,
                    &reason,
                    "podman pull or podman load it there before",
                ))
            }
            Err(refusal) => Some(Finding::refused(host, &refusal)),
        }
    }

    /// What `mose doctor` calls broken here.
    async fn what_is_broken(&self) -> Vec<Finding> {
        let host = self.config.host.as_str();
        let asked = tokio::time::timeout(DOCTOR_DEADLINE, self.engine.doctor(LEAST_ROOM));
        let Ok(checks) = asked.await else {
            let reason = format!("it could not be looked at within {DOCTOR_DEADLINE:?}");
            return vec![Finding::new(Severity::Note, host, &reason, "mose doctor says more")];
        };
        let broken = checks.into_iter().filter(|check| check.state == CheckState::Broken);
        broken
            .map(|check| {
                let resource = format!("{host}: {}", check.what);
                Finding::new(Severity::Blocks, &resource, &check.found, &check.remedy.unwrap_or_default())
            })
            .collect()
    }
}

/// What the service's processes may use of their machine and would miss here.
fn machine(arrival: &Arrival, here: &Machine, host: &str) -> Vec<Finding> {
    let there = &arrival.machine;
    let mut findings = Vec::new();
    if there.architecture != here.architecture {
        let reason = format!(
            "its processor is {}, and that of {} {}",
            here.architecture, arrival.task.from, there.architecture
        );
        findings.push(Finding::new(
            Severity::Blocks,
            host,
            &reason,
            "choose a host of the same architecture",
        ));
    }
    let lacking: Vec<&str> = there
        .instructions
        .iter()
        .filter(|name| !here.instructions.contains(name))
        .map(String::as_str)
        .take(8)
        .collect();
    if !lacking.is_empty() && there.architecture == here.architecture {
        findings.push(Finding::new(
            Severity::Blocks,
            &format!("{host}: processor"),
            &format!("it lacks {}, which the service's programs may be using: they would crash", lacking.join(", ")),
            "choose a host with the same processor, or give the virtual machines of both the same processor model",
        ));
    }
    if arrival.not_root && !here.raises_limits {
        findings.push(Finding::new(
            Severity::Blocks,
            &format!("{host}: process limits"),
            "it gives its programs no CAP_SYS_RESOURCE, without which CRIU cannot restore processes that are not root",
            "give Podman and the agent there CAP_SYS_RESOURCE, or run the service as root in its container",
        ));
    }
    if numbers(&here.kernel) < numbers(&there.kernel) {
        findings.push(Finding::new(
            Severity::Note,
            &format!("{host}: kernel"),
            &format!("it is {}, older than {} on {}", here.kernel, there.kernel, arrival.task.from),
            "what the service uses of the newer kernel must be in the older one",
        ));
    }
    findings
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// An AppArmor profile that must be loaded by hand, where it is not.
fn confinement(profile: &str, host: &str) -> Option<Finding> {
    let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    let known = loaded.lines().any(|line| line.split(' ').next() == Some(profile));
    (!known).then(|| {
        Finding::new(
            Severity::Blocks,
            &format!("{host}: AppArmor profile {profile}"),
            "the container is confined by it, and it is not loaded there",
            "load it there (apparmor_parser), or run the container without it",
        )
    })
}

/// Says that nothing here runs a periodic health check that systemd runs at the source.
fn health_check(arrival: &Arrival, here: &Machine, host: &str) -> Option<Finding> {
    (arrival.machine.systemd && !here.systemd).then(|| {
        Finding::new(
            Severity::LeftBehind,
            &format!("{host}: health check"),
            "that host runs no systemd, so nothing starts the check there",
            "run `podman healthcheck run` from a timer of that host",
        )
    })
}

#[cfg(test)]
mod tests {
    use mose_protocol::container::ContainerDescription;
    use mose_protocol::handover::Place;

    use super::*;
    use crate::check::order::task_of;

    fn arrival() -> Arrival {
        Arrival {
            task: task_of(&"web".parse().unwrap(), &"edge-a".parse().unwrap(), &"edge-b".parse().unwrap())
                .unwrap(),
            place: Place {
                name: "web".into(),
                address: "10.77.0.20/24".parse().unwrap(),
                mac: "0a:00:00:00:00:01".into(),
            },
            container: ContainerDescription::default(),
            image: "localhost/web".into(),
            image_id: "sha256:00".into(),
            machine: Machine {
                architecture: "x86_64".into(),
                instructions: ["avx2", "avx512f"].map(str::to_owned).to_vec(),
                kernel: "6.18.1".into(),
                raises_limits: true,
                systemd: true,
            },
            not_root: true,
            thorough: false,
        }
    }

    #[test]
    fn a_health_check_needs_a_systemd_where_it_had_one() {
        let with = arrival();
        let without_systemd = Machine { systemd: false, ..with.machine.clone() };
        let finding = health_check(&with, &without_systemd, "edge-b").unwrap();
        assert_eq!(
            (finding.severity, finding.resource.as_str()),
            (Severity::LeftBehind, "edge-b: health check")
        );
        assert_eq!(health_check(&with, &with.machine.clone(), "edge-b"), None);
        let neither = Arrival { machine: without_systemd.clone(), ..with };
        assert_eq!(health_check(&neither, &without_systemd, "edge-b"), None);
    }

    #[test]
    fn a_machine_that_has_the_same_is_no_finding_and_a_lesser_one_says_what_it_lacks() {
        let arrival = arrival();
        assert!(machine(&arrival, &arrival.machine.clone(), "edge-b").is_empty());
        let here = Machine {
            instructions: vec!["avx2".into()],
            kernel: "6.12.0-amd64".into(),
            raises_limits: false,
            ..arrival.machine.clone()
        };
        let found = machine(&arrival, &here, "edge-b");
        let told: Vec<(Severity, &str)> =
            found.iter().map(|one| (one.severity, one.resource.as_str())).collect();
        assert_eq!(
            told,
            [
                (Severity::Blocks, "edge-b: processor"),
                (Severity::Blocks, "edge-b: process limits"),
                (Severity::Note, "edge-b: kernel"),
            ]
        );
        assert!(found[0].reason.contains("avx512f"), "{found:?}");
        let other = Machine { architecture: "aarch64".into(), ..arrival.machine.clone() };
        assert!(machine(&arrival, &other, "edge-b")[0].reason.contains("aarch64"));
    }

    #[test]
    fn a_profile_that_is_not_loaded_is_missed_by_name() {
        assert!(confinement("mine", "edge-b").unwrap().resource.contains("mine"));
    }
}
