//! The orchestration algorithm: from figures, targets and an objective to a plan (WCNC 2024, Fig. 3).

use serde::{Deserialize, Serialize};

use crate::kpi::{least_bandwidth, most_iterations};
use crate::model::{Costs, Model};
use crate::plan::{Plan, Strategy};
use crate::request::{Limits, Objective, PlanRequest};
use crate::rounds::{Rounds, RoundsRule};
use crate::service::{NormalizedRate, Service, Targets};
use crate::trajectory::{Kpis, Trajectory};
use crate::units::{BitsPerSec, Millis};
use crate::why::{Nearest, Why};

/// Upper bounds of a plan's components at the bandwidth that it allocates; what it does not do takes no time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Components {
    /// Preparing the destination.
    pub prepare: Millis,
    /// T_p.
    pub predump: Millis,
    /// V_0/L.
    pub transfer_predump: Millis,
    /// T_round: one iteration, without its transfer.
    pub round: Millis,
    /// T_d.
    pub dump: Millis,
    /// V/L: of the final dump, and of each iteration.
    pub transfer_dump: Millis,
    /// T_r.
    pub restore: Millis,
    /// T_add.
    pub overlay: Millis,
    /// The first pass over the files that move beside the memory, while the service runs.
    #[serde(default)]
    pub files: Millis,
    /// Each pass after it: before an iteration, and after the freeze.
    #[serde(default)]
    pub files_changed: Millis,
}

/// A target and the bound that is held against it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// θ.
    pub target: Millis,
    /// The bound.
    pub bound: Millis,
}

impl Verdict {
    /// Whether the bound meets the target.
    #[must_use]
    pub fn met(&self) -> bool {
        self.bound <= self.target
    }

    /// What is left of the target; negative where it is missed.
    #[must_use]
    pub fn margin(&self) -> Millis {
        Millis(self.target.0 - self.bound.0)
    }
}

/// A plan, what it promises and why it is as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// How the state is moved.
    pub strategy: Strategy,
    /// I; `None` for a cold migration.
    pub iterations: Option<u32>,
    /// How I was chosen, and among how many; `None` for a cold migration.
    pub rounds: Option<Rounds>,
    /// L to allocate.
    pub bandwidth: BitsPerSec,
    /// r of the service; a cold migration is bounded at r = 1 whatever it is.
    pub rate: NormalizedRate,
    /// Upper bounds.
    pub bound: Kpis,
    /// What will probably happen.
    pub expected: Kpis,
    /// Upper bounds of the parts.
    pub components: Components,
    /// θ_down against its bound.
    pub downtime: Verdict,
    /// θ_mig against its bound.
    pub duration: Verdict,
    /// The branch taken.
    pub why: Why,
    /// What would meet the targets that are missed; `None` where all are met.
    pub nearest: Option<Nearest>,
}

impl Proposal {
    /// The order for the agents.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        Plan {
            strategy: self.strategy,
            iterations: self.iterations,
            bandwidth: Some(self.bandwidth),
            end_early: matches!(self.rounds, Some(Rounds { rule: RoundsRule::Enough, .. })),
        }
    }
}

/// What the algorithm decides, before anything is explained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision {
    /// `None`: cold.
    pub(crate) iterations: Option<u32>,
    pub(crate) bandwidth: BitsPerSec,
    pub(crate) bound: Kpis,
}

/// Bounds of a service's migration: at its r, and at r = 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) precopy: Costs,
    pub(crate) cold: Costs,
}

impl Bounds {
    pub(crate) fn new(model: &Model, service: &Service, rate: NormalizedRate, overlay: bool) -> Self {
        Self {
            precopy: Costs { files: service.files, ..model.bounds(service.memory, rate, overlay) },
            cold: Costs {
                files: service.files,
                ..model.bounds(service.memory, NormalizedRate::GREATEST, overlay)
            },
        }
    }

    fn cold_at(&self, bandwidth: BitsPerSec) -> Decision {
        let bound = Kpis {
            downtime: self.cold.downtime().at(bandwidth),
            duration: self.cold.cold_duration().at(bandwidth),
        };
        Decision { iterations: None, bandwidth, bound }
    }

