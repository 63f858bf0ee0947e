//! What `mose` asks this program for, as JSON: it knows nothing of the testbed itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;

use mose_console::documents::print_json;
use mose_console::lab::{LOOK, Machine, Missing, Readiness, Running, Space, Topic};
use mose_experiments::schemas;
use mose_lab::{Lab, LabConfig, OWN_BINARIES};

use crate::testbed::running;

/// Tells it.
pub(crate) fn run(topic: Topic) -> ExitCode {
    match topic {
        Topic::Running => print_json(&up()),
        Topic::Machine => print_json(&machine()),
        Topic::Schemas => print_json(&schemas::all()),
    }
    ExitCode::SUCCESS
}

/// The lab that is up, for whoever may look.
fn up() -> Option<Running> {
    Lab::open(&LabConfig::default().state_dir).ok().flatten().map(|lab| running(&lab))
}

fn machine() -> Machine {
    let (found, waiting) = mpsc::channel();
    // Left behind if it hangs: the program ends without it.
    std::thread::spawn(move || found.send(readiness()));
    let here = std::env::current_exe().unwrap_or_default();
    let folder = here.parent().map(PathBuf::from).unwrap_or_default();
    let absent = absent(&folder);
    Machine { readiness: waiting.recv_timeout(LOOK).ok(), folder, absent }
}

/// The programs of the lab's hosts that are not in the folder.
fn absent(folder: &Path) -> Vec<String> {
    let absent = OWN_BINARIES.into_iter().filter(|name| !folder.join(name).is_file());
    absent.map(str::to_owned).collect()
}

fn readiness() -> Readiness {
    let missing = mose_lab::doctor().into_iter();
    let space = mose_lab::space().into_iter();
    Readiness {
        missing: missing
            .map(|mose_lab::Missing { what, why, remedy }| Missing { what, why, remedy })
            .collect(),
        space: space.map(|mose_lab::Space { folder, free, needed }| Space { folder, free, needed }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_that_is_there_while_a_lab_is_up_is_where_its_state_is() {
        assert_eq!(Path::new(mose_console::lab::STATE_DIR), LabConfig::default().state_dir);
    }

    #[test]
    fn a_program_that_is_not_in_the_folder_is_absent() {
        assert_eq!(absent(Path::new("/nowhere")), OWN_BINARIES);
    }
}
