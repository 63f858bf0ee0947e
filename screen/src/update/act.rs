//! What actions do.

use mose_pam::Objective;
use mose_protocol::agent::Role;
use mose_protocol::handover::{ImagePolicy, Task};
use mose_protocol::{HostName, MigrationId, Timestamp};
use tui_input::Input;

use super::Surroundings;
use crate::action::Action;
use crate::derived::Settled;
use crate::effect::{Attach, Effect, Playing};
use crate::pane::Pane;
use crate::phrase;
use crate::state::planning::{Field, PLANES, Unit};
use crate::state::ui::{Choice, Dialog, Focus, Purpose, Question};
use crate::state::{Abilities, Level, Presence, Source, State};

/// Lines of a page, as far as they can be told without the picture.
const PAGE: usize = 10;

/// The service that a calibration starts, moves and removes.
const GENERATOR: &str = "counter";

pub(super) fn act(
    state: &mut Settled,
    action: Action,
    now: Timestamp,
    around: &mut Surroundings<'_>,
) -> Vec<Effect> {
    let refused = state.enabled(action).err().map(|reason| format!("{}: {reason}", action.spec().title));
    if let Some(refused) = refused {
        state.notices.say(Level::Warning, refused, now);
        return Vec::new();
    }
    match action {
        Action::Migrate => ask(state, Question::Migrate, now),
        Action::Rehearse => ask(state, Question::Rehearse, now),
        Action::Abort => ask(state, Question::Abort, now),
        Action::KeepAtSource => ask(state, Question::KeepAtSource, now),
        Action::GiveUpAtSource => ask(state, Question::GiveUpAtSource, now),
        Action::Recalibrate => ask(state, Question::Recalibrate, now),
        Action::StopService => ask(state, Question::StopService, now),
        Action::ChooseDestination => pick_destination(state, now),
        Action::StartService => {
            let items = around.workloads.iter().map(|&name| name.to_owned()).collect();
            state.ui.dialogs.push(Dialog::Pick { purpose: Purpose::Workload, items, selected: 0 });
        }
        Action::Follow if state.data.follows_here() => return vec![Effect::Follow(None)],
        Action::Follow => {
            let aim = state.aim();
            state.aimed = Some(aim.clone());
            return vec![Effect::Follow(Some(Box::new(aim)))];
        }
        Action::NextService => next_service(state, true),
        Action::EditDowntime => edit(state, Field::Downtime),
        Action::EditDuration => edit(state, Field::Duration),
        Action::ToggleObjective => {
            state.planning.objective = match state.planning.objective {
                Objective::Downtime => Objective::Resources,
                Objective::Resources => Objective::Downtime,
            };
        }
        Action::TargetDown => state.planning.step_focused(false),
        Action::TargetUp => state.planning.step_focused(true),
        Action::NextTarget => {
            state.planning.field = match state.planning.field {
                Field::Downtime => Field::Duration,
                Field::Duration => Field::Downtime,
            };
        }
        Action::NextUnit => state.planning.unit = state.planning.unit.next(),
        Action::NextAxes => state.planning.axes = (state.planning.axes + 1) % PLANES,
        Action::NextPane => focus(state, around.panes, true),
        Action::PreviousPane => focus(state, around.panes, false),
        Action::Zoom => state.ui.zoomed = !state.ui.zoomed,
        Action::NextLayout => {
            state.ui.layout = (state.ui.layout + 1) % around.layouts.max(1);
            state.ui.zoomed = false;
        }
        Action::NextTheme => state.ui.theme = (state.ui.theme + 1) % around.themes.max(1),
        Action::Freeze => {
            state.frozen = match state.frozen.take() {
                Some(_) => None,
                None => Some(Box::new(state.data.clone())),
            };
        }
        Action::Filter => {
            state.ui.typing = Some(Input::new(state.ui.filter(state.ui.focus.0).to_owned()));
        }
        Action::Sort => state.ui.order = state.ui.order.next(),
        Action::Up => travel(state, -1),
        Action::Down => travel(state, 1),
        Action::PageUp => travel(state, -(PAGE as isize)),
        Action::PageDown => travel(state, PAGE as isize),
        Action::First => travel(state, isize::MIN),
        Action::Last => travel(state, isize::MAX),
        Action::Left => sideways(state, false),
        Action::Right => sideways(state, true),
        Action::Open => open(state, now),
        Action::Compare => compare(state, now),
        Action::CriuLog => state.ui.dialogs.push(Dialog::CriuLog { scroll: 0 }),
        Action::Export => return vec![Effect::Export(state.data.past.records().to_vec())],
        Action::Record if state.recording.is_some() => return vec![Effect::EndRecording],
        Action::Record => {
            let under_way = state.data.migrations.under_way().map(|track| track.migration.clone());
            return vec![Effect::Record(under_way.collect())];
        }
        Action::ReplayPause => return vec![Effect::Replay(Playing::Pause)],
        Action::ReplayFaster => return vec![Effect::Replay(Playing::Speed(2.0))],
        Action::ReplaySlower => return vec![Effect::Replay(Playing::Speed(0.5))],
        Action::ReplayForward => return vec![Effect::Replay(Playing::Seek(10.0))],
        Action::ReplayBack => return vec![Effect::Replay(Playing::Seek(-10.0))],
        Action::Attach => return vec![Effect::Offer],
        Action::Palette => {
            state.ui.dialogs.push(Dialog::Palette { input: Input::default(), selected: 0 });
        }
        Action::Help => state.ui.dialogs.push(Dialog::Help { filter: Input::default(), scroll: 0 }),
        Action::Cancel => cancel(state),
        Action::Suspend => return vec![Effect::Suspend],
        Action::Quit => return vec![Effect::Quit],
    }
    Vec::new()
}

