//! Runs a workload's client and reads what it saw into one report, whatever the client is.
//!
//! The headline figure of a migration is the gap on the client's own clock, so clients are left as they are found: a
//! third-party client is run unchanged and its own log is read. Where it runs (which host, which network namespace) is the
//! caller's business: a function makes a [`Command`] of an argument list.

mod counter;
mod crowd;
mod iperf3;
mod report;
mod sockperf;
mod spec;

pub use crate::counter::crowd::Wait;
pub use crate::counter::ping::Gap;
use crate::counter::ping::unix_ms;
pub use report::{ClientReport, Unit};
pub use spec::{ClientKind, ClientSpec};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Makes a command, run where the client is to run, of its arguments (the program's name first).
pub type Launch<'a> = dyn Fn(&[String]) -> Command + 'a;

/// How long a client may take beyond its own duration before it is ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most lines kept of each of a client's outputs: an hour of a full log at 1000 messages per second.
const MAX_LINES: usize = 4_000_000;

/// What can go wrong with a client, as against what a client can see.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The program cannot be run there.
    #[error("cannot run {program} on the client's host: {source}; is it in the lab's root file system?")]
    Spawn {
        /// The program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended before it was under way.
    #[error("{program} ended before its connection stood ({status}): {output}")]
    NotReady {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines it wrote.
        output: String,
    },
    /// It did not get under way in time.
    #[error("{program} was not under way after {seconds} s: {output}")]
    TimedOut {
        /// The program.
        program: String,
        /// How long it was waited for.
        seconds: u64,
        /// The last lines it wrote.
        output: String,
    },
    /// Its output is not what this program's output looks like.
    #[error("cannot read the report of {program}: {why}")]
    Unreadable {
        /// The program.
        program: String,
        /// What was missing or odd.
        why: String,
    },
    /// Waiting for it failed.
    #[error("cannot wait for {program}: {source}")]
    Wait {
        /// The program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A line of output and when it came.
#[derive(Debug, Clone)]
struct Line {
    at_unix_ms: u64,
    text: String,
}

/// What a client left behind for its parser.
#[derive(Debug, Default)]
struct Output {
    stdout: Vec<Line>,
    stderr: Vec<Line>,
    started_unix_ms: u64,
    stopped: bool,
}

fn collect(pipe: impl Read + Send + 'static, mark: &'static str, ready: Sender<()>) -> JoinHandle<Vec<Line>> {
    std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut ready = Some(ready);
        for text in BufReader::new(pipe).lines().map_while(Result::ok) {
            if ready.is_some() && text.contains(mark) {
                // Dropped, not only used: an end of the output before its turn is told by the sender going away.
                let _ = ready.take().map(|ready| ready.send(()));
            }
            if lines.len() < MAX_LINES {
                lines.push(Line { at_unix_ms: unix_ms(), text });
            }
        }
        lines
    })
}

/// How a workload's client is run and read.
struct Recipe {
    argv: Vec<String>,
    /// The text that tells that it is under way.
    mark: &'static str,
    /// How long after that it takes until a gap would be seen.
    settle: Duration,
}

/// A running client. Ended when dropped.
pub struct Client {
    spec: ClientSpec,
    program: String,
    child: Child,
    stdout: Option<JoinHandle<Vec<Line>>>,
    stderr: Option<JoinHandle<Vec<Line>>>,
    ready: Receiver<()>,
    settle: Duration,
    started: Instant,
    started_unix_ms: u64,
    stopped: bool,
    over: bool,
}

impl Client {
    /// What it was started as.
    pub const fn spec(&self) -> &ClientSpec {
        &self.spec
    }

    /// Starts the client.
    ///
    /// # Errors
    /// [`ClientError::Spawn`] if the program cannot be run.
    pub fn start(spec: ClientSpec, launch: &Launch<'_>) -> Result<Self, ClientError> {
        let recipe = match spec.kind {
            ClientKind::Sockperf => sockperf::recipe(&spec),
            ClientKind::Iperf3 => iperf3::recipe(&spec, iperf3::streams_json(launch)),
            ClientKind::Counter | ClientKind::Redis | ClientKind::Memcached => counter::recipe(&spec),
            ClientKind::Crowd => crowd::recipe(&spec),
        };
        let program = spec.kind.name().to_owned();
        let spawned = launch(&recipe.argv)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that whatever the launcher put in between gets the signals too.
            .process_group(0)
            .spawn();
        let mut child = spawned.map_err(|source| ClientError::Spawn { program: program.clone(), source })?;
        let (tell, ready) = channel();
        let stdout = child.stdout.take().map(|pipe| collect(pipe, recipe.mark, tell.clone()));
        let stderr = child.stderr.take().map(|pipe| collect(pipe, recipe.mark, tell));
        Ok(Self {
            spec,
            program,
            child,
            stdout,
            stderr,
            ready,
            settle: recipe.settle,
            started: Instant::now(),
            started_unix_ms: unix_ms(),
            stopped: false,
            over: false,
        })
    }

    /// Waits until the connection stands and a gap would be seen.
    ///
    /// # Errors
    /// [`ClientError::NotReady`] if the client ended before, [`ClientError::TimedOut`] if it took longer than `timeout`.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), ClientError> {
        match self.ready.recv_timeout(timeout) {
            Ok(()) => {
                // Not a guess at how long something takes: clients cut the beginning of their log by a fixed time.
                std::thread::sleep(self.settle);
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait(PATIENCE)?.to_string();
                Err(ClientError::NotReady {
                    program: self.program.clone(),
                    status,
                    output: tail(&self.output()),
                })
            }
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                let output = tail(&self.output());
                Err(ClientError::TimedOut {
                    program: self.program.clone(),
                    seconds: timeout.as_secs(),
                    output,
                })
            }
        }
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the client to end by itself and reads its report.
    ///
    /// # Errors
    /// [`ClientError::Unreadable`] if it wrote no report, [`ClientError::Wait`] if it cannot be waited for.
    pub fn finish(mut self) -> Result<ClientReport, ClientError> {
        let patience = (self.spec.duration + PATIENCE).saturating_sub(self.started.elapsed());
        self.wait(patience)?;
        let output = self.output();
        let report = match self.spec.kind {
            ClientKind::Sockperf => sockperf::read(&self.spec, &output),
            ClientKind::Iperf3 => iperf3::read(&self.spec, &output),
            ClientKind::Counter | ClientKind::Redis | ClientKind::Memcached => {
                counter::read(&self.spec, &output)
            }
            ClientKind::Crowd => crowd::read(&self.spec, &output),
        };
        report.map_err(|why| {
            let why = format!("{why}; its last lines: {}", tail(&output));
            ClientError::Unreadable { program: self.program.clone(), why }
        })
    }

    /// Asks the client to end now and reads its report.
    ///
    /// # Errors
    /// As [`Client::finish`].
    pub fn stop(mut self) -> Result<ClientReport, ClientError> {
        self.stopped = true;
        // Not to the group: a launcher that waits outside a namespace would die of it and take the client with it before
        // it has written its report.
        for program in programs(self.child.id()) {
            if let (false, Ok(pid)) = (self.over, libc::pid_t::try_from(program)) {
                // SAFETY: plain arguments; an id that has just gone away is nobody's, at worst.
                unsafe { libc::kill(pid, libc::SIGINT) };
            }
        }
        self.spec.duration = self.started.elapsed();
        self.finish()
    }

    fn signal(&self, signal: libc::c_int) {
        if let (false, Ok(group)) = (self.over, libc::pid_t::try_from(self.child.id())) {
            // SAFETY: plain arguments. The child was not waited for yet, so its id, and its group's, are still its own.
            unsafe { libc::kill(-group, signal) };
        }
    }

    /// Waits until the client has ended, and ends it if it takes longer than `patience`.
    fn wait(&mut self, patience: Duration) -> Result<ExitStatus, ClientError> {
        let failed = |source| ClientError::Wait { program: self.program.clone(), source };
        let until = Instant::now() + patience;
        let status = loop {
            match self.child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if Instant::now() >= until => {
                    self.signal(libc::SIGKILL);
                    break self.child.wait().map_err(failed)?;
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        self.over = true;
        Ok(status)
    }

    fn kill(&mut self) {
        if !self.over {
            self.signal(libc::SIGKILL);
            // It was killed; how it ended is of no interest.
            let _ = self.child.wait();
            self.over = true;
        }
    }

    fn output(&mut self) -> Output {
        let take = |reader: &mut Option<JoinHandle<Vec<Line>>>| {
            reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
        };
        Output {
            stdout: take(&mut self.stdout),
            stderr: take(&mut self.stderr),
            started_unix_ms: self.started_unix_ms,
            stopped: self.stopped,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The processes at the ends of a process's family tree: what launchers (nsenter, a shell) are wrapped around.
fn programs(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below: Vec<u32> =
        children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(programs).collect();
    if below.is_empty() { vec![pid] } else { below }
}

/// The last lines a client wrote, for a message.
fn tail(output: &Output) -> String {
    let mut last: Vec<&str> = Vec::new();
    for lines in [&output.stdout, &output.stderr] {
        let said: Vec<&str> =
            lines.iter().rev().map(|line| line.text.trim()).filter(|text| !text.is_empty()).take(3).collect();
        last.extend(said.iter().rev());
    }
    let mut text = last.join(" | ");
    if let Some((cut, _)) = text.char_indices().nth(600) {
        text.truncate(cut);
    }
    if text.is_empty() { "it said nothing".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn shell(script: &'static str) -> impl Fn(&[String]) -> Command {
        move |_: &[String]| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        }
    }

    fn spec(kind: ClientKind) -> ClientSpec {
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        ClientSpec::new(kind, target, Duration::from_secs(1))
    }

    #[test]
    fn a_client_that_cannot_connect_says_so_in_its_own_words() {
        let launch = shell("echo 'cannot connect: refused' >&2; exit 1");
        let mut client = Client::start(spec(ClientKind::Counter), &launch).unwrap();
        let error = client.wait_ready(Duration::from_secs(5)).unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn a_client_that_hangs_is_ended_with_all_its_children() {
        let launch = shell("sleep 1000 & sleep 1000");
        let mut client = Client::start(spec(ClientKind::Counter), &launch).unwrap();
        let group = client.child.id();
        let error = client.wait_ready(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
        // SAFETY: signal 0 sends nothing; it only tells whether the group has a member.
        let alive = || unsafe { libc::kill(-(group as libc::pid_t), 0) } == 0;
        for _ in 0..500 {
            if !alive() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the client's group is still there");
    }

    /// The real programs on the loopback: what the fixtures cannot tell is whether today's versions still write the same.
    #[test]
    #[ignore = "needs sockperf and iperf3 on this machine"]
    fn the_real_clients_are_run_and_read() {
        let plain = |argv: &[String]| {
            let mut command = Command::new(&argv[0]);
            command.args(&argv[1..]);
            command
        };
        let servers: [(ClientKind, u16, &[&str]); 2] = [
            (ClientKind::Sockperf, 23111, &["sockperf", "server", "--tcp", "-i", "127.0.0.1", "-p", "23111"]),
            (ClientKind::Iperf3, 23112, &["iperf3", "-s", "-B", "127.0.0.1", "-p", "23112"]),
        ];
        for (kind, port, argv) in servers {
            let mut server = Command::new(argv[0])
                .args(&argv[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let target = SocketAddr::from(([127, 0, 0, 1], port));
            let mut stood = false;
            for _ in 0..100 {
                // What is accepted here is closed at once, which both servers survive.
                stood = stood || std::net::TcpStream::connect(target).is_ok();
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(stood);
            for stopped in [false, true] {
                let seconds = if stopped { 60 } else { 2 };
                let spec = ClientSpec::new(kind, target, Duration::from_secs(seconds));
                let mut client = Client::start(spec, &plain).unwrap();
                client.wait_ready(Duration::from_secs(10)).unwrap();
                let report = if stopped {
                    std::thread::sleep(Duration::from_secs(1));
                    client.stop()
                } else {
                    client.finish()
                };
                let report = report.unwrap();
                eprintln!("{}", serde_json::to_string(&report).unwrap());
                assert!(report.is_clean(), "{report:?}");
                assert!(report.from_unix_ms < report.to_unix_ms && report.to_unix_ms <= unix_ms());
            }
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    #[test]
    fn a_signal_is_meant_for_the_program_not_for_its_launcher() {
        let mut launcher = Command::new("sh").args(["-c", "sleep 1000; true"]).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = loop {
            let found = programs(launcher.id());
            if found != [launcher.id()] || Instant::now() > deadline {
                break found;
            }
        };
        let [program] = found[..] else { panic!("{found:?}") };
        assert_ne!(program, launcher.id());
        // SAFETY: plain arguments; the child of a child that was not waited for.
        unsafe { libc::kill(program as libc::pid_t, libc::SIGKILL) };
        assert!(launcher.wait().unwrap().success());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let launch = |_: &[String]| Command::new("/nonexistent/program");
        let error = Client::start(spec(ClientKind::Counter), &launch).err().unwrap().to_string();
        assert!(error.contains("counter"), "{error}");
    }
}
