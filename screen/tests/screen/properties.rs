//! Whatever happens in whatever order: nothing panics, and what must hold holds.

use std::sync::atomic::{AtomicUsize, Ordering};

use mose_pam::{BitsPerSec, Bytes, Millis, PagesPerSec};
use mose_protocol::agent::{Role, ServiceState};
use mose_protocol::record::Outcome;
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_protocol::{Refusal, RefusalCode, Timestamp};
use mose_screen::config::Config;
use mose_screen::derived::Settled;
use mose_screen::effect::{Attach, Effect};
use mose_screen::event::{Answer, Event};
use mose_screen::fleet_event::{FleetEvent, Following, Known, NextMove};
use mose_screen::hit::{Hit, Hits};
use mose_screen::keymap::{Dispatch, Press};
use mose_screen::pane::Pane;
use mose_screen::state::ui::Choice;
use mose_screen::state::{Abilities, Dialog, Level, Replay, Source, State};
use mose_screen::update::{Surroundings, update};
use proptest::prelude::*;
use ratatui::crossterm::event::{
    Event as Terminal, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use crate::settled::{anew, derived};
use crate::support::canvas::Easel;
use crate::support::fleet::{self, NOW, host, link, quiet, telemetry};
use crate::support::migration::{record, task};
use crate::support::moments::{self, with_past};

/// Names of hosts, known and unknown.
const HOSTS: [&str; 6] = ["edge-a", "edge-b", "uav", "controller", "nobody", "x"];
const SERVICES: [&str; 4] = ["sockperf", "counter", "ghost", "redis"];

/// Figures that no host measures.
fn figure() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(-1.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(1e308),
        Just(f64::MIN_POSITIVE),
        0.0..1e5,
    ]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX / 2), 0..100_000_000_u64]
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(0), Just(u64::MAX), (0..20_000_000_u64).prop_map(|ago| NOW.0 - ago)].prop_map(Timestamp)
}

fn named() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&HOSTS[..])
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("\x1b[2J\x07\u{202e} 長い名前 👩‍👩‍👧 \t\r\n end".to_owned()),
        Just("word ".repeat(3000)),
        Just("w".repeat(5000)),
        "[a-z0-9 .%]{0,12}",
    ]
}

fn wire_telemetry() -> impl Strategy<Value = FleetEvent> {
    let load = (proptest::sample::select(&SERVICES[..]), 0..4_usize, count(), figure());
    let loads = proptest::collection::vec(load, 0..4);
    (named(), time(), loads, figure(), count(), count(), text()).prop_map(
        |(name, at, loads, rate, capacity, used, trouble)| {
            let states = [
                ServiceState::Running,
                ServiceState::Stopped,
                ServiceState::Migrating,
                ServiceState::InDoubt,
            ];
            let loads: Vec<fleet::Load<'_>> = loads
                .into_iter()
                .map(|(name, state, memory, rate)| (name, states[state], memory, rate))
                .collect();
            let mut link = link(if name == "edge-b" { "edge-a" } else { "edge-b" }, 1, 0, at);
            link.capacity = Some(BitsPerSec(capacity));
            link.available = (used % 3 != 0).then_some(BitsPerSec(used));
            link.rtt = Some(Millis(rate));
            let mut told = telemetry(name, at, &loads, vec![link], 0);
            for profile in &mut told.profiles {
                profile.dirty.worst = PagesPerSec(rate);
                profile.cost = rate;
                profile.working_set = Bytes(used);
            }
            told.trouble = Some(trouble).filter(|trouble| !trouble.is_empty());
            FleetEvent::Telemetry(Box::new(told))
        },
    )
}

fn wire_step() -> impl Strategy<Value = FleetEvent> {
    const STEPS: [Step; 12] = [
        Step::Migration,
        Step::Inspect,
        Step::Prepare,
        Step::PreDump,
        Step::Iteration,
        Step::Freeze,
        Step::Dump,
        Step::Transfer,
        Step::Relinquish,
        Step::Restore,
        Step::Release,
        Step::ClientGap,
    ];
    let phase = proptest::sample::select(
        &[Phase::Started, Phase::Progress, Phase::Finished, Phase::Failed, Phase::Aborted][..],
    );
    let step = proptest::sample::select(&STEPS[..]);
    (0..3_u8, 0..9_u64, named(), step, phase, time(), count(), text(), any::<bool>()).prop_map(
        |(id, seq, name, step, phase, at, bytes, detail, tasked)| {
            let migration = format!("m-{id}");
            FleetEvent::Step(Box::new(StepEvent {
                migration: migration.parse().expect("an identity"),
                seq,
                host: host(name),
                step,
                phase,
                at,
                bytes: (bytes > 0).then_some(Bytes(bytes)),
                round: None,
                detail: Some(detail),
                task: tasked.then(|| Box::new(task(&migration))),
            }))
        },
    )
}

