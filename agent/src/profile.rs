//! The profile of a service: how large its state is, and how fast it is dirtied.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mose_pages::{Cost, Error, PageSet, Preference, dumpable};
use mose_pam::{Bytes, PagesPerSec};
use mose_protocol::metrics::{DirtyFigures, ServiceMetrics};
use mose_protocol::{Refusal, RefusalCode, ServiceName, Timestamp};

use crate::agent::Agent;
use crate::engine::{Container, Engine};

/// How long dirty pages are counted for one sample, and how many samples a profile has.
const SPAN: Duration = Duration::from_millis(250);
const SAMPLES: u32 = 6;

impl Agent {
    /// Measures a running service now.
    pub(crate) async fn profile(self: &Arc<Self>, service: &ServiceName) -> Result<ServiceMetrics, Refusal> {
        let container = self.engine.inspect(service).await?;
        if !container.running {
            return Err(Refusal::new(
                RefusalCode::NotRunning,
                format!("{service} does not run on {}", self.config.host),
                "start it, then profile it",
            ));
        }
        let engine = self.engine.clone();
        let measured = tokio::task::spawn_blocking(move || measure(&*engine, &container)).await;
        let measured = measured.map_err(|error| failed(service, &error))?;
        let Measured { state, dirty, working_set, window, tracker, cost } =
            measured.map_err(|error| failed(service, &error))?;
        Ok(ServiceMetrics {
            service: service.clone(),
            host: self.config.host.clone(),
            at: Timestamp::now(),
            state,
            dirty,
            working_set,
            window: window.into(),
            tracker,
            cost: cost.total().as_secs_f64() / window.as_secs_f64(),
        })
    }
}

fn failed(service: &ServiceName, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::Failed,
        format!("{service} cannot be profiled: {error}"),
        "run the agent as root with CAP_SYS_PTRACE, or give the figures to `mose plan`",
    )
}

struct Measured {
    state: Bytes,
    dirty: DirtyFigures,
    working_set: Bytes,
    window: Duration,
    tracker: String,
    cost: Cost,
}

fn measure(engine: &dyn Engine, container: &Container) -> Result<Measured, Error> {
    let processes = || engine.processes(container);
    let state = Bytes(dumpable(&processes())?.bytes());
    let mut tracker = mose_pages::open(&Preference::default())?.tracker;
    tracker.tick(&processes())?;
    let mut rates = Vec::new();
    let mut pages = 0;
    let mut written: HashMap<u32, PageSet> = HashMap::new();
    let mut window = Duration::ZERO;
    for _ in 0..SAMPLES {
        std::thread::sleep(SPAN);
        let dirty = tracker.tick(&processes())?;
        if dirty.span > Duration::ZERO {
            rates.push(dirty.pages() as f64 / dirty.span.as_secs_f64());
        }
        pages += dirty.pages();
        for memory in dirty.memories.iter().filter(|memory| !memory.fresh) {
            written.entry(memory.pid).or_default().add(&memory.pages);
        }
        window += dirty.span;
    }
    let worst = rates.iter().copied().fold(0.0, f64::max);
    let seconds = window.as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(Measured {
        state,
        dirty: DirtyFigures {
            current: PagesPerSec(rates.last().copied().unwrap_or(0.0)),
            mean: PagesPerSec(pages as f64 / seconds),
            worst: PagesPerSec(worst),
        },
        working_set: Bytes(written.values().map(PageSet::bytes).sum()),
        window,
        tracker: tracker.means().to_string(),
        cost: tracker.cost(),
    })
}
