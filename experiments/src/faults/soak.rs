//! `mose lab soak`: many migrations to and fro under one client, with a fault in one of five.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use mose_console::documents::print_json;
use mose_console::exit;
use mose_console::lab::commands;
use mose_console::lab::commands::Replace;
use mose_experiments::documents::{AgentMemory, FaultCell, FaultTotals, Soak};
use mose_lab::Lab;
use mose_lab::client::ClientReport;

use super::bench::{Bench, now_ms};
use super::bound::{Worst, bound};
use super::cell::{By, Cell, Daemon, Fault};
use super::judge::{Found, judge, outcome};
use super::list::all;
use super::memory::Memory;
use super::report::{soak_markdown, soak_plain};
use super::results::Results;
use super::table::{folder, in_the_lab};
use super::underway::Ended;
use crate::course::Orders;

const FILE: &str = "soak.ndjson";

/// How many migrations one client sees. What it saw of them is then on disk.
const LEG: usize = 50;

/// One migration of so many has a fault.
const ONE_OF: u64 = 5;

/// How long the service may take to answer again.
const ANSWERED: Duration = Duration::from_secs(40);

/// How long what a hand-over leaves may take to be removed.
const SETTLE: Duration = Duration::from_secs(30);

/// The faults of a soak: those that a lab is fit after within seconds.
const FAULTS: [&str; 12] = [
    "agent-killed@transfer/source/cold",
    "agent-killed@transfer/destination/cold",
    "agent-killed@relinquished/source/cold",
    "agent-killed@pre-restore/destination/cold",
    "agent-killed@prepare/destination/cold",
    "podman-killed@restore/destination/cold",
    "criu-killed@pre-resume/destination/cold",
    "criu-killed@pre-restore/destination/cold",
    "runc-fails@runc-restore/destination/cold",
    "switch-killed@transfer/destination/cold",
    "aborted@transfer/source/cold",
    "aborted@pre-dump/source/iterative-precopy",
];

