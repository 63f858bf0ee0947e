//! A vehicle that tells of itself over a real socket.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;

use mose_flight::wire::{Message, Outgoing};
use mose_protocol::agent::Cell;
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// How long anything may take to be heard.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent's ear, and a vehicle's mouth.
struct Ear {
    vehicle: Arc<Vehicle>,
    mouth: UdpSocket,
    _attends: AbortOnDropHandle<()>,
}

impl Ear {
    async fn open() -> Self {
        let origin = Place { east: -50.0, north: 100.0 };
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let vehicle = Arc::new(Vehicle::listen("uav".parse().unwrap(), any, origin).await.unwrap());
        let mouth = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        mouth.connect(vehicle.address().unwrap()).unwrap();
        let attending = vehicle.clone();
        let _attends = AbortOnDropHandle::new(tokio::spawn(async move { attending.attend().await }));
        Self { vehicle, mouth, _attends }
    }

    /// Sends messages in one datagram.
    fn tell(&self, messages: &[Message]) {
        let mut datagram = Vec::new();
        let mut outgoing = Outgoing::over(&mut datagram);
        messages.iter().for_each(|message| outgoing.send(*message).unwrap());
        self.mouth.send(&datagram).unwrap();
    }

    async fn until<T>(&self, known: impl Fn(&Vehicle) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(told) = known(&self.vehicle) {
                return told;
            }
            assert!(begun.elapsed() < PATIENCE, "it was not heard");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn position(time_ms: u32, velocity: Ned) -> Message {
    Message::Position { time_ms, place: Ned::new(30.0, 40.0, -20.0), velocity }
}

#[tokio::test]
async fn a_vehicle_is_where_it_tells_on_the_plane_until_it_falls_silent() {
    let ear = Ear::open().await;
    assert_eq!(ear.vehicle.position(Instant::now()), None);
    let cell = Message::Cell { area: 7, signal_percent: Some(64) };
    ear.tell(&[position(20, Ned::new(-3.0, -4.0, 0.5)), cell]);
    let told = ear.until(|vehicle| vehicle.position(Instant::now())).await;
    assert_eq!((told.x, told.y, told.speed), (Metres(-10.0), Metres(130.0), MetresPerSec(5.0)));
    // To the south-west: 180° and the angle whose tangent is 4/3.
    assert!((told.heading.0 - 233.130).abs() < 1e-3, "{told:?}");
    let radio = ear.until(|vehicle| vehicle.radio(Instant::now())).await;
    assert_eq!(radio, Radio { cell: Cell(7), signal_percent: Some(64) });
    let later = Instant::now() + Duration::from_secs(3);
    assert_eq!((ear.vehicle.position(later), ear.vehicle.radio(later)), (None, None));
    // It comes back, and hovers.
    ear.tell(&[position(9000, Ned::new(0.01, -0.02, 0.0))]);
    let told = ear.until(|vehicle| vehicle.position(Instant::now()).filter(|told| told.speed.0 == 0.0)).await;
    assert_eq!((told.x, told.heading), (Metres(-10.0), Heading(0.0)));
}

#[tokio::test]
async fn how_it_flies_is_told_whichever_of_position_and_reference_comes_first() {
    let ear = Ear::open().await;
    let begin = Timestamp::now();
    ear.tell(&[Message::CrossTrack { metres: 0.25 }]);
    ear.tell(&[Message::Reference { time_ms: 20, place: Ned::new(30.0, 40.5, -20.0) }]);
    ear.tell(&[position(20, Ned::new(5.0, 0.0, 0.0))]);
    let deviation = |vehicle: &Vehicle| vehicle.flight(Instant::now()).map(|error| error.deviation_m.0);
    assert_eq!(ear.until(deviation).await, 0.5);
    ear.tell(&[position(40, Ned::new(5.0, 0.0, 0.0))]);
    ear.tell(&[Message::Reference { time_ms: 40, place: Ned::new(32.0, 40.0, -20.0) }]);
    ear.until(|vehicle| deviation(vehicle).filter(|deviation| *deviation == 2.0)).await;
    let until = Timestamp::now();
    let report = ear.vehicle.flown(&FlightTimes { begun: begin, frozen: begin, until }).unwrap();
    assert_eq!((report.host.as_str(), report.undisturbed), ("uav", None));
    let worst = FlightError { deviation_m: Metres(2.0), cross_track_m: Some(Metres(0.25)) };
    assert_eq!(report.worst, worst);
    assert!(report.watched_ms.0 > 0.0 && report.watched_ms.0 <= until.since(begin).0, "{report:?}");
}

#[tokio::test]
async fn what_is_no_mavlink_is_passed_over_and_counted_and_what_comes_after_is_heard() {
    let ear = Ear::open().await;
    let mut message = Vec::new();
    Outgoing::over(&mut message).send(position(20, Ned::default())).unwrap();
    let too_long = message.iter().copied().cycle().take(LONGEST + 1).collect::<Vec<_>>();
    // MAVLink 1 begins otherwise.
    for garbage in [&b"hello"[..], &[], &[0xFE; 40], &[0; 1400], &too_long] {
        ear.mouth.send(garbage).unwrap();
    }
    // A message that the agent has no use for, and one that is damaged or cut off, are no reason to warn.
    message[14] ^= 0xff;
    ear.mouth.send(&message).unwrap();
    ear.mouth.send(&message[..12]).unwrap();
    ear.tell(&[Message::AskLog]);
    ear.tell(&[position(40, Ned::new(0.0, 5.0, 0.0))]);
    let told = ear.until(|vehicle| vehicle.position(Instant::now())).await;
    assert_eq!((told.heading, told.speed), (Heading(90.0), MetresPerSec(5.0)));
    assert_eq!(ear.vehicle.heard.lock().passed_over, 5);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_says_so() {
    let ear = Ear::open().await;
    let taken = ear.vehicle.address().unwrap();
    let Err(refusal) = Vehicle::listen("uav".parse().unwrap(), taken, Place::default()).await else {
        panic!("two listen on {taken}")
    };
    assert!(refusal.reason.contains(&taken.to_string()) && refusal.remedy.contains("--mavlink"), "{refusal}");
}

#[test]
fn headings_are_from_north_to_the_east_and_below_360() {
    let heading =
        |north, east| on_the_plane(Place::default(), Ned::default(), Ned::new(north, east, 0.0)).heading.0;
    assert_eq!(
        (heading(1.0, 0.0), heading(0.0, 1.0), heading(-1.0, 0.0), heading(0.0, -1.0)),
        (0.0, 90.0, 180.0, 270.0)
    );
    assert!((0.0..360.0).contains(&heading(1.0, -1e-300)), "{}", heading(1.0, -1e-300));
}
