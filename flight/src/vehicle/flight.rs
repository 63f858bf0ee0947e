//! One flight, a step at a time: what the vehicle hears, does and reports. It knows no clock but its own steps.

use std::io;

use super::cascade::Cascade;
use super::offboard::{Offboard, Rules};
use super::{Airframe, STEP_S, State};
use crate::ned::Ned;
use crate::orbit::Orbit;

/// Of how many steps one is reported: 50 Hz.
pub const REPORTED: u64 = 5;

/// For how long the vehicle hovers before its clock begins, in steps: 4 s.
const SETTLING: u64 = 1000;

/// A vehicle in the air.
pub struct Flight<A> {
    airframe: A,
    cascade: Cascade,
    offboard: Offboard,
    orbit: Orbit,
    steps: u64,
    counts: Counts,
}

/// What was reported, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Reports sent.
    pub reported: u64,
    /// Reports that were answered, in their order.
    pub answered: u64,
    /// Answers to a report that another one was due for: something was lost, repeated or out of order before them.
    pub out_of_order: u64,
}

/// A report, and how far the vehicle is from where it ought to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// When, in milliseconds since the flight began.
    pub time_ms: u32,
    /// How the vehicle is.
    pub state: State,
    /// Where it ought to be.
    pub reference: Ned,
    /// From the moving reference, in metres.
    pub deviation_m: f64,
    /// From the orbit's nearest point, in metres.
    pub cross_track_m: f64,
}

impl<A: Airframe> Flight<A> {
    /// Lets a vehicle hover until it is steady.
    ///
    /// # Errors
    /// It does not fly.
    pub fn begin(airframe: A, orbit: Orbit, rules: Rules) -> io::Result<Self> {
        let mut flight = Self {
            airframe,
            cascade: Cascade::default(),
            offboard: Offboard::new(rules),
            orbit,
            steps: 0,
            counts: Counts::default(),
        };
        for _ in 0..SETTLING {
            flight.fly()?;
        }
        Ok(flight)
    }

    /// A setpoint has come: the answer to the report of `time_ms`. It is flown whichever it is: the newest counts.
    pub fn heard(&mut self, time_ms: u32, setpoint: Ned) {
        let due = self.counts.answered + self.counts.out_of_order;
        if u64::from(time_ms) == due * REPORTED * (STEP_S * 1e3) as u64 {
            self.counts.answered += 1;
        } else {
            self.counts.out_of_order += 1;
        }
        self.offboard.heard(self.seconds(), setpoint);
    }

    /// Flies a step; every [`REPORTED`]th is to be reported first.
    ///
    /// # Errors
    /// It flies no more.
    pub fn advance(&mut self) -> io::Result<Option<Report>> {
        let report = self.steps.is_multiple_of(REPORTED).then(|| self.report());
        self.counts.reported += u64::from(report.is_some());
        self.fly()?;
        self.steps += 1;
        Ok(report)
    }

    /// Hovers for a step, before the flight's clock begins.
    ///
    /// # Errors
    /// It flies no more.
    pub fn hover(&mut self) -> io::Result<()> {
        self.fly()
    }

    fn fly(&mut self) -> io::Result<()> {
        let state = self.airframe.state();
        let wanted = self.offboard.command(self.seconds(), STEP_S, state.place, state.velocity);
        let controls = self.cascade.controls(wanted, &state);
        self.airframe.step(controls).map(drop)
    }

    fn report(&self) -> Report {
        let (state, seconds) = (self.airframe.state(), self.seconds());
        Report {
            time_ms: (seconds * 1e3).round() as u32,
            state,
            reference: self.orbit.at(seconds).0,
            deviation_m: self.orbit.deviation(state.place, seconds),
            cross_track_m: self.orbit.cross_track(state.place),
        }
    }

