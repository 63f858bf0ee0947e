//! The plan for the selected service: from what the agents measure and what the operator wants to the planner's answer.

use std::cell::RefCell;

use mose_pam::{
    BitsPerSec, DirtyRate, Model, Objective, PagesPerSec, PlanRequest, Proposal, Service, Targets, plan,
};
use mose_protocol::forecast::Forecast;
use mose_protocol::{HostName, ServiceName};

use super::Settled;

/// A plan with what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Designed {
    /// What is moved.
    pub service: ServiceName,
    /// From where.
    pub from: HostName,
    /// Whereto.
    pub to: HostName,
    /// What the designer was asked.
    pub request: PlanRequest,
    /// What it answers.
    pub proposal: Proposal,
    /// R̂.
    pub dirty_rate: PagesPerSec,
    /// The name of the calibration.
    pub profile: String,
    /// What a person should know of the figures.
    pub doubts: Vec<String>,
}

impl Designed {
    /// What it promises.
    #[must_use]
    pub fn forecast(&self, objective: Objective) -> Forecast {
        Forecast::of(&self.proposal, &self.request, objective, self.dirty_rate, &self.profile)
    }
}

/// Asks the planner, and remembers what it was asked last and what it answered.
#[derive(Default)]
pub(super) struct Planner {
    last: RefCell<Option<(Model, PlanRequest, Proposal)>>,
}

impl Planner {
    /// The plan for the selected service and destination, or what is missing.
    pub(super) fn outcome(&self, settled: &Settled) -> Result<Designed, String> {
        let planning = &settled.planning;
        let located = settled.service().ok_or("no service is selected")?;
        let to = settled.destination().ok_or("there is no other live edge host")?;
        let (service, from) = (&located.info.name, &located.host.name);
        let metrics = located.host.profile(service).ok_or_else(|| {
            format!("{service} has not been profiled yet: its first sample takes some seconds")
        })?;
        let link = located.host.link(to);
        let available: BitsPerSec = link
            .and_then(|link| link.available)
            .ok_or_else(|| format!("{from} does not know yet what its link to {to} carries"))?;
        let calibrated =
            planning.calibrations.get(&(from.clone(), to.clone())).ok_or_else(|| {
                match settled.source.is_replay() {
                    true => format!("the recording does not tell what {from} knows of migrations to {to}"),
                    false => format!("{from} was not asked yet what it knows of migrations to {to}"),
                }
            })?;
        let mut doubts = planning.checks.doubts(&(service.clone(), from.clone(), to.clone()));
        doubts.extend(calibrated.doubt.iter().cloned());
        if !calibrated.own {
            doubts.push(format!("{from} {to} never calibrated: published parameters, bounds may be far off"));
        }
        let (memory, rate) = (metrics.state, metrics.dirty.worst);
        let interval = calibrated.model.between_rounds(memory, available);
        let request = Service::new(memory, DirtyRate::Measured(rate), interval)
            .map(|service| match metrics.files {
                Some(files) => service.with_files(files.size, files.written_per_s),
                None => service,
            })
            .and_then(|service| {
                let targets = Targets::new(planning.downtime, planning.duration)?;
                PlanRequest::new(service, available, targets, planning.objective)
            })
            .map_err(|error| error.to_string())?
            .within(planning.limits)
            .choosing(planning.rounds);
        Ok(Designed {
            service: service.clone(),
            from: from.clone(),
            to: to.clone(),
            request,
            proposal: self.ask(&calibrated.model, &request),
            dirty_rate: rate,
            profile: calibrated.profile.name.clone(),
            doubts,
        })
    }

    /// The planner's answer: what it was asked before, it is not asked again.
    fn ask(&self, model: &Model, request: &PlanRequest) -> Proposal {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((of, asked, answer)) if of == model && asked == request => *answer,
            _ => last.insert((model.clone(), *request, plan(model, request))).2,
        }
    }
}
