//! `mose lab profiling`: what watching a service tells and costs. The counter knows how many pages it rewrites: the dirty-page
//! rate that its agent tells is held against that, and its throughput in the rounds of a live pre-copy against that before.

use std::process::ExitCode;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::table;
use mose_experiments::documents::{Profiling, Slowed, Told};
use mose_lab::{CLIENT_NETNS, Lab, ServiceOptions, median, start_service, stop_service};
use mose_pam::{Plan, Strategy};
use mose_protocol::metrics::ServiceMetrics;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::Step;
use mose_protocol::{Reply, Request, Timestamp};
use serde::Deserialize;

use crate::course::{EDGES, How, MOBILE, Orders, PAUSE, attach_clients};
use crate::guard::open_for;

const WORKLOAD: &str = "counter";
/// A rate that no machine reaches: the counter rewrites as many pages as it can.
const AS_MANY_AS_IT_CAN: u64 = 1_000_000_000;
/// How long a rate is looked at before it counts, and after: the agent's window is told once a second.
const SETTLING: Duration = Duration::from_secs(12);
const LOOKS: u32 = 15;
/// Looks at the throughput before a migration.
const BEFORE: u32 = 4;
/// The iterations of the migrations in which the throughput is looked at.
const ITERATIONS: u32 = 12;

/// What the counter says of itself, over a second.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Stat {
    dirty_rate_measured: f64,
}

/// A stretch of time and what the counter did in it.
struct Look {
    from: Timestamp,
    to: Timestamp,
    stat: Stat,
}

