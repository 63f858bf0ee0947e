//! What CRIU alone makes of a container that holds something: dumped and restored by Podman on the same host, without us.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::error::{Context, LabError};
use crate::lab::Lab;
use crate::run::run;
use crate::{ServiceOptions, start_service, stop_service};

/// The kind whose other end has to run outside of the container.
const OUTSIDE: &str = "unix-outside";

/// How often a holder is asked, each tenth of a second, whether it holds what it is to hold.
const LOOKS: u32 = 150;

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByHand {
    /// It was dumped and restored.
    Moves,
    /// It could not be dumped: CRIU's reason.
    DumpFails(String),
    /// It was dumped and could not be restored: CRIU's reason.
    RestoreFails(String),
    /// The dump never ended, and was given up.
    Hangs,
}

/// Dumps and restores the container `$1`, with what a migration passes, and says what became of it in a word and a line.
/// A dump that hangs has its control group thawed, and CRIU ended.
const BY_HAND: &str = r#"
id=$(podman inspect --format '{{.Id}}' "$1") || exit 1
log=/var/lib/containers/storage/overlay-containers/$id/userdata
said() { grep -h 'Error (' "$log/$1" | grep -v -e RLIMIT_NOFILE -e 'FAILED' -e 'failed with' | head -n 1 | sed 's/^([0-9.]*) *//'; }
timeout 15 podman container checkpoint --keep --tcp-established --file-locks "$1" >/dev/null 2>&1
code=$?
if [ $code = 124 ]; then
    for state in $(find /sys/fs/cgroup -path "*$id*" -name freezer.state); do echo THAWED > "$state"; done
    for state in $(find /sys/fs/cgroup -path "*$id*" -name cgroup.freeze); do echo 0 > "$state"; done
    for pid in $(pgrep -x criu); do
        case $(readlink "/proc/$pid/cwd") in *"$id"*) kill -9 "$pid";; esac
    done
    echo "hangs"
elif [ $code != 0 ]; then
    echo "dump $(said dump.log)"
elif timeout 15 podman container restore --keep --tcp-established --file-locks "$1" >/dev/null 2>&1; then
    echo "moves"
else
    echo "restore $(said restore.log)"
fi
"#;

/// A container that holds things, and what has to run beside it.
pub struct Holder {
    /// Those of the kinds that it was to hold and that this kernel does not have.
    pub lacks: Vec<String>,
    server: Option<Child>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // Nothing can be done about it here.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Holder {
    /// Starts a container that holds all of `kinds` that this kernel has, in place of one of that name, and waits until it does.
    ///
    /// # Errors
    /// The container could not be started, or does not say that it holds them.
    pub fn start(
        lab: &Lab,
        host: &str,
        options: &ServiceOptions,
        kinds: &[&str],
    ) -> Result<Holder, LabError> {
        let name = options.name.as_str();
        let mut options = options.clone();
        options.podman.push("--privileged".to_owned());
        options.arguments = ["--some"].iter().chain(kinds).map(|&word| word.to_owned()).collect();
        stop_service(lab, host, name)?;
        start_service(lab, "holder", host, &options)?;
        let mut holder = Holder { lacks: Vec::new(), server: None };
        if kinds.contains(&OUTSIDE) {
            let argv = ["mose-holder", "hold", "unix-server"];
            let mut server = lab.exec_in_netns(host, name, &argv)?;
            holder.server = Some(server.stdout(Stdio::null()).spawn().doing("start the holder's other end")?);
        }
        for _ in 0..LOOKS {
            let mut logs = lab.exec(host, &["sh", "-c", "podman logs \"$1\" 2>&1", "sh", name])?;
            let said = run(&format!("reading the log of {name}"), &mut logs)?;
            if said.lines().any(|line| line == crate::holder::HOLDING) {
                let lacks = said.lines().filter_map(|line| line.strip_prefix(crate::holder::LACKS));
                holder.lacks =
                    lacks.filter_map(|rest| Some(rest.split_once(':')?.0.trim().to_owned())).collect();
                return Ok(holder);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(LabError::Invalid {
            what: format!("the holder of {}", kinds.join(", ")),
            reason: format!("it does not say that it holds them; see `podman logs {name}` on {host}"),
        })
    }
}

/// Has Podman dump and restore a container.
///
/// # Errors
/// There is no such host or container.
pub fn by_hand(lab: &Lab, host: &str, name: &str) -> Result<ByHand, LabError> {
    let mut command = lab.exec(host, &["sh", "-c", BY_HAND, "sh", name])?;
    let said = run(&format!("dumping {name} by hand"), &mut command)?;
    Ok(parsed(&said))
}

fn parsed(said: &str) -> ByHand {
    let (word, reason) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let reason = if reason.is_empty() { "CRIU does not say why".to_owned() } else { reason };
    match word {
        "moves" => ByHand::Moves,
        "dump" => ByHand::DumpFails(reason),
        "restore" => ByHand::RestoreFails(reason),
        _ => ByHand::Hangs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_it_is_told_with_crius_reason() {
        assert_eq!(parsed("moves\n"), ByHand::Moves);
        assert_eq!(
            parsed("dump Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle\n"),
            ByHand::DumpFails("Error (criu/fsnotify.c:284): fsnotify: Can't dump that handle".into())
        );
        assert_eq!(parsed("restore \n"), ByHand::RestoreFails("CRIU does not say why".into()));
        assert_eq!(parsed("hangs"), ByHand::Hangs);
    }
}
