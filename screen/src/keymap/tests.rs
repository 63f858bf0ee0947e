//! The keys: each does what its row says, sequences are waited for, and what is wrong in a keymap is named with its place.

use proptest::prelude::*;
use ratatui::crossterm::event::{KeyCode, KeyEventKind, KeyModifiers};

use super::*;

fn event(code: KeyCode, modifiers: KeyModifiers) -> KeyEvent {
    KeyEvent::new(code, modifiers)
}

fn key(c: char) -> KeyEvent {
    event(KeyCode::Char(c), KeyModifiers::NONE)
}

/// What these presses lead to, a tenth of a second apart.
fn presses(keymap: &Keymap, pane: Pane, events: &[KeyEvent]) -> Vec<Press> {
    let mut dispatch = Dispatch::default();
    events
        .iter()
        .enumerate()
        .map(|(at, &event)| keymap.press(&mut dispatch, event, pane, Millis(at as f64 * 100.0)))
        .collect()
}

fn press(keymap: &Keymap, pane: Pane, event: KeyEvent) -> Press {
    presses(keymap, pane, &[event])[0]
}

fn fault(text: &str) -> String {
    Keymap::parse(text, "keys.toml").unwrap_err().to_string()
}

#[test]
fn the_built_in_keys_are_those_that_are_documented() {
    let keymap = Keymap::builtin();
    for (keys, action) in [
        ("m", Action::Migrate),
        ("t", Action::EditDowntime),
        ("T", Action::EditDuration),
        ("o", Action::ToggleObjective),
        ("Tab", Action::NextPane),
        ("Shift+Tab", Action::PreviousPane),
        ("/", Action::Filter),
        (":", Action::Palette),
        ("?", Action::Help),
        ("F", Action::Freeze),
        ("z", Action::Zoom),
        ("l", Action::NextLayout),
        ("y", Action::NextTheme),
        ("q", Action::Quit),
        ("Ctrl+c", Action::Quit),
        ("Ctrl+z", Action::Suspend),
        ("Esc", Action::Cancel),
        ("d", Action::ChooseDestination),
        ("s", Action::NextService),
        ("a", Action::Abort),
        ("[", Action::TargetDown),
        ("]", Action::TargetUp),
        ("x", Action::NextTarget),
        ("u", Action::NextUnit),
        ("v", Action::NextAxes),
        ("c", Action::Compare),
        ("e", Action::Export),
        ("r", Action::Record),
        ("Enter", Action::Open),
        ("Space", Action::ReplayPause),
        (">", Action::ReplayFaster),
        ("<", Action::ReplaySlower),
        (".", Action::ReplayForward),
        (",", Action::ReplayBack),
        ("Up", Action::Up),
        ("k", Action::Up),
        ("Down", Action::Down),
        ("j", Action::Down),
        ("Left", Action::Left),
        ("Right", Action::Right),
    ] {
        assert!(keymap.keys_of(action, None).contains(&keys.to_owned()), "{keys}");
    }
}

#[test]
fn every_action_has_a_key() {
    let keymap = Keymap::builtin();
    for spec in ACTIONS {
        assert!(keymap.bindings().iter().any(|binding| binding.action == Some(spec.action)), "{}", spec.id);
    }
}

#[test]
fn a_key_does_what_its_row_says_however_the_terminal_tells_it() {
    let keymap = Keymap::builtin();
    let typed = |code, modifiers| press(&keymap, Pane::Plan, event(code, modifiers));
    assert_eq!(typed(KeyCode::Char('m'), KeyModifiers::NONE), Press::Action(Action::Migrate));
    assert_eq!(typed(KeyCode::Char('T'), KeyModifiers::SHIFT), Press::Action(Action::EditDuration));
    assert_eq!(typed(KeyCode::Char('T'), KeyModifiers::NONE), Press::Action(Action::EditDuration));
    assert_eq!(typed(KeyCode::BackTab, KeyModifiers::SHIFT), Press::Action(Action::PreviousPane));
    assert_eq!(typed(KeyCode::BackTab, KeyModifiers::NONE), Press::Action(Action::PreviousPane));
    assert_eq!(typed(KeyCode::Char('c'), KeyModifiers::CONTROL), Press::Action(Action::Quit));
    assert_eq!(typed(KeyCode::Char('m'), KeyModifiers::ALT), Press::None);
    let mut released = key('m');
    released.kind = KeyEventKind::Release;
    assert_eq!(press(&keymap, Pane::Plan, released), Press::None);
    let plus = Keymap::parse("keys = [{ on = 'Plus', run = 'target-up' }]", "keys.toml").unwrap();
    for modifiers in [KeyModifiers::NONE, KeyModifiers::SHIFT] {
        assert_eq!(
            press(&plus, Pane::Plan, event(KeyCode::Char('+'), modifiers)),
            Press::Action(Action::TargetUp)
        );
    }
}