pub(crate) fn run(options: &commands::Soak) -> color_eyre::Result<ExitCode> {
    let (folder, kept) = folder(options.out.as_deref(), "soak");
    let mut results = Results::open(&folder, FILE, options.resume)?;
    let replace = Replace { replace: options.replace.replace || options.resume };
    let ran = in_the_lab(replace, |lab| session(lab, options, &mut results))?;
    let cells = std::mem::take(&mut results.cells);
    let struck = cells.iter().filter(|cell| cell.fault != "none").count();
    let Ran { sent, answered, agents } = ran;
    let totals = FaultTotals::of(&cells);
    let soak = Soak { seed: options.seed, totals, struck, sent, answered, agents, migrations: cells };
    if kept {
        results.keep("soak.md", &soak_markdown(&soak))?;
        results.keep("soak.json", &serde_json::to_string_pretty(&soak)?)?;
    } else {
        let _ = std::fs::remove_dir_all(&folder);
    }
    if options.json {
        print_json(&soak);
    } else if options.markdown {
        print!("{}", soak_markdown(&soak));
    } else {
        print!("{}", soak_plain(&soak));
    }
    Ok(if soak.good() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// What this run of a soak comes to beside its migrations.
#[derive(Default)]
struct Ran {
    sent: u64,
    answered: u64,
    agents: Vec<AgentMemory>,
}

/// A migration before the client's log is read.
struct Moved {
    cell: Cell,
    plain: bool,
    ended: Ended,
    span: (u64, u64),
    bound_ms: f64,
    copies: Vec<(&'static str, u32)>,
    leaked: Vec<String>,
    took_s: f64,
    number: usize,
}

fn session(lab: &Lab, options: &commands::Soak, results: &mut Results) -> color_eyre::Result<Ran> {
    let orders = Orders::connect(lab)?;
    let bench = Bench::ready(lab, &orders)?;
    let all_of_them = options.migrations as usize;
    let mut ran = Ran::default();
    let faults = faults(options.spare_agents);
    let mut memory = Memory::default();
    let begun = Instant::now();
    let first = results.cells.len();
    while results.cells.len() < all_of_them {
        let mut client = bench.client()?;
        let mut leg = Vec::new();
        let mut stuck = false;
        for number in results.cells.len()..all_of_them.min(results.cells.len() + LEG) {
            let (cell, plain) = drawn(options.seed, number as u64, &faults);
            let one = migrate(&bench, cell, plain, number, &mut client)?;
            let left = begun.elapsed().as_secs_f64() / (number - first + 1) as f64
                * (all_of_them - number - 1) as f64;
            let name = if plain { cell.by.name() } else { cell.name() };
            let ended = outcome(&one.ended);
            eprintln!("{:>4}/{all_of_them}  {name}: {ended} · {:.0} min left", number + 1, left / 60.0);
            stuck = one.copies.iter().map(|(_, count)| count).sum::<u32>() != 1 || !client.is_running();
            leg.push(one);
            memory.read(lab);
            if stuck {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        let client = client.stop()?;
        ran.sent += client.sent;
        ran.answered += client.received;
        let last = leg.len() - 1;
        for (number, one) in leg.into_iter().enumerate() {
            let mut cell = judged(one, &client);
            if number == last {
                // The client's own counts are of all of them together.
                cell.lost = client.lost;
                cell.corrupted = client.corrupted;
                cell.repeated = client.repeated;
                cell.resets = client.resets;
            }
            results.add(cell, "")?;
        }
        if stuck {
            eprintln!("the soak is broken off: the service or its client does not run any more");
            break;
        }
    }
    ran.agents = memory.compared();
    Ok(ran)
}

fn migrate(
    bench: &Bench<'_>,
    cell: Cell,
    plain: bool,
    number: usize,
    client: &mut mose_lab::client::Client,
) -> color_eyre::Result<Moved> {
    let begun = Instant::now();
    bench.daemons_ready();
    let hosts = bench.hosts()?;
    bench.course(hosts).acquainted();
    let from = now_ms();
    let mut ended = bench.course(hosts).carry_out(cell.by, (!plain).then_some(&cell))?;
    if !bench.answered(client, ANSWERED) {
        ended.complaints.push(format!("the client was not answered for {ANSWERED:?}"));
    }
    let to = now_ms();
    let bound = if plain { Worst::of(cell.by).downtime } else { bound(&cell, Worst::of(cell.by)) };
    let rest = bench.at_rest(hosts.source, SETTLE)?;
    Ok(Moved {
        cell,
        plain,
        ended,
        span: (from, to),
        bound_ms: bound.as_secs_f64() * 1e3,
        copies: rest.copies.to_vec(),
        leaked: rest.leaked,
        took_s: begun.elapsed().as_secs_f64(),
        number,
    })
}

/// A migration's line, with its part of the client's log. What the client counts is counted once, for all of them.
fn judged(moved: Moved, client: &ClientReport) -> FaultCell {
    let Moved { cell, plain, ended, span, bound_ms, copies, leaked, took_s, number } = moved;
    let silences = ClientReport { gaps: client.gaps.clone(), ..ClientReport::default() };
    let client = Ok(silences);
    let mut told = judge(&cell, Found { ended, client, span, bound_ms, copies, place: None, leaked, took_s });
    if plain {
        told.fault = "none".into();
        told.moment = String::new();
        told.name = format!("none//{}", told.strategy);
    }
    told.name = format!("{} {}", number + 1, told.name);
    told
}

/// The cells of [`FAULTS`]; without those that end an agent, if they are to be spared.
fn faults(spare_agents: bool) -> Vec<Cell> {
    let mut cells = all();
    cells.retain(|cell| FAULTS.contains(&cell.name().as_str()));
    cells.retain(|cell| !(spare_agents && cell.fault == Fault::Killed(Daemon::Agent)));
    cells
}

/// What a migration is to be, from the seed and its number: one of the faults, or none and one of the strategies.
fn drawn(seed: u64, number: u64, faults: &[Cell]) -> (Cell, bool) {
    let draw = mixed(seed ^ mixed(number));
    let plain = !draw.is_multiple_of(ONE_OF);
    let mut cell = faults[(draw / ONE_OF) as usize % faults.len()];
    if plain {
        let ways = [By::COLD, By::PRECOPY, By::ITERATIVE];
        cell.by = ways[(draw / ONE_OF) as usize % ways.len()];
        cell.ends = &[mose_protocol::record::Outcome::Done];
    }
    (cell, plain)
}

/// SplitMix64: the same numbers for the same seed, on every machine.
const fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_soak_is_a_cell_of_the_table() {
        let names: Vec<String> = all().iter().map(Cell::name).collect();
        for fault in FAULTS {
            assert!(names.contains(&fault.to_owned()), "{fault}");
        }
    }

    #[test]
    fn agents_can_be_spared() {
        let killed =
            |spare| faults(spare).iter().filter(|cell| cell.fault == Fault::Killed(Daemon::Agent)).count();
        assert_eq!((faults(false).len(), killed(false)), (FAULTS.len(), 5));
        assert_eq!((faults(true).len(), killed(true)), (FAULTS.len() - 5, 0));
    }

    #[test]
    fn one_migration_of_five_has_a_fault_and_a_seed_draws_the_same_again() {
        let faults = faults(false);
        let of = |seed: u64| (0..1000).map(|number| drawn(seed, number, &faults)).collect::<Vec<_>>();
        let struck = of(1).iter().filter(|(_, plain)| !plain).count();
        assert!((150..250).contains(&struck), "{struck}");
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }
}
