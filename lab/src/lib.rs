//! The lab: the paper's testbed on one Linux machine.
//!
//! Four hosts (`edge-a`, `edge-b`, `uav`, `controller`), each a set of namespaces with a root file system, Podman, Open
//! vSwitch, sshd and, if its program is given, the agent. They meet on an underlay of their own; nothing of the lab touches
//! the machine's network or outlives `down`. See `design/lab.md` for why each part is as it is.

pub mod baseline;
mod cache;
mod cgroup;
pub mod client;
mod config;
pub mod counter;
mod daemons;
mod doctor;
mod down;
mod error;
mod exec;
mod files;
pub mod guest;
pub mod holder;
mod host;
mod host_config;
mod images;
pub mod init;
mod lab;
mod median;
mod mounts;
pub mod objects;
mod packages;
mod procfs;
mod purge;
mod radio;
mod rootfs;
mod run;
mod service;
mod simulator;
mod state;
mod supervisor;
pub mod trial;
mod underlay;
mod unmovable;
mod up;
mod workload;

pub use cgroup::{CgroupPlan, Hierarchies, Hierarchy};
pub use config::{
    AGENT_MAVLINK, AGENT_PORT, CELLS, CellSite, CgroupMode, HOSTS, LabConfig, LinkRate, OWN_BINARIES,
    Progress, RADIO_PROGRAM, Role, UNDERLAY_INTERFACE, UNDERLAY_PREFIX,
};
pub use daemons::{AGENT_SOCKET, PODMAN_SOCKET};
pub use doctor::{Space, doctor, space};
pub use down::DownReport;
pub use error::{LabError, Missing};
pub use lab::{Host, HostStatus, Lab, Status};
pub use median::median;
pub use procfs::Process;
pub use service::{CLIENT_ADDRESS, CLIENT_NETNS, ServiceOptions, start_service, stop_service};
pub use state::Lock;
pub use supervisor::DaemonStatus;
pub use unmovable::{ByHand, Holder, by_hand};
pub use workload::{WORKLOADS, Workload};