#[test]
fn a_sequence_is_waited_for_and_forgotten_when_it_is_broken_or_late() {
    let keymap = Keymap::builtin();
    let first = Press::Action(Action::First);
    assert_eq!(presses(&keymap, Pane::Fleet, &[key('g'), key('g')]), [Press::Pending, first]);
    // The key that broke it does nothing by itself: nobody migrates by a slip.
    assert_eq!(presses(&keymap, Pane::Fleet, &[key('g'), key('m')]), [Press::Pending, Press::None]);
    let mut dispatch = Dispatch::default();
    assert_eq!(keymap.press(&mut dispatch, key('g'), Pane::Fleet, Millis(0.0)), Press::Pending);
    assert_eq!(dispatch.pending().as_deref(), Some("g"));
    // Late: this one begins anew.
    assert_eq!(keymap.press(&mut dispatch, key('g'), Pane::Fleet, Millis(1001.0)), Press::Pending);
    let mut released = key('g');
    released.kind = KeyEventKind::Release;
    assert_eq!(keymap.press(&mut dispatch, released, Pane::Fleet, Millis(1002.0)), Press::Pending);
    assert_eq!(keymap.press(&mut dispatch, key('g'), Pane::Fleet, Millis(1500.0)), first);
    assert_eq!(dispatch.pending(), None);
}

#[test]
fn an_operators_rows_replace_the_built_in_ones_of_the_same_place() {
    let keymap = Keymap::parse(
        "keys = [
          { on = 'm', run = 'zoom' },
          { on = 'F2', run = 'migrate' },
          { on = 'q', run = 'quit', pane = 'history' },
          { on = 'x', run = 'export', pane = 'history', desc = 'write it' },
          { on = 'r', run = 'nothing' },
          { on = 'c', run = 'nothing', pane = 'logs' },
          { on = 'g', run = 'last' },
        ]",
        "keys.toml",
    )
    .unwrap();
    let does = |pane, c| press(&keymap, pane, key(c));
    assert_eq!(does(Pane::Plan, 'm'), Press::Action(Action::Zoom));
    assert_eq!(keymap.keys_of(Action::Migrate, None), ["F2"]);
    assert_eq!(keymap.keys_of(Action::Zoom, None), ["m", "z"]);
    assert_eq!(does(Pane::History, 'x'), Press::Action(Action::Export));
    assert_eq!(does(Pane::Plan, 'x'), Press::Action(Action::NextTarget));
    assert_eq!(keymap.keys_of(Action::Export, Some(Pane::History)), ["x", "e"]);
    assert_eq!(keymap.keys_of(Action::NextTarget, Some(Pane::History)), [] as [&str; 0]);
    assert_eq!(does(Pane::Plan, 'r'), Press::None);
    assert_eq!(does(Pane::Logs, 'c'), Press::None);
    assert_eq!(does(Pane::History, 'c'), Press::Action(Action::Compare));
    // `g` replaces `g g`, which begins with it.
    assert_eq!(does(Pane::Plan, 'g'), Press::Action(Action::Last));
    assert_eq!(Keymap::parse("", "keys.toml"), Ok(Keymap::builtin()));
}

