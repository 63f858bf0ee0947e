//! The way back for a thread whose registers were replaced: a signal frame on its stack, as the kernel lays one out when it
//! calls a signal handler (`struct rt_sigframe` of arch/x86/include/asm/sigframe.h). The thread returns from the replaced
//! registers by sigreturn(2) all by itself, whether or not anybody is left to put them back.

use libc::user_regs_struct as Registers;

/// `-ERESTART*` of include/linux/errno.h: what an interrupted system call answers before it is decided whether to make it again.
const RESTART_SYS: i64 = -512;
const RESTART_NOINTR: i64 = -513;
/// Made again, unless a handler was called.
pub(super) const RESTART_NOHAND: i64 = -514;
const RESTART_BLOCK: i64 = -516;

/// Length of the instruction `syscall`.
const SYSCALL_BYTES: u64 = 2;
/// Bytes of the state without AVX and later: the legacy area and the header.
const LEGACY_BYTES: usize = 512;
const HEADER_BYTES: usize = 64;
/// Where the kernel looks for its note in the legacy area (`struct _fpx_sw_bytes`), and the numbers in it.
const NOTE_AT: usize = 464;
const NOTE_FIRST: u32 = 0x4650_5853;
const NOTE_LAST: u32 = 0x4650_5845;

/// Offsets in `struct ucontext`, which the frame holds.
const CONTEXT_BYTES: usize = 304;
const FLAGS_AT: usize = 0;
const STACK_FLAGS_AT: usize = 24;
const REGISTERS_AT: usize = 40;
const STATE_POINTER_AT: usize = 224;
const MASK_AT: usize = 296;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const FLAGS: u64 = 7;
/// No mode of an alternate stack: the kernel then leaves the one that is set.
const KEEP_ALTERNATE_STACK: u32 = 0x7;

/// Whether a system call answers `EINTR` when a thread was only stopped for a moment, where others are made again (signal(7),
/// "Interruption of system calls and library functions by stop signals"). Sockets with a time limit do.
pub(super) fn answers_eintr(call: i64) -> bool {
    let calls = [
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_io_getevents,
        libc::SYS_io_uring_enter,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_connect,
    ];
    calls.contains(&call)
}

/// The registers to give back to a thread that was stopped by us: as they were, but a call that answered `EINTR` for our sake
/// is made again, unless a handler is to be called first; the kernel decides which, at the moment when the thread goes on.
pub(super) fn undisturbed(registers: &Registers) -> Registers {
    let mut given = *registers;
    let (call, answer) = (registers.orig_rax.cast_signed(), registers.rax.cast_signed());
    if call >= 0 && answer == -i64::from(libc::EINTR) && answers_eintr(call) {
        given.rax = RESTART_NOHAND.cast_unsigned();
    }
    given
}

/// The registers that a thread would have after the kernel decided to make its interrupted call again: for the frame, behind
/// which the kernel decides nothing any more. A wait with a time limit then begins anew.
pub(super) fn decided(registers: &Registers) -> Registers {
    let mut own = undisturbed(registers);
    let again = [RESTART_SYS, RESTART_NOINTR, RESTART_NOHAND, RESTART_BLOCK];
    if own.orig_rax.cast_signed() >= 0 && again.contains(&own.rax.cast_signed()) {
        own.rax = own.orig_rax;
        own.rip = own.rip.wrapping_sub(SYSCALL_BYTES);
    }
    own
}

/// Bytes of the extended state that holds these features, in the format of XSAVE (Intel SDM vol. 1, 13.4.3).
fn state_bytes(features: u64) -> usize {
    let mut bytes = LEGACY_BYTES + HEADER_BYTES;
    for feature in (2..63).filter(|feature| features >> feature & 1 == 1) {
        let (size, offset) = component(feature);
        bytes = bytes.max((offset + size) as usize);
    }
    bytes
}