fn wire_record() -> impl Strategy<Value = FleetEvent> {
    let outcome = proptest::sample::select(&Outcome::ALL[..]);
    (0..4_u8, outcome, time(), figure(), figure(), count()).prop_map(
        |(id, outcome, at, duration, downtime, image)| {
            let mut told = record(&format!("m-{id}"), outcome, NOW, 2000.0);
            (told.started_at, told.duration, told.image) = (at, Millis(duration), Bytes(image));
            told.downtime.blackout = Some(Millis(downtime));
            told.downtime.clients.iter_mut().for_each(|client| client.gap = Some(Millis(downtime)));
            if image == 0 {
                (told.steps, told.rounds, told.forecast) = (Vec::new(), Vec::new(), None);
            } else if let Some(forecast) = &mut told.forecast {
                forecast.bound.duration = Millis(duration);
                forecast.expected.duration = Millis(downtime);
                forecast.components.round = Millis(downtime);
            }
            FleetEvent::Record(Box::new(told))
        },
    )
}

fn wire_following() -> impl Strategy<Value = FleetEvent> {
    let next = proptest::option::of((named(), named(), time(), text()));
    (named(), any::<(bool, bool)>(), proptest::option::of(text()), next).prop_map(
        |(mobile, (on, here), trouble, next)| {
            let next = next.map(|(from, to, at, why)| NextMove { from: host(from), to: host(to), at, why });
            let service = fleet::service(SERVICES[0]);
            let following = Box::new(Following { service, mobile: host(mobile), on, trouble, next });
            if here { FleetEvent::Following(following) } else { FleetEvent::FollowingElsewhere(following) }
        },
    )
}

