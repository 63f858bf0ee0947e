//! The whole: state, the operator's files, the keys pressed so far, and what lies where. It takes events and draws pictures; a
//! terminal, a test, and a replay drive it alike.

use mose_pam::Millis;
use mose_protocol::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Rect;

use crate::action::Action;
use crate::derived::Settled;
use crate::effect::Effect;
use crate::event::Event;
use crate::hit::Hits;
use crate::keymap::{Dispatch, Press};
use crate::loaded::Loaded;
use crate::pane::Pane;
use crate::state::ui::Focus;
use crate::state::{Level, Source, State};
use crate::update::{Surroundings, update};
use crate::view::{self, Scene, Zone};

/// The console without its terminal.
pub struct App {
    state: Settled,
    loaded: Loaded,
    dispatch: Dispatch,
    hits: Hits,
    workloads: &'static [&'static str],
}

impl App {
    /// What is shown at the start. What is wrong with the operator's files is told in the notices.
    #[must_use]
    pub fn new(source: Source, loaded: Loaded, workloads: &'static [&'static str], now: Timestamp) -> Self {
        let mut state = State::new(source, &loaded.config, now);
        (state.ui.layout, state.ui.theme) = (loaded.layout, loaded.theme);
        for complaint in &loaded.complaints {
            state.notices.say(Level::Error, complaint.to_string(), now);
        }
        let mut app = Self {
            state: state.into(),
            loaded,
            dispatch: Dispatch::default(),
            hits: Hits::default(),
            workloads,
        };
        app.state.ui.size = (120, 40);
        app.focus_within();
        app
    }

    /// What is known, and what follows from it.
    #[must_use]
    pub const fn state(&self) -> &Settled {
        &self.state
    }

    /// What is known, to be changed before the first event.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// What the operator set.
    #[must_use]
    pub const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// What lies where in the last picture.
    #[must_use]
    pub const fn hits(&self) -> &Hits {
        &self.hits
    }

    /// The area between header and footer.
    fn middle(&self) -> Rect {
        let (width, height) = self.state.ui.size;
        Rect::new(0, 1, width, height.saturating_sub(2))
    }

    /// Takes in an event.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        // In a replay it is as late as when that happened.
        let now = if let Source::Replay(replay) = &self.state.source { replay.at } else { now };
        let panes = self.panes();
        let (keymap, dispatch) = (&self.loaded.keymap, &mut self.dispatch);
        let at = Millis(now.0 as f64 / 1e3);
        let mut keys = |key: KeyEvent, pane: Pane| -> Option<Action> {
            match keymap.press(dispatch, key, pane, at) {
                Press::Action(action) => Some(action),
                Press::Pending | Press::None => None,
            }
        };
        let mut around = Surroundings {
            keys: &mut keys,
            hits: &self.hits,
            panes: &panes,
            layouts: self.loaded.layouts.len(),
            themes: self.loaded.themes.len(),
            workloads: self.workloads,
        };
        let layout = self.state.ui.layout;
        let effects = update(&mut self.state, event, now, &mut around);
        if self.state.ui.layout != layout {
            self.focus_within();
        }
        effects
    }

    /// In another layout the focus goes to its first pane, unless the focused one is in sight there too.
    fn focus_within(&mut self) {
        let Some(layout) = self.loaded.layouts.get(self.state.ui.layout) else { return };
        let placement = layout.place(self.middle());
        if placement.of(self.state.ui.focus.0).is_none()
            && let Some((first, _)) = placement.panes.first()
        {
            self.state.ui.focus = Focus(*first);
        }
    }

    /// The panes in the order in which they are focused: those in sight, then the others.
    fn panes(&self) -> Vec<Pane> {
        let Some(layout) = self.loaded.layouts.get(self.state.ui.layout) else { return Pane::ALL.to_vec() };
        let placement = layout.place(self.middle());
        placement.panes.iter().map(|(pane, _)| *pane).chain(placement.hidden).collect()
    }

    /// Draws the picture; `logs` draws the program's log.
    pub fn draw(&mut self, area: Rect, buf: &mut Buffer, logs: &dyn Fn(Rect, &mut Buffer)) {
        // What follows from the state is kept from one picture to the next, where nothing changes.
        if self.state.ui.size != (area.width, area.height) {
            self.state.ui.size = (area.width, area.height);
        }
        let (Some(theme), Some(layout)) =
            (self.loaded.themes.get(self.state.ui.theme), self.loaded.layouts.get(self.state.ui.layout))
        else {
            return;
        };
        let keymap = &self.loaded.keymap;
        let focus = self.state.ui.focus.0;
        let keys = |action: Action| keymap.keys_of(action, Some(focus));
        let key = |action: Action| keys(action).into_iter().next();
        let place = |area: Rect| layout.place(area).panes;
        let scene = Scene {
            state: &self.state,
            theme,
            key: &key,
            keys: &keys,
            layout: &layout.name,
            place: &place,
            logs,
            zone: Zone::Local,
        };
        self.hits = view::draw(&scene, area, buf);
    }
}
