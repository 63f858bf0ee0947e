//! The terminal: taken, handed back on every way out, and its signals.

use std::io::{self, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, Show};
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, EventStream,
};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use ratatui::{Terminal, backend::Backend};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Whether this program has the terminal.
static HELD: AtomicBool = AtomicBool::new(false);
/// Whether a part of this program panicked: nothing is drawn any more.
static FALLEN: AtomicBool = AtomicBool::new(false);
/// Told then.
static FALL: Notify = Notify::const_new();

/// The terminal while the console has it.
pub struct Screen {
    mouse: bool,
}

impl Screen {
    /// Takes the terminal; it is handed back when this is dropped, and before anything is printed by a panic.
    ///
    /// # Errors
    /// Where the output is no terminal.
    pub fn take(mouse: bool) -> io::Result<Self> {
        let before = std::panic::take_hook();
        // A panic anywhere ends the console: a part that fell silent would leave its last figures standing as if they held.
        std::panic::set_hook(Box::new(move |panic| {
            FALLEN.store(true, Ordering::SeqCst);
            hand_back();
            before(panic);
            FALL.notify_one();
        }));
        let mut screen = Self { mouse };
        screen.enter()?;
        Ok(screen)
    }

    /// A screen without a terminal: a test draws into memory and types through events.
    #[must_use]
    pub const fn in_memory() -> Self {
        Self { mouse: false }
    }

    pub(super) fn enter(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        HELD.store(true, Ordering::SeqCst);
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide)?;
        if self.mouse {
            execute!(stdout(), EnableMouseCapture)?;
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        hand_back();
    }

    /// What is typed; `None` without a terminal.
    pub(super) fn keys(&self) -> Option<EventStream> {
        HELD.load(Ordering::SeqCst).then(EventStream::new)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Whether a part of this program panicked while it had the terminal.
pub(super) fn fallen() -> bool {
    FALLEN.load(Ordering::SeqCst)
}

/// As it was, once: to leave the other screen again would put the cursor back over what was printed since. Whatever of it
/// fails, the rest is tried.
fn hand_back() {
    if !HELD.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(stdout(), DisableMouseCapture, DisableBracketedPaste);
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
}

/// Stops this process, as the shell's job control does, until it is resumed.
pub(super) fn stop_here() -> io::Result<()> {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)?;
    Ok(())
}

/// Forgets what was drawn: the next picture is whole.
pub(super) fn redraw_all<B>(terminal: &mut Terminal<B>) -> color_eyre::Result<()>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
{
    // Terminal::clear() would ask the terminal where its cursor is, and not every one answers.
    terminal.swap_buffers();
    terminal.current_buffer_mut().reset();
    terminal.swap_buffers();
    terminal.backend_mut().clear()?;
    Ok(())
}

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Leave.
    Leave,
    /// A part of this program panicked.
    Fallen,
    /// Somebody else stopped and resumed this process: the terminal is not what it was.
    Resumed,
}

/// The signals that end the console, or bring it back.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    resume: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            resume: signal(SignalKind::from_raw(nix::libc::SIGCONT))?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            () = FALL.notified() => Signal::Fallen,
            _ = self.terminate.recv() => Signal::Leave,
            _ = self.hangup.recv() => Signal::Leave,
            _ = self.interrupt.recv() => Signal::Leave,
            _ = self.resume.recv() => Signal::Resumed,
        }
    }
}

/// Has the program's log shown in its pane, instead of printed over the picture.
///
/// # Errors
/// Where a log is installed already.
pub fn install_log() -> color_eyre::Result<()> {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    // Without `init_logger`: its thread wakes a hundred times a second, a third of what an idle console costs.
    tui_logger::set_default_level(tui_logger::LevelFilter::Info);
    let wanted = tracing_subscriber::EnvFilter::try_from_env("MOSE_LOG")
        .unwrap_or_else(|_| "info,zenoh=off,zenoh_transport=off,zenoh_link=off".into());
    tracing_subscriber::registry().with(wanted).with(tui_logger::TuiTracingSubscriberLayer).try_init()?;
    Ok(())
}

/// Takes what was logged from where it waits, which is small.
pub(super) fn keep_log() {
    tui_logger::move_events();
}

pub(super) fn draw_log(area: Rect, buf: &mut Buffer) {
    keep_log();
    tui_logger::TuiLoggerWidget::default()
        .output_separator(' ')
        .output_timestamp(Some("%H:%M:%S".to_owned()))
        .output_target(false)
        .output_file(false)
        .output_line(false)
        .output_level(Some(tui_logger::TuiLoggerLevelOutput::Abbreviated))
        .render(area, buf);
}