    fn precopy_at(&self, iterations: u32, bandwidth: BitsPerSec) -> Decision {
        let bound = Kpis {
            downtime: self.precopy.downtime().at(bandwidth),
            duration: self.precopy.duration(u64::from(iterations)).at(bandwidth),
        };
        Decision { iterations: Some(iterations), bandwidth, bound }
    }

    /// The algorithm proper: with the most iterations that fit. Fewer meet the same targets.
    pub(crate) fn decide(
        &self,
        targets: &Targets,
        bandwidth: BitsPerSec,
        objective: Objective,
        limits: Limits,
    ) -> Decision {
        match objective {
            Objective::Downtime => {
                let most = most_iterations(&self.precopy, bandwidth, targets.duration, limits.iterations);
                match most {
                    None => self.cold_at(bandwidth),
                    Some(iterations) => self.precopy_at(iterations, bandwidth),
                }
            }
            Objective::Resources => self.cold_at(self.least_for(targets, bandwidth).unwrap_or(bandwidth)),
        }
    }

    /// The least of `bandwidth` with which a cold migration meets θ_down, and θ_mig too where that is possible.
    fn least_for(&self, targets: &Targets, bandwidth: BitsPerSec) -> Option<BitsPerSec> {
        let within = |least: &BitsPerSec| *least <= bandwidth;
        let downtime = least_bandwidth(self.cold.downtime(), targets.downtime).filter(within)?;
        let duration = least_bandwidth(self.cold.cold_duration(), targets.duration).filter(within);
        Some(duration.map_or(downtime, |duration| downtime.max(duration)))
    }
}

/// Plans a migration.
#[must_use]
pub fn plan(model: &Model, request: &PlanRequest) -> Proposal {
    let rate = model.normalized(&request.service);
    let bounds = Bounds::new(model, &request.service, rate, request.overlay);
    let decision = bounds.decide(&request.targets, request.bandwidth, request.objective, request.limits);
    let most = decision.iterations;
    let trajectory =
        most.map(|_| Trajectory::new(model, &request.service, decision.bandwidth, request.overlay));
    let enough = match (request.rounds, most, &trajectory) {
        (RoundsRule::Enough, Some(most), Some(trajectory)) => Some(trajectory.enough(most)),
        _ => None,
    };
    let decision = match enough {
        Some(enough) => bounds.precopy_at(enough.iterations, decision.bandwidth),
        None => decision,
    };
    let Decision { iterations, bandwidth, bound } = decision;
    let strategy = match iterations {
        None => Strategy::Cold,
        Some(0) => Strategy::Precopy,
        Some(_) => Strategy::IterativePrecopy,
    };
    let downtime = Verdict { target: request.targets.downtime, bound: bound.downtime };
    let duration = Verdict { target: request.targets.duration, bound: bound.duration };
    let missed = !(downtime.met() && duration.met());
    Proposal {
        strategy,
        iterations,
        rounds: iterations.zip(most).map(|(chosen, most)| Rounds { rule: request.rounds, chosen, most }),
        bandwidth,
        rate,
        bound,
        expected: expected(model, request, &decision, trajectory.as_ref()),
        components: components(&bounds, &decision),
        downtime,
        duration,
        why: match enough.zip(most) {
            Some((enough, most)) if enough.iterations < most => Why::Enough {
                rounds: enough.iterations,
                most,
                downtime: enough.downtime,
                least: enough.least,
                target: duration.target,
                capped: bounds.precopy.duration(u64::from(most) + 1).at(bandwidth) <= duration.target,
            },
            _ => why(&bounds, request, &decision),
        },
        nearest: missed.then(|| nearest(&bounds, request, &downtime, &duration)),
    }
}

fn expected(
    model: &Model,
    request: &PlanRequest,
    decision: &Decision,
    trajectory: Option<&Trajectory>,
) -> Kpis {
    match decision.iterations.zip(trajectory) {
        Some((iterations, trajectory)) => trajectory.expected(iterations),
        None => {
            let service = &request.service;
            let costs = model.costs(service.memory, NormalizedRate::GREATEST, request.overlay);
            let costs = Costs { files: service.files, ..costs };
            Kpis {
                downtime: costs.downtime().at(decision.bandwidth),
                duration: costs.cold_duration().at(decision.bandwidth),
            }
        }
    }
}

