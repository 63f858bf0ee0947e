//! `mose lab strategies`: one workload under its client, migrated in turn by each strategy.

use std::process::ExitCode;

use color_eyre::eyre::eyre;
use mose_console::arguments::plan;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::{Series, Strategies};
use mose_lab::{Lab, ServiceOptions, median};
use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record};

use crate::course::{EDGES, How, Orders, PAUSE, Runner, attach_clients, client_line};
use crate::guard::open_for;

pub(crate) fn run(options: &commands::Strategies) -> color_eyre::Result<ExitCode> {
    let lab = open_for(&[&options.workload], options.replace)?;
    attach_clients(&lab)?;
    let address = ServiceOptions::of(&options.workload).address;
    let runner = Runner::start(&lab, &options.workload, address, &options.arguments)?;
    let records = std::thread::scope(|scope| {
        scope.spawn(|| migrate(&lab, options)).join().map_err(|_| eyre!("the orders were broken off"))
    })??;
    let client = runner.stop()?;
    let report = Strategies {
        workload: options.workload.clone(),
        arguments: options.arguments.clone(),
        series: series(options, records),
        client,
    };
    let good = report.client.is_clean()
        && report.series.iter().flat_map(|series| &series.records).all(|r| r.outcome == Outcome::Done);
    if options.json {
        print_json(&report);
    } else {
        print(&report);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// Interleaved, so that a machine that slows down slows all of them.
fn migrate(lab: &Lab, options: &commands::Strategies) -> color_eyre::Result<Vec<Record>> {
    let orders = Orders::connect(lab)?;
    let mut records = Vec::new();
    let (mut from, mut to) = (EDGES[0], EDGES[1]);
    for number in 0..options.runs {
        for strategy in &options.strategies {
            std::thread::sleep(PAUSE);
            let how = How {
                plan: plan(*strategy, Some(options.iterations)),
                pre_copy: options.pre_copy.map(Into::into),
                ..How::default()
            };
            let record = orders.migrate(&options.workload, from, to, &how)?;
            if record.outcome == Outcome::Done {
                std::mem::swap(&mut from, &mut to);
            }
            records.push(record);
        }
        if !options.json {
            eprintln!("{:>3} of {} each", number + 1, options.runs);
        }
    }
    std::thread::sleep(PAUSE);
    Ok(records)
}

fn series(options: &commands::Strategies, records: Vec<Record>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for strategy in &options.strategies {
        let records: Vec<Record> = records.iter().filter(|r| r.plan.strategy == *strategy).cloned().collect();
        let of = |figure: &dyn Fn(&Record) -> Option<f64>| median(records.iter().filter_map(figure));
        let blackout_ms = of(&|r| r.downtime.blackout.map(|ms| ms.0));
        let first = all.first().map_or(blackout_ms, |first| first.blackout_ms);
        all.push(Series {
            strategy: *strategy,
            blackout_ms,
            client_gap_ms: of(&|r| r.downtime.client_gap().map(|ms| ms.0)),
            duration_ms: of(&|r| Some(r.duration.0)),
            bytes_in_downtime: of(&|r| Some(r.sent_in_downtime().0 as f64)),
            ratio: blackout_ms.zip(first).map(|(this, first)| this / first),
            records,
        });
    }
    all
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(report: &Strategies) {
    let shown = |ms: Option<f64>| table::known(ms.map(Millis));
    let rows: Vec<Vec<String>> = report
        .series
        .iter()
        .map(|series| {
            vec![
                series.strategy.to_string(),
                series.records.len().to_string(),
                shown(series.blackout_ms),
                shown(series.client_gap_ms),
                shown(series.duration_ms),
                series
                    .bytes_in_downtime
                    .map_or_else(|| "–".into(), |bytes| mose_pam::Bytes(bytes as u64).to_string()),
                series.ratio.map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}")),
            ]
        })
        .collect();
    let head = ["medians", "runs", "downtime", "client gap", "duration", "sent in downtime", "ratio"];
    println!("{} {}", report.workload, report.arguments.join(" "));
    println!("{}", table::table(&head, &[1, 2, 3, 4, 5, 6], &rows));
    println!("{}", client_line(&report.client));
}
