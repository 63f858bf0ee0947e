//! Figures as people read them: what is unknown is a dash, never a zero.

use mose_pam::Millis;
use mose_protocol::forecast::Forecast;
use mose_protocol::record::Silence;

use super::{Scene, Zone};
use crate::state::Still;
use crate::theme::Role;
use ratatui::text::Span;

/// A quantity that may be unknown.
pub fn known<T: std::fmt::Display>(scene: &Scene<'_>, value: Option<T>) -> String {
    value.map_or_else(|| scene.theme.glyphs.gap.to_owned(), |value| value.to_string())
}

/// A time in the unit in which it is short: `31 µs`, `184 ms`, `2.90 s`, `3 min`.
#[must_use]
pub fn time(time: Millis) -> String {
    match time.0 {
        t if !t.is_finite() => "?".to_owned(),
        t if t != 0.0 && t.abs() < 0.095 => format!("{:.0} µs", t * 1e3),
        t if t.abs() < 9.95 => format!("{t:.1} ms"),
        t if t.abs() < 999.5 => format!("{t:.0} ms"),
        t if t.abs() < 99_950.0 => format!("{:.2} s", t / 1e3),
        t => format!("{:.0} min", t / 60_000.0),
    }
}

/// For how long a service stood still; while it lasts, the figure grows.
#[must_use]
pub fn still(scene: &Scene<'_>, still: Still) -> (Role, String) {
    match still {
        Still::Never => (Role::Text, "none".to_owned()),
        Still::SoFar(so_far) => (Role::Frozen, format!("{}{}", time(so_far), scene.theme.glyphs.more)),
        Still::Heard(time) | Still::Measured(time) => (Role::Text, self::time(time)),
        Still::NotBack => (Role::Bad, "not back".to_owned()),
        Still::Unknown => (Role::Text, scene.theme.glyphs.gap.to_owned()),
    }
}

/// What a client heard nothing for, as far as it is known.
#[must_use]
pub fn silence(scene: &Scene<'_>, silence: Silence) -> String {
    match silence {
        Silence::Unwatched => scene.theme.glyphs.gap.to_owned(),
        Silence::Unknown => "unknown".to_owned(),
        Silence::AtLeast(least) => format!("at least {}", time(least)),
        Silence::Known(silence) => time(silence),
    }
}

/// How long ago something was: `0.3s`, `12s`, `5m`, `2h`, `3d`.
#[must_use]
pub fn age(age: Millis) -> String {
    match age.0.max(0.0) / 1e3 {
        s if s < 9.95 => format!("{s:.1}s"),
        s if s < 119.5 => format!("{s:.0}s"),
        s if s < 7170.0 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0}h", s / 3600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// A bound and whether it was kept: `203 ms ≤ 310 ms ✔`.
#[must_use]
pub fn verdict(scene: &Scene<'_>, value: Millis, bound: Millis) -> Vec<Span<'static>> {
    let glyphs = &scene.theme.glyphs;
    let (role, mark) = if value <= bound { (Role::Good, glyphs.yes) } else { (Role::Bad, glyphs.no) };
    vec![
        scene.span(Role::Text, format!("{} ", time(value))),
        scene.span(
            Role::Dim,
            format!("{} {} ", if value <= bound { glyphs.at_most } else { ">" }, time(bound)),
        ),
        scene.span(role, mark),
    ]
}

/// For how long a service stands still already, against its worst case and its target: what is exceeded before the end stays so,
/// what is not yet exceeded says nothing.
#[must_use]
pub fn so_far(scene: &Scene<'_>, still: Still, forecast: Option<&Forecast>) -> Vec<Span<'static>> {
    let glyphs = &scene.theme.glyphs;
    let time = still.time().map_or_else(|| glyphs.gap.to_owned(), self::time);
    let word = if matches!(still, Still::SoFar(_)) { " so far" } else { ", by when it was heard" };
    let mut spans = vec![scene.span(Role::Frozen, time), scene.span(Role::Dim, word)];
    let Some(forecast) = forecast else { return spans };
    let bound = self::time(forecast.bound.downtime);
    match still.exceeded(forecast) {
        (false, _) => spans.push(scene.span(Role::Dim, format!("; worst case {bound}"))),
        (true, _) => spans.push(scene.span(Role::Bad, format!(" > {bound} {}", glyphs.no))),
    }
    if still.exceeded(forecast).1 {
        let target = self::time(forecast.targets.downtime);
        spans.push(scene.span(Role::Bad, format!(" target {target} missed")));
    }
    spans
}

/// A time of day on the clock of the one who reads.
#[must_use]
pub fn clock(scene: &Scene<'_>, at: mose_protocol::Timestamp) -> String {
    let Some(at) = i64::try_from(at.0).ok().and_then(chrono::DateTime::from_timestamp_micros) else {
        return "?".to_owned();
    };
    match scene.zone {
        Zone::Local => at.with_timezone(&chrono::Local).format("%H:%M:%S").to_string(),
        Zone::Utc => at.format("%H:%M:%S").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_unit_in_which_they_are_short() {
        for (ms, shown) in [
            (0.031, "31 µs"),
            (0.31, "0.3 ms"),
            (184.4, "184 ms"),
            (999.4, "999 ms"),
            (2900.0, "2.90 s"),
            (240_000.0, "4 min"),
        ] {
            assert_eq!(time(Millis(ms)), shown);
        }
        assert_eq!(age(Millis(-5.0)), "0.0s");
        assert_eq!(age(Millis(61_000.0)), "61s");
        assert_eq!(age(Millis(1e9)), "12d");
    }
}
