//! What the agents know of how long migrations take.

use mose_pam::{Calibration, Model};
use mose_protocol::{HostName, Timestamp};

use crate::fleet_event::Known;
use crate::state::planning::Calibrated;
use crate::state::{Level, State};

/// The source of a migration, and its destination.
type Pair = (HostName, HostName);

/// It was told.
pub(super) fn told(state: &mut State, pair: Pair, known: &Known, now: Timestamp) {
    let profile = match &known.profile {
        Some(text) => Calibration::from_toml(text).map_err(|error| error.to_string()),
        None => Ok(Calibration::tnsm2024()),
    };
    match profile {
        Ok(profile) => keep(state, pair, profile, known.profile.is_some(), known.doubt.clone()),
        Err(error) => unknown(state, pair, &error, now),
    }
}

/// It was not told: the published parameters stand in, and the doubt is shown.
pub(super) fn unknown(state: &mut State, pair: Pair, why: &str, now: Timestamp) {
    let (from, to) = &pair;
    let text = format!("what {from} knows of migrations to {to} cannot be had: {why}");
    state.notices.say(Level::Warning, text, now);
    let doubt = Some(format!("its calibration cannot be had: {why}"));
    keep(state, pair, Calibration::tnsm2024(), false, doubt);
}

fn keep(state: &mut State, pair: Pair, profile: Calibration, own: bool, doubt: Option<String>) {
    state.planning.asked.remove(&pair);
    let calibrated = Calibrated { model: Model::new(&profile), profile, own, doubt };
    state.planning.calibrations.insert(pair, calibrated);
}
