//! The whole app on a terminal in memory, driven by typed keys: what is then on the terminal, and what was asked for.

use std::collections::BTreeSet;

use mose_protocol::Timestamp;
use mose_screen::action::ACTIONS;
use mose_screen::app::App;
use mose_screen::effect::{Attach, Effect, Playing};
use mose_screen::event::{Answer, Event};
use mose_screen::fleet_event::FleetEvent;
use mose_screen::keymap::Keymap;
use mose_screen::loaded::{Files, Loaded};
use mose_screen::pane::Pane;
use mose_screen::state::ui::{Choice, Focus};
use mose_screen::state::{Abilities, Level, Notice, State};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event as Typed, KeyCode, KeyEvent, KeyModifiers};

use crate::support::canvas::text;
use crate::support::fleet::{LOADS, NOW, host, minute, quiet};
use crate::support::moments::{self, with_past};

/// The console at a moment, and somebody who types.
pub(crate) struct Typist {
    pub(crate) app: App,
    terminal: Terminal<TestBackend>,
    now: Timestamp,
}

impl Typist {
    pub(crate) fn at(state: State) -> Self {
        Self::sized(state, (120, 40))
    }

    pub(crate) fn sized(state: State, (width, height): (u16, u16)) -> Self {
        let loaded = Loaded::read(&Files::default(), false);
        let mut app = App::new(state.source.clone(), loaded, &["sockperf", "redis"], NOW);
        *app.state_mut() = state;
        let terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        let mut typist = Self { app, terminal, now: NOW };
        typist.draw();
        typist
    }

    fn draw(&mut self) {
        let drawn = self.terminal.draw(|frame| {
            let area = frame.area();
            self.app.draw(area, frame.buffer_mut(), &|_, _| {});
        });
        drawn.expect("memory can be drawn to");
    }

    pub(crate) fn take(&mut self, event: Event) -> Vec<Effect> {
        self.now = Timestamp(self.now.0 + 50_000);
        let effects = self.app.handle(event, self.now);
        self.draw();
        effects
    }

    /// Types keys as a keymap writes them, with a blank between two: `m Enter`, `t 2 Enter`, `Ctrl+z`.
    pub(crate) fn types(&mut self, keys: &str) -> Vec<Effect> {
        keys.split(' ').flat_map(|key| self.take(Event::Terminal(Typed::Key(key_of(key))))).collect()
    }

    pub(crate) fn text(&self) -> String {
        text(self.terminal.backend().buffer())
    }

    #[track_caller]
    pub(crate) fn shows(&self, wanted: &str) {
        let text = self.text();
        assert!(text.contains(wanted), "it does not show `{wanted}`:\n{text}");
    }

    #[track_caller]
    pub(crate) fn hides(&self, unwanted: &str) {
        let text = self.text();
        assert!(!text.contains(unwanted), "it shows `{unwanted}`:\n{text}");
    }
}

fn key_of(key: &str) -> KeyEvent {
    let (modifiers, name) = match key.rsplit_once('+') {
        Some(("Ctrl", name)) => (KeyModifiers::CONTROL, name),
        Some(("Shift", name)) => (KeyModifiers::SHIFT, name),
        _ => (KeyModifiers::NONE, key),
    };
    let code = match name {
        "Enter" => KeyCode::Enter,
        "Esc" => KeyCode::Esc,
        "Tab" if modifiers == KeyModifiers::SHIFT => KeyCode::BackTab,
        "Tab" => KeyCode::Tab,
        "Space" => KeyCode::Char(' '),
        "Up" => KeyCode::Up,
        "Down" => KeyCode::Down,
        "Left" => KeyCode::Left,
        "Right" => KeyCode::Right,
        "PageUp" => KeyCode::PageUp,
        "PageDown" => KeyCode::PageDown,
        "Home" => KeyCode::Home,
        "End" => KeyCode::End,
        "Delete" => KeyCode::Delete,
        "Backspace" => KeyCode::Backspace,
        "F1" => KeyCode::F(1),
        _ => {
            let mut chars = name.chars();
            let char = chars.next().expect("a key");
            assert!(chars.next().is_none(), "no key is called {name}");
            KeyCode::Char(char)
        }
    };
    KeyEvent::new(code, modifiers)
}

fn in_lab() -> State {
    let mut state = with_past(quiet());
    state.abilities = Abilities { lab: true, calibrate: true, follow: true };
    state
}

