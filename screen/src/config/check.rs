//! Settings that can be read and yet cannot be.

use std::ops::Range;

use mose_pam::Millis;
use toml::de::{DeTable, DeValue};

use super::Config;
use crate::config_error::{ConfigError, Source};

/// Where a setting stands in the text: the begin of the file if it does not.
pub(super) fn place(source: &Source<'_>, setting: &[&str]) -> Range<usize> {
    let Ok(file) = DeTable::parse(source.text) else { return 0..0 };
    let mut table = file.get_ref();
    let mut span = 0..0;
    for name in setting {
        let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { return span };
        span = value.span();
        let DeValue::Table(inner) = value.get_ref() else { return span };
        table = inner;
    }
    span
}

/// A setting, whether it can be, and what it must be.
type Check<'c> = (&'c [&'c str], bool, &'c str);

pub(super) fn check(config: &Config, source: &Source<'_>) -> Result<(), ConfigError> {
    const POSITIVE: &str = "above zero";
    let within = |time: Millis, least: f64, most: f64| (least..=most).contains(&time.0);
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let files = &config.files;
    let vehicle = &config.vehicle;
    let checks: &[Check<'_>] = &[
        (&["refresh"], within(config.refresh, 10.0, 10_000.0), "from 10ms to 10s"),
        (&["stale-after"], within(config.stale_after, 500.0, 3.6e6), "from 500ms to 1h"),
        (&["history"], (1..=100_000).contains(&config.history), "from 1 to 100000"),
        (&["files", "keymap"], !files.keymap.is_empty(), "a path"),
        (&["files", "layouts"], !files.layouts.is_empty(), "a path"),
        (&["files", "themes"], !files.themes.is_empty(), "a path"),
        (&["files", "recordings"], !files.recordings.is_empty(), "a path"),
        (&["targets", "downtime"], within(config.targets.downtime, 1.0, 3.6e6), "from 1ms to 1h"),
        (&["targets", "duration"], within(config.targets.duration, 1.0, 3.6e6), "from 1ms to 1h"),
        (&["vehicle", "speed"], positive(vehicle.speed.0), POSITIVE),
        (&["vehicle", "mass"], vehicle.mass.is_finite() && vehicle.mass >= 0.0, "zero or above"),
        (&["vehicle", "braking-force"], positive(vehicle.braking_force), POSITIVE),
        (&["frames", "rate"], positive(config.frames.rate), POSITIVE),
        (&["availability", "window"], positive(config.availability.window.0), POSITIVE),
        (&["availability", "handovers"], config.availability.handovers > 0, "at least 1"),
    ];
    match checks.iter().find(|(_, can_be, _)| !can_be) {
        None => Ok(()),
        Some((setting, _, must_be)) => Err(source.error(
            place(source, setting),
            format!("`{}` must be {must_be}", setting.join(".")),
            "correct it, or leave the line out for the default",
        )),
    }
}
