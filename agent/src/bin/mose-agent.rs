//! `mose-agent`: the agent of one host, and the orders that one gives it on that host.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use color_eyre::eyre::{WrapErr, eyre};
use ipnet::Ipv4Net;
use mose_agent::config::{TELEMETRY_PERIOD, TELEMETRY_PERIODS};
use mose_agent::local::{self, Order};
use mose_agent::place::Place;
use mose_agent::surroundings::MeasuredSurroundings;
use mose_agent::vehicle::Vehicle;
use mose_agent::{Agent, Config};
use mose_bus::session;
use mose_coat::{EndpointSpec, MacAddr, OvsConfig, OvsOverlay};
use mose_engine::podman::PodmanEngine;
use mose_pam::Millis;
use mose_protocol::HostName;
use mose_protocol::agent::{Cell, Role};
use mose_protocol::transfer::TransportKind;

/// The agent of one host of a MOSE testbed.
#[derive(Parser)]
#[command(name = "mose-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent.
    Run(Box<Run>),
    /// Make a network namespace with an address and put it on the overlay.
    Attach {
        /// The namespace's name; a container joins it with --network ns:/run/netns/NAME.
        name: String,
        /// Its address and the overlay's prefix, such as 10.77.0.20/24.
        #[arg(long)]
        address: Ipv4Net,
        /// Its MAC address; made from the address if not given.
        #[arg(long)]
        mac: Option<MacAddr>,
        /// The agent's socket.
        #[arg(long, default_value = local::SOCKET)]
        socket: PathBuf,
    },
    /// Take a network namespace off the overlay and remove it.
    Detach {
        /// The namespace's name.
        name: String,
        /// The agent's socket.
        #[arg(long, default_value = local::SOCKET)]
        socket: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArgument {
    /// Runs services.
    Edge,
    /// Carries clients.
    Mobile,
    /// Carries the orchestrator.
    Controller,
}

#[derive(Clone, Copy, ValueEnum)]
enum TransportArgument {
    /// A data connection of its own.
    Tcp,
    /// Chunks over Zenoh.
    Zenoh,
}

#[derive(clap::Args)]
struct Run {
    /// The host's name.
    #[arg(long)]
    name: HostName,
    /// What the host is for.
    #[arg(long)]
    role: RoleArgument,
    /// The host's address on the underlay, where tunnels and data connections end.
    #[arg(long)]
    underlay: Ipv4Addr,
    /// Zenoh endpoints to listen on, such as tcp/10.0.0.1:7447. The next higher port is used too, for images.
    #[arg(long, required = true)]
    listen: Vec<String>,
    /// Zenoh endpoints of other agents. Name each pair of agents once, on either side. Without any, agents are found by multicast.
    #[arg(long)]
    connect: Vec<String>,
    /// Podman's socket.
    #[arg(long, default_value = "/run/podman/podman.sock")]
    podman: PathBuf,
    /// Open vSwitch's run folder.
    #[arg(long, default_value = "/run/openvswitch")]
    openvswitch: PathBuf,
    /// The bridge that the overlay uses.
    #[arg(long, default_value = "br-mose")]
    bridge: String,
    /// The folder of journals and history.
    #[arg(long, default_value = "/var/lib/mose")]
    state: PathBuf,
    /// The ways for images that are offered, the best first.
    #[arg(long, value_delimiter = ',', default_value = "tcp,zenoh")]
    transports: Vec<TransportArgument>,
    /// Where orders of this host are taken.
    #[arg(long, default_value = local::SOCKET)]
    socket: PathBuf,
    /// How often to publish the host's figures, such as 200ms: from 100ms to 60s, 1s by default.
    #[arg(long, value_parser = telemetry_period)]
    telemetry_period: Option<Duration>,
    /// The UDP address, such as 127.0.0.1:14550, at which the vehicle that carries this host tells of itself in MAVLink 2.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = udp_address)]
    mavlink: Option<SocketAddr>,
    /// Where the origin of the vehicle's local frame is on the testbed's plane, in metres; 0,0 if not given.
    #[arg(long, value_name = "EAST,NORTH", requires = "mavlink", allow_hyphen_values = true)]
    mavlink_origin: Option<Place>,
    /// Where a host that stands still is on the testbed's plane, in metres.
    #[arg(long, value_name = "EAST,NORTH", conflicts_with = "mavlink", allow_hyphen_values = true)]
    position: Option<Place>,
    /// The number of the radio cell that a host that stands still is at.
    #[arg(long, value_name = "NUMBER", conflicts_with = "mavlink")]
    cell: Option<u16>,
}

fn udp_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address of this host and a port are wanted, such as 127.0.0.1:14550".to_owned())
}

