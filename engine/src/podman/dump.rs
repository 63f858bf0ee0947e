//! Asking Podman for a dump.

use std::time::SystemTime;

use mose_protocol::Refusal;
use mose_protocol::record::CriuTimes;
use podman_api::opts::ContainerCheckpointOpts;

use super::dump_kind::DumpKind;
use super::{CRIU_DEADLINE, PodmanEngine, criu_times, images, io_refusal, removable, runtime_config};
use crate::Container;

impl PodmanEngine {
    /// Dumps a container.
    pub(super) async fn checkpoint(
        &self,
        container: &Container,
        kind: DumpKind,
    ) -> Result<CriuTimes, Refusal> {
        let cleared = self.clear_for_dump(container);
        if cleared.is_err() {
            // CRIU will never ask.
            self.hooks.forget(&container.id);
        }
        if cleared? {
            let begun = SystemTime::now();
            let dumped = removable::dump(&self.hooks, container, kind).await;
            self.hooks.forget(&container.id);
            return dumped.map_err(|refusal| self.by_criu(container, begun, refusal));
        }
        self.ask_for_dump(container, kind).await
    }

    /// Makes way for new images; whether the container is one that Podman removes when it ends.
    fn clear_for_dump(&self, container: &Container) -> Result<bool, Refusal> {
        // An earlier dump's: ours that was taken back, or an operator's `podman container checkpoint --leave-running`. CRIU writes over
        // it only once it comes to each file, and until then the transfer would take it for new.
        images::remove(&container.checkpoint).map_err(|error| {
            io_refusal(&format!("earlier images of {} cannot be removed", container.name), &error)
        })?;
        Ok(removable::is_removable(&runtime_config(container)?))
    }

    async fn ask_for_dump(&self, container: &Container, kind: DumpKind) -> Result<CriuTimes, Refusal> {
        let options = ContainerCheckpointOpts::builder()
            .keep(true)
            .tcp_established(true)
            .file_locks(true)
            .print_stats(true)
            .with_previous(kind.with_previous)
            .leave_running(kind.goes_on)
            .build();
        let what = format!("dump {}", container.name);
        let begun = SystemTime::now();
        let (podman, id) = (self.podman.clone(), container.id.clone());
        let dump = async move { podman.containers().get(id.as_str()).checkpoint(&options).await };
        let answered =
            |report: &podman_api::Result<_>| matches!(report, Ok(_) | Err(podman_api::Error::Fault { .. }));
        let report = self.hooks.to_the_end(&container.id, dump, answered);
        let lost = || Err(podman_api::Error::InvalidResponse("the call was lost".into()));
        let report = self.call(&what, CRIU_DEADLINE, async { report.await.unwrap_or_else(lost) }).await;
        report.map(|report| criu_times(&report)).map_err(|refusal| self.by_criu(container, begun, refusal))
    }
}
