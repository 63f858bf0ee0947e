//! From what the agents measure to a plan for one migration.

use mose_pam::{
    BitsPerSec, Bytes, Calibration, DirtyRate, InputError, Limits, Millis, Model, Objective, PagesPerSec,
    Plan, PlanRequest, Proposal, RoundsRule, Service, Targets, plan,
};
use mose_protocol::agent::Hello;
use mose_protocol::forecast::Forecast;
use mose_protocol::metrics::FileFigures;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, ServiceName};

use crate::calibrate::staleness;
use crate::fleet::Fleet;

/// What is to be planned, and what is given instead of measured.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// θ_down and θ_mig.
    pub targets: Targets,
    /// What to minimise.
    pub objective: Objective,
    /// The most pre-copy iterations.
    pub limits: Limits,
    /// How many rounds of those that fit.
    pub rounds: RoundsRule,
    /// Used instead of the calibration of the two hosts.
    pub profile: Option<Calibration>,
    /// Figures that are given.
    pub given: Given,
}

/// Figures that take the place of measured ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given {
    /// M.
    pub state: Option<Bytes>,
    /// R̂.
    pub dirty_rate: Option<PagesPerSec>,
    /// L: what the migration may use at most.
    pub bandwidth: Option<BitsPerSec>,
    /// ΔT.
    pub interval: Option<Millis>,
}

/// A plan with everything that it was made from.
#[derive(Debug, Clone)]
pub struct Design {
    /// The calibration that it was made with.
    pub profile: Calibration,
    /// What the designer was asked.
    pub request: PlanRequest,
    /// What it answers.
    pub proposal: Proposal,
    /// R̂ as it was given or measured.
    pub dirty_rate: PagesPerSec,
    /// What was minimised.
    pub objective: Objective,
    /// What a person should know of the figures: where they come from, and which of them are doubtful.
    pub remarks: Vec<String>,
}

impl Design {
    /// The order for the agents.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        self.proposal.plan()
    }

    /// Refuses a plan that does not meet its targets.
    ///
    /// # Errors
    /// Which targets are missed and by how much, with what would meet them.
    pub fn insist(&self) -> Result<(), Refusal> {
        let Proposal { downtime, duration, nearest, .. } = &self.proposal;
        let missed: Vec<String> = [("downtime", downtime), ("duration", duration)]
            .into_iter()
            .filter(|(_, verdict)| !verdict.met())
            .map(|(name, verdict)| {
                format!("{name} ≤ {} is wanted and ≤ {} can be promised", verdict.target, verdict.bound)
            })
            .collect();
        if missed.is_empty() {
            return Ok(());
        }
        let remedy = nearest.map_or_else(|| "give looser targets".to_owned(), |nearest| nearest.to_string());
        Err(Refusal::new(
            RefusalCode::Targets,
            format!("the targets are not met: {}", missed.join(", ")),
            format!("{remedy}; without --strict the plan that comes nearest is carried out"),
        ))
    }

    /// What the order promises.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        Forecast::of(&self.proposal, &self.request, self.objective, self.dirty_rate, &self.profile.name)
    }
}

