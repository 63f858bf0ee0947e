//! The messages of MAVLink 2 (dialect *common*) that vehicle and autopilot exchange.

use std::io::{self, Read, Write};

use mavlink::dialects::common::{
    CELLULAR_STATUS_DATA, LOCAL_POSITION_NED_DATA, LOG_ENTRY_DATA, MavFrame, MavMessage,
    NAV_CONTROLLER_OUTPUT_DATA, POSITION_TARGET_LOCAL_NED_DATA, PositionTargetTypemask,
    SET_POSITION_TARGET_LOCAL_NED_DATA,
};
use mavlink::{MavHeader, MavlinkReader, MavlinkVersion};

use crate::ned::Ned;

/// The vehicle's identity: its flight controller (`MAV_COMP_ID_AUTOPILOT1`).
const VEHICLE: (u8, u8) = (1, 1);

/// The vehicle's modem (`MAV_COMP_ID_TELEMETRY_RADIO`).
const MODEM: (u8, u8) = (1, 68);

/// The autopilot's: an onboard computer (`MAV_COMP_ID_ONBOARD_COMPUTER`), wherever it is.
const AUTOPILOT: (u8, u8) = (2, 191);

/// `SET_POSITION_TARGET_LOCAL_NED.type_mask`: all but the velocity is ignored.
const VELOCITY_ONLY: u16 = 0x0DC7;

/// `POSITION_TARGET_LOCAL_NED.type_mask`: all but the position is ignored.
const PLACE_ONLY: u16 = 0x0DF8;

/// Whether a mask leaves the three numbers that begin with this bit valid.
const fn valid(mask: PositionTargetTypemask, first: u16) -> bool {
    mask.bits() & (0b111 * first) == 0
}

/// `CELLULAR_STATUS.quality` of a signal that nobody knows.
const UNKNOWN: u8 = u8::MAX;

/// The messages of a datagram that are understood. What is damaged is passed over.
#[must_use]
pub fn datagram(bytes: &[u8]) -> Vec<Message> {
    let mut incoming = Incoming::over(bytes);
    std::iter::from_fn(|| incoming.read().ok()).collect()
}

/// What is understood of what comes; all else is passed over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Message {
    /// `LOCAL_POSITION_NED`: where the vehicle is.
    Position {
        /// When, in milliseconds since it started.
        time_ms: u32,
        /// Where.
        place: Ned,
        /// How fast.
        velocity: Ned,
    },
    /// `SET_POSITION_TARGET_LOCAL_NED`: the velocity that it is to fly.
    Setpoint {
        /// The time of the position that it answers.
        time_ms: u32,
        /// The velocity.
        velocity: Ned,
    },
    /// `POSITION_TARGET_LOCAL_NED`: where the vehicle ought to be.
    Reference {
        /// When, in milliseconds since it started.
        time_ms: u32,
        /// Where.
        place: Ned,
    },
    /// `NAV_CONTROLLER_OUTPUT`: how far it is from its path.
    CrossTrack {
        /// To the nearest point of the path, in metres.
        metres: f32,
    },
    /// `CELLULAR_STATUS`: the modem's cell.
    Cell {
        /// The location area code (`lac`).
        area: u16,
        /// How well it is heard, in percent.
        signal_percent: Option<u8>,
    },
    /// `LOG_REQUEST_LIST`: what the flight recorder holds is asked for.
    AskLog,
    /// `LOG_ENTRY`: what it holds.
    Log {
        /// Entries written, modulo 65 536.
        written: u16,
        /// Bytes that are as they were written.
        intact: u32,
    },
}

/// Reads messages.
pub struct Incoming<R>(MavlinkReader<R>);

impl<R: Read> Incoming<R> {
    /// From a stream. What is damaged on it is passed over.
    pub fn over(stream: R) -> Self {
        Self(MavlinkReader::new(stream))
    }

    /// The next message that is understood.
    ///
    /// # Errors
    /// The stream has ended, or fails.
    pub fn read(&mut self) -> io::Result<Message> {
        loop {
            match self.0.read_message::<MavMessage>(MavlinkVersion::V2) {
                Ok((_, message)) => {
                    if let Some(message) = understood(&message) {
                        return Ok(message);
                    }
                }
                Err(mavlink::error::MessageReadError::Io(error)) => return Err(error),
                Err(mavlink::error::MessageReadError::Parse(_)) => {}
            }
        }
    }
}

fn understood(message: &MavMessage) -> Option<Message> {
    let ned = |x: f32, y: f32, z: f32| {
        let ned = Ned::new(x.into(), y.into(), z.into());
        ned.is_finite().then_some(ned)
    };
    Some(match message {
        MavMessage::LOCAL_POSITION_NED(at) => Message::Position {
            time_ms: at.time_boot_ms,
            place: ned(at.x, at.y, at.z)?,
            velocity: ned(at.vx, at.vy, at.vz)?,
        },
        MavMessage::SET_POSITION_TARGET_LOCAL_NED(to) if valid(to.type_mask, 1 << 3) => {
            Message::Setpoint { time_ms: to.time_boot_ms, velocity: ned(to.vx, to.vy, to.vz)? }
        }
        MavMessage::POSITION_TARGET_LOCAL_NED(to) if valid(to.type_mask, 1) => {
            Message::Reference { time_ms: to.time_boot_ms, place: ned(to.x, to.y, to.z)? }
        }
        MavMessage::NAV_CONTROLLER_OUTPUT(out) if out.xtrack_error.is_finite() => {
            Message::CrossTrack { metres: out.xtrack_error.abs() }
        }
        MavMessage::CELLULAR_STATUS(cell) => {
            let signal_percent = Some(cell.quality).filter(|quality| *quality != UNKNOWN);
            Message::Cell { area: cell.lac, signal_percent: signal_percent.map(|percent| percent.min(100)) }
        }
        MavMessage::LOG_REQUEST_LIST(_) => Message::AskLog,
        MavMessage::LOG_ENTRY(log) => Message::Log { written: log.last_log_num, intact: log.size },
        _ => return None,
    })
}

