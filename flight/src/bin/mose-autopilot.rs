//! `mose-autopilot`: the service that leads a UAV along a circle.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::Parser;
use mose_flight::autopilot::{Autopilot, serve};
use mose_flight::options::OrbitOptions;
use mose_flight::recorder::Recorder;

/// Leads a UAV along a circle: answers each position report (MAVLink 2 over TCP) with the velocity to fly.
#[derive(Parser)]
#[command(name = "mose-autopilot", version)]
struct Arguments {
    /// Where vehicles connect to.
    #[arg(long, default_value = "0.0.0.0:5760", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The size of the flight recorder, which is kept in memory, in MiB.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=4096), value_name = "MIB")]
    recorder: u32,
    #[command(flatten)]
    orbit: OrbitOptions,
}

extern "C" fn end(_: libc::c_int) {
    // SAFETY: _exit is async-signal-safe (signal-safety(7)).
    unsafe { libc::_exit(0) }
}

fn main() -> ExitCode {
    let Arguments { listen, recorder, orbit } = Arguments::parse();
    // As a container's first process it would not end by itself: the kernel gives that one no default actions.
    // SAFETY: the handler only calls what a handler may call.
    unsafe { libc::signal(libc::SIGTERM, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    let autopilot = Autopilot::new(orbit.into(), Recorder::new((recorder as usize) << 20));
    match TcpListener::bind(listen).and_then(|listener| serve(&listener, autopilot)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mose-autopilot: cannot listen on {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}
