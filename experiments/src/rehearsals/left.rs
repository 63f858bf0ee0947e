//! What a rehearsal left on the two hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use mose_lab::Lab;

use crate::faults::host::{sh, wait_until};
use crate::faults::traces::Inventory;

/// How long what a rehearsal made may take to be removed.
const SETTLE: Duration = Duration::from_secs(10);

/// From where to where, and what.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    /// The container's name, which is its endpoint's too.
    pub(super) service: String,
    /// Its id, which is the same on every host.
    pub(super) id: String,
}

/// What a host had in a part, with the service or without, when it was first seen in it: a leak cannot hide behind an earlier one.
#[derive(Debug, Default)]
pub(super) struct Usual(BTreeMap<(&'static str, bool), Inventory>);

/// What the hosts of a rehearsal had before it.
#[derive(Debug)]
pub(super) struct Before {
    source: Inventory,
    destination: Inventory,
    /// The destination as it was right before: routes may have changed since it was first seen.
    just_before: Inventory,
}

impl Usual {
    /// What there is before a rehearsal.
    pub(super) fn before(&mut self, lab: &Lab, way: &Way) -> color_eyre::Result<Before> {
        let just_before = Inventory::of(lab, way.to)?;
        let source = match self.0.get(&(way.from, true)) {
            Some(first) => first.clone(),
            None => Inventory::of(lab, way.from)?,
        };
        self.0.entry((way.from, true)).or_insert_with(|| source.clone());
        let destination = self.0.entry((way.to, false)).or_insert_with(|| just_before.clone()).clone();
        Ok(Before { source, destination, just_before })
    }
}

/// What is left over once there was time to remove it, and whether any of the container's processes are at the destination.
pub(super) fn left(lab: &Lab, way: &Way, before: &Before) -> color_eyre::Result<(Vec<String>, bool)> {
    let mut found = Ok((Vec::new(), false));
    wait_until(SETTLE, || {
        found = look(lab, way, before);
        found.as_ref().is_ok_and(|(left, processes)| left.is_empty() && !processes)
    });
    found
}

fn look(lab: &Lab, way: &Way, before: &Before) -> color_eyre::Result<(Vec<String>, bool)> {
    let (source, destination) = (Inventory::of(lab, way.from)?, Inventory::of(lab, way.to)?);
    let mut left = source.beyond(&before.source, way.from);
    if !stands(&source, way) {
        left.push(format!("{} does not run on {}", way.service, way.from));
    }
    let more = destination.beyond(&before.destination, way.to);
    // Counts are the usual tale; what has only taken another's place shows by its name.
    left.extend(if more.is_empty() { of_the_service(&destination, &before.just_before, way) } else { more });
    let script = format!("grep -ls -- {} /proc/[0-9]*/cgroup; true", way.id);
    let processes: Vec<String> = sh(lab, way.to, &script)?
        .lines()
        .filter_map(|line| Some(line.split('/').nth(2)?.to_owned()))
        .collect();
    if !processes.is_empty() {
        let processes_named = processes.join(", ");
        left.push(format!("processes {processes_named} of {} on {}", way.service, way.to));
    }
    Ok((left, !processes.is_empty()))
}

/// Whether the source says that the service runs.
fn stands(source: &Inventory, way: &Way) -> bool {
    let running = format!("{} {} running", way.id, way.service);
    source.of_kind("container").iter().any(|item| item.to_ascii_lowercase().starts_with(&running))
}

/// What a destination has that can only be of this service: whatever bears its id or name, CRIU and runc at work, and new flows of its
/// address, which lead to its endpoint or hold what comes.
fn of_the_service(now: &Inventory, before: &Inventory, way: &Way) -> Vec<String> {
    let named = |kind: &str, item: &str| {
        item.contains(&way.id)
            || (kind == "network namespace" && item == way.service)
            || (kind == "container" && item.split_whitespace().nth(1) == Some(way.service.as_str()))
            || (kind == "process" && ["criu", "runc"].iter().any(|name| item.starts_with(name)))
    };
    let is_new = |kind: &str, item: &String| kind == "flow" && !before.of_kind(kind).contains(item);
    let mut left = Vec::new();
    for (kind, items) in now.kinds() {
        for item in items.iter().filter(|item| named(kind, item) || is_new(kind, item)) {
            left.push(format!("{kind} on {}: {}", way.to, item.chars().take(160).collect::<String>()));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way() -> Way {
        Way { from: "edge-a", to: "edge-b", service: "redis".into(), id: "abc123".into() }
    }

    #[test]
    fn what_bears_the_services_name_or_id_is_left_over_and_what_was_there_is_not() {
        let before = Inventory::read(
            "container\tfff other running\nlink\tlo\nflow\ttable=0, nw_dst=10.77.0.20 actions=output:2\n",
        );
        assert!(of_the_service(&before, &before, &way()).is_empty());
        let now = Inventory::read(
            "container\tfff other running\ncontainer\tabc123 redis created\nnetwork namespace\tredis\nhook marker\tabc123\n\
             process\tcriu 77\nprocess\tmose-criu-hook 78\nmount\t/var/lib/containers/storage/overlay/x\n\
             flow\ttable=0, nw_dst=10.77.0.20 actions=CONTROLLER:65535\n",
        );
        let left = of_the_service(&now, &before, &way());
        let kinds: Vec<&str> = left.iter().filter_map(|line| line.split(" on ").next()).collect();
        assert_eq!(kinds, ["container", "flow", "hook marker", "network namespace", "process"], "{left:?}");
    }

    #[test]
    fn a_service_stands_where_podman_says_that_it_runs() {
        let runs = |text: &str| stands(&Inventory::read(text), &way());
        assert!(runs("container\tabc123 redis running\n"));
        assert!(!runs("container\tabc123 redis exited\n"));
        assert!(!runs("container\tfff redis running\n"));
    }
}
