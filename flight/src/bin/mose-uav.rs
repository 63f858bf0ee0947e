//! `mose-uav`: a quadcopter that JSBSim flies in real time, as its autopilot tells it over MAVLink.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mose_flight::orbit::PAPER;
use mose_flight::vehicle::flight::Flight;
use mose_flight::vehicle::jsbsim::F450;
use mose_flight::vehicle::live::fly;
use mose_flight::vehicle::offboard::Rules;

static ENDS: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let autopilot: SocketAddr = words[1].parse().unwrap();
    let seconds = words[2].parse().unwrap();
    let f450 = F450::at(&words[3], PAPER.height_m).unwrap();
    let flight = Flight::begin(f450, PAPER, Rules::default()).unwrap();
    let flown = fly(flight, autopilot, Some(Duration::from_secs(seconds)), &ENDS, |told| {
        println!("{}", serde_json::to_string(told).unwrap_or_default());
    });
    eprintln!("{}", serde_json::to_string(&flown.unwrap()).unwrap());
    ExitCode::SUCCESS
}
