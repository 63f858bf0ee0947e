//! A flight in real time, its autopilot at the other end of a TCP connection.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::flight::{Counts, Flight, Report};
use super::{Airframe, STEP_S};
use crate::ned::Ned;
use crate::wire::{Incoming, Message, Outgoing};

/// How long the autopilot may take to accept a connection, or nothing of what it is sent.
const CONNECTING: Duration = Duration::from_secs(5);
const DEAF: Duration = Duration::from_secs(60);

/// How long after a lost connection a new one is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// A pause between answers that is listed, in milliseconds: no shorter one disturbs a loop of 20 Hz.
const LISTED_MS: f64 = 50.0;

/// The most pauses that are listed, so that a flight without end needs no memory without end.
const LISTED: usize = 10_000;

/// Every how many reports something is told: 10 Hz.
const TOLD: u64 = 5;

/// How the vehicle is, as it is told while it flies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// North, east and down of its start, in metres.
    pub place_m: [f64; 3],
    /// The same as a velocity, in metres per second.
    pub velocity_m_s: [f64; 3],
    /// From the moving reference, in metres.
    pub deviation_m: f64,
    /// From the orbit's nearest point, in metres.
    pub cross_track_m: f64,
    /// How long the last answer took, in milliseconds; null before the first.
    pub round_trip_ms: Option<f64>,
    /// For how long an answer has been due, in milliseconds.
    pub silence_ms: f64,
    /// Whether the vehicle has taken the control away from its autopilot.
    pub offboard_lost: bool,
}

/// A pause between two answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// When it began, in milliseconds since 1970.
    pub from_ms: u64,
    /// How long it was, in milliseconds.
    pub duration_ms: f64,
}

/// What a flight came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flown {
    /// Reports sent, by the vehicle.
    pub reported: u64,
    /// Reports answered.
    pub answered: u64,
    /// Answers that were not the next one due.
    pub out_of_order: u64,
    /// Connections that were lost.
    pub connections_lost: u32,
    /// How often the vehicle has taken the control away.
    pub offboard_losses: u32,
    /// The greatest deviation from the moving reference, in metres.
    pub worst_deviation_m: f64,
    /// And from the orbit's nearest point.
    pub worst_cross_track_m: f64,
    /// Pauses between answers of 50 ms and more.
    pub pauses: Vec<Pause>,
    /// By how much the simulation was behind the clock at most, in milliseconds: the machine was too busy for it.
    pub behind_ms: f64,
}

/// The connection to the autopilot.
struct Link {
    outgoing: Outgoing<TcpStream>,
    setpoints: Receiver<(Instant, u32, Ned)>,
}

impl Link {
    fn to(autopilot: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&autopilot, CONNECTING)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DEAF))?;
        let mut incoming = Incoming::over(stream.try_clone()?);
        let (tell, setpoints) = channel();
        // It ends with the connection, or when nobody listens to it any more.
        std::thread::spawn(move || {
            while let Ok(message) = incoming.read() {
                if let Message::Setpoint { time_ms, velocity } = message
                    && tell.send((Instant::now(), time_ms, velocity)).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { outgoing: Outgoing::over(stream), setpoints })
    }
}

/// What waits for its answer, and what the answers were.
#[derive(Default)]
struct Answers {
    waiting: VecDeque<(u32, Instant)>,
    last: Option<Instant>,
    round_trip: Option<Duration>,
    pauses: Vec<Pause>,
}

impl Answers {
    fn came(&mut self, at: Instant, time_ms: u32) {
        while self.waiting.front().is_some_and(|(waits, _)| *waits < time_ms) {
            self.waiting.pop_front();
        }
        if let Some((_, sent)) = self.waiting.front().filter(|(waits, _)| *waits == time_ms) {
            self.round_trip = Some(at - *sent);
            self.waiting.pop_front();
        }
        let pause = self.last.replace(at).map_or(Duration::ZERO, |last| at - last).as_secs_f64() * 1e3;
        if pause >= LISTED_MS && self.pauses.len() < LISTED {
            let from_ms = now_ms().saturating_sub(pause as u64);
            self.pauses.push(Pause { from_ms, duration_ms: pause });
        }
    }
}

/// Flies until `ends` says so, or for a time, and tells how it goes.
///
/// # Errors
/// The airframe fails. An autopilot that is not there is none: the vehicle hovers, or holds its place, and tries again.
pub fn fly<A: Airframe>(
    mut flight: Flight<A>,
    autopilot: SocketAddr,
    duration: Option<Duration>,
    ends: &AtomicBool,
    mut tell: impl FnMut(&Told),
) -> io::Result<Flown> {
    let mut link: Option<Link> = None;
    let mut tried: Option<Instant> = None;
    let mut answers = Answers::default();
    let (mut lost, mut behind) = (0, Duration::ZERO);
    let (mut worst_deviation_m, mut worst_cross_track_m) = (0.0_f64, 0.0_f64);
    let begun = Instant::now();
    let step = Duration::from_secs_f64(STEP_S);
    let mut due = begun;
    while !ends.load(Ordering::Relaxed) && duration.is_none_or(|duration| begun.elapsed() < duration) {
        if link.is_none() && tried.is_none_or(|tried| tried.elapsed() >= AGAIN) {
            link = Link::to(autopilot).ok();
            tried = Some(Instant::now());
        }
        let mut broken = false;
        if let Some(link) = &link {
            loop {
                match link.setpoints.try_recv() {
                    Ok((at, time_ms, setpoint)) => {
                        answers.came(at, time_ms);
                        flight.heard(time_ms, setpoint);
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        broken = true;
                        break;
                    }
                }
            }
        }
        if let Some(report) = flight.advance()? {
            worst_deviation_m = worst_deviation_m.max(report.deviation_m);
            worst_cross_track_m = worst_cross_track_m.max(report.cross_track_m);
            if let Some(link) = &mut link {
                answers.waiting.push_back((report.time_ms, Instant::now()));
                let (place, velocity) = (report.state.place, report.state.velocity);
                let message = Message::Position { time_ms: report.time_ms, place, velocity };
                broken |= link.outgoing.send(message).is_err();
            }
            if flight.counts().reported % TOLD == 1 {
                tell(&told(&report, &answers, flight.offboard().is_lost()));
            }
        }
        if broken {
            link = None;
            lost += 1;
            answers.waiting.clear();
        }
        due += step;
        match due.checked_duration_since(Instant::now()) {
            Some(left) => std::thread::sleep(left),
            None => behind = behind.max(due.elapsed()),
        }
    }
    let Counts { reported, answered, out_of_order } = flight.counts();
    Ok(Flown {
        reported,
        answered,
        out_of_order,
        connections_lost: lost,
        offboard_losses: flight.offboard().losses(),
        worst_deviation_m,
        worst_cross_track_m,
        pauses: answers.pauses,
        behind_ms: behind.as_secs_f64() * 1e3,
    })
}

fn told(report: &Report, answers: &Answers, offboard_lost: bool) -> Told {
    let parts = |ned: Ned| [ned.north, ned.east, ned.down];
    let silence = answers.waiting.front().map_or(Duration::ZERO, |(_, sent)| sent.elapsed());
    Told {
        at_ms: now_ms(),
        place_m: parts(report.state.place),
        velocity_m_s: parts(report.state.velocity),
        deviation_m: report.deviation_m,
        cross_track_m: report.cross_track_m,
        round_trip_ms: answers.round_trip.map(|took| took.as_secs_f64() * 1e3),
        silence_ms: silence.as_secs_f64() * 1e3,
        offboard_lost,
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
