//! Whether an action can be done now, and if not, why not.

use std::collections::BTreeMap;

use mose_protocol::agent::{Capability, ServiceState};

use super::Settled;
use crate::action::{ACTIONS, Action};
use crate::state::State;

/// Why an action may not be done at all, whatever it is about: nothing is to be changed.
pub(super) fn forbidden(action: Action, state: &State) -> Option<&'static str> {
    match action.spec().changes {
        true if state.read_only => Some("the console was started with --read-only"),
        true if state.source.is_replay() => Some("this is a replay: there are no agents"),
        _ => None,
    }
}

/// The actions that make no sense now, and why not.
pub(super) fn obstacles(settled: &Settled) -> BTreeMap<Action, String> {
    let obstacle = |action| Some((action, makes_sense(action, settled).err()?));
    ACTIONS.iter().filter_map(|spec| obstacle(spec.action)).collect()
}

fn makes_sense(action: Action, settled: &Settled) -> Result<(), String> {
    let need = |there: bool, reason: &str| if there { Ok(()) } else { Err(reason.to_owned()) };
    match action {
        Action::Migrate => can_migrate(settled),
        Action::Rehearse => can_migrate(settled).and_then(|()| can_rehearse(settled)),
        Action::ChooseDestination => need(settled.service().is_some(), "no service is selected"),
        Action::NextService => need(settled.data.fleet.services().next().is_some(), "no service is known"),
        Action::Abort => {
            let track = settled.under_way().ok_or("no migration of the selected service is under way")?;
            need(!track.is_committed(), "the commit point is passed: the service is the destination's")
        }
        Action::KeepAtSource => need(settled.in_doubt().is_some(), "the selected service is not in doubt"),
        Action::GiveUpAtSource => {
            let track = settled.in_doubt().ok_or("the selected service is not in doubt")?;
            need(!track.is_rehearsal(), "it was only rehearsed: it is where it was")
        }
        Action::Recalibrate => {
            need(settled.abilities.calibrate, "only the lab's hosts can be calibrated from here")?;
            need(settled.destination().is_some(), "there is no other edge host")
        }
        Action::StartService => {
            need(settled.abilities.lab, "services are started and stopped here in the lab only")
        }
        Action::StopService => {
            need(settled.abilities.lab, "services are started and stopped here in the lab only")?;
            need(settled.service().is_some(), "no service is selected")
        }
        // It can be ended whatever has become of the hosts.
        Action::Follow if settled.data.elsewhere().is_some() => {
            Err("another console or command has a service follow: end it there".to_owned())
        }
        Action::Follow if settled.data.follows_here() => Ok(()),
        Action::Follow => {
            need(settled.abilities.follow, "there are no agents to follow with")?;
            need(settled.locates_mobile(), "no mobile host tells where it is")
        }
        Action::Compare | Action::Export | Action::Sort => {
            need(!settled.data.past.is_empty(), "there is no past migration yet")
        }
        Action::CriuLog => need(settled.failure().is_some(), "no migration that is known of failed"),
        Action::Record => need(!settled.source.is_replay(), "a replay is a recording already"),
        Action::ReplayPause
        | Action::ReplayFaster
        | Action::ReplaySlower
        | Action::ReplayForward
        | Action::ReplayBack => need(settled.source.is_replay(), "this is no replay"),
        _ => Ok(()),
    }
}

/// Whether the agents of both hosts know rehearsals, as far as they have said what they know.
fn can_rehearse(settled: &Settled) -> Result<(), String> {
    let source = settled.service().map(|located| &located.host.name);
    for name in source.into_iter().chain(settled.destination()) {
        let hello = settled.data.fleet.host(name).and_then(|host| host.hello.as_ref()?.as_ref().ok());
        if hello.is_some_and(|hello| !hello.capabilities.contains(&Capability::Rehearsals)) {
            return Err(format!("the agent on {name} knows no rehearsals"));
        }
    }
    Ok(())
}

fn can_migrate(settled: &Settled) -> Result<(), String> {
    let service = settled.service().ok_or("no service is selected")?;
    if settled.under_way().is_some() {
        return Err(format!("{} is being migrated", service.info.name));
    }
    match service.info.state {
        ServiceState::Running => {}
        ServiceState::InDoubt => {
            return Err(format!("{} is in doubt: decide for a side first", service.info.name));
        }
        other => return Err(format!("{} is {}", service.info.name, other.name())),
    }
    if !service.host.presence(settled.data.now).is_there() {
        return Err(format!("{} was not heard of lately", service.host.name));
    }
    if settled.destination().is_none() {
        return Err("there is no other live edge host".to_owned());
    }
    settled.plan().map(drop).map_err(str::to_owned)
}
