//! What the overlay's health means for a migration.

use mose_coat::{CoatError, Datapath, Health, Recorded};
use mose_protocol::doctor::Check;

/// The checks of an overlay that stands on something.
pub(super) fn checks(health: Option<Health>) -> Vec<Check> {
    let Some(Health { bridge, database, switch }) = health else { return Vec::new() };
    let mut checks = vec![match &database {
        Ok(Recorded { release, ports, .. }) => {
            let release =
                release.as_deref().map(|release| format!("Open vSwitch {release}, ")).unwrap_or_default();
            Check::ok("OVS database", format!("{release}{ports} ports of the overlay"))
        }
        Err(error) => unusable("OVS database", error, "ovsdb-server"),
    }];
    checks.push(match &switch {
        Ok(flows) => Check::ok("OVS OpenFlow", format!("{bridge} answers and has {flows} flows")),
        Err(error) => unusable("OVS OpenFlow", error, "ovs-vswitchd"),
    });
    match database {
        Ok(recorded) => {
            checks.push(datapath(&bridge, recorded.datapath));
            checks.extend(recorded.faulty.into_iter().map(|faulty| {
                Check::broken(
                    "OVS ports",
                    format!("{} is out of use: {}", faulty.device, faulty.reason),
                    "see ovs-vswitchd's log; restart the agent to have its ports made anew",
                )
            }));
        }
        Err(_) => checks.push(Check::unknown(
            "OVS datapath",
            "the database that names it does not answer",
            "start ovsdb-server, then ask again",
        )),
    }
    checks
}

/// A daemon of Open vSwitch that does not do what it must. What took too long may yet come.
fn unusable(what: &str, error: &CoatError, daemon: &str) -> Check {
    let remedy =
        format!("see whether {daemon} runs, and its log; on Debian: systemctl restart openvswitch-switch");
    match error {
        CoatError::Deadline { .. } => Check::unknown(what, error.to_string(), remedy),
        _ => Check::broken(what, error.to_string(), remedy),
    }
}

fn datapath(bridge: &str, datapath: Option<Datapath>) -> Check {
    const WHAT: &str = "OVS datapath";
    match datapath {
        Some(Datapath::Kernel) => Check::ok(WHAT, format!("{bridge} forwards in the kernel")),
        Some(Datapath::Userspace) => Check::fallback(
            WHAT,
            format!("{bridge} does not forward in the kernel"),
            "ovs-vswitchd forwards by itself (netdev): nothing is lost by it, but every packet costs more time",
            format!(
                "modprobe openvswitch, then have the bridge made anew while no service runs here: stop the agent, \
                 ovs-vsctl del-br {bridge}, start it"
            ),
        ),
        Some(Datapath::Other(name)) => Check::unknown(
            WHAT,
            format!("{bridge} forwards by `{name}`, with which MOSE was never tried"),
            "use `system` or `netdev`",
        ),
        None => Check::broken(
            WHAT,
            format!("the bridge {bridge} is gone"),
            "restart the agent, which makes it and its ports anew",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mose_coat::Faulty;
    use mose_protocol::doctor::CheckState;

    use super::*;

    fn states(health: Health) -> Vec<(String, CheckState)> {
        checks(Some(health)).into_iter().map(|check| (check.what, check.state)).collect()
    }

    fn recorded(datapath: Option<Datapath>) -> Recorded {
        Recorded { release: Some("3.5.0".into()), datapath, ports: 4, faulty: Vec::new() }
    }

    #[test]
    fn an_overlay_that_stands_on_nothing_has_nothing_to_say() {
        assert!(checks(None).is_empty());
    }

    #[test]
    fn the_userspace_datapath_is_a_fallback_and_a_lost_bridge_is_broken() {
        let of = |datapath| {
            let health =
                Health { bridge: "br-mose".into(), database: Ok(recorded(datapath)), switch: Ok(12) };
            states(health).pop().unwrap()
        };
        assert_eq!(of(Some(Datapath::Kernel)), ("OVS datapath".into(), CheckState::Ok));
        assert_eq!(of(Some(Datapath::Userspace)).1, CheckState::Fallback);
        assert_eq!(of(Some(Datapath::Other("dpdk".into()))).1, CheckState::Unknown);
        assert_eq!(of(None).1, CheckState::Broken);
    }

    #[test]
    fn a_daemon_that_is_gone_is_broken_and_a_slow_one_unknown() {
        let gone = CoatError::Unreachable {
            path: "/run/openvswitch/br-mose.mgmt".into(),
            reason: "no such file".into(),
            daemon: "ovs-vswitchd",
        };
        let slow = CoatError::Deadline { what: "a look at its bridge".into(), after: Duration::from_secs(5) };
        let health = Health { bridge: "br-mose".into(), database: Err(slow), switch: Err(gone) };
        let expected = [
            ("OVS database".to_owned(), CheckState::Unknown),
            ("OVS OpenFlow".to_owned(), CheckState::Broken),
            ("OVS datapath".to_owned(), CheckState::Unknown),
        ];
        assert_eq!(states(health), expected);
    }

    #[test]
    fn every_port_that_is_out_of_use_is_named() {
        let faulty = vec![Faulty { device: "mo-1".into(), reason: "no such device".into() }];
        let database = Ok(Recorded { faulty, ..recorded(Some(Datapath::Kernel)) });
        let health = Health { bridge: "br-mose".into(), database, switch: Ok(3) };
        let last = checks(Some(health)).pop().unwrap();
        assert_eq!(last.state, CheckState::Broken);
        assert!(last.found.contains("mo-1") && last.found.contains("no such device"), "{last:?}");
    }
}
