//! `mose calibrate`: the counter service is migrated over a grid of state sizes and dirty-page rates, and the model's
//! parameters are fitted to what was measured.

use std::collections::BTreeMap;
use std::process::ExitCode;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::arguments::plan;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::table;
use mose_experiments::documents::Fitted;
use mose_lab::{Lab, ServiceOptions};
use mose_orchestrator::calibrate::{calibration, sample};
use mose_pam::{BitsPerSec, Bytes, Sample, Strategy};
use mose_protocol::record::{Outcome, Record};
use mose_protocol::{HostName, Request};

use crate::course::{EDGES, How, Orders, PAUSE, Runner, attach_clients, bandwidth};
use crate::guard::open_for;

/// What is migrated.
const WORKLOAD: &str = "counter";

/// Iterations of the migrations that measure rounds.
const ITERATIONS: u32 = 4;

/// The counter's greatest rate (pages/s).
const GREATEST_RATE: u64 = 50_000;

/// One point of the grid.
#[derive(Debug, Clone, Copy)]
struct Point {
    state: Bytes,
    /// The generator's rate (pages/s): R_min, or R_max as far as the generator goes.
    rate: u64,
    strategy: Strategy,
}

/// Every size by pre-copy at the least rate and cold at the greatest: what the model's two ends are (TNSM 2024, Table III).
fn grid(sizes: &[Bytes]) -> Vec<Point> {
    sizes
        .iter()
        .flat_map(|&state| {
            let greatest = (state.0 / 4096).clamp(1, GREATEST_RATE);
            [
                Point { state, rate: 1, strategy: Strategy::IterativePrecopy },
                Point { state, rate: greatest, strategy: Strategy::Cold },
            ]
        })
        .collect()
}

/// Why these are not the hosts that can be calibrated, if they are not, and what there is for others.
fn other_hosts(hosts: &[HostName], connect: &[String]) -> Option<String> {
    let mut named: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
    named.sort_unstable();
    let found = if let Some(endpoint) = connect.first() {
        format!("{endpoint} (--connect or MOSE_CONNECT) is not for this command")
    } else if named.is_empty() || named == EDGES {
        return None;
    } else {
        format!("{} cannot be calibrated", named.join(" and "))
    };
    Some(format!(
        "{found}: `mose calibrate` measures {} and {}, the edge hosts of the lab on this machine, and no others yet — for other \
         hosts plan with a profile from a file (mose plan --profile FILE), or with the published parameters, which stand in \
         where there is none",
        EDGES[0], EDGES[1]
    ))
}

