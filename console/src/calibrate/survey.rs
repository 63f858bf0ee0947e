//! Calibration of any two hosts by services that run there already: each is migrated to and fro, cold and by iterative pre-copy,
//! and ends where it began. The lab's own grid starts its counters itself; elsewhere the operator starts what is to be moved,
//! best counters of different sizes.

use mose_pam::{BitsPerSec, Plan, Profile, Sample, Strategy};
use mose_protocol::handover::ImagePolicy;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, ServiceName};
use serde::Serialize;

use super::{profile, sample};
use crate::fleet::Fleet;
use crate::order::{self, Order, locate};

/// Iterations of the migrations that measure rounds.
const ITERATIONS: u32 = 4;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The two hosts.
    pub hosts: [HostName; 2],
    /// What is moved between them.
    pub services: Vec<ServiceName>,
    /// What the link between them carries; measured if not given.
    pub bandwidth: Option<BitsPerSec>,
    /// How often each service is moved in each direction by each strategy.
    pub repeats: u32,
}

/// A fitted profile and what it was fitted to.
#[derive(Debug, Clone, Serialize)]
pub struct Fitted {
    /// The source, which keeps it.
    pub from: HostName,
    /// The destination.
    pub to: HostName,
    /// The profile.
    pub profile: Profile,
    /// What it was fitted to.
    pub samples: Vec<Sample>,
}

/// Measures, fits, and has both hosts keep what was found; `tell` hears of each migration before it is ordered.
///
/// # Errors
/// Where a service is not on one of the hosts, a migration does not end well, or what was measured does not determine the
/// parameters: such as with services of one size only.
pub async fn survey(
    fleet: &Fleet,
    survey: &Survey,
    mut tell: impl FnMut(String),
) -> Result<Vec<Fitted>, Refusal> {
    let [one, other] = &survey.hosts;
    let mut samples: Vec<(HostName, Sample)> = Vec::new();
    for service in &survey.services {
        let begin = locate(fleet, service).await?;
        if begin != *one && begin != *other {
            return Err(Refusal::new(
                RefusalCode::UnknownService,
                format!("{service} runs on {begin}, and neither on {one} nor on {other}"),
                "name services that run on one of the two hosts",
            ));
        }
        let away = if begin == *one { other } else { one };
        for strategy in [Strategy::IterativePrecopy, Strategy::Cold] {
            for number in 0..survey.repeats.max(1) * 2 {
                let (from, to) = if number % 2 == 0 { (&begin, away) } else { (away, &begin) };
                let Reply::Profile(metrics) = fleet.ask(from, &Request::Profile(service.clone())).await?
                else {
                    return Err(unexpected(from));
                };
                let link = match survey.bandwidth {
                    Some(bandwidth) => bandwidth,
                    None => capacity(fleet, from, to).await?,
                };
                tell(format!("{service} {from} → {to}, {} of state, {strategy}", metrics.state));
                let record = migrate(fleet, service, from, to, strategy).await?;
                if let Some(sample) = sample(&record, metrics.state, rate(&record), link) {
                    samples.push((from.clone(), sample));
                }
            }
        }
    }
    let mut fitted = Vec::new();
    for (from, to) in [(one, other), (other, one)] {
        let own = samples.iter().filter(|(source, _)| source == from).map(|(_, sample)| sample.clone());
        let own: Vec<Sample> = own.collect();
        let hello = fleet.introduce(to).await?;
        let failed = |error: &dyn std::fmt::Display| {
            let remedy = "move at least two services of different sizes that hardly write to their memory";
            Refusal::new(RefusalCode::Failed, format!("{from} → {to} cannot be fitted: {error}"), remedy)
        };
        let profile = profile(&own, from, &hello).map_err(|error| failed(&error))?;
        let text = profile.to_toml().map_err(|error| failed(&error))?;
        fleet.ask(from, &Request::Calibrate { to: to.clone(), profile: text }).await?;
        fitted.push(Fitted { from: from.clone(), to: to.clone(), profile, samples: own });
    }
    Ok(fitted)
}

/// r of what was moved: the services that are named hardly write to their memory, which counts as the least there is; a cold dump
/// holds all pages.
const fn rate(record: &Record) -> f64 {
    if record.rounds.is_empty() { 1.0 } else { 0.0 }
}

async fn capacity(fleet: &Fleet, from: &HostName, to: &HostName) -> Result<BitsPerSec, Refusal> {
    let Reply::Links(links) = fleet.ask(from, &Request::Links).await? else { return Err(unexpected(from)) };
    links.iter().find(|link| &link.to == to).and_then(|link| link.available).ok_or_else(|| {
        Refusal::new(
            RefusalCode::Failed,
            format!("{from} does not know yet what its link to {to} carries"),
            "wait some seconds, or give --bandwidth",
        )
    })
}

async fn migrate(
    fleet: &Fleet,
    service: &ServiceName,
    from: &HostName,
    to: &HostName,
    strategy: Strategy,
) -> Result<Record, Refusal> {
    let order = Order {
        service: service.clone(),
        from: Some(from.clone()),
        to: to.clone(),
        plan: Plan {
            strategy,
            iterations: (strategy == Strategy::IterativePrecopy).then_some(ITERATIONS),
            bandwidth: None,
        },
        transport: None,
        image_policy: ImagePolicy::Bring,
        pre_copy: None,
        forecast: None,
    };
    let record = Box::pin(order::carry_out(fleet, &order, |_| {})).await?;
    if record.outcome == Outcome::Done {
        return Ok(record);
    }
    let why = record.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Err(Refusal::new(
        RefusalCode::Failed,
        format!("a migration of {service} from {from} to {to} was {}{why}", record.outcome.name()),
        "mend that first; the service is where the record says",
    ))
}

fn unexpected(host: &HostName) -> Refusal {
    Refusal::new(
        RefusalCode::Malformed,
        format!("{host} gave an answer of another kind"),
        "update the older of agent and console",
    )
}
