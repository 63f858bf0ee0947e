//! Instructions that the target has anyway: nothing of its code is changed.

use crate::maps::{Backing, Mapping, Task};
use crate::{Error, PageReader, PageSet};

const SYSCALL_RET: &[u8] = &[0x0f, 0x05, 0xc3];
const SYSCALL: &[u8] = &[0x0f, 0x05];
/// `mov $15, %rax; syscall` and `mov $15, %eax; syscall`: how C libraries and Go return from a signal handler.
const RESTORERS: [&[u8]; 2] =
    [&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05], &[0xb8, 15, 0, 0, 0, 0x0f, 0x05]];
const POP_RAX_RET: &[u8] = &[0x58, 0xc3];

/// Where in the target a system call is made, and how sigreturn(2) is reached behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Gadgets {
    syscall_ret: Option<u64>,
    syscall: Option<u64>,
    restorer: Option<u64>,
    pop_rax_ret: Option<u64>,
}

impl Gadgets {
    /// Looks at some code.
    fn search(&mut self, address: u64, code: &[u8]) {
        let find = |pattern: &[u8]| {
            code.windows(pattern.len()).position(|bytes| bytes == pattern).map(|at| address + at as u64)
        };
        let note = |place: &mut Option<u64>, pattern: &[u8]| {
            if place.is_none() {
                *place = find(pattern);
            }
        };
        note(&mut self.syscall_ret, SYSCALL_RET);
        note(&mut self.syscall, SYSCALL);
        note(&mut self.pop_rax_ret, POP_RAX_RET);
        for restorer in RESTORERS {
            note(&mut self.restorer, restorer);
        }
    }

    /// Address of a `syscall; ret`, and what must be on the stack behind it to end in sigreturn.
    pub(super) fn way(&self) -> Option<(u64, Vec<u64>)> {
        let call = self.syscall_ret?;
        if let Some(restorer) = self.restorer {
            return Some((call, vec![restorer]));
        }
        let number = libc::SYS_rt_sigreturn.cast_unsigned();
        Some((call, vec![self.pop_rax_ret?, number, self.syscall?]))
    }

    fn is_complete(&self) -> bool {
        self.syscall_ret.is_some() && self.restorer.is_some()
    }
}

/// Searches the code of the target, as it is in its memory: the kernel's own page first, then the files.
pub(super) fn find(task: Task, mappings: &[Mapping]) -> Result<Gadgets, Error> {
    let mut gadgets = Gadgets::default();
    let mut reader = PageReader::new();
    let vdso = mappings.iter().filter(|mapping| mapping.name == "[vdso]");
    let files = mappings.iter().filter(|m| m.executable && m.readable && m.backing == Backing::PrivateFile);
    for mapping in vdso.chain(files) {
        let pages: PageSet = [mapping.range].into_iter().collect();
        let mut report = crate::ReadReport::default();
        reader.read_task(task, &pages, &mut report, &mut |chunk| {
            if !gadgets.is_complete() {
                gadgets.search(chunk.address, chunk.bytes);
            }
        })?;
        if gadgets.is_complete() {
            break;
        }
    }
    Ok(gadgets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restorer_is_the_shortest_way() {
        let mut gadgets = Gadgets::default();
        let code = [&[0x90][..], SYSCALL_RET, &[0x90], POP_RAX_RET, RESTORERS[1]].concat();
        gadgets.search(0x1000, &code);
        assert_eq!(gadgets.way(), Some((0x1001, vec![0x1007])));
    }

    #[test]
    fn without_a_restorer_the_number_is_popped() {
        let mut gadgets = Gadgets::default();
        gadgets.search(0x1000, &[POP_RAX_RET, SYSCALL_RET].concat());
        assert_eq!(gadgets.way(), Some((0x1002, vec![0x1000, 15, 0x1002])));
    }

    #[test]
    fn without_a_way_back_there_is_no_way() {
        let mut gadgets = Gadgets::default();
        gadgets.search(0x1000, SYSCALL_RET);
        assert_eq!(gadgets.way(), None);
    }

    #[test]
    fn this_process_has_what_is_needed() {
        let (task, mappings) = crate::maps::look(std::process::id()).unwrap();
        assert!(find(task, &mappings).unwrap().way().is_some());
    }
}
