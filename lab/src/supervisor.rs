//! Keeps a host's daemons running: starts them in order, starts again what died, reaps what nobody else does. One thread,
//! one loop, as befits a pid 1.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::config::HOST_RUN;
use crate::daemons::{Ready, Spec};
use crate::error::{Context, LabError};
use crate::state::write_json;

/// How often a daemon is looked at that has just been started.
const LOOK: Duration = Duration::from_millis(10);
/// How often at least, however long it has not been ready: looking costs where everything is slow.
const LOOK_LATE: Duration = Duration::from_millis(150);
/// A daemon that lived this long has not been dying in a loop.
const STEADY: Duration = Duration::from_secs(10);
/// How long daemons may take to end by themselves when the host is stopped.
const GRACE: Duration = Duration::from_millis(1500);

/// A daemon's state, as the host's init knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DaemonStatus {
    /// Its name.
    pub name: String,
    /// Its pid inside the host; none while it does not run.
    pub pid: Option<i32>,
    /// Its pid as the machine sees it.
    #[serde(default)]
    pub machine_pid: Option<i32>,
    /// Whether it is ready (for what only runs once: whether it is done).
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// How it last ended, in words.
    pub last_exit: Option<String>,
    /// Whether it has had more time than it should need to become ready.
    pub late: bool,
}

/// What a host's init says about its host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InitStatus {
    /// Seconds since the epoch.
    pub(crate) up_since: u64,
    pub(crate) daemons: Vec<DaemonStatus>,
}

/// Where [`InitStatus`] is, from inside the host.
pub(crate) fn status_path(root: &Path) -> PathBuf {
    root.join(HOST_RUN).join("status.json")
}

/// The file whose existence keeps a daemon from being started (again), from inside the host.
pub(crate) fn hold_path(root: &Path, daemon: &str) -> PathBuf {
    root.join(HOST_RUN).join("hold").join(daemon)
}

#[derive(Debug, Clone, Copy)]
enum DaemonState {
    Waiting,
    Starting { pid: i32, since: Instant },
    Ready { pid: i32, since: Instant },
    Done,
    Down { until: Instant },
}

struct Daemon {
    spec: Spec,
    state: DaemonState,
    pause: Duration,
    restarts: u32,
    last_exit: Option<String>,
}

impl Daemon {
    fn pid(&self) -> Option<i32> {
        match self.state {
            DaemonState::Starting { pid, .. } | DaemonState::Ready { pid, .. } => Some(pid),
            DaemonState::Waiting | DaemonState::Done | DaemonState::Down { .. } => None,
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, DaemonState::Ready { .. } | DaemonState::Done)
    }

    fn status(&self, now: Instant) -> DaemonStatus {
        DaemonStatus {
            name: self.spec.name.to_owned(),
            pid: self.pid(),
            machine_pid: None,
            ready: self.is_ready(),
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            late: matches!(self.state, DaemonState::Starting { since, .. } if now - since > self.spec.deadline),
        }
    }

    fn ended(&mut self, now: Instant, how: &WaitStatus) {
        let since = match self.state {
            DaemonState::Starting { since, .. } | DaemonState::Ready { since, .. } => since,
            DaemonState::Waiting | DaemonState::Done | DaemonState::Down { .. } => now,
        };
        if matches!(how, WaitStatus::Exited(_, 0)) && self.spec.ready == Ready::Done {
            self.state = DaemonState::Done;
            return;
        }
        let words = match how {
            WaitStatus::Exited(_, code) => format!("exit {code}"),
            WaitStatus::Signaled(_, signal, _) => signal.to_string(),
            other => format!("{other:?}"),
        };
        tracing::warn!(daemon = self.spec.name, how = words, "ended");
        self.last_exit = Some(words);
        if now - since > STEADY {
            self.pause = self.spec.restart;
        }
        self.state = DaemonState::Down { until: now + self.pause };
        self.pause = (self.pause * 2).min(self.spec.restart_max);
    }
}

/// All of a host's daemons.
pub(crate) struct Supervisor {
    daemons: Vec<Daemon>,
    environment: BTreeMap<String, String>,
    up_since: u64,
    written: Vec<DaemonStatus>,
}

impl Supervisor {
    pub(crate) fn new(specs: Vec<Spec>, environment: BTreeMap<String, String>) -> Supervisor {
        Supervisor {
            daemons: specs
                .into_iter()
                .map(|spec| Daemon {
                    pause: spec.restart,
                    spec,
                    state: DaemonState::Waiting,
                    restarts: 0,
                    last_exit: None,
                })
                .collect(),
            environment,
            up_since: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            written: Vec::new(),
        }
    }

