//! All containers of a host, a line each.

use std::path::PathBuf;

use mose_protocol::{Refusal, RefusalCode, ServiceName};
use podman_api::opts::ContainerListOpts;

use super::inspect::{is_running, netns, pid};
use super::{CALL_DEADLINE, PodmanEngine};
use crate::Listed;

impl PodmanEngine {
    /// All of them.
    pub(super) async fn list_all(&self) -> Result<Vec<Listed>, Refusal> {
        let options = ContainerListOpts::builder().all(true).build();
        let containers = self.podman.containers();
        let found = self.call("list its containers", CALL_DEADLINE, containers.list(&options)).await?;
        let mut listed = Vec::new();
        for line in found {
            let Some(name) = line.names.unwrap_or_default().into_iter().next() else { continue };
            let Ok(name) = name.parse::<ServiceName>() else { continue };
            let inspect = match self.inspect_raw(name.as_str()).await {
                Ok(inspect) => inspect,
                // It was removed since it was listed.
                Err(refusal) if refusal.code == RefusalCode::UnknownService => continue,
                Err(refusal) => return Err(refusal),
            };
            listed.push(Listed {
                name,
                running: is_running(&inspect),
                pid: pid(&inspect),
                image: inspect["ImageName"].as_str().unwrap_or_default().to_owned(),
                netns: netns(&inspect).map(PathBuf::from),
            });
        }
        Ok(listed)
    }
}