fn telemetry_period(text: &str) -> Result<Duration, String> {
    let asked: Millis = text.parse().map_err(|error: mose_pam::ParseUnitError| error.to_string())?;
    let period = Duration::try_from_secs_f64(asked.0 / 1e3).ok();
    period.filter(|period| TELEMETRY_PERIODS.contains(period)).ok_or_else(|| {
        let (least, most) =
            (Millis::from(*TELEMETRY_PERIODS.start()), Millis::from(*TELEMETRY_PERIODS.end()));
        format!("{asked} is not between {least} and {most}")
    })
}

/// The size in bytes from which glibc maps memory for each allocation, and unmaps it when it is freed (mallopt(3)). This is glibc's default,
/// but setting it stops glibc from raising it to 32 MiB: the arenas of many threads would then keep a migration's buffers.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 128 << 10;

fn main() -> ExitCode {
    // SAFETY: this is the only thread, and the value is one that glibc takes.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
    // SAFETY: this is the only thread.
    unsafe { mose_bus::session::divide_threads() };
    let ran = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(Box::pin(run())));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mose-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> color_eyre::Result<()> {
    color_eyre::install()?;
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("MOSE_LOG")
                .unwrap_or_else(|_| "info,zenoh=error".into()),
        )
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    match Arguments::parse().command {
        Command::Run(run) => Box::pin(serve(*run)).await,
        Command::Attach { name, address, mac, socket } => {
            let mac = mac.unwrap_or_else(|| MacAddr::for_address(address.addr()));
            order(&socket, &Order::Attach(EndpointSpec { name, address, mac })).await
        }
        Command::Detach { name, socket } => order(&socket, &Order::Detach(name)).await,
    }
}

async fn order(socket: &Path, order: &Order) -> color_eyre::Result<()> {
    local::give(socket, order).await.map_err(|refusal| eyre!("{refusal}"))
}

async fn serve(run: Run) -> color_eyre::Result<()> {
    let vehicle = match run.mavlink {
        Some(at) => {
            let origin = run.mavlink_origin.unwrap_or_default();
            let vehicle = Vehicle::listen(run.name.clone(), at, origin).await;
            Some(vehicle.map_err(|refusal| eyre!("{refusal}"))?)
        }
        None => None,
    };
    let session = session::open(&run.listen, &run.connect).await.map_err(|refusal| eyre!("{refusal}"))?;
    let bulk = session::open_bulk(&run.listen, &run.connect).await.map_err(|refusal| eyre!("{refusal}"))?;
    let overlay = OvsOverlay::start(OvsConfig {
        rundir: run.openvswitch,
        bridge: run.bridge,
        ..OvsConfig::new(run.underlay)
    })
    .await
    .wrap_err("the overlay cannot be used")?;
    let engine = PodmanEngine::new(&run.podman).map_err(|refusal| eyre!("{refusal}"))?;
    let config = Config {
        host: run.name,
        role: match run.role {
            RoleArgument::Edge => Role::Edge,
            RoleArgument::Mobile => Role::Mobile,
            RoleArgument::Controller => Role::Controller,
        },
        underlay: run.underlay,
        state: run.state,
        transports: run
            .transports
            .into_iter()
            .map(|transport| match transport {
                TransportArgument::Tcp => TransportKind::Tcp,
                TransportArgument::Zenoh => TransportKind::Zenoh,
            })
            .collect(),
        telemetry: run.telemetry_period.unwrap_or(TELEMETRY_PERIOD),
    };
    let (overlay, engine) = (Arc::new(overlay), Arc::new(engine));
    let mut surroundings =
        MeasuredSurroundings::new(config.role, overlay.clone()).standing(run.position, run.cell.map(Cell));
    if let Some(vehicle) = vehicle {
        surroundings = surroundings.carried(vehicle);
    }
    let agent = Agent::start(config, session.clone(), bulk.clone(), overlay, engine, Arc::new(surroundings))
        .await
        .map_err(|refusal| eyre!("{refusal}"))?;
    local::listen(agent.clone(), &run.socket).wrap_err("orders of this host cannot be taken")?;
    tracing::info!("ready");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => result.wrap_err("signals cannot be taken"),
        () = agent.broken() => Err(eyre!(
            "a task of the agent panicked (see above); start it again: it takes up what it left from its journals"
        )),
    };
    agent.stop().await;
    if let Err(error) = bulk.close().await {
        tracing::debug!(%error, "the session for images did not close");
    }
    let closed = session.close().await.map_err(|error| eyre!("the session did not close: {error}"));
    ended.and(closed)
}
