//! `mose lab faults`: the cells in order, each in the lab as the one before left it, and a new lab where it left it unfit.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::documents::print_json;
use mose_console::exit;
use mose_console::lab::commands;
use mose_console::lab::commands::Replace;
use mose_experiments::documents::{FaultTable, FaultTotals};
use mose_lab::Lab;

use super::bench::{Bench, LINK, SERVICE};
use super::cell::Cell;
use super::list::all;
use super::report::{elsewhere, markdown, plain};
use super::results::Results;
use super::trial;
use crate::course::Orders;
use crate::guard::open_for;
use crate::testbed::{open, show};

const FILE: &str = "faults.ndjson";

/// How the cells that were left ended.
pub(crate) enum Left {
    Nothing,
    /// The lab is not fit for the next one.
    AnotherLab,
}

pub(crate) fn run(options: &commands::Faults) -> color_eyre::Result<ExitCode> {
    let cells = chosen(options)?;
    if options.list {
        cells.iter().for_each(|cell| println!("{}", cell.name()));
        return Ok(ExitCode::SUCCESS);
    }
    let (folder, kept) = folder(options.out.as_deref(), "faults");
    let mut results = Results::open(&folder, FILE, options.resume)?;
    let replace = Replace { replace: options.replace.replace || options.resume };
    let left: Vec<Cell> = cells.iter().filter(|cell| !results.has(&cell.name())).copied().collect();
    if !left.is_empty() {
        let ended = in_the_lab(replace, |lab| session(lab, &left, &mut results))?;
        if matches!(ended, Left::AnotherLab) {
            return go_on(&folder);
        }
    }
    let names: Vec<String> = cells.iter().map(Cell::name).collect();
    let cells: Vec<_> = results.cells.iter().filter(|cell| names.contains(&cell.name)).cloned().collect();
    let table = FaultTable { totals: FaultTotals::of(&cells), cells, elsewhere: elsewhere() };
    if kept {
        results.keep("faults.md", &markdown(&table))?;
        results.keep("faults.json", &serde_json::to_string_pretty(&table)?)?;
    } else {
        // It held what is printed now.
        let _ = std::fs::remove_dir_all(&folder);
    }
    if options.json {
        print_json(&table);
    } else if options.markdown {
        print!("{}", markdown(&table));
    } else {
        print!("{}", plain(&table));
    }
    Ok(if table.totals.good() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// The cells that were asked for.
fn chosen(options: &commands::Faults) -> color_eyre::Result<Vec<Cell>> {
    let wanted = |cell: &Cell| {
        let name = cell.name();
        (!options.quick || cell.quick)
            && (options.only.is_empty() || options.only.iter().any(|pattern| name.contains(pattern.as_str())))
    };
    let chosen: Vec<Cell> = all().into_iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(eyre!("no cell is named like that; mose lab faults --list tells them all"));
    }
    Ok(chosen)
}

/// Where the results are kept, and whether anyone asked for them: the same for the programs that go on with one run.
pub(crate) fn folder(out: Option<&Path>, what: &str) -> (PathBuf, bool) {
    let unasked = || std::env::temp_dir().join(format!("mose-{what}-{}", std::process::id()));
    match out {
        Some(folder) if folder == unasked() => (folder.to_owned(), false),
        Some(folder) => (folder.to_owned(), true),
        None => (unasked(), false),
    }
}

/// Does something in the lab that is up, on a thread of its own: only that enters the controller's network. The link is as it was
/// afterwards.
pub(crate) fn in_the_lab<T: Send>(
    replace: Replace,
    what: impl FnOnce(&Lab) -> color_eyre::Result<T> + Send,
) -> color_eyre::Result<T> {
    let before = open_for(&[SERVICE], replace)?.config().edge_link;
    open()?.set_edge_link(LINK.parse()?)?;
    let lab = open()?;
    let done = std::thread::scope(|scope| {
        scope.spawn(|| what(&lab)).join().map_err(|_| eyre!("the orders were broken off"))
    });
    open()?.set_edge_link(before)?;
    done?
}

/// Brings up a new lab and goes on in a new program: threads of this one stay in the network of the lab that was.
pub(crate) fn go_on(folder: &Path) -> color_eyre::Result<ExitCode> {
    let config = open()?.config().clone();
    drop(Lab::reset(&config, &mut show)?);
    let error = Command::new("/proc/self/exe").arg0("mose-lab").args(arguments_to_go_on(folder)).exec();
    Err(error).wrap_err("the run cannot go on in the new lab; give --resume")
}

fn arguments_to_go_on(folder: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let has = |words: &[OsString], option: &str| {
        words.iter().any(|word| {
            word.to_str().is_some_and(|word| word == option || word.starts_with(&format!("{option}=")))
        })
    };
    if !has(&words, "--out") {
        words.extend(["--out".into(), folder.into()]);
    }
    if !has(&words, "--resume") {
        words.push("--resume".into());
    }
    words
}

fn session(lab: &Lab, left: &[Cell], results: &mut Results) -> color_eyre::Result<Left> {
    let orders = Orders::connect(lab)?;
    let bench = Bench::ready(lab, &orders)?;
    let begun = Instant::now();
    let all = results.cells.len() + left.len();
    for (number, cell) in left.iter().enumerate() {
        eprintln!("{:>3}/{all}  {}", results.cells.len() + 1, cell.name());
        let tried = trial::run(&bench, cell)?;
        let told = &tried.cell;
        let each = begun.elapsed().as_secs_f64() / (number + 1) as f64;
        eprintln!(
            "         {} · {} · stood still {:.0} of {:.0} ms · {:.0} s, {:.0} min left{}",
            if told.good { "good" } else { "FAILED" },
            told.outcome,
            told.silence_ms,
            told.bound_ms,
            told.took_s,
            each * (left.len() - number - 1) as f64 / 60.0,
            told.why.iter().map(|why| format!("\n         {why}")).collect::<String>()
        );
        results.add(tried.cell, &tried.evidence)?;
        if !tried.fit && number + 1 < left.len() {
            return Ok(Left::AnotherLab);
        }
    }
    Ok(Left::Nothing)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn options(words: &[&str]) -> commands::Faults {
        let all = [&["mose-lab", "faults"], words].concat();
        match crate::Arguments::try_parse_from(all).unwrap().command {
            crate::Command::Lab(commands::Lab::Faults(options)) => *options,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn cells_are_chosen_by_any_part_of_their_names() {
        assert_eq!(chosen(&options(&[])).unwrap().len(), all().len());
        let some = chosen(&options(&["--only", "podman", "--only", "criu-killed@pre-resume"])).unwrap();
        assert!(some.len() > 3 && some.len() < 10, "{}", some.len());
        assert!(chosen(&options(&["--only", "nothing-like-it"])).is_err());
        assert!(chosen(&options(&["--quick"])).unwrap().iter().all(|cell| cell.quick));
    }

    #[test]
    fn a_run_goes_on_in_the_folder_where_it_was() {
        let words = arguments_to_go_on(Path::new("/results"));
        let end: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        assert!(end.ends_with(&["--out", "/results", "--resume"]), "{end:?}");
        let (unasked, kept) = folder(None, "faults");
        assert!(!kept);
        assert_eq!(folder(Some(&unasked), "faults"), (unasked, false));
        assert!(folder(Some(Path::new("/results")), "faults").1);
    }
}
