//! What this machine has that processes depend on, and CRIU.

use std::fs;
use std::path::Path;

use mose_protocol::check::Machine;
use mose_protocol::doctor::Check;

/// The instruction sets that a program may use by itself, of all the flags of a processor (`/proc/cpuinfo`): by their names, or
/// how these begin.
const INSTRUCTIONS: [&str; 40] = [
    "cmov",
    "mmx",
    "sse",
    "pni",
    "ssse3",
    "pclmulqdq",
    "fma",
    "cx16",
    "movbe",
    "popcnt",
    "aes",
    "xsave",
    "avx",
    "f16c",
    "rdrand",
    "abm",
    "bmi",
    "rtm",
    "hle",
    "rdseed",
    "adx",
    "clflushopt",
    "clwb",
    "sha_ni",
    "gfni",
    "vaes",
    "vpclmulqdq",
    "rdpid",
    "movdir",
    "amx_",
    "serialize",
    "waitpkg",
    "fsgsbase",
    "lahf_lm",
    "3dnowprefetch",
    "xop",
    "tbm",
    "erms",
    "fsrm",
    "ospke",
];

/// The number of CAP_SYS_RESOURCE.
const SYS_RESOURCE: u64 = 24;

/// Looks at this machine, but for what must be asked of programs.
#[must_use]
pub fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Machine {
        architecture: std::env::consts::ARCH.into(),
        instructions: instructions(&read("/proc/cpuinfo")),
        kernel: read("/proc/sys/kernel/osrelease").trim().into(),
        raises_limits: raises_limits(&read("/proc/self/status")),
        systemd: under_systemd(),
    }
}

/// Whether systemd runs here, so that Podman has its timers from it (sd_booted(3)).
#[must_use]
pub fn under_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn instructions(cpuinfo: &str) -> Vec<String> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    let flags = line.map(|(_, flags)| flags).unwrap_or_default();
    let used =
        flags.split_whitespace().filter(|flag| INSTRUCTIONS.iter().any(|known| flag.starts_with(known)));
    let mut used: Vec<String> = used.map(str::to_owned).collect();
    used.sort();
    used
}

/// Whether CRIU, run as this process is, may read and set the limits of other users' processes.
fn raises_limits(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok()).unwrap_or(0);
    capabilities & (1 << SYS_RESOURCE) != 0
}

/// Whether services here may have processes that are not root, as a check of this host.
#[must_use]
pub fn limits() -> Check {
    const WHAT: &str = "process limits";
    if machine().raises_limits {
        return Check::ok(WHAT, "processes that are not root can be dumped and restored (CAP_SYS_RESOURCE)");
    }
    Check::fallback(
        WHAT,
        "this host gives its programs no CAP_SYS_RESOURCE: CRIU can neither dump nor restore processes that are not root",
        "services whose processes are all root move; others are refused",
        "run the agent and Podman with CAP_SYS_RESOURCE; in a virtual machine or container, have its host give it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_sets_are_told_and_other_flags_are_not() {
        let text =
            "processor\t: 0\nflags\t\t: fpu cmov sse4_2 constant_tsc avx512f hypervisor aes\nbugs\t: x\n";
        assert_eq!(instructions(text), ["aes", "avx512f", "cmov", "sse4_2"]);
        assert!(instructions("").is_empty());
    }

    #[test]
    fn the_capability_is_a_bit_of_its_own() {
        assert!(raises_limits("CapEff:\t000001ffffffffff\n"));
        assert!(!raises_limits("CapEff:\t000001fffeffffff\n"));
        assert!(!raises_limits(""));
    }
}
