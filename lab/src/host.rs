//! Starting a host from the outside, and waiting until it is ready.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::LabConfig;
use crate::error::{Context, LabError};
use crate::files::set_mode;
use crate::host_config::HostConfig;
use crate::procfs::{MARK, Process};
use crate::run::tail;
use crate::state::write_json;
use crate::supervisor::{InitStatus, look_after, status_path};

const LOG: &str = "init.log";

/// Starts a host: its namespaces, then `plug` (which is given a pid that lives in its network namespace), then its pid 1.
pub(crate) fn start(
    config: &LabConfig,
    host: &HostConfig,
    plug: impl FnOnce(i32) -> Result<(), LabError>,
) -> Result<Process, LabError> {
    let dir = config.host_dir(&host.name);
    fs::create_dir_all(&dir).on("make", &dir)?;
    // Containers' memory may come to lie below.
    set_mode(&dir, 0o700)?;
    host.cgroup.remove_host(&host.name, Duration::from_secs(5));
    let file = dir.join("host.json");
    write_json(&file, host)?;
    let log = dir.join(LOG);
    let log_file = OpenOptions::new().create(true).append(true).open(&log).on("open", &log)?;
    let program = match &config.init_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().doing("find the running program")?,
    };
    let mut child = Command::new(&program)
        .args(&config.init_command)
        .arg(&file)
        .env_clear()
        .env("PATH", crate::exec::PATH)
        .env(MARK, &config.state_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .current_dir("/")
        .spawn()
        .on("start the init", &program)?;
    let pid = converse(&mut child, plug);
    // Whether it went well or not, the first stage ends now: by itself, or because its standard input is closed.
    drop(child.stdin.take());
    let _ = child.wait();
    let failed = |what: &str| LabError::NotReady {
        host: host.name.clone(),
        what: what.to_owned(),
        seconds: 0,
        log: end_of(&log),
    };
    let pid = pid?.ok_or_else(|| failed("its init"))?;
    Process::of(pid).ok_or_else(|| failed("its pid 1"))
}

/// The dialogue with the first stage; `None` if it ended before its time.
fn converse(
    child: &mut Child,
    plug: impl FnOnce(i32) -> Result<(), LabError>,
) -> Result<Option<i32>, LabError> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Ok(None);
    };
    let mut lines = BufReader::new(stdout).lines();
    if !matches!(lines.next(), Some(Ok(word)) if word == "ready") {
        return Ok(None);
    }
    plug(child.id() as i32)?;
    stdin.write_all(b"go\n").doing("talk to the host's init")?;
    Ok(lines.next().and_then(Result::ok).and_then(|line| line.parse().ok()))
}

/// What the host's init says; `None` before it has said anything.
pub(crate) fn init_status(init: Process) -> Option<InitStatus> {
    let text = fs::read(status_path(Path::new(&format!("/proc/{}/root", init.pid)))).ok()?;
    if !init.alive() {
        return None;
    }
    serde_json::from_slice(&text).ok()
}

/// Waits until every daemon of the host is ready.
pub(crate) fn wait_ready(
    config: &LabConfig,
    name: &str,
    init: Process,
    deadline: Instant,
) -> Result<(), LabError> {
    let begun = Instant::now();
    loop {
        let status = init_status(init);
        let not_ready = |what: &str, log: String| LabError::NotReady {
            host: name.to_owned(),
            what: what.to_owned(),
            seconds: begun.elapsed().as_secs(),
            log,
        };
        if let Some(status) = &status
            && status.daemons.iter().all(|d| d.ready)
        {
            return Ok(());
        }
        if !init.alive() {
            return Err(not_ready("its init (it ended)", end_of(&config.host_dir(name).join(LOG))));
        }
        let waiting_for = status.as_ref().and_then(|s| {
            s.daemons
                .iter()
                .find(|d| !d.ready && d.last_exit.is_some())
                .or(s.daemons.iter().find(|d| !d.ready))
        });
        if Instant::now() >= deadline {
            let daemon = waiting_for.map_or("init", |d| d.name.as_str());
            let log = format!("/proc/{}/root/var/log/mose/{daemon}.log", init.pid);
            return Err(not_ready(daemon, end_of(Path::new(&log))));
        }
        thread::sleep(look_after(begun.elapsed()));
    }
}

fn end_of(log: &Path) -> String {
    tail(&fs::read_to_string(log).unwrap_or_default(), 12)
}
