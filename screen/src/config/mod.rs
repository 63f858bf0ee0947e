//! What an operator may set. `assets/config.toml` is the commented default, which `Config::default()` equals; the JSON schema
//! comes from the types.

use mose_pam::{FramesPerSec, Handovers, MetresPerSec, Millis, Objective, RoundsRule, Vehicle};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::config_error::{ConfigError, Source};

mod check;
mod text;

/// The commented default.
pub const COMMENTED: &str = include_str!("../../../assets/config.toml");

/// What an operator may set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The theme, by its name: a built-in one, or one of the themes folder.
    pub theme: String,
    /// Draw with ASCII only.
    pub ascii: bool,
    /// Take the mouse; off, the terminal selects text with it.
    pub mouse: bool,
    /// The layout to begin with, by its name: a built-in one, or one of the layouts folder.
    pub layout: String,
    /// Refuse whatever would change anything at the agents.
    pub read_only: bool,
    /// The unit in which θ_down is shown and typed.
    pub unit: Unit,
    /// The least time between two pictures. Nothing is drawn while nothing changes.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub refresh: Millis,
    /// An agent without news for so long is shown as stale.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub stale_after: Millis,
    /// How many past migrations are kept in sight.
    #[schemars(range(min = 1, max = 100_000))]
    pub history: usize,
    /// Where files are.
    pub files: Paths,
    /// What a plan is made for until something else is typed.
    pub targets: Targets,
    /// The vehicle that the service steers: turns a downtime into metres off its path.
    pub vehicle: VehicleConfig,
    /// The video that the service looks at: turns a downtime into lost frames.
    pub frames: FramesConfig,
    /// How often the service is handed over: turns a downtime into an availability.
    pub availability: AvailabilityConfig,
}

/// The unit of θ_down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// The downtime itself.
    Seconds,
    /// How far the vehicle leaves its path.
    Deviation,
    /// Frames that are lost.
    Frames,
    /// The share of the time for which the service answers.
    Availability,
}

/// Where files are. A relative path begins at the folder of the config, that of the recordings at the folder for data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Paths {
    /// Keys of one's own, over the built-in ones.
    pub keymap: String,
    /// The folder of layouts of one's own.
    pub layouts: String,
    /// The folder of themes of one's own.
    pub themes: String,
    /// The folder that recordings and exports are written to.
    pub recordings: String,
}

/// What a plan is made for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Targets {
    /// θ_down: the longest downtime.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub downtime: Millis,
    /// θ_mig: the longest migration.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub duration: Millis,
    /// What to minimise while both are met: "downtime" or "resources".
    #[schemars(with = "String", extend("enum" = Objective::ALL.map(Objective::name)))]
    pub objective: Objective,
    /// How many rounds of pre-copy where the downtime is minimised: "enough", the fewest with which the expected downtime is as
    /// good as the best, or "paper", all that fit into the duration.
    #[schemars(with = "String", extend("enum" = RoundsRule::ALL.map(RoundsRule::name)))]
    pub rounds_rule: RoundsRule,
}

/// D = v·(T_down + T_v + T_proc) + v²·m/(2·F_b).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct VehicleConfig {
    /// v: its speed, where it does not tell its own.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub speed: MetresPerSec,
    /// T_v: until a picture of where it is has arrived.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub video: Millis,
    /// T_proc: until a command has been made of it.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub processing: Millis,
    /// m: its mass, in kg; 0 where it does not brake.
    pub mass: f64,
    /// F_b: its braking force, in N.
    pub braking_force: f64,
}

/// Lost frames = rate · T_down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FramesConfig {
    /// Frames in a second.
    pub rate: f64,
}

/// Availability = 1 − n·T_down/W.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AvailabilityConfig {
    /// W: the time over which it is counted.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub window: Millis,
    /// n: how often the service is handed over in it.
    #[schemars(range(min = 1))]
    pub handovers: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            theme: "dark".to_owned(),
            ascii: false,
            mouse: true,
            layout: "operator".to_owned(),
            read_only: false,
            unit: Unit::Seconds,
            refresh: Millis(50.0),
            stale_after: Millis(2500.0),
            history: 1000,
            files: Paths::default(),
            targets: Targets::default(),
            vehicle: VehicleConfig::default(),
            frames: FramesConfig::default(),
            availability: AvailabilityConfig::default(),
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        let [keymap, layouts, themes, recordings] =
            ["keymap.toml", "layouts", "themes", "recordings"].map(str::to_owned);
        Self { keymap, layouts, themes, recordings }
    }
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            downtime: Millis(500.0),
            duration: Millis(5000.0),
            objective: Objective::Downtime,
            rounds_rule: RoundsRule::Enough,
        }
    }
}

impl Default for VehicleConfig {
    fn default() -> Self {
        let Vehicle { speed, video, processing, mass, braking_force } = Vehicle::going_on(MetresPerSec(5.0));
        Self { speed, video, processing, mass, braking_force }
    }
}

impl Default for FramesConfig {
    fn default() -> Self {
        Self { rate: 30.0 }
    }
}

impl Default for AvailabilityConfig {
    fn default() -> Self {
        Self { window: Millis(3.6e6), handovers: 10 }
    }
}

impl Config {
    /// Reads a config; what it does not say is as in the default.
    ///
    /// # Errors
    /// [`ConfigError`] where a setting is unknown, of the wrong kind or impossible.
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let source = Source::new(text, path);
        let config: Self = source.read()?;
        check::check(&config, &source)?;
        Ok(config)
    }

    /// What may stand in a config, as JSON Schema (draft 2020-12).
    #[must_use]
    pub fn schema() -> Schema {
        schemars::schema_for!(Self)
    }

    /// The vehicle, for the model.
    #[must_use]
    pub const fn vehicle(&self) -> Vehicle {
        let VehicleConfig { speed, video, processing, mass, braking_force } = self.vehicle;
        Vehicle { speed, video, processing, mass, braking_force }
    }

    /// The rate of frames, for the model.
    #[must_use]
    pub const fn frame_rate(&self) -> FramesPerSec {
        FramesPerSec(self.frames.rate)
    }

    /// The hand-overs, for the model.
    #[must_use]
    pub const fn handovers(&self) -> Handovers {
        Handovers { count: self.availability.handovers, window: self.availability.window }
    }
}

/// Where a setting stands in a config's text, for what turns out wrong only later, such as a theme that does not exist.
pub(crate) fn place(source: &Source<'_>, setting: &[&str]) -> std::ops::Range<usize> {
    check::place(source, setting)
}

#[cfg(test)]
mod tests;
