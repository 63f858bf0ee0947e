//! The files of a service: its root file system's changes, and what lies beside it. Sent while it runs, and what changed since once
//! it is frozen.

use std::collections::HashSet;
use std::path::Path;

use mose_engine::{Container, Engine, StateTree};
use mose_pam::Bytes;
use mose_protocol::handover::Prepare;
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode};
use mose_transfer::{Pass, Reread, Root, Sender};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::Source;
use crate::destination::transfer_refusal;
use crate::steps::Note;

/// What is known of a service's files.
pub(super) struct Files {
    container: Container,
    /// What lies beside the root file system, in the order of the numbers that the destination knows it by, from 1 on.
    beside: Vec<StateTree>,
    /// The inode numbers of all files that were seen mapped shared and writable, also of those that no longer are: what was written
    /// through the mapping since the last pass may show in no time.
    mapped: HashSet<u64>,
}

impl Files {
    pub(super) const fn any_beside(&self) -> bool {
        !self.beside.is_empty()
    }

    /// Looks again which files are mapped; to be done before a pass.
    fn look(&mut self, engine: &dyn Engine) {
        self.mapped.extend(engine.mapped_files(&self.container));
    }

    fn rootfs(&self) -> Root {
        self.root(&self.container.rootfs_changes, None)
    }

    fn trees(&self) -> impl Iterator<Item = (u16, &StateTree)> {
        (1..).zip(&self.beside)
    }

    fn root(&self, path: &Path, only: Option<&[std::ffi::OsString]>) -> Root {
        // On a tmpfs a write through a mapping moves no time at all.
        let in_memory = statfs(path).is_ok_and(|there| there.filesystem_type() == TMPFS_MAGIC);
        let reread = if in_memory { Reread::All } else { Reread::Mapped(self.mapped.clone()) };
        Root { path: path.to_owned(), only: only.map(<[_]>::to_vec), reread }
    }

    /// Sends what is left of the root file system's changes, of the frozen service.
    pub(super) async fn final_rootfs(&self, sender: &mut Sender) -> Result<Bytes, Refusal> {
        let pass = sender.final_tree(0, self.rootfs()).await.map_err(|error| transfer_refusal(&error))?;
        Ok(Bytes(pass.bytes))
    }

    /// The root file system's changes, as a tree that is sent with a dump.
    pub(super) fn rootfs_tree(&self) -> (u16, Root) {
        (0, self.rootfs())
    }

    /// Sends what is left of what others write beside it, of a service that has gone on and has it written to.
    pub(super) async fn beside_that_goes_on(&self, sender: &mut Sender) -> Result<Bytes, Refusal> {
        let mut bytes = Bytes(0);
        for (number, tree) in self.trees().filter(|(_, tree)| tree.until_gone) {
            let pass = sender.precopy_tree(number, self.root(&tree.path, tree.only.as_deref())).await;
            bytes.0 += pass.map_err(|error| transfer_refusal(&error))?.bytes;
        }
        Ok(bytes)
    }

    /// Sends what is left beside it: of what nobody but the frozen service writes to, or of the rest.
    pub(super) async fn final_beside(&self, sender: &mut Sender, until_gone: bool) -> Result<Bytes, Refusal> {
        let mut bytes = Bytes(0);
        for (number, tree) in self.trees().filter(|(_, tree)| tree.until_gone == until_gone) {
            let pass = sender.final_tree(number, self.root(&tree.path, tree.only.as_deref())).await;
            bytes.0 += pass.map_err(|error| transfer_refusal(&error))?.bytes;
        }
        Ok(bytes)
    }
}

impl Source {
    /// The service's files, as the destination was told of them.
    pub(super) async fn files(&self, container: &Container, prepare: &Prepare) -> Result<Files, Refusal> {
        let mut here = self.agent.engine.state_trees(self.task(), container).await?;
        let mut beside = Vec::new();
        for name in &prepare.container.trees {
            let Some(at) = here.iter().position(|tree| &tree.name == name) else {
                return Err(Refusal::new(
                    RefusalCode::Failed,
                    format!("{name} of {} vanished", container.name),
                    "migrate again",
                ));
            };
            beside.push(here.swap_remove(at));
        }
        Ok(Files { container: container.clone(), beside, mapped: HashSet::new() })
    }

    /// Sends the root file system's changes while the service runs.
    pub(super) async fn precopy_rootfs(&self, files: &mut Files, sender: &mut Sender) -> Result<(), Refusal> {
        self.steps.started(Step::RootfsPrecopy);
        files.look(&*self.agent.engine);
        let pass = self.pass(sender, 0, files.rootfs()).await;
        let pass = pass.inspect_err(|refusal| self.steps.failed(Step::RootfsPrecopy, refusal))?;
        let note = Note { bytes: Some(Bytes(pass.bytes)), ..Note::default() };
        self.steps.finished(Step::RootfsPrecopy, note);
        Ok(())
    }

    /// Sends what changed beside it since the last pass, everything at the first, while the service runs.
    pub(super) async fn precopy_beside(&self, files: &mut Files, sender: &mut Sender) -> Result<(), Refusal> {
        if files.beside.is_empty() {
            return Ok(());
        }
        self.steps.started(Step::VolumePrecopy);
        files.look(&*self.agent.engine);
        let mut told = Vec::new();
        let mut bytes = Bytes(0);
        for (number, tree) in files.trees() {
            let pass = self.pass(sender, number, files.root(&tree.path, tree.only.as_deref())).await;
            let pass = pass.inspect_err(|refusal| self.steps.failed(Step::VolumePrecopy, refusal))?;
            bytes.0 += pass.bytes;
            told.push(format!("{} {}", tree.name, Bytes(pass.bytes)));
        }
        let note = Note { bytes: Some(bytes), detail: Some(told.join(", ")), ..Note::default() };
        self.steps.finished(Step::VolumePrecopy, note);
        Ok(())
    }

    async fn pass(&self, sender: &mut Sender, number: u16, root: Root) -> Result<Pass, Refusal> {
        tokio::select! {
            pass = sender.precopy_tree(number, root) => pass.map_err(|error| transfer_refusal(&error)),
            refusal = self.control.broken_off() => Err(refusal),
        }
    }
}
