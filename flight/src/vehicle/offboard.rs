//! What a vehicle does with velocity setpoints, and without: PX4's rules for offboard control.
//!
//! Where no setpoint has come for `COM_OF_LOSS_T`, PX4 takes the control away and does what `COM_OBL_RC_ACT` says, by default here 5,
//! *hold*: it brakes at `MPC_ACC_HOR` and keeps its place. It goes back to offboard control once setpoints have come at more than 2 Hz for
//! a second.

use crate::ned::Ned;

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// For how long a setpoint holds, in seconds: `COM_OF_LOSS_T`.
    pub loss_s: f64,
    /// How hard the vehicle brakes, in m/s²: `MPC_ACC_HOR`.
    pub brake_m_s2: f64,
    /// The height that is kept while nobody commands, in metres.
    pub height_m: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { loss_s: 1.0, brake_m_s2: 3.0, height_m: 20.0 }
    }
}

/// The longest pause between setpoints that still counts as more than 2 Hz, in seconds, and for how long they have to come so.
const PAUSE_S: f64 = 0.5;
const STEADY_S: f64 = 1.0;

/// How fast a place is gone back to, per second: `MPC_XY_P`, `MPC_Z_P`.
const GAIN: f64 = 0.95;

/// What the vehicle is at.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// It hovers where it is: no setpoint has come yet.
    Waiting,
    /// It flies the last setpoint.
    Offboard,
    /// It slows down, in the direction in which it flew: north and east of a unit's length, and how fast it still is.
    Braking { direction: (f64, f64), speed: f64 },
    /// It keeps this place.
    Holding(Ned),
}

/// A vehicle's side of offboard control. All times are the vehicle's own, in seconds.
#[derive(Debug, Clone)]
pub struct Offboard {
    rules: Rules,
    mode: Mode,
    setpoint: Ned,
    /// When the last setpoint came, and since when they have come without a pause.
    heard: Option<(f64, f64)>,
    losses: u32,
}

impl Offboard {
    /// A vehicle that waits for its first setpoint.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        let setpoint = Ned::new(0.0, 0.0, 0.0);
        Self { rules, mode: Mode::Waiting, setpoint, heard: None, losses: 0 }
    }

    /// A setpoint has come. One that is no number is not heard.
    pub fn heard(&mut self, now: f64, setpoint: Ned) {
        if !setpoint.is_finite() {
            return;
        }
        self.setpoint = setpoint;
        let since = match self.heard {
            Some((last, since)) if now - last <= PAUSE_S => since,
            _ => now,
        };
        self.heard = Some((now, since));
        if self.mode == Mode::Waiting || self.is_lost() && now - since >= STEADY_S {
            self.mode = Mode::Offboard;
        }
    }

    /// The velocity to fly for the next `step` seconds.
    pub fn command(&mut self, now: f64, step: f64, place: Ned, velocity: Ned) -> Ned {
        if self.mode == Mode::Offboard && self.silence(now).is_some_and(|silence| silence > self.rules.loss_s)
        {
            self.losses += 1;
            let speed = velocity.horizontal();
            let direction =
                if speed > 0.0 { (velocity.north / speed, velocity.east / speed) } else { (0.0, 0.0) };
            self.mode = Mode::Braking { direction, speed };
        }
        let vertical = GAIN * (-self.rules.height_m - place.down);
        match &mut self.mode {
            Mode::Waiting => Ned::new(0.0, 0.0, vertical),
            Mode::Offboard => self.setpoint,
            Mode::Braking { direction, speed } => {
                *speed -= self.rules.brake_m_s2 * step;
                if *speed > 0.0 {
                    return Ned::new(direction.0 * *speed, direction.1 * *speed, vertical);
                }
                self.mode = Mode::Holding(place);
                Ned::new(0.0, 0.0, vertical)
            }
            Mode::Holding(at) => {
                let back = (*at - place) * GAIN;
                Ned::new(back.north, back.east, vertical)
            }
        }
    }

    /// Whether the vehicle has taken the control away from whoever sends setpoints.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        matches!(self.mode, Mode::Braking { .. } | Mode::Holding(_))
    }

    /// How often it has.
    #[must_use]
    pub const fn losses(&self) -> u32 {
        self.losses
    }

    /// For how long no setpoint has come, in seconds; none before the first.
    #[must_use]
    pub fn silence(&self, now: f64) -> Option<f64> {
        self.heard.map(|(last, _)| now - last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: f64 = 0.004;
    const NORTH: Ned = Ned::new(5.0, 0.0, 0.0);

    /// A vehicle that flies exactly what it is commanded, told `NORTH` at 50 Hz but from `silent` until `again`; where it is after each
    /// step, and the vehicle.
    fn flown(silent: f64, again: f64, until: f64) -> (Vec<(f64, Ned)>, Offboard) {
        let mut offboard = Offboard::new(Rules::default());
        let (mut place, mut velocity) = (Ned::new(0.0, 0.0, -20.0), Ned::default());
        let mut flown = Vec::new();
        for step in 0..(until / STEP) as u32 {
            let now = f64::from(step) * STEP;
            if step % 5 == 0 && !(silent..again).contains(&now) {
                offboard.heard(now, NORTH);
            }
            velocity = offboard.command(now, STEP, place, velocity);
            place = place + velocity * STEP;
            flown.push((now, place));
        }
        (flown, offboard)
    }

    #[test]
    fn a_silence_within_the_limit_changes_nothing() {
        let (flown, offboard) = flown(2.0, 2.98, 5.0);
        let (now, place) = flown.last().copied().unwrap();
        assert!((place.north - 5.0 * (now + STEP)).abs() < 1e-6, "{place:?} after {now}");
        assert_eq!(offboard.losses(), 0);
    }

    #[test]
    fn a_longer_one_has_it_brake_and_keep_its_place_and_come_back_after_a_steady_second() {
        let (flown, offboard) = flown(2.0, 5.0, 8.0);
        let north = |at: f64| flown.iter().find(|(now, _)| *now >= at).unwrap().1.north;
        // It flies on for a second, and brakes from 5 m/s at 3 m/s²: 25 / 6 m more.
        assert!((north(4.9) - (15.0 + 25.0 / 6.0)).abs() < 0.15, "{}", north(4.9));
        assert!((north(5.9) - north(4.9)).abs() < 1e-3, "it holds until setpoints have come for a second");
        assert!((north(7.0) - north(6.05) - 5.0 * 0.95).abs() < 0.1, "then it flies on");
        assert_eq!((offboard.losses(), offboard.is_lost()), (1, false));
    }

    #[test]
    fn setpoints_that_come_too_rarely_do_not_bring_it_back() {
        let mut offboard = Offboard::new(Rules::default());
        offboard.heard(0.0, NORTH);
        offboard.command(1.5, STEP, Ned::default(), NORTH);
        assert!(offboard.is_lost());
        for second in 0..10 {
            offboard.heard(2.0 + f64::from(second) * 0.6, NORTH);
            assert!(offboard.is_lost(), "after {second}");
        }
    }

    #[test]
    fn before_the_first_setpoint_it_hovers_at_its_height_and_what_is_no_number_is_not_heard() {
        let mut offboard = Offboard::new(Rules::default());
        offboard.heard(0.0, Ned::new(f64::NAN, 0.0, 0.0));
        let command = offboard.command(1.0, STEP, Ned::new(3.0, 4.0, -10.0), Ned::default());
        assert_eq!(command, Ned::new(0.0, 0.0, -9.5));
        assert_eq!(offboard.silence(1.0), None);
    }
}