#[test]
fn a_migration_is_ordered_with_two_keys_as_it_was_planned() {
    let mut typist = Typist::at(with_past(quiet()));
    assert_eq!(typist.types("m"), []);
    typist.shows("sockperf: edge-a → edge-b");
    typist.shows("downtime at most");
    let planned = typist.app.state().plan().expect("there is a plan").clone();
    let effects = typist.types("Enter");
    let [Effect::Order(task)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(
        (task.service.as_str(), task.from.as_str(), task.to.as_str()),
        ("sockperf", "edge-a", "edge-b")
    );
    assert_eq!(task.plan, planned.proposal.plan());
    typist.shows("in progress");
    // It cannot be ordered twice.
    assert_eq!(typist.types("m Enter"), []);
}

#[test]
fn a_target_is_typed_in_four_keys_stepped_in_one_and_the_plan_follows_each_key() {
    let mut typist = Typist::at(with_past(quiet()));
    let plan = |typist: &Typist| {
        let outcome = typist.app.state().plan();
        outcome.expect("there is a plan").proposal.downtime.target.0
    };
    assert_eq!(typist.types("t 3 Enter"), []);
    typist.shows("θ_down  3.00 s");
    assert!((plan(&typist) - 3000.0).abs() < 1e-9);
    // While it is typed, it counts; left with Esc it is as before.
    typist.types("t . 2");
    assert!((plan(&typist) - 200.0).abs() < 1e-9);
    typist.types("Esc");
    assert!((plan(&typist) - 3000.0).abs() < 1e-9);
    typist.types("t x");
    typist.shows("such as");
    typist.types("Esc [");
    assert!(plan(&typist) < 3000.0);
    // Metres instead of seconds, typed likewise.
    typist.types("u t 9 Enter");
    typist.shows("off the path");
    assert!(plan(&typist) > 0.0);
}

#[test]
fn what_is_destructive_is_asked_about_and_done_only_then() {
    let mut typist = Typist::at(moments::round_three());
    assert_eq!(typist.types("a Esc"), []);
    assert_eq!(typist.types("a"), []);
    typist.shows("abort the migration of sockperf");
    assert_eq!(typist.types("Enter"), [], "Enter cancels what cannot be undone");
    typist.hides("abort the migration of sockperf");
    let effects = typist.types("a y");
    assert!(matches!(&effects[..], [Effect::Abort { from, .. }] if from.as_str() == "edge-a"), "{effects:?}");

    let mut typist = Typist::at(moments::in_doubt());
    for (key, kept, warning) in [("K", true, "there are two copies of it"), ("X", false, "sockperf is lost")]
    {
        assert_eq!(typist.types(key), []);
        typist.shows(warning);
        assert_eq!(typist.types("Enter"), [], "Enter cancels");
        assert_eq!(typist.types(key), []);
        // Another answer is selected, and taken.
        let effects = typist.types("Up Enter");
        assert!(matches!(&effects[..], [Effect::Settle { keep, .. }] if *keep == kept), "{effects:?}");
    }

    let mut typist = Typist::at(in_lab());
    assert_eq!(typist.types("Delete"), []);
    typist.shows("its state is lost");
    let effects = typist.types("y");
    assert!(matches!(&effects[..], [Effect::StopService { .. }]), "{effects:?}");
    typist.types("C");
    typist.shows("the counter on edge-a gives way to it: its state is lost");
    let effects = typist.types("y");
    assert!(matches!(&effects[..], [Effect::Calibrate { replace: true, .. }]), "{effects:?}");

    let mut state = in_lab();
    minute(&mut state, &LOADS[..1], &[]);
    let mut typist = Typist::at(state);
    typist.types("C");
    let effects = typist.types("Enter");
    assert!(matches!(&effects[..], [Effect::Calibrate { replace: false, .. }]), "{effects:?}");
}

#[test]
fn a_workload_is_started_under_a_name_and_an_address_that_are_free() {
    let mut typist = Typist::at(in_lab());
    typist.types("n");
    typist.shows("Start which workload?");
    typist.types("Enter");
    typist.shows("Start sockperf where?");
    let effects = typist.types("Enter");
    let [Effect::StartService { kind, name, address, on }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((kind.as_str(), name.as_str(), on.as_str()), ("sockperf", "sockperf-2", "edge-a"));
    assert_eq!(address.octets(), [10, 77, 0, 20]);
}

#[test]
fn help_and_palette_are_searched_and_what_is_found_is_done() {
    let mut typist = Typist::at(with_past(quiet()));
    typist.types("?");
    typist.shows("targets and plan");
    typist.types("l a y o u t");
    typist.shows("next-layout".strip_prefix("next-").unwrap_or_default());
    typist.hides("targets and plan");
    typist.types("Esc");
    typist.types(": e x p o r t");
    let effects = typist.types("Enter");
    assert!(matches!(&effects[..], [Effect::Export(records)] if records.len() == 14), "{effects:?}");
    typist.hides(" : export");
}

#[test]
fn panes_are_focused_zoomed_filtered_and_frozen() {
    let mut typist = Typist::at(with_past(quiet()));
    typist.types("Tab");
    typist.shows("▸ Topology");
    typist.types("z");
    typist.hides("Regions");
    typist.types("z Shift+Tab");
    typist.shows("▸ Fleet");
    typist.shows("Regions");
    typist.types("/ r e d i s Enter");
    typist.shows("/redis");
    typist.types("Esc");
    typist.hides("/redis");
    typist.types("F");
    typist.shows("FROZEN");
    typist.types("F");
    typist.hides("FROZEN");
    let (layout, theme) = (typist.app.state().ui.layout, typist.app.state().ui.theme);
    typist.types("l y");
    assert_ne!((typist.app.state().ui.layout, typist.app.state().ui.theme), (layout, theme));
}

#[test]
fn the_past_is_sorted_opened_and_compared() {
    let mut typist = Typist::at(with_past(quiet()));
    while typist.app.state().ui.focus != Focus(Pane::History) {
        typist.types("Tab");
    }
    let newest = typist.text();
    typist.types("S");
    assert_ne!(typist.text(), newest);
    typist.types("Down Enter");
    typist.shows("process frozen");
    typist.types("Esc c Down c");
    typist.shows(" | m-");
    typist.types("Esc");
    typist.hides(" | m-");
}

#[test]
fn why_a_migration_failed_is_one_key_away_with_crius_own_log() {
    let mut typist = Typist::at(moments::rolled_back());
    typist.types("L");
    typist.shows("CRIU's errors");
    typist.shows("sk-inet.c:191");
    // Also of one that is past, where nothing failed since.
    let mut typist = Typist::at(with_past(quiet()));
    typist.types("L");
    typist.shows("CRIU");
    typist.shows("remedy");
}

#[test]
fn a_replay_is_held_sped_up_and_sought_and_changes_nothing() {
    let mut typist = Typist::at(moments::replay());
    let effects = typist.types("Space > < . ,");
    let wanted =
        [Playing::Pause, Playing::Speed(2.0), Playing::Speed(0.5), Playing::Seek(10.0), Playing::Seek(-10.0)];
    assert_eq!(effects, wanted.map(Effect::Replay));
    assert_eq!(typist.types("m Enter a Enter"), []);
    typist.shows("this is a replay");
}

#[test]
fn something_else_is_offered_and_chosen() {
    let mut typist = Typist::at(with_past(quiet()));
    assert_eq!(typist.types("O"), [Effect::Offer]);
    let choice = |attach, title: &str| Choice { attach, title: title.into(), description: "what".into() };
    let choices = vec![choice(Attach::Demo("fleet".into()), "demo: fleet"), choice(Attach::Lab, "lab")];
    typist.take(Event::Answer(Answer::Offered(choices.clone())));
    typist.shows("1 demo: fleet");
    assert_eq!(typist.types("Esc"), [], "what is shown stays");
    typist.hides("1 demo: fleet");
    typist.take(Event::Answer(Answer::Offered(choices)));
    assert_eq!(typist.types("2"), [Effect::Attach(Attach::Lab)]);
    // What was shown is let go at once: nothing can be ordered of it any more, and what still comes from it is not shown.
    assert_eq!(typist.types("m Enter"), []);
    typist.shows("no service is known yet");
    typist.take(Event::Fleet(FleetEvent::Seen(host("edge-a"))));
    typist.hides("edge-a");

    let mut state = with_past(quiet());
    state.read_only = true;
    let mut typist = Typist::at(state);
    let lab = Choice { attach: Attach::Lab, title: "lab".into(), description: "what".into() };
    typist.take(Event::Answer(Answer::Offered(vec![lab])));
    assert_eq!(typist.types("1"), []);
    typist.shows("--read-only");
    typist.shows("sockperf");
}

#[test]
fn every_key_of_the_table_does_something_somewhere() {
    let keymap = Keymap::builtin();
    let moments: [fn() -> State; 5] =
        [in_lab, moments::round_three, moments::in_doubt, moments::replay, moments::rolled_back];
    let mut left: BTreeSet<&str> = BTreeSet::new();
    for spec in ACTIONS {
        let Some(key) = keymap.keys_of(spec.action, None).into_iter().next() else { continue };
        let answers = moments.iter().any(|moment| {
            Pane::ALL.iter().any(|pane| {
                let mut state = moment();
                state.ui.focus = Focus(*pane);
                // What is scrolled and filtered can be scrolled back and left.
                state.ui.scroll.insert(*pane, 3);
                let mut typist = Typist::at(state);
                let seen = |typist: &Typist| {
                    let state = typist.app.state();
                    (
                        format!("{:?} {:?}", state.ui, state.planning.target(state.planning.field)),
                        typist.text(),
                    )
                };
                let before = seen(&typist);
                let warning = |notice: &&Notice| notice.level == Level::Warning;
                let refused = |typist: &Typist| typist.app.state().notices.all().filter(warning).count();
                let notices = refused(&typist);
                let effects = typist.types(&key);
                // A refusal is an answer, but not what the key is for.
                refused(&typist) == notices && (!effects.is_empty() || seen(&typist) != before)
            })
        });
        if !answers {
            left.insert(spec.id);
        }
    }
    // No mobile host of these moments tells where it is.
    assert_eq!(left, BTreeSet::from(["follow"]));
}

#[test]
fn keys_are_taken_at_any_size() {
    for size in [(1, 1), (20, 5), (80, 24), (200, 60)] {
        let mut typist = Typist::sized(with_past(quiet()), size);
        let effects = typist.types("m Enter");
        assert!(matches!(&effects[..], [Effect::Order(_)]), "{size:?}: {effects:?}");
        assert_eq!(typist.types("q"), [Effect::Quit]);
    }
}
