//! Running a program inside a host, in all of its namespaces and its control groups, as if one had logged in there.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::write;

/// Where programs are looked for, in a host and on the machine.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a host's programs.
pub(crate) fn environment(host: &str) -> BTreeMap<String, String> {
    [
        ("PATH", PATH),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LANG", "C.UTF-8"),
        ("MOSE_HOST", host),
        ("OVS_RUNDIR", "/run/openvswitch"),
        ("PODMAN_IGNORE_CGROUPSV1_WARNING", "1"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

/// A command that runs `argv` in the host whose init is `pid`; standard streams, and waiting for it, are the caller's.
///
/// The program's exit code comes back as the command's. Killing the command kills the program.
pub(crate) fn command<S: AsRef<OsStr>>(
    host: &str,
    pid: i32,
    cgroup_procs: &[PathBuf],
    netns: Option<&str>,
    argv: &[S],
) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["-t", &pid.to_string()])
        .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wdns=/", "--"])
        // nsenter waits outside for a child inside; without this, killing the one would orphan the other.
        .args(["setpriv", "--pdeathsig", "KILL", "--"]);
    if let Some(name) = netns {
        // Not `ip netns exec`: that mounts a new /sys, and the control groups are gone from it.
        command.args(["nsenter", &format!("--net=/run/netns/{name}"), "--"]);
    }
    command.args(argv).env_clear().envs(environment(host));
    if let Some(term) = std::env::var_os("TERM") {
        command.env("TERM", term);
    }
    let procs: Vec<CString> =
        cgroup_procs.iter().filter_map(|p| CString::new(p.as_os_str().as_bytes()).ok()).collect();
    // SAFETY: between fork and exec only open, write and close are called, on strings made before; all three are
    // async-signal-safe. Joining has to happen here: from inside, the folder above the namespace's root is out of reach.
    unsafe {
        command.pre_exec(move || {
            for path in &procs {
                let file = open(path.as_c_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
                write(&file, b"0")?;
            }
            Ok(())
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_a_named_network_namespace_enters_the_host_first() {
        let command = command("uav", 7, &[], Some("client"), &["ping", "10.77.0.21"]);
        let argv: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        assert!(argv.starts_with(&["-t".into(), "7".into()]));
        assert!(argv.ends_with(&[
            "--net=/run/netns/client".into(),
            "--".into(),
            "ping".into(),
            "10.77.0.21".into()
        ]));
    }
}
