//! `mose lab guest`: a command in a virtual machine.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use color_eyre::eyre::eyre;
use mose_lab::LabConfig;
use mose_lab::guest::{Guest, GuestFile};

use crate::testbed::all_programs;

/// Runs the command in a guest and prints what it prints; its exit code.
pub(crate) fn run(deadline: u64, files: &[String], argv: &[String]) -> color_eyre::Result<ExitCode> {
    let files = files.iter().map(|words| guest_file(words)).collect::<color_eyre::Result<Vec<_>>>()?;
    let config = LabConfig { binaries: all_programs()?, ..LabConfig::default() };
    let guest = Guest::prepare(&config, &mut crate::testbed::show)?;
    let script = format!("exec {}\n", argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    let output = guest.run(&script, &files, Duration::from_secs(deadline), &mut show_output)?;
    eprintln!(
        "the guest ({}) booted in {:.1} s and ended after {:.1} s",
        if output.accelerated { "KVM" } else { "no KVM" },
        output.boot.as_secs_f64(),
        output.took.as_secs_f64()
    );
    Ok(ExitCode::from(u8::try_from(output.code).unwrap_or(mose_console::exit::FAILED)))
}

/// Prints what a guest printed.
pub(crate) fn show_output(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    // Nobody reading any more is no reason to end what runs.
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

fn guest_file(words: &str) -> color_eyre::Result<GuestFile> {
    let (from, to) = words
        .split_once(':')
        .ok_or_else(|| eyre!("`{words}` names no place in the guest; write --file FROM:TO"))?;
    Ok(GuestFile { from: from.into(), to: to.into() })
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_the_guest_as_it_was_written() {
        let said = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quoted("it's $HOME \"x\" \\"))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), "it's $HOME \"x\" \\");
    }

    #[test]
    fn a_file_without_a_place_in_the_guest_is_refused_with_the_spelling() {
        assert!(guest_file("/etc/hosts").unwrap_err().to_string().contains("FROM:TO"));
        assert_eq!(guest_file("a:/b").unwrap(), GuestFile { from: "a".into(), to: "/b".into() });
    }
}