    /// For how long it has flown, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.steps as f64 * STEP_S
    }

    /// What was reported and answered.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// How often the vehicle has taken the control away, and whether it has now.
    #[must_use]
    pub const fn offboard(&self) -> &Offboard {
        &self.offboard
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::{Attitude, Controls};
    use super::*;
    use crate::autopilot::Autopilot;
    use crate::orbit::PAPER;
    use crate::recorder::Recorder;
    use crate::wire::Message;

    /// A point of mass whose attitude follows the sticks at once, and that is not slowed down by air.
    struct Ideal(State);

    impl Airframe for Ideal {
        fn state(&self) -> State {
            self.0
        }

        fn step(&mut self, controls: Controls) -> io::Result<State> {
            let Attitude { roll, pitch, .. } = self.0.attitude;
            let thrust = controls.throttle / 0.49 * 9.81;
            let lift = thrust * roll.cos() * pitch.cos();
            let pull = Ned::new(-thrust * pitch.sin() * roll.cos(), thrust * roll.sin(), 9.81 - lift);
            self.0.velocity = self.0.velocity + pull * STEP_S;
            self.0.place = self.0.place + self.0.velocity * STEP_S;
            self.0.attitude.roll += controls.aileron * 5.0 * STEP_S;
            self.0.attitude.pitch += controls.elevator * 5.0 * STEP_S;
            Ok(self.0)
        }
    }

    /// Flies under an autopilot that stands still for a time, 20 s after the start, and then answers all that has waited; the worst
    /// deviation before and after that moment, and the flight.
    fn flown(still_s: f64) -> (f64, f64, Flight<Ideal>) {
        let hovering = State { place: Ned::new(0.0, 0.0, -20.0), ..State::default() };
        let mut flight = Flight::begin(Ideal(hovering), PAPER, Rules::default()).unwrap();
        let mut autopilot = Autopilot::new(PAPER, Recorder::new(4096));
        let mut waiting = VecDeque::new();
        let (mut before, mut after) = (0.0_f64, 0.0_f64);
        while flight.seconds() < 45.0 {
            let now = flight.seconds();
            if let Some(report) = flight.advance().unwrap() {
                if now > 10.0 && now < 20.0 {
                    before = before.max(report.deviation_m);
                } else if now >= 20.0 {
                    after = after.max(report.deviation_m);
                }
                let State { place, velocity, .. } = report.state;
                waiting.push_back(Message::Position { time_ms: report.time_ms, place, velocity });
            }
            if !(20.0..20.0 + still_s).contains(&now) {
                for message in waiting.drain(..) {
                    if let Some(Message::Setpoint { time_ms, velocity }) = autopilot.answer(message) {
                        flight.heard(time_ms, velocity);
                    }
                }
            }
        }
        (before, after, flight)
    }

    #[test]
    fn it_stays_on_the_orbit_and_every_report_is_answered() {
        let (before, after, flight) = flown(0.0);
        assert!(before < 0.5 && after < 0.5, "{before} m, {after} m");
        let counts = flight.counts();
        assert_eq!((counts.reported, counts.answered, counts.out_of_order), (2250, 2250, 0));
        assert_eq!(flight.offboard().losses(), 0);
    }

    #[test]
    fn the_longer_the_autopilot_is_silent_the_further_it_goes_astray_and_offboard_is_lost_after_a_second() {
        let astray: Vec<f64> = [0.1, 0.9, 2.14, 3.63].map(|still| flown(still).1).into();
        assert!(astray.windows(2).all(|pair| pair[0] <= pair[1]), "{astray:?}");
        assert!(astray[1] < 1.0 && astray[2] > 1.5 && astray[3] > 8.0, "{astray:?}");
        let (_, _, flight) = flown(2.14);
        assert_eq!((flight.offboard().losses(), flight.offboard().is_lost()), (1, false));
        assert_eq!(flight.counts().out_of_order, 0, "what waited is answered late, and in its order");
    }

    #[test]
    fn an_answer_that_is_missing_or_comes_twice_is_counted() {
        let hovering = State { place: Ned::new(0.0, 0.0, -20.0), ..State::default() };
        let mut flight = Flight::begin(Ideal(hovering), PAPER, Rules::default()).unwrap();
        flight.heard(0, Ned::default());
        flight.heard(0, Ned::default());
        assert_eq!((flight.counts().answered, flight.counts().out_of_order), (1, 1));
    }
}
