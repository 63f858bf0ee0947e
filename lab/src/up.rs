//! Bringing the lab up: only what is missing or dead, so that doing it twice is harmless and doing it after a crash repairs.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use crate::cgroup::Hierarchies;
use crate::config::{HOSTS, LabConfig, Progress, Role};
use crate::doctor::require;
use crate::error::{Context, LabError};
use crate::host_config::HostConfig;
use crate::lab::Lab;
use crate::procfs::{Process, marked, wait_gone};
use crate::rootfs::timed;
use crate::state::{HostState, LabState, Lock};
use crate::{host, images, rootfs, underlay};

const UNDERLAY: &str = "underlay";
/// How long what has begun to end may take to be gone.
const DYING: Duration = Duration::from_secs(5);
/// How long all daemons of all hosts may take. Far more than they need, for machines far slower than ours.
const READY: Duration = Duration::from_secs(180);

impl Lab {
    /// Brings the lab up, or what of it is missing or dead. Of a lab that is up, only the link's rate is taken from
    /// `config`; what else differs takes effect with [`Lab::reset`].
    ///
    /// # Errors
    /// The machine lacks something ([`LabError::Machine`], with everything it lacks and the remedies), or a part did not come
    /// up in time (with the end of its log). What did come up stays, for a look at it; `down` removes it.
    pub fn up(config: &LabConfig, progress: &mut dyn FnMut(Progress)) -> Result<Lab, LabError> {
        require(config)?;
        let mut progress = timed(Instant::now(), progress);
        let _lock = Lock::take(&config.state_dir.join("lock"))?;
        let mut state = match LabState::load(&config.state_dir)? {
            Some(mut state) => {
                if state.config.binaries != config.binaries || state.config.cgroup != config.cgroup {
                    progress(
                        "the lab is up with other programs or another cgroup mode, and keeps them; \
                         `mose lab reset` takes the new ones",
                    );
                }
                state.config.edge_link = config.edge_link;
                state
            }
            None => fresh_state(config)?,
        };
        let config = state.config.clone();
        await_dying(&state)?;
        let rootfs = rootfs::ensure(&config, &mut progress)?;
        let image_stores = images::ensure(&config, &rootfs, &mut progress)?;
        let template = HostConfig {
            name: UNDERLAY.into(),
            holder: true,
            role: Role::Controller,
            address: std::net::Ipv4Addr::UNSPECIFIED,
            peers: Vec::new(),
            rootfs,
            image_stores,
            data: config.host_dir(UNDERLAY),
            in_memory: on_overlay(&config.data_dir)?,
            state_dir: config.state_dir.clone(),
            cgroup: state.cgroup.clone(),
            binaries: config.binaries.clone(),
        };
        let known_underlay = state.underlay;
        let holder = ensure_underlay(&mut state, &template, &mut progress)?;
        for (name, role, address) in HOSTS {
            if let Some(host) = state.host(name).filter(|h| h.init.alive()) {
                // Its end of a link to an underlay that died may still be there, but not for long.
                if known_underlay != Some(holder) || !underlay::attached(host.init.pid) {
                    underlay::detach(host.init.pid);
                    progress(&format!("{name}: connecting it to the new underlay"));
                    underlay::attach(holder, name, address, host.init.pid)?;
                }
                continue;
            }
            progress(&format!("{name}: starting"));
            let peers = HOSTS.iter().filter(|(n, ..)| *n != name).map(|(n, _, a)| ((*n).to_owned(), *a));
            let host_config = HostConfig {
                name: name.to_owned(),
                holder: false,
                role,
                address,
                peers: peers.collect(),
                data: config.host_dir(name),
                ..template.clone()
            };
            let init =
                host::start(&config, &host_config, |pid| underlay::attach(holder, name, address, pid))?;
            state.hosts.retain(|h| h.name != name);
            state.hosts.push(HostState { name: name.to_owned(), init });
            state.save()?;
        }
        let mut lab = Lab::of(state);
        lab.set_edge_link(config.edge_link)?;
        if lab.radio().is_none() {
            // One that died has left the UAV cut off.
            lab.radio_off()?;
        }
        wait_all(&lab, &mut progress)?;
        progress("the lab is up");
        Ok(lab)
    }

    /// Takes the lab down and brings it up anew, all as `config` says. What a machine cannot run is refused before anything is
    /// taken down.
    ///
    /// # Errors
    /// As [`Lab::down`] and [`Lab::up`].
    pub fn reset(config: &LabConfig, progress: &mut dyn FnMut(Progress)) -> Result<Lab, LabError> {
        require(config)?;
        Lab::down(config)?;
        Lab::up(config, progress)
    }
}

/// What is on its way out is neither up nor gone: waits until it is the latter.
fn await_dying(state: &LabState) -> Result<(), LabError> {
    let known = state.hosts.iter().map(|h| h.init).chain(state.underlay);
    let dying: Vec<Process> = known.filter(Process::dying).collect();
    for host in state.hosts.iter().filter(|host| dying.contains(&host.init)) {
        // A host whose pid 1 was killed while one of its containers was frozen would stay like this for ever.
        state.cgroup.thaw_host(&host.name);
    }
    match wait_gone(&dying, DYING).first() {
        None => Ok(()),
        Some(process) => Err(LabError::Leftover(format!(
            "the lab is half dead: its process {} has been ending for {DYING:?} (waiting for a disk?); run `mose lab down`, \
             then `mose lab up`",
            process.pid
        ))),
    }
}

fn fresh_state(config: &LabConfig) -> Result<LabState, LabError> {
    let cgroup = Hierarchies::detect()?.plan(config.cgroup, config.cgroup_name());
    // The state was lost but processes were not: they would be in the way of the new ones.
    let stray = marked(&config.state_dir);
    if !stray.is_empty() {
        cgroup.thaw();
    }
    for process in &stray {
        process.signal(nix::sys::signal::Signal::SIGKILL);
    }
    wait_gone(&stray, DYING);
    let state = LabState { config: config.clone(), cgroup, underlay: None, hosts: Vec::new(), radio: None };
    state.save()?;
    Ok(state)
}

fn ensure_underlay(
    state: &mut LabState,
    host_config: &HostConfig,
    progress: &mut dyn FnMut(&str),
) -> Result<Process, LabError> {
    if let Some(holder) = state.underlay.filter(Process::alive) {
        return Ok(holder);
    }
    progress("underlay: starting");
    let holder = host::start(&state.config, host_config, |_| Ok(()))?;
    state.underlay = Some(holder);
    state.save()?;
    underlay::make_bridge(holder)?;
    Ok(holder)
}

fn wait_all(lab: &Lab, progress: &mut dyn FnMut(&str)) -> Result<(), LabError> {
    let deadline = Instant::now() + READY;
    thread::scope(|scope| {
        let waits: Vec<_> = lab
            .state
            .hosts
            .iter()
            .map(|h| {
                scope.spawn(|| {
                    host::wait_ready(&lab.state.config, &h.name, h.init, deadline).map(|()| h.name.as_str())
                })
            })
            .collect();
        for wait in waits {
            match wait.join() {
                Ok(ready) => progress(&format!("{}: ready", ready?)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })
}

/// Whether a folder lies on an overlay, which cannot be the upper layer of another.
fn on_overlay(dir: &Path) -> Result<bool, LabError> {
    fs::create_dir_all(dir).on("make", dir)?;
    let kind = statfs(dir).on("look at the file system of", dir)?.filesystem_type();
    Ok(kind == OVERLAYFS_SUPER_MAGIC)
}
