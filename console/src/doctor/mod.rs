//! What usually breaks, looked at on this machine and by every agent on its host: for each the remedy, and what is used instead.

mod hosts;
mod machine;
mod page;

use mose_protocol::HostName;
use mose_protocol::doctor::{Check, CheckState};
use schemars::JsonSchema;
use serde::Serialize;

pub use hosts::examine;
pub use machine::{Machine, Reached};
pub use page::page;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// On the machine that the command ran on.
    pub machine: Vec<Check>,
    /// On the hosts whose agents were asked.
    pub hosts: Vec<HostReport>,
}

/// What was found on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostReport {
    /// Which.
    pub host: HostName,
    /// What its agent found, and what was found of its agent.
    pub checks: Vec<Check>,
}

impl Report {
    /// How many checks came to that.
    #[must_use]
    pub fn count(&self, state: CheckState) -> usize {
        let all = self.machine.iter().chain(self.hosts.iter().flat_map(|host| &host.checks));
        all.filter(|check| check.state == state).count()
    }
}
