//! A running container's memory, read from outside.

use mose_pages::{Dumpable, PageReader, dumpable};

use super::processes;
use crate::engine::LiveMemory;
use crate::transfer::{TakePage, TransferError};

/// The memory of the processes below (and with) a container's first one.
pub(super) struct ContainerMemory {
    init: u32,
    reader: PageReader,
}

impl ContainerMemory {
    pub(super) fn of(init: u32) -> Self {
        Self { init, reader: PageReader::new() }
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
        "hashing".into()
    }

    fn changed(&mut self, take: &mut TakePage<'_>) -> Result<(), TransferError> {
        let Dumpable { memories } = dumpable(&processes::tree(self.init)).map_err(|e| unreadable(&e))?;
        for memory in memories {
            let mut taken = Ok(());
            let read = self.reader.read(memory.pid, &memory.pages, |chunk| {
                for (address, page) in chunk.pages() {
                    if taken.is_ok() {
                        taken = take((memory.pid, address), page);
                    }
                }
            });
            read.map_err(|e| unreadable(&e))?;
            taken?;
        }
        Ok(())
    }
}
