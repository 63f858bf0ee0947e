//! The vehicle: a quadcopter that JSBSim flies in real time, with the control loops of PX4 around it.

pub mod answers;
pub mod cascade;
pub mod flight;
pub mod jsbsim;
pub mod link;
pub mod live;
pub mod offboard;

use std::io;

use crate::ned::Ned;

/// How the vehicle is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct State {
    /// Where, in the local frame.
    pub place: Ned,
    /// How fast.
    pub velocity: Ned,
    /// Its attitude, in radians, and how fast it yaws, in radians per second.
    pub attitude: Attitude,
}

/// An attitude.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Attitude {
    /// Roll, to the right, in radians.
    pub roll: f64,
    /// Pitch, up, in radians.
    pub pitch: f64,
    /// Yaw, from north to the east, in radians, from -π to π.
    pub yaw: f64,
    /// How fast it yaws, in radians per second.
    pub yaw_rate: f64,
}

/// What the rate loop and the motors are told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Controls {
    /// Roll rate, -1 to 1.
    pub aileron: f64,
    /// Pitch rate, -1 to 1.
    pub elevator: f64,
    /// Yaw rate, -1 to 1.
    pub rudder: f64,
    /// Thrust, -1 to 1.
    pub throttle: f64,
}

/// What flies.
pub trait Airframe {
    /// How it is.
    fn state(&self) -> State;

    /// Flies for one step of [`STEP_S`].
    ///
    /// # Errors
    /// It flies no more.
    fn step(&mut self, controls: Controls) -> io::Result<State>;
}

/// A step's length, in seconds.
pub const STEP_S: f64 = 0.004;