fn identity(state: &Settled, now: Timestamp) -> Result<MigrationId, String> {
    format!("m{:x}-{:x}", now.0, state.salt).parse().map_err(|error| format!("no identity: {error}"))
}

/// Asks before something is ordered, if it can be.
fn ask(state: &mut Settled, question: Question, now: Timestamp) {
    match order(state, question, now) {
        Ok(dialog) => state.ui.dialogs.push(dialog),
        Err(reason) => state.notices.say(Level::Error, reason, now),
    }
}

/// The question before something is ordered, and the order.
fn order(state: &Settled, question: Question, now: Timestamp) -> Result<Dialog, String> {
    let proceed = !Action::from(question).spec().destructive;
    let confirm = |lines, effect| Dialog::Confirm { question, lines, effect: Box::new(effect), proceed };
    match question {
        Question::Migrate | Question::Rehearse => {
            let rehearsal = question == Question::Rehearse;
            let designed = state.plan()?;
            let proposal = &designed.proposal;
            let plan = proposal.plan();
            let mut lines = vec![
                format!("{}: {} → {}", designed.service, designed.from, designed.to),
                phrase::headline(proposal),
                format!(
                    "downtime at most {}, duration at most {}",
                    proposal.bound.downtime, proposal.bound.duration
                ),
            ];
            if !(proposal.downtime.met() && proposal.duration.met()) {
                lines.push("a target is missed; it is done as well as can be".to_owned());
            }
            lines.extend(designed.doubts.iter().cloned());
            if rehearsal {
                lines.push(format!(
                    "a rehearsal: {} stands still only while it is dumped, and goes on at {}; nothing of it runs at {}",
                    designed.service, designed.from, designed.to
                ));
            }
            let task = Task {
                migration: identity(state, now)?,
                forecast: Some(Box::new(designed.forecast(state.planning.objective))),
                service: designed.service.clone(),
                from: designed.from.clone(),
                to: designed.to.clone(),
                plan,
                transport: None,
                image_policy: ImagePolicy::Bring,
                pre_copy: None,
                files: Default::default(),
                rehearsal,
            };
            Ok(confirm(lines, Effect::Order(Box::new(task))))
        }
        Question::Abort => {
            let track = state.under_way().ok_or("nothing is under way")?;
            let from = track.from().cloned().ok_or("its source is not known yet")?;
            let service = track.service().map(ToString::to_string).unwrap_or_default();
            let lines = vec![
                format!("abort the migration of {service}"),
                format!("it goes on running at {from}; if it stands still already, it is taken back there"),
            ];
            Ok(confirm(lines, Effect::Abort { migration: track.migration.clone(), from }))
        }
        Question::KeepAtSource | Question::GiveUpAtSource => {
            let track = state.in_doubt().ok_or("nothing is in doubt")?;
            let (from, to) =
                track.from().cloned().zip(track.to().cloned()).ok_or("its hosts are not known")?;
            let keep = question == Question::KeepAtSource;
            let service = track.service().map(ToString::to_string).unwrap_or_default();
            let presence = state.data.fleet.host(&to).map(|host| host.presence(state.data.now));
            let known = match presence {
                Some(Presence::Lost) | None => format!("the agent on {to} is disconnected"),
                Some(_) => format!("{to} has not said what became of it"),
            };
            let lines = if keep {
                vec![
                    format!("resume {service} at {from}, from its images there"),
                    format!("if {to} runs it too, there are two copies of it"),
                    format!("{known}: look there first, with podman ps"),
                ]
            } else {
                vec![
                    format!("discard the copy of {service} at {from}"),
                    format!(
                        "its memory, files and connections are removed there for good (its volumes are kept); unless \
                         {to} runs it, {service} is lost"
                    ),
                    format!("{known}: look there first, with podman ps"),
                ]
            };
            Ok(confirm(lines, Effect::Settle { migration: track.migration.clone(), from, keep }))
        }
        Question::Recalibrate => {
            let (from, to) = ends(state)?;
            let mut lines = vec![
                format!("measure migrations between {from} and {to}"),
                format!(
                    "a {GENERATOR} is moved to and fro for about half a minute; services there are disturbed"
                ),
            ];
            let generator =
                state.data.fleet.services().find(|located| located.info.name.as_str() == GENERATOR);
            let on = generator.map(|located| located.host.name.clone());
            lines.extend(
                on.as_ref().map(|on| format!("the {GENERATOR} on {on} gives way to it: its state is lost")),
            );
            let replace = on.is_some();
            let effect = Box::new(Effect::Calibrate { from, to, replace });
            Ok(Dialog::Confirm { question, lines, effect, proceed: !replace })
        }
        Question::StopService => {
            let located = state.service().ok_or("no service is selected")?;
            let (name, on) = (located.info.name.clone(), located.host.name.clone());
            let lines = vec![format!("stop {name} on {on}"), "its state is lost".to_owned()];
            Ok(confirm(lines, Effect::StopService { name, on }))
        }
    }
}