fn wire() -> impl Strategy<Value = FleetEvent> {
    let role = proptest::sample::select(&[Role::Edge, Role::Mobile, Role::Controller][..]);
    let refusal = |reason| Refusal::new(RefusalCode::Version, reason, "");
    prop_oneof![
        1 => named().prop_map(|name| FleetEvent::Seen(host(name))),
        1 => named().prop_map(|name| FleetEvent::Gone(host(name))),
        1 => (named(), role).prop_map(|(name, role)| fleet::hello(name, role)),
        1 => (named(), text())
            .prop_map(move |(name, why)| FleetEvent::Stranger { host: host(name), refusal: refusal(why) }),
        4 => wire_telemetry(),
        2 => wire_following(),
        6 => wire_step(),
        3 => wire_record(),
        1 => (named(), named(), proptest::option::of(text())).prop_map(|(from, to, profile)| {
            let known = Known { profile, doubt: None };
            FleetEvent::Calibration { from: host(from), to: host(to), known }
        }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let refusal = || Refusal::new(RefusalCode::Conflict, "another is under way", "wait");
    let replay = |at| Replay {
        name: "r".into(),
        at,
        begin: NOW,
        end: NOW,
        speed: f64::NAN,
        paused: false,
        simulated: true,
    };
    prop_oneof![
        text().prop_map(|text| Answer::Said { level: Level::Warning, text }),
        (0..3_u8).prop_map(move |id| Answer::Ordered {
            migration: format!("m-{id}").parse().expect("an identity"),
            result: Err(refusal())
        }),
        (named(), named(), proptest::option::of(text())).prop_map(|(from, to, profile)| {
            let refusal = Refusal::new(RefusalCode::Unreachable, profile.unwrap_or_default(), "");
            Answer::Unknown { from: host(from), to: host(to), refusal }
        }),
        (named(), named()).prop_map(|(from, to)| Answer::Recalibrated { from: host(from), to: host(to) }),
        Just(Answer::Attached(Source::Lab, Abilities { lab: true, calibrate: true, follow: true })),
        time().prop_map(move |at| Answer::Replaying(replay(at))),
        time().prop_map(move |at| Answer::Rewound(replay(at))),
    ]
}

fn key() -> impl Strategy<Value = Event> {
    // Letters and signs that are bound, and the keys that dialogs know.
    let letters: Vec<char> = "mmmmmmdsaKXCnAtTo[]xuvzlZFf/pc:?qhjklLER0123456789 .".chars().collect();
    let code = prop_oneof![
        8 => proptest::sample::select(letters).prop_map(KeyCode::Char),
        4 => Just(KeyCode::Enter),
        3 => Just(KeyCode::Esc),
        2 => Just(KeyCode::Tab),
        4 => proptest::sample::select(
            &[KeyCode::Up, KeyCode::Down, KeyCode::Left, KeyCode::Right, KeyCode::Home, KeyCode::End,
              KeyCode::PageUp, KeyCode::PageDown, KeyCode::Backspace, KeyCode::Delete, KeyCode::BackTab][..]),
    ];
    let modifiers = prop_oneof![6 => Just(KeyModifiers::NONE), 1 => Just(KeyModifiers::CONTROL)];
    (code, modifiers)
        .prop_map(|(code, modifiers)| Event::Terminal(Terminal::Key(KeyEvent::new(code, modifiers))))
}

fn mouse() -> impl Strategy<Value = Event> {
    let kind = proptest::sample::select(
        &[
            MouseEventKind::Down(MouseButton::Left),
            MouseEventKind::Up(MouseButton::Left),
            MouseEventKind::Drag(MouseButton::Left),
            MouseEventKind::ScrollUp,
            MouseEventKind::ScrollDown,
            MouseEventKind::Moved,
        ][..],
    );
    let place = prop_oneof![9 => 0..130_u16, 1 => any::<u16>()];
    (kind, place, 0..45_u16).prop_map(|(kind, column, row)| {
        Event::Terminal(Terminal::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }))
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => key(),
        6 => mouse(),
        6 => wire().prop_map(Event::Fleet),
        2 => answer().prop_map(Event::Answer),
        1 => Just(Event::Tick),
        1 => text().prop_map(|text| Event::Terminal(Terminal::Paste(text))),
        1 => (1..140_u16, 1..50_u16).prop_map(|(w, h)| Event::Terminal(Terminal::Resize(w, h))),
    ]
}

/// What a person, or the world, does.
#[derive(Debug, Clone)]
enum Deed {
    /// One thing.
    One(Event),
    /// Several in a row, as people do: ask for something, and confirm it.
    Row(Vec<Event>),
    /// The mouse, on something that answers: which of those places.
    Aim(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let key = |code| Event::Terminal(Terminal::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    let asking = proptest::sample::select("mmmaCKXsn".chars().collect::<Vec<_>>());
    let between = proptest::option::weighted(0.3, prop_oneof![answer().prop_map(Event::Answer), event()]);
    let row = (asking, between).prop_map(move |(letter, between)| {
        let mut row = vec![key(KeyCode::Esc), key(KeyCode::Char(letter))];
        row.extend(between);
        row.push(key(KeyCode::Enter));
        Deed::Row(row)
    });
    prop_oneof![6 => event().prop_map(Deed::One), 2 => row, 3 => any::<usize>().prop_map(Deed::Aim)]
}

/// Where it begins.
fn beginning() -> impl Strategy<Value = State> {
    (0..6_usize, any::<bool>()).prop_map(|(which, read_only)| {
        let mut state = match which {
            0 => State::new(Source::Choosing, &Config::default(), NOW),
            1 => with_past(quiet()),
            2 => moments::round_three(),
            3 => moments::in_doubt(),
            4 => moments::replay(),
            _ => moments::rolled_back(),
        };
        if which == 0 {
            let choice = Choice {
                attach: Attach::Demo("fleet".into()),
                title: "demo".into(),
                description: "simulated".into(),
            };
            state.ui.dialogs.push(Dialog::Welcome { choices: vec![choice], selected: 0 });
        }
        if which == 1 {
            state.source = Source::Demo { scenario: "uav".into() };
            state.abilities = Abilities { lab: true, calibrate: true, follow: true };
        }
        state.read_only = read_only && which != 1;
        state.ui.size = (120, 40);
        state
    })
}

/// One console: what it is drawn with, what is typed into it.
struct Console {
    easel: Easel,
    dispatch: Dispatch,
    hits: Hits,
    state: Settled,
    now: Timestamp,
}

impl Console {
    fn take(&mut self, event: Event) -> Vec<Effect> {
        self.now = Timestamp(self.now.0 + 137_000);
        let (keymap, now) = (&self.easel.keymap, Millis(self.now.0 as f64 / 1e3));
        let dispatch = &mut self.dispatch;
        let mut around = Surroundings {
            keys: &mut |key, pane| match keymap.press(dispatch, key, pane, now) {
                Press::Action(action) => Some(action),
                _ => None,
            },
            hits: &self.hits,
            panes: &Pane::ALL,
            layouts: self.easel.layouts.len(),
            themes: 5,
            workloads: &["sockperf", "redis"],
        };
        update(&mut self.state, event, self.now, &mut around)
    }

    /// What a deed is, on the screen as it is.
    fn events(&self, deed: Deed) -> Vec<Event> {
        let which = match deed {
            Deed::One(event) => return vec![event],
            Deed::Row(events) => return events,
            Deed::Aim(which) => which,
        };
        let (columns, rows) = self.state.ui.size;
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
        let answers = |hit: &&Hit| !matches!(hit, Hit::Pane(_) | Hit::Dialog);
        // Every third cell is enough, and each action as likely as a whole map.
        let mut places: Vec<(u16, u16)> =
            cells.step_by(3).filter(|&(x, y)| self.hits.at(x, y).next().filter(answers).is_some()).collect();
        places.retain(|&(x, y)| !matches!(self.hits.at(x, y).next(), Some(Hit::Map { .. })) || x % 16 == 0);
        let Some(&(column, row)) = places.get(which % places.len().max(1)) else { return Vec::new() };
        let kind = MouseEventKind::Down(MouseButton::Left);
        let press = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        vec![Event::Terminal(Terminal::Mouse(press))]
    }

    fn draw(&mut self) {
        self.hits = self.easel.draw_settled(&self.state, self.state.ui.size).1;
    }
}

/// What must hold between the state before an event and the one after it.
fn hold(before: &State, after: &Settled, event: &Event, effects: &[Effect]) -> Result<(), TestCaseError> {
    // A selected service exists, or there is none.
    if after.frozen.is_none() && after.data.fleet.services().next().is_some() {
        prop_assert!(after.service().is_some(), "{:?} is selected", after.ui.service);
    }
    // A picture that is held does not change.
    if let (Some(one), Some(other)) = (&before.frozen, &after.frozen) {
        // NaN is not itself: they are compared as they are written.
        prop_assert!(one == other || format!("{one:?}") == format!("{other:?}"), "the held picture changed");
    }
    let changing = || effects.iter().filter(|effect| effect.changes());
    let quiet = after.read_only || after.source.is_replay();
    prop_assert!(!quiet || changing().count() == 0, "{effects:?}");
    prop_assert!(matches!(event, Event::Terminal(_)) || changing().count() == 0, "{event:?}: {effects:?}");
    for effect in changing() {
        // Two are harmless and are undone by the same key; all others were asked about.
        if matches!(effect, Effect::Follow(_) | Effect::StartService { .. }) {
            continue;
        }
        let asked = match before.ui.dialog() {
            Some(Dialog::Confirm { effect: asked, .. }) => format!("{asked:?}") == format!("{effect:?}"),
            _ => false,
        };
        prop_assert!(asked, "{effect:?} was not asked about, but {:?}", before.ui.dialog());
    }
    prop_assert!(after.ui.dialogs.len() <= 3, "{:?}", after.ui.dialogs);
    let targets = [after.planning.downtime, after.planning.duration];
    prop_assert!(targets.iter().all(|target| target.0.is_finite() && target.0 > 0.0), "{targets:?}");
    prop_assert!(after.data.past.records().len() <= Config::default().history);
    prop_assert!(after.notices.all().len() <= 500);
    Ok(())
}

#[test]
fn whatever_happens_what_must_hold_holds() {
    anything();
    assert!(ORDERS.load(Ordering::Relaxed) > 0, "nothing was ever ordered");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    fn anything(
        state in beginning(),
        deeds in proptest::collection::vec(deed(), 1..60),
    ) {
        let easel = Easel::new("dark");
        let dispatch = Dispatch::default();
        let mut console = Console { easel, dispatch, hits: Hits::default(), state: state.into(), now: NOW };
        console.draw();
        for deed in deeds {
            for event in console.events(deed) {
                let before = State::clone(&console.state);
                let effects = console.take(event.clone());
                hold(&before, &console.state, &event, &effects)?;
                prop_assert_eq!(derived(&console.state), derived(&anew(&console.state)), "after {:?}", event);
                ORDERS.fetch_add(effects.iter().filter(|effect| effect.changes()).count(), Ordering::Relaxed);
                console.draw();
            }
        }
    }
}

/// How many orders were given in all runs: if there were none, nothing would be shown by their absence.
static ORDERS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn what_is_asked_for_and_confirmed_is_ordered() {
    let mut console = Console {
        easel: Easel::new("dark"),
        dispatch: Dispatch::default(),
        hits: Hits::default(),
        state: with_past(quiet()).into(),
        now: NOW,
    };
    let key = |code| Event::Terminal(Terminal::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    console.draw();
    assert_eq!(console.take(key(KeyCode::Char('m'))), []);
    let effects = console.take(key(KeyCode::Enter));
    assert!(matches!(effects[..], [Effect::Order(_)]), "{effects:?}");
    // The question was asked before a replay began: nothing is changed in one.
    let mut late = Console { state: with_past(quiet()).into(), ..console };
    assert_eq!(late.take(key(KeyCode::Char('m'))), []);
    let Source::Replay(replay) = moments::replay().source else { panic!("a replay") };
    late.take(Event::Answer(Answer::Replaying(replay)));
    let effects = late.take(key(KeyCode::Enter));
    assert!(!effects.iter().any(Effect::changes), "{effects:?}");
}
