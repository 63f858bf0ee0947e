//! The agents that a command is about: where they are, and a session with them.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mose_console::documents::{Refused, print_json};
use mose_console::{exit, lab};
use mose_orchestrator::fleet::Fleet;
use mose_protocol::Refusal;

/// Runs `work` with the agents at `endpoints`, and prints why if it is refused.
pub(crate) fn with_fleet(
    endpoints: &[String],
    json: bool,
    work: impl AsyncFnOnce(&Arc<Fleet>) -> Result<ExitCode, Refusal>,
) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return crate::fail(&error),
    };
    let code = runtime.block_on(async {
        let fleet = Arc::new(Fleet::join(endpoints).await?);
        let code = work(&fleet).await;
        // The session must not outlive the runtime. An error in closing it changes nothing: the command is done.
        let _ = tokio::time::timeout(Duration::from_secs(1), fleet.session().close()).await;
        code
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    code.unwrap_or_else(|refusal| tell(&refusal, json))
}

/// Where agents come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// They were named.
    Named,
    /// They are those of the lab that is up.
    Lab,
    /// Multicast is to find them.
    Multicast,
}

/// Where the agents are; enters the lab's controller where they are the lab's.
pub(crate) fn endpoints(connect: &[String]) -> color_eyre::Result<(Vec<String>, Source)> {
    if !connect.is_empty() {
        return Ok((connect.to_vec(), Source::Named));
    }
    match lab::running() {
        Some(running) => {
            lab::enter(&running)?;
            Ok((running.agents, Source::Lab))
        }
        None => Ok((Vec::new(), Source::Multicast)),
    }
}

fn tell(refusal: &Refusal, json: bool) -> ExitCode {
    if json {
        print_json(&Refused { refused: refusal });
    }
    eprintln!("mose: {refusal}");
    exit::of_refusal(refusal)
}
