//! Completions and man pages, for every command that there is.

use crate::support::{mose, stderr, stdout};

/// Every command, as words: `[]`, `["migrate"]`, `["lab", "up"]` …, by the program's own help.
pub(crate) fn commands() -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    let mut at = 0;
    while at < all.len() {
        let command = all[at].clone();
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = stdout(&mose(&words));
        let below =
            help.split("Commands:\n").nth(1).map(|text| text.split("\n\n").next().unwrap().to_owned());
        for line in below.unwrap_or_default().lines() {
            let name = line.strip_prefix("  ").filter(|line| !line.starts_with(' '));
            if let Some(name) = name.and_then(|line| line.split(' ').next()).filter(|name| *name != "help") {
                all.push(command.iter().cloned().chain([name.to_owned()]).collect());
            }
        }
        at += 1;
    }
    all
}

#[test]
fn every_command_has_a_man_page_with_its_options_and_the_exit_codes_are_in_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("share/man1");
    let output = mose(&["man", "--output", target.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    let commands = commands();
    assert!(commands.len() > 25, "{commands:?}");
    for command in &commands {
        let name = [&["mose".to_owned()], command.as_slice()].concat().join("-");
        let page = std::fs::read_to_string(target.join(format!("{name}.1")))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(page.contains(".TH "), "{name} is no man page");
    }
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), commands.len(), "a page for each command");
    let first = std::fs::read_to_string(target.join("mose.1")).unwrap();
    assert!(first.contains("in doubt") && first.contains("rolled back"), "{first}");
    let migrate = std::fs::read_to_string(target.join("mose-migrate.1")).unwrap();
    assert!(migrate.contains("strict") && migrate.contains("json"), "{migrate}");
}

#[test]
fn without_a_folder_all_pages_are_printed_one_after_another() {
    let printed = stdout(&mose(&["man"]));
    assert_eq!(printed.matches(".TH ").count(), commands().len());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let folder = file.path().join("man1");
    let output = mose(&["man", "--output", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(folder.to_str().unwrap()), "{}", stderr(&output));
}

#[test]
fn the_completions_of_every_shell_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = mose(&["completions", shell]);
        assert!(output.status.success(), "{shell}: {}", stderr(&output));
        let script = stdout(&output);
        for command in commands() {
            let Some(last) = command.last() else { continue };
            assert!(script.contains(last.as_str()), "{shell} does not know {}", command.join(" "));
        }
    }
}

#[test]
fn bash_reads_the_completions() {
    let script = stdout(&mose(&["completions", "bash"]));
    let read = std::process::Command::new("bash").args(["-n", "-c", &script]).status();
    match read {
        Ok(status) => assert!(status.success()),
        Err(error) => eprintln!("SKIPPED: bash cannot be run: {error}"),
    }
}
