//! A host from the inside. [`run`] is what the hidden `lab-init` command calls, twice: first to make the namespaces and wait
//! until the network is plugged in, then, as pid 1 of the new host, to put the root file system together and run the daemons.
//!
//! Nothing is pinned anywhere: when pid 1 dies, the kernel kills every process of the host, and with the last one its mounts
//! and its network go.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use crate::daemons;
use crate::error::{Context, LabError};
use crate::files::{set_mode, write_file};
use crate::host_config::HostConfig;
use crate::mounts;
use crate::procfs::MARK;
use crate::supervisor::{Supervisor, status_path};

/// Tells the second stage from the first.
const STAGE: &str = "MOSE_LAB_STAGE";

/// Becomes the init of the host described in `config`; what the hidden `lab-init` command does. Called by the lab itself
/// only.
///
/// # Errors
/// The host could not be put together. The lab shows the message as the reason why the host did not come up.
pub fn run(config: &Path) -> Result<(), LabError> {
    let text = fs::read(config).on("read", config)?;
    let host: HostConfig = serde_json::from_slice(&text).map_err(|e| LabError::Invalid {
        what: format!("the host's configuration {}", config.display()),
        reason: e.to_string(),
    })?;
    if std::env::var_os(STAGE).is_none() {
        launch(&host)
    } else if host.holder {
        hold()
    } else {
        boot(&host)
    }
}

/// First stage: makes the namespaces, says so, waits for the word that the network is there, starts pid 1, says its pid.
fn launch(host: &HostConfig) -> Result<(), LabError> {
    nix::unistd::setsid().doing("leave the session")?;
    host.cgroup.create(&host.name)?;
    host.cgroup.join(&host.name)?;
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    flags.set(CloneFlags::CLONE_NEWCGROUP, !host.holder);
    unshare(flags).doing("make the host's namespaces (is CAP_SYS_ADMIN missing?)")?;
    if !host.holder {
        host.cgroup.settle(&host.name)?;
    }
    say("ready")?;
    let mut word = [0; 3];
    if io::stdin().read_exact(&mut word).is_err() {
        return Ok(()); // whoever starts the lab is gone; nothing has been left behind yet
    }
    // Not by its path: it may have been built anew since.
    let child = Command::new("/proc/self/exe")
        .arg0("mose")
        .args(std::env::args_os().skip(1))
        .env(STAGE, "init")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .doing("start the host's pid 1")?;
    say(&child.id().to_string())
}

fn say(word: &str) -> Result<(), LabError> {
    let mut out = io::stdout();
    writeln!(out, "{word}").and_then(|()| out.flush()).doing("report to the lab")
}

/// The underlay's holder: an init with nothing to do but to be there.
fn hold() -> Result<(), LabError> {
    mounts::make_private()?;
    nix::unistd::sethostname("underlay").doing("set the host name")?;
    Supervisor::new(Vec::new(), BTreeMap::new()).run(None)
}

/// Second stage: pid 1 of a host.
fn boot(host: &HostConfig) -> Result<(), LabError> {
    let root = mounts::prepare(host)?;
    configure(host, &root)?;
    mounts::pivot(&root)?;
    nix::unistd::sethostname(&host.name).doing("set the host name")?;
    for dir in
        ["/run/mose-host/hold", "/run/podman", "/run/sshd", "/run/lock", "/var/log/mose", "/var/lib/mose"]
    {
        fs::create_dir_all(dir).on("make", dir)?;
    }
    set_mode("/var/lib/mose", 0o700)?;
    raise_open_files();
    let mut environment = crate::exec::environment(&host.name);
    environment.insert(MARK.to_owned(), host.state_dir.to_string_lossy().into_owned());
    Supervisor::new(daemons::specs(host), environment).run(Some(&status_path(Path::new("/"))))
}

/// What differs from host to host, or with the machine, in the root file system.
fn configure(host: &HostConfig, root: &Path) -> Result<(), LabError> {
    let file = |path: &str, text: &str| write_file(&root.join(path), 0o644, text);
    for (name, from) in &host.binaries {
        let to = root.join("usr/local/bin").join(name);
        fs::copy(from, &to).map(drop).on(&format!("copy {} to", from.display()), &to)?;
        set_mode(&to, 0o755)?;
    }
    file("etc/hostname", &format!("{}\n", host.name))?;
    file("etc/containers/containers.conf", &containers_conf(host))?;
    file("etc/containers/storage.conf", &storage_conf(host.image_stores.len()))?;
    file("etc/criu/runc.conf", &criu_conf(host))
}

fn containers_conf(host: &HostConfig) -> String {
    // Without controllers there is no pids limit to set, and runc refuses to start a container that has one.
    let limits = if host.cgroup.bare { "pids_limit=0\n" } else { "" };
    format!(
        "[containers]\n{limits}log_driver=\"k8s-file\"\n\
         [engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\nruntime=\"runc\"\n"
    )
}

fn storage_conf(stores: usize) -> String {
    let stores: Vec<String> = (0..stores).map(|n| format!("\"{}/{n}\"", mounts::IMAGE_STORES)).collect();
    format!(
        "[storage]\ndriver=\"overlay\"\nrunroot=\"/run/containers/storage\"\ngraphroot=\"/var/lib/containers/storage\"\n\
         [storage.options]\nadditionalimagestores=[{}]\n",
        stores.join(", ")
    )
}

fn criu_conf(host: &HostConfig) -> String {
    let mut text = "network-lock nftables\nlink-remap\nghost-limit 1G\n".to_owned();
    if host.cgroup.bare {
        text += "manage-cgroups ignore\n";
    }
    if host.binaries.contains_key("mose-criu-hook") {
        text += "action-script /usr/local/bin/mose-criu-hook\n";
    }
    text
}

/// As many open files as may be, for the daemons and what they start. Not being allowed to is no reason not to run.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_named_to_criu_only_where_it_is() {
        let mut host = HostConfig::example();
        assert_eq!(criu_conf(&host), "network-lock nftables\nlink-remap\nghost-limit 1G\n");
        host.binaries.insert("mose-criu-hook".into(), "/hook".into());
        assert!(criu_conf(&host).ends_with("action-script /usr/local/bin/mose-criu-hook\n"));
    }

    #[test]
    fn unified_without_controllers_gets_no_pids_limit_and_no_cgroup_management() {
        let mut host = HostConfig::example();
        host.cgroup.v2 = true;
        assert!(!containers_conf(&host).contains("pids_limit"), "pure v2 has the controller");
        host.cgroup.bare = true;
        assert!(containers_conf(&host).contains("pids_limit=0"));
        assert!(criu_conf(&host).contains("manage-cgroups ignore"));
    }

    #[test]
    fn every_image_store_is_offered() {
        assert!(storage_conf(2).contains("[\"/usr/lib/mose-images/0\", \"/usr/lib/mose-images/1\"]"));
    }
}
