//! Which processes share one memory (`CLONE_VM`, or a `vfork` that has not exec'd yet), by kcmp(2).

use crate::Error;
use std::cmp::Ordering;
use std::io;

/// `KCMP_VM` of linux/kcmp.h.
const KCMP_VM: libc::c_int = 1;

/// How the kernel orders the memories of two processes; equal if they are one.
fn compare(one: u32, other: u32) -> Result<Ordering, Error> {
    // SAFETY: kcmp takes five numbers and touches no memory of ours.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    match order {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        _ => Err(match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOSYS) => Error::Unsupported {
                what: "telling which processes share their memory",
                why: "the kernel has no kcmp(2) (CONFIG_KCMP)".to_owned(),
            },
            // The kernel does not say which of the two is gone.
            e => Error::from_io("comparing the memory", one, e),
        }),
    }
}

fn ends(pid: u32) -> bool {
    // SAFETY: signal 0 asks whether the process exists and sends nothing.
    let asked = unsafe { libc::kill(pid.cast_signed(), 0) };
    asked != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Groups processes by the memory they use, each group with its lowest pid first; processes that are gone are left out.
///
/// # Errors
/// [`Error::Unsupported`] without kcmp(2), [`Error::Denied`] without the right to trace them.
pub fn by_memory(pids: &[u32]) -> Result<Vec<Vec<u32>>, Error> {
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    pids.dedup();
    // In the kernel's order of memories: log n comparisons for each.
    let mut groups: Vec<Vec<u32>> = Vec::new();
    'next: for pid in pids {
        let (mut low, mut high) = (0, groups.len());
        while low < high {
            let middle = low.midpoint(high);
            match compare(pid, groups[middle][0]) {
                Ok(Ordering::Equal) => {
                    groups[middle].push(pid);
                    continue 'next;
                }
                Ok(Ordering::Less) => high = middle,
                Ok(Ordering::Greater) => low = middle + 1,
                Err(Error::Gone { .. }) if ends(pid) => continue 'next,
                Err(Error::Gone { .. }) => {
                    // The other one ended: whoever shares its memory goes on in its place.
                    groups[middle].remove(0);
                    if groups[middle].is_empty() {
                        groups.remove(middle);
                        high -= 1;
                    }
                }
                Err(e) => return Err(e),
            }
        }
        groups.insert(low, vec![pid]);
    }
    groups.sort_unstable();
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_shares_its_memory_with_itself_and_not_with_another() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let (own, other) = (std::process::id(), child.id());
        let mut groups = by_memory(&[own, other, own]).unwrap();
        groups.sort_unstable_by_key(|group| group[0] == own);
        assert_eq!(groups, [vec![other], vec![own]]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(by_memory(&[own, other]).unwrap(), [vec![own]]);
    }
}
