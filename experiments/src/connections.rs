//! `mose lab connections`: a service with many connections migrated to and fro, and how long each request waited for its reply.

use std::process::ExitCode;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::{Answered, Connections, Crossing, SentAgain};
use mose_lab::client::{ClientKind, ClientReport, ClientSpec};
use mose_lab::{Lab, ServiceOptions, Workload};
use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record};

use crate::course::{EDGES, How, Orders, Runner, attach_clients, client_line};
use crate::guard::open_for;

/// The service; its client speaks its protocol.
const WORKLOAD: &str = "redis";

/// How long the connections are left alone before a migration: what waits for TCP's back-off has its reply by then.
const REST: Duration = Duration::from_secs(3);

pub(crate) fn run(options: &commands::Connections) -> color_eyre::Result<ExitCode> {
    let lab = open_for(&[WORKLOAD], options.replace)?;
    attach_clients(&lab)?;
    let address = ServiceOptions::of(WORKLOAD).address;
    let target = (address, Workload::named(WORKLOAD)?.port).into();
    let mut spec = ClientSpec::new(ClientKind::Crowd, target, Duration::from_secs(24 * 3600));
    (spec.connections, spec.rate) = (options.connections, options.rate);
    let runner = Runner::start_with(
        &lab,
        WORKLOAD,
        ServiceOptions { address, ..ServiceOptions::of(WORKLOAD) },
        &spec,
    )?;
    let moved = std::thread::scope(|scope| {
        scope.spawn(|| migrate(&lab, options)).join().map_err(|_| eyre!("the orders were broken off"))
    })??;
    let client = runner.stop()?;
    let laps = crossings(moved, &client);
    let summary = Answered::of(&laps, &client);
    let result = Connections {
        connections: options.connections,
        rate: options.rate,
        summary,
        migrations: laps,
        client,
    };
    if options.json {
        print_json(&result);
    } else {
        print(&result);
    }
    let good = result.client.is_clean()
        && result.migrations.iter().all(|crossing| crossing.record.outcome == Outcome::Done);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn migrate(
    lab: &Lab,
    options: &commands::Connections,
) -> color_eyre::Result<Vec<(Record, Option<SentAgain>)>> {
    let orders = Orders::connect(lab)?;
    let mut moved = Vec::new();
    for number in 0..options.laps * 2 {
        std::thread::sleep(REST);
        let (from, to) = if number % 2 == 0 { (EDGES[0], EDGES[1]) } else { (EDGES[1], EDGES[0]) };
        let record = orders.migrate(WORKLOAD, from, to, &How::default())?;
        std::thread::sleep(REST);
        let done = record.outcome == Outcome::Done;
        let again = if done { Some(sent_again(lab, to)?) } else { None };
        if !options.json {
            eprintln!(
                "{:>3}  {}",
                number + 1,
                table::ending(&record).lines().take(2).collect::<Vec<_>>().join("  ")
            );
        }
        moved.push((record, again));
        if !done {
            break;
        }
    }
    Ok(moved)
}

/// What the service's kernel sent again since it was restored: its network namespace was made for it, so it counts from zero.
fn sent_again(lab: &Lab, host: &str) -> color_eyre::Result<SentAgain> {
    let argv = ["cat", "/proc/net/snmp", "/proc/net/netstat"].map(str::to_owned);
    let output =
        lab.exec_in_netns(host, WORKLOAD, &argv)?.output().wrap_err("the counters cannot be read")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let count = |table: &str, name: &str| {
        counter(&text, table, name).ok_or_else(|| eyre!("the kernel of {host} does not count {table} {name}"))
    };
    Ok(SentAgain { segments: count("Tcp:", "RetransSegs")?, needless: count("TcpExt:", "TCPDSACKRecv")? })
}

/// A counter of `/proc/net/snmp` or `/proc/net/netstat`: a line of names and one of values for each table.
fn counter(text: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split(' ').next() == Some(table));
    let place = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

/// Gives every request that waited to the migration under way, or last begun, when it was sent.
fn crossings(moved: Vec<(Record, Option<SentAgain>)>, client: &ClientReport) -> Vec<Crossing> {
    let begins: Vec<u64> = moved.iter().map(|(record, _)| record.started_at.0).collect();
    moved
        .into_iter()
        .enumerate()
        .map(|(number, (record, service))| {
            let end = begins.get(number + 1).copied().unwrap_or(u64::MAX);
            let waits =
                client.waits.iter().filter(|wait| (begins[number]..end).contains(&wait.sent_at_unix_us));
            Crossing::of(record, service, waits)
        })
        .collect()
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(result: &Connections) {
    let ms = |value: Option<f64>| table::known(value.map(Millis));
    let rows: Vec<Vec<String>> = result
        .migrations
        .iter()
        .enumerate()
        .map(|(number, crossing)| {
            let record = &crossing.record;
            vec![
                (number + 1).to_string(),
                format!("{} → {}", record.from, record.to),
                record.outcome.name().to_owned(),
                table::known(record.downtime.blackout),
                ms(crossing.worst_ms),
                ms(crossing.beyond_ms),
                crossing.waited.to_string(),
                crossing.after_own.to_string(),
                table::known(crossing.service.map(|again| again.needed())),
                table::known(record.downtime.client_gap()),
            ]
        })
        .collect();
    let headings = [
        "#",
        "way",
        "outcome",
        "blackout",
        "worst response",
        "beyond blackout",
        "waited",
        "by own resend",
        "by service's resend",
        "gap told",
    ];
    println!("{}", table::table(&headings, &[0, 3, 4, 5, 6, 7, 8, 9], &rows));
    let summary = &result.summary;
    println!(
        "\n{} connections × {}/s: worst response beyond the blackout: median {}, most {} · answered only after a resend: {} · \
         gap told / worst response: {}",
        result.connections,
        result.rate,
        ms(summary.beyond_median_ms),
        ms(summary.beyond_most_ms),
        summary.after_resend,
        summary.gap_ratios.map_or_else(|| "–".to_owned(), |(least, most)| format!("{least:.3} to {most:.3}")),
    );
    println!("{}", client_line(&result.client));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "Ip: Forwarding\nIp: 2\nTcp: ActiveOpens RetransSegs\nTcp: 3 7\nTcpExt: TCPDSACKRecv\nTcpExt: 5\n";
        assert_eq!(counter(text, "Tcp:", "RetransSegs"), Some(7));
        assert_eq!(counter(text, "TcpExt:", "TCPDSACKRecv"), Some(5));
        assert_eq!(counter(text, "Tcp:", "Nothing"), None);
    }
}
