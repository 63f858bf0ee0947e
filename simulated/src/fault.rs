//! Faults on demand: what is to go wrong, where, and how often.

use std::time::Duration;

use mose_protocol::{HostName, ServiceName};

/// A step that can be made to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultStep {
    /// Creating the container at the destination.
    Prepare,
    /// The first look at the running service's memory.
    PreDump,
    /// The dump, after the freeze.
    Dump,
    /// A restore, at the destination or back at the source.
    Restore,
}

impl FaultStep {
    /// The name that scenarios use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::PreDump => "pre_dump",
            Self::Dump => "dump",
            Self::Restore => "restore",
        }
    }
}

/// What becomes of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultEffect {
    /// It fails.
    Fail,
    /// A page of the images that are restored is older than it should be.
    StalePage,
    /// The agent of the host that does it dies, and comes back after a while, if ever.
    AgentLost {
        /// After how long.
        back_after: Option<Duration>,
    },
}

/// A fault that waits for its step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which step.
    pub step: FaultStep,
    /// Of which service; `None`: of any.
    pub service: Option<ServiceName>,
    /// On which host; `None`: on any.
    pub host: Option<HostName>,
    /// How many such steps pass before.
    pub after: u32,
    /// How often.
    pub times: u32,
    /// What becomes of it.
    pub effect: FaultEffect,
}

impl Fault {
    fn is_about(&self, host: &HostName, service: &ServiceName, step: FaultStep) -> bool {
        self.step == step
            && self.service.as_ref().is_none_or(|wanted| wanted == service)
            && self.host.as_ref().is_none_or(|wanted| wanted == host)
    }
}

/// What becomes of a step: every fault that is about it counts it, and the first that is due strikes.
pub(crate) fn strike(
    faults: &mut [Fault],
    host: &HostName,
    service: &ServiceName,
    step: FaultStep,
) -> Option<FaultEffect> {
    let mut struck = None;
    for fault in faults.iter_mut().filter(|fault| fault.is_about(host, service, step)) {
        if fault.after > 0 {
            fault.after -= 1;
        } else if fault.times > 0 && struck.is_none() {
            fault.times -= 1;
            struck = Some(fault.effect);
        }
    }
    struck
}

/// An agent that a fault has killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub host: HostName,
    /// When it is to come back; `None`: never by itself.
    pub back_after: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_in_their_turn_and_as_often_as_they_say() {
        let (host, service): (HostName, ServiceName) = ("b".parse().unwrap(), "web".parse().unwrap());
        let fault = |after, times, effect| Fault {
            step: FaultStep::Restore,
            service: Some("web".parse().unwrap()),
            host: Some("b".parse().unwrap()),
            after,
            times,
            effect,
        };
        let lost = FaultEffect::AgentLost { back_after: None };
        let mut faults = [fault(0, 2, FaultEffect::Fail), fault(2, 1, lost)];
        let mut next = |host: &HostName| strike(&mut faults, host, &service, FaultStep::Restore);
        assert_eq!(next(&"a".parse().unwrap()), None, "another host");
        assert_eq!([next(&host), next(&host)], [Some(FaultEffect::Fail); 2]);
        assert_eq!([next(&host), next(&host)], [Some(lost), None]);
    }
}
