//! What the program's exit codes mean. They are part of its interface.

use std::process::ExitCode;

use mose_protocol::record::Outcome;
use mose_protocol::{Refusal, RefusalCode};

/// Something failed that is no answer about a migration.
pub const FAILED: u8 = 1;
/// The command line is wrong, or what it names is.
pub const USAGE: u8 = 2;
/// The migration was refused, and nothing was changed.
pub const REFUSED: u8 = 3;
/// The migration failed, and the service runs at its source as before.
pub const ROLLED_BACK: u8 = 4;
/// Nobody knows whether the service runs at the destination.
pub const IN_DOUBT: u8 = 5;
/// The operator had the source discard its copy of a service in doubt, and nobody has said that another one lives.
pub const GIVEN_UP: u8 = 6;
/// The operator aborted the migration, and the service runs at its source as before.
pub const ABORTED: u8 = 7;
/// Not every host answered: what those told last is marked, and what was printed may not be all there is.
pub const INCOMPLETE: u8 = 8;

/// Every code with its name and what it means: what `--help`, the man pages and the README say.
pub const TABLE: [(u8, &str, &str); 9] = [
    (
        0,
        "success",
        "`migrate`: the service runs at the destination; `rehearse`: it would, and runs at its source; `check`: it can move; `settle`: the doubt is over; `doctor`: nothing is broken",
    ),
    (FAILED, "failed", "something failed that says nothing about a migration; `doctor`: something is broken"),
    (USAGE, "usage", "the command line is wrong, or a file or a figure in it"),
    (REFUSED, "refused", "nothing was changed; `check`: the service cannot move as it is"),
    (ROLLED_BACK, "rolled back", "the service runs at its source, as before"),
    (IN_DOUBT, "in doubt", "nobody knows yet where the service runs; the source goes on asking"),
    (
        GIVEN_UP,
        "given up",
        "the source's copy was discarded by hand, and nobody has said that another one lives",
    ),
    (ABORTED, "aborted", "the operator aborted it; the service runs at its source, as before"),
    (
        INCOMPLETE,
        "incomplete",
        "a host did not answer: what it last told is marked, and what was printed may not be all there is",
    ),
];

/// [`TABLE`] as it is shown below a command's help.
#[must_use]
pub fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for (code, name, meaning) in TABLE {
        text.push_str(&format!("\n  {code}  {name:<11}  {meaning}"));
    }
    text
}

/// The exit code of an outcome.
#[must_use]
pub fn of(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Done | Outcome::Rehearsed => ExitCode::SUCCESS,
        Outcome::Refused => ExitCode::from(REFUSED),
        Outcome::RolledBack => ExitCode::from(ROLLED_BACK),
        Outcome::InDoubt => ExitCode::from(IN_DOUBT),
        Outcome::GivenUp => ExitCode::from(GIVEN_UP),
        Outcome::Aborted => ExitCode::from(ABORTED),
    }
}

/// The exit code of what was refused, or could not be done.
#[must_use]
pub fn of_refusal(refusal: &Refusal) -> ExitCode {
    ExitCode::from(match refusal.code {
        RefusalCode::Failed => FAILED,
        _ => REFUSED,
    })
}
