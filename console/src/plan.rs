//! `mose plan`: what the model would do, from given figures, or from those of the agents.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;

use mose_console::documents::print_json;
use mose_console::exit;
use mose_console::movable;
use mose_console::proposal::{self, Report, Swept};
use mose_orchestrator::calibration::{self, LoadError};
use mose_orchestrator::design::{Given, Wanted, design};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::order::locate;
use mose_pam::{
    Axis, BitsPerSec, Bytes, DirtyRate, InputError, Limits, Millis, Model, NormalizedRate, Objective,
    PagesPerSec, PlanRequest, Proposal, RoundsRule, Service, Sweep, Targets, plan,
};
use mose_protocol::{HostName, Refusal, ServiceName};

use crate::connect::{endpoints, with_fleet};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A running service: what is not given is measured by the agents of its host and of --to.
    #[arg(long, requires = "to", conflicts_with_all = ["normalized_dirty_rate", "working_set", "no_overlay", "sweep"], value_name = "NAME")]
    pub(crate) service: Option<ServiceName>,
    /// Where the service would move.
    #[arg(long, requires = "service", value_name = "HOST")]
    pub(crate) to: Option<HostName>,
    /// Where it runs; found if not given.
    #[arg(long, requires = "service", value_name = "HOST")]
    pub(crate) from: Option<HostName>,
    /// Memory state of the service (M), such as 10MB or 64MiB.
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE")]
    state_size: Option<Bytes>,
    /// Pages that the service dirties per second, at worst (R̂), such as 300p/s.
    #[arg(long, allow_hyphen_values = true, value_name = "RATE")]
    dirty_rate: Option<PagesPerSec>,
    /// The same between the least (0) and the greatest (1) that is possible (r).
    #[arg(long, allow_hyphen_values = true, conflicts_with = "dirty_rate", value_name = "R")]
    normalized_dirty_rate: Option<f64>,
    /// Interval over which the dirty-page rate was observed (ΔT): 1s if not given; with --service, the longest time between two
    /// rounds.
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    delta_t: Option<Millis>,
    /// The most memory that is ever dirty at once; the whole state if not given. It counts for what is expected.
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE")]
    working_set: Option<Bytes>,
    /// Bandwidth that the migration may use (L), such as 1Gbps.
    #[arg(long, allow_hyphen_values = true, value_name = "RATE")]
    bandwidth: Option<BitsPerSec>,
    /// Longest downtime (θ_down), such as 800ms.
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    target_downtime: Option<Millis>,
    /// Longest migration (θ_mig), such as 5s.
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    target_duration: Option<Millis>,
    /// What to minimise: downtime or resources.
    #[arg(long, default_value = "downtime")]
    objective: Objective,
    /// How many rounds of pre-copy (I) if downtime is minimised: enough, the fewest with which the expected downtime is within 2 %
    /// or 2 ms of the best; or paper, the most that fit into --target-duration.
    #[arg(long, default_value = "enough", value_name = "RULE")]
    rounds_rule: RoundsRule,
    /// Calibration: tnsm2024, which is built in, or a profile's TOML file. With --service: that of the two hosts if not given.
    #[arg(long)]
    profile: Option<String>,
    /// Leave out the time of moving the service's address.
    #[arg(long)]
    no_overlay: bool,
    /// The most pre-copy iterations, whatever the targets allow.
    #[arg(long, allow_hyphen_values = true, default_value_t = Limits::default().iterations, value_name = "N")]
    max_iterations: u32,
    /// Vary one input and print a plan for each value, such as target-duration=0.8s..6s/50 or
    /// bandwidth=1Mbps..10Gbps/40/log.
    #[arg(long, value_name = "SWEEP")]
    sweep: Option<Sweep>,
    /// Print the sweep as CSV.
    #[arg(long, requires = "sweep", conflicts_with = "json")]
    csv: bool,
}

/// ΔT of figures that are given without one.
const SECOND: Millis = Millis(1000.0);

/// What is known of a service and of its link, wherever from.
struct Figures {
    service: Service,
    bandwidth: BitsPerSec,
}

#[derive(Debug, thiserror::Error)]
enum PlanError {
    #[error("--{0} is missing: give it, or vary it with --sweep")]
    Missing(Axis),
    #[error("--{0} is missing: give it, such as 800ms; it is no figure that agents can measure")]
    MissingTarget(Axis),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Profile(#[from] LoadError),
}

/// Plans and prints. What was typed is looked at before any agent is asked.
pub(crate) fn run(arguments: &Arguments, connect: &[String], json: bool) -> ExitCode {
    let usage = |error: PlanError| {
        eprintln!("mose: {error}");
        ExitCode::from(exit::USAGE)
    };
    let Some(service) = &arguments.service else {
        let shown = arguments.figures().and_then(|figures| show(arguments, &figures, json));
        return shown.map_or_else(usage, |()| ExitCode::SUCCESS);
    };
    let wanted = match arguments.wanted() {
        Ok(wanted) => wanted,
        Err(error) => return usage(error),
    };
    match endpoints(connect) {
        Ok((endpoints, _)) => with_fleet(&endpoints, json, async |fleet| {
            show_measured(fleet, arguments, service, &wanted, json).await
        }),
        Err(error) => crate::fail(&error),
    }
}

impl Arguments {
    /// What was typed for `axis`; where it is swept, its first value stands in for it.
    fn given<T>(&self, axis: Axis, typed: Option<T>, swept: impl FnOnce(f64) -> T) -> Result<T, PlanError> {
        let first = self.sweep.filter(|sweep| sweep.axis() == axis).map(|sweep| sweep.value(0));
        typed.or_else(|| first.map(swept)).ok_or(if self.service.is_some() {
            PlanError::MissingTarget(axis)
        } else {
            PlanError::Missing(axis)
        })
    }