fn components(bounds: &Bounds, decision: &Decision) -> Components {
    let none = Millis(0.0);
    let transfer = |volume: f64| Millis(volume * 8e3 / decision.bandwidth.0 as f64);
    let costs = if decision.iterations.is_some() { &bounds.precopy } else { &bounds.cold };
    let (predump, transfer_predump, round) = match decision.iterations {
        None => (none, none, none),
        Some(iterations) => {
            (costs.predump, transfer(costs.predump_volume), if iterations > 0 { costs.round } else { none })
        }
    };
    Components {
        prepare: costs.prepare,
        predump,
        transfer_predump,
        round,
        dump: costs.dump,
        transfer_dump: transfer(costs.dump_volume),
        restore: costs.restore,
        overlay: costs.overlay,
        files: costs.files.first_at(decision.bandwidth),
        files_changed: costs.files.changed_at(decision.bandwidth),
    }
}

fn why(bounds: &Bounds, request: &PlanRequest, decision: &Decision) -> Why {
    let targets = &request.targets;
    let duration = |iterations: u64| bounds.precopy.duration(iterations).at(request.bandwidth);
    match (request.objective, decision.iterations) {
        (Objective::Downtime, None) => {
            Why::NotEvenPrecopy { duration: duration(0), target: targets.duration }
        }
        (_, Some(iterations)) => {
            let next = duration(u64::from(iterations) + 1);
            let capped = next <= targets.duration;
            let (duration, target) = (decision.bound.duration, targets.duration);
            if iterations == 0 {
                Why::Precopy { duration, next, target, capped }
            } else {
                Why::Iterative { iterations, duration, next, target, capped }
            }
        }
        (Objective::Resources, None) => {
            let line = bounds.cold.downtime();
            let least = least_bandwidth(line, targets.downtime);
            let available = request.bandwidth;
            match least {
                Some(least) if least < decision.bandwidth && decision.bound.duration <= targets.duration => {
                    Why::LeastBandwidthForDuration {
                        least: decision.bandwidth,
                        available,
                        target: targets.duration,
                    }
                }
                Some(least) if least <= available => {
                    Why::LeastBandwidth { least, available, target: targets.downtime }
                }
                least => {
                    Why::BandwidthShort { least, available, fixed: line.fixed, target: targets.downtime }
                }
            }
        }
    }
}

