//! `mose lab baseline`: the same workload migrated in turn by MOSE and by hand, under the same client.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use color_eyre::eyre::eyre;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::{Compared, Comparison};
use mose_lab::baseline::{Baseline, BaselineRun, Breakdown};
use mose_lab::{Lab, ServiceOptions, Workload, median};
use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record};

use crate::against;
use crate::course::{
    EDGES, How, Orders, PAUSE, Runner, attach_clients, bandwidth, client_line, start_client,
};
use crate::guard::open_for;

/// The address of the service that is moved by hand.
const BY_HAND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 40);

pub(crate) fn run(options: &commands::Baseline) -> color_eyre::Result<ExitCode> {
    if let Some(folder) = &options.against {
        return against::run(options, folder);
    }
    let comparison = compare(options)?;
    let good = comparison.mose_client.is_clean()
        && comparison.mose.iter().all(|record| record.outcome == Outcome::Done);
    if options.json {
        print_json(&comparison);
    } else {
        print(&comparison);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn compare(options: &commands::Baseline) -> color_eyre::Result<Comparison> {
    let by_hand = format!("{}-hand", options.workload);
    let lab = open_for(&[&options.workload, &by_hand], options.replace)?;
    attach_clients(&lab)?;
    let on_controller = |argv: &[String]| crate::course::on(&lab, "controller", argv);
    let hosts = lab.hosts().iter().filter(|host| host.name != "controller");
    let hand = Baseline::new(
        &by_hand,
        BY_HAND,
        hosts.map(|host| (host.name.clone(), host.underlay)).collect(),
        "uav",
    );
    hand.stop(&on_controller)?;
    let workload = Workload::named(&options.workload)?;
    let image = format!("localhost/{}", workload.name);
    hand.start(&on_controller, EDGES[0], &image, workload.command)?;
    let result = measure(&lab, options, &hand);
    hand.stop(&on_controller)?;
    result
}

fn measure(lab: &Lab, options: &commands::Baseline, hand: &Baseline) -> color_eyre::Result<Comparison> {
    let hand_client = start_client(lab, &options.workload, BY_HAND)?;
    let address = ServiceOptions::of(&options.workload).address;
    let runner = Runner::start(lab, &options.workload, address, &[])?;
    let (mose, by_hand) = std::thread::scope(|scope| {
        scope.spawn(|| series(lab, options, hand)).join().map_err(|_| eyre!("the orders were broken off"))
    })??;
    let mose_client = runner.stop()?;
    let by_hand_client = hand_client.stop()?;
    let mose_gaps_ms: Vec<f64> = mose
        .iter()
        .map(|record| {
            let begin = record.started_at.0 / 1000;
            mose_client.longest_gap_between(begin, begin + record.duration.0 as u64 + 1000)
        })
        // The client lists none under 50 ms: one that is not found is unknown, not zero.
        .filter(|gap| *gap > 0.0)
        .collect();
    let by_hand_gaps_ms: Vec<f64> = by_hand
        .iter()
        .map(|run| {
            let (begin, end) = run.span_unix_ms();
            by_hand_client.longest_gap_between(begin, end + 1000)
        })
        .filter(|gap| *gap > 0.0)
        .collect();
    let bandwidth = bandwidth(lab.status().edge_link);
    let floor = |record: &Record| {
        let criu = &record.downtime.criu;
        let transfer = bandwidth.map_or(Some(Millis(0.0)), |rate| record.image.time_at(rate))?;
        Some(criu.frozen?.0 + transfer.0 + criu.restore?.0)
    };
    let (mose_gap_ms, by_hand_gap_ms) =
        (median(mose_gaps_ms.iter().copied()), median(by_hand_gaps_ms.iter().copied()));
    let summary = Compared {
        mose_gap_ms,
        by_hand_gap_ms,
        ratio: mose_gap_ms.zip(by_hand_gap_ms).map(|(mose, hand)| mose / hand),
        floor_ms: median(mose.iter().filter_map(floor)),
    };
    Ok(Comparison {
        workload: options.workload.clone(),
        mose,
        mose_gaps_ms,
        mose_client,
        by_hand: Breakdown::of(&by_hand, &by_hand_gaps_ms),
        by_hand_gaps_ms,
        by_hand_client,
        summary,
    })
}

fn series(
    lab: &Lab,
    options: &commands::Baseline,
    hand: &Baseline,
) -> color_eyre::Result<(Vec<Record>, Vec<BaselineRun>)> {
    let orders = Orders::connect(lab)?;
    let on_controller = |argv: &[String]| crate::course::on(lab, "controller", argv);
    let (mut mose, mut by_hand) = (Vec::new(), Vec::new());
    for number in 0..options.runs {
        let (from, to) = if number % 2 == 0 { (EDGES[0], EDGES[1]) } else { (EDGES[1], EDGES[0]) };
        std::thread::sleep(PAUSE);
        mose.push(orders.migrate(&options.workload, from, to, &How::default())?);
        std::thread::sleep(PAUSE);
        by_hand.push(hand.migrate(&on_controller, from, to)?);
        if !options.json {
            eprintln!("{:>3} of {} each", number + 1, options.runs);
        }
    }
    std::thread::sleep(PAUSE);
    Ok((mose, by_hand))
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(comparison: &Comparison) {
    println!("by hand (SSH, podman checkpoint --export, scp, podman restore --import, ovs-ofctl)");
    println!("{}", comparison.by_hand);
    println!("\nMOSE (cold)\n{}", steps(&comparison.mose, &comparison.mose_gaps_ms));
    println!("\nMOSE's     {}", client_line(&comparison.mose_client));
    println!("by hand's  {}", client_line(&comparison.by_hand_client));
    let summary = &comparison.summary;
    let shown = |ms: Option<f64>| table::known(ms.map(Millis));
    println!(
        "\nclient gap, medians: MOSE {} · by hand {} · {}",
        shown(summary.mose_gap_ms),
        shown(summary.by_hand_gap_ms),
        summary.ratio.map_or_else(|| "–".to_owned(), |r| format!("{:.0} % below", (1.0 - r) * 100.0))
    );
    println!(
        "floor (CRIU frozen + image / bandwidth + CRIU restore), median: {} · MOSE's gap is {} above it",
        shown(summary.floor_ms),
        shown(summary.mose_gap_ms.zip(summary.floor_ms).map(|(gap, floor)| gap - floor))
    );
}

/// One figure of a record, where it was measured.
type Figure = fn(&Record) -> Option<Millis>;

/// Medians of the steps of several records, in the order in which they begin.
fn steps(records: &[Record], gaps_ms: &[f64]) -> String {
    let Some(first) = records.first() else { return String::new() };
    let mut rows = Vec::new();
    for step in &first.steps {
        let side =
            |record: &Record| if step.host == first.from { record.from.clone() } else { record.to.clone() };
        let all = records.iter().filter_map(|record| {
            let host = side(record);
            record.steps.iter().find(|other| other.step == step.step && other.host == host)
        });
        let took: Vec<f64> = all.map(|step| step.took.0).collect();
        let side = if step.host == first.from { "source" } else { "destination" };
        rows.push(row(&format!("{side}: {}", step.step.name()), &took));
    }
    let figures: [(&str, Figure); 4] = [
        ("CRIU frozen", |r| r.downtime.criu.frozen),
        ("CRIU restore", |r| r.downtime.criu.restore),
        ("blackout", |r| r.downtime.blackout),
        ("gap at UAV", |r| r.downtime.client_gap()),
    ];
    for (name, figure) in figures {
        rows.push(row(name, &records.iter().filter_map(figure).map(|ms| ms.0).collect::<Vec<_>>()));
    }
    rows.push(row("client gap", gaps_ms));
    let mut text = table::table(&["ms", "median", "min", "max"], &[1, 2, 3], &rows);
    let image = median(records.iter().map(|record| record.image.0 as f64)).unwrap_or(0.0);
    let _ = write!(text, "\nimage {}", mose_pam::Bytes(image as u64));
    text
}

fn row(name: &str, figures: &[f64]) -> Vec<String> {
    let shown = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}"));
    vec![
        name.to_owned(),
        shown(median(figures.iter().copied())),
        shown(figures.iter().copied().reduce(f64::min)),
        shown(figures.iter().copied().reduce(f64::max)),
    ]
}
