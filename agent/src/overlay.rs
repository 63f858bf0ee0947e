//! Overlay errors as refusals.

use mose_coat::CoatError;
use mose_protocol::{Refusal, RefusalCode};

/// The overlay's error as a refusal.
pub(crate) fn overlay_refusal(error: &CoatError) -> Refusal {
    Refusal::new(RefusalCode::Overlay, error.to_string(), "")
}
