//! System V IPC: shared memory, semaphores, message queues.

use std::io;

use super::sys::ok;
use super::{Object, Told};

pub(super) struct Ipc {
    memory: libc::c_int,
    address: usize,
    semaphores: libc::c_int,
    queue: libc::c_int,
}

/// A message as msgsnd(2) takes it.
#[repr(C)]
struct Message {
    kind: libc::c_long,
    text: [u8; 16],
}

const KEY: libc::key_t = 0x4d4f_5345;

impl Ipc {
    pub(super) fn make() -> io::Result<Self> {
        // SAFETY: the calls take numbers, or read what lives as long as they take; the memory is used as bytes within its size.
        unsafe {
            let memory = ok(libc::shmget(KEY, 8192, libc::IPC_CREAT | 0o600))?;
            let address = libc::shmat(memory, std::ptr::null(), 0);
            if address.addr() == usize::MAX {
                return Err(io::Error::last_os_error());
            }
            std::ptr::copy_nonoverlapping(b"shared".as_ptr(), address.cast(), 6);
            let semaphores = ok(libc::semget(KEY, 3, libc::IPC_CREAT | 0o640))?;
            for (number, value) in [(0, 5), (1, 0), (2, 77)] {
                ok(libc::semctl(semaphores, number, libc::SETVAL, value))?;
            }
            let queue = ok(libc::msgget(KEY, libc::IPC_CREAT | 0o600))?;
            for kind in [3, 1] {
                let message = Message { kind, text: *b"a queued message" };
                ok(libc::msgsnd(queue, std::ptr::from_ref(&message).cast(), 16, 0))?;
            }
            Ok(Self { memory, address: address.addr(), semaphores, queue })
        }
    }
}

impl Object for Ipc {
    fn tell(&self, told: &mut Told) {
        // SAFETY: structures of numbers are filled by the kernel; the memory was attached with this size.
        unsafe {
            let mut shm: libc::shmid_ds = std::mem::zeroed();
            libc::shmctl(self.memory, libc::IPC_STAT, &raw mut shm);
            let text = std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(self.address), 6);
            told.say(
                "shared memory",
                format_args!(
                    "{:#o} {} bytes, {} attached, {}",
                    shm.shm_perm.mode,
                    shm.shm_segsz,
                    shm.shm_nattch,
                    String::from_utf8_lossy(text)
                ),
            );
            let values = [0, 1, 2].map(|number| libc::semctl(self.semaphores, number, libc::GETVAL));
            told.say("semaphores", format_args!("{values:?}"));
            let mut queue: libc::msqid_ds = std::mem::zeroed();
            libc::msgctl(self.queue, libc::IPC_STAT, &raw mut queue);
            told.say("messages", format_args!("{} of at most {} bytes", queue.msg_qnum, queue.msg_qbytes));
        }
    }

    fn prove(&self, told: &mut Told) {
        for kind in [1, 3, 1] {
            let mut message = Message { kind: 0, text: [0; 16] };
            // SAFETY: at most 16 bytes are written after the kind.
            let read =
                unsafe { libc::msgrcv(self.queue, (&raw mut message).cast(), 16, kind, libc::IPC_NOWAIT) };
            told.say(
                "message",
                format_args!("{read} {} {}", message.kind, String::from_utf8_lossy(&message.text)),
            );
        }
    }
}