    /// Runs until SIGTERM, keeping [`InitStatus`] in the file `status`. Returns when the daemons have been asked to end and did, or had their time to.
    pub(crate) fn run(mut self, status: Option<&Path>) -> Result<(), LabError> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            signals.add(signal);
        }
        signals.thread_block().doing("block signals")?;
        let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .doing("make a signal descriptor")?;
        loop {
            let now = Instant::now();
            self.reap(now);
            let look = self.step(now);
            if let Some(path) = status {
                self.write_status(path, now)?;
            }
            if self.wait(&signal_fd, look)? {
                break;
            }
        }
        self.stop();
        Ok(())
    }

    /// Sleeps until a signal, or until there is something to look at. Whether the host is to stop.
    fn wait(&self, signal_fd: &SignalFd, look: Option<Duration>) -> Result<bool, LabError> {
        let timeout =
            look.map_or(PollTimeout::NONE, |after| PollTimeout::try_from(after).unwrap_or(PollTimeout::ZERO));
        match poll(&mut [PollFd::new(signal_fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).doing("wait for signals"),
        }
        let mut stop = false;
        while let Ok(Some(info)) = signal_fd.read_signal() {
            stop |= info.ssi_signo == Signal::SIGTERM as u32 || info.ssi_signo == Signal::SIGINT as u32;
        }
        Ok(stop)
    }

    fn reap(&mut self, now: Instant) {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot reap");
                    return;
                }
                Ok(how) => {
                    let pid = how.pid().map(Pid::as_raw);
                    if let Some(daemon) = self.daemons.iter_mut().find(|d| pid.is_some() && d.pid() == pid) {
                        daemon.ended(now, &how);
                    }
                }
            }
        }
    }

    /// Starts what may start and looks whether what started is ready. When there is something to look at again.
    fn step(&mut self, now: Instant) -> Option<Duration> {
        let ready: Vec<&'static str> =
            self.daemons.iter().filter(|d| d.is_ready()).map(|d| d.spec.name).collect();
        let mut look: Option<Duration> = None;
        for daemon in &mut self.daemons {
            let start = match daemon.state {
                DaemonState::Waiting => daemon.spec.after.iter().all(|name| ready.contains(name)),
                DaemonState::Down { until } => now >= until,
                DaemonState::Starting { pid, since } => {
                    if daemon.spec.ready.holds() {
                        tracing::info!(daemon = daemon.spec.name, ms = since.elapsed().as_millis(), "ready");
                        daemon.state = DaemonState::Ready { pid, since };
                    }
                    false
                }
                DaemonState::Ready { .. } | DaemonState::Done => false,
            };
            if start && !hold_path(Path::new("/"), daemon.spec.name).exists() {
                daemon.restarts += u32::from(!matches!(daemon.state, DaemonState::Waiting));
                daemon.state = match spawn(&daemon.spec, &self.environment) {
                    Ok(pid) => DaemonState::Starting { pid, since: now },
                    Err(error) => {
                        daemon.last_exit = Some(error.to_string());
                        DaemonState::Down { until: now + daemon.spec.restart_max }
                    }
                };
            }
            let after = match daemon.state {
                DaemonState::Starting { since, .. } => look_after(now.saturating_duration_since(since)),
                // What it waits for has just become ready, or is looked at anyway.
                DaemonState::Ready { .. } | DaemonState::Done if ready.contains(&daemon.spec.name) => {
                    continue;
                }
                DaemonState::Ready { .. } | DaemonState::Done => LOOK,
                DaemonState::Down { until } if until > now => (until - now).min(LOOK_LATE),
                // Held, or waiting for one that is looked at itself.
                DaemonState::Waiting | DaemonState::Down { .. } => LOOK_LATE,
            };
            look = Some(look.map_or(after, |before| before.min(after)));
        }
        look
    }

    fn write_status(&mut self, path: &Path, now: Instant) -> Result<(), LabError> {
        let status: Vec<DaemonStatus> = self.daemons.iter().map(|d| d.status(now)).collect();
        if status == self.written {
            return Ok(());
        }
        write_json(path, &InitStatus { up_since: self.up_since, daemons: status.clone() })?;
        self.written = status;
        Ok(())
    }

    /// Asks the daemons to end, last started first, and gives them a moment. What does not end dies with the namespace.
    fn stop(&mut self) {
        for daemon in self.daemons.iter().rev() {
            if let Some(pid) = daemon.pid() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        let end = Instant::now() + GRACE;
        while Instant::now() < end && self.daemons.iter().any(|d| d.pid().is_some()) {
            let now = Instant::now();
            self.reap(now);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// When to look again at what has not become ready for this long.
pub(crate) fn look_after(waited: Duration) -> Duration {
    (waited / 32).clamp(LOOK, LOOK_LATE)
}

fn spawn(spec: &Spec, environment: &BTreeMap<String, String>) -> Result<i32, LabError> {
    let log_path = PathBuf::from(format!("/var/log/mose/{}.log", spec.name));
    if let Some(parent) = log_path.parent() {
        fs::create_dir_all(parent).on("make", parent)?;
    }
    let log = OpenOptions::new().create(true).append(true).open(&log_path).on("open", &log_path)?;
    let (program, arguments) = spec.argv.split_first().ok_or_else(|| LabError::Invalid {
        what: format!("daemon {}", spec.name),
        reason: "it has no command".into(),
    })?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().on("open", &log_path)?)
        .stderr(log)
        .process_group(0);
    // SAFETY: between fork and exec only sigprocmask is called, which is async-signal-safe; it undoes the blocking the
    // supervisor needs for itself and a daemon must not inherit.
    unsafe {
        command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(Into::into));
    }
    let child = command.spawn().doing(&format!("start {program}"))?;
    Ok(child.id() as i32)
}