/// What would meet the targets that are missed. Planned again, a higher bandwidth never lengthens a bound: it turns cold
/// into pre-copy where that begins to fit, and pre-copy stops the service for no longer than cold does.
fn nearest(bounds: &Bounds, request: &PlanRequest, downtime: &Verdict, duration: &Verdict) -> Nearest {
    let Bounds { precopy, cold } = bounds;
    let targets = &request.targets;
    match request.objective {
        Objective::Downtime => {
            let predump_fits = least_bandwidth(precopy.duration(0), targets.duration);
            let either = |a: Option<BitsPerSec>, b: Option<BitsPerSec>| a.into_iter().chain(b).min();
            let both = |a: Option<BitsPerSec>, b: Option<BitsPerSec>| Some(a?.max(b?));
            let for_downtime = either(
                least_bandwidth(cold.downtime(), targets.downtime),
                both(predump_fits, least_bandwidth(precopy.downtime(), targets.downtime)),
            );
            let for_duration = either(predump_fits, least_bandwidth(cold.cold_duration(), targets.duration));
            let bandwidth = match (downtime.met(), duration.met()) {
                (true, true) => None,
                (false, true) => for_downtime,
                (true, false) => for_duration,
                (false, false) => both(for_downtime, for_duration),
            };
            if duration.met() {
                return Nearest { bandwidth, downtime: Some(downtime.bound), duration: None };
            }
            // The tightest θ_mig that is met decides between cold and pre-copy, and with it the downtime.
            let with_predump = precopy.duration(0).at(request.bandwidth);
            let without = cold.cold_duration().at(request.bandwidth);
            let line = if with_predump <= without { precopy.downtime() } else { cold.downtime() };
            let stopped = line.at(request.bandwidth);
            Nearest {
                bandwidth,
                downtime: (stopped > targets.downtime).then_some(stopped),
                duration: Some(if with_predump <= without { with_predump } else { without }),
            }
        }
        Objective::Resources => {
            let for_downtime = least_bandwidth(cold.downtime(), targets.downtime);
            let for_duration = least_bandwidth(cold.cold_duration(), targets.duration);
            let bandwidth = for_downtime.zip(for_duration).map(|(a, b)| a.max(b));
            let stopped = cold.downtime().at(request.bandwidth);
            Nearest {
                bandwidth,
                downtime: (!downtime.met()).then_some(stopped),
                duration: (!duration.met()).then(|| cold.cold_duration().at(request.bandwidth)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Calibration;
    use crate::service::{DirtyRate, Service};
    use crate::units::Bytes;

    fn planned(r: f64, targets: (f64, f64), objective: Objective, limits: Limits) -> Proposal {
        let rate = DirtyRate::Normalized(NormalizedRate::new(r).unwrap());
        let service = Service::new(Bytes(10_000_000), rate, Millis(1000.0)).unwrap();
        let targets = Targets::new(Millis(targets.0), Millis(targets.1)).unwrap();
        let request = PlanRequest::new(service, BitsPerSec(1_000_000_000), targets, objective).unwrap();
        plan(&Model::new(&Calibration::tnsm2024()), &request.within(limits).choosing(RoundsRule::Paper))
    }

    /// The plans of a service of 10 MB by both rules: as the paper makes it, and with enough rounds.
    fn by_both(rate: f64, bandwidth: u64, duration: f64, limits: Limits) -> (Proposal, Proposal) {
        let rate = DirtyRate::Measured(crate::units::PagesPerSec(rate));
        let service = Service::new(Bytes(10_000_000), rate, Millis(1000.0)).unwrap();
        let targets = Targets::new(Millis(1000.0), Millis(duration)).unwrap();
        let request = PlanRequest::new(service, BitsPerSec(bandwidth), targets, Objective::Downtime).unwrap();
        let model = Model::new(&Calibration::tnsm2024());
        let by = |rule| plan(&model, &request.within(limits).choosing(rule));
        (by(RoundsRule::Paper), by(RoundsRule::Enough))
    }

    #[test]
    fn an_idle_service_is_not_copied_over_and_over() {
        let (paper, enough) = by_both(0.0, 1_000_000_000, 5000.0, Limits::default());
        let told = |rule, chosen| Some(Rounds { rule, chosen, most: 15 });
        assert_eq!((paper.iterations, paper.rounds), (Some(15), told(RoundsRule::Paper, 15)));
        assert_eq!((enough.iterations, enough.rounds), (Some(0), told(RoundsRule::Enough, 0)));
        assert_eq!(enough.strategy, Strategy::Precopy);
        // What is promised of the downtime does not depend on the rounds.
        assert_eq!(enough.bound.downtime, paper.bound.downtime);
        assert!(enough.bound.duration < paper.bound.duration);
        assert!(enough.plan().end_early && !paper.plan().end_early);
        let why = enough.why.to_string();
        assert!(why.contains("no round after the first copy") && why.contains("with 15, the most"), "{why}");
    }

    #[test]
    fn rounds_are_made_while_they_shorten_the_expected_downtime() {
        let (paper, enough) = by_both(300.0, 100_000_000, 20_000.0, Limits::default());
        let (rounds, most) = (enough.iterations.unwrap(), paper.iterations.unwrap());
        assert!(0 < rounds && rounds < most, "{rounds} of {most}");
        let Why::Enough { downtime, least, .. } = enough.why else { panic!("{}", enough.why) };
        assert!((downtime.0 - enough.expected.downtime.0).abs() < 1e-6);
        assert!((least.0 - paper.expected.downtime.0).abs() < 1e-6);
        assert!(downtime.0 - least.0 <= RoundsRule::slack(least).0);
        // Where all that fit are worth it, both rules say the same.
        let (paper, enough) = by_both(300.0, 100_000_000, 20_000.0, Limits { iterations: 1 });
        assert_eq!((paper.iterations, enough.iterations), (Some(1), Some(1)));
        assert_eq!(paper.why, enough.why);
    }

    #[test]
    fn a_limit_on_rounds_is_told_where_it_is_the_most() {
        let (_, enough) = by_both(0.0, 1_000_000_000, 5000.0, Limits { iterations: 4 });
        assert!(enough.why.to_string().ends_with("with 4, the most that may be made"), "{}", enough.why);
    }

    #[test]
    fn a_cold_plan_has_no_rounds_to_choose() {
        let (paper, enough) = by_both(0.0, 1_000_000_000, 1000.0, Limits::default());
        assert_eq!((enough.iterations, enough.rounds, enough.plan().end_early), (None, None, false));
        assert_eq!(paper.why, enough.why);
    }

    #[test]
    fn the_published_branches_are_taken() {
        let of = |target| planned(0.0, (1000.0, target), Objective::Downtime, Limits::default());
        let iterative = of(5000.0);
        assert_eq!((iterative.strategy, iterative.iterations), (Strategy::IterativePrecopy, Some(15)));
        assert!(matches!(iterative.why, Why::Iterative { iterations: 15, capped: false, .. }));
        assert_eq!(iterative.nearest, None);
        let precopy = of(1300.0);
        assert_eq!((precopy.strategy, precopy.iterations), (Strategy::Precopy, Some(0)));
        let cold = of(1000.0);
        assert_eq!((cold.strategy, cold.iterations), (Strategy::Cold, None));
        assert!(!cold.duration.met() && !cold.downtime.met());
        assert_eq!(cold.duration.margin().0.round(), -45.0);
    }

    #[test]
    fn the_least_bandwidth_is_allocated_where_resources_count() {
        let of = |down| planned(0.5, (down, 9000.0), Objective::Resources, Limits::default());
        let proposal = of(2000.0);
        assert_eq!(proposal.strategy, Strategy::Cold);
        assert!((proposal.bandwidth.0 as f64 / 1e6 - 79.3).abs() < 0.05);
        assert!(proposal.downtime.met() && proposal.nearest.is_none());
        let short = of(1000.0);
        assert_eq!(short.bandwidth, BitsPerSec(1_000_000_000));
        assert!(matches!(short.why, Why::BandwidthShort { least: Some(_), .. }));
        let never = of(900.0);
        assert!(matches!(never.why, Why::BandwidthShort { least: None, .. }));
        assert_eq!(never.nearest.unwrap().bandwidth, None);
    }

    #[test]
    fn a_limit_on_iterations_is_told_where_it_bites() {
        let limits = Limits { iterations: 4 };
        let proposal = planned(0.0, (1000.0, 5000.0), Objective::Downtime, limits);
        assert_eq!(proposal.iterations, Some(4));
        assert!(proposal.why.to_string().contains("no more than 4 are made"), "{}", proposal.why);
        let none = planned(0.0, (1000.0, 5000.0), Objective::Downtime, Limits { iterations: 0 });
        assert_eq!(none.strategy, Strategy::Precopy);
        assert!(matches!(none.why, Why::Precopy { capped: true, .. }));
    }

    #[test]
    fn the_components_make_up_the_bounds() {
        let proposal = planned(0.3, (1000.0, 5000.0), Objective::Downtime, Limits::default());
        let c = proposal.components;
        let downtime = c.dump.0 + c.transfer_dump.0 + c.restore.0 + c.overlay.0;
        assert!((downtime - proposal.bound.downtime.0).abs() < 1e-9);
        let rounds = f64::from(proposal.iterations.unwrap()) * (c.round.0 + c.transfer_dump.0);
        let duration = c.prepare.0 + c.predump.0 + c.transfer_predump.0 + rounds + downtime;
        assert!((duration - proposal.bound.duration.0).abs() < 1e-9);
    }

    #[test]
    fn without_bandwidth_nothing_is_planned() {
        let rate = DirtyRate::Normalized(NormalizedRate::LEAST);
        let service = Service::new(Bytes(1), rate, Millis(1.0)).unwrap();
        let targets = Targets::new(Millis(1.0), Millis(1.0)).unwrap();
        let error = PlanRequest::new(service, BitsPerSec(0), targets, Objective::Downtime).unwrap_err();
        assert!(error.to_string().contains("bandwidth in bit/s is 0"), "{error}");
    }
}
