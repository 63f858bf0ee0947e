//! CRIU against the kernel: whether it runs, what it says of this kernel, and how it keeps connections still.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mose_protocol::doctor::Check;
use tokio::process::Command;

use super::super::chain::telling;
use super::ANSWER;

/// The program, as the runtime finds it.
pub(super) const PROGRAM: &str = "criu";

const CRIU: &str = "CRIU";
const SOFT_DIRTY: &str = "soft-dirty";
const NETWORK_LOCK: &str = "network lock";

/// The least release that dumps established TCP connections on kernels from [`PASSCRED_KERNEL`] on.
const PASSCRED_CRIU: (u64, u64) = (4, 2);

/// The first kernel on which TCP sockets have no SO_PASSCRED any more.
const PASSCRED_KERNEL: (u64, u64) = (6, 16);

/// How CRIU keeps the network from answering for sockets that are gone (criu(8), `--network-lock`).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lock {
    Nftables,
    Iptables,
    /// Not at all.
    Skip,
    /// No configuration says: as it was built, which usually means iptables.
    Default,
    Unknown(String),
}

/// What CRIU was found to be.
pub(super) struct Found {
    criu: Check,
    /// Whether chains of pre-dumps can be made, or why not; `Err` if it is not known.
    soft_dirty: Result<Result<(), String>, String>,
    lock: Check,
}

impl Found {
    /// As checks; `means` is how live pre-copy finds dirty pages here.
    pub(super) fn into_checks(self, means: Option<&str>) -> [Check; 3] {
        let soft_dirty = match self.soft_dirty {
            Ok(Ok(())) => Check::ok(SOFT_DIRTY, "CRIU can make chains of pre-dumps (--pre-copy chain)"),
            Ok(Err(why)) => Check::fallback(
                SOFT_DIRTY,
                format!("CRIU can make no chains of pre-dumps: {why}"),
                match means {
                    Some(means) => format!("live pre-copy (--pre-copy live, the default), by {means}"),
                    None => "live pre-copy (--pre-copy live, the default)".to_owned(),
                },
                "nothing need be done; chains want a kernel with CONFIG_MEM_SOFT_DIRTY (Debian's and Ubuntu's have it)",
            ),
            Err(reason) => Check::unknown(SOFT_DIRTY, reason, "see the check of CRIU, then ask again"),
        };
        [self.criu, soft_dirty, self.lock]
    }
}

/// Runs CRIU's own checks; `configurations` are its files, the one that wins first.
pub(super) async fn checks(program: &Path, kernel: &str, configurations: &[&str]) -> Found {
    let version = match ask(program, &["--version"]).await {
        Ok(said) => said.text,
        Err(reason) => return absent(&reason),
    };
    let lock = lock(configurations.iter().filter_map(|path| std::fs::read_to_string(path).ok()));
    let (check, soft_dirty, nftables) = tokio::join!(
        ask(program, &["check", "--no-default-config"]),
        ask(program, &["check", "--no-default-config", "--feature", "mem_dirty_track"]),
        ask(program, &["check", "--no-default-config", "--feature", "network_lock_nftables"]),
    );
    Found {
        criu: judge(&version, kernel, check),
        soft_dirty: soft_dirty.map(Said::verdict),
        lock: judge_lock(&lock, nftables.map(Said::verdict), tool("iptables-restore").is_some()),
    }
}

/// What is said where CRIU cannot be run.
fn absent(reason: &str) -> Found {
    let why = format!("CRIU cannot be run: {reason}");
    Found {
        criu: Check::broken(
            CRIU,
            why.as_str(),
            "install CRIU 4.2 or newer where the agent and Podman find it",
        ),
        soft_dirty: Err(why.clone()),
        lock: Check::unknown(NETWORK_LOCK, why, "install CRIU, then ask again"),
    }
}

/// What a program printed, and whether it was content.
struct Said {
    text: String,
    content: bool,
}

impl Said {
    /// Whether it was content, or why not.
    fn verdict(self) -> Result<(), String> {
        if self.content { Ok(()) } else { Err(telling(&self.text)) }
    }
}

/// Runs CRIU for an answer; `Err` if it gives none.
async fn ask(program: &Path, arguments: &[&str]) -> Result<Said, String> {
    within(ANSWER, program, arguments).await
}

