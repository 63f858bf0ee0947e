//! What the program's exit codes mean. They are part of its interface.

use std::process::ExitCode;

use mose_protocol::record::Outcome;

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

/// The exit code of an outcome.
#[must_use]
pub fn of(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::Refused => ExitCode::from(REFUSED),
        Outcome::RolledBack => ExitCode::from(ROLLED_BACK),
        Outcome::InDoubt => ExitCode::from(IN_DOUBT),
    }
}
