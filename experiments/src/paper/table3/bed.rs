//! The lab as the testbed of Table III: the autopilot on the edge hosts, once under MOSE's care and once under a script's, and a vehicle on
//! the mobile host, which flies by one of them in each trial.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_experiments::documents::Measured;
use mose_lab::baseline::Baseline;
use mose_lab::{Lab, ServiceOptions, Workload, start_service, stop_service};
use mose_orchestrator::design::{Given, Wanted};
use mose_pam::{Limits, Targets};
use mose_protocol::record::Outcome;

use super::flight::measured;
use super::fly::Testbed;
use super::rows::{Row, Way};
use crate::course::{EDGES, How, MOBILE, Orders, attach_clients, bandwidth, on};
use crate::moved::{AFTER_MS, BEFORE_MS, Moved};
use crate::vehicle::{Vehicle, now_ms};

/// The workload, and the service that MOSE moves.
pub(crate) const SERVICE: &str = "autopilot";

/// The same that is moved by hand.
pub(crate) const BY_HAND: &str = "autopilot-hand";

/// Its address.
const BY_HAND_AT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 40);

/// How long a vehicle may take to be steady, and to tell of what it is waited for.
const STEADY: Duration = Duration::from_secs(120);
const TELLS: Duration = Duration::from_secs(15);

/// The lab, ready for trials.
pub(crate) struct LabBed<'a> {
    lab: &'a Lab,
    orders: Orders,
    hand: Baseline,
    /// Where the service that MOSE moves is, and the one that is moved by hand.
    at: [&'static str; 2],
    /// Why the memory of a running service cannot be copied by hand here.
    untracked: Option<String>,
}

impl<'a> LabBed<'a> {
    /// Starts the autopilot twice on the first edge host: for MOSE, and for the script.
    pub(crate) fn ready(lab: &'a Lab, orders: Orders) -> color_eyre::Result<Self> {
        attach_clients(lab)?;
        let workload = Workload::named(SERVICE)?;
        let hosts = lab.hosts().iter().filter(|host| host.name != "controller");
        let hosts = hosts.map(|host| (host.name.clone(), host.underlay)).collect();
        let hand = Baseline::new(BY_HAND, BY_HAND_AT, hosts, MOBILE);
        for host in EDGES {
            stop_service(lab, host, SERVICE)?;
        }
        hand.stop(&|argv: &[String]| on(lab, "controller", argv))?;
        let bed = Self { lab, orders, hand, at: [EDGES[0]; 2], untracked: untracked(lab)? };
        start_service(lab, SERVICE, EDGES[0], &ServiceOptions::of(SERVICE))?;
        bed.hand.start(
            &|argv: &[String]| bed.on_controller(argv),
            EDGES[0],
            &workload.image(),
            workload.command,
        )?;
        Ok(bed)
    }

    fn on_controller(&self, argv: &[String]) -> Command {
        on(self.lab, "controller", argv)
    }

    /// Brings a service to the first edge host.
    fn bring(&mut self, by_hand: bool) -> color_eyre::Result<()> {
        let at = self.at[usize::from(by_hand)];
        if at == EDGES[0] {
            return Ok(());
        }
        if by_hand {
            self.hand.migrate(&|argv: &[String]| self.on_controller(argv), at, EDGES[0])?;
        } else {
            let record = self.orders.migrate(SERVICE, at, EDGES[0], &How::default())?;
            if record.outcome != Outcome::Done {
                let reason = record.reason.map(|reason| reason.to_string()).unwrap_or_default();
                return Err(eyre!(
                    "{SERVICE} cannot be brought to {}: {}: {reason}",
                    EDGES[0],
                    record.outcome.name()
                ));
            }
        }
        self.at[usize::from(by_hand)] = EDGES[0];
        Ok(())
    }

    /// The vehicle of a trial, which flies by the autopilot at an address.
    fn vehicle(&self, autopilot: Ipv4Addr) -> color_eyre::Result<Vehicle> {
        let target = SocketAddr::from((autopilot, Workload::named(SERVICE)?.port));
        Vehicle::in_lab(self.lab, target)
    }

