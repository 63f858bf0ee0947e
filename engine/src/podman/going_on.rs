//! A container that goes on after its dump.
//!
//! CRIU finds its cgroup frozen, as we froze it, and thaws it once it has seized every process. When it lets go of them it freezes the
//! cgroup again (`freezer_restore_state` in CRIU's `seize.c`), since that is how it found it. So it is looked for that moment.

use std::time::Duration;

use mose_protocol::{Refusal, RefusalCode};
use tokio::time::Instant;

use super::{freezer, io_refusal, pid_of, processes};
use crate::Container;
use crate::aside::aside;

/// How often it is looked: the service stands still meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// How long CRIU may take to let go of the processes: it has to unlock the network, no more.
const DEADLINE: Duration = Duration::from_secs(10);

/// Returns once CRIU has let go of the container's processes, and they run.
pub(super) async fn gone_on(container: &Container) -> Result<(), Refusal> {
    let pid = pid_of(container)?;
    let container = container.clone();
    // It is looked so often that a thread of its own is cheaper than a timer.
    aside(move || {
        let deadline = Instant::now() + DEADLINE;
        let thawed = || {
            freezer::thaw_container(&container)
                .map_err(|error| io_refusal(&format!("{} cannot be thawed", container.name), &error))
        };
        loop {
            let held = is_held(pid);
            // What is still held stands still all the same.
            thawed()?;
            if !held {
                break;
            }
            if Instant::now() > deadline {
                return Err(Refusal::new(
                    RefusalCode::Engine,
                    format!("CRIU did not let go of {} within {DEADLINE:?}", container.name),
                    "see CRIU's log on the source",
                ));
            }
            std::thread::sleep(LOOK);
        }
        match processes::stands(&container) {
            true => Ok(()),
            false => Err(Refusal::new(
                RefusalCode::NotRunning,
                format!("{} ended while it was dumped", container.name),
                "see its own log",
            )),
        }
    })
    .await
}

/// Whether somebody traces the process, as CRIU does until it lets go of it.
fn is_held(pid: u32) -> bool {
    processes::status_number(pid, "TracerPid", 10).is_some_and(|tracer| tracer != 0)
}
