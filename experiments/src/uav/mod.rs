//! `mose lab uav`: a UAV flies, its autopilot follows it from edge host to edge host, and each handover is a line.
#![expect(clippy::print_stdout, reason = "a command line prints")]

mod by_hand;
mod following;
mod line;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mose_console::documents::print_json;
use mose_console::exit;
use mose_console::lab::commands::Uav;
use mose_experiments::documents::{UavFlight, UavHandover, UavRun};
use mose_lab::{CgroupMode, Lab, LabConfig, LinkRate, ServiceOptions, Workload};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::course::attach_clients;
use crate::guard::open_for;
use crate::moved::{AFTER_MS, BEFORE_MS, Moved, lost};
use crate::testbed::{LabOptions, config, show};
use crate::vehicle::Vehicle;

/// The workload, and the service that MOSE moves.
const SERVICE: &str = "autopilot";
/// The same that is moved by hand.
const BY_HAND: &str = "autopilot-hand";

/// How long the vehicle may take to be steady, and to tell of what it is waited for.
const STEADY: Duration = Duration::from_secs(120);
const TELLS: Duration = Duration::from_secs(15);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the operator wants an end.
fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

extern "C" fn interrupt(_: std::ffi::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Brings all up, flies, and puts everything back as it was.
pub(crate) fn run(options: &Uav) -> color_eyre::Result<ExitCode> {
    for ends in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { signal(ends, SigHandler::Handler(interrupt)) }?;
    }
    let there = Lab::open(&LabConfig::default().state_dir)?.is_some();
    if !there {
        let usual = LabOptions { edge_link: LinkRate::default(), cgroup: CgroupMode::default() };
        drop(Lab::up(&config(&usual)?, &mut show)?);
    }
    let flown = fly(options);
    let ended = if there || options.keep { Ok(()) } else { Lab::down(&LabConfig::default()).map(drop) };
    let run = flown?;
    ended?;
    if options.json {
        print_json(&run);
    } else {
        println!("{}", line::summary(&run));
    }
    Ok(if run.flights.iter().all(UavFlight::clean) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILED)
    })
}

/// Flies over the radio, and takes it away again.
fn fly(options: &Uav) -> color_eyre::Result<UavRun> {
    let mut lab = open_for(&[SERVICE, BY_HAND], options.replace)?;
    let had_radio = lab.radio().is_some();
    lab.radio_on(options.seed)?;
    let flights = flights(&lab, options);
    if !had_radio {
        lab.radio_off()?;
    }
    Ok(UavRun { flights: flights? })
}

fn flights(lab: &Lab, options: &Uav) -> color_eyre::Result<Vec<UavFlight>> {
    attach_clients(lab)?;
    let mut flights = Vec::new();
    if !options.by_hand {
        let mut following = following::Following::begin(lab, options)?;
        let address = ServiceOptions::of(SERVICE).address;
        flights.push(flight(lab, options, options.handovers, address, &mut following)?);
    }
    let by_hand = if options.by_hand { Some(options.handovers) } else { options.then_by_hand.map(Some) };
    if let Some(handovers) = by_hand.filter(|_| !interrupted()) {
        let mut hand = by_hand::ByHand::begin(lab)?;
        flights.push(flight(lab, options, handovers, hand.address(), &mut hand)?);
    }
    Ok(flights)
}

/// What moves the autopilot.
trait Mover {
    /// Whether that is a person's script.
    const BY_HAND: bool;

    /// Begins to: the vehicle is steady.
    fn ready(&mut self) -> color_eyre::Result<()>;

    /// The next move that is over, if there is one before the patience ends.
    fn next(&mut self, patience: Duration) -> color_eyre::Result<Option<Moved>>;

    /// One that was over, and what the vehicle saw of it.
    fn seen(&self, _: &UavHandover) {}

    /// Moves it no more; what was under way is over then.
    fn end(&mut self) -> color_eyre::Result<()>;
}

/// One flight, until it has had its handovers or the operator wants an end.
fn flight<M: Mover>(
    lab: &Lab,
    options: &Uav,
    handovers: Option<u32>,
    autopilot: Ipv4Addr,
    mover: &mut M,
) -> color_eyre::Result<UavFlight> {
    let mut vehicle = Vehicle::in_lab(lab, SocketAddr::from((autopilot, Workload::named(SERVICE)?.port)))?;
    say(options, &format!("the UAV takes off; its autopilot is moved {}", line::way(M::BY_HAND)));
    vehicle.steady(BEFORE_MS, STEADY)?;
    mover.ready()?;
    let mut all = Vec::new();
    let done = |all: &[UavHandover]| handovers.is_some_and(|wanted| all.len() as u32 >= wanted);
    while !interrupted() && !done(&all) {
        vehicle.check()?;
        let Some(moved) = mover.next(Duration::from_millis(200))? else { continue };
        if let Some(back) = moved.back_ms {
            vehicle.flown_until(back + AFTER_MS, Duration::from_millis(AFTER_MS) + TELLS)?;
        }
        let told = vehicle.since(moved.began_ms.saturating_sub(BEFORE_MS));
        let handover = handover(all.len() as u32 + 1, moved, &told);
        say(options, &line::line(&handover));
        mover.seen(&handover);
        all.push(handover);
    }
    mover.end()?;
    let (_, flown) = vehicle.land()?;
    Ok(UavFlight {
        by_hand: M::BY_HAND,
        handovers: all,
        reported: flown.reported,
        answered: flown.answered,
        lost: lost(&flown),
        out_of_order: flown.out_of_order,
        connections_lost: flown.connections_lost,
        offboard_losses: flown.offboard_losses,
        recorder_intact_bytes: flown.recorder_intact_bytes,
        behind_ms: flown.behind_ms,
    })
}

fn handover(number: u32, moved: Moved, told: &[mose_flight::vehicle::live::Told]) -> UavHandover {
    let seen = moved.seen(told);
    UavHandover {
        number,
        outcome: moved.outcome,
        why: moved.why,
        from: moved.from,
        to: moved.to,
        began_unix_ms: moved.began_ms,
        duration_ms: moved.duration_ms,
        service_stopped_ms: moved.stopped_ms,
        worst_case_downtime_ms: moved.worst_case.map(|(downtime, _)| downtime.0),
        client_silence_ms: seen.silence_ms,
        deviation_m: seen.deviation_m,
        cross_track_m: seen.cross_track_m,
        undisturbed_deviation_m: seen.undisturbed_deviation_m,
    }
}

/// Says it at once; with `--json` only the result is printed.
fn say(options: &Uav, text: &str) {
    if options.json {
        eprintln!("{text}");
    } else {
        println!("{text}");
    }
}
