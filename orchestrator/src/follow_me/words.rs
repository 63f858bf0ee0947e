//! A plan in the words of a notice.

use mose_pam::{Millis, Proposal};

/// `iterative pre-copy, 3 rounds, worst case 180 ms`, and which target is missed.
pub(super) fn plan(proposal: &Proposal) -> String {
    let strategy = proposal.strategy.words();
    let rounds = match proposal.iterations {
        None | Some(0) => String::new(),
        Some(1) => ", 1 round".to_owned(),
        Some(rounds) => format!(", {rounds} rounds"),
    };
    let verdicts = [("downtime", &proposal.downtime), ("duration", &proposal.duration)];
    let missed: Vec<String> = verdicts
        .iter()
        .filter(|(_, verdict)| !verdict.met())
        .map(|(name, verdict)| format!("max {name} {} is missed", time(verdict.target)))
        .collect();
    let missed = if missed.is_empty() { String::new() } else { format!("; {}", missed.join(", ")) };
    format!("{strategy}{rounds}, worst case {}{missed}", time(proposal.bound.downtime))
}

fn time(time: Millis) -> String {
    if time.0 < 999.5 { format!("{:.0} ms", time.0) } else { format!("{:.2} s", time.0 / 1e3) }
}

#[cfg(test)]
mod tests {
    use mose_pam::{
        BitsPerSec, Bytes, Calibration, DirtyRate, Model, Objective, PagesPerSec, PlanRequest, Service,
        Targets, plan as designed,
    };

    use super::*;

    fn words(downtime: f64) -> String {
        let model = Model::new(&Calibration::tnsm2024());
        let service =
            Service::new(Bytes(25_000_000), DirtyRate::Measured(PagesPerSec(200.0)), Millis(300.0)).unwrap();
        let targets = Targets::new(Millis(downtime), Millis(10_000.0)).unwrap();
        let request =
            PlanRequest::new(service, BitsPerSec(1_000_000_000), targets, Objective::Downtime).unwrap();
        plan(&designed(&model, &request))
    }

    #[test]
    fn a_plan_is_told_with_its_worst_case_and_a_target_that_is_missed() {
        let met = words(5000.0);
        assert!(
            met.contains("pre-copy") && met.contains(", worst case ") && !met.contains("missed"),
            "{met}"
        );
        let missed = words(10.0);
        assert!(missed.ends_with("; max downtime 10 ms is missed"), "{missed}");
    }
}
