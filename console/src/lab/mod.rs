//! The lab, as far as this program has to know of it: its commands' definitions, and its program `mose-lab`, which runs them and is
//! asked for everything else. Nothing of the testbed itself is in here.

pub mod commands;
mod faults;
mod paper;
mod program;
mod replace;
mod told;
mod uav;

use std::path::Path;

use color_eyre::eyre::WrapErr;

pub use program::{AskError, LOOK, NotFound, PROGRAM, SOON, ask, hand_over};
pub use told::{Machine, Missing, Readiness, Running, Space, Topic};

/// The folder that is there while a lab is up.
pub const STATE_DIR: &str = "/run/mose-lab";

/// The lab that is up on this machine. `None` where there is none, and for someone who may not look: they are not kept from agents
/// elsewhere.
#[must_use]
pub fn running() -> Option<Running> {
    // Most machines have no lab: they are not kept waiting for a program that says so.
    if !Path::new(STATE_DIR).exists() {
        return None;
    }
    ask::<Option<Running>>(Topic::Running, SOON).unwrap_or_else(|error| {
        tracing::warn!(%error, "there is a lab, and nothing is known of it");
        None
    })
}

/// Enters the network of the lab's controller, from where its agents are reached. To be done before there are other threads.
///
/// # Errors
/// The controller is not running, or this user may not enter its network.
pub fn enter(lab: &Running) -> color_eyre::Result<()> {
    let pid = lab.controller.as_ref().map_err(|reason| color_eyre::eyre::eyre!("{reason}"))?;
    let netns = std::fs::File::open(format!("/proc/{pid}/ns/net"))
        .wrap_err("the lab's controller cannot be entered; be root, or name agents with --connect")?;
    nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)
        .wrap_err("the lab's controller cannot be entered; be root, or name agents with --connect")
}
