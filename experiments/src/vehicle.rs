//! A vehicle in the air: a program that tells how it flies, a JSON line at a time, and last what the flight came to.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use color_eyre::eyre::{WrapErr, bail, eyre};
use mose_flight::vehicle::live::{Flown, Told};
use mose_lab::client::programs;
use mose_lab::{CLIENT_NETNS, Lab};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::course::MOBILE;
use crate::testbed::show;

/// How far a vehicle may be from its reference to count as steady, in metres: undisturbed flight stays within 0.2 m.
const STEADY_M: f64 = 0.25;

/// How long a vehicle may take to land when it is asked to.
const LANDING: Duration = Duration::from_secs(10);

/// The most that is remembered of what it told: an hour.
const TOLD: usize = 36_000;

/// The most other lines that are kept: what it said before it failed.
const SAID: usize = 5;

/// What the vehicle has told.
#[derive(Default)]
struct Heard {
    told: Vec<Told>,
    flown: Option<Flown>,
    said: VecDeque<String>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        if let Ok(told) = serde_json::from_str(line) {
            if self.told.len() == TOLD {
                self.told.drain(..TOLD / 2);
            }
            self.told.push(told);
        } else if let Ok(flown) = serde_json::from_str(line) {
            self.flown = Some(flown);
        } else if !line.trim().is_empty() {
            self.said.truncate(SAID - 1);
            self.said.push_front(line.trim().to_owned());
        }
    }

    /// The last other lines that it wrote, the oldest first.
    fn said(&self) -> String {
        self.said.iter().rev().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }

    /// Whether it has been steady over the last so many milliseconds.
    fn steady(&self, over_ms: u64) -> bool {
        let Some(last) = self.told.last() else { return false };
        let from = last.at_ms.saturating_sub(over_ms);
        self.told.first().is_some_and(|first| first.at_ms <= from)
            && self
                .told
                .iter()
                .rev()
                .take_while(|told| told.at_ms >= from)
                .all(|told| told.deviation_m <= STEADY_M && !told.offboard_lost)
    }
}

/// A vehicle in the air. It is ended when dropped.
pub(crate) struct Vehicle {
    child: Child,
    program: &'static str,
    heard: Heard,
    /// What it writes; closed once it has ended.
    lines: Receiver<String>,
}

impl Vehicle {
    /// Starts the lab's vehicle on the UAV, which flies by the autopilot at an address. The simulator is fetched at first use.
    pub(crate) fn in_lab(lab: &Lab, autopilot: SocketAddr) -> color_eyre::Result<Self> {
        lab.give_simulator(MOBILE, &mut show)?;
        let argv = mose_lab::client::vehicle(autopilot, None);
        Self::start("mose-uav", lab.exec_in_netns(MOBILE, CLIENT_NETNS, &argv)?)
    }

    /// Starts it by a command in which this program may be wrapped in others.
    pub(crate) fn start(program: &'static str, mut command: Command) -> color_eyre::Result<Self> {
        let mut child = command
            // Ctrl-C at the terminal is for the command that has it fly: that one lets it land.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .wrap_err("the vehicle cannot be started")?;
        let (tell, lines) = channel();
        if let Some(pipe) = child.stdout.take() {
            listen(pipe, tell.clone());
        }
        if let Some(pipe) = child.stderr.take() {
            listen(pipe, tell);
        }
        Ok(Self { child, program, heard: Heard::default(), lines })
    }

    /// Hears lines until something holds of what it told; otherwise why that is not so.
    fn hear_until(
        &mut self,
        deadline: Instant,
        holds: impl Fn(&Heard) -> bool,
    ) -> color_eyre::Result<Result<(), Ended>> {
        while !holds(&self.heard) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.line(&line),
                Err(RecvTimeoutError::Timeout) => return Ok(Err(Ended::No)),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().wrap_err("the vehicle cannot be waited for")?;
                    return Ok(Err(Ended::As(status)));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Waits until something holds of what it told.
    fn wait(
        &mut self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Heard) -> bool,
    ) -> color_eyre::Result<()> {
        let why = match self.hear_until(Instant::now() + patience, holds)? {
            Ok(()) => return Ok(()),
            Err(Ended::As(status)) => format!("it ended ({status})"),
            Err(Ended::No) => format!("it was not after {} s", patience.as_secs()),
        };
        let told = self.heard.told.last().map_or_else(
            || "it told nothing".to_owned(),
            |told| {
                format!(
                    "it was {:.1} m off, {:.0} ms without an answer{}",
                    told.deviation_m,
                    told.silence_ms,
                    if told.offboard_lost { ", and flew by itself" } else { "" }
                )
            },
        );
        let said = self.heard.said();
        let said = if said.is_empty() { said } else { format!("; it said: {said}") };
        bail!("the vehicle was to be {what}: {why}; {told}{said}");
    }

    /// What it has told since a moment, in milliseconds since 1970.
    pub(crate) fn since(&self, at_ms: u64) -> Vec<Told> {
        self.heard.told.iter().filter(|told| told.at_ms >= at_ms).cloned().collect()
    }