#[test]
fn a_key_that_is_bound_twice_is_named_with_both_places() {
    assert_eq!(
        fault("keys = [\n  { on = 'm', run = 'zoom' },\n  { on = 'm', run = 'quit' },\n]"),
        "keys.toml:3:10: `m` is bound twice (first at keys.toml:2:10): bind one of the two to another key"
    );
    assert_eq!(
        fault(
            "keys = [\n  { on = 'Ctrl+x', run = 'zoom', pane = 'logs' },\n  { on = 'ctrl+x', run = 'quit', pane = 'logs' }]"
        ),
        "keys.toml:3:10: `Ctrl+x` is bound twice in the pane logs (first at keys.toml:2:10): bind one of the two to another key"
    );
    let begin = fault("keys = [{ on = 'w', run = 'zoom' },\n{ on = 'w w', run = 'filter' }]");
    assert!(begin.starts_with("keys.toml:2:8: `w` and `w w` begin alike"), "{begin}");
    // One for all panes and one for a pane go together.
    assert!(
        Keymap::parse("keys = [{ on = 'w', run = 'zoom' }, { on = 'w', run = 'sort', pane = 'logs' }]", "k")
            .is_ok()
    );
}

#[test]
fn what_is_not_known_is_named_with_its_place_and_a_remedy() {
    assert_eq!(
        fault("keys = [{ on = 'm', run = 'migrat' }]"),
        "keys.toml:1:27: there is no action `migrat`: did you mean `migrate`?"
    );
    let key = fault("keys = [\n { on = 'Entr', run = 'open' }]");
    assert!(key.starts_with("keys.toml:2:9: there is no key `Entr`: write one character"), "{key}");
    let modifier = fault("keys = [{ on = 'Strg+x', run = 'open' }]");
    assert!(modifier.starts_with("keys.toml:1:16: there is no modifier `Strg`"), "{modifier}");
    let shift = fault("keys = [{ on = 'Shift+t', run = 'open' }]");
    assert!(shift.ends_with("write what the key then types, such as `T`"), "{shift}");
    for (on, reason) in [("", "no key is named"), ("Ctrl+", "a key or a modifier is missing")] {
        let error = fault(&format!("keys = [{{ on = '{on}', run = 'open' }}]"));
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(
        fault("keys = [{ on = 'm', run = 'open', pane = 'histroy' }]"),
        "keys.toml:1:42: there is no pane `histroy`: did you mean `history`?"
    );
    assert_eq!(
        fault("keys = [{ on = 'm', rum = 'open' }]"),
        "keys.toml:1:21: there is no setting `rum`: did you mean `run`?"
    );
}

#[test]
fn keys_that_a_terminal_cannot_tell_are_named() {
    for (on, sent) in [
        ("Ctrl+i", "Tab"),
        ("Ctrl+m", "Enter"),
        ("g Ctrl+[", "Esc"),
        ("Ctrl+X", "Ctrl+x"),
        ("Ctrl+Alt+m", "Alt+Enter"),
    ] {
        let error = fault(&format!("keys = [{{ on = '{on}', run = 'open' }}]"));
        assert!(error.starts_with("keys.toml:1:16: for `Ctrl+"), "{error}");
        assert!(
            error.ends_with(&format!(" a terminal sends `{sent}`: bind `{sent}`, or choose another key")),
            "{error}"
        );
    }
}

#[test]
fn nobody_can_lock_himself_in() {
    let error = fault("keys = [{ on = 'q', run = 'zoom' },\n { on = 'Ctrl+c', run = 'nothing' }]");
    assert_eq!(
        error,
        "keys.toml:1:16: no key is left for `quit`: add a row for it, as in `{ on = \"F10\", run = \"quit\" }`"
    );
}

proptest! {
    #[test]
    fn any_text_is_a_keymap_or_an_error_with_a_place(text in "(keys = \\[)?[ -~\n]{0,80}") {
        if let Err(error) = Keymap::parse(&text, "k") {
            prop_assert!(error.at.line <= text.lines().count() + 1);
        }
    }

    #[test]
    fn any_keys_are_taken_without_a_panic(codes in prop::collection::vec(any::<char>(), 0..40), modifiers in 0_u8..16) {
        let keymap = Keymap::builtin();
        let mut dispatch = Dispatch::default();
        for (at, code) in codes.into_iter().enumerate() {
            let event = event(KeyCode::Char(code), KeyModifiers::from_bits_truncate(modifiers));
            let press = keymap.press(&mut dispatch, event, Pane::ALL[at % 10], Millis(at as f64));
            prop_assert_eq!(press == Press::Pending, dispatch.pending().is_some());
        }
    }
}