fn ends(state: &Settled) -> Result<(HostName, HostName), String> {
    let from = state.service().ok_or("no service is selected")?.host.name.clone();
    Ok((from, state.destination().ok_or("there is no other edge host")?.clone()))
}

/// What is confirmed is done.
pub(super) fn confirmed(state: &mut Settled, effect: Effect, now: Timestamp) -> Vec<Effect> {
    if let Effect::Order(task) = &effect {
        state.data.migrations.ordered(task.as_ref().clone(), now);
        state.ui.track = None;
    }
    vec![effect]
}

/// One of the choices is taken; where it cannot be, the choice is still to be made.
pub(super) fn choose(
    state: &mut Settled,
    choices: Vec<Choice>,
    selected: usize,
    now: Timestamp,
) -> Vec<Effect> {
    let Some(chosen) = choices.get(selected).map(|choice| choice.attach.clone()) else {
        state.ui.dialogs.push(Dialog::Welcome { choices, selected: 0 });
        return Vec::new();
    };
    if state.read_only && chosen == Attach::Lab {
        let text = "the console was started with --read-only: it does not bring the lab up";
        state.notices.say(Level::Warning, text, now);
        // With nothing shown, there would be nothing left to do.
        if state.source == Source::Choosing {
            state.ui.dialogs.push(Dialog::Welcome { choices, selected });
        }
        return Vec::new();
    }
    attach(state, chosen, now)
}

