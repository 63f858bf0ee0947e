//! `mose-uav`: a quadcopter that JSBSim flies in real time, as its autopilot tells it over MAVLink.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use mose_flight::options::{OrbitOptions, positive};
use mose_flight::vehicle::flight::Flight;
use mose_flight::vehicle::jsbsim::F450;
use mose_flight::vehicle::live::{Around, fly};
use mose_flight::vehicle::offboard::Rules;

/// Flies a quadcopter (JSBSim's F450, PX4's loops and offboard rules) as its autopilot tells it.
///
/// Prints a JSON line ten times a second, and at the end one of the whole flight. Ends at SIGINT or SIGTERM.
#[derive(Parser)]
#[command(name = "mose-uav", version)]
struct Arguments {
    /// The autopilot.
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: SocketAddr,
    /// Who hears where the vehicle is and where it ought to be (MAVLink in UDP datagrams); may be repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tell: Vec<SocketAddr>,
    /// The network namespace from which they are reached, as a file; this process's own where none is given.
    #[arg(long, value_name = "FILE")]
    tell_netns: Option<PathBuf>,
    /// How long it flies, in seconds; without it, until it is ended.
    #[arg(long, value_parser = positive, value_name = "SECONDS")]
    duration: Option<f64>,
    /// A Python that has the package jsbsim.
    #[arg(long, default_value = "python3")]
    python: String,
    /// After how long without a setpoint the vehicle takes the control away, in seconds (PX4's COM_OF_LOSS_T).
    #[arg(long, default_value_t = 1.0, value_parser = positive, value_name = "SECONDS")]
    offboard_loss: f64,
    #[command(flatten)]
    orbit: OrbitOptions,
}

static ENDS: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_: libc::c_int) {
    ENDS.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
    match flown(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mose-uav: {error}");
            ExitCode::FAILURE
        }
    }
}

fn flown(arguments: Arguments) -> io::Result<()> {
    let Arguments { connect, tell, tell_netns, duration, python, offboard_loss, orbit } = arguments;
    let rules = Rules { loss_s: offboard_loss, height_m: orbit.height, ..Rules::default() };
    let flight = Flight::begin(F450::at(&python, orbit.height)?, orbit.into(), rules)?;
    let around = Around { autopilot: connect, observers: tell, observers_netns: tell_netns, ends: &ENDS };
    let flown = fly(flight, &around, duration.map(Duration::from_secs_f64), line)?;
    line(&flown);
    Ok(())
}

/// A line of the output. A reader that has gone ends nothing: the vehicle must not fall.
fn line(told: &impl serde::Serialize) {
    let _ = serde_json::to_string(told).map(|json| writeln!(io::stdout(), "{json}"));
}
