//! A running container's state size and dirty-page rate, from its processes' memory.

use std::time::{Duration, Instant};

use mose_pages::{DirtyProfile, Next, Preference, Sampler, SamplerConfig};
use mose_protocol::{Refusal, RefusalCode};

use crate::ContainerSampler;

/// The sampler of `mose-pages`, on the best tracker that the kernel offers.
pub(super) struct MemorySampling {
    sampler: Sampler,
    window: Duration,
}

impl MemorySampling {
    pub(super) fn open() -> Result<Self, Refusal> {
        let opened = mose_pages::open(&Preference::default()).map_err(|error| failed(&error))?;
        for (means, why) in &opened.rejected {
            tracing::info!(%means, why, "dirty pages cannot be tracked by this means");
        }
        let config = SamplerConfig::default();
        Ok(Self { sampler: Sampler::new(opened.tracker, config), window: config.window })
    }
}

fn failed(error: &mose_pages::Error) -> Refusal {
    Refusal::new(
        RefusalCode::Failed,
        error.to_string(),
        "run the agent as root with CAP_SYS_PTRACE, or give the figures to `mose plan`",
    )
}

impl ContainerSampler for MemorySampling {
    fn step(&mut self, now: Instant, processes: &[u32]) -> Result<Next, Refusal> {
        self.sampler.step(now, processes).map_err(|error| failed(&error))
    }

    fn profile(&self) -> DirtyProfile {
        self.sampler.profile()
    }

    fn means(&self) -> String {
        self.sampler.means().to_string()
    }

    fn cost(&self) -> Duration {
        self.sampler.cost().total()
    }

    fn window(&self) -> Duration {
        self.window
    }
}
