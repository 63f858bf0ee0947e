//! `mose lab volumes`: the same workload with and without a large volume that changes, migrated in turn.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::arguments::plan;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::{VolumeSeries, Volumes};
use mose_lab::{Lab, ServiceOptions, median};
use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record};

use crate::course::{EDGES, How, Orders, PAUSE, Runner, attach_clients, client_line, spec_of};
use crate::guard::open_for;

/// The workload that both services are.
const WORKLOAD: &str = "sockperf";

/// The volume, which goes with the service that has it.
const VOLUME: &str = "mose-lab-volume";

/// The services, and their addresses.
const PLAIN: (&str, Ipv4Addr) = ("plain", Ipv4Addr::new(10, 77, 0, 20));
const WITH: (&str, Ipv4Addr) = ("with-volume", Ipv4Addr::new(10, 77, 0, 21));

pub(crate) fn run(options: &commands::Volumes) -> color_eyre::Result<ExitCode> {
    let lab = open_for(&[PLAIN.0, WITH.0], options.replace)?;
    attach_clients(&lab)?;
    remove_volumes(&lab);
    let report = measure(&lab, options);
    remove_volumes(&lab);
    let report = report?;
    let records = report.series.iter().flat_map(|series| &series.records);
    let good = report.series.iter().all(|series| series.client.is_clean())
        && records.clone().all(|record| record.outcome == Outcome::Done);
    if options.json {
        print_json(&report);
    } else {
        print(&report);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// Left by an experiment that was broken off; or by this one, once its services are gone.
fn remove_volumes(lab: &Lab) {
    for host in EDGES {
        if let Ok(mut remove) = lab.exec(host, &["podman", "volume", "rm", "--force", VOLUME]) {
            let _ = remove.output();
        }
    }
}

/// What the container does beside its workload: writes into so many of the volume's files each second, some bytes each.
fn writer(options: &commands::Volumes) -> String {
    let each_second = (u64::from(options.files) * u64::from(options.changed)).div_ceil(100);
    format!(
        "n=0; while :; do for i in $(seq {each_second}); do n=$(((n + 1) % {files})); \
         [ -e /files/$n ] && echo $i | dd of=/files/$n bs=1 conv=notrunc 2>/dev/null; done; sleep 1; done",
        files = options.files
    )
}

fn fill(lab: &Lab, options: &commands::Volumes) -> color_eyre::Result<()> {
    let bytes = u64::from(options.size) * (1 << 20) / u64::from(options.files);
    let script = format!(
        "cd /files && for n in $(seq 0 {}); do head -c {bytes} /dev/urandom >$n || exit 1; done; sync",
        options.files - 1
    );
    let mut filling = lab.exec(EDGES[0], &["podman", "exec", WITH.0, "sh", "-c", &script])?;
    let output = filling.output().wrap_err("the volume cannot be filled")?;
    if output.status.success() {
        return Ok(());
    }
    Err(eyre!("the volume cannot be filled: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn measure(lab: &Lab, options: &commands::Volumes) -> color_eyre::Result<Volumes> {
    let start = |(name, address): (&str, Ipv4Addr), volume: bool| {
        let mut service = ServiceOptions { name: name.to_owned(), address, ..ServiceOptions::of(WORKLOAD) };
        // Both run the writer, which finds no files where there is no volume: what is compared is the volume, not its processes.
        service.beside = Some(writer(options));
        if volume {
            service.podman = vec!["--volume".into(), format!("{VOLUME}:/files")];
        }
        Runner::start_with(lab, WORKLOAD, service, &spec_of(WORKLOAD, address)?)
    };
    let (plain, with) = (start(PLAIN, false)?, start(WITH, true)?);
    fill(lab, options)?;
    let (plain_records, with_records) = std::thread::scope(|scope| {
        scope.spawn(|| migrate(lab, options)).join().map_err(|_| eyre!("the orders were broken off"))
    })??;
    let (plain_client, with_client) = (plain.stop()?, with.stop()?);
    let series = |volume, records: Vec<Record>, client| {
        let of = |figure: &dyn Fn(&Record) -> Option<f64>| median(records.iter().filter_map(figure));
        VolumeSeries {
            volume,
            downtime_ms: of(&|record| record.downtime.blackout.map(|ms| ms.0)),
            duration_ms: of(&|record| Some(record.duration.0)),
            client,
            records,
        }
    };
    let series = [series(false, plain_records, plain_client), series(true, with_records, with_client)];
    let ratio = series[1].downtime_ms.zip(series[0].downtime_ms).map(|(with, plain)| with / plain);
    Ok(Volumes {
        size_bytes: u64::from(options.size) << 20,
        files: options.files,
        changed_percent: options.changed,
        series: series.into(),
        ratio,
    })
}

/// Interleaved, so that a machine that slows down slows both.
fn migrate(lab: &Lab, options: &commands::Volumes) -> color_eyre::Result<(Vec<Record>, Vec<Record>)> {
    let orders = Orders::connect(lab)?;
    let how = How { plan: plan(options.strategy, Some(options.iterations)), ..How::default() };
    let mut at = [EDGES, EDGES];
    let mut records = [Vec::new(), Vec::new()];
    for number in 0..options.runs {
        for (which, (name, _)) in [PLAIN, WITH].into_iter().enumerate() {
            std::thread::sleep(PAUSE);
            let [from, to] = at[which];
            let record = orders.migrate(name, from, to, &how)?;
            if record.outcome == Outcome::Done {
                at[which].reverse();
            }
            records[which].push(record);
        }
        if !options.json {
            eprintln!("{:>3} of {} each", number + 1, options.runs);
        }
    }
    std::thread::sleep(PAUSE);
    let [plain, with] = records;
    Ok((plain, with))
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(report: &Volumes) {
    let shown = |ms: Option<f64>| table::known(ms.map(Millis));
    let rows = report.series.iter().map(|series| {
        let name = if series.volume { WITH.0 } else { PLAIN.0 };
        let runs = series.records.len().to_string();
        vec![name.to_owned(), runs, shown(series.downtime_ms), shown(series.duration_ms)]
    });
    let head = ["medians", "runs", "downtime", "duration"];
    println!(
        "a volume of {} in {} files, {} % of them written to each second",
        mose_pam::Bytes(report.size_bytes),
        report.files,
        report.changed_percent
    );
    println!("{}", table::table(&head, &[1, 2, 3], &rows.collect::<Vec<_>>()));
    println!("downtime with / without: {}", report.ratio.map_or_else(|| "–".into(), |r| format!("{r:.2}")));
    for series in &report.series {
        println!("{}", client_line(&series.client));
    }
}
