//! A service that follows its mobile host: what it is moved for, and what the orchestrator that has it follow tells all others.

use mose_pam::{Limits, Metres, Millis, Objective, RoundsRule, Targets, Vehicle};
use serde::{Deserialize, Serialize};

use crate::{HostName, ServiceName, Timestamp};

/// What a service is moved for.
#[derive(Debug, Clone, PartialEq)]
pub struct Aim {
    /// θ_down.
    pub downtime: Millis,
    /// The largest deviation of a vehicle, which takes the place of θ_down: at the speed that the mobile host tells of itself, else at
    /// the vehicle's.
    pub deviation: Option<(Metres, Vehicle)>,
    /// θ_mig.
    pub duration: Millis,
    /// What to minimise.
    pub objective: Objective,
    /// The most rounds.
    pub limits: Limits,
    /// How many of those that fit.
    pub rounds: RoundsRule,
    /// The service that follows where it is in doubt which.
    pub selected: Option<ServiceName>,
}

impl Aim {
    /// An aim of these targets and this objective, with everything else as usual.
    #[must_use]
    pub fn of(targets: Targets, objective: Objective) -> Self {
        Self {
            downtime: targets.downtime(),
            deviation: None,
            duration: targets.duration(),
            objective,
            limits: Limits::default(),
            rounds: RoundsRule::default(),
            selected: None,
        }
    }
}

/// What the orchestrator that has a service follow its mobile host does, or is about to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Following {
    /// The service.
    pub service: ServiceName,
    /// The host that it follows.
    pub mobile: HostName,
    /// Whether it does.
    pub on: bool,
    /// Whether no migration is ordered now although it should be, or why the last one failed; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The move that comes next, as far as that can be foreseen; `None` while the mobile host is not on its way to another station.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextMove>,
}

/// A move after a mobile host that was decided and planned, and is ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Which service.
    pub service: ServiceName,
    /// Where it is.
    pub from: HostName,
    /// Where it goes.
    pub to: HostName,
    /// Why, and how, for people: `cell 2 serves uav; pre-copy, worst case 180 ms`.
    pub why: String,
}

/// A move that is foreseen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NextMove {
    /// Where the service is.
    pub from: HostName,
    /// Where it will go.
    pub to: HostName,
    /// When, on the clock of whoever reads it; a time that is over means that it is due.
    pub at: Timestamp,
    /// Why, for people: `edge-b is nearer (92 m, edge-a 97 m)`.
    pub why: String,
}

/// What an orchestrator tells the mobile host's agent, which tells it on: at every change, and once a second while the service follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FollowNews {
    /// The orchestrator: a number that tells it from others.
    pub by: u64,
    /// When it was told, on that one's clock.
    pub told_at: Timestamp,
    /// How it stands.
    pub following: Following,
}

impl FollowNews {
    /// How it stands, with its times on the clock of whoever reads it `now`.
    #[must_use]
    pub fn read(mut self, now: Timestamp) -> Following {
        if let Some(next) = &mut self.following.next {
            let later = now.0.cast_signed().wrapping_sub(self.told_at.0.cast_signed());
            next.at = Timestamp(next.at.0.saturating_add_signed(later));
        }
        self.following
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countdown_goes_by_the_readers_clock() {
        let next = |at| NextMove {
            from: "edge-a".parse().unwrap(),
            to: "edge-b".parse().unwrap(),
            at: Timestamp(at),
            why: "it is nearer".to_owned(),
        };
        let told = |at| Following {
            service: "web".parse().unwrap(),
            mobile: "uav".parse().unwrap(),
            on: true,
            trouble: None,
            next: Some(next(at)),
        };
        for (told_at, now) in [(1000, 9000), (9000, 1000), (9000, 9000)] {
            let news = FollowNews { by: 1, told_at: Timestamp(told_at), following: told(told_at + 40) };
            assert_eq!(news.read(Timestamp(now)), told(now + 40));
        }
        let absurd = FollowNews { by: 1, told_at: Timestamp(u64::MAX), following: told(5) };
        assert!(absurd.read(Timestamp(1)).next.is_some(), "whatever a peer says, it is read");
    }
}
