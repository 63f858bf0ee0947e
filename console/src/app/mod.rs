//! The console on a terminal: one loop takes events in, one at a time, draws at most one picture after them, and has what is asked
//! for carried out elsewhere. What that gives comes back as events.

mod attach;
mod effects;
mod files;
mod follow;
mod follow_me;
mod player;
mod recorder;
mod tasks;
mod terminal;

use std::sync::Arc;
use std::time::Duration;

use color_eyre::eyre::eyre;
use crossterm::event::EventStream;
use futures_util::StreamExt;
use mose_protocol::Timestamp;
use mose_screen::app::App;
use mose_screen::effect::Effect;
use mose_screen::event::{Answer, Event};
use mose_screen::loaded::Loaded;
use mose_screen::state::{Level, Source, State};
use parking_lot::Mutex;
use ratatui::Terminal;
use ratatui::backend::Backend;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use attach::{Attachment, Start, WORKLOADS};
pub use effects::{Hands, tell_calibrations};
pub use files::{FilesError, Folders, read as read_files};
pub use follow::follow;
pub use player::{Player, load as load_recording};
pub use recorder::{Recorder, RecorderError};
pub use terminal::{Screen, install_log};

/// Events that wait to be taken in. Telemetry that finds it full is dropped: the next is newer.
pub const WAITING: usize = 4096;
/// Events that are taken in before the next picture, at most.
const BATCH: usize = 1024;
/// Between two pictures while only the agents tell something, and nothing moves.
const CALM: Duration = Duration::from_millis(500);
/// The same while a migration is under way, or a recording is played.
const LIVELY: Duration = Duration::from_millis(100);
/// Ages grow even if nobody says anything.
const TICK: Duration = Duration::from_secs(1);

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The operator left, or a signal said so.
    Left,
    /// The program is to begin anew: the lab is up now, and its network can only be entered at a start.
    Again,
}

/// What the loop is driven by.
pub struct Inputs {
    /// What effects and agents tell.
    pub events: mpsc::Receiver<Event>,
    /// What is to be done.
    pub effects: mpsc::UnboundedSender<Effect>,
    /// What is being recorded, if anything is.
    pub recorder: Arc<Mutex<Option<Recorder>>>,
}

impl Inputs {
    /// Has what came from the agents written down; a disk that is full or too slow ends the recording, not the console.
    fn note(&self, event: &Event, now: Timestamp) -> Vec<Event> {
        let Event::Fleet(told) = event else { return Vec::new() };
        // Its owner waits for the rest to be written, when it ends it.
        let Some(Err(error)) = self.recorder.lock().as_mut().map(|recorder| recorder.note(now, told)) else {
            return Vec::new();
        };
        let said =
            Answer::Said { level: Level::Error, text: format!("the recording was broken off: {error}") };
        vec![Event::Answer(Answer::Recording(None)), Event::Answer(said)]
    }
}

/// When the next picture is due.
#[derive(Debug, Default)]
struct Due(Option<Instant>);

impl Due {
    fn within(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.0 = Some(self.0.map_or(at, |due| due.min(at)));
    }
}

fn moving(state: &State) -> bool {
    state.data.migrations.under_way().next().is_some() || state.source.is_replay()
}

/// Runs the console on a terminal until the operator leaves.
///
/// # Errors
/// Where the terminal cannot be drawn to, or a part of the program panicked.
pub async fn run<B>(
    app: &mut App,
    terminal: &mut Terminal<B>,
    screen: &mut Screen,
    mut inputs: Inputs,
) -> color_eyre::Result<Ending>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
{
    let refresh = Duration::from_secs_f64(app.loaded().config.refresh.0.max(1.0) / 1e3);
    let mut keys = screen.keys();
    let mut signals = terminal::Signals::install()?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut due = Due(Some(Instant::now()));
    let mut drawn = None;
    loop {
        let at = due.0.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        let mut asked = Vec::new();
        tokio::select! {
            biased;
            signal = signals.next() => match signal {
                terminal::Signal::Leave => return Ok(Ending::Left),
                terminal::Signal::Fallen => return Err(eyre!("a part of the console failed: see above")),
                terminal::Signal::Resumed => {
                    screen.enter()?;
                    terminal::redraw_all(terminal)?;
                    due.within(Duration::ZERO);
                }
            },
            event = next_key(&mut keys) => match event {
                Some(Ok(event)) => {
                    asked.extend(app.handle(Event::Terminal(event), Timestamp::now()));
                    due.within(Duration::ZERO);
                }
                // The terminal is gone: there is nobody left to show anything to.
                Some(Err(_)) | None => return Ok(Ending::Left),
            },
            () = tokio::time::sleep_until(at), if due.0.is_some() && !terminal::fallen() => {
                due.0 = None;
                terminal.draw(|frame| {
                    let area = frame.area();
                    app.draw(area, frame.buffer_mut(), &terminal::draw_log);
                })?;
                drawn = Some(Instant::now());
            }
            event = inputs.events.recv() => {
                // The hands put down their work where the program is to begin anew.
                let Some(event) = event else {
                    return Ok(if inputs.effects.is_closed() { Ending::Again } else { Ending::Left });
                };
                let now = Timestamp::now();
                let asking = matches!(event, Event::Answer(_));
                let mut next = Some(event);
                let mut left = BATCH;
                while let Some(event) = next {
                    for trouble in inputs.note(&event, now) {
                        asked.extend(app.handle(trouble, now));
                    }
                    asked.extend(app.handle(event, now));
                    left -= 1;
                    // What is not taken in now stays where it is.
                    next = if left > 0 { inputs.events.try_recv().ok() } else { None };
                }
                let wait = if asking { refresh } else if moving(app.state()) { LIVELY } else { CALM };
                due.within(wait);
            }
            _ = ticks.tick() => {
                terminal::keep_log();
                asked.extend(app.handle(Event::Tick, Timestamp::now()));
                due.within(if moving(app.state()) { LIVELY } else { CALM });
            }
        }
        // Never more pictures than the operator's refresh allows.
        if let (Some(at), Some(drawn)) = (due.0, drawn) {
            due.0 = Some(at.max(drawn + refresh.min(CALM)));
        }
        for effect in asked {
            match effect {
                Effect::Quit => return Ok(Ending::Left),
                Effect::Suspend => {
                    screen.leave();
                    // It reads the terminal, which is the shell's now.
                    drop(keys.take());
                    terminal::stop_here()?;
                    screen.enter()?;
                    keys = screen.keys();
                    terminal::redraw_all(terminal)?;
                    due.within(Duration::ZERO);
                }
                effect => {
                    if inputs.effects.send(effect).is_err() {
                        return Ok(Ending::Again);
                    }
                }
            }
        }
    }
}

async fn next_key(keys: &mut Option<EventStream>) -> Option<std::io::Result<crossterm::event::Event>> {
    match keys {
        Some(keys) => keys.next().await,
        // Without a terminal to read from, such as in a test, nobody types.
        None => std::future::pending().await,
    }
}

/// The app that a start begins with.
#[must_use]
pub fn app(start: &Start, loaded: Loaded, salt: u32) -> App {
    let source = match start {
        Start::Look | Start::Choose => Source::Choosing,
        Start::Named(_) => Source::Agents,
        Start::Lab(_) => Source::Lab,
        Start::Demo(name) => Source::Demo { scenario: name.clone() },
        Start::Replay(recording, name) => Source::Replay(player::at_begin(recording, name)),
    };
    let mut app = App::new(source, loaded, WORKLOADS, Timestamp::now());
    app.state_mut().salt = salt;
    app
}
