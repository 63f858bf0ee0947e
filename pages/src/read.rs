//! Reading the pages of a running process, without stopping it: process_vm_readv(2), many ranges at a time.

use crate::maps::{Task, look};
use crate::{Error, PAGE_BYTES, PageRange, PageSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read at a time: what fits into a core's second cache, so that whoever takes the pages finds them there.
const CHUNK: usize = 256 << 10;
/// Ranges that one call takes at most: `IOV_MAX` of limits.h.
const VECTORS: usize = 1024;
/// After so many pages in a row that cannot be read, look again what is mapped at all.
const PATIENCE: u64 = 32;

/// Pages as they were read, at consecutive addresses.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// Contents, a multiple of [`PAGE_BYTES`] long.
    pub bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Each page with its address.
    pub fn pages(self) -> impl Iterator<Item = (u64, &'a [u8; PAGE_BYTES as usize])> {
        let (pages, _) = self.bytes.as_chunks();
        (0..).zip(pages).map(move |(at, page)| (self.address + at * PAGE_BYTES, page))
    }
}

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadReport {
    /// Pages that were read.
    pub pages: u64,
    /// Pages that were not there any more.
    pub vanished: u64,
    /// Whether the process ended before everything was read.
    pub gone: bool,
}

/// Reads pages of other processes. Its buffer is used again and again.
#[derive(Debug)]
pub struct PageReader {
    buffer: Vec<u8>,
}

impl Default for PageReader {
    fn default() -> Self {
        Self::new()
    }
}

/// What is still to be read, and what cannot be.
struct Work {
    left: Vec<PageRange>,
    unreadable: u64,
    /// Opened when the plain way fails: reads also what the process itself may not (PROT_NONE).
    forced: Option<File>,
}

impl PageReader {
    /// A reader with a buffer of its own.
    pub fn new() -> Self {
        Self { buffer: vec![0; CHUNK] }
    }

