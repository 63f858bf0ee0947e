//! `mose lab targets`: services migrated for a row of targets under both objectives, where the downtime is minimised by both rules
//! for rounds in turn, with what each plan promised held against what was measured (the journal version's Fig. 6).

mod plot;

use std::fmt::Write as _;
use std::process::ExitCode;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::{Held, Promise, Promises, RuleFigures};
use mose_lab::{Lab, ServiceOptions};
use mose_orchestrator::design::{Given, Wanted};
use mose_pam::{Limits, Millis, Objective, RoundsRule, Targets};
use mose_protocol::record::Outcome;

use crate::course::{EDGES, How, Orders, PAUSE, Runner, attach_clients};
use crate::guard::open_for;
use crate::rounds;

/// A service of the experiment.
struct Subject {
    name: &'static str,
    workload: &'static str,
    arguments: &'static [&'static str],
}

/// A small state that hardly changes, and a larger one that does.
const SUBJECTS: [Subject; 2] = [
    Subject {
        name: "small",
        workload: "counter",
        arguments: &["--state-size", "8MiB", "--dirty-rate", "50"],
    },
    Subject {
        name: "large",
        workload: "counter",
        arguments: &["--state-size", "48MiB", "--dirty-rate", "400"],
    },
];

/// θ_mig where the downtime is minimised (ms): the paper's range.
const DURATIONS: [f64; 8] = [800.0, 1200.0, 1600.0, 2200.0, 3000.0, 4000.0, 5000.0, 6000.0];
/// θ_down where the duration is what counts: out of the way.
const LOOSE_DOWNTIME: f64 = 800.0;
/// θ_down where the bandwidth is minimised, as multiples of the least that is feasible, up to [`GREATEST_DOWNTIME`].
const DOWNTIMES: [f64; 8] = [0.9, 1.05, 1.2, 1.5, 2.0, 3.0, 4.5, 6.0];
const GREATEST_DOWNTIME: f64 = 2500.0;
/// θ_mig where the bandwidth is minimised: out of the way.
const LOOSE_DURATION: f64 = 6000.0;

