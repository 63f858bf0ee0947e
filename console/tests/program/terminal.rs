//! The real console on a pseudo-terminal: how it begins, what a newcomer types, and that the terminal is handed back on every
//! way out.

use crate::pty::Pty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::CommandBuilder;

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The console, with these words.
fn start(words: &[&str], home: &std::path::Path, columns: u16, rows: u16) -> Pty {
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_mose"));
    command.args(words);
    Pty::run(command, home, columns, rows)
}

fn demo(home: &tempfile::TempDir, words: &[&str]) -> Pty {
    let words: Vec<&str> = ["--demo"].iter().chain(words).copied().collect();
    start(&words, home.path(), 120, 40)
}

/// Until there is a plan for a service that runs.
fn planned(mose: &mut Pty) {
    mose.wait("a plan", |text| text.contains("✔ downtime") && text.contains("SIM"));
}

#[test]
fn a_newcomer_has_a_finished_migration_after_two_keys() {
    let home = home();
    let mut mose = demo(&home, &[]);
    planned(&mut mose);
    mose.keys("m");
    mose.wait_for("downtime at most");
    mose.keys("\r");
    mose.wait("the end of a migration", |text| text.contains("done in"));
    let text = mose.text();
    assert!(text.contains("SIM"), "{text}");
    mose.keys("q");
    assert!(mose.end().success());
    assert!(mose.is_handed_back());
}

#[test]
fn a_target_is_changed_with_one_key_and_typed_with_four_and_the_plan_follows() {
    let home = home();
    let mut mose = demo(&home, &[]);
    planned(&mut mose);
    let before = mose.wait_for("500 ms");
    assert!(before.contains("θ_down"), "{before}");
    mose.keys("]");
    mose.wait_for("550 ms");
    // t, a digit, Enter: what is typed counts as it is typed.
    mose.keys("t2\r");
    mose.wait_for("2.00 s");
    mose.keys("q");
    assert!(mose.end().success());
}

#[test]
fn another_size_is_drawn_and_a_tiny_one_survived() {
    let home = home();
    let mut mose = demo(&home, &[]);
    planned(&mut mose);
    mose.resize(80, 24);
    mose.wait("a picture of 80 columns", |text| text.lines().count() >= 23 && text.contains("quit"));
    mose.resize(5, 2);
    mose.wait("a tiny picture", |text| text.contains("MOSE"));
    mose.resize(200, 60);
    mose.wait("a large picture", |text| text.lines().count() >= 58 && text.contains("quit"));
    mose.keys("q");
    assert!(mose.end().success());
    assert!(mose.is_handed_back());
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_handed_back() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let home = home();
        let mut mose = demo(&home, &[]);
        mose.wait_for("MOSE");
        kill(Pid::from_raw(mose.pid()), signal).unwrap();
        assert!(mose.end().success(), "{signal}");
        assert!(mose.is_handed_back(), "{signal}");
    }
}

#[test]
fn suspended_it_gives_the_terminal_back_and_resumed_it_draws_again() {
    let home = home();
    let mut mose = demo(&home, &[]);
    planned(&mut mose);
    mose.keys("\u{1a}");
    assert!(mose.is_handed_back());
    kill(Pid::from_raw(mose.pid()), Signal::SIGCONT).unwrap();
    mose.wait("the picture again", |text| text.contains("✔ downtime") && text.contains("quit"));
    mose.keys("q");
    assert!(mose.end().success());
    assert!(mose.is_handed_back());
}

/// The place of a panic, for [`panics_with_the_terminal_taken`].
const PANIC: &str = "MOSE_TEST_PANIC";

#[test]
#[ignore = "panics: the next test runs it on a terminal of its own"]
fn panics_with_the_terminal_taken() {
    use mose_console::app::{self, Ending, Inputs, Screen, Start};
    let Ok(place) = std::env::var(PANIC) else { return };
    let in_the_loop = place == "the loop";
    let mut screen = Screen::take(true).unwrap();
    let mut terminal =
        ratatui::Terminal::new(ratatui::backend::CrosstermBackend::new(std::io::stdout())).unwrap();
    let loaded = mose_screen::loaded::Loaded::read(&mose_screen::loaded::Files::default(), false);
    let mut console = app::app(&Start::Choose, loaded, 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ending = runtime.block_on(async {
        let (_events_in, events) = tokio::sync::mpsc::channel(8);
        let (effects, _effects) = tokio::sync::mpsc::unbounded_channel();
        let inputs = Inputs { events, effects, recorder: std::sync::Arc::default() };
        let mut asked =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1()).unwrap();
        let fall = async move {
            asked.recv().await;
            panic!("fell over in {place}");
        };
        if in_the_loop {
            tokio::select! {
                ending = app::run(&mut console, &mut terminal, &mut screen, inputs) => ending,
                () = fall => unreachable!(),
            }
        } else {
            tokio::spawn(fall);
            app::run(&mut console, &mut terminal, &mut screen, inputs).await
        }
    });
    drop(screen);
    match ending {
        Ok(Ending::Left | Ending::Again) => println!("it went on"),
        Err(error) => println!("ended: {error}"),
    }
}