    fn move_by_hand(&mut self, iterations: u32) -> Moved {
        let began_ms = now_ms();
        let hand = Baseline { iterations, ..self.hand.clone() };
        let (from, to) = (EDGES[0], EDGES[1]);
        match hand.migrate(&|argv: &[String]| self.on_controller(argv), from, to) {
            Ok(run) => {
                self.at[1] = to;
                Moved::by_hand(&run, bandwidth(self.lab.status().edge_link).map(|rate| rate.0))
            }
            Err(error) => Moved::not_by_hand(&error, (from, to), began_ms, now_ms()),
        }
    }

    fn move_by_mose(&mut self, wanted: &Wanted) -> color_eyre::Result<Moved> {
        let (from, to) = (EDGES[0], EDGES[1]);
        // While it flies: a service that does nothing dirties no pages.
        let design = self.orders.design(SERVICE, from, to, wanted)?;
        for remark in &design.remarks {
            tracing::debug!("{remark}");
        }
        let forecast = Some(Box::new(design.forecast()));
        let how = How { plan: design.plan(), forecast, ..How::default() };
        let record = self.orders.migrate(SERVICE, from, to, &how)?;
        if record.outcome == Outcome::Done {
            self.at[0] = to;
        }
        Ok(Moved::by_mose(&record))
    }
}

impl Testbed for LabBed<'_> {
    fn unable(&self, row: &Row) -> Option<String> {
        match row.way {
            Way::ByHand { iterations: 1.. } => self.untracked.clone(),
            Way::ByHand { iterations: 0 } | Way::Mose { .. } => None,
        }
    }

    fn fly(&mut self, row: &Row) -> color_eyre::Result<Measured> {
        let by_hand = matches!(row.way, Way::ByHand { .. });
        self.bring(by_hand)?;
        let address = if by_hand { BY_HAND_AT } else { ServiceOptions::of(SERVICE).address };
        let mut vehicle = self.vehicle(address)?;
        vehicle.steady(BEFORE_MS, STEADY)?;
        let moved = match row.way {
            Way::ByHand { iterations } => self.move_by_hand(iterations),
            Way::Mose { objective, max_downtime, max_duration, rule } => {
                let targets = Targets::new(max_downtime, max_duration)?;
                self.move_by_mose(&Wanted {
                    targets,
                    objective,
                    limits: Limits::default(),
                    rounds: rule,
                    profile: None,
                    given: Given::default(),
                })?
            }
        };
        let back = moved.back_ms.unwrap_or_else(now_ms);
        vehicle.flown_until(back + AFTER_MS, Duration::from_millis(AFTER_MS) + TELLS)?;
        let (told, flown) = vehicle.land()?;
        Ok(measured(&told, &flown, moved))
    }
}

impl Drop for LabBed<'_> {
    fn drop(&mut self) {
        for host in EDGES {
            if let Err(error) = stop_service(self.lab, host, SERVICE) {
                tracing::warn!(host, %error, "a service is left over");
            }
        }
        if let Err(error) = self.hand.stop(&|argv: &[String]| self.on_controller(argv)) {
            tracing::warn!(%error, "a service that was moved by hand is left over");
        }
    }
}

/// Why the memory of a running service cannot be copied by hand: Podman leaves it to CRIU, which needs the kernel to track writes.
fn untracked(lab: &Lab) -> color_eyre::Result<Option<String>> {
    let mut check =
        lab.exec(EDGES[0], &["criu", "check", "--no-default-config", "--feature", "mem_dirty_track"])?;
    let output = check.output().wrap_err("CRIU cannot be asked what it can do here")?;
    Ok((!output.status.success()).then(|| {
        "podman container checkpoint --pre-checkpoint needs a kernel with soft-dirty bits (CONFIG_MEM_SOFT_DIRTY), which this one lacks; \
         that of mose lab guest has them"
            .to_owned()
    }))
}
