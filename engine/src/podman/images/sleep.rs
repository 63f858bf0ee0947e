//! Threads that sleep (nanosleep(2), clock_nanosleep(2)) for a time that is not over.
//!
//! A stopped thread's sleep goes on by itself once the thread does. CRIU cannot bring that about, and has it return `EINTR`
//! (`compel/arch/x86/src/lib/infect.c`: "Will restore with interrupted system call"), though there was no signal: most programs
//! take that for the end of their sleep, and `sleep 1000` is over by a migration. So the thread is given the registers with which it
//! calls again: for the time that was left, where the kernel has written that down for it, else for the whole time.
//!
//! The kernel may have begun to resume the call before CRIU came (`restart_syscall(2)`), after the container was frozen once. Which
//! call it was is then told by its arguments, or not at all: then nothing is changed.

use super::entries::Patch;
use super::field::{Field, fields, message, number};

/// Fields of `core_entry`, `thread_info_x86` and `user_x86_regs_entry` (`core.proto`, `core-x86.proto`).
const ARCHITECTURE: u64 = 1;
const THREAD_INFO: u64 = 2;
const REGISTERS: u64 = 2;
const R10: u64 = 8;
const AX: u64 = 11;
const DX: u64 = 13;
const SI: u64 = 14;
const DI: u64 = 15;
const ORIG_AX: u64 = 16;
const IP: u64 = 17;
const MODE: u64 = 28;

/// `core_entry.march`, `user_x86_regs_entry.mode`: x86-64, and a program of 64 bits.
const X86_64: u64 = 1;
const NATIVE: u64 = 1;

/// System calls of x86-64, what they return, and how long the instruction is that calls.
const NANOSLEEP: u64 = 35;
const RESTART_SYSCALL: u64 = 219;
const CLOCK_NANOSLEEP: u64 = 230;
const INTERRUPTED: u64 = -(libc::EINTR as i64) as u64;
const INSTRUCTION: u64 = 2;

/// Clocks have smaller numbers (clock_gettime(2)).
const CLOCKS: u64 = 16;
/// No file descriptor, count or duration in milliseconds is as large, and all stacks and heaps of 64 bits lie above it.
const POINTERS: u64 = 1 << 32;

/// What is to be changed in an entry of `core-TID.img`.
pub(super) fn mend(entry: &[u8]) -> Vec<Patch> {
    sleeper(entry).unwrap_or_default()
}

fn sleeper(entry: &[u8]) -> Option<Vec<Patch>> {
    let core = fields(entry)?;
    if number(&core, ARCHITECTURE)?.0 != X86_64 {
        return None;
    }
    let (thread, thread_at) = message(&core, THREAD_INFO)?;
    let (bytes, bytes_at) = message(&fields(thread)?, REGISTERS)?;
    let registers = Registers { fields: fields(bytes)?, bytes, at: thread_at + bytes_at };
    if registers.value(AX)? != INTERRUPTED || registers.value(MODE)? != NATIVE {
        return None;
    }
    let (call, time, left) = registers.sleep()?;
    let mut patches = registers.set(AX, call)?;
    patches.extend(registers.set(IP, registers.value(IP)?.checked_sub(INSTRUCTION)?)?);
    // The kernel writes what is left there whenever it interrupts the call.
    if let Some(left) = registers.value(left).filter(|left| *left != 0) {
        patches.extend(registers.set(time, left).unwrap_or_default());
    }
    Some(patches)
}

/// The registers of a thread, and where they stand in the entry.
struct Registers<'a> {
    fields: Vec<Field<'a>>,
    bytes: &'a [u8],
    at: usize,
}

impl Registers<'_> {
    fn value(&self, register: u64) -> Option<u64> {
        number(&self.fields, register).map(|(value, _)| value)
    }

    /// The call that sleeps for a relative time, and the registers of its time and of where the time that is left is written.
    fn sleep(&self) -> Option<(u64, u64, u64)> {
        let (di, si, dx) = (self.value(DI)?, self.value(SI)?, self.value(DX)?);
        let nanosleep = (NANOSLEEP, DI, SI);
        let clock_nanosleep = (CLOCK_NANOSLEEP, DX, R10);
        match self.value(ORIG_AX)? {
            NANOSLEEP => Some(nanosleep),
            CLOCK_NANOSLEEP => Some(clock_nanosleep),
            RESTART_SYSCALL if di < CLOCKS && si == 0 && dx >= POINTERS => Some(clock_nanosleep),
            RESTART_SYSCALL if di >= POINTERS && si >= POINTERS => Some(nanosleep),
            _ => None,
        }
    }

    /// What is to be changed for a register to have this value; `None` if that needs more room than there is.
    fn set(&self, register: u64, mut value: u64) -> Option<Vec<Patch>> {
        let begin = number(&self.fields, register)?.1;
        let length = self.bytes.get(begin..)?.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let mut patches = Vec::new();
        for place in 0..length {
            let more = if place + 1 < length { 0x80 } else { 0 };
            patches.push(Patch { at: self.at + begin + place, byte: (value & 0x7f) as u8 | more });
            value >>= 7;
        }
        (value == 0).then_some(patches)
    }
}