/// Plans the migration of a service from the figures of both agents.
///
/// # Errors
/// Where an agent does not answer, the service cannot be measured, or a figure is impossible.
pub async fn design(
    fleet: &Fleet,
    service: &ServiceName,
    from: &HostName,
    to: &HostName,
    wanted: &Wanted,
) -> Result<Design, Refusal> {
    let destination = fleet.agent(to).await?;
    fleet.agent(from).await?;
    let mut remarks = Vec::new();
    let calibration = match &wanted.profile {
        Some(calibration) => calibration.clone(),
        None => calibration_of(fleet, from, &destination, &mut remarks).await?,
    };
    let Given { state, dirty_rate, bandwidth, interval } = wanted.given;
    let mut files = None;
    let (memory, dirty_rate) = match (state, dirty_rate) {
        (Some(state), Some(rate)) => (state, rate),
        _ => {
            let Reply::Profile(metrics) = fleet.ask(from, &Request::Profile(service.clone())).await? else {
                return Err(unexpected(from));
            };
            remarks.push(format!(
                "{service}: {} of state, {:.0} pages/s dirtied now, {:.0} on average, {:.0} at worst, by {}",
                metrics.state,
                metrics.dirty.current.0,
                metrics.dirty.mean.0,
                metrics.dirty.worst.0,
                metrics.tracker
            ));
            if let Some(FileFigures { size, written_per_s }) = metrics.files {
                remarks.push(format!(
                    "{service}: {size} in volumes and shared memory, {written_per_s}/s written to files at worst"
                ));
            }
            files = metrics.files;
            (state.unwrap_or(metrics.state), dirty_rate.unwrap_or(metrics.dirty.worst))
        }
    };
    let bandwidth = match bandwidth {
        Some(bandwidth) => bandwidth,
        None => available(fleet, from, to, &mut remarks).await?,
    };
    let model = Model::new(&calibration);
    let interval = interval.unwrap_or_else(|| model.between_rounds(memory, bandwidth));
    let request = Service::new(memory, DirtyRate::Measured(dirty_rate), interval)
        .map(|service| match files {
            Some(files) => service.with_files(files.size, files.written_per_s),
            None => service,
        })
        .and_then(|service| PlanRequest::new(service, bandwidth, wanted.targets, wanted.objective))
        .map_err(|error| impossible(&error))?
        .within(wanted.limits)
        .choosing(wanted.rounds);
    let proposal = plan(&model, &request);
    Ok(Design { profile: calibration, request, proposal, dirty_rate, objective: wanted.objective, remarks })
}

/// The calibration of two hosts, or the published one with a remark.
async fn calibration_of(
    fleet: &Fleet,
    from: &HostName,
    to: &Hello,
    remarks: &mut Vec<String>,
) -> Result<Calibration, Refusal> {
    let Reply::Calibration(found) = fleet.ask(from, &Request::Calibration(to.host.clone())).await? else {
        return Err(unexpected(from));
    };
    let Some(text) = found else {
        remarks.push(format!(
            "{from} → {} was never calibrated: the published parameters stand in, and its bounds may be far off; \
             `mose calibrate` measures these hosts",
            to.host
        ));
        return Ok(Calibration::tnsm2024());
    };
    let calibration = Calibration::from_toml(&text).map_err(|error| {
        Refusal::new(
            RefusalCode::Malformed,
            format!("{from}'s calibration for {} is not sound: {error}", to.host),
            "calibrate again: mose calibrate",
        )
    })?;
    if let Some(why) = staleness(&calibration, to) {
        remarks.push(format!(
            "the calibration {} is stale: {why}; `mose calibrate` renews it",
            calibration.name
        ));
    }
    Ok(calibration)
}

/// What the link has left, as the source's agent measured it.
async fn available(
    fleet: &Fleet,
    from: &HostName,
    to: &HostName,
    remarks: &mut Vec<String>,
) -> Result<BitsPerSec, Refusal> {
    let unknown = || {
        Refusal::new(
            RefusalCode::Failed,
            format!("{from} does not know yet what its link to {to} carries"),
            "wait some seconds, or give --bandwidth",
        )
    };
    let known = |reply: Reply| match reply {
        Reply::Links(links) => {
            Ok(links.into_iter().find(|link| &link.to == to).and_then(|link| Some((link.available?, link))))
        }
        _ => Err(unexpected(from)),
    };
    let found = match known(fleet.ask(from, &Request::Links).await?)? {
        Some(found) => Some(found),
        // Agents that have just met have not measured their links yet.
        None => known(fleet.ask(from, &Request::ProbeLink(to.clone())).await?)?,
    };
    let (available, link) = found.ok_or_else(unknown)?;
    let shown = |value: Option<BitsPerSec>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    remarks.push(format!(
        "link {from} → {to}: {available} available of {} ({} used by others), round trip {}",
        shown(link.capacity),
        shown(link.used),
        link.rtt.map_or_else(|| "?".to_owned(), |rtt| rtt.to_string())
    ));
    Ok(available)
}

fn unexpected(host: &HostName) -> Refusal {
    Refusal::new(
        RefusalCode::Malformed,
        format!("{host} gave an answer of another kind"),
        "update the older of agent and console",
    )
}

fn impossible(error: &InputError) -> Refusal {
    Refusal::new(RefusalCode::Malformed, error.to_string(), "give another figure")
}
