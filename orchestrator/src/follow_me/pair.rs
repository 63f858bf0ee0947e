//! Which service follows which mobile host. Pure.

use mose_protocol::agent::Role;
use mose_protocol::agent::{ServiceInfo, Telemetry};
use mose_protocol::{HostName, ServiceName, Timestamp};

use super::sight::Sight;

/// A service and the mobile host that it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The service.
    pub service: ServiceName,
    /// The host that it follows.
    pub mobile: HostName,
    /// The hosts that it may run on; none named: every edge host.
    pub between: Vec<HostName>,
}

impl Pair {
    /// The hosts that the service may run on, as far as they are known.
    pub(super) fn stations<'a>(&'a self, sight: &'a Sight) -> Vec<&'a HostName> {
        if self.between.is_empty() {
            sight.of_role(Role::Edge).collect()
        } else {
            self.between.iter().collect()
        }
    }
}

/// Who follows whom, where nobody has said it: the service that a client on a mobile host talks to; in doubt the selected one.
///
/// # Errors
/// Why nobody can follow anybody, for people.
pub(super) fn find(sight: &Sight, selected: Option<&ServiceName>, now: Timestamp) -> Result<Pair, String> {
    let told = |host: &HostName| sight.fresh(host, now).ok().cloned();
    let located = |telemetry: &Telemetry| telemetry.position.is_some() || telemetry.radio.is_some();
    let mobiles: Vec<(&HostName, Telemetry)> =
        sight.of_role(Role::Mobile).filter_map(|host| Some((host, told(host).filter(located)?))).collect();
    if mobiles.is_empty() {
        return Err("no mobile host tells where it is".to_owned());
    }
    let services: Vec<ServiceInfo> = sight
        .of_role(Role::Edge)
        .filter_map(told)
        .flat_map(|telemetry| telemetry.services)
        .filter(|info| info.address.is_some())
        .collect();
    let mut found: Vec<(&ServiceName, &HostName)> = Vec::new();
    for (mobile, telemetry) in &mobiles {
        for client in &telemetry.clients {
            let talks = |info: &&ServiceInfo| info.address.is_some_and(|net| net.addr() == client.service);
            found.extend(services.iter().filter(talks).map(|info| (&info.name, *mobile)));
        }
    }
    found.sort();
    found.dedup();
    let pair = |service: &ServiceName, mobile: &HostName| Pair {
        service: service.clone(),
        mobile: mobile.clone(),
        between: Vec::new(),
    };
    match (&found[..], selected) {
        ([(service, mobile)], _) => Ok(pair(service, mobile)),
        ([], Some(selected)) => match &mobiles[..] {
            [(mobile, _)] if services.iter().any(|info| &info.name == selected) => Ok(pair(selected, mobile)),
            [_] => Err(format!("{selected} has no address on the overlay, so it cannot move")),
            several => Err(format!(
                "no client on a mobile host talks to {selected}, and there are {} mobile hosts",
                several.len()
            )),
        },
        ([], None) => Err("no client on a mobile host talks to a service, and none is selected".to_owned()),
        (several, Some(selected)) => match several.iter().find(|(service, _)| *service == selected) {
            Some((service, mobile)) => Ok(pair(service, mobile)),
            None => Err(format!("no client on a mobile host talks to {selected}; select {}", named(several))),
        },
        (several, None) => {
            Err(format!("several services have a client on a mobile host: select {}", named(several)))
        }
    }
}

fn named(found: &[(&ServiceName, &HostName)]) -> String {
    let mut names: Vec<&str> = found.iter().map(|(service, _)| service.as_str()).collect();
    names.dedup();
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow_me::stand_in::{NOW, edge, mobile, service, sight};

    fn found(sight: &Sight, selected: Option<&str>) -> Result<(String, String), String> {
        let selected = selected.map(|name| name.parse().unwrap());
        find(sight, selected.as_ref(), NOW).map(|pair| (pair.service.to_string(), pair.mobile.to_string()))
    }

    #[test]
    fn the_service_that_the_mobile_hosts_client_talks_to_follows_it() {
        let mut sight = sight();
        sight.take(edge("a", -100.0, &[service("web", 20), service("other", 21)]), NOW);
        sight.take(mobile("uav", 0.0, &[20]), NOW);
        for selected in [None, Some("other"), Some("web")] {
            assert_eq!(found(&sight, selected), Ok(("web".to_owned(), "uav".to_owned())));
        }
    }

    #[test]
    fn in_doubt_it_is_the_selected_one_and_else_it_is_said_what_to_do() {
        let mut sight = sight();
        assert_eq!(found(&sight, Some("web")).unwrap_err(), "no mobile host tells where it is");
        sight.take(edge("a", -100.0, &[service("web", 20), service("other", 21), service("alone", 22)]), NOW);
        sight.take(mobile("uav", 0.0, &[]), NOW);
        assert_eq!(found(&sight, Some("alone")).unwrap().0, "alone", "without any client");
        assert!(found(&sight, None).unwrap_err().contains("none is selected"));
        assert!(found(&sight, Some("gone")).unwrap_err().contains("no address"));
        sight.take(mobile("uav", 0.0, &[20, 21]), NOW);
        assert_eq!(found(&sight, Some("other")).unwrap().0, "other");
        assert!(found(&sight, Some("alone")).unwrap_err().ends_with("select other or web"));
        assert!(found(&sight, None).unwrap_err().ends_with("select other or web"));
    }
}
