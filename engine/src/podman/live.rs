//! A running container's memory, read from outside.

use mose_pages::{Dumpable, PageReader, PageSet, Preference, Tracker, dumpable};
use mose_transfer::{TakePage, TransferError};

use super::processes;
use crate::LiveMemory;

/// The memory of the processes below (and with) a container's first one.
pub(super) struct ContainerMemory {
    init: u32,
    reader: PageReader,
    /// Says which pages were written to; without one, every page is read each time.
    tracker: Option<Box<dyn Tracker>>,
    /// What the last look found.
    found: Vec<(u32, PageSet)>,
}

impl ContainerMemory {
    pub(super) fn of(init: u32) -> Self {
        let tracker = match mose_pages::open(&Preference::default()) {
            Ok(opened) => {
                for (means, why) in &opened.rejected {
                    tracing::debug!(%means, why, "dirty pages cannot be found by this means");
                }
                // Hashing reads every page, as the rounds do anyway.
                Some(opened.tracker).filter(|tracker| tracker.means() != mose_pages::Means::Hashing)
            }
            Err(error) => {
                tracing::warn!(%error, "dirty pages are not tracked; every round reads all of the memory");
                None
            }
        };
        Self { init, reader: PageReader::new(), tracker, found: Vec::new() }
    }

    /// The pages that a checkpoint would write and that may have changed since the last call.
    fn suspects(&mut self) -> Result<Vec<(u32, PageSet)>, mose_pages::Error> {
        let pids = processes::tree(self.init);
        let Some(tracker) = &mut self.tracker else {
            let Dumpable { memories } = dumpable(&pids)?;
            return Ok(memories.into_iter().map(|memory| (memory.pid, memory.pages)).collect());
        };
        let dirty = tracker.tick(&pids)?;
        Ok(dirty.memories.into_iter().map(|memory| (memory.pid, memory.pages)).collect())
    }
}

fn unreadable(error: &mose_pages::Error) -> TransferError {
    TransferError::setup(
        format!("the running service's memory cannot be read: {error}"),
        "run the agent as root with CAP_SYS_PTRACE, or migrate with --strategy cold",
    )
}

impl LiveMemory for ContainerMemory {
    fn means(&self) -> String {
        self.tracker.as_ref().map_or("every page read", |tracker| tracker.means().name()).into()
    }

    fn look(&mut self) -> Result<(), TransferError> {
        self.found = self.suspects().map_err(|e| unreadable(&e))?;
        Ok(())
    }

    fn changed(&mut self, take: &mut TakePage<'_>) -> Result<(), TransferError> {
        for (pid, pages) in std::mem::take(&mut self.found) {
            let mut taken = Ok(());
            let read = self.reader.read(pid, &pages, |chunk| {
                for (address, page) in chunk.pages() {
                    if taken.is_ok() {
                        taken = take((pid, address), page);
                    }
                }
            });
            read.map_err(|e| unreadable(&e))?;
            taken?;
        }
        Ok(())
    }
}
