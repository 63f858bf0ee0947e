//! What the programs have in common on their command lines.

use crate::orbit::{Orbit, PAPER};

/// The circle that is flown.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct OrbitOptions {
    /// Its radius, in metres.
    #[arg(long, default_value_t = PAPER.radius_m, value_parser = positive)]
    pub radius: f64,
    /// The speed along it, in metres per second.
    #[arg(long, default_value_t = PAPER.speed_m_s, value_parser = positive)]
    pub speed: f64,
    /// The height above the ground, in metres.
    #[arg(long, default_value_t = PAPER.height_m, value_parser = positive)]
    pub height: f64,
}

impl From<OrbitOptions> for Orbit {
    fn from(options: OrbitOptions) -> Self {
        Self { radius_m: options.radius, speed_m_s: options.speed, height_m: options.height }
    }
}

/// A number above 0.
///
/// # Errors
/// It is none.
pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("give a number above 0".to_owned()),
    }
}
