//! From a velocity to what the motors' rate loop is told, as PX4 does it: velocity, acceleration, attitude, rate.

use super::{Controls, STEP_S, State};
use crate::ned::Ned;

/// Gains on the ground plane: PX4's `MPC_XY_VEL_P_ACC`, `_I_ACC` and `_D_ACC`.
const ACROSS: (f64, f64, f64) = (1.8, 0.4, 0.2);
/// And upwards: `MPC_Z_VEL_P_ACC` and `_I_ACC`.
const UPWARDS: (f64, f64) = (4.0, 2.0);
/// `MC_ROLL_P`, `MC_PITCH_P` and `MC_YAW_P`, per second.
const TILTING: f64 = 6.5;
const YAWING: f64 = 2.8;
/// The rate that a full stick means, in radians per second, in JSBSim's F450.
const FULL_STICK: f64 = 0.75;
/// `MPC_TILTMAX_AIR`: 45°, as a tangent.
const STEEPEST: f64 = 1.0;
/// The throttle with which the F450 hovers.
const HOVER: f64 = 0.49;
/// How much of a step's acceleration goes into the filtered one.
const FILTER: f64 = 0.1;
/// The most that the integrators hold, in m/s².
const HELD: (f64, f64) = (3.0, 6.0);
/// Standard gravity, in m/s².
const GRAVITY: f64 = 9.81;

/// The loops' memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cascade {
    before: Option<Ned>,
    acceleration: Ned,
    held: Ned,
}

impl Cascade {
    /// What to tell the rate loop for the next step, so that the vehicle comes to fly at the velocity `wanted`, its nose to the north.
    pub fn controls(&mut self, wanted: Ned, state: &State) -> Controls {
        let velocity = state.velocity;
        let before = self.before.replace(velocity).unwrap_or(velocity);
        self.acceleration =
            self.acceleration + ((velocity - before) * (1.0 / STEP_S) - self.acceleration) * FILTER;
        let missing = wanted - velocity;
        let (p, i, d) = ACROSS;
        self.held.north = (self.held.north + i * missing.north * STEP_S).clamp(-HELD.0, HELD.0);
        self.held.east = (self.held.east + i * missing.east * STEP_S).clamp(-HELD.0, HELD.0);
        self.held.down = (self.held.down + UPWARDS.1 * missing.down * STEP_S).clamp(-HELD.1, HELD.1);
        let lift = GRAVITY - (UPWARDS.0 * missing.down + self.held.down).clamp(-HELD.1, HELD.1);
        let across = (missing * p + self.held - self.acceleration * d).horizontally_within(lift * STEEPEST);

        let attitude = state.attitude;
        let (sin, cos) = attitude.yaw.sin_cos();
        let (forward, right) =
            (cos * across.north + sin * across.east, cos * across.east - sin * across.north);
        let pitch = -forward.atan2(lift);
        let roll = (right * pitch.cos()).atan2(lift);
        let stick = |wanted: f64, is: f64| (TILTING * (wanted - is) / FULL_STICK).clamp(-1.0, 1.0);
        let upright = (attitude.roll.cos() * attitude.pitch.cos()).max(0.5);
        Controls {
            aileron: stick(roll, attitude.roll),
            elevator: stick(pitch, attitude.pitch),
            rudder: (-YAWING * attitude.yaw).clamp(-1.0, 1.0),
            throttle: (HOVER * lift / GRAVITY / upright).clamp(-1.0, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Attitude;
    use super::*;

    fn controls(wanted: Ned, state: State) -> Controls {
        Cascade::default().controls(wanted, &state)
    }

    #[test]
    fn one_that_is_as_wanted_hovers() {
        let hovers = controls(Ned::default(), State::default());
        assert!((hovers.throttle - HOVER).abs() < 1e-9, "{hovers:?}");
        assert_eq!((hovers.aileron, hovers.elevator, hovers.rudder), (0.0, 0.0, 0.0));
    }

    #[test]
    fn it_tilts_to_where_it_is_to_fly() {
        let north = controls(Ned::new(5.0, 0.0, 0.0), State::default());
        assert!(north.elevator < -0.9 && north.aileron.abs() < 1e-9, "{north:?}: the nose goes down");
        let east = controls(Ned::new(0.0, 5.0, 0.0), State::default());
        assert!(east.aileron > 0.9 && east.elevator.abs() < 1e-9, "{east:?}");
        // Its nose to the east, north is to its left.
        let turned = State {
            attitude: Attitude { yaw: std::f64::consts::FRAC_PI_2, ..Attitude::default() },
            ..State::default()
        };
        let left = controls(Ned::new(5.0, 0.0, 0.0), turned);
        assert!(left.aileron < -0.9 && left.elevator.abs() < 1e-9 && left.rudder < 0.0, "{left:?}");
    }

    #[test]
    fn it_climbs_with_more_throttle_and_tilts_no_further_than_45_degrees() {
        assert!(controls(Ned::new(0.0, 0.0, -1.0), State::default()).throttle > HOVER);
        let mut state = State::default();
        state.attitude.pitch = -std::f64::consts::FRAC_PI_4;
        let far = controls(Ned::new(1000.0, 0.0, 0.0), state);
        assert!(far.elevator.abs() < 1e-9, "{far:?}: it is as steep as it may be");
    }
}