async fn within(limit: Duration, program: &Path, arguments: &[&str]) -> Result<Said, String> {
    let asked = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(output)) => Ok(Said {
            text: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            content: output.status.success(),
        }),
        Ok(Err(error)) => Err(format!("{}: {error}", program.display())),
        Err(_) => Err(format!("{} did not answer within {limit:?}", program.display())),
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn judge(version: &str, kernel: &str, check: Result<Said, String>) -> Check {
    let version = version.lines().find_map(|line| line.trim().strip_prefix("Version:")).unwrap_or("?").trim();
    let both = format!("CRIU {version} on kernel {kernel}");
    let remedy = "install CRIU 4.2 or newer, and run the agent and Podman as root with all capabilities";
    let said = match check {
        Ok(said) => said,
        Err(reason) => return Check::unknown(CRIU, format!("{both}: {reason}"), "ask again"),
    };
    if let Err(why) = said.verdict() {
        return Check::broken(CRIU, format!("{both}: `criu check` says: {why}"), remedy);
    }
    match (numbers(version), numbers(kernel)) {
        (Some(criu), Some(kernel)) if criu < PASSCRED_CRIU && kernel >= PASSCRED_KERNEL => Check::broken(
            CRIU,
            format!("{both}: this CRIU cannot dump established TCP connections on kernels from 6.16 on"),
            remedy,
        ),
        (Some(_), Some(_)) => Check::ok(CRIU, format!("{both}: `criu check` is content")),
        _ => Check::unknown(
            CRIU,
            format!("{both}: `criu check` is content, but one of the versions cannot be read"),
            "see that CRIU is 4.2 or newer where the kernel is 6.16 or newer",
        ),
    }
}

/// Which tool the configurations choose; the first that says anything wins.
fn lock(configurations: impl Iterator<Item = String>) -> Lock {
    for text in configurations {
        let mut chosen = text.lines().filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default().trim().trim_start_matches("--");
            let rest = line.strip_prefix("network-lock")?;
            let value = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
            (value.len() < rest.len()).then(|| value.trim().to_ascii_lowercase())
        });
        // CRIU takes the last one.
        if let Some(chosen) = chosen.next_back() {
            return match chosen.as_str() {
                "nftables" => Lock::Nftables,
                "iptables" => Lock::Iptables,
                "skip" => Lock::Skip,
                _ => Lock::Unknown(chosen),
            };
        }
    }
    Lock::Default
}

fn judge_lock(lock: &Lock, nftables: Result<Result<(), String>, String>, iptables: bool) -> Check {
    let prefer = "put `network-lock nftables` into /etc/criu/runc.conf";
    let forks = "iptables: CRIU runs iptables-restore in the downtime, which is slower";
    match (lock, nftables, iptables) {
        (Lock::Nftables, Ok(Ok(())), _) => Check::ok(NETWORK_LOCK, "nftables"),
        (Lock::Nftables, Ok(Err(why)), _) => Check::broken(
            NETWORK_LOCK,
            format!("CRIU is told to use nftables and cannot: {why}"),
            "use a CRIU built with libnftables and a kernel with nf_tables, or install iptables and put `network-lock \
             iptables` into /etc/criu/runc.conf",
        ),
        (Lock::Nftables, Err(reason), _) => Check::unknown(NETWORK_LOCK, reason, "ask again"),
        (Lock::Iptables, _, true) => {
            Check::fallback(NETWORK_LOCK, "CRIU is told to use iptables", forks, prefer)
        }
        (Lock::Iptables, _, false) => Check::broken(
            NETWORK_LOCK,
            "CRIU is told to use iptables, and there is no iptables-restore",
            format!("{prefer}, or install iptables"),
        ),
        (Lock::Default, _, true) => {
            Check::fallback(NETWORK_LOCK, "no configuration of CRIU's names one", forks, prefer)
        }
        (Lock::Default, _, false) => Check::unknown(
            NETWORK_LOCK,
            "no configuration of CRIU's names one; most are built for iptables, and there is no iptables-restore",
            prefer,
        ),
        (Lock::Skip, ..) => Check::broken(
            NETWORK_LOCK,
            "CRIU is told to lock nothing (skip): the host would reset the service's connections",
            prefer,
        ),
        (Lock::Unknown(name), ..) => Check::unknown(
            NETWORK_LOCK,
            format!("CRIU is told to use `{name}`, which MOSE does not know"),
            prefer,
        ),
    }
}

