//! Who asks: an operator, and every hand-over, before anything is sent or prepared and again before the freeze.

use std::time::Duration;

use mose_bus::peers::QUICK;
use mose_engine::Container;
use mose_movable::Looked;
use mose_pam::Plan;
use mose_protocol::agent::{Capability, Role};
use mose_protocol::check::{Arrival, Finding, Report, Severity};
use mose_protocol::container::ContainerDescription;
use mose_protocol::handover::{FilePolicy, ImagePolicy, Place, Task};
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, ServiceName};

use crate::agent::Agent;
use crate::overlay::overlay_refusal;

/// How long the destination may take to look at itself.
const COMPARE_DEADLINE: Duration = Duration::from_secs(8);

/// A cold migration as it would be ordered without further options.
pub(super) fn task_of(service: &ServiceName, from: &HostName, to: &HostName) -> Result<Task, Refusal> {
    let plan = Plan::cold();
    let migration = "check".parse().map_err(|error: mose_protocol::NameError| {
        Refusal::new(RefusalCode::Failed, error.to_string(), "")
    })?;
    Ok(Task {
        migration,
        service: service.clone(),
        from: from.clone(),
        to: to.clone(),
        plan,
        transport: None,
        image_policy: ImagePolicy::Bring,
        pre_copy: None,
        rehearsal: false,
        files: FilePolicy::default(),
        forecast: None,
    })
}

/// The most things left behind that an event tells of.
const LEFT_BEHIND: usize = 8;

impl Agent {
    /// Whether a service of this host's can move as it is now, and to that host.
    pub(crate) async fn check(
        &self,
        service: &ServiceName,
        to: Option<&HostName>,
    ) -> Result<Report, Refusal> {
        if self.config.role != Role::Edge {
            let reason =
                format!("{} is a {} host and runs no services", self.config.host, self.config.role.name());
            return Err(Refusal::new(RefusalCode::Capability, reason, "ask an edge host"));
        }
        let container = self.engine.inspect(service).await?;
        let mut findings = Vec::new();
        if !container.running {
            let remedy = format!("start it (podman start {service}, or unpause if it is paused)");
            findings.push(Finding::new(Severity::Blocks, "container", "it does not run", &remedy));
        }
        if self.hand_overs.busy_with(service).is_some() {
            let reason = "a migration of it is under way, or in doubt";
            findings.push(Finding::new(
                Severity::Blocks,
                "container",
                reason,
                "wait for its end (mose watch)",
            ));
        }
        let place = match self.place_of(&container).await {
            Ok(place) => Some(place),
            Err(refusal) if refusal.code == RefusalCode::Unmovable => {
                findings.push(Finding::refused("overlay", &refusal));
                None
            }
            Err(refusal) => return Err(refusal),
        };
        let task = task_of(service, &self.config.host, to.unwrap_or(&self.config.host))?;
        let description = match self.engine.describe(&task, &container).await {
            Ok(described) => Some(described.container),
            Err(refusal) if refusal.code == RefusalCode::Unmovable => {
                findings.push(Finding::refused("container", &refusal));
                None
            }
            Err(refusal) => return Err(refusal),
        };
        let looked = if container.running { self.engine.look(&container).await? } else { Looked::default() };
        if let Some(to) = to {
            match (&description, &place) {
                (Some(description), Some(place)) => {
                    let arrival = self.arrival(&container, description, place, &task, looked.not_root, true);
                    findings.extend(self.compared(to, arrival).await?);
                }
                // What cannot be created anywhere is compared with nothing; but the host must be one that could.
                _ => self.able(to)?,
            }
        }
        findings.extend(looked.findings);
        Ok(Report {
            service: service.clone(),
            from: self.config.host.clone(),
            to: to.cloned(),
            processes: looked.processes,
            descriptors: looked.descriptors,
            findings,
        }
        .bounded())
    }

    /// Refuses what could not move, before anything of it is sent or prepared; what of the rest stays behind.
    pub(crate) async fn may_move(
        &self,
        container: &Container,
        description: &ContainerDescription,
        place: &Place,
        task: &Task,
    ) -> Result<Option<String>, Refusal> {
        let looked = self.engine.look(container).await?;
        let arrival = self.arrival(container, description, place, task, looked.not_root, false);
        let mut findings = looked.findings;
        findings.extend(self.compared(&task.to, arrival).await?);
        let left = findings.iter().filter(|finding| finding.severity == Severity::LeftBehind);
        let left: Vec<String> = left.take(LEFT_BEHIND).map(Finding::told).collect();
        self.verdict(container, findings)?;
        Ok((!left.is_empty()).then(|| format!("left behind: {}", left.join("; "))))
    }

    /// Refuses what came in the way since.
    pub(crate) async fn still_movable(&self, container: &Container) -> Result<(), Refusal> {
        self.verdict(container, self.engine.look(container).await?.findings)
    }

    fn verdict(&self, container: &Container, findings: Vec<Finding>) -> Result<(), Refusal> {
        let (service, from) = (container.name.clone(), self.config.host.clone());
        Report { service, from, to: None, processes: 0, descriptors: 0, findings }.bounded().verdict()
    }

    /// The place on the overlay of a container of this host's.
    async fn place_of(&self, container: &Container) -> Result<Place, Refusal> {
        let endpoints = self.overlay.endpoints().await.map_err(|error| overlay_refusal(&error))?;
        let found = endpoints.into_iter().find(|endpoint| Some(&endpoint.netns) == container.netns.as_ref());
        let spec = found.map(|endpoint| endpoint.spec).ok_or_else(|| {
            Refusal::new(
                RefusalCode::Unmovable,
                format!("{} is not on the overlay, so its clients could not follow it", container.name),
                "attach a namespace (mose-agent attach NAME --address …) and run the container with \
                 --network ns:/run/netns/NAME",
            )
        })?;
        Ok(Place { name: spec.name, address: spec.address, mac: spec.mac.to_string() })
    }

    fn arrival(
        &self,
        container: &Container,
        description: &ContainerDescription,
        place: &Place,
        task: &Task,
        not_root: bool,
        thorough: bool,
    ) -> Arrival {
        Arrival {
            task: task.clone(),
            place: place.clone(),
            container: description.clone(),
            image: container.image.clone(),
            image_id: container.image_id.clone(),
            machine: self.engine.machine().unwrap_or_default(),
            not_root,
            thorough,
        }
    }

    /// Whether that host could be a destination at all.
    fn able(&self, to: &HostName) -> Result<(), Refusal> {
        if to == &self.config.host {
            let reason = format!("source and destination are both {to}");
            return Err(Refusal::new(RefusalCode::SameHost, reason, "choose another host with --to"));
        }
        let peer = self.peers.get(to)?;
        if !peer.capabilities.contains(&Capability::Containers) {
            let reason = format!("{to} is a {} host and runs no services", peer.role.name());
            return Err(Refusal::new(RefusalCode::Capability, reason, "choose an edge host"));
        }
        Ok(())
    }

    /// What that host says of the service.
    async fn compared(&self, to: &HostName, arrival: Arrival) -> Result<Vec<Finding>, Refusal> {
        self.able(to)?;
        let deadline = if arrival.thorough { COMPARE_DEADLINE } else { QUICK };
        match self.requests.ask(to, &Request::Compare(Box::new(arrival)), deadline).await? {
            Reply::Check(report) => Ok(report.bounded().findings),
            _ => Err(Refusal::new(
                RefusalCode::Malformed,
                format!("{to} gave an answer of another kind"),
                "run the same release of MOSE on both hosts",
            )),
        }
    }
}
