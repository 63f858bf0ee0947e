//! The profile of running processes, as an agent would see it, a line whenever there is something new.
//!
//! `cargo build --release -p mose-pages --bins --examples && target/release/examples/profile SECONDS PID...`

use mose_pages::{PAGE_BYTES, Preference, Sampler, SamplerConfig, open};
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let time = Duration::from_secs(arguments.next().ok_or("SECONDS PID...")?.parse()?);
    let pids: Vec<u32> = arguments.map(|word| word.parse()).collect::<Result<_, _>>()?;
    let here = std::env::current_exe()?;
    let folder = here.parent().and_then(|folder| folder.parent()).ok_or("no folder")?;
    let opened = open(&Preference { only: None, helper: Some(folder.join("mose-write-protect")) })?;
    let mut out = stdout();
    for (means, why) in &opened.rejected {
        writeln!(out, "not by {means}: {why}")?;
    }
    let mut sampler = Sampler::new(opened.tracker, SamplerConfig::default());
    let begun = Instant::now();
    while begun.elapsed() < time {
        let next = sampler.step(Instant::now(), &pids)?;
        if next.sampled {
            let profile = sampler.profile();
            let rate = |rate: Option<mose_pages::PagesPerSec>| rate.map_or("-".to_owned(), |r| r.to_string());
            writeln!(
                out,
                "{:6.1} s  now {}  mean {}  worst {}  working set {} pages  state {:.1} MiB  cost {:.2} %",
                begun.elapsed().as_secs_f64(),
                rate(profile.current),
                rate(profile.mean),
                rate(profile.worst),
                profile.working_set,
                profile.state.unwrap_or(0) as f64 * PAGE_BYTES as f64 / f64::from(1 << 20),
                sampler.cost().total().as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0,
            )?;
        }
        std::thread::sleep(next.at.saturating_duration_since(Instant::now()));
    }
    for (pid, why) in sampler.refused() {
        writeln!(out, "process {pid} was hashed: {why}")?;
    }
    Ok(())
}
