//! Table III: a UAV flown by an autopilot that moves, by hand and by MOSE.

mod bed;
mod csv;
mod flight;
mod fly;
mod latex;
mod rows;
mod shown;
mod table;
mod text;

use std::path::Path;

use mose_console::lab::commands::{Paper, Replace};
use mose_experiments::documents::Table3;
use mose_lab::Lab;

use self::bed::{BY_HAND, LabBed, SERVICE};
use self::fly::{Testbed, fly_all};
use self::rows::ROWS;
use super::order::order;
use super::results::{Mode, Results, keep};
use super::setup::setup as made_with;
use crate::course::Orders;
use crate::guard::open_for;

pub(crate) use text::plain;

/// Flies what is left to be flown, and writes the table. The calling thread enters the controller's network for good.
pub(crate) fn run(lab: &Lab, options: &Paper, folder: &Path) -> color_eyre::Result<Table3> {
    let orders = Orders::connect(lab)?;
    let setup = made_with(lab, &orders, options)?;
    let mut results = Results::open(folder, Mode::from(options), &setup, &mut say)?;
    // A run that was killed has left its services.
    let replace = Replace { replace: options.replace || options.resume };
    let lab = open_for(&[SERVICE, BY_HAND], replace)?;
    let mut bed = LabBed::ready(&lab, orders)?;
    let cells = order(ROWS.len(), options.runs, options.seed);
    let flown = fly_all(&mut bed, &cells, &mut results, &mut say);
    // Also what a run that was broken off has flown: its table says how much is left.
    let table = table::table(&setup, results.trials, |row| bed.unable(row));
    let written = write(folder, &table);
    flown?;
    written?;
    Ok(table)
}

fn say(text: &str) {
    eprintln!("{text}");
}

fn write(folder: &Path, table: &Table3) -> color_eyre::Result<()> {
    keep(folder, "table3.csv", &csv::csv(table))?;
    keep(folder, "table3.json", &format!("{}\n", serde_json::to_string_pretty(table)?))?;
    keep(folder, "table3.tex", &latex::latex(table))?;
    keep(folder, "report.md", &text::markdown(table))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{setup, trial};
    use super::*;

    #[test]
    fn all_files_of_a_table_are_written() {
        let folder = std::env::temp_dir().join(format!("mose-table3-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let table = table::table(&setup(), vec![trial("md-5s", 1)], |_| None);
        write(&folder, &table).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["report.md", "table3.csv", "table3.json", "table3.tex"]);
        let json = std::fs::read_to_string(folder.join("table3.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["rows"][4]["client_silence_ms"]["mean"], 210.0);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
