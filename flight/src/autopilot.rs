//! The autopilot: hears where the vehicle is, and answers each report with the velocity to fly.
//!
//! All that it knows of time comes with the reports: for how long it stood still itself, as in a migration, makes no difference to where
//! it leads. Every report is answered, so that the vehicle can count what is missing.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::ned::Ned;
use crate::orbit::Orbit;
use crate::recorder::{Heard, Recorder};
use crate::wire::{Incoming, Message, Outgoing};

/// A vehicle whose clock is so far behind what it told before has started again, in milliseconds.
const STARTED_AGAIN_MS: u32 = 1000;

/// How long a vehicle may take nothing of what it is sent.
const DEAF: Duration = Duration::from_secs(60);

/// How long is waited after a connection could not be taken, as when there are too many.
const AGAIN: Duration = Duration::from_millis(100);

/// What leads a vehicle along an orbit.
#[derive(Debug)]
pub struct Autopilot {
    orbit: Orbit,
    /// When the orbit began and when the vehicle was heard last, by its clock, in milliseconds.
    times: Option<(u32, u32)>,
    recorder: Recorder,
}

impl Autopilot {
    /// One with a flight recorder.
    #[must_use]
    pub const fn new(orbit: Orbit, recorder: Recorder) -> Self {
        Self { orbit, times: None, recorder }
    }

    /// What a message is answered with, if with anything.
    pub fn answer(&mut self, message: Message) -> Option<Message> {
        match message {
            Message::Position { time_ms, place, velocity } => Some(self.lead(time_ms, place, velocity)),
            Message::AskLog => {
                let intact = u32::try_from(self.recorder.intact()).unwrap_or(u32::MAX);
                Some(Message::Log { written: self.recorder.written() as u16, intact })
            }
            Message::Setpoint { .. }
            | Message::Reference { .. }
            | Message::CrossTrack { .. }
            | Message::Cell { .. }
            | Message::Log { .. } => None,
        }
    }

    fn lead(&mut self, time_ms: u32, place: Ned, velocity: Ned) -> Message {
        let begun = match self.times {
            Some((begun, last)) if time_ms.saturating_add(STARTED_AGAIN_MS) >= last => begun,
            _ => time_ms,
        };
        self.times = Some((begun, time_ms));
        let seconds = f64::from(time_ms.saturating_sub(begun)) / 1e3;
        let setpoint = self.orbit.guide(place, seconds);
        self.recorder.record(&Heard { time_ms, place, velocity, setpoint });
        Message::Setpoint { time_ms, velocity: setpoint }
    }
}

/// Serves vehicles, each connection on a thread of its own.
///
/// # Errors
/// The listener's address cannot be told.
pub fn serve(listener: &TcpListener, autopilot: Autopilot) -> io::Result<()> {
    let autopilot = Arc::new(Mutex::new(autopilot));
    eprintln!("the autopilot listens on {}", listener.local_addr()?);
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("a vehicle's connection cannot be taken: {error}");
                std::thread::sleep(AGAIN);
                continue;
            }
        };
        let autopilot = autopilot.clone();
        std::thread::spawn(move || {
            if let Err(error) = lead(stream, &autopilot) {
                eprintln!("a vehicle has gone: {error}");
            }
        });
    }
}

/// Leads the vehicle of a connection until it ends.
fn lead(stream: TcpStream, autopilot: &Mutex<Autopilot>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(DEAF))?;
    let mut incoming = Incoming::over(stream.try_clone()?);
    let mut outgoing = Outgoing::over(stream);
    loop {
        let message = incoming.read()?;
        // One that panicked may have left its orbit half changed: no vehicle is to fly by that.
        let broken = |_| io::Error::other("the thread of another vehicle has panicked");
        let answer = autopilot.lock().map_err(broken)?.answer(message);
        if let Some(answer) = answer {
            outgoing.send(answer)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orbit::PAPER;

    fn autopilot() -> Autopilot {
        Autopilot::new(PAPER, Recorder::new(4096))
    }

    fn report(time_ms: u32, place: Ned) -> Message {
        Message::Position { time_ms, place, velocity: Ned::default() }
    }

    fn told(autopilot: &mut Autopilot, time_ms: u32, place: Ned) -> Ned {
        match autopilot.answer(report(time_ms, place)) {
            Some(Message::Setpoint { time_ms: of, velocity }) if of == time_ms => velocity,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_orbit_begins_with_the_first_report_and_goes_by_the_vehicles_time() {
        let mut autopilot = autopilot();
        let start = Ned::new(0.0, 0.0, -20.0);
        assert_eq!(told(&mut autopilot, 60_000, start), Ned::new(5.0, 0.0, 0.0));
        // A quarter later, where it should be; what lies between was never heard.
        let quarter = (std::f64::consts::PI * 5e3) as u32;
        let there = told(&mut autopilot, 60_000 + quarter, Ned::new(50.0, 50.0, -20.0));
        assert!((there - Ned::new(0.0, 5.0, 0.0)).horizontal() < 0.01, "{there:?}");
        // A report that was overtaken changes nothing; a vehicle that started again begins the orbit anew.
        told(&mut autopilot, 60_000 + quarter - 20, Ned::new(50.0, 50.0, -20.0));
        assert_eq!(told(&mut autopilot, 5, start), Ned::new(5.0, 0.0, 0.0));
    }

    #[test]
    fn it_tells_that_its_recorder_is_intact() {
        let mut autopilot = autopilot();
        told(&mut autopilot, 0, Ned::default());
        assert_eq!(autopilot.answer(Message::AskLog), Some(Message::Log { written: 1, intact: 4096 }));
        assert_eq!(autopilot.answer(Message::Log { written: 1, intact: 1 }), None);
    }

    #[test]
    fn it_leads_a_vehicle_over_tcp_and_the_next_one_after_that() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It serves until the test's process ends.
        std::thread::spawn(move || serve(&listener, autopilot()));
        for flight in 0..2 {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut incoming = Incoming::over(stream.try_clone().unwrap());
            let mut outgoing = Outgoing::over(stream);
            let (mut place, mut worst) = (Ned::new(0.0, 0.0, -20.0), 0.0_f64);
            for report in 0..500_u32 {
                let time_ms = flight * 100_000 + report * 20;
                let position = Message::Position { time_ms, place, velocity: Ned::default() };
                outgoing.send(position).unwrap();
                let Message::Setpoint { time_ms: of, velocity } = incoming.read().unwrap() else { panic!() };
                assert_eq!(of, time_ms, "each report is answered, in its order");
                place = place + velocity * 0.02;
                if flight == 0 {
                    worst = worst.max(PAPER.deviation(place, f64::from(report + 1) * 0.02));
                }
            }
            assert!(worst < 0.1, "{worst} m");
        }
    }
}
