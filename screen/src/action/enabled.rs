//! Whether an action can be done now, and if not, why not.

use mose_protocol::agent::ServiceState;

use super::Action;
use crate::state::{Source, State};

impl Action {
    /// Whether it can be done now, or why not.
    ///
    /// # Errors
    /// The reason, for a person.
    pub fn enabled(self, state: &State) -> Result<(), String> {
        if self.spec().changes && state.read_only {
            return Err("the console was started with --read-only".to_owned());
        }
        if self.spec().changes && state.source.is_replay() {
            return Err("this is a replay: there are no agents".to_owned());
        }
        self.makes_sense(state)
    }

    /// Whether it makes sense now, apart from what holds for all that change anything.
    ///
    /// # Errors
    /// The reason, for a person.
    pub(crate) fn makes_sense(self, state: &State) -> Result<(), String> {
        let need = |there: bool, reason: &str| if there { Ok(()) } else { Err(reason.to_owned()) };
        match self {
            Self::Migrate => can_migrate(state),
            Self::ChooseDestination => need(state.service().is_some(), "no service is selected"),
            Self::NextService => need(state.data.fleet.services().next().is_some(), "no service is known"),
            Self::Abort => {
                let track = state.under_way().ok_or("no migration of the selected service is under way")?;
                need(!track.is_committed(), "the commit point is passed: the service is the destination's")
            }
            Self::KeepAtSource | Self::GiveUpAtSource => {
                need(state.in_doubt().is_some(), "the selected service is not in doubt")
            }
            Self::Recalibrate => {
                need(state.abilities.calibrate, "only the lab's hosts can be calibrated from here")?;
                need(state.destination().is_some(), "there is no other edge host")
            }
            Self::StartService => {
                need(state.abilities.lab, "services are started and stopped here in the lab only")
            }
            Self::StopService => {
                need(state.abilities.lab, "services are started and stopped here in the lab only")?;
                need(state.service().is_some(), "no service is selected")
            }
            Self::Autopilot => {
                need(matches!(state.source, Source::Demo { .. }), "there is an autopilot in the demo only")
            }
            Self::Compare | Self::Export | Self::Sort => {
                need(!state.data.past.is_empty(), "there is no past migration yet")
            }
            Self::CriuLog => need(state.failure().is_some(), "no migration that is known of failed"),
            Self::Record => need(!state.source.is_replay(), "a replay is a recording already"),
            Self::ReplayPause
            | Self::ReplayFaster
            | Self::ReplaySlower
            | Self::ReplayForward
            | Self::ReplayBack => need(state.source.is_replay(), "this is no replay"),
            _ => Ok(()),
        }
    }
}

fn can_migrate(state: &State) -> Result<(), String> {
    let service = state.service().ok_or("no service is selected")?;
    if state.under_way().is_some() {
        return Err(format!("{} is being migrated", service.info.name));
    }
    match service.info.state {
        ServiceState::Running => {}
        ServiceState::InDoubt => {
            return Err(format!("{} is in doubt: decide for a side first", service.info.name));
        }
        other => return Err(format!("{} is {}", service.info.name, other.name())),
    }
    if !service.host.presence(state.data.now).is_there() {
        return Err(format!("{} was not heard of lately", service.host.name));
    }
    if state.destination().is_none() {
        return Err("there is no other live edge host".to_owned());
    }
    match state.planning.outcome(state) {
        Ok(_) => Ok(()),
        Err(reason) => Err(reason),
    }
}
