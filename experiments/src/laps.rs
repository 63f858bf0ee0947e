//! `mose lab laps`: a workload migrated to and fro under its client, and what the client saw of it.

use std::process::ExitCode;

use color_eyre::eyre::eyre;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::{Lap, Laps};
use mose_lab::{Lab, LabConfig, ServiceOptions, median};
use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record};

use crate::course::{EDGES, How, Orders, PAUSE, Runner, attach_clients, client_line};
use crate::guard::open_for;
use crate::testbed::{LabOptions, config, show};

pub(crate) fn run(options: &commands::Laps) -> color_eyre::Result<ExitCode> {
    if options.own_lab {
        if Lab::open(&LabConfig::default().state_dir)?.is_some() {
            return Err(eyre!(
                "a lab is up already; use it (without --own-lab), or take it down: mose lab down"
            ));
        }
        let lab = LabOptions { edge_link: "1gbit".parse()?, cgroup: "auto".parse()? };
        drop(Lab::up(&config(&lab)?, &mut show)?);
    }
    let result = laps(options);
    if options.own_lab {
        Lab::down(&LabConfig::default())?;
        eprintln!("the lab is down, nothing is left of it");
    }
    let result = result?;
    let good = result.client.is_clean()
        && result.migrations.iter().all(|migration| migration.record.outcome == Outcome::Done);
    if options.json {
        print_json(&result);
    } else {
        print(&result);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn laps(options: &commands::Laps) -> color_eyre::Result<Laps> {
    let lab = open_for(&[&options.workload], options.replace)?;
    attach_clients(&lab)?;
    let address = ServiceOptions::of(&options.workload).address;
    let runner = Runner::start(&lab, &options.workload, address, &options.arguments)?;
    // Only the thread that orders enters the controller's network.
    let records = std::thread::scope(|scope| {
        scope.spawn(|| records(&lab, options)).join().map_err(|_| eyre!("the orders were broken off"))
    })??;
    let client = runner.stop()?;
    let begins: Vec<u64> = records.iter().map(|record| record.started_at.0 / 1000).collect();
    let migrations = records
        .into_iter()
        .enumerate()
        .map(|(number, record)| {
            let end = begins.get(number + 1).copied().unwrap_or(u64::MAX);
            Lap { client_gap_ms: client.longest_gap_between(begins[number], end), record }
        })
        .collect();
    Ok(Laps { workload: options.workload.clone(), migrations, client })
}

fn records(lab: &Lab, options: &commands::Laps) -> color_eyre::Result<Vec<Record>> {
    let orders = Orders::connect(lab)?;
    let how = How { transport: options.transport.map(Into::into), ..How::default() };
    let mut records = Vec::new();
    for number in 0..options.laps * 2 {
        std::thread::sleep(PAUSE);
        let (from, to) = if number % 2 == 0 { (EDGES[0], EDGES[1]) } else { (EDGES[1], EDGES[0]) };
        let record = orders.migrate(&options.workload, from, to, &how)?;
        if !options.json {
            eprintln!(
                "{:>3}  {}",
                number + 1,
                table::ending(&record).lines().take(2).collect::<Vec<_>>().join("  ")
            );
        }
        let done = record.outcome == Outcome::Done;
        records.push(record);
        if !done {
            break;
        }
    }
    std::thread::sleep(PAUSE);
    Ok(records)
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(result: &Laps) {
    let rows: Vec<Vec<String>> = result
        .migrations
        .iter()
        .enumerate()
        .map(|(number, migration)| {
            let record = &migration.record;
            vec![
                (number + 1).to_string(),
                format!("{} → {}", record.from, record.to),
                record.outcome.name().to_owned(),
                record.image.to_string(),
                record.duration.to_string(),
                table::known(record.downtime.criu.frozen),
                table::known(record.downtime.criu.restore),
                table::known(record.downtime.blackout),
                table::known(record.downtime.client_gap()),
                gap(migration.client_gap_ms),
            ]
        })
        .collect();
    let headings = [
        "#",
        "way",
        "outcome",
        "image",
        "duration",
        "CRIU frozen",
        "CRIU restore",
        "blackout",
        "gap at UAV",
        "gap at client",
    ];
    println!("{}", table::table(&headings, &[0, 3, 4, 5, 6, 7, 8, 9], &rows));
    let of =
        |figure: fn(&Lap) -> Option<f64>| median(result.migrations.iter().filter_map(figure)).map(Millis);
    println!(
        "\nmedians: blackout {} · gap at UAV {} · gap at client {}",
        table::known(of(|m| m.record.downtime.blackout.map(|ms| ms.0))),
        table::known(of(|m| m.record.downtime.client_gap().map(|ms| ms.0))),
        table::known(of(|m| (m.client_gap_ms > 0.0).then_some(m.client_gap_ms)))
    );
    println!("{}", client_line(&result.client));
}

/// A client's gap; the client lists none under 50 ms.
fn gap(ms: f64) -> String {
    if ms > 0.0 { Millis(ms).to_string() } else { "< 50 ms".to_owned() }
}
