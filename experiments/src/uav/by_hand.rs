//! The autopilot is moved by hand: a script over SSH, started at once when another cell serves the UAV.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use mose_experiments::documents::UavHandover;
use mose_lab::baseline::Baseline;
use mose_lab::{CELLS, Lab, Workload};
use mose_orchestrator::by_hand;
use mose_pam::{Metres, Millis};
use mose_protocol::flight::{FlightError, FlightReport};
use mose_protocol::record::Outcome;
use mose_protocol::{HostName, Timestamp};

use super::{BY_HAND, Mover, SERVICE};
use crate::course::{EDGES, MOBILE, Orders, bandwidth, on};
use crate::moved::{AFTER_MS, Moved};
use crate::vehicle::now_ms;

/// The service's address.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 40);

/// How often is looked which cell serves the UAV.
const LOOK: Duration = Duration::from_millis(50);

/// What the console is told of a handover, to be shown beside those by MOSE; nothing of one that failed.
fn noted(handover: &UavHandover) -> Option<by_hand::ByHand> {
    let client: HostName = MOBILE.parse().ok()?;
    let duration = handover.duration_ms.filter(|_| handover.outcome == Outcome::Done)?;
    Some(by_hand::ByHand {
        service: BY_HAND.parse().ok()?,
        from: handover.from.parse().ok()?,
        to: handover.to.parse().ok()?,
        started_at: Timestamp(handover.began_unix_ms.saturating_mul(1000)),
        duration: Millis(duration),
        stopped: handover.service_stopped_ms.map(Millis),
        client: handover.client_silence_ms.map(|silence| (client.clone(), Millis(silence))),
        flight: handover.deviation_m.map(|deviation| FlightReport {
            host: client,
            worst: FlightError {
                deviation_m: Metres(deviation),
                cross_track_m: handover.cross_track_m.map(Metres),
            },
            undisturbed: handover
                .undisturbed_deviation_m
                .map(|deviation| FlightError { deviation_m: Metres(deviation), cross_track_m: None }),
            watched_ms: Millis(handover.service_stopped_ms.unwrap_or_default() + AFTER_MS as f64),
        }),
    })
}

fn note(lab: &Lab, moved: by_hand::ByHand) -> color_eyre::Result<()> {
    Orders::connect(lab)?.note(moved)
}

/// An autopilot that is moved by hand. Dropping this removes it.
pub(super) struct ByHand<'a> {
    lab: &'a Lab,
    hand: Baseline,
    at: &'static str,
}

impl<'a> ByHand<'a> {
    /// Starts an autopilot at the edge host of the cell that serves the UAV where its flight begins.
    pub(super) fn begin(lab: &'a Lab) -> color_eyre::Result<Self> {
        let hosts = lab.hosts().iter().filter(|host| host.name != "controller");
        let hosts = hosts.map(|host| (host.name.clone(), host.underlay)).collect();
        let hand = Baseline::new(BY_HAND, ADDRESS, hosts, MOBILE);
        let workload = Workload::named(SERVICE)?;
        hand.stop(&|argv: &[String]| on(lab, "controller", argv))?;
        let by_hand = Self { lab, hand, at: EDGES[0] };
        by_hand.hand.start(
            &|argv: &[String]| by_hand.on_controller(argv),
            EDGES[0],
            &workload.image(),
            workload.command,
        )?;
        Ok(by_hand)
    }

    /// Its address.
    pub(super) const fn address(&self) -> Ipv4Addr {
        ADDRESS
    }

    fn on_controller(&self, argv: &[String]) -> Command {
        on(self.lab, "controller", argv)
    }

    /// The edge host of the cell that serves the UAV now.
    fn wanted(&self) -> Option<&'static str> {
        let cell = *self.lab.radio_cells().last()?;
        CELLS.iter().find(|site| site.cell == cell).map(|site| site.host)
    }
}

impl Mover for ByHand<'_> {
    const BY_HAND: bool = true;

    fn ready(&mut self) -> color_eyre::Result<()> {
        Ok(())
    }

    fn next(&mut self, patience: Duration) -> color_eyre::Result<Option<Moved>> {
        let until = Instant::now() + patience;
        let to = loop {
            match self.wanted().filter(|host| *host != self.at) {
                Some(host) => break host,
                None if Instant::now() >= until => return Ok(None),
                None => std::thread::sleep(LOOK),
            }
        };
        let (from, began_ms) = (self.at, now_ms());
        match self.hand.migrate(&|argv: &[String]| self.on_controller(argv), from, to) {
            Ok(run) => {
                self.at = to;
                let rate = bandwidth(self.lab.status().edge_link).map(|rate| rate.0);
                Ok(Some(Moved::by_hand(&run, rate)))
            }
            Err(error) => Ok(Some(Moved::not_by_hand(&error, (from, to), began_ms, now_ms()))),
        }
    }

    fn seen(&self, handover: &UavHandover) {
        if let Some(moved) = noted(handover) {
            // From a thread of its own: it enters the controller's network for good.
            let noted = std::thread::scope(|scope| scope.spawn(|| note(self.lab, moved)).join());
            match noted {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the console will not show this handover"),
                Err(_) => tracing::warn!("noting a handover has panicked"),
            }
        }
    }

    fn end(&mut self) -> color_eyre::Result<()> {
        Ok(())
    }
}

impl Drop for ByHand<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.hand.stop(&|argv: &[String]| self.on_controller(argv)) {
            tracing::warn!(%error, "a service that was moved by hand is left over");
        }
    }
}