    /// The figures as they were typed.
    fn figures(&self) -> Result<Figures, PlanError> {
        let memory = self.given(Axis::StateSize, self.state_size, |value| Bytes(value as u64))?;
        let swept = self.sweep.is_some_and(|sweep| sweep.axis() == Axis::NormalizedDirtyRate);
        let rate = match self.normalized_dirty_rate {
            Some(normalized) => DirtyRate::Normalized(NormalizedRate::new(normalized)?),
            None if swept => DirtyRate::Normalized(NormalizedRate::LEAST),
            None => DirtyRate::Measured(self.given(Axis::DirtyRate, self.dirty_rate, PagesPerSec)?),
        };
        let mut service = Service::new(memory, rate, self.delta_t.unwrap_or(SECOND))?;
        if let Some(working_set) = self.working_set {
            service = service.with_working_set(working_set)?;
        }
        let bandwidth = self.given(Axis::Bandwidth, self.bandwidth, |value| BitsPerSec(value as u64))?;
        Ok(Figures { service, bandwidth })
    }

    /// The targets as they were typed. One that is swept and not typed cannot contradict the other.
    fn targets(&self) -> Result<Targets, PlanError> {
        let downtime = self.given(Axis::TargetDowntime, self.target_downtime, |first| {
            self.target_duration.map_or(Millis(first), |duration| Millis(first.min(duration.0)))
        })?;
        let duration =
            self.given(Axis::TargetDuration, self.target_duration, |first| Millis(first.max(downtime.0)))?;
        Ok(Targets::new(downtime, duration)?)
    }
}

/// Plans and prints what the agents' figures come to.
async fn show_measured(
    fleet: &Fleet,
    arguments: &Arguments,
    service: &ServiceName,
    wanted: &Wanted,
    json: bool,
) -> Result<ExitCode, Refusal> {
    let Some(to) = &arguments.to else { return Ok(ExitCode::from(exit::USAGE)) };
    let from = match &arguments.from {
        Some(from) => from.clone(),
        None => locate(fleet, service).await?,
    };
    let design = design(fleet, service, &from, to, wanted).await?;
    let check = mose_orchestrator::movable::check(fleet, service, &from, Some(to)).await;
    if json {
        let check = check.as_ref().ok();
        print_json(&Report::new(&design.proposal, &design.profile.name).with_check(check));
        return Ok(ExitCode::SUCCESS);
    }
    for remark in &design.remarks {
        println!("{remark}");
    }
    let model = Model::new(&design.profile);
    println!("{}", proposal::page(&design.proposal, &model, &design.request, &design.profile.name));
    match check {
        Ok(report) => println!("\n{}", movable::page(&report)),
        // The plan stands without it; the migration asks again.
        Err(refusal) => println!("\nwhether {service} can move is not known: {refusal}"),
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// What a plan from the agents' figures is to be made of.
    fn wanted(&self) -> Result<Wanted, PlanError> {
        Ok(Wanted {
            targets: self.targets()?,
            objective: self.objective,
            limits: Limits { iterations: self.max_iterations },
            rounds: self.rounds_rule,
            profile: self.profile.as_deref().map(calibration::load).transpose()?,
            given: Given {
                state: self.state_size,
                dirty_rate: self.dirty_rate,
                bandwidth: self.bandwidth,
                interval: self.delta_t,
            },
        })
    }
}

fn show(arguments: &Arguments, figures: &Figures, json: bool) -> Result<(), PlanError> {
    let targets = arguments.targets()?;
    let limits = Limits { iterations: arguments.max_iterations };
    let request =
        PlanRequest::new(figures.service, figures.bandwidth, targets, arguments.objective)?.within(limits);
    let request = request.choosing(arguments.rounds_rule);
    let request = if arguments.no_overlay { request.without_overlay() } else { request };
    let profile = calibration::load(arguments.profile.as_deref().unwrap_or(calibration::PUBLISHED))?;
    let model = Model::new(&profile);

    let Some(sweep) = arguments.sweep else {
        let proposal = plan(&model, &request);
        if json {
            print_json(&Report::new(&proposal, &profile.name));
        } else {
            println!("{}", proposal::page(&proposal, &model, &request, &profile.name));
        }
        return Ok(());
    };
    let axis = sweep.axis();
    let plans: Vec<(f64, Proposal)> = sweep.plans(&model, &request).collect();
    if arguments.csv {
        println!("{}", proposal::csv_heading(axis));
        for (value, proposal) in &plans {
            println!("{}", proposal::csv_line(*value, proposal));
        }
    } else if json {
        let swept = |(value, proposal): &(f64, Proposal)| {
            Swept::new(axis, *value, Report::new(proposal, &profile.name))
        };
        print_json(&plans.iter().map(swept).collect::<Vec<_>>());
    } else {
        println!("{}", proposal::sweep(axis, &plans));
    }
    Ok(())
}