#[test]
fn a_panic_anywhere_hands_the_terminal_back_ends_the_console_and_is_read_afterwards() {
    for (place, last) in
        [("the loop", "fell over in the loop"), ("a task", "ended: a part of the console failed")]
    {
        let home = home();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args(["terminal::panics_with_the_terminal_taken", "--exact", "--ignored", "--nocapture"]);
        command.env(PANIC, place);
        let mut mose = Pty::run(command, home.path(), 120, 40);
        mose.wait_for("no agents yet");
        kill(Pid::from_raw(mose.pid()), Signal::SIGUSR1).unwrap();
        mose.end();
        assert!(mose.is_handed_back(), "{place}: {}", mose.text());
        // On the screen that the terminal shows now, not on the one that was left.
        let text = mose.text();
        assert!(text.contains(&format!("fell over in {place}")), "{place}: {text}");
        assert!(text.contains(last), "{place}: {text}");
    }
}

#[test]
fn a_target_is_dragged_in_its_row_and_on_the_map_and_the_plan_follows() {
    let home = home();
    let mut mose = demo(&home, &[]);
    planned(&mut mose);
    let row = mose.place("θ_down  500 ms").unwrap();
    mose.drag((row.0 + 8, row.1), (row.0 + 18, row.1));
    mose.wait_for("θ_down  600 ms");
    let here = mose.place("◆").unwrap();
    let before = mose.text();
    assert!(before.contains("θ_mig   5.00 s"), "{before}");
    // Two rows down: a tighter θ_mig.
    mose.drag(here, (here.0, here.1 + 2));
    let after = mose.wait("another θ_mig", |text| !text.contains("θ_mig   5.00 s"));
    assert!(after.contains("θ_mig"), "{after}");
    assert_ne!(mose.place("◆"), Some(here));
    mose.keys("q");
    assert!(mose.end().success());
}

#[test]
fn another_scenario_is_chosen_while_one_is_shown() {
    let home = home();
    let mut mose = demo(&home, &[]);
    planned(&mut mose);
    mose.keys("O");
    mose.wait_for("demo: fleet");
    // Nothing is let go by looking.
    mose.keys("\u{1b}");
    mose.wait("no dialog", |text| !text.contains("demo: fleet"));
    assert!(mose.text().contains("SIM uav-handover"));
    mose.keys("O");
    mose.wait_for("demo: fleet");
    mose.keys("2");
    mose.wait("the other scenario", |text| text.contains("SIM fleet") && text.contains("edge-c"));
    mose.keys("q");
    assert!(mose.end().success());
}

#[test]
fn what_is_wrong_with_the_settings_is_shown_with_its_place_and_the_console_begins_with_the_default() {
    let home = home();
    let folder = home.path().join("config/mose");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "theme = \"dark\"\nthme = \"light\"\n").unwrap();
    let mut mose = demo(&home, &[]);
    mose.wait("the complaint", |text| text.contains("config.toml:2:1"));
    planned(&mut mose);
    mose.keys("q");
    assert!(mose.end().success());
}

#[test]
fn read_only_refuses_what_would_change_anything() {
    let home = home();
    let mut mose = demo(&home, &["--read-only"]);
    mose.wait_for("read-only");
    mose.wait("a plan", |text| text.contains("✔ downtime"));
    mose.keys("m");
    mose.wait_for("--read-only");
    mose.keys("q");
    assert!(mose.end().success());
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mose"))
        .arg("--demo")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs a terminal"));
}

#[test]
fn what_is_recorded_is_replayed() {
    let home = home();
    let mut mose = demo(&home, &[]);
    planned(&mut mose);
    mose.keys("r");
    mose.wait_for("recording into");
    mose.keys("m");
    mose.wait_for("downtime at most");
    mose.keys("\r");
    mose.wait("the end of a migration", |text| text.contains("done in"));
    mose.keys("r");
    mose.wait_for("the recording is in");
    mose.keys("q");
    assert!(mose.end().success());
    let folder = home.path().join("data/mose/recordings");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut replay = start(&["replay", file.to_str().unwrap()], home.path(), 120, 40);
    replay.wait_for("REPLAY SIM");
    // Faster, and to its end.
    replay.keys(">>>");
    replay.wait("the migration's end", |text| text.contains("done in"));
    replay.keys("q");
    assert!(replay.end().success());
    assert!(replay.raw().contains("REPLAY"));
}

#[test]
fn an_agent_that_is_lost_in_a_migration_is_shown_as_lost_and_the_service_as_in_doubt_until_it_is_back() {
    let home = home();
    let scenario = home.path().join("lost.toml");
    let faults = include_str!("../../../assets/scenarios/faults.toml");
    // The last of its faults alone, and at the first migration.
    let (head, rest) = faults.split_once("[[fault]]").unwrap();
    let last = rest.rsplit_once("[[fault]]").unwrap().1.replace("after = 1, ", "");
    std::fs::write(&scenario, format!("{head}[[fault]]{last}")).unwrap();
    let mut mose = demo(&home, &[scenario.to_str().unwrap()]);
    planned(&mut mose);
    mose.keys("m");
    mose.wait_for("downtime at most");
    mose.keys("\r");
    mose.wait("a lost host", |text| text.contains("edge-b lost"));
    mose.wait("a service in doubt", |text| text.contains("before you decide"));
    // Deciding by hand is offered, and what it may cost is said before it is done.
    mose.keys(":resume\r");
    mose.wait_for("two copies");
    mose.keys("\u{1b}");
    mose.wait("the agent again", |text| text.contains("3 up"));
    // It never restored the service, and gives it back.
    mose.wait("the migration's end", |text| text.contains("rolled back"));
    mose.keys("q");
    assert!(mose.end().success());
}
