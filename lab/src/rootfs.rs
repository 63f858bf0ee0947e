//! The root file system all hosts stand on: built once from Debian's packages, kept in the cache under the hash of its
//! recipe. The machine itself stays as it is; above all it need not have a CRIU that knows its kernel (it rarely has).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::config::{HOSTS, LabConfig, Progress};
use crate::error::LabError;
use crate::exec::PATH;
use crate::files::write_file;
use crate::packages::{self, Tree};
use crate::run::run;

/// Debian 13, which has everything but a recent enough CRIU.
const SUITE: &str = "trixie";
/// CRIU ≥ 4.2 and what it needs come from here: 4.1.1 cannot dump established TCP on kernels ≥ 6.16.
const CRIU_SUITE: &str = "forky";
const PREFERENCES: &str = "Package: *\nPin: release n=forky\nPin-Priority: 100\n\n\
     Package: src:criu src:libnl3\nPin: release n=forky\nPin-Priority: 990\n";
/// Part of the hash: to be raised when what [`finish`] does changes.
const RECIPE: u32 = 3;

/// How its name in the cache begins.
const PREFIX: &str = "rootfs";

const PACKAGES: [&str; 24] = [
    "criu",
    "libcriu2",
    "podman",
    "runc",
    "conmon",
    "netavark",
    "openvswitch-switch",
    "iproute2",
    "iputils-ping",
    "nftables",
    "ethtool",
    "procps",
    "tcpdump",
    "ca-certificates",
    "openssh-server",
    "openssh-client",
    "iperf3",
    "sockperf",
    "redis-server",
    "redis-tools",
    "memcached",
    "mosquitto",
    "busybox-static",
    "python3-minimal",
];

/// Where the root file system of the current recipe is, or will be, in the cache.
pub(crate) fn path(cache_dir: &Path) -> PathBuf {
    cache::entry(cache_dir, PREFIX, hash())
}

fn hash() -> u64 {
    let recipe = format!("{RECIPE} {SUITE} {CRIU_SUITE} {PREFERENCES} {}", PACKAGES.join(" "));
    xxhash_rust::xxh3::xxh3_64(recipe.as_bytes())
}

/// Makes sure the root file system is in the cache; its path.
///
/// # Errors
/// The build failed; what mmdebstrap said last is in the error. Nothing of an unfinished build is ever taken for a finished one.
pub(crate) fn ensure(config: &LabConfig, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, LabError> {
    let cache = &config.cache_dir;
    cache::ensure(cache, PREFIX, hash(), 2, |building| {
        progress("building the root file system from Debian's packages (once, about a minute)");
        bootstrap(building, &cache.join("rootfs.log"))?;
        finish(building)?;
        Ok(building.to_owned())
    })
}

fn bootstrap(target: &Path, log: &Path) -> Result<(), LabError> {
    let preferences = format!(
        "mkdir -p \"$1/etc/apt/preferences.d\" && printf '%b' '{}' > \"$1/etc/apt/preferences.d/mose\"",
        PREFERENCES.replace('\n', "\\n")
    );
    packages::unpack(
        &Tree {
            what: "the root file system",
            variant: "minbase",
            packages: &PACKAGES,
            suites: &[SUITE, CRIU_SUITE],
            setup: Some(&preferences),
        },
        target,
        log,
    )
}

/// What every host has in common and no package brings.
fn finish(root: &Path) -> Result<(), LabError> {
    let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for (name, _, address) in HOSTS {
        hosts += &format!("{address} {name}\n");
    }
    let files: [(&str, u32, &str); 7] = [
        ("etc/hosts", 0o644, &hosts),
        ("etc/resolv.conf", 0o644, ""),
        ("etc/containers/policy.json", 0o644, "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n"),
        ("etc/containers/registries.conf", 0o644, "unqualified-search-registries = [\"localhost\"]\n"),
        (
            "etc/ssh/sshd_config",
            0o644,
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nUseDNS no\nPrintMotd no\n\
             HostKey /etc/ssh/ssh_host_ed25519_key\nPidFile none\n",
        ),
        (
            "etc/ssh/ssh_config",
            0o644,
            "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  BatchMode yes\n",
        ),
        ("root/.ssh/config", 0o600, ""),
    ];
    for (file, mode, text) in files {
        write_file(&root.join(file), mode, text)?;
    }
    let script = "set -e\nrm -f /etc/ssh/ssh_host_* /root/.ssh/id_ed25519*\n\
        ssh-keygen -q -t ed25519 -N '' -C lab -f /etc/ssh/ssh_host_ed25519_key\n\
        ssh-keygen -q -t ed25519 -N '' -C lab -f /root/.ssh/id_ed25519\n\
        cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys\nchmod 700 /root/.ssh\n\
        mkdir -p /var/log/mose /var/lib/mose /etc/criu /usr/lib/mose-images /var/lib/containers\n";
    let mut command = Command::new("chroot");
    command.arg(root).args(["sh", "-c", script]).env_clear().env("PATH", PATH);
    run("finishing the root file system", &mut command).map(drop)
}

/// Turns a `&str` callback into the [`Progress`] one.
pub(crate) fn timed<'a>(
    since: std::time::Instant,
    progress: &'a mut dyn FnMut(Progress),
) -> impl FnMut(&str) + 'a {
    move |what| {
        progress(Progress { what: what.to_owned(), elapsed: since.elapsed() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_named_by_the_recipe() {
        let path = path(Path::new("/c"));
        assert!(path.to_string_lossy().starts_with("/c/rootfs-"));
    }
}
