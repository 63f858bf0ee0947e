//! Workloads on hosts: a container from one of the images, on the overlay under an address of its own.

use std::net::Ipv4Addr;

use crate::config::Role;
use crate::error::LabError;
use crate::lab::Lab;
use crate::run::run;
use crate::workload::Workload;

/// The client's network namespace on `uav`.
pub const CLIENT_NETNS: &str = "client";
/// The client's address on the overlay.
pub const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

/// How a workload is started.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// The container's name, which is also its network namespace's.
    pub name: String,
    /// Its address on the overlay.
    pub address: Ipv4Addr,
    /// Further arguments of the workload's command, e.g. `--state-size 64MiB`.
    pub arguments: Vec<String>,
    /// Further options of `podman run`, e.g. `--memory 256m`, `--label a=b`.
    pub podman: Vec<String>,
    /// A shell's command that runs in the container beside the workload.
    pub beside: Option<String>,
}

impl ServiceOptions {
    /// Those of a workload that is alone: named like its kind, at 10.77.0.20.
    pub fn of(kind: &str) -> ServiceOptions {
        ServiceOptions {
            name: kind.to_owned(),
            address: Ipv4Addr::new(10, 77, 0, 20),
            arguments: Vec::new(),
            podman: Vec::new(),
            beside: None,
        }
    }
}

/// Starts a workload on a host: the agent attaches a network namespace to the overlay, Podman runs the container in it. The
/// container's id.
///
/// # Errors
/// There is no such workload or host; an edge host has a container of that name or a namespace with that address already, which
/// is left alone; or one of the two steps failed: then neither is left behind.
pub fn start_service(
    lab: &Lab,
    kind: &str,
    host: &str,
    options: &ServiceOptions,
) -> Result<String, LabError> {
    let workload = Workload::named(kind)?;
    let name = options.name.as_str();
    refuse_taken(lab, host, options)?;
    let address = format!("{}/24", options.address);
    let mut attach = lab.exec(host, &["mose-agent", "attach", name, "--address", &address])?;
    run(&format!("attaching {name} to the overlay on {host}"), &mut attach)?;
    let started =
        run(&format!("starting {name} on {host}"), &mut lab.exec(host, &podman_run(workload, options))?);
    match started {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(error) => {
            // The first failure is the one to tell.
            let _ = stop_service(lab, host, name);
            Err(error)
        }
    }
}

/// Prints `container` if there is one of the name in $1, and the addresses of all namespaces.
const INVENTORY: &str = r#"podman container exists "$1" && echo container
for netns in /run/netns/*; do ip -netns "${netns##*/}" -4 -oneline address 2>/dev/null; done; true"#;

/// A second copy of a service, anywhere, would take the first one's name or its clients.
fn refuse_taken(lab: &Lab, host: &str, options: &ServiceOptions) -> Result<(), LabError> {
    lab.host_pid(host)?;
    let name = options.name.as_str();
    for edge in lab.hosts().iter().filter(|edge| edge.role == Role::Edge && edge.init.is_some()) {
        let edge = edge.name.as_str();
        let mut look = lab.exec(edge, &["sh", "-c", INVENTORY, "sh", name])?;
        let found = run(&format!("looking for {name} on {edge}"), &mut look)?;
        let refusal =
            |reason: String| LabError::Invalid { what: format!("starting {name} on {host}"), reason };
        if found.lines().any(|line| line == "container") {
            return Err(refusal(format!(
                "{edge} has a container of that name already; stop it first (`mose lab service stop {name} --on {edge}`), or \
                 give another --name and --address"
            )));
        }
        let address = format!("inet {}/", options.address);
        if found.contains(&address) {
            return Err(refusal(format!(
                "{} is the address of another service, on {edge}; give another --address",
                options.address
            )));
        }
    }
    Ok(())
}

/// Removes a workload's container and its network namespace from a host. Harmless when either is gone.
///
/// # Errors
/// There is no such host, or Podman or the agent refused.
pub fn stop_service(lab: &Lab, host: &str, name: &str) -> Result<(), LabError> {
    let mut remove = lab.exec(host, &["podman", "rm", "--force", "--ignore", "--time", "0", name])?;
    let removed = run(&format!("removing the container {name} on {host}"), &mut remove);
    let mut detach = lab.exec(host, &["mose-agent", "detach", name])?;
    run(&format!("detaching {name} from the overlay on {host}"), &mut detach)?;
    removed.map(drop)
}

/// The `podman run` of a workload.
fn podman_run(workload: &Workload, options: &ServiceOptions) -> Vec<String> {
    let mut argv =
        ["podman", "run", "--detach", "--name", &options.name, "--network"].map(str::to_owned).to_vec();
    argv.push(format!("ns:/run/netns/{}", options.name));
    argv.extend(options.podman.iter().cloned());
    argv.push(workload.image());
    if let Some(beside) = &options.beside {
        argv.extend(["sh", "-c"].map(str::to_owned));
        argv.push(format!("({beside}) & exec \"$@\""));
        argv.push("sh".into());
    }
    argv.extend(workload.command.iter().map(|w| (*w).to_owned()));
    argv.extend(options.arguments.iter().cloned());
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_podman_and_arguments_to_the_program() {
        let mut options = ServiceOptions::of("counter");
        options.arguments = vec!["--state-size".into(), "64MiB".into()];
        options.podman = vec!["--memory".into(), "256m".into()];
        let argv = podman_run(Workload::named("counter").unwrap(), &options).join(" ");
        assert_eq!(
            argv,
            "podman run --detach --name counter --network ns:/run/netns/counter --memory 256m localhost/counter \
             mose-counter serve --state-size 64MiB"
        );
    }
}
