//! `mose lab …`: handed over to the program `mose-lab`, which need not be there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mose_console::exit;
use mose_console::lab::PROGRAM;

use crate::support::{json_lines, stderr, stdout};

/// `mose` alone in a folder, with `mose-lab` only if a script stands in for it.
struct Alone(tempfile::TempDir);

impl Alone {
    fn new(stand_in: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_mose"), folder.path().join("mose")).unwrap();
        if let Some(script) = stand_in {
            executable(&folder.path().join(PROGRAM), script);
        }
        Self(folder)
    }

    /// Runs it where `mose-lab` is not on PATH, but for what is in `path`.
    fn mose(&self, words: &[&str], path: &Path) -> Output {
        Command::new(self.0.path().join("mose"))
            .args(words)
            .env("PATH", std::env::join_paths([path, Path::new("/usr/bin"), Path::new("/bin")]).unwrap())
            .env_remove("MOSE_CONNECT")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn executable(path: &Path, script: &str) {
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Says what it was given, word by word, and fails in a way of its own.
const ECHO: &str = "#!/bin/sh\nprintf '<%s>' \"$@\"\nprintf 'complaint' >&2\nexit 42\n";

#[test]
fn the_lab_s_program_is_given_every_word_and_its_outputs_and_exit_code_are_the_command_s() {
    let alone = Alone::new(Some(ECHO));
    for (words, given) in [
        (&["lab", "status", "--json"][..], "<status><--json>"),
        (&["--json", "lab", "status"], "<--json><status>"),
        (
            &["--connect", "tcp/a:1,tcp/b:2", "--theme", "lab", "lab", "laps", "-n", "2", "--", "--x", "y z"],
            "<--connect><tcp/a:1><--connect><tcp/b:2><laps><-n><2><--><--x><y z>",
        ),
        (
            &["calibrate", "--quick", "--json", "edge-a", "edge-b"],
            "<calibrate><--quick><--json><edge-a><edge-b>",
        ),
    ] {
        let output = alone.mose(words, Path::new("/nowhere"));
        assert_eq!(output.status.code(), Some(42), "{words:?}: {}", stderr(&output));
        assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), (given, "complaint"), "{words:?}");
    }
}

#[test]
fn a_signal_that_ends_the_lab_s_program_ends_the_command() {
    use std::os::unix::process::ExitStatusExt;
    let alone = Alone::new(Some("#!/bin/sh\nkill -TERM $$\n"));
    let output = alone.mose(&["lab", "status"], Path::new("/nowhere"));
    assert_eq!(output.status.signal(), Some(15), "{}", stderr(&output));
}

#[test]
fn the_lab_s_program_is_found_on_path_too() {
    let elsewhere = tempfile::tempdir().unwrap();
    executable(&elsewhere.path().join(PROGRAM), ECHO);
    let output = Alone::new(None).mose(&["lab", "status"], elsewhere.path());
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(42), "<status>"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn where_the_lab_s_program_is_missing_the_error_says_so_and_everything_else_works() {
    let alone = Alone::new(None);
    let mose = |words: &[&str]| alone.mose(words, Path::new("/nowhere"));
    for words in [&["lab", "status"][..], &["calibrate"], &["schema", "lab-laps"]] {
        let output = mose(words);
        assert_eq!(output.status.code(), Some(exit::FAILED.into()), "{words:?}");
        let said = stderr(&output);
        assert!(said.contains(PROGRAM) && said.contains("cargo build --release"), "{words:?}: {said}");
    }
    assert!(stdout(&mose(&["lab", "--help"])).contains("Bring up the four hosts"));
    let wrong = mose(&["lab", "up", "--nothing"]);
    assert_eq!(wrong.status.code(), Some(exit::USAGE.into()), "{}", stderr(&wrong));
    let schemas = mose(&["schema"]);
    let all = json_lines(&schemas).remove(0);
    assert!(all.get("record").is_some() && all.get("lab-laps").is_none());
    assert!(stderr(&schemas).contains("is left out"), "{}", stderr(&schemas));
    let nowhere = format!("tcp/127.0.0.1:{}", crate::support::free_port());
    let doctor = mose(&["doctor", "--connect", &nowhere]);
    assert!(stdout(&doctor).contains("missing: mose-lab"), "{}", stdout(&doctor));
}
