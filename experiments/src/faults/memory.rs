//! What the edge hosts' agents hold in memory, read after each migration of a soak.

use mose_experiments::documents::AgentMemory;
use mose_lab::Lab;

use super::host::daemon_pid;
use crate::course::EDGES;

/// After how many migrations an agent has met everything once: its memory at the end is compared with that.
pub(crate) const EARLY: usize = 50;

/// How many readings a figure is the median of: an agent holds several megabytes more at one moment than at the next.
const READINGS: usize = 10;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    pid: i32,
    bytes: u64,
}

/// The readings of each edge host's agent, in the order of [`EDGES`].
#[derive(Default)]
pub(crate) struct Memory([Vec<Reading>; EDGES.len()]);

impl Memory {
    /// Reads both; a host whose agent is not up at this moment has one reading fewer.
    pub(crate) fn read(&mut self, lab: &Lab) {
        for (host, readings) in EDGES.iter().zip(&mut self.0) {
            readings.extend(daemon_pid(lab, host, "mose-agent").and_then(reading));
        }
    }

    /// The end against what was after [`EARLY`] migrations; nothing where there were too few for both.
    pub(crate) fn compared(&self) -> Vec<AgentMemory> {
        let hosts = EDGES.iter().zip(&self.0);
        hosts.filter_map(|(host, readings)| compared(host, readings)).collect()
    }
}

fn compared(host: &str, readings: &[Reading]) -> Option<AgentMemory> {
    let early = readings.get(EARLY - READINGS..EARLY)?;
    let late =
        readings.get(readings.len().checked_sub(READINGS)?.max(EARLY)..).filter(|late| !late.is_empty())?;
    let mut pids: Vec<i32> = readings.iter().map(|reading| reading.pid).collect();
    pids.dedup();
    Some(AgentMemory::of(host, median(early), median(late), pids.len()))
}

fn median(readings: &[Reading]) -> u64 {
    let mut bytes: Vec<u64> = readings.iter().map(|reading| reading.bytes).collect();
    bytes.sort_unstable();
    bytes.get(bytes.len() / 2).copied().unwrap_or_default()
}

/// A process's resident memory (`VmRSS`, proc_pid_status(5)).
fn reading(pid: i32) -> Option<Reading> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    Some(Reading { pid, bytes: kib.trim().parse::<u64>().ok()? * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(lives: &[(i32, usize, u64)]) -> Vec<Reading> {
        lives
            .iter()
            .flat_map(|(pid, count, bytes)| vec![Reading { pid: *pid, bytes: *bytes }; *count])
            .collect()
    }

    #[test]
    fn the_end_is_compared_with_what_was_after_fifty_and_lives_are_counted() {
        let told = compared("edge-a", &readings(&[(7, 40, 10), (7, 10, 100), (7, 90, 120), (7, 10, 105)]));
        assert_eq!(told, Some(AgentMemory::of("edge-a", 100, 105, 1)));
        let told = compared("edge-a", &readings(&[(7, 50, 100), (8, 60, 90)]));
        assert_eq!(told, Some(AgentMemory::of("edge-a", 100, 90, 2)));
    }

    #[test]
    fn one_reading_that_stands_out_does_not_count() {
        let mut all = readings(&[(7, 100, 100)]);
        all[99].bytes = 1000;
        assert_eq!(compared("edge-a", &all), Some(AgentMemory::of("edge-a", 100, 100, 1)));
    }

    #[test]
    fn too_few_migrations_tell_nothing() {
        assert_eq!(compared("edge-a", &readings(&[(7, 50, 100)])), None);
        assert_eq!(compared("edge-a", &[]), None);
        assert!(reading(std::process::id() as i32).is_some_and(|reading| reading.bytes > 0));
    }
}
