//! The vehicle that carries this host, heard over MAVLink 2 as a ground station hears it: where it is, by which radio cell, and how far
//! from where it ought to be.

mod track;

use std::net::SocketAddr;
use std::time::Duration;

use mose_flight::ned::Ned;
use mose_flight::wire;
use mose_pam::{Metres, MetresPerSec};
use mose_protocol::agent::{Heading, Position, Radio};
use mose_protocol::flight::{FlightError, FlightReport, FlightTimes};
use mose_protocol::{HostName, Refusal, RefusalCode, Timestamp};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::place::Place;
use track::Track;

/// The longest datagram that is read, in bytes: no network hands on a larger one whole, and a message has at most 280.
const LONGEST: usize = 2048;

/// What begins every message of MAVLink 2.
const BEGIN: u8 = 0xFD;

/// Below this speed, in metres per second, a vehicle stands still: its position is not more exact.
const STILL: f64 = 0.1;

/// How long a socket that fails is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A vehicle that tells of itself.
pub struct Vehicle {
    host: HostName,
    socket: UdpSocket,
    /// Where the origin of its local frame is.
    origin: Place,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    track: Track,
    /// Datagrams that were no MAVLink 2.
    passed_over: u64,
}

impl Vehicle {
    /// Listens for the vehicle that carries `host`.
    ///
    /// # Errors
    /// Where the address is taken, or none of this host's.
    pub async fn listen(host: HostName, at: SocketAddr, origin: Place) -> Result<Self, Refusal> {
        let socket = UdpSocket::bind(at).await.map_err(|error| {
            Refusal::new(
                RefusalCode::Failed,
                format!("the vehicle cannot be listened for on UDP {at}: {error}"),
                "give --mavlink an address of this host and a port that no other program listens on (`ss -ulpn` names it)",
            )
        })?;
        Ok(Self { host, socket, origin, heard: Mutex::default() })
    }

    /// Where it is listened for.
    ///
    /// # Errors
    /// The socket is not usable.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes in what it tells, for ever.
    pub(crate) async fn attend(&self) {
        // One byte more shows that a datagram is too long.
        let mut datagram = [0; LONGEST + 1];
        loop {
            match self.socket.recv(&mut datagram).await {
                Ok(length) => self.take(&datagram[..length], Instant::now(), Timestamp::now()),
                Err(error) => {
                    tracing::warn!(%error, "the vehicle cannot be heard now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(&self, datagram: &[u8], now: Instant, at: Timestamp) {
        let messages = if datagram.len() > LONGEST { Vec::new() } else { wire::datagram(datagram) };
        let mut heard = self.heard.lock();
        // Most messages of a vehicle are about other things.
        if messages.is_empty() && (datagram.len() > LONGEST || datagram.first() != Some(&BEGIN)) {
            heard.passed_over += 1;
            if heard.passed_over.is_power_of_two() {
                tracing::warn!(
                    count = heard.passed_over,
                    "what came for the vehicle's port is no MAVLink 2, and is passed over"
                );
            }
        }
        for message in messages {
            heard.track.take(message, now, at);
        }
    }

    /// Where it is.
    pub(crate) fn position(&self, now: Instant) -> Option<Position> {
        let (place, velocity) = self.heard.lock().track.position(now)?;
        Some(on_the_plane(self.origin, place, velocity))
    }

    /// What its modem says of the radio.
    pub(crate) fn radio(&self, now: Instant) -> Option<Radio> {
        self.heard.lock().track.radio(now)
    }

    /// How far it is from where it ought to be.
    pub(crate) fn flight(&self, now: Instant) -> Option<FlightError> {
        self.heard.lock().track.flight(now)
    }

    /// How it flew at some times.
    pub(crate) fn flown(&self, times: &FlightTimes) -> Option<FlightReport> {
        let flown = self.heard.lock().track.flown(times)?;
        Some(FlightReport {
            host: self.host.clone(),
            worst: flown.worst,
            undisturbed: flown.undisturbed,
            watched_ms: flown.watched_ms,
        })
    }
}

/// A place of the vehicle's local frame on the testbed's plane.
fn on_the_plane(origin: Place, place: Ned, velocity: Ned) -> Position {
    let speed = velocity.horizontal();
    let (heading, speed) = if speed < STILL {
        (0.0, 0.0)
    } else {
        (velocity.east.atan2(velocity.north).to_degrees().rem_euclid(360.0), speed)
    };
    Position {
        x: Metres(origin.east + place.east),
        y: Metres(origin.north + place.north),
        // The remainder of a hair's breadth below zero is 360 itself.
        heading: Heading(if heading < 360.0 { heading } else { 0.0 }),
        speed: MetresPerSec(speed),
    }
}

#[cfg(test)]
mod tests;