pub(crate) fn run(options: &commands::Profiling) -> color_eyre::Result<ExitCode> {
    let lab = open_for(&[WORKLOAD], options.replace)?;
    attach_clients(&lab)?;
    // The thread that orders is in the controller's network; the looks are taken from this one.
    let report = std::thread::scope(|scope| -> color_eyre::Result<Profiling> {
        let broken = || eyre!("the orders were broken off");
        let told = scope.spawn(|| tell(&lab, options)).join().map_err(|_| broken())??;
        let mut slowed = Vec::new();
        let (mut from, mut to) = (EDGES[0], EDGES[1]);
        start(&lab, options, from, AS_MANY_AS_IT_CAN)?;
        std::thread::sleep(PAUSE);
        for number in 0..options.runs {
            let before = (0..BEFORE).map(|_| look(&lab)).collect::<Result<Vec<_>, _>>()?;
            let order = scope.spawn(|| migrate(&lab, from, to));
            let mut during = Vec::new();
            while !order.is_finished() {
                during.push(look(&lab)?);
            }
            let record = order.join().map_err(|_| broken())??;
            if record.outcome != Outcome::Done {
                return Err(eyre!("the migration ended as {}", record.outcome.name()));
            }
            slowed.push(compare(&before, &during, record)?);
            std::mem::swap(&mut from, &mut to);
            eprintln!("{:>3} of {} migrations", number + 1, options.runs);
        }
        Ok(Profiling {
            arguments: vec!["--state-size".into(), options.state_size.clone()],
            ratio: median(slowed.iter().map(|slowed| slowed.ratio)),
            told,
            slowed,
        })
    });
    for host in EDGES {
        stop_service(&lab, host, WORKLOAD)?;
    }
    let report = report?;
    if options.json {
        print_json(&report);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the counter anew.
fn start(lab: &Lab, options: &commands::Profiling, host: &str, rate: u64) -> color_eyre::Result<()> {
    for host in EDGES {
        stop_service(lab, host, WORKLOAD)?;
    }
    let mut service = ServiceOptions::of(WORKLOAD);
    service.arguments =
        ["--state-size", &options.state_size, "--dirty-rate", &rate.to_string()].map(str::to_owned).to_vec();
    start_service(lab, WORKLOAD, host, &service)?;
    Ok(())
}

/// What the counter does within a second, asked from among its clients.
fn look(lab: &Lab) -> color_eyre::Result<Look> {
    let target = format!("{}:7070", ServiceOptions::of(WORKLOAD).address);
    let from = Timestamp::now();
    let mut command = lab.exec_in_netns(
        MOBILE,
        CLIENT_NETNS,
        &["mose-counter", "stat", "--connect", &target, "--over", "1s"],
    )?;
    let output = command.output().wrap_err("the counter cannot be asked")?;
    let to = Timestamp::now();
    let stat = serde_json::from_slice(&output.stdout).map_err(|_| {
        eyre!("the counter does not answer: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    Ok(Look { from, to, stat })
}

fn tell(lab: &Lab, options: &commands::Profiling) -> color_eyre::Result<Vec<Told>> {
    let orders = Orders::connect(lab)?;
    let mut besides = 0.0;
    let mut all = Vec::new();
    // Without any rewriting the counter still dirties its stacks and counters.
    for asked in std::iter::once(0).chain(options.rates.iter().copied()) {
        start(lab, options, EDGES[0], asked)?;
        std::thread::sleep(SETTLING);
        let (mut rewritten, mut told) = (Vec::new(), Vec::new());
        let mut last: Option<ServiceMetrics> = None;
        for _ in 0..LOOKS {
            rewritten.push(look(lab)?.stat.dirty_rate_measured);
            let asked = orders.ask(&EDGES[0].parse()?, &Request::Profile(WORKLOAD.parse()?))?;
            let Reply::Profile(metrics) = asked else { return Err(eyre!("the agent told something else")) };
            told.push(metrics.dirty.current.0);
            last = Some(*metrics);
        }
        let metrics = last.ok_or_else(|| eyre!("the agent told nothing"))?;
        let mean = |figures: &[f64]| figures.iter().sum::<f64>() / figures.len().max(1) as f64;
        let (rewritten, told) = (mean(&rewritten), mean(&told));
        if asked == 0 {
            besides = told;
        }
        let of_state = told - besides;
        all.push(Told {
            asked,
            rewritten,
            told,
            of_state,
            error: (asked > 0).then(|| of_state / rewritten - 1.0),
            tracker: metrics.tracker,
            cost: metrics.cost,
        });
        eprintln!("{asked:>7} pages/s");
    }
    Ok(all)
}

fn migrate(lab: &Lab, from: &str, to: &str) -> color_eyre::Result<Record> {
    let plan = Plan { strategy: Strategy::IterativePrecopy, iterations: Some(ITERATIONS), ..Plan::cold() };
    Orders::connect(lab)?.migrate(WORKLOAD, from, to, &How { plan, ..How::default() })
}

/// Takes the looks that lie within the rounds of a live pre-copy; the last round is made when the service is being frozen.
fn compare(before: &[Look], during: &[Look], record: Record) -> color_eyre::Result<Slowed> {
    let at = |ms: f64| Timestamp(record.started_at.0 + (ms * 1e3) as u64);
    let begin = record.steps.iter().find(|step| step.step == Step::PreDump).map(|step| at(step.start.0));
    let end = record.steps.iter().rfind(|step| step.step == Step::Iteration).map(|step| at(step.start.0));
    let (begin, end) = begin.zip(end).ok_or_else(|| eyre!("the migration had no rounds"))?;
    let inside: Vec<&Look> = during.iter().filter(|look| look.from >= begin && look.to <= end).collect();
    let rate = |look: &Look| look.stat.dirty_rate_measured;
    let before = median(before.iter().map(rate)).ok_or_else(|| eyre!("nothing was looked at before"))?;
    let during = median(inside.iter().map(|look| rate(look)))
        .ok_or_else(|| eyre!("no whole second lay within the rounds, which took {}", end.since(begin)))?;
    Ok(Slowed { before, during, ratio: during / before, looks: inside.len(), record })
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(report: &Profiling) {
    println!("{WORKLOAD} {}", report.arguments.join(" "));
    let rows: Vec<Vec<String>> = report
        .told
        .iter()
        .map(|told| {
            vec![
                told.asked.to_string(),
                format!("{:.1}", told.rewritten),
                format!("{:.1}", told.told),
                format!("{:.1}", told.of_state),
                told.error.map_or_else(|| "–".into(), |error| format!("{:+.1} %", error * 100.0)),
                format!("{:.2} %", told.cost * 100.0),
                told.tracker.clone(),
            ]
        })
        .collect();
    let head = ["pages/s asked", "rewritten", "told", "of the state", "error", "cost", "tracker"];
    println!("{}\n", table::table(&head, &[0, 1, 2, 3, 4, 5], &rows));
    let rows: Vec<Vec<String>> = report
        .slowed
        .iter()
        .map(|slowed| {
            vec![
                format!("{} → {}", slowed.record.from, slowed.record.to),
                format!("{:.0}", slowed.before),
                format!("{:.0}", slowed.during),
                format!("{:.3}", slowed.ratio),
                slowed.looks.to_string(),
            ]
        })
        .collect();
    let head = ["live rounds", "pages/s before", "in the rounds", "ratio", "seconds"];
    println!("{}", table::table(&head, &[1, 2, 3, 4], &rows));
    if let Some(ratio) = report.ratio {
        println!("median of the ratios: {ratio:.3}");
    }
}
