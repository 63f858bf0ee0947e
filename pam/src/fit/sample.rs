//! What was measured of one migration.

use serde::{Deserialize, Serialize};

use crate::input_error::{InputError, not_negative, positive};
use crate::plan::Strategy;
use crate::service::NormalizedRate;
use crate::units::{BitsPerSec, Bytes, Millis};

/// One measured migration of a generator of known state size and dirty-page rate. What was not measured is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// M.
    pub memory: Bytes,
    /// r of the generator; a cold migration dumps as if it were 1.
    pub rate: f64,
    /// How the state was moved.
    pub strategy: Strategy,
    /// L: what the link carried.
    pub bandwidth: BitsPerSec,
    /// Preparing the destination.
    #[serde(default)]
    pub prepare: Option<Millis>,
    /// T_p.
    #[serde(default)]
    pub predump: Option<Pass>,
    /// Every pre-copy iteration.
    #[serde(default)]
    pub rounds: Vec<Pass>,
    /// T_d and V.
    #[serde(default)]
    pub dump: Option<Pass>,
    /// T_r.
    #[serde(default)]
    pub restore: Option<Millis>,
    /// T_add.
    #[serde(default)]
    pub overlay: Option<Millis>,
}

/// A dump of whichever kind: its time without the transfer, and what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pass {
    /// Without the transfer.
    pub time: Millis,
    /// What was sent.
    pub volume: Bytes,
}

impl Sample {
    /// The r that its dump is fitted at.
    pub(super) fn dumped_at(&self) -> f64 {
        if self.strategy == Strategy::Cold { 1.0 } else { self.rate }
    }

    pub(super) fn check(&self) -> Result<(), InputError> {
        positive("state size in bytes", self.memory.0 as f64)?;
        positive("bandwidth in bit/s", self.bandwidth.0 as f64)?;
        NormalizedRate::new(self.rate)?;
        let passes = self.predump.iter().chain(&self.rounds).chain(&self.dump);
        let single = [
            ("preparation time in ms", self.prepare),
            ("restore time in ms", self.restore),
            ("overlay time in ms", self.overlay),
        ];
        for pass in passes {
            not_negative("dump time in ms", pass.time.0)?;
            not_negative("dump volume in bytes", pass.volume.0 as f64)?;
        }
        for (quantity, time) in single {
            not_negative(quantity, time.map_or(0.0, |time| time.0))?;
        }
        Ok(())
    }
}
