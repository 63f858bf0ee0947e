//! What the console costs on a terminal: the time from its start to its first picture, and the processor time that it takes
//! while nothing changes but the agents' telemetry.
//!
//! `cargo build --release --workspace --bins && cargo run --release -p mose-console --example terminal-bench [STARTS] [SECONDS]
//! [ENDPOINT]`
//!
//! The real program on a pseudo-terminal. It is started on the demo, on a recording, and on agents that are not there. Then it
//! is attached to agents, at ENDPOINT or in a demo testbed of its own process, and left alone at three sizes.

use std::io::{BufRead, BufReader, Read, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long the console is left to itself before it is measured: attached, its first figures shown.
const SETTLING: Duration = Duration::from_secs(10);

/// Where no agent is: the console begins without waiting for one.
const NOWHERE: &str = "tcp/127.0.0.1:9";
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The console on a terminal; it ends with this.
struct Console {
    child: Box<dyn Child + Send + Sync>,
    /// What it writes.
    output: mpsc::Receiver<Vec<u8>>,
    /// Dropped, it would hang up.
    _master: Box<dyn MasterPty + Send>,
}

impl Console {
    fn start(mose: &Path, words: &[&str], (cols, rows): (u16, u16)) -> Result<Self, Failure> {
        let pair = native_pty_system().openpty(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 })?;
        let mut command = CommandBuilder::new(mose);
        command.args(words);
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        let child = pair.slave.spawn_command(command)?;
        let mut reader = pair.master.try_clone_reader()?;
        let (written, output) = mpsc::channel();
        // It ends when the terminal is gone.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let _ = written.send(buffer[..count].to_vec());
            }
        });
        Ok(Self { child, output, _master: pair.master })
    }

    /// Returns once the head line is drawn.
    fn await_picture(&self) -> Result<(), Failure> {
        let mut seen = Vec::new();
        while !seen.windows(4).any(|window| window == b"MOSE") {
            let more = self.output.recv_timeout(PATIENCE);
            seen.extend(more.map_err(|_| format!("no picture: {}", String::from_utf8_lossy(&seen)))?);
        }
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The times from start to first picture, shortest first, in milliseconds.
fn starts(mose: &Path, words: &[&str], times: usize) -> Result<Vec<f64>, Failure> {
    let mut took = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        let console = Console::start(mose, words, (200, 60))?;
        console.await_picture()?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// Processor time of a process so far (proc(5): fields 14 and 15 of `stat`).
fn processor(pid: u32) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').ok_or("stat has another form")?.1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.ok_or("no clock")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// The share of a core that the console takes while it is left alone.
fn idle(mose: &Path, endpoint: &str, size: (u16, u16), lasting: Duration) -> Result<f64, Failure> {
    let console = Console::start(mose, &["--connect", endpoint], size)?;
    console.await_picture()?;
    std::thread::sleep(SETTLING);
    let pid = console.child.process_id().ok_or("it has ended")?;
    let (before, begun) = (processor(pid)?, Instant::now());
    std::thread::sleep(lasting);
    Ok((processor(pid)? - before).as_secs_f64() / begun.elapsed().as_secs_f64())
}

/// Simulated agents in a process of their own, which ends with this.
struct Agents {
    child: std::process::Child,
    endpoint: String,
}

impl Agents {
    fn start(mose: &Path) -> Result<Self, Failure> {
        let child = Command::new(mose)
            .args(["demo", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut agents = Self { child, endpoint: String::new() };
        let output = agents.child.stdout.take().ok_or("no output")?;
        let (told, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(output).read_line(&mut line);
            let _ = told.send(read.map(|_| line));
        });
        let told: serde_json::Value = serde_json::from_str(&line.recv_timeout(PATIENCE)??)?;
        agents.endpoint = told["endpoints"][0].as_str().ok_or("no endpoint was told")?.to_owned();
        Ok(agents)
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        // It tidies up.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, usual: u64| words.get(place).map_or(Ok(usual), |word| word.parse());
    let (times, seconds) = (number(0, 20)?.max(1) as usize, number(1, 30)?.max(1));
    let here = std::env::current_exe()?;
    let mose: PathBuf = here.ancestors().nth(2).ok_or("no folder")?.join("mose");
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/recordings/lab-migration.ndjson");
    let recording = recording.to_str().ok_or("the recording's name is no text")?;
    let mut out = stdout().lock();
    for (name, words) in [
        ("demo", vec!["--demo"]),
        ("recording", vec!["replay", recording]),
        ("agents", vec!["--connect", NOWHERE]),
    ] {
        let took = starts(&mose, &words, times)?;
        let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
        writeln!(out, "start to first picture, {name:<12} median {median:>5.1} ms   most {most:>5.1} ms")?;
    }
    let agents = if words.len() > 2 { None } else { Some(Agents::start(&mose)?) };
    let named = words.get(2).map(String::as_str);
    let endpoint = named.or(agents.as_ref().map(|agents| agents.endpoint.as_str())).ok_or("no agents")?;
    for size in [(80, 24), (120, 40), (200, 60)] {
        let share = idle(&mose, endpoint, size, Duration::from_secs(seconds))?;
        writeln!(
            out,
            "idle at {:>3} x {:<2}                     {:.2} % of one core",
            size.0,
            size.1,
            share * 100.0
        )?;
    }
    Ok(())
}
