//! Fleets that are larger, or whose names are longer, than anybody drew by hand.

use mose_protocol::agent::{Role, ServiceState};
use mose_screen::fleet_event::FleetEvent;
use mose_screen::state::State;

use super::fleet::{Load, NOW, ago, calibrate, hello, host, link, quiet, service, telemetry};

/// Names as long as the protocol lets them be.
pub(crate) fn long_names() -> State {
    let long =
        |stem: &str| format!("{stem}-{}", "of-the-northern-harbour.".repeat(4)).chars().take(63).collect();
    let (a, b, uav, what): (String, String, String, String) =
        (long("station-east"), long("station-west"), long("drone"), long("controller-of-flight"));
    let mut state = quiet();
    state.data = state.data.emptied(NOW);
    for (name, role) in [(&a, Role::Edge), (&b, Role::Edge), (&uav, Role::Mobile)] {
        state.data.take(hello(name, role), ago(9000));
    }
    for (name, other) in [(&a, &b), (&b, &a)] {
        let load: &[Load<'_>] =
            if name == &a { &[(&what, ServiceState::Running, 999_400_000, 99_940.0)] } else { &[] };
        let links = vec![link(other, 9_994_000_000, 994_000_000, ago(300))];
        state.data.take(FleetEvent::Telemetry(Box::new(telemetry(name, ago(300), load, links, 1))), ago(300));
    }
    calibrate(
        &mut state,
        &a,
        &b,
        Some("the calibration was made with kernel 6.1.0, and the host runs 6.12.0 now"),
    );
    state.ui.service = Some(service(&what));
    state.data.now = NOW;
    state
}

/// Two hundred hosts with a thousand services.
pub(crate) fn crowd() -> State {
    let mut state = quiet();
    for number in 0..200 {
        let name = format!("site-{number:03}");
        state.data.take(hello(&name, if number % 10 == 9 { Role::Mobile } else { Role::Edge }), ago(9000));
        let names: Vec<String> = (0..5).map(|n| format!("svc-{:04}", number * 5 + n)).collect();
        let loads: Vec<Load<'_>> = names
            .iter()
            .enumerate()
            .map(|(n, name)| {
                (name.as_str(), ServiceState::Running, 1_000_000 * (n as u64 + 1), 40.0 * n as f64)
            })
            .collect();
        let links = (1..9_u64).map(|n| {
            let to = format!("site-{:03}", (u64::try_from(number).unwrap_or(0) + n) % 200);
            link(&to, 1_000_000_000, 10_000_000 * n, ago(300))
        });
        for second in (0..20).rev() {
            let heard = ago(300 + second * 1000);
            let told = telemetry(&name, heard, &loads, links.clone().collect(), second);
            state.data.take(FleetEvent::Telemetry(Box::new(told)), heard);
        }
    }
    calibrate(&mut state, "site-100", "edge-a", None);
    state.ui.service = Some(service("svc-0502"));
    state.ui.destination = Some(host("edge-a"));
    state.data.now = NOW;
    state
}
