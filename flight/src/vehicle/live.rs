//! A flight in real time, its autopilot at the other end of a TCP connection.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::answers::{Answers, Pause};
use super::flight::{Counts, Flight, Report};
use super::link::Link;
use super::{Airframe, STEP_S};
use crate::ned::Ned;
use crate::netns;
use crate::wire::{Message, Outgoing};

/// How long after a lost connection a new one is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the autopilot may take to look through its flight recorder at the end.
const LOOKING: Duration = Duration::from_secs(5);

/// From when on errors count as the flight's worst, in milliseconds: by then the vehicle has caught up with its orbit, which begins at
/// full speed.
const CAUGHT_UP_MS: u32 = 25_000;

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
    /// From the moving reference, in metres: the worst since the last time.
    pub deviation_m: f64,
    /// From the orbit's nearest point, in metres: the worst since the last time.
    pub cross_track_m: f64,
    /// How long the last answer took, in milliseconds; null before the first.
    pub round_trip_ms: Option<f64>,
    /// The same, smoothed as TCP does it (RFC 6298, section 2).
    pub smoothed_round_trip_ms: Option<f64>,
    /// For how long an answer has been due, in milliseconds.
    pub silence_ms: f64,
    /// The longest pause between two answers that has ended since the last time, in milliseconds.
    pub pause_ms: f64,
    /// Whether the vehicle has taken the control away from its autopilot.
    pub offboard_lost: bool,
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
    /// Reports that were still on their way when the flight ended.
    pub in_flight: u64,
    /// Connections that were lost.
    pub connections_lost: u32,
    /// How often the vehicle has taken the control away.
    pub offboard_losses: u32,
    /// The greatest deviation from the moving reference once the vehicle had caught up with it, in metres.
    pub worst_deviation_m: f64,
    /// And from the orbit's nearest point.
    pub worst_cross_track_m: f64,
    /// Pauses between answers of 50 ms and more.
    pub pauses: Vec<Pause>,
    /// By how much the simulation was behind the clock at most, in milliseconds: the machine was too busy for it.
    pub behind_ms: f64,
    /// Bytes of the autopilot's flight recorder that were as they were written, at the end; null where it did not say.
    pub recorder_intact_bytes: Option<u32>,
}

/// Whom a vehicle in the air talks to.
pub struct Around<'a> {
    /// The autopilot.
    pub autopilot: SocketAddr,
    /// Those that hear where it is and where it ought to be, as MAVLink in UDP datagrams: an agent, a ground station.
    pub observers: Vec<SocketAddr>,
    /// The network namespace from which they are reached; the vehicle's own where there is none.
    pub observers_netns: Option<PathBuf>,
    /// Whether the flight is to end.
    pub ends: &'a AtomicBool,
}

/// Flies until it is to end, or for a time, and tells how it goes. It hovers until the autopilot is there; its clock begins then.
///
/// # Errors
/// The airframe fails, or no datagram socket can be had. An autopilot that is not there is none: the vehicle hovers, or holds its place,
/// and tries again.
pub fn fly<A: Airframe>(
    mut flight: Flight<A>,
    around: &Around<'_>,
    duration: Option<Duration>,
    mut tell: impl FnMut(&Told),
) -> io::Result<Flown> {
    let observed = netns::within(around.observers_netns.as_deref(), || Observed::new(&around.observers))?;
    let mut link: Option<Link> = None;
    let mut tried: Option<Instant> = None;
    let mut answers = Answers::default();
    let (mut lost, mut behind) = (0, Duration::ZERO);
    let (mut worst, mut newest) = (Errors::default(), Errors::default());
    let mut begun: Option<Instant> = None;
    let step = Duration::from_secs_f64(STEP_S);
    let mut due = Instant::now();
    let over = |begun: Option<Instant>| {
        begun.zip(duration).is_some_and(|(begun, duration)| begun.elapsed() >= duration)
    };
    while !around.ends.load(Ordering::Relaxed) && !over(begun) {
        if link.is_none() && tried.is_none_or(|tried| tried.elapsed() >= AGAIN) {
            link = Link::to(around.autopilot).ok();
            tried = Some(Instant::now());
        }
        if link.is_some() && begun.is_none() {
            begun = Some(Instant::now());
            due = Instant::now();
        }
        if begun.is_none() {
            flight.hover()?;
        } else if let Some(report) = hear_and_advance(&mut flight, &mut link, &mut answers, &mut lost)? {
            newest = newest.with(&report);
            if report.time_ms >= CAUGHT_UP_MS {
                worst = worst.with(&report);
            }
            observed.tell(&report);
            if flight.counts().reported % TOLD == 1 {
                tell(&told(&report, newest, &mut answers, flight.offboard().is_lost()));
                newest = Errors::default();
            }
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
        in_flight: answers.outstanding(),
        connections_lost: lost,
        offboard_losses: flight.offboard().losses(),
        worst_deviation_m: worst.deviation_m,
        worst_cross_track_m: worst.cross_track_m,
        pauses: answers.pauses(),
        behind_ms: behind.as_secs_f64() * 1e3,
        recorder_intact_bytes: link
            .and_then(|mut link| link.recorder(LOOKING))
            .map(|(_, intact_bytes)| intact_bytes),
    })
}

