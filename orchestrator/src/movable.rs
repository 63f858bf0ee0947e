//! Whether a service can move: asked of its host.

use std::time::Duration;

use mose_protocol::check::Report;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, ServiceName};

use crate::fleet::Fleet;

/// How long it may take: the destination looks at itself too.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks the host of a service whether it can move, and to that host.
///
/// # Errors
/// A host does not answer, or is none that services run on.
pub async fn check(
    fleet: &Fleet,
    service: &ServiceName,
    from: &HostName,
    to: Option<&HostName>,
) -> Result<Report, Refusal> {
    let request = Request::Check { service: service.clone(), to: to.cloned() };
    match fleet.ask_within(from, &request, DEADLINE).await? {
        // Whoever sent it.
        Reply::Check(report) => Ok(report.bounded()),
        _ => Err(Refusal::new(
            RefusalCode::Malformed,
            format!("{from} gave an answer of another kind"),
            "update the older of agent and console",
        )),
    }
}
