//! The command `demo`: the demo testbed in the foreground.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use mose_console::{exit, table};
use mose_orchestrator::follow_me::{FollowMe, News, NextMove};
use mose_pam::Millis;
use mose_protocol::{HostName, Refusal, Timestamp};
use mose_simulated::demo::{Demo, Scenario};
use nix::sys::signal::{SigHandler, Signal, signal};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal as arrivals};
use tokio::sync::broadcast::error::RecvError;

/// What the command `demo` is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A scenario that is built in (uav-handover, fleet, faults), or a scenario's TOML file.
    #[arg(long)]
    scenario: Option<String>,
    /// Have the scenario's service follow its mobile host, and print the steps of the migrations that this takes.
    #[arg(long, alias = "autopilot")]
    follow: bool,
    /// End after that time, such as 60s; when interrupted, if not given.
    #[arg(long = "for", value_name = "TIME")]
    lasting: Option<Millis>,
}

/// Runs the demo testbed until it is interrupted, or its time is over.
pub(crate) fn run(arguments: &Arguments, json: bool) -> ExitCode {
    let scenario = match Scenario::load(arguments.scenario.as_deref()) {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("mose: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    // A reader that has enough ends the demo; but the demo tidies up before it goes.
    // SAFETY: ignoring a signal runs no handler.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return crate::fail(&error),
    };
    let ended = runtime.block_on(Box::pin(show(&scenario, arguments, json)));
    runtime.shutdown_timeout(Duration::from_millis(100));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => crate::fail(&refusal),
    }
}

async fn show(scenario: &Scenario, arguments: &Arguments, json: bool) -> Result<(), Refusal> {
    let demo = Demo::start(scenario).await?;
    let introduced = if json {
        let endpoints = demo.endpoints();
        line(&serde_json::json!({ "simulated": true, "scenario": scenario.name, "endpoints": endpoints }))
    } else {
        introduce(&demo)
    };
    let follow_me = if arguments.follow { demo.follow().await? } else { None };
    match &follow_me {
        Some(follow_me) => follow_me.switch(true),
        None if arguments.follow => {
            eprintln!("mose: the scenario {} has no [follow], so nothing follows anything", scenario.name);
        }
        None => {}
    }
    // Where nobody reads, there is nobody to show anything to.
    if introduced.is_ok() {
        tokio::select! {
            () = interrupted(arguments.lasting) => {}
            _ = tell(follow_me.as_ref(), json) => {}
        }
    }
    drop(follow_me);
    demo.stop().await
}

/// Prints JSON on a line of its own.
fn line<T: Serialize>(value: &T) -> io::Result<()> {
    writeln!(io::stdout(), "{}", serde_json::to_string(value)?)
}

fn introduce(demo: &Demo) -> io::Result<()> {
    let (scenario, mut out) = (demo.scenario(), io::stdout().lock());
    writeln!(out, "SIM  {}: {}", scenario.name, scenario.about)?;
    writeln!(
        out,
        "     agents, hand-over and transfers are real; engine, overlay, links and clients are simulated\n"
    )?;
    let services = scenario.services.iter().map(|(service, host)| {
        let rate = service.writing.rate.to_string();
        vec![service.name.to_string(), host.to_string(), service.memory.to_string(), rate]
    });
    let services = services.collect::<Vec<_>>();
    writeln!(out, "{}\n", table::table(&["service", "on", "state", "dirtied"], &[2, 3], &services))?;
    writeln!(out, "in another terminal:\n\nexport MOSE_CONNECT={}", demo.endpoints().join(","))?;
    let elsewhere = |at: &HostName| scenario.edges().find(|host| *host != at);
    if let Some((service, to)) = scenario.services.first().and_then(|(s, on)| Some((&s.name, elsewhere(on)?)))
    {
        writeln!(out, "mose migrate {service} --to {to} --target-downtime 500ms --target-duration 5s")?;
    }
    writeln!(out)
}

/// Returns when the user, or the system, wants an end, or after `lasting`.
async fn interrupted(lasting: Option<Millis>) {
    let over = async {
        match lasting {
            Some(lasting) => tokio::time::sleep(Duration::from_secs_f64(lasting.0 / 1e3)).await,
            None => std::future::pending().await,
        }
    };
    let told = |kind: SignalKind| async move {
        match arrivals(kind) {
            Ok(mut arrivals) => {
                arrivals.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = told(SignalKind::terminate()) => {}
        () = told(SignalKind::hangup()) => {}
        () = told(SignalKind::interrupt()) => {}
    }
}

/// Prints what becomes of the service that follows, for as long as somebody reads it.
async fn tell(follow_me: Option<&FollowMe>, json: bool) -> io::Result<()> {
    let Some(follow_me) = follow_me else { return std::future::pending().await };
    let mut news = follow_me.news();
    let mut begin = Timestamp::default();
    loop {
        match news.recv().await {
            Ok(News::Planned(planned)) => {
                begin = Timestamp::now();
                if !json {
                    let NextMove { from, to, why, .. } = &planned.due;
                    writeln!(io::stdout(), "SIM  {from} → {to}: {}", planned.design.proposal.why)?;
                    writeln!(io::stdout(), "     because {why}")?;
                }
            }
            Ok(News::Step(event)) if json => line(&event)?,
            Ok(News::Step(event)) => writeln!(io::stdout(), "{}", table::step_line(&event, begin))?,
            Ok(News::Ended(record)) if json => line(&record)?,
            Ok(News::Ended(record)) => writeln!(io::stdout(), "\n{}\n", table::ending(&record))?,
            Ok(News::Trouble(why)) => eprintln!("mose: follow: {why}"),
            Err(RecvError::Lagged(missed)) => eprintln!("mose: {missed} lines are left out"),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}
