//! What must hold of every plan, whatever the figures.

#![expect(clippy::unwrap_used, reason = "what is made for a test is made of possible figures")]

use mose_pam::{
    BitsPerSec, Bytes, Calibration, DirtyRate, Limits, Millis, Model, NormalizedRate, Objective, PagesPerSec,
    Parameter, PlanRequest, Proposal, RoundCost, RoundsRule, Service, Strategy as Moved, Targets, Trajectory,
    plan,
};
use proptest::prelude::*;

/// Calibrations around the published one: other rounds, spreads and preparation.
fn calibration() -> impl Strategy<Value = Calibration> {
    let round = proptest::option::of((0.0..500.0_f64, 0.0..1e-5_f64));
    (round, 1.0..3.0, 1.0..2.0, 0.0..1000.0, 0.1..3.0).prop_map(|(round, dump, volume, prepare, alpha)| {
        let mut calibration = Calibration::tnsm2024();
        calibration.round =
            round.map(|(base, per_byte)| RoundCost { base: base.into(), per_byte: per_byte.into() });
        calibration.spread.dump = dump;
        calibration.spread.round = dump;
        calibration.spread.volume = volume;
        calibration.parameters.prepare = Parameter::exact(prepare);
        calibration.parameters.alpha1 = Parameter::exact(alpha);
        calibration.check().unwrap();
        calibration
    })
}

prop_compose! {
    fn request()(
        memory in 1_u64..10_000_000_000,
        r in 0.0..=1.0,
        exponent in 3.0..12.0_f64,
        duration in 100.0..60_000.0,
        share in 0.01..=1.0,
        resources in any::<bool>(),
        paper in any::<bool>(),
        overlay in any::<bool>(),
        iterations in 0_u32..2000,
    ) -> PlanRequest {
        let rate = DirtyRate::Normalized(NormalizedRate::new(r).unwrap());
        let service = Service::new(Bytes(memory), rate, Millis(1000.0)).unwrap();
        let targets = Targets::new(Millis(duration * share), Millis(duration)).unwrap();
        let objective = if resources { Objective::Resources } else { Objective::Downtime };
        let bandwidth = BitsPerSec(10_f64.powf(exponent) as u64);
        let request = PlanRequest::new(service, bandwidth, targets, objective).unwrap().within(Limits { iterations });
        let request = request.choosing(if paper { RoundsRule::Paper } else { RoundsRule::Enough });
        if overlay { request } else { request.without_overlay() }
    }
}

prop_compose! {
    /// Requests for which rounds of pre-copy mostly fit: small states, links that keep up with what is dirtied, and others.
    fn roomy()(
        memory in 3.0..8.5_f64,
        r in -4.0..0.0_f64,
        bandwidth in 6.5..11.0_f64,
        duration in 1000.0..60_000.0,
        overlay in any::<bool>(),
        iterations in 0_u32..2000,
        working_set in proptest::option::of(1_u64..100_000_000),
    ) -> PlanRequest {
        let rate = DirtyRate::Normalized(NormalizedRate::new(10_f64.powf(r)).unwrap());
        let service = Service::new(Bytes(10_f64.powf(memory) as u64), rate, Millis(1000.0)).unwrap();
        let service = match working_set {
            Some(working_set) => service.with_working_set(Bytes(working_set)).unwrap(),
            None => service,
        };
        let targets = Targets::new(Millis(duration), Millis(duration)).unwrap();
        let bandwidth = BitsPerSec(10_f64.powf(bandwidth) as u64);
        let request = PlanRequest::new(service, bandwidth, targets, Objective::Downtime).unwrap();
        let request = request.within(Limits { iterations });
        if overlay { request } else { request.without_overlay() }
    }
}

