//! A record gets the flight of the vehicle that was without its service: real agents on simulated hosts, and a vehicle that tells of
//! itself in MAVLink over a real socket.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mose_agent::place::Place;
use mose_agent::surroundings::{MeasuredSurroundings, Surroundings};
use mose_agent::vehicle::Vehicle;
use mose_agent::{Agent, Config};
use mose_bus::session;
use mose_flight::ned::Ned;
use mose_flight::wire::{Message, Outgoing};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow::Follower;
use mose_orchestrator::order::{self, Order};
use mose_pam::Plan;
use mose_protocol::agent::Role;
use mose_protocol::handover::ImagePolicy;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::Step;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, Reply, Request};
use mose_simulated::demo::Scenario;
use mose_simulated::{SimulatedHost, World, WorldSpec};

const PATIENCE: Duration = Duration::from_secs(60);

/// An agent with its sessions, as another process would have them.
struct Running {
    agent: Arc<Agent>,
    session: zenoh::Session,
    bulk: zenoh::Session,
    at: (String, String),
}

impl Running {
    async fn start(
        host: &SimulatedHost,
        (name, role): (&HostName, Role),
        surroundings: Arc<dyn Surroundings>,
        folder: &Path,
        others: &[(String, String)],
    ) -> Self {
        let (control, bulk): (Vec<String>, Vec<String>) = others.iter().cloned().unzip();
        let (session, at) = session::open_alone(None, &control).await.unwrap();
        let (bulk, bulk_at) = session::open_alone(None, &bulk).await.unwrap();
        let config = Config {
            host: name.clone(),
            role,
            underlay: Ipv4Addr::LOCALHOST,
            state: folder.join(name.as_str()),
            transports: vec![TransportKind::Tcp],
            telemetry: Duration::from_millis(200),
        };
        std::fs::create_dir_all(&config.state).unwrap();
        let (overlay, engine) = (host.overlay(), host.engine());
        let agent = Agent::start(config, session.clone(), bulk.clone(), overlay, engine, surroundings);
        Self { agent: agent.await.unwrap(), session, bulk, at: (at, bulk_at) }
    }

    async fn end(self) {
        self.agent.stop().await;
        self.bulk.close().await.unwrap();
        self.session.close().await.unwrap();
    }
}

/// Tells at 50 Hz that it is so many millimetres from its reference, until it is stopped.
fn fly(to: SocketAddr, astray_mm: Arc<AtomicU32>, stop: Arc<AtomicBool>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut time_ms = 0;
    while !stop.load(Ordering::Relaxed) {
        let astray = f64::from(astray_mm.load(Ordering::Relaxed)) / 1e3;
        let place = Ned::new(f64::from(time_ms) / 200.0, 0.0, -20.0);
        let mut datagram = Vec::new();
        let mut outgoing = Outgoing::over(&mut datagram);
        for message in [
            Message::CrossTrack { metres: 0.05 },
            Message::Position { time_ms, place, velocity: Ned::new(5.0, 0.0, 0.0) },
            Message::Reference { time_ms, place: place + Ned::new(astray, 0.0, 0.0) },
        ] {
            outgoing.send(message).unwrap();
        }
        socket.send_to(&datagram, to).unwrap();
        time_ms += 20;
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn recorded(fleet: &Fleet, record: &Record) -> Record {
    match fleet.ask(&record.from, &Request::Record(record.migration.clone())).await.unwrap() {
        Reply::Record(Some(record)) => *record,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_gets_the_flight_and_whoever_follows_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = Scenario::load(Some("faults")).unwrap();
    let (world, _losses) = World::new(WorldSpec {
        seed: 1,
        calibration: scenario.calibration.clone(),
        folder: folder.path().to_owned(),
        links: scenario.links.clone(),
        motions: scenario.motions(),
        faults: Vec::new(),
    });
    for (service, host) in &scenario.services {
        world.start(service.clone(), host).unwrap();
    }
    let vehicle = Vehicle::listen("uav".parse().unwrap(), (Ipv4Addr::LOCALHOST, 0).into(), Place::default());
    let vehicle = vehicle.await.unwrap();
    let (to, astray_mm, landed) = (vehicle.address().unwrap(), Arc::new(AtomicU32::new(100)), Arc::default());
    let flying = std::thread::spawn({
        let (astray_mm, landed) = (astray_mm.clone(), Arc::clone(&landed));
        move || fly(to, astray_mm, landed)
    });
    let mut vehicle = Some(vehicle);
    let mut running: Vec<Running> = Vec::new();
    for host in &scenario.hosts {
        let simulated = SimulatedHost::new(&world, host.name.clone());
        simulated.attach(host.client).await.unwrap();
        let surroundings: Arc<dyn Surroundings> = match vehicle.take_if(|_| host.role == Role::Mobile) {
            Some(vehicle) => {
                Arc::new(MeasuredSurroundings::new(host.role, simulated.overlay()).carried(vehicle))
            }
            None => simulated.surroundings(),
        };
        let others: Vec<_> = running.iter().map(|other| other.at.clone()).collect();
        let of = (&host.name, host.role);
        running.push(Running::start(&simulated, of, surroundings, folder.path(), &others).await);
    }
    let endpoints: Vec<String> = running.iter().map(|running| running.at.0.clone()).collect();
    let fleet = Fleet::join(&endpoints).await.unwrap();
    let begun = Instant::now();
    while running.iter().any(|running| running.agent.peers.live().len() < 2) || begun.elapsed().as_secs() < 6
    {
        assert!(begun.elapsed() < PATIENCE, "the agents do not meet");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let mut follower = Follower::new(&fleet).await.unwrap();
    let order = Order {
        service: "control".parse().unwrap(),
        from: None,
        to: "edge-b".parse().unwrap(),
        plan: Plan::cold(),
        transport: None,
        image_policy: ImagePolicy::Bring,
        pre_copy: None,
        rehearsal: false,
        files: Default::default(),
        forecast: None,
    };
    let record =
        tokio::time::timeout(PATIENCE, order::carry_out(&fleet, &order, |_| {})).await.unwrap().unwrap();
    assert_eq!((record.outcome, record.flights.len()), (Outcome::Done, 0), "{:?}", record.reason);
    // It is astray for a moment, as it shows late that nobody steered.
    astray_mm.store(750, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    astray_mm.store(100, Ordering::Relaxed);
    let ends = async {
        let mut ends = 0;
        while ends < 2 {
            let event = follower.next().await.unwrap();
            ends += u32::from(event.step == Step::Migration && event.phase.is_end());
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.expect("the end is told again, once there is more to know");
    let amended = recorded(&fleet, &record).await;
    let flight = amended.flights.first().expect("the record has the flight");
    assert_eq!((amended.flights.len(), flight.host.as_str()), (1, "uav"));
    assert!((flight.worst.deviation_m.0 - 0.75).abs() < 1e-3, "{flight:?}");
    assert!((flight.undisturbed.unwrap().deviation_m.0 - 0.1).abs() < 1e-3, "{flight:?}");
    assert!((flight.worst.cross_track_m.unwrap().0 - 0.05).abs() < 1e-3, "{flight:?}");
    assert!(flight.watched_ms.0 > 7000.0, "{flight:?}");
    assert_eq!(Record { flights: Vec::new(), ..amended.clone() }, record, "nothing else has changed");

    landed.store(true, Ordering::Relaxed);
    flying.join().unwrap();
    fleet.session().close().await.unwrap();
    for running in running {
        running.end().await;
    }
    let history = mose_agent::history::History::open(&folder.path().join("edge-a"));
    assert_eq!(history.get(&amended.migration), Some(amended), "it is on disk");
}
