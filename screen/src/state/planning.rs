//! Targets as the operator sets them, and what the agents told that a plan is made from.

use std::collections::{BTreeMap, BTreeSet};

use mose_pam::{
    Calibration, FramesPerSec, Handovers, InputError, Limits, Metres, Millis, Model, Objective, RoundsRule,
    Vehicle, downtime_for_frames, lost_frames,
};
use mose_protocol::HostName;

use super::checks::Checks;
use crate::config::Config;
pub use crate::config::Unit;

/// How many planes the region map can show; [`Planning::axes`] says which.
pub(crate) const PLANES: usize = 3;

/// A target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Field {
    /// θ_down.
    #[default]
    Downtime,
    /// θ_mig.
    Duration,
}

impl Unit {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Seconds => Self::Deviation,
            Self::Deviation => Self::Frames,
            Self::Frames => Self::Availability,
            Self::Availability => Self::Seconds,
        }
    }

    /// What one types.
    #[must_use]
    pub const fn prompt(self) -> &'static str {
        match self {
            Self::Seconds => "longest downtime, such as 500ms or 1.2s",
            Self::Deviation => "largest deviation from the path, such as 2.7m",
            Self::Frames => "most frames lost, such as 15",
            Self::Availability => "least availability, such as 99.9%",
        }
    }
}

/// What the application's units are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Application {
    /// Who is steered.
    pub vehicle: Vehicle,
    /// How many frames a second are looked at.
    pub frames: FramesPerSec,
    /// How often the service is handed over in which time.
    pub handovers: Handovers,
}

impl Default for Application {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

impl Application {
    /// As an operator set it.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { vehicle: config.vehicle(), frames: config.frame_rate(), handovers: config.handovers() }
    }

    /// The metres that a text means, in the unit of which they are.
    #[must_use]
    pub fn metres(unit: Unit, text: &str) -> Option<Metres> {
        let text = text.trim();
        (unit == Unit::Deviation).then(|| text.parse().ok().or_else(|| text.parse().ok().map(Metres)))?
    }

    /// A downtime in a unit; `None` in seconds, which are shown anyway.
    #[must_use]
    pub fn show(&self, unit: Unit, downtime: Millis) -> Option<String> {
        match unit {
            Unit::Seconds => None,
            Unit::Deviation => {
                self.vehicle.deviation(downtime).ok().map(|metres| format!("{:.2} m off the path", metres.0))
            }
            Unit::Frames => {
                lost_frames(self.frames, downtime).ok().map(|frames| format!("{frames:.1} frames lost"))
            }
            Unit::Availability => {
                let share = self.handovers.availability(downtime).ok()?;
                let minutes = self.handovers.window.0 / 60_000.0;
                Some(format!(
                    "{:.4} % of {minutes:.0} min with {} handovers",
                    share * 100.0,
                    self.handovers.count
                ))
            }
        }
    }

    /// The downtime that a text in a unit means.
    ///
    /// # Errors
    /// What is wrong with the text, and what it should be.
    pub fn read(&self, unit: Unit, text: &str) -> Result<Millis, String> {
        let text = text.trim();
        let wanted = |error: &dyn std::fmt::Display| format!("{error}; give the {}", unit.prompt());
        let number =
            |text: &str| text.trim().parse::<f64>().map_err(|_| wanted(&format!("`{text}` is no number")));
        let impossible = |error: InputError| wanted(&error);
        match unit {
            Unit::Seconds => seconds(text),
            Unit::Deviation => {
                let metres = match text.parse::<Metres>() {
                    Ok(metres) => metres,
                    Err(_) => Metres(number(text)?),
                };
                self.vehicle.downtime_for(metres).map_err(impossible)
            }
            Unit::Frames => downtime_for_frames(self.frames, number(text)?).map_err(impossible),
            Unit::Availability => {
                let share = number(text.trim_end_matches('%'))? / 100.0;
                self.handovers.downtime_for(share).map_err(impossible)
            }
        }
    }
}

/// A time; a bare number is seconds.
///
/// # Errors
/// What is wrong with the text, and what it should be.
pub fn seconds(text: &str) -> Result<Millis, String> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        if number.is_finite() && number > 0.0 {
            return Ok(Millis(number * 1e3));
        }
        return Err(format!("{text} s is no target: give a time above zero, such as 500ms or 1.2s"));
    }
    match text.parse::<Millis>() {
        Ok(time) if time.0 > 0.0 => Ok(time),
        Ok(_) => Err(format!("{text} is no target: give a time above zero, such as 500ms or 1.2s")),
        Err(error) => Err(error.to_string()),
    }
}

/// What the source's agent keeps of migrations to a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// The profile; the published one where there is none.
    pub profile: Calibration,
    /// The model with its parameters.
    pub model: Model,
    /// Whether the hosts were ever calibrated.
    pub own: bool,
    /// Why it should not be relied upon.
    pub doubt: Option<String>,
}

