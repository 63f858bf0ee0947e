//! `mose-radio`: the radio of a UAV in the lab, between the UAV's port and the rest of the underlay.

use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use mose_flight::radio::ether::End;
use mose_flight::radio::relay::{Ends, relay};
use mose_flight::radio::{Conditions, Radio, Site};
use nix::sched::{CloneFlags, setns};

/// Passes the frames of a UAV on with the delay and the loss of a radio link, by where the UAV is.
///
/// Says `ready` once it does, and tells each change of the serving cell. Ends at SIGTERM; without it the UAV is cut off.
#[derive(Parser)]
#[command(name = "mose-radio", version)]
struct Arguments {
    /// The device to the UAV.
    #[arg(long)]
    port: String,
    /// The device towards all others, which is made.
    #[arg(long)]
    tap: String,
    /// A cell and the edge host at it; may be repeated.
    #[arg(long, required = true, value_name = "AREA=ADDRESS@EAST,NORTH")]
    cell: Vec<Site>,
    /// The UAV's network namespace, as a file.
    #[arg(long, value_name = "FILE")]
    netns: PathBuf,
    /// Where the vehicle sends its position to (MAVLink in UDP datagrams), in the UAV's network namespace.
    #[arg(long, value_name = "ADDRESS:PORT")]
    hear: SocketAddr,
    /// Where the UAV's agent hears which cell serves it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tell: SocketAddr,
    /// Of the random numbers that lose frames.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

static ENDS: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_: libc::c_int) {
    ENDS.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // SAFETY: the handler only stores to an atomic.
    unsafe { libc::signal(libc::SIGTERM, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    match pass(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mose-radio: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pass(arguments: Arguments) -> io::Result<()> {
    let Arguments { port, tap, cell, netns, hear, tell, seed } = arguments;
    let what =
        |what: String| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let uav = End::port(&port).map_err(what(format!("cannot listen on the device {port}")))?;
    let underlay = End::tap(&tap).map_err(what(format!("cannot make the TAP device {tap}")))?;
    let namespace = std::fs::File::open(&netns).map_err(what(format!("cannot open {}", netns.display())))?;
    // The devices stay where they are; what is opened from here on is the UAV's.
    setns(&namespace, CloneFlags::CLONE_NEWNET)?;
    let vehicle = UdpSocket::bind(hear).map_err(what(format!("cannot listen on {hear}")))?;
    writeln!(io::stdout(), "ready")?;
    let told = |radio: &Radio, conditions: &Conditions| {
        // Whoever started it may have gone.
        let _ = writeln!(io::stdout(), "cell {}", radio.sites()[conditions.serving].area);
    };
    relay(Radio::new(cell), Ends { uav, underlay, vehicle, agent: tell }, seed, &ENDS, told)
}
