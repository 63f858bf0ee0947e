//! What a trial came to.

use mose_experiments::documents::Measured;
use mose_flight::vehicle::live::{Flown, Told};

use crate::moved::{Moved, lost};

/// From what the vehicle told, what its flight came to, and what the hosts say of the move.
pub(crate) fn measured(told: &[Told], flown: &Flown, moved: Moved) -> Measured {
    let seen = moved.seen(told);
    Measured {
        outcome: moved.outcome,
        why: moved.why,
        from: moved.from,
        to: moved.to,
        began_unix_ms: moved.began_ms,
        bandwidth_bps: moved.bandwidth_bps,
        rounds: moved.rounds,
        client_silence_ms: seen.silence_ms,
        service_stopped_ms: moved.stopped_ms,
        duration_ms: moved.duration_ms,
        deviation_m: seen.deviation_m,
        cross_track_m: seen.cross_track_m,
        undisturbed_deviation_m: seen.undisturbed_deviation_m,
        undisturbed_cross_track_m: seen.undisturbed_cross_track_m,
        requests_lost: lost(flown),
        connections_lost: flown.connections_lost,
        offboard_losses: flown.offboard_losses,
        behind_ms: flown.behind_ms,
        worst_case_downtime_ms: moved.worst_case.map(|(downtime, _)| downtime.0),
        worst_case_duration_ms: moved.worst_case.map(|(_, duration)| duration.0),
        calibration: moved.calibration,
    }
}
