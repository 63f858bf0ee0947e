//! Calls of the podman-api crate.

use std::time::Duration;

use mose_protocol::{Refusal, RefusalCode};

use super::PodmanEngine;
use super::socket::causes;
use super::wording::in_short;

impl PodmanEngine {
    /// One call of the podman-api crate, with its deadline.
    pub(super) async fn call<T>(
        &self,
        what: &str,
        deadline: Duration,
        call: impl Future<Output = podman_api::Result<T>> + Send,
    ) -> Result<T, Refusal> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(podman_api::Error::Fault { code, message })) => Err(Refusal::new(
                if code.as_u16() == 404 { RefusalCode::UnknownService } else { RefusalCode::Engine },
                format!("Podman could not {what}: {}", in_short(&message)),
                "see the agent's log and CRIU's own log on that host",
            )),
            Ok(Err(error)) => Err(self.socket.unreachable(&causes(&error))),
            Err(_) => Err(self.socket.unreachable(&format!("it did not {what} within {deadline:?}"))),
        }
    }
}
