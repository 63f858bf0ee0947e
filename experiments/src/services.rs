//! `mose lab services`: real services under their clients, there and back by each strategy, and their contents compared.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::arguments::plan;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::{Trials, Tried, TriedBy};
use mose_lab::guest::Guest;
use mose_lab::trial::{self, Contents, Events, Extent, Moment, SOFTWARE, Site, Software, Trial};
use mose_lab::{Lab, LabConfig};
use mose_pam::{Millis, Strategy};
use mose_protocol::record::{Outcome, Record};

use crate::course::{EDGES, How, Orders, attach_clients};
use crate::guard::open_for;
use crate::testbed::{all_programs, show};

/// How long clients are left alone between two moves.
const PAUSE: Duration = Duration::from_millis(700);
/// How long a guest may take for one service, however slow it is.
const GUEST: Duration = Duration::from_secs(3600);

pub(crate) fn run(options: &commands::ServicesRun) -> color_eyre::Result<ExitCode> {
    let chosen = chosen(options)?;
    if options.guest {
        return in_guest(options, &chosen);
    }
    let names: Vec<&str> = chosen.iter().map(|software| software.name).collect();
    let lab = open_for(&names, options.replace)?;
    attach_clients(&lab)?;
    let config = LabConfig::default();
    // Before the thread that orders enters the controller's network, from where nothing can be fetched.
    let archives: Vec<PathBuf> = chosen
        .iter()
        .map(|software| trial::ensure_image(&config, software, &mut show))
        .collect::<Result<_, _>>()?;
    let services = std::thread::scope(|scope| {
        let try_all = || -> color_eyre::Result<Vec<Tried>> {
            let orders = Orders::connect(&lab)?;
            let all = chosen.iter().zip(&archives);
            all.map(|(software, archive)| {
                Site::new(&lab, software).load_image(archive)?;
                try_one(&lab, software, &orders, options)
            })
            .collect()
        };
        scope.spawn(try_all).join().map_err(|_| eyre!("the trial was broken off"))
    })??;
    let trials = Trials { services };
    if options.json {
        print_json(&trials);
    } else {
        print(&trials);
    }
    Ok(if trials.good() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// What is to be tried. What is named must work here; without names, what cannot work here is left out, and that is said.
fn chosen(options: &commands::ServicesRun) -> color_eyre::Result<Vec<&'static Software>> {
    if !options.only.is_empty() {
        let named = options.only.iter().map(|name| {
            let software = Software::named(name)?;
            if !options.guest {
                software.can_move_here()?;
            }
            Ok(software)
        });
        return named.collect();
    }
    if options.guest {
        return Ok(vec![Software::named("postgres")?]);
    }
    let (here, elsewhere): (Vec<_>, Vec<_>) = SOFTWARE
        .iter()
        .map(|software| (software, software.can_move_here()))
        .partition(|(_, can)| can.is_ok());
    for (_, reason) in elsewhere {
        if let Err(reason) = reason {
            eprintln!("left out: {reason}");
        }
    }
    Ok(here.into_iter().map(|(software, _)| software).collect())
}

fn try_one(
    lab: &Lab,
    software: &'static Software,
    orders: &Orders,
    options: &commands::ServicesRun,
) -> color_eyre::Result<Tried> {
    let site = Site::new(lab, software);
    tell(options, &format!("{}: starting on {}", software.name, EDGES[0]));
    site.start(EDGES[0])?;
    let mut trial = trial::of(site, if options.full { Extent::Full } else { Extent::Bounded });
    let tried = under_load(software, trial.as_mut(), &site, orders, options);
    // Whatever came of it: the next service is tried all the same, in a lab that is as it was.
    site.remove()?;
    Ok(tried.unwrap_or_else(|error| Tried {
        service: software.name.to_owned(),
        what: software.what.to_owned(),
        by: Vec::new(),
        all: trial::Figures::default(),
        failures: Vec::new(),
        moved: None,
        restarted: None,
        broken_off: Some(format!("{error:#}")),
    }))
}

fn under_load(
    software: &Software,
    trial: &mut dyn Trial,
    site: &Site,
    orders: &Orders,
    options: &commands::ServicesRun,
) -> color_eyre::Result<Tried> {
    trial.prepare(EDGES[0])?;
    trial.begin()?;
    let moved = options.strategies.iter().map(|strategy| {
        tell(options, &format!("{}: there and back by {strategy}", software.name));
        (*strategy, there_and_back(software, *strategy, orders, options))
    });
    // One that did not come back is not moved on.
    let mut moves: Vec<(Strategy, Moves)> = Vec::new();
    for (strategy, outcome) in moved {
        let good = outcome.broken_off.is_none();
        moves.push((strategy, outcome));
        if !good {
            break;
        }
    }
    std::thread::sleep(PAUSE);
    let events = trial.end().wrap_err("what the clients saw cannot be told")?;
    let mut broken_off = moves.iter().find_map(|(_, moves)| moves.broken_off.clone());
    let (mut after_moves, mut restarted) = (None, None);
    let host = moves.last().map_or(EDGES[0], |(_, moves)| moves.host);
    tell(options, &format!("{}: comparing what it holds on {host}", software.name));
    match compare(trial, site, host, &mut after_moves, &mut restarted) {
        Ok(()) => {}
        Err(error) => broken_off = broken_off.or(Some(error.to_string())),
    }
    Ok(Tried {
        service: software.name.to_owned(),
        what: software.what.to_owned(),
        by: rows(moves, &events),
        all: events.all(),
        failures: events.words().to_vec(),
        moved: after_moves,
        restarted,
        broken_off,
    })
}

fn compare(
    trial: &mut dyn Trial,
    site: &Site,
    host: &str,
    moved: &mut Option<Contents>,
    restarted: &mut Option<Contents>,
) -> color_eyre::Result<()> {
    *moved = Some(trial.compare(host, Moment::Running)?);
    site.restart(host)?;
    *restarted = Some(trial.compare(host, Moment::Restarted)?);
    Ok(())
}

/// What came of the moves by one strategy.
struct Moves {
    records: Vec<Record>,
    /// Where the service is.
    host: &'static str,
    broken_off: Option<String>,
}

fn there_and_back(
    software: &Software,
    strategy: Strategy,
    orders: &Orders,
    options: &commands::ServicesRun,
) -> Moves {
    let how = How { plan: plan(strategy, Some(options.iterations)), ..How::default() };
    let mut moves = Moves { records: Vec::new(), host: EDGES[0], broken_off: None };
    for _ in 0..options.laps * 2 {
        std::thread::sleep(PAUSE);
        let to = if moves.host == EDGES[0] { EDGES[1] } else { EDGES[0] };
        match orders.migrate(software.name, moves.host, to, &how) {
            Ok(record) => {
                if record.outcome == Outcome::Done {
                    moves.host = to;
                } else {
                    moves.broken_off = Some(table::ending(&record));
                }
                moves.records.push(record);
            }
            Err(error) => moves.broken_off = Some(error.to_string()),
        }
        if moves.broken_off.is_some() {
            break;
        }
    }
    moves
}

/// A row for each strategy: its time is from its first move until the next one's.
fn rows(moves: Vec<(Strategy, Moves)>, events: &Events) -> Vec<TriedBy> {
    let begin = |moves: &Moves| moves.records.first().map(|record| record.started_at.0 / 1000);
    let begins: Vec<u64> = moves.iter().map(|(_, moves)| begin(moves).unwrap_or(u64::MAX)).collect();
    let (from, to) = events.span_unix_ms();
    moves
        .into_iter()
        .enumerate()
        .map(|(number, (strategy, moves))| {
            let next = begins.get(number + 1).copied().unwrap_or(u64::MAX);
            let first = if number == 0 { 0 } else { begins[number] };
            let span = |record: &Record| {
                let begin = record.started_at.0 / 1000;
                (begin, begin + record.duration.0 as u64)
            };
            let mut clients = events.between(first, next);
            // The silence told is that of the moves, not of a client's last moments.
            clients.client_silence_ms = moves
                .records
                .iter()
                .map(|record| {
                    let (begin, end) = span(record);
                    events.silence_between(begin, end)
                })
                .fold(0.0, f64::max);
            TriedBy {
                strategy,
                service_stopped_ms: moves
                    .records
                    .iter()
                    .filter_map(|record| record.downtime.blackout.map(|ms| ms.0))
                    .reduce(f64::max),
                clients,
                under_load: moves.records.iter().all(|record| {
                    let (begin, end) = span(record);
                    from > 0 && from <= begin && end <= to
                }),
                records: moves.records,
            }
        })
        .collect()
}

/// Has it done in a guest, in a lab of the guest's own.
fn in_guest(options: &commands::ServicesRun, chosen: &[&'static Software]) -> color_eyre::Result<ExitCode> {
    let config = LabConfig { binaries: all_programs()?, ..LabConfig::default() };
    let archives: Vec<PathBuf> = chosen
        .iter()
        .map(|software| trial::ensure_image(&config, software, &mut show))
        .collect::<Result<_, _>>()?;
    let guest = Guest::prepare(&config, &mut show)?;
    let output = guest.run(
        &guest_script(options, chosen),
        &trial::guest_files(&archives),
        GUEST * chosen.len() as u32,
        &mut crate::guest::show_output,
    )?;
    Ok(ExitCode::from(u8::try_from(output.code).unwrap_or(exit::FAILED)))
}

/// The guest's shell lines: a lab, and this command in it.
fn guest_script(options: &commands::ServicesRun, chosen: &[&'static Software]) -> String {
    let names: Vec<&str> = chosen.iter().map(|software| software.name).collect();
    let strategies: Vec<&str> = options.strategies.iter().map(|strategy| strategy.name()).collect();
    let mut command = format!(
        "mose lab services --only {} --strategies {} --iterations {} --laps {}",
        names.join(","),
        strategies.join(","),
        options.iterations,
        options.laps
    );
    if options.full {
        command += " --full";
    }
    if options.json {
        // What is printed beside the document is not for who reads it.
        command += " --json 2>/dev/null";
    }
    format!("mose lab up >/tmp/up 2>&1 || {{ cat /tmp/up; exit 1; }}\nexec {command}\n")
}

fn tell(options: &commands::ServicesRun, what: &str) {
    if !options.json {
        eprintln!("{what}");
    }
}

#[expect(clippy::print_stdout, reason = "a command line prints")]
fn print(trials: &Trials) {
    let rows: Vec<Vec<String>> =
        trials.services.iter().flat_map(|tried| tried.by.iter().map(|by| row(tried, by))).collect();
    let head = [
        "service",
        "strategy",
        "moves",
        "outcome",
        "service stopped",
        "client silence",
        "requests",
        "lost",
        "failed",
        "contents",
    ];
    println!("{}", table::table(&head, &[2, 4, 5, 6, 7, 8], &rows));
    for tried in &trials.services {
        let contents = [("moved", &tried.moved), ("restarted", &tried.restarted)];
        for (when, contents) in contents.into_iter().filter_map(|(when, c)| Some((when, c.as_ref()?))) {
            let Contents { what, expected, good, faults } = contents;
            println!("{}, {when}: {good} of {expected} {what} as they should be", tried.service);
            faults.iter().for_each(|fault| println!("  {fault}"));
        }
        for by in tried.by.iter().filter(|by| !by.under_load) {
            println!("{}, {}: not all clients were at work during all moves", tried.service, by.strategy);
        }
        tried.failures.iter().for_each(|failure| println!("  failed: {failure}"));
        if let Some(reason) = &tried.broken_off {
            println!("{} was broken off: {reason}", tried.service);
        }
    }
}

fn row(tried: &Tried, by: &TriedBy) -> Vec<String> {
    let done = by.records.iter().filter(|record| record.outcome == Outcome::Done).count();
    let whole = [&tried.moved, &tried.restarted].iter().all(|c| c.as_ref().is_some_and(Contents::whole));
    vec![
        tried.service.clone(),
        by.strategy.to_string(),
        by.records.len().to_string(),
        if done == by.records.len() { "done" } else { "not done" }.to_owned(),
        table::known(by.service_stopped_ms.map(Millis)),
        Millis(by.clients.client_silence_ms).to_string(),
        by.clients.requests.to_string(),
        by.clients.lost.to_string(),
        by.clients.failed.to_string(),
        if whole { "whole" } else { "NOT WHOLE" }.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Arguments, Command};

    fn options(words: &[&str]) -> commands::ServicesRun {
        let all = [&["mose-lab", "services"], words].concat();
        match Arguments::try_parse_from(all).unwrap().command {
            Command::Lab(commands::Lab::Services(options)) => *options,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn what_there_is_not_is_answered_with_what_there_is() {
        let error = chosen(&options(&["--only", "redis,oracle"])).unwrap_err().to_string();
        assert!(error.contains("`oracle`") && error.contains("nginx"), "{error}");
    }

    #[test]
    fn a_guest_does_what_was_asked_for_here() {
        let options = options(&["--guest", "--full", "--laps", "2", "--strategies", "cold"]);
        let chosen = chosen(&options).unwrap();
        let script = guest_script(&options, &chosen);
        assert!(
            script.contains("--only postgres --strategies cold --iterations 2 --laps 2 --full"),
            "{script}"
        );
    }
}