/// Writes messages, numbered.
pub struct Outgoing<W> {
    stream: W,
    sequence: u8,
}

impl<W: Write> Outgoing<W> {
    /// To a stream.
    pub const fn over(stream: W) -> Self {
        Self { stream, sequence: 0 }
    }

    /// The stream.
    pub fn into_inner(self) -> W {
        self.stream
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The stream fails.
    pub fn send(&mut self, message: Message) -> io::Result<()> {
        let ((system_id, component_id), message) = framed(message);
        let header = MavHeader { system_id: system_id.into(), component_id, sequence: self.sequence };
        self.sequence = self.sequence.wrapping_add(1);
        let mut frame = Vec::with_capacity(96);
        mavlink::write_v2_msg(&mut frame, header, &message).map_err(io::Error::other)?;
        self.stream.write_all(&frame)
    }
}

fn framed(message: Message) -> ((u8, u8), MavMessage) {
    match message {
        Message::Position { time_ms, place, velocity } => {
            let at = LOCAL_POSITION_NED_DATA {
                time_boot_ms: time_ms,
                x: place.north as f32,
                y: place.east as f32,
                z: place.down as f32,
                vx: velocity.north as f32,
                vy: velocity.east as f32,
                vz: velocity.down as f32,
            };
            (VEHICLE, MavMessage::LOCAL_POSITION_NED(at))
        }
        Message::Setpoint { time_ms, velocity } => {
            let to = SET_POSITION_TARGET_LOCAL_NED_DATA {
                time_boot_ms: time_ms,
                vx: velocity.north as f32,
                vy: velocity.east as f32,
                vz: velocity.down as f32,
                type_mask: PositionTargetTypemask::from_bits_truncate(VELOCITY_ONLY),
                target_system: VEHICLE.0,
                target_component: VEHICLE.1,
                coordinate_frame: MavFrame::MAV_FRAME_LOCAL_NED,
                ..Default::default()
            };
            (AUTOPILOT, MavMessage::SET_POSITION_TARGET_LOCAL_NED(to))
        }
        Message::Reference { time_ms, place } => {
            let to = POSITION_TARGET_LOCAL_NED_DATA {
                time_boot_ms: time_ms,
                x: place.north as f32,
                y: place.east as f32,
                z: place.down as f32,
                type_mask: PositionTargetTypemask::from_bits_truncate(PLACE_ONLY),
                coordinate_frame: MavFrame::MAV_FRAME_LOCAL_NED,
                ..Default::default()
            };
            (VEHICLE, MavMessage::POSITION_TARGET_LOCAL_NED(to))
        }
        Message::CrossTrack { metres } => {
            let out = NAV_CONTROLLER_OUTPUT_DATA { xtrack_error: metres, ..Default::default() };
            (VEHICLE, MavMessage::NAV_CONTROLLER_OUTPUT(out))
        }
        Message::Cell { area, signal_percent } => {
            let quality = signal_percent.unwrap_or(UNKNOWN);
            (
                MODEM,
                MavMessage::CELLULAR_STATUS(CELLULAR_STATUS_DATA {
                    lac: area,
                    quality,
                    ..Default::default()
                }),
            )
        }
        Message::AskLog => (VEHICLE, MavMessage::LOG_REQUEST_LIST(Default::default())),
        Message::Log { written, intact } => {
            let log =
                LOG_ENTRY_DATA { last_log_num: written, num_logs: 1, size: intact, ..Default::default() };
            (AUTOPILOT, MavMessage::LOG_ENTRY(log))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Message; 8] = [
        Message::Position {
            time_ms: 1500,
            place: Ned::new(1.5, -2.25, -20.0),
            velocity: Ned::new(4.5, 0.25, 0.0),
        },
        Message::Setpoint { time_ms: 1500, velocity: Ned::new(0.0, 5.0, -0.5) },
        Message::Reference { time_ms: 1500, place: Ned::new(2.0, -2.5, -20.0) },
        Message::CrossTrack { metres: 0.25 },
        Message::Cell { area: 2, signal_percent: Some(64) },
        Message::Cell { area: 1, signal_percent: None },
        Message::AskLog,
        Message::Log { written: 12, intact: 24 << 20 },
    ];

    fn bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut outgoing = Outgoing::over(&mut bytes);
        ALL.iter().for_each(|message| outgoing.send(*message).unwrap());
        bytes
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let bytes = bytes();
        let mut incoming = Incoming::over(&bytes[..]);
        for message in ALL {
            assert_eq!(incoming.read().unwrap(), message);
        }
        assert_eq!(incoming.read().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_damaged_message_and_noise_are_passed_over_and_those_after_are_read() {
        let mut bytes = [&[0xfd, 0x00, 0x13][..], &bytes()].concat();
        // Within the first message's content.
        bytes[3 + 14] ^= 0xff;
        bytes.extend([0; 300]);
        let mut incoming = Incoming::over(&bytes[..]);
        for message in &ALL[1..] {
            assert_eq!(incoming.read().unwrap(), *message);
        }
        assert!(incoming.read().is_err());
    }

    #[test]
    fn what_is_no_number_is_not_understood() {
        let at = LOCAL_POSITION_NED_DATA { x: f32::NAN, ..Default::default() };
        assert_eq!(understood(&MavMessage::LOCAL_POSITION_NED(at)), None);
    }
}
