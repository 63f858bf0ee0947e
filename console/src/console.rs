//! `mose` without a subcommand, and `mose replay`: the console on the terminal.

use std::io::{IsTerminal, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::app::{self, Ending, Folders, Hands, Inputs, Screen, Start};
use mose_console::lab;
use mose_screen::loaded::Loaded;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long threads that still work may keep the program at its end.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long the console is tidied up at its end: a recording is written to its end, sessions and a demo are ended.
const TIDYING: Duration = Duration::from_secs(8);

/// How the console is opened.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct Arguments {
    /// Open the demo testbed: simulated hosts in this process. A scenario's name or file may follow.
    #[arg(long, value_name = "SCENARIO", num_args = 0..=1, default_missing_value = "")]
    pub(crate) demo: Option<String>,
    /// Refuse whatever would change anything at the agents.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// The settings; $XDG_CONFIG_HOME/mose/config.toml if not given. `mose config` prints the default.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The theme to begin with.
    #[arg(long)]
    pub(crate) theme: Option<String>,
    /// The layout to begin with.
    #[arg(long)]
    pub(crate) layout: Option<String>,
    /// Draw with ASCII only.
    #[arg(long)]
    pub(crate) ascii: bool,
}

/// Opens the console on the agents at `connect`, else on the lab if it is up, else where agents are found.
pub(crate) fn run(arguments: &Arguments, connect: &[String]) -> color_eyre::Result<ExitCode> {
    let start = match &arguments.demo {
        Some(scenario) => Start::Demo(scenario.clone()),
        None if !connect.is_empty() => Start::Named(connect.to_vec()),
        None => match lab::running() {
            Some(running) if nix::unistd::geteuid().is_root() => {
                lab::enter(&running)?;
                Start::Lab(running.agents)
            }
            _ => Start::Look,
        },
    };
    show(arguments, start)
}

/// Plays a recording.
pub(crate) fn replay(arguments: &Arguments, file: &std::path::Path) -> color_eyre::Result<ExitCode> {
    let recording = app::load_recording(file)?;
    let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    show(arguments, Start::Replay(Box::new(recording), name))
}

fn loaded(arguments: &Arguments, folders: &Folders) -> color_eyre::Result<Loaded> {
    let mut files = app::read_files(folders)?;
    // What is said on the command line lies over what the file says.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut loaded = Loaded::read(&std::mem::take(&mut files), no_color && arguments.theme.is_none());
    let unknown = |kind: &str, name: &str, known: Vec<&str>| {
        eyre!("there is no {kind} `{name}`: there are {}", known.join(", "))
    };
    if let Some(theme) = &arguments.theme {
        let found = loaded.themes.iter().position(|known| &known.name == theme);
        loaded.theme = found.ok_or_else(|| {
            unknown("theme", theme, loaded.themes.iter().map(|known| known.name.as_str()).collect())
        })?;
    }
    if let Some(layout) = &arguments.layout {
        let found = loaded.layouts.iter().position(|known| &known.name == layout);
        loaded.layout = found.ok_or_else(|| {
            unknown("layout", layout, loaded.layouts.iter().map(|known| known.name.as_str()).collect())
        })?;
    }
    if arguments.ascii || !unicode() {
        loaded.themes = loaded.themes.into_iter().map(|theme| theme.ascii(true)).collect();
    }
    loaded.config.read_only |= arguments.read_only;
    Ok(loaded)
}

/// Whether the locale says that the terminal takes Unicode; where it says nothing, it most likely does.
fn unicode() -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    said.is_none_or(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf") || !matches!(locale.as_str(), "posix" | "c")
    })
}

fn show(arguments: &Arguments, start: Start) -> color_eyre::Result<ExitCode> {
    if !(stdin().is_terminal() && stdout().is_terminal()) {
        return Err(eyre!(
            "the console needs a terminal; without one, use a command such as `mose agents --json` or `mose watch --json`"
        ));
    }
    app::install_log()?;
    let folders = Folders::find(arguments.config.as_deref());
    let loaded = loaded(arguments, &folders)?;
    let recordings = folders.recordings(&loaded.config);
    let mut screen = Screen::take(loaded.config.mouse).wrap_err("the terminal cannot be taken")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let ending = runtime.block_on(Box::pin(drive(start, loaded, recordings, &mut screen)));
    // Before anything is printed.
    drop(screen);
    runtime.shutdown_timeout(PATIENCE);
    match ending? {
        Ending::Left => Ok(ExitCode::SUCCESS),
        Ending::Again => Err(again(arguments)),
    }
}

async fn drive(
    start: Start,
    loaded: Loaded,
    recordings: PathBuf,
    screen: &mut Screen,
) -> color_eyre::Result<Ending> {
    let mut terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
    let (events_in, events) = mpsc::channel(app::WAITING);
    let (effects, effects_out) = mpsc::unbounded_channel();
    let hands = Hands::new(events_in, recordings);
    let inputs = Inputs { events, effects, recorder: hands.recorder() };
    let mut app = app::app(&start, loaded, std::process::id());
    let mut working = JoinSet::new();
    working.spawn(Box::pin(hands.work(start, effects_out)));
    let ending = Box::pin(app::run(&mut app, &mut terminal, screen, inputs)).await;
    // The loop's end has closed what the hands wait for; where that is not enough, they are dropped.
    let _ = tokio::time::timeout(TIDYING, working.join_next()).await;
    working.shutdown().await;
    ending
}

/// Begins anew, in place of this program, and looks as it did; what was shown is not, as the lab is up now.
fn again(arguments: &Arguments) -> color_eyre::Report {
    use std::os::unix::process::CommandExt;
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return eyre!("the console cannot begin anew: {error}; start mose again"),
    };
    let mut command = std::process::Command::new(program);
    command.env_remove("MOSE_CONNECT");
    if let Some(file) = &arguments.config {
        command.arg("--config").arg(file);
    }
    let named = [("--theme", &arguments.theme), ("--layout", &arguments.layout)];
    for (option, value) in named.into_iter().filter_map(|(option, value)| Some((option, value.as_ref()?))) {
        command.args([option, value]);
    }
    for (option, _) in [("--read-only", arguments.read_only), ("--ascii", arguments.ascii)]
        .into_iter()
        .filter(|(_, given)| *given)
    {
        command.arg(option);
    }
    let error = command.exec();
    eyre!("the console cannot begin anew: {error}; start mose again")
}