pub(crate) fn run(options: &commands::TargetsRun) -> color_eyre::Result<ExitCode> {
    let lab = open_for(&SUBJECTS.map(|subject| subject.workload), options.replace)?;
    attach_clients(&lab)?;
    std::fs::create_dir_all(&options.output)
        .wrap_err_with(|| format!("the folder {} cannot be made", options.output.display()))?;
    let points = std::thread::scope(|scope| {
        scope.spawn(|| measure(&lab, options)).join().map_err(|_| eyre!("the orders were broken off"))
    })??;
    let write = |name: &str, text: String| {
        let path = options.output.join(name);
        std::fs::write(&path, text).wrap_err_with(|| format!("{} cannot be written", path.display()))
    };
    write("targets.csv", csv(&points))?;
    write("targets.svg", plot::svg(&points)?)?;
    let summary = Held::of(&points);
    let rules: Vec<RuleFigures> =
        RoundsRule::ALL.map(|rule| RuleFigures::of(rule, by_rule(&points, rule))).into();
    let done = points.iter().all(|point| point.record.outcome == Outcome::Done);
    if options.json {
        print_json(&Promises { summary, rules, migrations: points });
    } else {
        print(&points, &summary, &rules);
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn measure(lab: &Lab, options: &commands::TargetsRun) -> color_eyre::Result<Vec<Promise>> {
    let orders = Orders::connect(lab)?;
    let mut points = Vec::new();
    for subject in &SUBJECTS {
        let arguments: Vec<String> = subject.arguments.iter().map(|word| (*word).to_owned()).collect();
        let address = ServiceOptions::of(subject.workload).address;
        let runner = Runner::start(lab, subject.workload, address, &arguments)?;
        std::thread::sleep(PAUSE);
        for objective in Objective::ALL {
            let rules = match objective {
                Objective::Downtime => &RoundsRule::ALL[..],
                // Cold: there are no rounds.
                Objective::Resources => &[RoundsRule::Enough],
            };
            let row = row(&orders, subject, objective, options)?;
            for (targets, rule) in
                row.into_iter().flat_map(|targets| rules.iter().map(move |r| (targets, *r)))
            {
                let wanted = wanted(targets, objective, rule, options);
                for way in [(EDGES[0], EDGES[1]), (EDGES[1], EDGES[0])] {
                    std::thread::sleep(PAUSE / 2);
                    points.push(once(&orders, subject, way, &wanted)?);
                    if let Some(point) = points.last().filter(|_| !options.json) {
                        eprintln!("{:>3}  {}", points.len(), line(point).join("  "));
                    }
                }
            }
        }
        let client = runner.stop()?;
        if !client.is_clean() {
            return Err(eyre!("a client of the experiment was disturbed: {client:?}"));
        }
    }
    Ok(points)
}

/// The targets of one row, the tightest first.
fn row(
    orders: &Orders,
    subject: &Subject,
    objective: Objective,
    options: &commands::TargetsRun,
) -> color_eyre::Result<Vec<Targets>> {
    let targets =
        |downtime: f64, duration: f64| Ok(Targets::new(Millis(downtime), Millis(duration.max(downtime)))?);
    match objective {
        Objective::Downtime => {
            DURATIONS.iter().map(|&duration| targets(LOOSE_DOWNTIME.min(duration), duration)).collect()
        }
        Objective::Resources => {
            // With all there is: what no bandwidth can go below.
            let tight = targets(GREATEST_DOWNTIME, LOOSE_DURATION)?;
            let wanted = wanted(tight, Objective::Resources, RoundsRule::Enough, options);
            let design = orders.design(subject.workload, EDGES[0], EDGES[1], &wanted)?;
            let model = mose_pam::Model::new(&design.profile);
            let costs =
                model.bound(design.request.service().memory(), mose_pam::NormalizedRate::GREATEST, true);
            let least = costs.downtime().at(design.request.bandwidth()).0;
            DOWNTIMES
                .iter()
                .map(|&factor| {
                    targets((least * factor).min(GREATEST_DOWNTIME.max(least * 1.05)), LOOSE_DURATION)
                })
                .collect()
        }
    }
}

fn wanted(
    targets: Targets,
    objective: Objective,
    rounds: RoundsRule,
    options: &commands::TargetsRun,
) -> Wanted {
    let given = Given { bandwidth: options.bandwidth, ..Given::default() };
    Wanted { targets, objective, limits: Limits::default(), rounds, profile: None, given }
}

/// The records of the plans whose rounds were chosen by a rule.
fn by_rule(points: &[Promise], rule: RoundsRule) -> impl Iterator<Item = &mose_protocol::record::Record> {
    let chosen = move |point: &&Promise| point.forecast.rounds.is_some_and(|rounds| rounds.rule == rule);
    points.iter().filter(chosen).map(|point| &point.record)
}

fn once(
    orders: &Orders,
    subject: &Subject,
    (from, to): (&str, &str),
    wanted: &Wanted,
) -> color_eyre::Result<Promise> {
    let design = orders.design(subject.workload, from, to, wanted)?;
    let forecast = design.forecast();
    let how = How { plan: design.plan(), forecast: Some(Box::new(forecast.clone())), ..How::default() };
    let record = orders.migrate(subject.workload, from, to, &how)?;
    if record.outcome != Outcome::Done {
        let reason = record.reason.map(|reason| reason.to_string()).unwrap_or_default();
        return Err(eyre!("a migration of the experiment was {}: {reason}", record.outcome.name()));
    }
    Ok(Promise { service: subject.name, forecast, record })
}

fn csv(points: &[Promise]) -> String {
    let mut text = String::from(
        "service,objective,from,to,target_downtime_ms,target_duration_ms,strategy,iterations,bandwidth_bps,\
         bound_downtime_ms,downtime_ms,downtime_held,bound_duration_ms,duration_ms,duration_held,state_bytes,\
         dirty_pages_per_s,normalized_dirty_rate,rounds,client_gap_ms,rounds_rule,most_rounds\n",
    );
    for Promise { service, forecast, record } in points {
        let held = record.bounds_held();
        let shown = |value: Option<Millis>| value.map_or_else(String::new, |ms| format!("{:.1}", ms.0));
        let rule = forecast.rounds.map_or("", |rounds| rounds.rule.name());
        let most = forecast.rounds.map_or_else(String::new, |rounds| rounds.most.to_string());
        let _ = writeln!(
            text,
            "{service},{},{},{},{:.1},{:.1},{},{},{},{:.1},{},{},{:.1},{:.1},{},{},{:.1},{:.4},{},{},{rule},{most}",
            forecast.objective,
            record.from,
            record.to,
            forecast.targets.downtime.0,
            forecast.targets.duration.0,
            record.plan.strategy,
            record.plan.iterations.map_or_else(String::new, |iterations| iterations.to_string()),
            record.plan.bandwidth.map_or(0, |bandwidth| bandwidth.0),
            forecast.bound.downtime.0,
            shown(record.downtime.blackout),
            held.is_some_and(|held| held.0),
            forecast.bound.duration.0,
            record.duration.0,
            held.is_some_and(|held| held.1),
            forecast.state.0,
            forecast.dirty_rate.0,
            forecast.normalized_dirty_rate,
            record.rounds.len(),
            shown(record.downtime.client_gap()),
        );
    }
    text
}

fn line(point: &Promise) -> Vec<String> {
    let Promise { service, forecast, record } = point;
    let against = |measured: Option<Millis>, bound: Millis| match measured {
        Some(measured) => format!("{measured} {} {bound}", if measured.0 <= bound.0 { "≤" } else { ">" }),
        None => "–".to_owned(),
    };
    vec![
        (*service).to_owned(),
        forecast.objective.to_string(),
        forecast.targets.downtime.to_string(),
        forecast.targets.duration.to_string(),
        record.plan.strategy.to_string(),
        forecast.rounds.map_or_else(|| "–".into(), |rounds| rounds.rule.to_string()),
        table::known(forecast.rounds),
        table::known(record.plan.bandwidth),
        against(record.downtime.blackout, forecast.bound.downtime),
        against(Some(record.duration), forecast.bound.duration),
    ]
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(points: &[Promise], summary: &Held, rules: &[RuleFigures]) {
    let head =
        ["service", "objective", "θ_down", "θ_mig", "strategy", "rule", "I", "L", "downtime", "duration"];
    println!("{}", table::table(&head, &[2, 3, 6, 7, 8, 9], &points.iter().map(line).collect::<Vec<_>>()));
    println!("\npre-copies by how their rounds were chosen, medians:\n{}", rounds::table_of(rules));
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    println!(
        "\n{} migrations: downtime within its bound in {:.1} %, duration in {:.1} %; bound / measured, medians: downtime {}, \
         duration {}",
        summary.migrations,
        summary.downtime_held * 100.0,
        summary.duration_held * 100.0,
        ratio(summary.downtime_ratio),
        ratio(summary.duration_ratio)
    );
}
