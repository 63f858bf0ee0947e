//! A running lab, as the caller sees it.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::config::{HOSTS, LabConfig, LinkRate, Role};
use crate::doctor::require_root;
use crate::error::{Context, LabError};
use crate::host::init_status;
use crate::procfs::{Process, in_pid_namespace_of};
use crate::state::LabState;
use crate::supervisor::{DaemonStatus, hold_path};
use crate::{exec, underlay};

/// A host of the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Host {
    /// Its name.
    pub name: String,
    /// What it is in the testbed.
    pub role: Role,
    /// Its address on the underlay.
    pub underlay: Ipv4Addr,
    /// Its pid 1, as the machine sees it; none if it is not running.
    pub init: Option<Process>,
}

/// How a host does.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostStatus {
    /// The host.
    #[serde(flatten)]
    pub host: Host,
    /// Since when it is up, in seconds since the epoch.
    pub up_since: Option<u64>,
    /// Whether it is up and all its daemons are ready.
    pub ready: bool,
    /// Its daemons, in the order they start.
    pub daemons: Vec<DaemonStatus>,
}

/// How the lab does.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Whether the underlay and every host are up and ready.
    pub ready: bool,
    /// The process that holds the underlay; none if it is gone.
    pub underlay: Option<Process>,
    /// The rate of the link between the edge hosts.
    pub edge_link: LinkRate,
    /// Whether the hosts see cgroup v2.
    pub cgroup_v2: bool,
    /// The process of the UAV's radio, in the mode that has one.
    pub radio: Option<Process>,
    /// The hosts.
    pub hosts: Vec<HostStatus>,
}

/// A lab that has been brought up.
#[derive(Debug)]
pub struct Lab {
    pub(crate) state: LabState,
    hosts: Vec<Host>,
}

impl Lab {
    pub(crate) fn of(state: LabState) -> Lab {
        let hosts = HOSTS
            .iter()
            .map(|(name, role, address)| Host {
                name: (*name).to_owned(),
                role: *role,
                underlay: *address,
                init: state.host(name).map(|h| h.init).filter(Process::alive),
            })
            .collect();
        Lab { state, hosts }
    }

    /// The lab whose state is in `state_dir`, or `None` if none has been brought up there.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn open(state_dir: &Path) -> Result<Option<Lab>, LabError> {
        Ok(LabState::load(state_dir)?.map(Lab::of))
    }

    /// What it was brought up with; the link's rate is the present one.
    pub fn config(&self) -> &LabConfig {
        &self.state.config
    }

    /// The hosts, running or not (as of when the lab was opened).
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The machine's pid of a host's pid 1.
    ///
    /// # Errors
    /// There is no such host, or it is not running.
    pub fn host_pid(&self, name: &str) -> Result<i32, LabError> {
        let host = self.hosts.iter().find(|h| h.name == name).ok_or_else(|| LabError::UnknownHost {
            name: name.to_owned(),
            known: HOSTS.map(|(name, ..)| name).join(", "),
        })?;
        match host.init {
            Some(init) if init.alive() => Ok(init.pid),
            _ => Err(LabError::HostDown { name: name.to_owned() }),
        }
    }

    /// A command that runs `argv` inside a host, in all its namespaces and control groups. The caller chooses the standard
    /// streams and waits. Its exit code is the program's; killing it kills the program.
    ///
    /// # Errors
    /// There is no such host, or it is not running, or the caller is not root.
    pub fn exec<S: AsRef<OsStr>>(&self, host: &str, argv: &[S]) -> Result<Command, LabError> {
        self.exec_command(host, None, argv)
    }

    /// Like [`Lab::exec`], in the network namespace `/run/netns/NAME` of the host.
    ///
    /// # Errors
    /// As [`Lab::exec`]. Whether the namespace exists shows when the command is run.
    pub fn exec_in_netns<S: AsRef<OsStr>>(
        &self,
        host: &str,
        netns: &str,
        argv: &[S],
    ) -> Result<Command, LabError> {
        self.exec_command(host, Some(netns), argv)
    }

    fn exec_command<S: AsRef<OsStr>>(
        &self,
        host: &str,
        netns: Option<&str>,
        argv: &[S],
    ) -> Result<Command, LabError> {
        let pid = self.host_pid(host)?;
        require_root()?;
        Ok(exec::command(host, pid, &self.state.cgroup.procs_files(host), netns, argv))
    }

    /// How the lab does, now.
    pub fn status(&self) -> Status {
        let hosts: Vec<HostStatus> = self.hosts.iter().map(|h| self.host_status(h)).collect();
        let underlay = self.state.underlay.filter(Process::alive);
        Status {
            ready: underlay.is_some() && hosts.iter().all(|h| h.ready),
            underlay,
            edge_link: self.state.config.edge_link,
            cgroup_v2: self.state.cgroup.v2,
            radio: self.radio(),
            hosts,
        }
    }

    fn host_status(&self, host: &Host) -> HostStatus {
        let mut host = host.clone();
        host.init = host.init.filter(Process::alive);
        let said = host.init.and_then(init_status);
        let mut daemons = said.as_ref().map(|s| s.daemons.clone()).unwrap_or_default();
        if let Some(init) = host.init {
            let pids = in_pid_namespace_of(init.pid);
            for daemon in &mut daemons {
                daemon.machine_pid =
                    pids.iter().find(|(_, inner)| Some(*inner) == daemon.pid).map(|(pid, _)| *pid);
            }
        }
        HostStatus {
            up_since: said.map(|s| s.up_since),
            ready: !daemons.is_empty() && daemons.iter().all(|d| d.ready),
            host,
            daemons,
        }
    }

    /// Changes the rate of the link between the edge hosts, in both directions, while it is in use.
    ///
    /// # Errors
    /// An edge host is not running, or the kernel refuses.
    pub fn set_edge_link(&mut self, rate: LinkRate) -> Result<(), LabError> {
        require_root()?;
        for (name, role, _) in HOSTS {
            if role == Role::Edge {
                underlay::shape(self.host_pid(name)?, name, rate)?;
            }
        }
        self.state.config.edge_link = rate;
        self.state.save()
    }

    /// Keeps a daemon of a host from being started again when it ends (`hold`), or lets it. For fault tests, which need it
    /// dead for a while.
    ///
    /// # Errors
    /// The host is not running, or its files cannot be written.
    pub fn hold_daemon(&self, host: &str, daemon: &str, hold: bool) -> Result<(), LabError> {
        let root = format!("/proc/{}/root", self.host_pid(host)?);
        let path = hold_path(Path::new(&root), daemon);
        if hold {
            fs::write(&path, "").on("write", &path)
        } else if path.exists() {
            fs::remove_file(&path).on("remove", &path)
        } else {
            Ok(())
        }
    }
}
