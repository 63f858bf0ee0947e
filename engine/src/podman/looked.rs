//! A running container looked at, off the async threads: its processes, and what it was created with.

use std::path::PathBuf;
use std::time::Duration;

use mose_movable::{Looked, Options, Subject, device_files, log_that_stays};
use mose_protocol::{Refusal, RefusalCode};
use serde_json::Value;

use super::{beside, freezer, hooks, pid_of, processes, runtime_config};
use crate::Container;

/// How long it may take: a hundred thousand descriptors take a second.
const DEADLINE: Duration = Duration::from_secs(8);

/// Looks at the processes of a container, and at what it keeps beside them, by Podman's inspection of it.
pub(super) async fn look(container: &Container, inspect: &Value) -> Result<Looked, Refusal> {
    let container = container.clone();
    let name = container.name.clone();
    let trees = beside::trees(inspect, &runtime_config(&container)?);
    let folders = std::iter::once(container.rootfs_changes.clone())
        .chain(trees.into_iter().filter(|tree| tree.only.is_none()).map(|tree| tree.path))
        .collect::<Vec<_>>();
    let driver = inspect["HostConfig"]["LogConfig"]["Type"].as_str().unwrap_or_default().to_owned();
    // One that takes longer goes on for nobody, to its end: a thread cannot be broken off.
    let looked = tokio::task::spawn_blocking(move || -> Result<Looked, Refusal> {
        let mut looked = mose_movable::look(&subject(&container)?);
        looked.findings.extend(device_files(&folders));
        looked.findings.extend(log_that_stays(&driver));
        Ok(looked)
    });
    let failed = |reason: String| {
        Refusal::new(
            RefusalCode::Engine,
            format!("the processes of {name} cannot be looked at: {reason}"),
            "see the agent's log, and whether that host is overloaded; then ask again",
        )
    };
    match tokio::time::timeout(DEADLINE, looked).await {
        Ok(Ok(looked)) => looked,
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("it took longer than {DEADLINE:?}"))),
    }
}

fn subject(container: &Container) -> Result<Subject, Refusal> {
    let pid = pid_of(container)?;
    let processes = processes::tree(pid);
    let members = freezer::members(pid).unwrap_or_default();
    let strangers = members.into_iter().filter(|member| !processes.contains(member)).collect();
    Ok(Subject {
        processes,
        strangers,
        places: places(&runtime_config(container)?),
        options: Options::read(&hooks::CRIU_CONFIGURATIONS),
        keyring: format!("_ses.{}", container.id),
    })
}

/// Where the runtime mounts or hides something in the container.
fn places(runtime: &Value) -> Vec<PathBuf> {
    let texts = |list: &Value, field: Option<&str>| -> Vec<PathBuf> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |entry: &Value| field.map_or(entry, |field| &entry[field]).as_str().map(PathBuf::from);
        list.iter().filter_map(text).collect()
    };
    let linux = &runtime["linux"];
    let mut places = texts(&runtime["mounts"], Some("destination"));
    places.extend(texts(&linux["maskedPaths"], None));
    places.extend(texts(&linux["readonlyPaths"], None));
    places.extend(texts(&linux["devices"], Some("path")));
    places
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_runtime_mounts_is_known() {
        let runtime = json!({
            "mounts": [{ "destination": "/dev/shm" }, { "destination": "/data" }],
            "linux": { "maskedPaths": ["/proc/acpi"], "readonlyPaths": ["/proc/bus"], "devices": [{ "path": "/dev/fuse" }] },
        });
        let expected = ["/dev/shm", "/data", "/proc/acpi", "/proc/bus", "/dev/fuse"].map(PathBuf::from);
        assert_eq!(places(&runtime), expected);
        assert!(places(&json!({})).is_empty());
    }
}
