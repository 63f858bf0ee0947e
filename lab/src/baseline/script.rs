//! What the script does, on programs that only write down how they were called.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Baseline, BaselineError, BaselineRun};

/// Every program that the script calls but `bash` and what it says the time with: `ssh` runs its command here.
const PROGRAMS: [(&str, &str); 6] = [
    (
        "ssh",
        r#"host=; for word in "$@"; do case $word in root@*) host=${word#root@} ;; esac; done
[ -n "$host" ] || exit 0
case ${!#} in true) exit 0 ;; "bash -c "*) HERE=$host exec bash -c "${!#}" ;; esac"#,
    ),
    ("scp", r#"echo "$HERE copies $(basename "${@: -2:1}")" >>"$LOG""#),
    (
        "podman",
        r#"echo "$HERE podman $*" >>"$LOG"
case "$*" in
*State.Running*) echo true ;;
*ImageName*) echo localhost/autopilot ;;
"container exists"*) exit 1 ;;
*--pre-checkpoint*) [ "$BROKEN" != pre-checkpoint ] || exit 1; echo memory >"$(echo "$*" | sed 's/.*--export \([^ ]*\).*/\1/')" ;;
*--export*) [ "$BROKEN" != checkpoint ] || exit 1; echo image >"$(echo "$*" | sed 's/.*--export \([^ ]*\).*/\1/')"; echo '{"a":1}' ;;
*restore*) [ "$BROKEN $HERE" != "restore 10.99.0.12" ] || exit 1; echo '{"a":1}' ;;
esac"#,
    ),
    ("ovs-vsctl", r#"case "$*" in *find*) echo tunnel ;; esac"#),
    ("ovs-ofctl", "cat >/dev/null"),
    ("ip", ":"),
];

/// A folder with those programs, gone with the value.
struct Stage(PathBuf);

impl Stage {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("mose-by-hand-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (program, text) in PROGRAMS.iter().chain(&[("ethtool", ":")]) {
            let path = folder.join(program);
            std::fs::write(&path, format!("#!/usr/bin/env bash\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self(folder)
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Moves a service, `broken` being what fails; and what was called, without what only looks.
    fn migrate(&self, iterations: u32, broken: &str) -> (Result<BaselineRun, BaselineError>, Vec<String>) {
        let hosts = [("edge-a", 11), ("edge-b", 12), ("uav", 13)]
            .map(|(name, last)| (name.to_owned(), Ipv4Addr::new(10, 99, 0, last)));
        let service = format!("by-hand-{}-{iterations}-{broken}", std::process::id());
        let hand = Baseline {
            iterations,
            ..Baseline::new(&service, Ipv4Addr::new(10, 77, 0, 40), hosts.into(), "uav")
        };
        let path = format!("{}:{}", self.0.display(), std::env::var("PATH").unwrap());
        let here = |argv: &[String]| {
            let mut command = Command::new(&argv[0]);
            command.args(&argv[1..]).env("PATH", &path).env("LOG", self.log()).env("BROKEN", broken);
            command
        };
        let _ = std::fs::remove_file(self.log());
        let run = hand.migrate(&here, "edge-a", "edge-b");
        let log = std::fs::read_to_string(self.log()).unwrap();
        for file in ["checkpoint", "pre-checkpoint"] {
            let file = format!("/var/tmp/{service}-{file}.tar.zst");
            assert!(!Path::new(&file).exists(), "{file} is left");
        }
        let acts =
            |line: &&str| ["copies", "checkpoint", "restore", "rm -f"].iter().any(|a| line.contains(a));
        (run, log.lines().filter(acts).map(|line| line.replace(&service, "S")).collect())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where in the log something was done.
#[track_caller]
fn place(log: &[String], what: &str) -> usize {
    log.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("no `{what}` in {log:#?}"))
}

#[test]
fn a_cold_move_copies_once_and_an_iterative_one_copies_the_running_service_first() {
    let stage = Stage::new("orders");
    let (cold, log) = stage.migrate(0, "nothing");
    assert_eq!(cold.unwrap().iterations(), 0);
    assert!(!log.iter().any(|line| line.contains("previous") || line.contains("pre-checkpoint")), "{log:#?}");

    let (run, log) = stage.migrate(2, "nothing");
    let run = run.unwrap();
    assert_eq!(run.iterations(), 2);
    assert_eq!(log.iter().filter(|line| line.ends_with("copies S-pre-checkpoint.tar.zst")).count(), 2);
    let (copied, frozen) = (place(&log, "copies S-pre-checkpoint"), place(&log, "--with-previous"));
    let restored = place(&log, "10.99.0.12 podman container restore");
    assert!(copied < frozen && frozen < restored, "{log:#?}");
    assert!(log[restored].contains("--import-previous /var/tmp/S-pre-checkpoint.tar.zst"), "{log:#?}");
    assert!(run.duration_ms() > run.blackout_ms() && run.blackout_ms() > 0.0, "{run:?}");
    let before: f64 = ["pre-checkpoint", "pre-copy"].iter().map(|name| run.step(name).unwrap().ms()).sum();
    assert!(run.duration_ms() - run.blackout_ms() > before, "the copies belong to the duration only");
}

#[test]
fn a_service_whose_copy_or_checkpoint_fails_is_left_running() {
    let stage = Stage::new("running");
    for broken in ["pre-checkpoint", "checkpoint"] {
        let (run, log) = stage.migrate(1, broken);
        assert!(matches!(run, Err(BaselineError::Failed { .. })), "{run:?}");
        assert!(!log.iter().any(|line| line.contains("restore") || line.contains("rm -f")), "{log:#?}");
    }
}

#[test]
fn a_service_that_cannot_be_restored_over_there_is_taken_back_with_its_earlier_copy() {
    let stage = Stage::new("back");
    for (iterations, with) in [(0, false), (1, true)] {
        let (run, log) = stage.migrate(iterations, "restore");
        assert!(run.unwrap_err().to_string().contains("restoring on edge-a"));
        let back = place(&log, "10.99.0.11 podman container restore");
        assert_eq!(log[back].contains("--import-previous"), with, "{log:#?}");
    }
}
