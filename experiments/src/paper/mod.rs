//! `mose lab paper`: tables of the paper, measured again and set beside what was published.
#![expect(clippy::print_stdout, reason = "a command line prints")]

mod order;
mod results;
#[cfg(test)]
mod samples;
mod setup;
mod table3;

use std::path::PathBuf;
use std::process::ExitCode;

use color_eyre::eyre::eyre;
use mose_console::documents::print_json;
use mose_console::exit;
use mose_console::lab::commands::{Paper, PaperTable};

use self::results::{Mode, admit};
use crate::testbed::open;

/// Measures a table.
pub(crate) fn run(options: &Paper) -> color_eyre::Result<ExitCode> {
    let folder =
        options.out.clone().unwrap_or_else(|| PathBuf::from(format!("paper-{}", options.table.name())));
    // Before the lab is looked for: a folder that is refused costs nothing.
    admit(&folder, Mode::from(options))?;
    let lab = open()?;
    // Only the thread that orders enters the controller's network.
    let table = std::thread::scope(|scope| {
        let measured = scope.spawn(|| match options.table {
            PaperTable::Table3 => table3::run(&lab, options, &folder),
        });
        measured.join().map_err(|_| eyre!("the orders were broken off"))
    })??;
    if options.json {
        print_json(&table);
    } else {
        print!("{}", table3::plain(&table));
        eprintln!("the table and the report are in {}", folder.display());
    }
    Ok(if table.good() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}