/// Something is to be shown: what was shown is let go, so that nothing can be ordered of it meanwhile.
pub(super) fn attach(state: &mut Settled, attach: Attach, now: Timestamp) -> Vec<Effect> {
    state.forget(now);
    (state.source, state.abilities) = (Source::Choosing, Abilities::default());
    vec![Effect::Attach(attach)]
}

/// The other edge hosts that can be asked.
fn destinations(state: &Settled) -> Vec<String> {
    let from = state.service().map(|located| &located.host.name);
    let usable = state.data.fleet.hosts().filter(|host| {
        host.role() == Some(Role::Edge)
            && Some(&host.name) != from
            && host.presence(state.data.now).is_there()
    });
    usable.map(|host| host.name.to_string()).collect()
}

fn pick_destination(state: &mut Settled, now: Timestamp) {
    let items = destinations(state);
    if items.is_empty() {
        state.notices.say(Level::Warning, "there is no other live edge host", now);
        return;
    }
    let chosen = state.destination().map(ToString::to_string);
    let selected = items.iter().position(|item| Some(item) == chosen.as_ref()).unwrap_or(0);
    state.ui.dialogs.push(Dialog::Pick { purpose: Purpose::Destination, items, selected });
}

fn next_service(state: &mut Settled, forward: bool) {
    let mut names: Vec<_> = state.shown().fleet.services().map(|located| located.info.name.clone()).collect();
    names.dedup();
    let Some(count) = (!names.is_empty()).then_some(names.len()) else { return };
    let place = state.ui.service.as_ref().and_then(|service| names.iter().position(|name| name == service));
    let next = match place {
        None => 0,
        Some(place) if forward => (place + 1) % count,
        Some(place) => (place + count - 1) % count,
    };
    select_service(state, names.swap_remove(next));
}

/// Selects a service; the timeline shows it.
pub(super) fn select_service(state: &mut Settled, service: mose_protocol::ServiceName) {
    if state.ui.service.as_ref() != Some(&service) {
        state.ui.service = Some(service);
        (state.ui.track, state.ui.destination) = (None, None);
    }
}

pub(super) fn edit(state: &mut Settled, field: Field) {
    state.planning.field = field;
    let fault = None;
    let before = state.planning.target(field);
    state.planning.begin();
    state.ui.dialogs.push(Dialog::Edit { field, input: Input::default(), fault, before });
}

/// The unit that a target is typed in.
pub(super) const fn unit(state: &State, field: Field) -> Unit {
    match field {
        Field::Downtime => state.planning.unit,
        Field::Duration => Unit::Seconds,
    }
}

fn focus(state: &mut Settled, panes: &[Pane], forward: bool) {
    let Some(count) = (!panes.is_empty()).then_some(panes.len()) else { return };
    let place = panes.iter().position(|pane| *pane == state.ui.focus.0).unwrap_or(0);
    let next = if forward { place + 1 } else { place + count - 1 } % count;
    state.ui.focus = Focus(panes[next]);
}

/// Up and down in the focused pane: another selection where there is one, else another part of it.
fn travel(state: &mut Settled, by: isize) {
    let pane = state.ui.focus.0;
    match pane {
        Pane::Fleet
        | Pane::Topology
        | Pane::Service
        | Pane::Map
        | Pane::Stopped
        | Pane::Requests
        | Pane::RoundTrip
        | Pane::Runs => {
            if by == isize::MIN || by == isize::MAX {
                state.ui.service = None;
                if by == isize::MAX {
                    next_service(state, true);
                    next_service(state, false);
                }
            } else {
                next_service(state, by > 0);
            }
        }
        Pane::Targets => {
            state.planning.field = if by > 0 { Field::Duration } else { Field::Downtime };
        }
        Pane::History => {
            let shown: Vec<MigrationId> = state.history().map(|record| record.migration.clone()).collect();
            let Some(last) = shown.len().checked_sub(1) else { return };
            let place = state.ui.record.as_ref().and_then(|id| shown.iter().position(|shown| shown == id));
            let next = match place {
                None => 0,
                Some(place) => place.saturating_add_signed(by).min(last),
            };
            state.ui.record = Some(shown[next].clone());
            state.ui.track = state.ui.record.clone().filter(|id| state.data.migrations.get(id).is_some());
        }
        Pane::Plan | Pane::Regions | Pane::Timeline | Pane::Notices | Pane::Logs => {
            let scroll = state.ui.scroll.entry(pane).or_insert(0);
            // These two follow what is newest: scrolling up leaves it.
            let by = if matches!(pane, Pane::Notices | Pane::Logs) { by.saturating_neg() } else { by };
            *scroll = scroll.saturating_add_signed(by).min(MOST_SCROLLED);
        }
    }
}

