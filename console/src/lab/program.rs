//! The program `mose-lab`: finding it, becoming it as git becomes `git-foo`, and asking it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use clap::{FromArgMatches, ValueEnum};
use serde::de::DeserializeOwned;

use super::told::Topic;
use crate::arguments::Shared;

/// Its name.
pub const PROGRAM: &str = "mose-lab";

/// How long it may take for what it has at hand, on a machine that is slow and busy.
pub const SOON: Duration = Duration::from_secs(30);

/// How long it may take to look at the machine, and to say so.
pub const LOOK: Duration = Duration::from_secs(20);

/// The words of a command line that `mose-lab` is to get.
const WORDS: &str = "words";

/// `mose-lab` is nowhere.
#[derive(Debug, thiserror::Error)]
#[error(
    "the lab's program {PROGRAM} is missing: it is neither in {folder}, beside mose, nor on PATH; build all programs with \
     cargo build --release, and keep them in one folder"
)]
pub struct NotFound {
    /// Where it should be.
    pub folder: PathBuf,
}

/// Why `mose-lab` did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It is not there.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// It cannot be run.
    #[error("{PROGRAM} cannot be run: {0}")]
    Run(#[from] std::io::Error),
    /// It took too long.
    #[error("{PROGRAM} took longer than {} s", .0.as_secs())]
    Slow(Duration),
    /// It said something else than what it was asked for.
    #[error("{PROGRAM} gave an answer of another kind ({0}); use programs of one release")]
    Answer(#[from] serde_json::Error),
}

/// Where it is: beside this program, else on PATH.
fn find() -> Result<PathBuf, NotFound> {
    let here = std::env::current_exe().unwrap_or_default();
    let folder = here.parent().map(Path::to_owned).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(folder.clone())
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(PROGRAM))
        .find(|program| program.is_file());
    found.ok_or(NotFound { folder })
}

/// Becomes `mose-lab`, to do what the command line says behind `command`. It is given the options that all commands share, `first`,
/// and the words behind the command as they were written. Standard streams, signals and exit code are its own.
///
/// # Errors
/// It is not there, or cannot be run.
pub fn hand_over(
    whole: clap::Command,
    command: &'static str,
    first: &[&str],
) -> Result<Infallible, AskError> {
    let (shared, words) = split(whole, command, std::env::args_os());
    let failed = Command::new(find()?).args(shared.words()).args(first).args(words).exec();
    Err(failed.into())
}

/// Takes a command line apart that was understood: the options that all commands share, as far as they stand before the first word
/// behind `command`, and the words from that one on.
fn split(
    whole: clap::Command,
    command: &'static str,
    line: impl IntoIterator<Item = OsString>,
) -> (Shared, Vec<OsString>) {
    let anything = clap::Arg::new(WORDS)
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .value_parser(clap::value_parser!(OsString));
    let any = clap::Command::new(command).disable_help_flag(true).arg(anything);
    let Ok(matches) = whole.mut_subcommand(command, |_| any).try_get_matches_from(line) else {
        return Default::default();
    };
    let words = matches.subcommand_matches(command).and_then(|below| below.get_many::<OsString>(WORDS));
    let words = words.into_iter().flatten().cloned().collect();
    (Shared::from_arg_matches(&matches).unwrap_or_default(), words)
}

/// Asks it, and waits for its answer.
///
/// # Errors
/// It is not there, does not answer in time, or says something else.
pub fn ask<T: DeserializeOwned>(topic: Topic, deadline: Duration) -> Result<T, AskError> {
    let name = topic.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut child = Command::new(find()?)
        .args(["tell", &name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It may be asked while the console has the screen.
        .stderr(Stdio::null())
        .spawn()?;
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let (said, hears) = mpsc::channel();
    // Left behind if it hangs in the kernel: this program goes on without it.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = child.stdout.take().map_or(Ok(0), |mut from| from.read_to_end(&mut text));
        let _ = said.send(read.map(|_| text));
        let _ = child.wait();
    });
    match hears.recv_timeout(deadline) {
        Ok(text) => Ok(serde_json::from_slice(&text?)?),
        Err(_) => {
            // What has just ended by itself need not be ended.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            Err(AskError::Slow(deadline))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    /// The words that `mose-lab` would be given.
    fn given(line: &[&str]) -> Vec<OsString> {
        let inner = clap::Command::new("status").arg(clap::Arg::new("json").long("json").num_args(0));
        let whole = Shared::augment_args(clap::Command::new("mose"))
            .arg(clap::Arg::new("theme").long("theme"))
            .subcommand(clap::Command::new("lab").subcommand(inner));
        let (shared, words) = split(whole, "lab", line.iter().map(OsString::from));
        [shared.words(), words].concat()
    }

    #[test]
    fn shared_options_come_first_and_what_is_behind_the_command_as_it_was_written() {
        for (line, words) in [
            (&["mose", "lab"][..], &[][..]),
            (&["mose", "--theme", "lab", "lab", "status"], &["status"]),
            (&["mose", "lab", "status", "--json"], &["status", "--json"]),
            (&["mose", "lab", "--json", "status"], &["--json", "status"]),
            (&["mose", "--json", "lab", "status", "--json"], &["--json", "status", "--json"]),
            (
                &[
                    "mose",
                    "--connect",
                    "tcp/a:1,tcp/b:2",
                    "lab",
                    "exec",
                    "a",
                    "--",
                    "ls",
                    "--",
                    "-l",
                    "--json",
                ],
                &[
                    "--connect",
                    "tcp/a:1",
                    "--connect",
                    "tcp/b:2",
                    "exec",
                    "a",
                    "--",
                    "ls",
                    "--",
                    "-l",
                    "--json",
                ],
            ),
        ] {
            assert_eq!(given(line), words, "{line:?}");
        }
    }
}
