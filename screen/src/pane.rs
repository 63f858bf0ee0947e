//! The panes.

use serde::{Deserialize, Serialize};

/// A part of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pane {
    /// The agents by role, and what runs there.
    Fleet,
    /// The hosts, their links, the service's way.
    Topology,
    /// The selected service and its link.
    Service,
    /// θ_down, θ_mig, the objective.
    Targets,
    /// What would be done, what it promises, why.
    Plan,
    /// Where the targets are met.
    Regions,
    /// The steps of a migration as they happen.
    Timeline,
    /// Past migrations.
    History,
    /// What happened that one should know.
    Notices,
    /// The program's log.
    Logs,
    /// For an audience: stations and vehicle from above, to scale, and where the service is.
    Map,
    /// For an audience: how long the service was stopped, as one large number.
    Stopped,
    /// For an audience: the client's requests, one cell each.
    Requests,
    /// For an audience: the client's round trip over time.
    RoundTrip,
    /// For an audience: the silences of the last handovers, one above the other.
    Runs,
}

impl Pane {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Fleet,
        Self::Topology,
        Self::Service,
        Self::Targets,
        Self::Plan,
        Self::Regions,
        Self::Timeline,
        Self::History,
        Self::Notices,
        Self::Logs,
        Self::Map,
        Self::Stopped,
        Self::Requests,
        Self::RoundTrip,
        Self::Runs,
    ];

    /// Its name in a layout.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Topology => "topology",
            Self::Service => "service",
            Self::Targets => "targets",
            Self::Plan => "plan",
            Self::Regions => "regions",
            Self::Timeline => "timeline",
            Self::History => "history",
            Self::Notices => "notices",
            Self::Logs => "logs",
            Self::Map => "map",
            Self::Stopped => "stopped",
            Self::Requests => "requests",
            Self::RoundTrip => "round-trip",
            Self::Runs => "runs",
        }
    }

    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Fleet => "Fleet",
            Self::Topology => "Topology",
            Self::Service => "Service",
            Self::Targets => "Targets",
            Self::Plan => "Plan",
            Self::Regions => "Regions",
            Self::Timeline => "Timeline",
            Self::History => "History",
            Self::Notices => "Notices",
            Self::Logs => "Logs",
            Self::Map => "Map",
            Self::Stopped => "Service stopped for",
            Self::Requests => "The client's requests",
            Self::RoundTrip => "Round trip",
            Self::Runs => "Last handovers",
        }
    }
}