/// Size and offset of a component of the extended state (CPUID leaf 0DH).
fn component(feature: u32) -> (u32, u32) {
    let (size, offset): (u32, u64);
    // SAFETY: every processor that runs 64-bit code has this instruction; it changes these four registers only, of which rbx,
    // which the compiler keeps for itself, is put back. (The intrinsic is safe or unsafe depending on the compiler's age.)
    unsafe {
        std::arch::asm!(
            "mov {kept}, rbx",
            "cpuid",
            "xchg {kept}, rbx",
            kept = out(reg) offset,
            inout("eax") 0xdu32 => size,
            inout("ecx") feature => _,
            out("edx") _,
            options(nomem, nostack, preserves_flags),
        );
    }
    (size, offset as u32)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// A frame, ready to be written.
#[derive(Debug)]
pub(super) struct Frame {
    /// Where it goes, and the stack pointer with which the thread finds it.
    pub(super) at: u64,
    /// What is written there.
    pub(super) bytes: Vec<u8>,
}

/// Most bytes that a frame may need for a state of this length.
pub(super) fn room(state: usize) -> u64 {
    // The way in, the context, the alignment of the state, the state, the number behind it.
    (32 + CONTEXT_BYTES + 64 + state + 8) as u64
}

/// Lays a frame out at `at`. `way` is what the thread finds on its stack before the context: the addresses that lead it to
/// sigreturn. `state` is the thread's extended state as ptrace(2) gives it (NT_X86_XSTATE); `mask` its signal mask.
///
/// `None` if the state is not of the form that the processor documents.
pub(super) fn lay_out(at: u64, way: &[u64], registers: &Registers, state: &[u8], mask: u64) -> Option<Frame> {
    let own = decided(registers);
    let context = way.len() * 8;
    let state_at = (at + (context + CONTEXT_BYTES) as u64).next_multiple_of(64);
    // Features that are not in use are left out: they come back in their initial state, which they are in.
    let features = word(state, LEGACY_BYTES) | 3;
    let used = state_bytes(features);
    if state.len() < used || word(state, LEGACY_BYTES + 8) != 0 {
        return None;
    }
    let offset = (state_at - at) as usize;
    let mut bytes = vec![0u8; offset + used + 4];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    for (slot, address) in way.iter().enumerate() {
        put(slot * 8, &address.to_ne_bytes());
    }
    put(context + FLAGS_AT, &FLAGS.to_ne_bytes());
    put(context + STACK_FLAGS_AT, &KEEP_ALTERNATE_STACK.to_ne_bytes());
    let in_order = [
        own.r8, own.r9, own.r10, own.r11, own.r12, own.r13, own.r14, own.r15, own.rdi, own.rsi, own.rbp,
        own.rbx, own.rdx, own.rax, own.rcx, own.rsp, own.rip, own.eflags,
    ];
    for (slot, value) in in_order.iter().enumerate() {
        put(context + REGISTERS_AT + slot * 8, &value.to_ne_bytes());
    }
    let segments =
        (own.cs & 0xffff) | (own.gs & 0xffff) << 16 | (own.fs & 0xffff) << 32 | (own.ss & 0xffff) << 48;
    put(context + REGISTERS_AT + in_order.len() * 8, &segments.to_ne_bytes());
    put(context + STATE_POINTER_AT, &state_at.to_ne_bytes());
    put(context + MASK_AT, &mask.to_ne_bytes());
    put(offset, &state[..used]);
    let note = offset + NOTE_AT;
    put(note, &NOTE_FIRST.to_ne_bytes());
    put(note + 4, &(used as u32 + 4).to_ne_bytes());
    put(note + 8, &features.to_ne_bytes());
    put(note + 16, &(used as u32).to_ne_bytes());
    put(note + 20, &[0; 28]);
    put(offset + used, &NOTE_LAST.to_ne_bytes());
    Some(Frame { at, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(call: i64, answer: i64) -> Registers {
        // SAFETY: plain numbers, for which zero is a value.
        let mut registers: Registers = unsafe { std::mem::zeroed() };
        registers.orig_rax = call.cast_unsigned();
        registers.rax = answer.cast_unsigned();
        registers.rip = 0x1002;
        registers.r8 = 8;
        registers.eflags = 0x246;
        (registers.cs, registers.ss) = (0x33, 0x2b);
        registers
    }

    #[test]
    fn a_call_that_the_kernel_would_make_again_is_made_again() {
        for answer in [RESTART_SYS, RESTART_NOINTR, RESTART_NOHAND, RESTART_BLOCK] {
            let given = undisturbed(&registers(libc::SYS_nanosleep, answer));
            assert_eq!((given.rax.cast_signed(), given.rip), (answer, 0x1002), "left to the kernel");
            let own = decided(&registers(libc::SYS_nanosleep, answer));
            assert_eq!((own.rax.cast_signed(), own.rip), (libc::SYS_nanosleep, 0x1000));
        }
    }

    #[test]
    fn a_wait_that_answered_eintr_for_our_sake_is_made_again_and_a_signals_is_not_lost() {
        let eintr = -i64::from(libc::EINTR);
        assert_eq!(undisturbed(&registers(libc::SYS_epoll_wait, eintr)).rax.cast_signed(), RESTART_NOHAND);
        assert_eq!(decided(&registers(libc::SYS_epoll_wait, eintr)).rax.cast_signed(), libc::SYS_epoll_wait);
        // Others answer EINTR for reasons of their own.
        assert_eq!(undisturbed(&registers(libc::SYS_nanosleep, eintr)).rax.cast_signed(), eintr);
    }

    #[test]
    fn a_thread_that_was_in_no_call_is_left_as_it_was() {
        for answer in [RESTART_SYS, -i64::from(libc::EINTR), 0, 77] {
            let own = decided(&registers(-1, answer));
            assert_eq!((own.rax.cast_signed(), own.rip), (answer, 0x1002));
        }
        let done = decided(&registers(libc::SYS_read, 5));
        assert_eq!((done.rax, done.rip), (5, 0x1002));
    }

    #[test]
    fn a_frame_holds_what_the_kernel_looks_for() {
        let mut state = vec![0u8; 4096];
        state[LEGACY_BYTES] = 3;
        let at = 0x7000_0000_1010;
        let frame = lay_out(at, &[0xaaaa], &registers(-1, 5), &state, 0x55).unwrap();
        assert_eq!(word(&frame.bytes, 0), 0xaaaa);
        assert_eq!(word(&frame.bytes, 8), FLAGS);
        assert_eq!(word(&frame.bytes, 8 + 40), 8, "r8 comes first");
        assert_eq!(word(&frame.bytes, 8 + 40 + 13 * 8), 5, "rax");
        assert_eq!(word(&frame.bytes, 8 + 40 + 16 * 8), 0x1002, "rip");
        assert_eq!(word(&frame.bytes, 8 + 40 + 18 * 8), 0x002b_0000_0000_0033);
        assert_eq!(word(&frame.bytes, 8 + 296), 0x55);
        let state_at = word(&frame.bytes, 8 + 224);
        assert!(state_at.is_multiple_of(64) && state_at >= at + 8 + 304);
        let state_at = (state_at - at) as usize;
        assert_eq!(word(&frame.bytes, state_at + NOTE_AT) as u32, NOTE_FIRST);
        assert_eq!(&frame.bytes[state_at + 576..], NOTE_LAST.to_ne_bytes());
        assert!(frame.bytes.len() as u64 <= room(576));
    }

    #[test]
    fn a_state_of_another_format_is_refused() {
        let mut state = vec![0u8; 4096];
        state[LEGACY_BYTES + 15] = 0x80;
        assert!(lay_out(0, &[1], &registers(-1, 0), &state, 0).is_none());
        assert!(lay_out(0, &[1], &registers(-1, 0), &[0; 100], 0).is_none());
    }
}