fn all_met(proposal: &Proposal) -> bool {
    proposal.downtime.met() && proposal.duration.met()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn bounds_grow_with_the_state_the_rate_and_a_narrower_link(
        calibration in calibration(),
        exponents in (0.0..9.0_f64, 0.0..9.0_f64),
        r in (0.0..=1.0_f64, 0.0..=1.0_f64),
        bandwidth in (1_000_u64..10_000_000_000, 1_000_u64..10_000_000_000),
        iterations in 0_u64..100,
    ) {
        let model = Model::new(&calibration);
        let bounds = |memory: u64, r: f64, bandwidth: u64| {
            let costs = model.bound(Bytes(memory), NormalizedRate::new(r).unwrap(), true);
            [costs.downtime(), costs.duration(iterations), costs.cold_duration()]
                .map(|line| line.at(BitsPerSec(bandwidth)).0)
        };
        // States of a few pages too: there the published V(1) lies below V(0).
        let memory = (10_f64.powf(exponents.0) as u64, 10_f64.powf(exponents.1) as u64);
        let less = bounds(memory.0.min(memory.1), r.0.min(r.1), bandwidth.0.max(bandwidth.1));
        let more = bounds(memory.0.max(memory.1), r.0.max(r.1), bandwidth.0.min(bandwidth.1));
        for (less, more) in less.into_iter().zip(more) {
            prop_assert!(less <= more * (1.0 + 1e-12), "{} > {}", less, more);
        }
    }

    #[test]
    fn a_plan_keeps_within_what_it_is_given_and_meets_what_it_says(calibration in calibration(), request in request()) {
        let model = Model::new(&calibration);
        let proposal = plan(&model, &request);
        prop_assert!(proposal.bandwidth <= request.bandwidth() && proposal.bandwidth.0 > 0);
        prop_assert_eq!(proposal.nearest.is_none(), all_met(&proposal));
        prop_assert_eq!(proposal.downtime.met(), proposal.bound.downtime <= request.targets().downtime());
        prop_assert_eq!(proposal.duration.met(), proposal.bound.duration <= request.targets().duration());
        prop_assert!(proposal.bound.downtime <= proposal.bound.duration);
        prop_assert!(!proposal.why.to_string().is_empty());

        let overlay = proposal.components.overlay.0 > 0.0;
        let rate = if proposal.strategy == Moved::Cold { NormalizedRate::GREATEST } else { proposal.rate };
        let costs = model.bound(request.service().memory(), rate, overlay);
        prop_assert_eq!(costs.downtime().at(proposal.bandwidth), proposal.bound.downtime);
        if let Some(iterations) = proposal.iterations {
            // What is chosen for its duration meets it.
            prop_assert!(proposal.duration.met());
            let duration = costs.duration(u64::from(iterations)).at(proposal.bandwidth);
            prop_assert_eq!(duration, proposal.bound.duration);
        }
        // However little the link carries, what is expected is a figure.
        let expected = Trajectory::new(&model, request.service(), request.bandwidth(), overlay);
        prop_assert!(expected.expected(3).duration.0.is_finite());
    }

    #[test]
    fn enough_rounds_are_the_fewest_that_are_as_good(calibration in calibration(), request in roomy()) {
        let model = Model::new(&calibration);
        let paper = plan(&model, &request.choosing(RoundsRule::Paper));
        let enough = plan(&model, &request.choosing(RoundsRule::Enough));
        prop_assert_eq!(paper.iterations, paper.rounds.map(|rounds| rounds.chosen));
        prop_assert_eq!(paper.iterations, paper.rounds.map(|rounds| rounds.most));
        prop_assert_eq!(paper.iterations, enough.rounds.map(|rounds| rounds.most));
        // What is promised of the downtime, and whether the targets are met, does not depend on the rule.
        prop_assert_eq!(paper.bound.downtime, enough.bound.downtime);
        prop_assert!(enough.bound.duration <= paper.bound.duration);
        prop_assert_eq!((paper.downtime.met(), paper.duration.met()), (enough.downtime.met(), enough.duration.met()));
        prop_assert_eq!(paper.nearest, enough.nearest);
        let Some((chosen, most)) = enough.iterations.zip(paper.iterations) else {
            prop_assert_eq!(paper.strategy, Moved::Cold);
            prop_assert_eq!(paper.why, enough.why);
            return Ok(());
        };
        prop_assert!(chosen <= most);
        let overlay = enough.components.overlay.0 > 0.0;
        let course = Trajectory::new(&model, request.service(), request.bandwidth(), overlay);
        let downtimes: Vec<f64> = (0..=most).map(|n| course.expected(n).downtime.0).collect();
        let least = downtimes.iter().copied().fold(f64::INFINITY, f64::min);
        let wanted = least + RoundsRule::slack(Millis(least)).0;
        let rounding = 1e-9 * least;
        prop_assert!(downtimes[chosen as usize] <= wanted + rounding, "{} of {}", chosen, most);
        for fewer in &downtimes[..chosen as usize] {
            prop_assert!(*fewer > wanted - rounding, "{} of {}", chosen, most);
        }
    }

    #[test]
    fn what_is_nearest_meets_all_targets(calibration in calibration(), request in request()) {
        let model = Model::new(&calibration);
        let Some(nearest) = plan(&model, &request).nearest else { return Ok(()) };
        if let Some(bandwidth) = nearest.bandwidth {
            prop_assert!(bandwidth > request.bandwidth());
            prop_assert!(all_met(&plan(&model, &request.over(bandwidth).unwrap())));
            // Nearest: a bit per second less is not enough.
            let less = request.over(BitsPerSec(bandwidth.0 - 1)).unwrap();
            prop_assert!(!all_met(&plan(&model, &less)));
        } else {
            prop_assert!(!all_met(&plan(&model, &request.over(BitsPerSec(1 << 59)).unwrap())));
        }
        prop_assert!(nearest.downtime.is_some() || nearest.duration.is_some());
        let targets = Targets::new(
            nearest.downtime.unwrap_or(request.targets().downtime()),
            nearest.duration.unwrap_or(request.targets().duration()),
        );
        prop_assert!(targets.is_ok(), "{:?}: {:?}", nearest, targets);
        prop_assert!(all_met(&plan(&model, &request.aiming_at(targets.unwrap()))));
    }

    #[test]
    fn an_allocation_for_resources_is_the_least(calibration in calibration(), request in request()) {
        let model = Model::new(&calibration);
        let proposal = plan(&model, &request);
        if proposal.strategy == Moved::Cold && all_met(&proposal) && proposal.bandwidth < request.bandwidth() {
            let overlay = proposal.components.overlay.0 > 0.0;
            let costs = model.bound(request.service().memory(), NormalizedRate::GREATEST, overlay);
            let less = BitsPerSec(proposal.bandwidth.0 - 1);
            prop_assert!(
                less.0 == 0
                    || costs.downtime().at(less) > request.targets().downtime()
                    || costs.cold_duration().at(less) > request.targets().duration()
            );
        }
    }

    #[test]
    fn no_figures_make_it_panic(
        memory in any::<u64>(),
        working_set in any::<u64>(),
        rate in proptest::num::f64::ANY,
        interval in proptest::num::f64::ANY,
        bandwidth in any::<u64>(),
        downtime in proptest::num::f64::ANY,
        duration in proptest::num::f64::ANY,
        normalized in any::<bool>(),
        iterations in any::<u32>(),
    ) {
        let model = Model::new(&Calibration::tnsm2024());
        let rate = if normalized {
            NormalizedRate::new(rate).map(DirtyRate::Normalized)
        } else {
            Ok(DirtyRate::Measured(PagesPerSec(rate)))
        };
        let proposed = rate
            .and_then(|rate| Service::new(Bytes(memory), rate, Millis(interval)))
            .and_then(|service| service.with_working_set(Bytes(working_set)))
            .and_then(|service| {
                let targets = Targets::new(Millis(downtime), Millis(duration))?;
                PlanRequest::new(service, BitsPerSec(bandwidth), targets, Objective::Downtime)
            })
            .map(|request| plan(&model, &request.within(Limits { iterations })));
        match proposed {
            Ok(proposal) => {
                prop_assert!(proposal.bound.duration.0.is_finite() && proposal.expected.duration.0.is_finite());
                let texts = [proposal.why.to_string(), format!("{:?}", proposal.nearest)];
                prop_assert!(texts.iter().all(|text| !text.is_empty()));
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

proptest! {
    #[test]
    fn files_cost_time_and_more_that_is_written_costs_more(
        size in 0_u64..1 << 34, written in 0_u64..1 << 26, bandwidth in 1_000_000_u64..10_000_000_000,
    ) {
        let model = Model::new(&Calibration::tnsm2024());
        let service = || {
            Service::new(Bytes(10_000_000), DirtyRate::Measured(PagesPerSec(100.0)), Millis(1000.0)).unwrap()
        };
        let targets = Targets::new(Millis(1e6), Millis(1e9)).unwrap();
        let planned = |service: Service| {
            let request =
                PlanRequest::new(service, BitsPerSec(bandwidth), targets, mose_pam::Objective::Downtime).unwrap();
            plan(&model, &request.within(Limits { iterations: 3 }))
        };
        let without = planned(service());
        let still = planned(service().with_files(Bytes(size), Bytes(0)));
        let busy = planned(service().with_files(Bytes(size), Bytes(written)));
        // What is never written to is no part of the downtime, and all of it travels once.
        prop_assert_eq!(still.bound.downtime, without.bound.downtime);
        let once = Millis(size as f64 * 1538.0 / 1448.0 * 8e3 / bandwidth as f64);
        prop_assert!((still.components.files.0 - once.0).abs() <= once.0 * 1e-9);
        prop_assert!(busy.bound.downtime.0 >= still.bound.downtime.0);
        prop_assert!(busy.components.files_changed.0 <= once.0 * (1.0 + 1e-9));
    }
}