pub(crate) fn run(
    options: &commands::Calibrate,
    connect: &[String],
    json: bool,
) -> color_eyre::Result<ExitCode> {
    if let Some(why) = other_hosts(&options.hosts, connect) {
        eprintln!("mose: {why}");
        return Ok(ExitCode::from(mose_console::exit::USAGE));
    }
    let lab = open_for(&[WORKLOAD], options.replace)?;
    let link = options.bandwidth.or_else(|| bandwidth(lab.status().edge_link)).ok_or_else(|| {
        eyre!("the link between the edge hosts is unshaped: say what it carries with --bandwidth")
    })?;
    attach_clients(&lab)?;
    let fitted = std::thread::scope(|scope| {
        let measure = || measure(&lab, options, link, json);
        scope.spawn(measure).join().map_err(|_| eyre!("the calibration was broken off"))
    })??;
    for fitted in &fitted {
        if let Some(folder) = &options.output {
            let path = folder.join(format!("{}--{}.toml", fitted.from, fitted.to));
            std::fs::write(&path, fitted.profile.to_toml()?)
                .wrap_err_with(|| format!("{} cannot be written", path.display()))?;
        }
    }
    if json {
        print_json(&fitted);
    } else {
        fitted.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(
    lab: &Lab,
    options: &commands::Calibrate,
    link: BitsPerSec,
    json: bool,
) -> color_eyre::Result<Vec<Fitted>> {
    let (sizes, repeats): (&[u64], u32) = if options.quick { (&[4, 48], 2) } else { (&[2, 16, 64, 192], 4) };
    let sizes: Vec<Bytes> = sizes.iter().map(|mebibytes| Bytes(mebibytes << 20)).collect();
    let orders = Orders::connect(lab)?;
    let mut records: Vec<(Point, Record)> = Vec::new();
    let points = grid(&sizes);
    for (number, point) in points.iter().enumerate() {
        if !json {
            eprintln!(
                "{:>3} of {}  {} of state, {} pages/s, {}",
                number + 1,
                points.len(),
                point.state,
                point.rate,
                point.strategy
            );
        }
        records.extend(visit(lab, &orders, *point, repeats)?.into_iter().map(|record| (*point, record)));
    }
    let ways = [(EDGES[0], EDGES[1]), (EDGES[1], EDGES[0])];
    ways.into_iter().map(|(from, to)| fit(&orders, &records, link, (from, to))).collect()
}

/// Migrates the generator to and fro, as often in each direction.
fn visit(lab: &Lab, orders: &Orders, point: Point, repeats: u32) -> color_eyre::Result<Vec<Record>> {
    let arguments = ["--state-size", &point.state.0.to_string(), "--dirty-rate", &point.rate.to_string()]
        .map(str::to_owned);
    let address = ServiceOptions::of(WORKLOAD).address;
    let runner = Runner::start(lab, WORKLOAD, address, &arguments)?;
    let how = How { plan: plan(point.strategy, Some(ITERATIONS)), ..How::default() };
    let mut records = Vec::new();
    for number in 0..repeats * 2 {
        std::thread::sleep(PAUSE / 3);
        let (from, to) = if number % 2 == 0 { (EDGES[0], EDGES[1]) } else { (EDGES[1], EDGES[0]) };
        let record = orders.migrate(WORKLOAD, from, to, &how)?;
        if record.outcome != Outcome::Done {
            let reason = record.reason.map(|reason| reason.to_string()).unwrap_or_default();
            return Err(eyre!("a migration of the calibration was {}: {reason}", record.outcome.name()));
        }
        records.push(record);
    }
    let report = runner.stop()?;
    if !report.is_clean() {
        return Err(eyre!("a client of the calibration was disturbed: {report:?}"));
    }
    Ok(records)
}

fn fit(
    orders: &Orders,
    records: &[(Point, Record)],
    link: BitsPerSec,
    (from, to): (&str, &str),
) -> color_eyre::Result<Fitted> {
    // What a checkpoint of the generator holds is more than what it was asked to dirty: the pre-dump saw it.
    let states: BTreeMap<Bytes, Bytes> = records
        .iter()
        .filter_map(|(point, record)| Some((point.state, Bytes(record.rounds.first()?.pages * 4096))))
        .collect();
    let samples: Vec<Sample> = records
        .iter()
        .filter(|(_, record)| record.from.as_str() == from)
        .filter_map(|(point, record)| {
            let memory = states.get(&point.state).copied().unwrap_or(point.state);
            let rate = if point.strategy == Strategy::Cold { 1.0 } else { 0.0 };
            sample(record, memory, rate, link)
        })
        .collect();
    let (from, to): (HostName, HostName) = (from.parse()?, to.parse()?);
    let hello = orders.hello(&to)?;
    let calibration = calibration(&samples, &from, &hello)?;
    orders.ask(&from, &Request::Calibrate { to: to.clone(), profile: calibration.to_toml()? })?;
    Ok(Fitted { from, to, profile: calibration, samples })
}

/// Four figures, of milliseconds as of milliseconds per byte.
fn figure(value: f64) -> String {
    if value == 0.0 || (0.1..1e5).contains(&value.abs()) {
        format!("{value:.2}")
    } else {
        format!("{value:.3e}")
    }
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(fitted: &Fitted) {
    println!("\n{}, {} migrations", fitted.profile.name, fitted.samples.len());
    let mut parameters = fitted.profile.parameters.named().to_vec();
    if let Some(round) = fitted.profile.round {
        parameters.extend([("round", round.base), ("round per byte", round.per_byte)]);
    }
    let rows: Vec<Vec<String>> = parameters
        .into_iter()
        .filter_map(|(name, parameter)| {
            let [low, high] = parameter.ci90?;
            Some(vec![
                name.to_owned(),
                figure(parameter.value),
                format!("{} … {}", figure(low), figure(high)),
            ])
        })
        .collect();
    println!("{}", table::table(&["parameter", "fitted", "90 % confidence"], &[1, 2], &rows));
    if let Some(provenance) = &fitted.profile.provenance {
        let rows: Vec<Vec<String>> = provenance
            .residuals
            .iter()
            .map(|(name, residual)| {
                vec![
                    name.clone(),
                    residual.samples.to_string(),
                    format!("{:.1}", residual.rms),
                    format!("{:.0} %", residual.max_relative * 100.0),
                    residual.r2.map_or_else(|| "–".into(), |r2| format!("{r2:.3}")),
                ]
            })
            .collect();
        println!("\n{}", table::table(&["component", "samples", "rms", "worst", "R²"], &[1, 2, 3, 4], &rows));
    }
    let spreads: Vec<String> =
        fitted.profile.spread.named().iter().map(|(name, factor)| format!("{name} × {factor:.2}")).collect();
    println!("bounds are the fit times: {}", spreads.join(", "));
}
