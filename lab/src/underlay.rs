//! The underlay: one bridge in a network namespace of its own, one veth per host. It is nobody's but the lab's, so nothing
//! of it shows in, or leaks to, the machine's own network. The link between the edge hosts can be made as slow as a real one.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::config::{HOSTS, LinkRate, Role, UNDERLAY_INTERFACE, UNDERLAY_PREFIX};
use crate::error::LabError;
use crate::procfs::Process;
use crate::run::{machine_program, run, run_with_input};

const BRIDGE: &str = "underlay";

/// `program` in the network namespace of `pid`. With its own mounts, so that it is the machine's program.
fn in_netns(pid: i32, program: &str) -> Command {
    let mut command = machine_program("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").arg(program);
    command
}

/// Makes the bridge. Harmless if it is there.
pub(crate) fn make_bridge(holder: Process) -> Result<(), LabError> {
    if run("looking for the underlay's bridge", in_netns(holder.pid, "ip").args(["link", "show", BRIDGE]))
        .is_ok()
    {
        return Ok(());
    }
    let batch = format!(
        "link add {BRIDGE} type bridge forward_delay 0 stp_state 0\nlink set {BRIDGE} up\nlink set lo up\n"
    );
    batched("making the underlay's bridge", in_netns(holder.pid, "ip"), &batch)
}

/// Connects the network namespace that `pid` lives in to the underlay, under the host's address.
pub(crate) fn attach(holder: Process, host: &str, address: Ipv4Addr, pid: i32) -> Result<(), LabError> {
    // What an earlier life of the host left; mostly there is none, and then this says so and does nothing.
    let _ = in_netns(holder.pid, "ip").args(["link", "del", host]).output();
    let batch = format!(
        "link add {host} type veth peer name {UNDERLAY_INTERFACE} netns {pid}\nlink set {host} master {BRIDGE} up\n"
    );
    let what = format!("connecting {host} to the underlay");
    batched(&what, in_netns(holder.pid, "ip"), &batch)?;
    let batch = format!(
        "link set lo up\naddr add {address}/{UNDERLAY_PREFIX} dev {UNDERLAY_INTERFACE}\nlink set {UNDERLAY_INTERFACE} up\n"
    );
    batched(&what, in_netns(pid, "ip"), &batch)
}

/// Puts a port of the underlay on the bridge.
pub(crate) fn plug(holder: Process, port: &str) -> Result<(), LabError> {
    let batch = format!("link set {port} master {BRIDGE} up\n");
    batched(&format!("putting {port} on the underlay's bridge"), in_netns(holder.pid, "ip"), &batch)
}

/// Takes a port off the bridge. The link stays.
pub(crate) fn unplug(holder: Process, port: &str) -> Result<(), LabError> {
    let batch = format!("link set {port} nomaster\n");
    batched(&format!("taking {port} off the underlay's bridge"), in_netns(holder.pid, "ip"), &batch)
}

/// Removes the host's end of the veth, if it has one.
pub(crate) fn detach(pid: i32) {
    let _ = in_netns(pid, "ip").args(["link", "del", UNDERLAY_INTERFACE]).output();
}

/// Whether the host still has its end of the veth.
pub(crate) fn attached(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}/root/sys/class/net/{UNDERLAY_INTERFACE}")).exists()
}

fn batched(what: &str, mut ip: Command, batch: &str) -> Result<(), LabError> {
    run_with_input(what, ip.args(["-batch", "-"]), batch).map(drop)
}

/// Shapes what an edge host sends to the other edge host, and nothing else. `pid` is the host's.
pub(crate) fn shape(pid: i32, host: &str, rate: LinkRate) -> Result<(), LabError> {
    let tc = || in_netns(pid, "tc");
    // There may be none to remove.
    let _ = tc().args(["qdisc", "del", "dev", UNDERLAY_INTERFACE, "root"]).output();
    let LinkRate::Bits(bits) = rate else { return Ok(()) };
    let Some((_, _, peer)) = HOSTS.iter().find(|(name, role, _)| *role == Role::Edge && *name != host) else {
        return Ok(());
    };
    let batch = shaping(*peer, bits);
    run_with_input(&format!("shaping the edge link of {host} to {rate}"), tc().args(["-batch", "-"]), &batch)
        .map(drop)
}

/// The commands that shape: htb, whose unclassified traffic passes directly, and one class for the peer's address. The
/// queue holds 10 ms, so that a full link delays control messages as a real one would, not by the 1000 segments of 64 KiB
/// a default queue holds.
fn shaping(peer: Ipv4Addr, bits: u64) -> String {
    let bytes = bits / 8;
    let burst = (bytes / 500).clamp(16 << 10, 4 << 20);
    let queue = (bytes / 100).clamp(256 << 10, 16 << 20);
    let dev = UNDERLAY_INTERFACE;
    format!(
        "qdisc add dev {dev} root handle 1: htb default 0\n\
         class add dev {dev} parent 1: classid 1:10 htb rate {bits}bit ceil {bits}bit burst {burst}b cburst {burst}b quantum 60000\n\
         qdisc add dev {dev} parent 1:10 handle 10: bfifo limit {queue}b\n\
         filter add dev {dev} parent 1: protocol ip prio 1 u32 match ip dst {peer}/32 flowid 1:10\n"
    )
}

/// Whether this machine's kernel makes all the devices and queues the lab and the overlay need; what it refuses, if any.
pub(crate) fn refused_by_kernel() -> Vec<String> {
    let trials: [(&str, &str); 5] = [
        ("veth", "ip link add t0 type veth peer name t1"),
        ("bridge", "ip link add t2 type bridge"),
        ("vxlan", "ip link add t3 type vxlan id 1 remote 10.0.0.1 dstport 4789"),
        ("sch_htb", "tc qdisc add dev lo root handle 1: htb"),
        (
            "cls_u32",
            "tc filter add dev lo parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.1/32 flowid 1:10",
        ),
    ];
    // One throw-away namespace for all; each trial says its number if it fails.
    let script: String =
        trials.iter().map(|(name, trial)| format!("{trial} >/dev/null 2>&1 || echo {name}\n")).collect();
    run("trying the kernel's network", machine_program("unshare").args(["--net", "sh", "-c", &script]))
        .map(|refused| refused.lines().map(str::to_owned).collect())
        .unwrap_or_else(|error| vec![error.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_traffic_to_the_other_edge_host_is_shaped() {
        let text = shaping(Ipv4Addr::new(10, 99, 0, 12), 1_000_000_000);
        assert!(text.contains("match ip dst 10.99.0.12/32 flowid 1:10"));
        assert!(text.contains("htb default 0"));
        assert!(text.contains("limit 1250000b"), "{text}");
    }
}
