//! `mose-autopilot`: the service that leads a UAV along a circle.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use mose_flight::autopilot::{Autopilot, serve};
use mose_flight::orbit::{Orbit, PAPER};
use mose_flight::recorder::Recorder;

fn main() -> ExitCode {
    let listen = SocketAddr::from(([0, 0, 0, 0], 5760));
    let autopilot = Autopilot::new(Orbit { ..PAPER }, Recorder::new(24 << 20));
    match TcpListener::bind(listen).and_then(|listener| serve(&listener, autopilot)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mose-autopilot: cannot listen on {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}