/// The operator's side of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Planning {
    /// θ_down.
    pub downtime: Millis,
    /// What θ_down was typed as, if it was metres: it follows the vehicle's speed.
    deviation: Option<Metres>,
    /// The same before something else was typed.
    before: Option<Metres>,
    /// θ_mig.
    pub duration: Millis,
    /// What is minimised.
    pub objective: Objective,
    /// How many rounds of those that fit.
    pub rounds: RoundsRule,
    /// The target that steps and the mouse change.
    pub field: Field,
    /// What θ_down is told in.
    pub unit: Unit,
    /// What that is made of.
    pub application: Application,
    /// The most iterations.
    pub limits: Limits,
    /// What the region map varies: 0 θ_mig and M, 1 θ_mig and r, 2 θ_down and L.
    pub axes: usize,
    /// The calibrations that were told, by source and destination.
    pub calibrations: BTreeMap<(HostName, HostName), Calibrated>,
    /// Those that were asked for and not told yet.
    pub asked: BTreeSet<(HostName, HostName)>,
    /// Whether services can move.
    pub checks: Checks,
}

impl Default for Planning {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

/// Targets go from a millisecond to an hour.
const RANGE: (f64, f64) = (1.0, 3_600_000.0);

impl Planning {
    /// What an operator set to begin with.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            downtime: config.targets.downtime,
            deviation: None,
            before: None,
            duration: config.targets.duration,
            objective: config.targets.objective,
            rounds: config.targets.rounds_rule,
            field: Field::Downtime,
            unit: config.unit,
            application: Application::of(config),
            limits: Limits::default(),
            axes: 0,
            calibrations: BTreeMap::new(),
            asked: BTreeSet::new(),
            checks: Checks::default(),
        }
    }

    /// A target.
    #[must_use]
    pub const fn target(&self, field: Field) -> Millis {
        match field {
            Field::Downtime => self.downtime,
            Field::Duration => self.duration,
        }
    }

    /// Sets a target, within what makes sense.
    pub fn set(&mut self, field: Field, value: Millis) {
        let value = Millis(value.0.clamp(RANGE.0, RANGE.1));
        match field {
            Field::Downtime => (self.downtime, self.deviation) = (value, None),
            Field::Duration => self.duration = value,
        }
    }

    /// Sets θ_down as the metres that it was typed as, and what they are now.
    pub(crate) fn set_metres(&mut self, metres: Metres, downtime: Millis) {
        self.set(Field::Downtime, downtime);
        self.deviation = Some(metres);
    }

    /// The metres that θ_down was typed as.
    #[must_use]
    pub const fn deviation(&self) -> Option<Metres> {
        self.deviation
    }

    /// A target is about to be typed.
    pub(crate) const fn begin(&mut self) {
        self.before = self.deviation;
    }

    /// A target is what it was before it was typed.
    pub(crate) fn undo(&mut self, field: Field, before: Millis) {
        self.set(field, before);
        self.deviation = self.before;
    }

    /// Steps the target that steps and the mouse change.
    pub fn step_focused(&mut self, up: bool) {
        self.step(self.field, up);
    }

    /// Steps a target: 10, 20, 50, 100 ms … apart, by its size.
    pub fn step(&mut self, field: Field, up: bool) {
        let now = self.target(field).0;
        let size = |value: f64| match value {
            v if v < 100.0 => 10.0,
            v if v < 500.0 => 20.0,
            v if v < 1000.0 => 50.0,
            v if v < 3000.0 => 100.0,
            v if v < 10_000.0 => 250.0,
            _ => 1000.0,
        };
        let next = if up {
            let step = size(now);
            (now / step + 1e-9).floor() * step + step
        } else {
            let step = size(now - 1e-6);
            ((now / step - 1e-9).ceil() * step - step).max(10.0)
        };
        self.set(field, Millis(next));
    }
}

#[cfg(test)]
mod tests {
    use mose_pam::MetresPerSec;

    use super::*;

    #[test]
    fn steps_go_up_and_down_over_the_same_values() {
        let mut planning = Planning::default();
        let mut seen = Vec::new();
        for _ in 0..60 {
            seen.push(planning.downtime.0);
            planning.step(Field::Downtime, true);
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
        for value in seen.iter().rev() {
            planning.step(Field::Downtime, false);
            assert!((planning.downtime.0 - value).abs() < 1e-6, "{} {value}", planning.downtime);
        }
        for _ in 0..200 {
            planning.step(Field::Downtime, false);
        }
        assert_eq!(planning.downtime, Millis(10.0));
    }

    #[test]
    fn a_target_is_read_in_the_applications_unit_and_shown_again() {
        let application = Application::default();
        let downtime = application.read(Unit::Deviation, "10.2m").unwrap();
        assert_eq!(application.show(Unit::Deviation, downtime).unwrap(), "10.20 m off the path");
        let downtime = application.read(Unit::Frames, "15").unwrap();
        assert!((downtime.0 - 500.0).abs() < 1e-9);
        let downtime = application.read(Unit::Availability, "99.9%").unwrap();
        assert!((downtime.0 - 360.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_target_is_refused_with_what_would_be() {
        for text in ["", "fast", "-1", "0", "NaN", "inf", "3 parsecs", "0ms"] {
            let error = seconds(text).unwrap_err();
            assert!(!error.is_empty(), "{text}");
        }
        assert_eq!(seconds("0.5"), Ok(Millis(500.0)));
        assert_eq!(seconds("750ms"), Ok(Millis(750.0)));
        // One that brakes late leaves its path however short the downtime is.
        let braking = Application { vehicle: Vehicle::uav(MetresPerSec(5.0)), ..Application::default() };
        let error = braking.read(Unit::Deviation, "1m").unwrap_err();
        assert!(error.contains("such as 2.7m"), "{error}");
        assert_eq!(Application::default().read(Unit::Deviation, "2.7m"), Ok(Millis(540.0)));
    }
}