    /// Reads the pages of a process and hands them to `sink` in order of address, in chunks of consecutive pages, none of them
    /// across two ranges that do not touch. A page that is being written meanwhile may be read half old, half new. Pages that
    /// vanish are counted and left out; if the process ends, reading ends.
    ///
    /// Pages that the process never touched are read as zeroes, and it has them afterwards: ask for
    /// [`dumpable`](crate::dumpable) ones.
    ///
    /// # Errors
    /// [`Error::Denied`] if the process may not be traced; whatever else the kernel says. That it ended is no error.
    pub fn read(
        &mut self,
        pid: u32,
        pages: &PageSet,
        mut sink: impl FnMut(Chunk<'_>),
    ) -> Result<ReadReport, Error> {
        let mut report = ReadReport::default();
        let task = match look(pid) {
            Ok((task, _)) => task,
            Err(Error::Gone { .. }) => return Ok(ReadReport { gone: true, ..report }),
            Err(e) => return Err(e),
        };
        self.read_task(task, pages, &mut report, &mut sink)?;
        Ok(report)
    }

    pub(crate) fn read_task(
        &mut self,
        task: Task,
        pages: &PageSet,
        report: &mut ReadReport,
        sink: &mut impl FnMut(Chunk<'_>),
    ) -> Result<(), Error> {
        // The next range is at the end.
        let left = pages.ranges().iter().rev().copied().collect();
        let mut work = Work { left, unreadable: 0, forced: None };
        while !work.left.is_empty() {
            let batch = batch(&work.left);
            let Some(got) = transfer(task, &batch, &mut self.buffer)? else {
                report.gone = true;
                return Ok(());
            };
            // Only whole pages count: a call that fails in the middle of a page is asked again from its beginning.
            let got = got - got % PAGE_BYTES as usize;
            let mut at = 0;
            while at < got {
                let Some(range) = work.left.last_mut() else { break };
                let length = (range.bytes() as usize).min(got - at);
                sink(Chunk { address: range.start, bytes: &self.buffer[at..at + length] });
                range.start += length as u64;
                at += length;
                if range.is_empty() {
                    work.left.pop();
                }
            }
            report.pages += got as u64 / PAGE_BYTES;
            if got > 0 {
                work.unreadable = 0;
            } else if !self.stumble(task, &mut work, report, sink)? {
                report.gone = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The first page that is left cannot be read the plain way: read it and those behind it by force, or pass over it. False if
    /// the process is gone.
    fn stumble(
        &mut self,
        task: Task,
        work: &mut Work,
        report: &mut ReadReport,
        sink: &mut impl FnMut(Chunk<'_>),
    ) -> Result<bool, Error> {
        const WHAT: &str = "the memory (/proc/PID/mem)";
        let Some(range) = work.left.last_mut() else { return Ok(true) };
        let length = (range.bytes() as usize).min(self.buffer.len());
        let file = match &work.forced {
            Some(file) => file,
            None => match File::open(task.path("mem")).map_err(|e| Error::from_io(WHAT, task.pid, e)) {
                Ok(file) => work.forced.insert(file),
                Err(Error::Gone { .. }) => return Ok(false),
                Err(e) => return Err(e),
            },
        };
        let got = match file.read_at(&mut self.buffer[..length], range.start) {
            Ok(got) => got - got % PAGE_BYTES as usize,
            Err(e) if e.raw_os_error() == Some(libc::EIO) => 0,
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
            Err(e) => return Err(Error::from_io(WHAT, task.pid, e)),
        };
        if got > 0 {
            sink(Chunk { address: range.start, bytes: &self.buffer[..got] });
            report.pages += got as u64 / PAGE_BYTES;
            work.unreadable = 0;
            range.start += got as u64;
        } else {
            report.vanished += 1;
            work.unreadable += 1;
            range.start += PAGE_BYTES;
        }
        if range.is_empty() {
            work.left.pop();
        }
        if work.unreadable < PATIENCE {
            return Ok(true);
        }
        work.unreadable = 0;
        let mappings = match look(task.pid) {
            Ok((_, mappings)) => mappings,
            Err(Error::Gone { .. }) => return Ok(false),
            Err(e) => return Err(e),
        };
        let mapped: PageSet = mappings.iter().map(|mapping| mapping.range).collect();
        let wanted: PageSet = work.left.iter().copied().collect();
        let kept = wanted.intersection(&mapped);
        report.vanished += wanted.pages() - kept.pages();
        work.left = kept.ranges().iter().rev().copied().collect();
        Ok(true)
    }
}

/// The next ranges to read, at most a chunk in all, the first one first.
fn batch(left: &[PageRange]) -> Vec<libc::iovec> {
    let (mut vectors, mut room) = (Vec::with_capacity(left.len().min(VECTORS)), CHUNK);
    for range in left.iter().rev().take(VECTORS) {
        let length = (range.bytes() as usize).min(room);
        if length == 0 {
            break;
        }
        vectors.push(libc::iovec { iov_base: range.start as *mut libc::c_void, iov_len: length });
        room -= length;
    }
    vectors
}

/// Reads a batch into the buffer; gives the number of bytes, 0 if the first page cannot be read, `None` if the process is gone.
fn transfer(task: Task, batch: &[libc::iovec], buffer: &mut [u8]) -> Result<Option<usize>, Error> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the kernel writes into the buffer only, at most its length; the remote addresses are checked by the kernel
    // against the other process's memory.
    let got = unsafe {
        libc::process_vm_readv(
            task.tid.cast_signed(),
            &raw const local,
            1,
            batch.as_ptr(),
            batch.len() as libc::c_ulong,
            0,
        )
    };
    match usize::try_from(got) {
        // Nothing of nothing: the memory is no more.
        Ok(got) => Ok(Some(got)),
        Err(_) => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EFAULT) => Ok(Some(0)),
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            e => Err(Error::from_io("the memory (process_vm_readv)", task.pid, e)),
        },
    }
}
