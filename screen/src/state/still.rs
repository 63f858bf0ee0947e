//! For how long a service stood still: what is told of it in every view, while it lasts and after it.

use mose_pam::Millis;
use mose_protocol::Timestamp;
use mose_protocol::forecast::Forecast;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::Step;

use super::Track;

/// For how long a service stood still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Still {
    /// It ran all the time.
    Never,
    /// It stands still, for so long so far, and it may be longer.
    SoFar(Millis),
    /// It is back, after so long by when that was heard; the agents' own figure is not there yet.
    Heard(Millis),
    /// It stood still for so long, as the agents measured it.
    Measured(Millis),
    /// It was frozen, and nobody has said that it came back.
    NotBack,
    /// It was not measured.
    Unknown,
}

impl Still {
    /// Of a migration that was seen in progress.
    #[must_use]
    pub fn of(track: &Track, now: Timestamp) -> Self {
        let stopped = track.stopped(now);
        if let Some(record) = track.record.as_deref() {
            match Self::recorded(record, now) {
                // Counted from where the freeze was seen, which is on this console's clock.
                Self::SoFar(_) | Self::Unknown if stopped.is_some() && track.is_in_doubt() => {}
                told => return told,
            }
        }
        match stopped {
            None if track.over && !track.is_in_doubt() => Self::Unknown,
            None => Self::Never,
            Some((freeze, Some(back))) => Self::Heard(Millis(back.0 - freeze.0)),
            Some(_) if track.has_ended() => Self::Unknown,
            Some((freeze, None)) => {
                let now = now.since(track.begun());
                Self::SoFar(Millis((now.0 - freeze.0).max(0.0)))
            }
        }
    }

    /// Of a migration that is recorded. In doubt it goes on.
    #[must_use]
    pub fn recorded(record: &Record, now: Timestamp) -> Self {
        if let Some(blackout) = record.downtime.blackout {
            return Self::Measured(blackout);
        }
        let of_source = |step: Step| record.steps.iter().find(|s| s.step == step && s.host == record.from);
        let freeze = of_source(Step::Freeze);
        match (record.outcome, freeze) {
            (Outcome::Refused, _) => Self::Never,
            (Outcome::GivenUp, _) => Self::NotBack,
            (Outcome::InDoubt, Some(freeze)) => {
                let so_far = now.since(record.started_at).0 - freeze.start.0;
                Self::SoFar(Millis(so_far.max(0.0)))
            }
            // Its steps are known from the first on, and the freeze is none of them.
            (Outcome::RolledBack | Outcome::Aborted, None) if of_source(Step::Inspect).is_some() => {
                Self::Never
            }
            _ => Self::Unknown,
        }
    }

    /// How long it is, or has been so far; `None` where that is not known.
    #[must_use]
    pub const fn time(self) -> Option<Millis> {
        match self {
            Self::SoFar(time) | Self::Heard(time) | Self::Measured(time) => Some(time),
            Self::Never => Some(Millis(0.0)),
            Self::NotBack | Self::Unknown => None,
        }
    }

    /// Whether the worst case is exceeded already, and whether the target is missed already: what is so before the end stays so.
    #[must_use]
    pub fn exceeded(self, forecast: &Forecast) -> (bool, bool) {
        let (Self::SoFar(time) | Self::Heard(time) | Self::Measured(time)) = self else {
            return (false, false);
        };
        (time.0 > forecast.bound.downtime.0, time.0 > forecast.targets.downtime.0)
    }
}
