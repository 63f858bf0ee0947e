//! One event at a time changes the state, and asks for effects. Nothing here waits, reads a clock or draws.

mod act;
mod answer;
mod calibration;
mod dialog;
mod fleet_event;
mod mouse;

use mose_protocol::Timestamp;
use ratatui::crossterm::event::{Event as TerminalEvent, KeyEvent, KeyEventKind};

use crate::action::Action;
use crate::derived::Settled;
use crate::effect::Effect;
use crate::event::Event;
use crate::hit::Hits;
use crate::pane::Pane;

/// What an update needs to know of how the state is drawn and spoken to.
pub struct Surroundings<'a> {
    /// Which action a key is, in a pane; keys that belong to a sequence are kept in mind.
    pub keys: &'a mut dyn FnMut(KeyEvent, Pane) -> Option<Action>,
    /// What lies where.
    pub hits: &'a Hits,
    /// The panes of the layout in use, in the order in which they are focused.
    pub panes: &'a [Pane],
    /// How many layouts there are.
    pub layouts: usize,
    /// How many themes.
    pub themes: usize,
    /// The workloads that can be started in the lab.
    pub workloads: &'a [&'a str],
}

/// Takes in one event at `now`.
pub fn update(
    state: &mut Settled,
    event: Event,
    now: Timestamp,
    around: &mut Surroundings<'_>,
) -> Vec<Effect> {
    state.data.now = now;
    let mut effects = match event {
        Event::Terminal(TerminalEvent::Key(key)) if key.kind != KeyEventKind::Release => {
            on_key(state, key, now, around)
        }
        Event::Terminal(TerminalEvent::Mouse(event)) => mouse::on_mouse(state, event, now, around),
        Event::Terminal(TerminalEvent::Paste(text)) => dialog::paste(state, &text, now),
        Event::Terminal(TerminalEvent::Resize(columns, rows)) => {
            state.ui.size = (columns, rows);
            Vec::new()
        }
        Event::Terminal(_) | Event::Tick => Vec::new(),
        Event::Fleet(told) => fleet_event::on_fleet_event(state, told, now),
        Event::Answer(answer) => answer::on_answer(state, answer, now),
    };
    effects.extend(settle(state));
    // A question may have been asked before the replay began: whatever was confirmed, nothing is changed in one.
    if state.read_only || state.source.is_replay() {
        effects.retain(|effect| !effect.changes());
    }
    effects
}

fn on_key(state: &mut Settled, key: KeyEvent, now: Timestamp, around: &mut Surroundings<'_>) -> Vec<Effect> {
    if let Some(effects) = dialog::on_key(state, key, now, around) {
        return effects;
    }
    match (around.keys)(key, state.ui.focus.0) {
        Some(action) => act::act(state, action, now, around),
        None => Vec::new(),
    }
}

/// Does an action, if it can be done now; else says why not.
pub fn act(
    state: &mut Settled,
    action: Action,
    now: Timestamp,
    around: &mut Surroundings<'_>,
) -> Vec<Effect> {
    act::act(state, action, now, around)
}

/// Targets that differ by no more are the same, in milliseconds.
const SAME: f64 = 0.5;

/// What must hold after every event: a service is selected if there is one, what is known of its way was asked for.
fn settle(state: &mut Settled) -> Vec<Effect> {
    let known = |state: &Settled| state.ui.service.as_ref().is_some_and(|name| state.located(name).is_some());
    if !known(state) {
        // One that vanished for a moment, as its host was lost, stays selected until there is another.
        let first = state.data.fleet.services().find(|located| located.info.address.is_some());
        let first =
            first.or_else(|| state.data.fleet.services().next()).map(|located| located.info.name.clone());
        if first.is_some() {
            state.ui.service = first;
        }
    }
    // Metres are of the speed that the vehicle has now.
    if let Some(metres) = state.planning.deviation()
        && let Ok(downtime) = state.application().vehicle.downtime_for(metres)
        && (downtime.0 - state.planning.downtime.0).abs() > SAME
    {
        state.planning.set_metres(metres, downtime);
    }
    if state.source.is_replay() {
        return Vec::new();
    }
    let mut effects = Vec::new();
    if state.data.follows_here() {
        let aim = state.aim();
        if state.aimed.as_ref() != Some(&aim) {
            state.aimed = Some(aim.clone());
            effects.push(Effect::Aim(Box::new(aim)));
        }
    }
    effects.extend(ask_calibration(state));
    effects
}

/// Asks for what is known of the selected service's way, once.
fn ask_calibration(state: &mut Settled) -> Option<Effect> {
    let (from, to) =
        state.service().zip(state.destination()).map(|(l, to)| (l.host.name.clone(), to.clone()))?;
    let pair = (from, to);
    if state.planning.calibrations.contains_key(&pair) || state.planning.asked.contains(&pair) {
        return None;
    }
    state.planning.asked.insert(pair.clone());
    Some(Effect::AskCalibration { from: pair.0, to: pair.1 })
}
