//! Where in the target a frame can lie without harm: on the stack that the kernel gave to its first thread, where nothing is.

use crate::maps::{Mapping, Task};
use crate::pagemap::Pagemap;
use crate::{Error, PAGE_BYTES, PageRange};

/// Free pages below a frame, should a signal handler be called on top of it.
const BELOW: u64 = 3;
/// What a function may use below its stack pointer (System V ABI for AMD64, 3.2.2).
const RED_ZONE: u64 = 128;
/// How far the thread's own stack must be away.
const DISTANCE: u64 = 32 << 10;

/// The kernel's stack of a process, and its untouched pages at the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    stack: PageRange,
    untouched: u64,
}

/// Looks at the stack of a process; `None` if the kernel shows none.
pub(super) fn find(task: Task, mappings: &[Mapping]) -> Result<Option<Place>, Error> {
    let Some(stack) = mappings.iter().find(|mapping| mapping.name == "[stack]" && mapping.writable) else {
        return Ok(None);
    };
    let mut pagemap = Pagemap::open(task)?;
    let mut first_used = stack.range.end;
    pagemap
        .entries(stack.range, |at, entry| {
            if entry >> 62 != 0 && at < first_used {
                first_used = at;
            }
        })
        .map_err(|e| pagemap.error(e))?;
    Ok(Some(Place { stack: stack.range, untouched: (first_used - stack.range.start) / PAGE_BYTES }))
}

impl Place {
    /// The address for a frame of at most `room` bytes while the first thread's stack pointer is `pointer`: in pages that were
    /// never used, so that no part of the program can have anything there; else far below the stack pointer, where the kernel
    /// too would put a frame. `None` if neither is to be had.
    pub(super) fn frame(&self, pointer: u64, room: u64) -> Option<u64> {
        let at = self.stack.start + BELOW * PAGE_BYTES;
        let end = at.checked_add(room)?.next_multiple_of(PAGE_BYTES);
        let on_it = self.stack.start <= pointer && pointer <= self.stack.end;
        let untouched = end <= self.stack.start + self.untouched * PAGE_BYTES;
        if untouched && (!on_it || end + DISTANCE <= pointer) {
            return Some(at);
        }
        let below = pointer.checked_sub(RED_ZONE + DISTANCE + room)? & !15;
        (on_it && below >= at).then_some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: PageRange = PageRange { start: 0x10_0000, end: 0x10_0000 + 33 * PAGE_BYTES };

    #[test]
    fn pages_that_were_never_used_come_first() {
        let place = Place { stack: STACK, untouched: 20 };
        assert_eq!(place.frame(STACK.end - 64, 3000), Some(STACK.start + 3 * PAGE_BYTES));
        assert_eq!(place.frame(0x7000_0000, 3000), Some(STACK.start + 3 * PAGE_BYTES), "on another stack");
    }

    #[test]
    fn a_stack_used_to_its_bottom_is_used_far_below_its_pointer_or_not_at_all() {
        let place = Place { stack: STACK, untouched: 0 };
        let pointer = STACK.end - 4096;
        let at = place.frame(pointer, 3000).unwrap();
        assert!(at + 3000 + DISTANCE <= pointer && at >= STACK.start + BELOW * PAGE_BYTES);
        assert_eq!(place.frame(STACK.start + 8192, 3000), None, "no room");
        assert_eq!(place.frame(0x7000_0000, 3000), None, "somebody else may use the stack");
    }

    #[test]
    fn a_deep_stack_keeps_its_distance() {
        let place = Place { stack: STACK, untouched: 5 };
        assert_eq!(place.frame(STACK.start + 6 * PAGE_BYTES, 3000), None);
    }

    #[test]
    fn this_process_has_room() {
        let (task, mappings) = crate::maps::look(std::process::id()).unwrap();
        let place = find(task, &mappings).unwrap().unwrap();
        assert!(place.frame(0x1000, 3000).is_some(), "{place:?}");
    }
}
