//! What `mose-lab paper` refuses before it looks for a lab: nothing is started, and nothing is written.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::PathBuf;
use std::process::Command;

/// The exit code, and what was said on the error stream.
fn refused(words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mose-lab")).arg("paper").args(words).output().unwrap();
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn says(words: &[&str], code: i32, what: &[&str]) {
    let (ended, said) = refused(words);
    assert_eq!(ended, Some(code), "{words:?}: {said}");
    for part in what {
        assert!(said.contains(part), "{words:?}: no `{part}` in {said}");
    }
}

#[test]
fn a_table_that_is_not_there_is_answered_with_those_that_are() {
    says(&["table9"], 2, &["table9", "possible values: table3"]);
    says(&[], 2, &["<TABLE>"]);
}

#[test]
fn impossible_figures_and_contradictions_are_refused() {
    says(&["table3", "-n", "0"], 2, &["'0'", "1..=1000"]);
    says(&["table3", "-n", "many"], 2, &["many"]);
    says(&["table3", "--seed", "-1"], 2, &["-1"]);
    says(&["table3", "--resume", "--replace"], 2, &["--resume", "--replace"]);
}

#[test]
fn a_folder_that_must_not_be_written_to_is_refused_and_left_as_it_was() {
    let folder: PathBuf = std::env::temp_dir().join(format!("mose-lab-paper-{}", std::process::id()));
    let out = folder.to_str().unwrap();
    says(&["table3", "--out", out, "--resume"], 1, &["nothing to go on with", "results.ndjson", "--out"]);
    assert!(!folder.exists());
    std::fs::create_dir(&folder).unwrap();
    let notes = folder.join("notes.txt");
    std::fs::write(&notes, "mine").unwrap();
    says(&["table3", "--out", out], 1, &["is not empty", "notes.txt", "--replace"]);
    says(&["table3", "--replace", "--out", notes.to_str().unwrap()], 1, &["is no folder"]);
    let results = folder.join("results.ndjson");
    std::fs::write(&results, "{}\n").unwrap();
    says(&["table3", "--out", out], 1, &["has the results of a run already", "--resume", "--replace"]);
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(&results).unwrap(), "{}\n");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    std::fs::remove_dir_all(folder).unwrap();
}
