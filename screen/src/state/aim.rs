//! What a service is moved for when it follows its mobile host, and the vehicle that turns metres into a downtime.

use mose_pam::{MetresPerSec, Vehicle};
use mose_protocol::HostName;
use mose_protocol::agent::Role;
use mose_protocol::following::Aim;

use super::planning::Application;
use super::{Host, State};

impl State {
    /// Whether a mobile host that is there tells where it is.
    #[must_use]
    pub(crate) fn locates_mobile(&self) -> bool {
        self.data.fleet.hosts().any(|host| {
            let located = host.telemetry.as_ref().is_some_and(|told| told.position.is_some());
            located && host.role() == Some(Role::Mobile) && host.presence(self.data.now).is_there()
        })
    }

    /// The moving mobile host that the selected service follows, or has a client on, and its speed.
    #[must_use]
    pub fn vehicle(&self) -> Option<(&HostName, MetresPerSec)> {
        let service = self.ui.service.as_ref()?;
        let (fleet, now) = (&self.data.fleet, self.data.now);
        let moves = |host: &Host| {
            let speed = host.telemetry.as_ref()?.position?.speed;
            let there = host.role() == Some(Role::Mobile) && host.presence(now).is_there();
            (there && speed.0.is_finite() && speed.0 >= Vehicle::LEAST_SPEED.0).then_some(speed)
        };
        let vehicle = |host: &'_ HostName| fleet.host(host).and_then(|host| Some((&host.name, moves(host)?)));
        let following = self.data.following().filter(|following| &following.service == service);
        let followed = following.and_then(|following| vehicle(&following.mobile));
        let client = || {
            let address = fleet.services().find(|located| &located.info.name == service)?.info.address?;
            fleet.clients_of(address.addr(), now).find_map(|(host, _)| vehicle(&host.name))
        };
        followed.or_else(client)
    }

    /// What the application's units are made of: the vehicle at its own speed, where it tells it.
    #[must_use]
    pub fn application(&self) -> Application {
        let application = self.planning.application;
        let speed = self.vehicle().map(|(_, speed)| speed);
        Application { vehicle: application.vehicle.at(speed), ..application }
    }

    /// What a service that follows is moved for: what is wanted on the screen now.
    #[must_use]
    pub(crate) fn aim(&self) -> Aim {
        let planning = &self.planning;
        Aim {
            downtime: planning.downtime,
            deviation: planning.deviation().map(|metres| (metres, planning.application.vehicle)),
            duration: planning.duration,
            objective: planning.objective,
            limits: planning.limits,
            rounds: planning.rounds,
            selected: self.ui.service.clone(),
        }
    }
}
