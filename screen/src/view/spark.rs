//! Sparklines with their gaps.

use super::Scene;

/// Values as heights, from zero to the greatest; what is unknown is a blank.
#[must_use]
pub fn spark(scene: &Scene<'_>, values: &[Option<f64>]) -> String {
    let most = values.iter().flatten().copied().fold(0.0_f64, f64::max);
    let glyphs = &scene.theme.glyphs.spark;
    values
        .iter()
        .map(|value| match value {
            None => " ",
            Some(_) if most <= 0.0 => glyphs[0],
            Some(value) => glyphs[((value / most * 7.0).round().clamp(0.0, 7.0)) as usize],
        })
        .collect()
}