/// One step: what has come is heard, and what is to be reported goes to the autopilot. A connection that breaks is dropped and counted.
fn hear_and_advance<A: Airframe>(
    flight: &mut Flight<A>,
    link: &mut Option<Link>,
    answers: &mut Answers,
    lost: &mut u32,
) -> io::Result<Option<Report>> {
    let mut broken = false;
    if let Some(link) = link.as_ref() {
        loop {
            match link.heard() {
                Ok(Some((at, Message::Setpoint { time_ms, velocity }))) => {
                    answers.came(at, time_ms, now_ms());
                    flight.heard(time_ms, velocity);
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
    }
    let report = flight.advance()?;
    if let (Some(report), Some(link)) = (&report, link.as_mut()) {
        answers.asked(report.time_ms, Instant::now());
        let (place, velocity) = (report.state.place, report.state.velocity);
        let message = Message::Position { time_ms: report.time_ms, place, velocity };
        broken |= link.send(message).is_err();
    }
    if broken {
        *link = None;
        *lost += 1;
        answers.forget();
    }
    Ok(report)
}

/// The worst of some reports, in metres.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    deviation_m: f64,
    cross_track_m: f64,
}

impl Errors {
    fn with(self, report: &Report) -> Self {
        Self {
            deviation_m: self.deviation_m.max(report.deviation_m),
            cross_track_m: self.cross_track_m.max(report.cross_track_m),
        }
    }
}

/// Those that hear how the vehicle flies. What they do not take is lost.
struct Observed(Vec<(UdpSocket, SocketAddr)>);

impl Observed {
    fn new(observers: &[SocketAddr]) -> io::Result<Self> {
        let bound = |to: &SocketAddr| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            Ok((UdpSocket::bind(any)?, *to))
        };
        observers.iter().map(bound).collect::<io::Result<_>>().map(Self)
    }

    fn tell(&self, report: &Report) {
        let Report { time_ms, state, reference, .. } = *report;
        let messages = [
            Message::Position { time_ms, place: state.place, velocity: state.velocity },
            Message::Reference { time_ms, place: reference },
            Message::CrossTrack { metres: report.cross_track_m as f32 },
        ];
        // Until it has caught up with its orbit, what it is off by is its start, and nobody's absence.
        let told = if time_ms < CAUGHT_UP_MS { &messages[..1] } else { &messages[..] };
        for (socket, to) in &self.0 {
            // All in one datagram, as telemetry radios send them.
            let mut outgoing = Outgoing::over(Vec::with_capacity(160));
            if told.iter().all(|message| outgoing.send(*message).is_ok()) {
                let _ = socket.send_to(&outgoing.into_inner(), to);
            }
        }
    }
}

fn told(report: &Report, worst: Errors, answers: &mut Answers, offboard_lost: bool) -> Told {
    let parts = |ned: Ned| [ned.north, ned.east, ned.down];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Told {
        at_ms: now_ms(),
        place_m: parts(report.state.place),
        velocity_m_s: parts(report.state.velocity),
        deviation_m: worst.deviation_m,
        cross_track_m: worst.cross_track_m,
        round_trip_ms: answers.round_trip().map(ms),
        smoothed_round_trip_ms: answers.smoothed().map(ms),
        silence_ms: ms(answers.silence()),
        pause_ms: ms(answers.take_longest_pause()),
        offboard_lost,
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