#[cfg(test)]
mod tests {
    use super::super::written::{self, bytes_field, numbers};
    use super::*;
    use proptest::prelude::*;

    const STACK: u64 = 0x7ffc_d763_cef8;
    const AFTER: u64 = 0x4a_e3f7;

    /// A thread's entry with these registers; with what this program knows nothing of around it.
    fn entry(registers: &[(u64, u64)]) -> Vec<u8> {
        let thread =
            [numbers(&[(1, STACK)]), bytes_field(2, &numbers(registers)), bytes_field(3, &[8, 0])].concat();
        [numbers(&[(1, X86_64)]), bytes_field(2, &thread), bytes_field(5, b"later")].concat()
    }

    /// The registers of a thread in this call, with its arguments.
    fn registers(call: u64, [di, si, dx, r10]: [u64; 4]) -> Vec<(u64, u64)> {
        [
            (1, 2),
            (R10, r10),
            (AX, INTERRUPTED),
            (DX, dx),
            (SI, si),
            (DI, di),
            (ORIG_AX, call),
            (IP, AFTER),
            (MODE, NATIVE),
        ]
        .to_vec()
    }

    fn mended(entry: Vec<u8>) -> Vec<u8> {
        written::mended(entry, mend)
    }

    /// What the registers are afterwards: ax, ip, di, dx.
    fn after(call: u64, arguments: [u64; 4]) -> [u64; 4] {
        let entry = mended(entry(&registers(call, arguments)));
        let core = fields(&entry).unwrap();
        let thread = fields(message(&core, THREAD_INFO).unwrap().0).unwrap();
        let registers = fields(message(&thread, REGISTERS).unwrap().0).unwrap();
        [AX, IP, DI, DX].map(|register| number(&registers, register).unwrap().0)
    }

    #[test]
    fn a_sleep_goes_on_for_the_time_that_was_left() {
        let left = STACK + 16;
        for call in [CLOCK_NANOSLEEP, RESTART_SYSCALL] {
            assert_eq!(after(call, [1, 0, STACK, left]), [CLOCK_NANOSLEEP, AFTER - 2, 1, left]);
        }
        for call in [NANOSLEEP, RESTART_SYSCALL] {
            assert_eq!(after(call, [STACK, left, 0, 0]), [NANOSLEEP, AFTER - 2, left, 0]);
        }
    }

    #[test]
    fn one_whose_rest_is_written_nowhere_begins_again() {
        assert_eq!(after(CLOCK_NANOSLEEP, [0, 0, STACK, 0]), [CLOCK_NANOSLEEP, AFTER - 2, 0, STACK]);
        assert_eq!(after(NANOSLEEP, [STACK, 0, 7, 7]), [NANOSLEEP, AFTER - 2, STACK, 7]);
    }

    #[test]
    fn every_other_call_stays_interrupted() {
        let (poll, futex) = (7, 202);
        for (call, arguments) in [
            (poll, [STACK, 1, 60_000, 0]),
            (futex, [STACK, 128, 0, STACK]),
            // The same, resumed once already: poll(2) without descriptors, and a futex that processes share.
            (RESTART_SYSCALL, [0, 0, 60_000, 0]),
            (RESTART_SYSCALL, [STACK, 1, 60_000, 0]),
            (RESTART_SYSCALL, [STACK, 128, 0, STACK]),
            (RESTART_SYSCALL, [STACK, 0, 0, STACK]),
        ] {
            let whole = entry(&registers(call, arguments));
            assert_eq!(mended(whole.clone()), whole, "{call} {arguments:?}");
        }
        let asleep = registers(CLOCK_NANOSLEEP, [0, 0, STACK, STACK]);
        for (register, value) in [(AX, 0), (AX, CLOCK_NANOSLEEP), (MODE, 2)] {
            let mut other = asleep.clone();
            other.iter_mut().find(|(number, _)| *number == register).unwrap().1 = value;
            assert_eq!(mended(entry(&other)), entry(&other));
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics_and_a_patch_lies_within(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for patch in mend(&bytes) {
                prop_assert!(patch.at < bytes.len());
            }
        }

        #[test]
        fn once_is_enough_and_nothing_moves(
            call in prop::sample::select(vec![NANOSLEEP, RESTART_SYSCALL, CLOCK_NANOSLEEP, 7]),
            arguments in any::<[u64; 4]>(), cut in any::<prop::sample::Index>(),
        ) {
            let whole = entry(&registers(call, arguments));
            let once = mended(whole.clone());
            prop_assert_eq!(once.len(), whole.len());
            prop_assert!(fields(&once).is_some());
            prop_assert_eq!(mended(once.clone()), once);
            let _ = mend(&whole[..cut.index(whole.len())]);
        }
    }
}
