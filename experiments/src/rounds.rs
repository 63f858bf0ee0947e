//! `mose lab rounds`: a service that hardly writes, migrated in turn with enough rounds and with the most that fit, as the paper has
//! it: what the further rounds gain, and what they cost.

use std::process::ExitCode;

use color_eyre::eyre::eyre;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::{RoundsCompared, RuleFigures, RulesRun};
use mose_lab::{Lab, ServiceOptions};
use mose_orchestrator::design::{Given, Wanted};
use mose_pam::{InputError, Limits, Millis, Objective, RoundsRule, Targets};
use mose_protocol::record::{Outcome, Record};

use crate::course::{EDGES, How, Orders, PAUSE, Runner, attach_clients, client_line};
use crate::guard::open_for;

/// The max downtime of the plans: whether it is met is not what is looked at.
const MAX_DOWNTIME: Millis = Millis(800.0);

pub(crate) fn run(options: &commands::Rounds) -> color_eyre::Result<ExitCode> {
    let targets = match targets(options) {
        Ok(targets) => targets,
        Err(error) => {
            eprintln!("mose: {error}; give a --max-duration such as 5s");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    let lab = open_for(&[&options.workload], options.replace)?;
    attach_clients(&lab)?;
    let address = ServiceOptions::of(&options.workload).address;
    let runner = Runner::start(&lab, &options.workload, address, &options.arguments)?;
    let migrated = std::thread::scope(|scope| {
        scope
            .spawn(|| migrate(&lab, options, targets))
            .join()
            .map_err(|_| eyre!("the orders were broken off"))
    })??;
    let client = runner.stop()?;
    let of = |rule| {
        let records = migrated.iter().filter(|(by, _)| *by == rule).map(|(_, record)| record);
        RuleFigures::of(rule, records)
    };
    let (enough, paper) = (of(RoundsRule::Enough), of(RoundsRule::Paper));
    let good = client.is_clean() && migrated.iter().all(|(_, record)| record.outcome == Outcome::Done);
    let report = RulesRun {
        workload: options.workload.clone(),
        arguments: options.arguments.clone(),
        max_duration_ms: options.max_duration.0,
        compared: RoundsCompared::of(&enough, &paper),
        rules: vec![enough, paper],
        client,
        migrations: migrated.into_iter().map(|(_, record)| record).collect(),
    };
    if options.json {
        print_json(&report);
    } else {
        print(&report);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn targets(options: &commands::Rounds) -> Result<Targets, InputError> {
    Targets::new(Millis(MAX_DOWNTIME.0.min(options.max_duration.0)), options.max_duration)
}

/// Interleaved, so that a machine that slows down slows both; each rule goes as often one way as the other.
fn migrate(
    lab: &Lab,
    options: &commands::Rounds,
    targets: Targets,
) -> color_eyre::Result<Vec<(RoundsRule, Record)>> {
    let orders = Orders::connect(lab)?;
    let mut migrated = Vec::new();
    let (mut from, mut to) = (EDGES[0], EDGES[1]);
    for number in 0..options.runs {
        let [first, second] = RoundsRule::ALL;
        for rule in if number % 2 == 0 { [first, second] } else { [second, first] } {
            std::thread::sleep(PAUSE);
            let wanted = Wanted {
                targets,
                objective: Objective::Downtime,
                limits: Limits::default(),
                rounds: rule,
                profile: None,
                given: Given { bandwidth: options.bandwidth, ..Given::default() },
            };
            let design = orders.design(&options.workload, from, to, &wanted)?;
            let forecast = Some(Box::new(design.forecast()));
            let how = How { plan: design.plan(), forecast, ..How::default() };
            let record = orders.migrate(&options.workload, from, to, &how)?;
            if record.outcome == Outcome::Done {
                std::mem::swap(&mut from, &mut to);
            }
            migrated.push((rule, record));
        }
        if !options.json {
            eprintln!("{:>3} of {} each", number + 1, options.runs);
        }
    }
    std::thread::sleep(PAUSE);
    Ok(migrated)
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(report: &RulesRun) {
    println!(
        "{} {}, max duration {}",
        report.workload,
        report.arguments.join(" "),
        Millis(report.max_duration_ms)
    );
    println!("{}", table_of(&report.rules));
    println!("{}", conclusion(&report.compared));
    println!("{}", client_line(&report.client));
}

/// Both rules' medians, for people.
pub(crate) fn table_of(rules: &[RuleFigures]) -> String {
    let shown = |ms: Option<f64>| table::known(ms.map(Millis));
    let rows: Vec<Vec<String>> = rules
        .iter()
        .map(|rule| {
            vec![
                rule.rule.to_string(),
                rule.migrations.to_string(),
                rule.rounds.map_or_else(|| "–".into(), |rounds| format!("{rounds:.1}")),
                rule.rounds_at_most.to_string(),
                shown(rule.downtime_ms),
                shown(rule.gap_ms),
                shown(rule.duration_ms),
            ]
        })
        .collect();
    let head = ["rounds rule", "runs", "rounds", "at most", "service stopped", "client silence", "duration"];
    table::table(&head, &[1, 2, 3, 4, 5, 6], &rows)
}

fn conclusion(compared: &RoundsCompared) -> String {
    match (compared.downtime_difference_ms, compared.downtime_slack_ms, compared.duration_ratio) {
        (Some(difference), Some(slack), Some(ratio)) => format!(
            "enough rounds against all that fit, medians: service stopped {difference:+.1} ms (as good up to +{slack:.1} ms), duration \
             {ratio:.2} of it"
        ),
        _ => "too little was measured to compare the rules".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_compared() {
        let unknown =
            RoundsCompared { downtime_difference_ms: None, downtime_slack_ms: None, duration_ratio: None };
        assert!(conclusion(&unknown).contains("too little"));
        let known = RoundsCompared {
            downtime_difference_ms: Some(-3.25),
            downtime_slack_ms: Some(10.0),
            duration_ratio: Some(0.151),
        };
        let text = conclusion(&known);
        assert!(text.contains("-3.2 ms") && text.contains("+10.0 ms") && text.contains("0.15"), "{text}");
    }
}
