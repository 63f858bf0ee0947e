//! Instructions that the target has anyway: nothing of its code is changed.

use crate::maps::{Backing, Mapping, Task};
use crate::{Error, PageReader, PageSet};

const SYSCALL_RET: &[u8] = &[0x0f, 0x05, 0xc3];
const SYSCALL: &[u8] = &[0x0f, 0x05];
/// `mov $15, %rax` and `mov $15, %eax`; with `syscall` behind it, how C libraries and Go return from a signal handler.
const NUMBERS: [&[u8]; 2] = [&[0x48, 0xc7, 0xc0, 15, 0, 0, 0], &[0xb8, 15, 0, 0, 0]];
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
        let place = |at: usize| Some(address + at as u64);
        // Every `syscall` begins with a byte that is rare enough to look for on its own.
        let mut from = 0;
        while let Some(found) =
            code.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == SYSCALL[0]))
        {
            let at = from + found;
            from = at + 1;
            if !code[at..].starts_with(SYSCALL) {
                continue;
            }
            self.syscall = self.syscall.or(place(at));
            if self.syscall_ret.is_none() && code[at..].starts_with(SYSCALL_RET) {
                self.syscall_ret = place(at);
            }
            for number in NUMBERS.iter().filter(|number| code[..at].ends_with(number)) {
                self.restorer = self.restorer.or(place(at - number.len()));
            }
            if self.is_complete() {
                return;
            }
        }
        if self.pop_rax_ret.is_none() {
            self.pop_rax_ret = code.windows(2).position(|bytes| bytes == POP_RAX_RET).and_then(place);
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

/// Searches the code of the target, as it is in its memory: the C library first, where all is found soon, then the kernel's own
/// page and the other files.
pub(super) fn find(task: Task, mappings: &[Mapping]) -> Result<Gadgets, Error> {
    let mut gadgets = Gadgets::default();
    let mut reader = PageReader::new();
    let vdso = mappings.iter().filter(|mapping| mapping.name == "[vdso]");
    let files = mappings.iter().filter(|m| m.executable && m.readable && m.backing == Backing::PrivateFile);
    let mut places: Vec<_> = vdso.chain(files).collect();
    let library = |name: &str| ["/libc.", "/libc-", "/ld-musl"].iter().any(|start| name.contains(start));
    places.sort_by_key(|mapping| !library(&mapping.name));
    for mapping in places {
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
        let code = [&[0x90][..], SYSCALL_RET, &[0x90], POP_RAX_RET, NUMBERS[1], SYSCALL].concat();
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