/// No pane has more lines.
const MOST_SCROLLED: usize = 100_000;

fn sideways(state: &mut Settled, right: bool) {
    match state.ui.focus.0 {
        Pane::Targets | Pane::Regions | Pane::Plan => state.planning.step_focused(right),
        Pane::Timeline => {
            let ids: Vec<MigrationId> =
                state.shown().migrations.all().map(|track| track.migration.clone()).collect();
            let Some(last) = ids.len().checked_sub(1) else { return };
            let shown = state.track().map(|track| track.migration.clone());
            let place = ids.iter().position(|id| Some(id) == shown.as_ref()).unwrap_or(last);
            let next = place.saturating_add_signed(if right { 1 } else { -1 }).min(last);
            state.ui.track = Some(ids[next].clone());
        }
        _ => {}
    }
}

fn open(state: &mut Settled, now: Timestamp) {
    match state.ui.focus.0 {
        Pane::History => {
            let selected = state.ui.record.clone();
            let first = state.history().next().map(|record| record.migration.clone());
            match selected.or(first) {
                Some(migration) => state.ui.dialogs.push(Dialog::Record { migration, scroll: 0 }),
                None => state.notices.say(Level::Warning, "there is no past migration yet", now),
            }
        }
        Pane::Targets => edit(state, state.planning.field),
        Pane::Timeline => {
            let record = state.track().filter(|track| track.record.is_some());
            if let Some(migration) = record.map(|track| track.migration.clone()) {
                state.ui.dialogs.push(Dialog::Record { migration, scroll: 0 });
            }
        }
        Pane::Topology | Pane::Fleet | Pane::Service | Pane::Map => pick_destination(state, now),
        Pane::Plan
        | Pane::Regions
        | Pane::Notices
        | Pane::Logs
        | Pane::Stopped
        | Pane::Requests
        | Pane::RoundTrip
        | Pane::Runs => state.ui.zoomed = !state.ui.zoomed,
    }
}

fn compare(state: &mut Settled, now: Timestamp) {
    let first = || state.data.past.records().first().map(|record| record.migration.clone());
    let Some(selected) = state.ui.record.clone().or_else(first) else { return };
    match state.ui.marked.take() {
        Some(one) if one != selected => {
            state.ui.dialogs.push(Dialog::Compare { one, other: selected, scroll: 0 });
        }
        Some(_) => state.notices.say(Level::Info, "the mark is taken off", now),
        None => {
            state.notices.say(
                Level::Info,
                format!("{selected} is marked: select another and press the same key"),
                now,
            );
            state.ui.marked = Some(selected);
        }
    }
}

/// The uppermost thing that can be left is left.
fn cancel(state: &mut Settled) {
    let pane = state.ui.focus.0;
    if state.ui.dialogs.pop().is_some() {
        return;
    }
    if state.ui.filters.remove(&pane).is_some() || state.ui.marked.take().is_some() {
        return;
    }
    if state.ui.scroll.remove(&pane).is_some_and(|scroll| scroll > 0) {
        return;
    }
    if state.ui.zoomed {
        state.ui.zoomed = false;
    } else if state.frozen.is_some() {
        state.frozen = None;
    } else {
        state.notices.dismiss();
    }
}
