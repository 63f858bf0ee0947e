//! `mose record`: what the agents tell, into a file, without a screen.
#![expect(clippy::print_stderr, reason = "a command line prints")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use mose_console::app::{Recorder, WAITING, follow, tell_calibrations};
use mose_orchestrator::fleet::Fleet;
use mose_protocol::agent::Role;
use mose_protocol::{HostName, Refusal, RefusalCode, Timestamp};
use mose_screen::event::Event;
use mose_screen::fleet_event::FleetEvent;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Records until interrupted.
pub(crate) async fn run(fleet: Arc<Fleet>, file: &Path) -> Result<ExitCode, Refusal> {
    let failed = |error: &dyn std::fmt::Display| {
        Refusal::new(RefusalCode::Failed, error.to_string(), "give another file, one that is not there yet")
    };
    let mut recorder = Recorder::create(file, "mose record", Timestamp::now()).map_err(|e| failed(&e))?;
    let signals = |error: std::io::Error| failed(&format!("signals cannot be waited for: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let (out, mut events) = mpsc::channel(WAITING);
    let (mut following, mut asking) = (JoinSet::new(), JoinSet::new());
    following.spawn(follow(fleet.clone(), out.clone()));
    let mut edges: Vec<HostName> = Vec::new();
    eprintln!("recording into {}; end it with Ctrl-C", file.display());
    let (mut agents, mut steps) = (0u32, 0u64);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(ended) = following.join_next() => {
                return Err(match ended {
                    Ok(Err(refusal)) => refusal,
                    _ => failed(&"the session to the agents was closed"),
                });
            }
            event = events.recv() => {
                let Some(Event::Fleet(event)) = event else { continue };
                match &event {
                    FleetEvent::Hello(hello) => {
                        agents += 1;
                        if hello.role == Role::Edge && !edges.contains(&hello.host) {
                            let (fleet, others, out) = (fleet.clone(), edges.clone(), out.clone());
                            let host = hello.host.clone();
                            edges.push(host.clone());
                            asking.spawn(async move { tell_calibrations(&fleet, &host, &others, &out).await });
                        }
                    }
                    FleetEvent::Step(_) => steps += 1,
                    _ => {}
                }
                recorder.note_in_time(Timestamp::now(), &event).await.map_err(|error| failed(&error))?;
            }
        }
    }
    following.shutdown().await;
    asking.shutdown().await;
    recorder.end().await.map_err(|error| failed(&error))?;
    eprintln!("{}: {agents} agents, {steps} steps", file.display());
    Ok(ExitCode::SUCCESS)
}
