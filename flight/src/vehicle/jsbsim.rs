//! JSBSim's F450 quadcopter: its rate loop, motors, propellers, aerodynamics and motion with six degrees of freedom, in a Python process
//! of its own that is told what to do at every step.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Airframe, Attitude, Controls, STEP_S, State};
use crate::ned::Ned;

/// The program.
const PROGRAM: &str = include_str!("f450.py");

/// The numbers of a state.
const NUMBERS: usize = 10;

/// A quadcopter in the air.
#[derive(Debug)]
pub struct F450 {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    state: State,
}

impl F450 {
    /// Hovers at a height, in metres.
    ///
    /// # Errors
    /// `python` cannot be run, or has no JSBSim: it says so on the standard error.
    pub fn at(python: &str, height_m: f64) -> io::Result<Self> {
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM, &STEP_S.to_string(), &height_m.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (to, from) = pipes.ok_or_else(|| io::Error::other("the simulator has no pipes"))?;
        let mut flying = Self { child, to, from, state: State::default() };
        flying.read()?;
        Ok(flying)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; NUMBERS * 8];
        self.from.read_exact(&mut bytes).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("JSBSim has ended ({error}); it needs Python's package jsbsim"),
            )
        })?;
        let mut numbers = [0.0; NUMBERS];
        for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
            *number = f64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        let [north, east, down, v_north, v_east, v_down, roll, pitch, yaw, yaw_rate] = numbers;
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(io::Error::other("JSBSim tells what is no number: the vehicle has crashed"));
        }
        self.state = State {
            place: Ned::new(north, east, down),
            velocity: Ned::new(v_north, v_east, v_down),
            attitude: Attitude { roll, pitch, yaw, yaw_rate },
        };
        Ok(())
    }
}

impl Airframe for F450 {
    fn state(&self) -> State {
        self.state
    }

    fn step(&mut self, controls: Controls) -> io::Result<State> {
        let Controls { aileron, elevator, rudder, throttle } = controls;
        let mut bytes = [0; 32];
        for (place, number) in bytes.chunks_exact_mut(8).zip([aileron, elevator, rudder, throttle]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.to.write_all(&bytes)?;
        self.read()?;
        Ok(self.state)
    }
}

impl Drop for F450 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
