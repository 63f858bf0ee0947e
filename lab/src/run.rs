//! Running a program to its end and turning a failure into an error that says what was run and what it printed.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::error::{Context, LabError};
use crate::exec::PATH;

/// A program of the machine, from one of the usual places whatever the caller's own PATH is: root's often lacks `/usr/sbin`, and
/// what `doctor` finds must be what is run.
pub(crate) fn machine_program(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", PATH);
    command
}

/// Runs `command` to its end; its standard output.
///
/// # Errors
/// It could not be started or did not end with 0; the error carries the end of its standard error.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<String, LabError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .doing(&format!("{what}: start {}", command.get_program().display()))?;
    check(what, command, output)
}

/// Like [`run`], with `input` on its standard input.
pub(crate) fn run_with_input(what: &str, command: &mut Command, input: &str) -> Result<String, LabError> {
    let doing = format!("{what}: start {}", command.get_program().display());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().doing(&doing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that stops reading early says why on its standard error, which is the better message.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().doing(&doing)?;
    check(what, command, output)
}

fn check(what: &str, command: &Command, output: Output) -> Result<String, LabError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Err(LabError::Command {
        what: what.to_owned(),
        command: format!("{command:?}"),
        status: output.status.to_string(),
        stderr: tail(&String::from_utf8_lossy(said), 15),
    })
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let error = run("counting", Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("counting") && text.contains("broken") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_program_of_the_machine_and_what_it_runs_are_found_without_the_callers_path() {
        let said = run("asking", machine_program("sh").args(["-c", "echo $PATH; command -v ls"])).unwrap();
        assert_eq!(said.lines().next(), Some(PATH));
        assert!(said.ends_with("/ls\n"), "{said}");
    }

    #[test]
    fn a_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