/// Where a program is that CRIU would run.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use mose_protocol::doctor::CheckState;

    use super::*;

    /// A program in CRIU's place that does what `script` says.
    fn stand_in(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("criu");
        // By another process: a file that this one has open for writing is busy for a child that another test is just forking.
        let written = std::process::Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", script])
            .arg(&path)
            .status();
        assert!(written.unwrap().success());
        (folder, path)
    }

    async fn states(script: &str, kernel: &str) -> [Check; 3] {
        let (_folder, program) = stand_in(script);
        checks(&program, kernel, &[]).await.into_checks(Some("write-protection"))
    }

    #[tokio::test]
    async fn a_criu_that_is_content_is_ok_and_its_missing_feature_a_fallback() {
        let script = "case \"$*\" in\n--version) echo 'Version: 4.2.1';;\n*mem_dirty_track) echo 'Warn: x'; \
                      echo 'Error (cr-check.c): Dirty tracking is OFF' >&2; exit 1;;\n*) echo 'Looks good.';;\nesac";
        let [criu, soft_dirty, _] = states(script, "6.18.44").await;
        assert_eq!(criu.state, CheckState::Ok, "{criu:?}");
        assert!(criu.found.contains("4.2.1") && criu.found.contains("6.18.44"), "{criu:?}");
        assert_eq!(soft_dirty.state, CheckState::Fallback, "{soft_dirty:?}");
        assert!(soft_dirty.found.contains("Dirty tracking is OFF"), "{soft_dirty:?}");
        assert!(soft_dirty.fallback.unwrap().contains("by write-protection"));
    }

    #[tokio::test]
    async fn a_criu_that_is_too_old_for_the_kernel_is_broken_though_it_is_content() {
        let script = "[ \"$1\" = --version ] && echo 'Version: 4.1.1'; exit 0";
        assert_eq!(states(script, "6.16.0-rc1").await[0].state, CheckState::Broken);
        assert_eq!(states(script, "6.12.9-amd64").await[0].state, CheckState::Ok);
        assert_eq!(states("exit 0", "6.12.9").await[0].state, CheckState::Unknown, "no version is not ok");
    }

    #[tokio::test]
    async fn what_criu_says_of_the_kernel_is_passed_on() {
        let script = "[ \"$1\" = --version ] && { echo 'Version: 4.2'; exit 0; }; \
                      echo 'Error (criu/cr-check.c:1): no kcmp' >&2; exit 1";
        let [criu, ..] = states(script, "6.18").await;
        assert_eq!(criu.state, CheckState::Broken);
        assert!(criu.found.contains("no kcmp"), "{criu:?}");
    }

    #[tokio::test]
    async fn without_criu_nothing_of_it_is_ok() {
        let found = checks(Path::new("/nowhere/criu"), "6.18", &[]).await;
        let states = found.into_checks(None).map(|check| check.state);
        assert_eq!(states, [CheckState::Broken, CheckState::Unknown, CheckState::Unknown]);
    }

    #[tokio::test]
    async fn a_criu_that_hangs_is_given_up() {
        let (_folder, program) = stand_in("exec sleep 60");
        let said = within(Duration::from_millis(50), &program, &["check"]).await;
        assert!(said.err().unwrap().contains("did not answer"));
    }

    #[test]
    fn the_network_lock_is_read_as_criu_reads_it() {
        let of = |texts: &[&str]| lock(texts.iter().map(|text| (*text).to_owned()));
        assert_eq!(of(&["network-lock nftables\naction-script /x"]), Lock::Nftables);
        assert_eq!(of(&["--network-lock=iptables # slower"]), Lock::Iptables);
        assert_eq!(of(&["tcp-established", "network-lock skip"]), Lock::Skip);
        assert_eq!(
            of(&["network-lock iptables", "network-lock nftables"]),
            Lock::Iptables,
            "the first file wins"
        );
        assert_eq!(
            of(&["network-lock iptables\nnetwork-lock nftables"]),
            Lock::Nftables,
            "the last line wins"
        );
        assert_eq!(of(&["# network-lock nftables\nnetwork-locked x"]), Lock::Default);
        assert_eq!(of(&["network-lock ebpf"]), Lock::Unknown("ebpf".into()));
    }

    #[test]
    fn a_lock_that_cannot_work_is_never_ok() {
        use CheckState::{Broken, Fallback, Ok as Fine, Unknown};
        let no = || Ok(Err("no libnftables".to_owned()));
        for (lock, nftables, iptables, expected) in [
            (Lock::Nftables, Ok(Ok(())), false, Fine),
            (Lock::Nftables, no(), true, Broken),
            (Lock::Nftables, Err("it hangs".to_owned()), true, Unknown),
            (Lock::Iptables, Ok(Ok(())), true, Fallback),
            (Lock::Iptables, Ok(Ok(())), false, Broken),
            (Lock::Default, Ok(Ok(())), true, Fallback),
            (Lock::Default, Ok(Ok(())), false, Unknown),
            (Lock::Skip, Ok(Ok(())), true, Broken),
            (Lock::Unknown("ebpf".into()), Ok(Ok(())), true, Unknown),
        ] {
            assert_eq!(judge_lock(&lock, nftables, iptables).state, expected, "{lock:?}");
        }
    }
}
