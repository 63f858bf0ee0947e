//! `mose lab rehearsals`: each workload rehearsed and then migrated, to and fro, and what the one says of the other.

mod left;
mod table;
mod watch;

use std::process::ExitCode;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::arguments::plan;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table as tables};
use mose_experiments::documents::{Found, Once, Pair, Rehearsals, Rehearsed};
use mose_lab::{Lab, ServiceOptions, WORKLOADS, Workload};
use mose_protocol::record::{Outcome, Record};

use crate::course::{EDGES, How, Orders, PAUSE, Runner, attach_clients};
use crate::faults::host::sh;
use crate::guard::open_for;

use left::{Usual, Way};
use watch::Watch;

/// Holds what it is told to, and nothing unless it is told.
const LEFT_OUT: &str = "holder";

/// Holds more than a container may unless it is privileged.
const PRIVILEGED: &str = "holdall";

pub(crate) fn run(options: &commands::Rehearsals) -> color_eyre::Result<ExitCode> {
    let workloads = chosen(&options.workloads)?;
    let names: Vec<&str> = workloads.iter().map(|workload| workload.name).collect();
    let lab = open_for(&names, options.replace)?;
    attach_clients(&lab)?;
    let mut all = Rehearsals { strategy: options.strategy, workloads: Vec::new() };
    for workload in workloads {
        let tried = try_one(&lab, workload, options);
        if !options.json {
            table::print_steps(&tried);
        }
        all.workloads.push(tried);
    }
    if options.json {
        print_json(&all);
    } else {
        table::print_summary(&all);
    }
    Ok(if all.good() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// The workloads of these names; all but one without any.
fn chosen(names: &[String]) -> color_eyre::Result<Vec<&'static Workload>> {
    if names.is_empty() {
        return Ok(WORKLOADS.iter().filter(|workload| workload.name != LEFT_OUT).collect());
    }
    names.iter().map(|name| Ok(Workload::named(name)?)).collect()
}

/// What breaks one workload off breaks off no other.
fn try_one(lab: &Lab, workload: &Workload, options: &commands::Rehearsals) -> Rehearsed {
    let name = workload.name;
    let started = match workload.client {
        Some(_) => Runner::start(lab, name, ServiceOptions::of(name).address, &[]),
        None => {
            let podman = if name == PRIVILEGED { vec!["--privileged".to_owned()] } else { Vec::new() };
            Runner::start_alone(lab, name, ServiceOptions { podman, ..ServiceOptions::of(name) })
        }
    };
    let runner = match started {
        Ok(runner) => runner,
        Err(error) => return Rehearsed::of(name, Vec::new(), None, Some(format!("{error:#}"))),
    };
    let mut pairs = Vec::new();
    // Only the thread that orders enters the controller's network.
    let ended = std::thread::scope(|scope| {
        let ordered = scope.spawn(|| to_and_fro(lab, name, options, &mut pairs)).join();
        ordered.unwrap_or_else(|_| Err(eyre!("the orders were broken off")))
    });
    let mut broken_off = ended.err().map(|error| format!("{error:#}"));
    let client = match workload.client.map(|_| runner.stop()) {
        Some(Ok(client)) => Some(client),
        Some(Err(error)) => {
            broken_off.get_or_insert_with(|| format!("{error:#}"));
            None
        }
        None => None,
    };
    if let Some(client) = &client {
        let begins: Vec<u64> = pairs.iter().flat_map(onces).map(|once| begin(&once.record)).collect();
        let ends = begins.iter().skip(1).copied().chain([u64::MAX]);
        let spans: Vec<(u64, u64)> = begins.iter().copied().zip(ends).collect();
        for (once, (from, to)) in pairs.iter_mut().flat_map(onces_mut).zip(spans) {
            once.client_silence_ms = Some(client.longest_gap_between(from, to));
        }
    }
    Rehearsed::of(name, pairs, client, broken_off)
}

fn onces(pair: &Pair) -> impl Iterator<Item = &Once> {
    std::iter::once(&pair.rehearsal).chain(&pair.migration)
}

fn onces_mut(pair: &mut Pair) -> impl Iterator<Item = &mut Once> {
    std::iter::once(&mut pair.rehearsal).chain(&mut pair.migration)
}

/// When it began, in milliseconds since 1970.
const fn begin(record: &Record) -> u64 {
    record.started_at.0 / 1000
}

fn to_and_fro(
    lab: &Lab,
    name: &str,
    options: &commands::Rehearsals,
    pairs: &mut Vec<Pair>,
) -> color_eyre::Result<()> {
    let orders = Orders::connect(lab)?;
    let how = How { plan: plan(options.strategy, Some(options.iterations)), ..How::default() };
    let id = sh(lab, EDGES[0], &format!("podman inspect --format '{{{{.Id}}}}' {name}"))
        .wrap_err("the container's id is not known")?;
    let [from, to] = EDGES;
    let mut way = Way { from, to, service: name.to_owned(), id: id.trim().to_owned() };
    let mut usual = Usual::default();
    for number in 0..options.runs {
        std::thread::sleep(PAUSE);
        let (record, found) = rehearse(lab, &orders, &way, &how, &mut usual)?;
        let rehearsal = Once { record, client_silence_ms: None };
        let ended = tables::ending(&rehearsal.record);
        let rehearsed = rehearsal.record.outcome == Outcome::Rehearsed;
        let resumed = found.resumed;
        pairs.push(Pair { rehearsal, found, migration: None });
        if !rehearsed {
            return Err(eyre!("rehearsal {} ended badly: {ended}", number + 1));
        }
        if resumed {
            // There may be two copies by now: moving one of them says nothing.
            return Err(eyre!("rehearsal {} resumed something on {}", number + 1, way.to));
        }
        std::thread::sleep(PAUSE);
        // It is watched as well, so that both bear what watching costs.
        let watch = watch(lab, &way)?;
        let migrated = orders.migrate(name, way.from, way.to, &how);
        let _ = watch.end();
        let record = migrated?;
        let ended = tables::ending(&record);
        let done = record.outcome == Outcome::Done;
        if let Some(pair) = pairs.last_mut() {
            pair.migration = Some(Once { record, client_silence_ms: None });
        }
        if !done {
            return Err(eyre!("migration {} ended badly: {ended}", number + 1));
        }
        std::mem::swap(&mut way.from, &mut way.to);
        if !options.json {
            eprintln!("{name}: {:>3} of {}", number + 1, options.runs);
        }
    }
    std::thread::sleep(PAUSE);
    Ok(())
}

fn watch(lab: &Lab, way: &Way) -> color_eyre::Result<Watch> {
    Watch::begin(lab, way, ServiceOptions::of(&way.service).address)
}

/// One rehearsal, and what was found after it. The watch ends last: also what is removed may say something.
fn rehearse(
    lab: &Lab,
    orders: &Orders,
    way: &Way,
    how: &How,
    usual: &mut Usual,
) -> color_eyre::Result<(Record, Found)> {
    let before = usual.before(lab, way)?;
    let watch = watch(lab, way)?;
    let how = How { rehearsal: true, ..how.clone() };
    let record = orders.migrate(&way.service, way.from, way.to, &how);
    let left = left::left(lab, way, &before);
    let heard = watch.end();
    let (record, (left, processes), heard) = (record?, left?, heard?);
    if heard.sent > 0 {
        tracing::warn!(sent = heard.sent, examples = ?heard.examples, "a rehearsal sent something");
    }
    let found = Found {
        left,
        restore_read: heard.restore_read,
        resumed: heard.resumed || processes,
        sent_packets: heard.sent,
        kept_in_packets: heard.kept_in,
    };
    Ok((record, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workloads_are_rehearsed_unless_some_are_named() {
        let names = |all: Vec<&Workload>| all.iter().map(|one| one.name).collect::<Vec<_>>();
        let all = names(chosen(&[]).unwrap());
        assert!(all.contains(&"counter") && all.contains(&"busybox") && !all.contains(&LEFT_OUT), "{all:?}");
        assert_eq!(all.len() + 1, WORKLOADS.len());
        assert_eq!(names(chosen(&["redis".to_owned()]).unwrap()), ["redis"]);
        assert!(chosen(&["oracle".to_owned()]).unwrap_err().to_string().contains("redis"));
        assert!(Workload::named(PRIVILEGED).is_ok());
    }
}
