//! What hosts told, as tables for people; what silent ones told last stands below, and every such row says when that was.

use mose_orchestrator::told::{Last, Link, Told, Unanswered, ago};
use mose_protocol::Timestamp;
use mose_protocol::agent::ServiceInfo;
use mose_protocol::link::CapacityFrom;

use crate::table::{known, table};

/// Rows of how it is now, then those of how it was, which are marked; the mark's column is there only where it is needed.
fn with_last<T>(
    all: &Told<T>,
    headings: &[&str],
    right: &[usize],
    now: Timestamp,
    row: impl Fn(&T, bool) -> Vec<String>,
) -> String {
    let mut rows: Vec<Vec<String>> = all.told.iter().map(|live| row(live, true)).collect();
    if all.last.is_empty() {
        return table(headings, right, &rows);
    }
    rows.iter_mut().for_each(|row| row.push("now".to_owned()));
    rows.extend(all.last.iter().map(|Last { row: last, last_told_at, .. }| {
        let mut cells = row(last, false);
        cells.push(format!("last told {}", ago(*last_told_at, now)));
        cells
    }));
    table(&[headings, &["told"]].concat(), right, &rows)
}

/// Services as a table, one line each.
#[must_use]
pub fn services(all: &Told<ServiceInfo>, now: Timestamp) -> String {
    let headings = ["service", "host", "state", "address", "memory", "processes", "image"];
    with_last(all, &headings, &[4, 5], now, |service, live| {
        let state = service.state.name();
        vec![
            service.name.to_string(),
            service.host.to_string(),
            if live { state.to_owned() } else { format!("was {state}") },
            service.address.map_or_else(|| "not on the overlay".to_owned(), |a| a.addr().to_string()),
            known(service.memory),
            known(service.processes),
            service.image.clone(),
        ]
    })
}

/// Links as a table, one line for each direction.
#[must_use]
pub fn links(all: &Told<Link>, now: Timestamp) -> String {
    let time = |at: Option<Timestamp>| {
        let at = chrono::DateTime::from_timestamp_micros(i64::try_from(at?.0).ok()?)?;
        Some(at.format("%H:%M:%S").to_string())
    };
    let headings = ["link", "capacity", "used", "available", "RTT", "jitter", "learnt from", "at (UTC)"];
    with_last(all, &headings, &[1, 2, 3, 4, 5], now, |Link { from, metrics }, _| {
        vec![
            format!("{from} → {}", metrics.to),
            known(metrics.capacity),
            known(metrics.used),
            known(metrics.available),
            known(metrics.rtt),
            known(metrics.rtt_jitter),
            known(metrics.capacity_from.map(CapacityFrom::name)),
            known(time(metrics.capacity_at)),
        ]
    })
}

/// That a host did not tell, and what of it is in the list all the same: `rows` of what it told last.
#[must_use]
pub fn missing(missing: &Unanswered, rows: usize, now: Timestamp) -> String {
    let Unanswered { host, refused, last_told_at, .. } = missing;
    match (last_told_at, rows) {
        (None, _) => format!("{host} is missing in this list: {refused}"),
        (Some(at), 0) => {
            let when = ago(*at, now);
            format!(
                "{host} is missing in this list, and last told {when}, of nothing that belongs here: {refused}"
            )
        }
        (Some(at), _) => format!("{host} is as it last told {}: {refused}", ago(*at, now)),
    }
}

#[cfg(test)]
mod tests {
    use mose_protocol::agent::ServiceState;

    use super::*;

    fn service(name: &str, host: &str) -> ServiceInfo {
        ServiceInfo {
            name: name.parse().unwrap(),
            host: host.parse().unwrap(),
            state: ServiceState::Running,
            image: "web".into(),
            address: None,
            memory: None,
            processes: None,
            connections: None,
        }
    }

    #[test]
    fn what_is_told_no_more_stands_below_and_says_so_in_each_row() {
        let now = Timestamp(100_000_000);
        let mut all =
            Told { told: vec![service("zeta", "edge-a")], last: Vec::new(), unanswered: Vec::new() };
        assert!(!services(&all, now).contains("told"), "nothing is silent");
        let row = service("alpha", "edge-b");
        all.last.push(Last { row, silent: true, last_told_at: Timestamp(66_000_000) });
        let expected = "\
service  host    state        address             memory  processes  image  told
zeta     edge-a  running      not on the overlay       –          –  web    now
alpha    edge-b  was running  not on the overlay       –          –  web    last told 34 s ago";
        assert_eq!(services(&all, now), expected);
    }

    #[test]
    fn a_time_is_told_in_a_unit_that_fits_and_never_lies_ahead() {
        let now = Timestamp(10_000_000_000_000);
        for (before, said) in
            [(0, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7199, "119 min ago"), (7200, "2 h ago")]
        {
            assert_eq!(ago(Timestamp(now.0 - before * 1_000_000), now), said);
        }
        assert_eq!(ago(Timestamp(now.0 + 5_000_000), now), "0 s ago", "another clock is ahead");
    }
}
