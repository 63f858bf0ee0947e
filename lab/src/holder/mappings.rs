//! Memory of every kind.

use std::io;

use super::system::{call, map, open, path, word};

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

pub(super) fn secret() -> io::Result<()> {
    let descriptor = call("memfd_secret", libc::SYS_memfd_secret, &[0])?;
    call("ftruncate", libc::SYS_ftruncate, &[descriptor, 4096])?;
    touch(map(4096, READ_WRITE, libc::MAP_SHARED, descriptor as i32)?);
    Ok(())
}

/// Writes to a page, so that it is there.
fn touch(address: usize) {
    // SAFETY: the address was just mapped for reading and writing, a page long.
    unsafe { std::ptr::write_volatile(address as *mut u64, 7) };
}

pub(super) fn huge() -> io::Result<()> {
    map(
        2 << 20,
        READ_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_NORESERVE,
        -1,
    )
    .map(drop)
}

/// The machine's own memory.
pub(super) fn device() -> io::Result<()> {
    let descriptor = super::descriptors::made_device("/tmp/mem", libc::S_IFCHR, 1, 1, libc::O_RDONLY)?;
    map(4096, libc::PROT_READ, libc::MAP_SHARED, descriptor as i32).map(drop)
}

/// The rings of an io_uring without its descriptor.
pub(super) fn ring() -> io::Result<()> {
    let parameters = [0_u8; 120];
    let ring = call("io_uring_setup", libc::SYS_io_uring_setup, &[8, parameters.as_ptr() as usize])?;
    map(4096, READ_WRITE, libc::MAP_SHARED, ring as i32)?;
    super::system::close(ring)
}

/// The buffer of a performance counter without its descriptor.
pub(super) fn perf_buffer() -> io::Result<()> {
    let mut attributes = [0_u8; 128];
    attributes[0] = 1;
    attributes[4] = 128;
    let arguments = [attributes.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0];
    let counter = call("perf_event_open", libc::SYS_perf_event_open, &arguments)?;
    map(8192, READ_WRITE, libc::MAP_SHARED, counter as i32)?;
    super::system::close(counter)
}

/// The ring of a packet socket.
pub(super) fn packet_ring() -> io::Result<()> {
    let made = super::system::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(0x0003_u16.to_be()))?;
    let request: Vec<u8> = [4096_u32, 1, 2048, 2].into_iter().flat_map(u32::to_ne_bytes).collect();
    super::system::set_option(made, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
    map(4096, READ_WRITE, libc::MAP_SHARED, made as i32).map(drop)
}

pub(super) fn memfd() -> io::Result<()> {
    let name = path("memory");
    let descriptor = call("memfd_create", libc::SYS_memfd_create, &[name.as_ptr() as usize, 0])?;
    call("ftruncate", libc::SYS_ftruncate, &[descriptor, 8192])?;
    touch(map(8192, READ_WRITE, libc::MAP_SHARED, descriptor as i32)?);
    Ok(())
}

pub(super) fn shared() -> io::Result<()> {
    touch(map(8192, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?);
    Ok(())
}

/// Address space that is only kept free, as large as some runtimes want it.
pub(super) fn reserved() -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    map(256 << 30, libc::PROT_NONE, flags, -1).map(drop)
}

pub(super) fn sysv() -> io::Result<()> {
    const IPC_CREAT: usize = 0o1000;
    let segment = call("shmget", libc::SYS_shmget, &[0x4d4f, 8192, IPC_CREAT | 0o600])?;
    touch(call("shmat", libc::SYS_shmat, &[segment, 0, 0])?);
    call("semget", libc::SYS_semget, &[0x4d4f, 2, IPC_CREAT | 0o600])?;
    call("msgget", libc::SYS_msgget, &[0x4d4f, IPC_CREAT | 0o600]).map(drop)
}

/// Memory of a file that is deleted.
pub(super) fn deleted_file() -> io::Result<()> {
    std::fs::write("/tmp/mapped", [7_u8; 8192])?;
    let file = open("/tmp/mapped", libc::O_RDWR)?;
    touch(map(8192, READ_WRITE, libc::MAP_SHARED, file as i32)?);
    super::system::close(file)?;
    std::fs::remove_file("/tmp/mapped")
}

/// Memory that the kernel may drop.
pub(super) fn droppable() -> io::Result<()> {
    const MAP_DROPPABLE: i32 = 8;
    touch(map(4096, READ_WRITE, MAP_DROPPABLE | libc::MAP_ANONYMOUS, -1)?);
    Ok(())
}

/// A context of asynchronous reads and writes.
pub(super) fn aio() -> io::Result<()> {
    let context = 0_usize;
    call("io_setup", libc::SYS_io_setup, &[8, &raw const context as usize]).map(drop)
}

/// Memory that a userfaultfd watches whose descriptor is closed is none; with it open it is.
pub(super) fn locked() -> io::Result<()> {
    let address = map(8192, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    call("mlock", libc::SYS_mlock, &[address, word(8192)]).map(drop)
}