    /// Hears what it has told by now; fails where it is in the air no more, and says why.
    pub(crate) fn check(&mut self) -> color_eyre::Result<()> {
        match self.hear_until(Instant::now(), |_| false)? {
            Err(Ended::As(status)) => {
                Err(eyre!("the vehicle has ended in the air ({status}): {}", self.heard.said()))
            }
            Ok(()) | Err(Ended::No) => Ok(()),
        }
    }

    /// Waits until it has flown steadily for a time.
    pub(crate) fn steady(&mut self, over_ms: u64, patience: Duration) -> color_eyre::Result<()> {
        self.wait("steady", patience, |heard| heard.steady(over_ms))
    }

    /// Waits until it has told of a moment, in milliseconds since 1970.
    pub(crate) fn flown_until(&mut self, at_ms: u64, patience: Duration) -> color_eyre::Result<()> {
        self.wait("in the air", patience, |heard| heard.told.last().is_some_and(|told| told.at_ms >= at_ms))
    }

    /// Has it land; what it told, and what the flight came to.
    pub(crate) fn land(mut self) -> color_eyre::Result<(Vec<Told>, Flown)> {
        // What it is wrapped in would die of the signal, and what it runs itself it ends itself.
        for pid in programs(self.child.id(), self.program) {
            // It may have ended by itself.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT);
        }
        if let Err(Ended::No) = self.hear_until(Instant::now() + LANDING, |_| false)? {
            bail!("the vehicle had not landed after {} s", LANDING.as_secs());
        }
        let flown =
            self.heard.flown.take().ok_or_else(|| {
                eyre!("the vehicle did not say what its flight came to: {}", self.heard.said())
            })?;
        Ok((std::mem::take(&mut self.heard.told), flown))
    }
}

/// Whether a vehicle that was waited for has ended.
enum Ended {
    /// It tells on.
    No,
    /// Like this.
    As(ExitStatus),
}

impl Drop for Vehicle {
    fn drop(&mut self) {
        // Both fail where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Now, in milliseconds since 1970: hosts and vehicle are on this machine's clock.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Hands on the lines of a pipe, from a thread that ends with it.
fn listen(pipe: impl Read + Send + 'static, tell: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that tells every 20 ms how far off it is, given how many lines it has told, and lands when it is interrupted.
    fn flying(deviation: &str) -> Vehicle {
        let script = r#"
            trap 'echo "{\"reported\":10,\"answered\":10,\"out_of_order\":0,\"in_flight\":0,\"connections_lost\":0,\"offboard_losses\":0,\"worst_deviation_m\":1,\"worst_cross_track_m\":1,\"pauses\":[],\"behind_ms\":0,\"recorder_intact_bytes\":null}"; exit' INT
            exec 3<> <(:)
            for ((n = 0; ; n++)); do
                t=${EPOCHREALTIME/[.,]/}
                echo "{\"at_ms\":${t%???},\"place_m\":[0,0,0],\"velocity_m_s\":[0,0,0],\"deviation_m\":$(DEVIATION),\"cross_track_m\":0.1,\"round_trip_ms\":null,\"smoothed_round_trip_ms\":null,\"silence_ms\":0,\"pause_ms\":0,\"offboard_lost\":false}"
                read -rt 0.02 -u 3
            done"#;
        // Wrapped in a program that waits for it, and with a program below it, as the vehicle is.
        let script = format!("sleep 20 & helper=$!; trap 'kill $helper' EXIT\n{script}");
        let mut command = Command::new("sh");
        command.args(["-c", "bash -c \"$0\"; exit $?", &script.replace("$(DEVIATION)", deviation)]);
        Vehicle::start("bash", command).unwrap()
    }

    #[test]
    fn a_flight_is_steady_once_it_was_for_long_enough_and_lands_when_asked() {
        // Ten lines far off, then close.
        let mut vehicle = flying("$((n < 10 ? 9 : 0))");
        vehicle.steady(300, Duration::from_secs(20)).unwrap();
        let until = vehicle.heard.told.last().unwrap().at_ms + 200;
        vehicle.flown_until(until, Duration::from_secs(20)).unwrap();
        let (told, flown) = vehicle.land().unwrap();
        assert_eq!(flown.answered, 10);
        assert!(told.last().unwrap().at_ms >= until);
        let far = told.iter().rfind(|told| told.deviation_m > 1.0).unwrap().at_ms;
        assert!(told.last().unwrap().at_ms - far > 500, "300 ms steady, 200 ms on");
    }

    #[test]
    fn a_flight_that_never_gets_steady_ends_with_what_it_was() {
        let why = flying("4").steady(100, Duration::from_millis(400)).unwrap_err().to_string();
        assert!(why.contains("steady") && why.contains("4.0 m off"), "{why}");
    }

    #[test]
    fn a_vehicle_that_ends_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'no module named jsbsim' >&2; exit 1"]);
        let mut vehicle = Vehicle::start("bash", command).unwrap();
        let why = vehicle.steady(100, Duration::from_secs(20)).unwrap_err().to_string();
        assert!(why.contains("it ended (exit status: 1)") && why.contains("told nothing"), "{why}");
        let why = vehicle.land().unwrap_err().to_string();
        assert!(why.contains("no module named jsbsim"), "{why}");
    }
}
