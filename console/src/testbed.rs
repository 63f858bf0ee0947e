//! The command `demo`: the demo testbed in the foreground.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;
use std::time::Duration;

use mose_console::demo::{Autopilot, Demo, News, Scenario};
use mose_console::{exit, table};
use mose_pam::Millis;
use mose_protocol::{Refusal, Timestamp};
use tokio::sync::broadcast::error::RecvError;

use crate::commands::print_json;

/// What the command `demo` is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A scenario that is built in (uav-handover, fleet, faults), or a scenario's TOML file.
    #[arg(long)]
    scenario: Option<String>,
    /// Have the scenario's service follow its mobile host, and print the steps of the migrations that this takes.
    #[arg(long)]
    autopilot: bool,
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
    if json {
        print_json(&serde_json::json!({
            "simulated": true, "scenario": scenario.name, "endpoints": demo.endpoints()
        }));
    } else {
        introduce(&demo);
    }
    let autopilot = if arguments.autopilot { demo.autopilot(true).await? } else { None };
    if arguments.autopilot && autopilot.is_none() {
        eprintln!(
            "mose: the scenario {} has no [follow], so there is nothing for an autopilot",
            scenario.name
        );
    }
    let ended = tokio::select! {
        () = interrupted(arguments.lasting) => Ok(()),
        ended = tell(autopilot.as_ref(), json) => ended,
    };
    drop(autopilot);
    demo.stop().await.and(ended)
}

fn introduce(demo: &Demo) {
    let scenario = demo.scenario();
    println!("SIM  {}: {}", scenario.name, scenario.about);
    println!(
        "     agents, hand-over and transfers are real; engine, overlay, links and clients are simulated\n"
    );
    let rows: Vec<Vec<String>> = scenario
        .services
        .iter()
        .map(|(service, host)| {
            let rate = service.writing.rate.to_string();
            vec![service.name.to_string(), host.to_string(), service.memory.to_string(), rate]
        })
        .collect();
    println!("{}\n", table::table(&["service", "on", "state", "dirtied"], &[2, 3], &rows));
    println!("in another terminal:\n");
    println!("export MOSE_CONNECT={}", demo.endpoints().join(","));
    let elsewhere = |at: &mose_protocol::HostName| scenario.edges().find(|host| *host != at);
    if let Some((service, to)) = scenario.services.first().and_then(|(s, on)| Some((&s.name, elsewhere(on)?)))
    {
        println!("mose migrate {service} --to {to} --target-downtime 500ms --target-duration 5s");
    }
    println!();
}

/// Returns when the user, or the system, wants an end, or after `lasting`.
async fn interrupted(lasting: Option<Millis>) {
    let over = async {
        match lasting {
            Some(lasting) => tokio::time::sleep(Duration::from_secs_f64(lasting.0 / 1e3)).await,
            None => std::future::pending().await,
        }
    };
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Prints what the autopilot does.
async fn tell(autopilot: Option<&Autopilot>, json: bool) -> Result<(), Refusal> {
    let Some(autopilot) = autopilot else { return std::future::pending().await };
    let mut news = autopilot.news();
    let mut begin = Timestamp::default();
    loop {
        let one = match news.recv().await {
            Ok(one) => one,
            Err(RecvError::Lagged(missed)) => {
                eprintln!("mose: {missed} lines are left out");
                continue;
            }
            Err(RecvError::Closed) => return Ok(()),
        };
        match one {
            News::Planned { from, to, design } => {
                begin = Timestamp::now();
                if !json {
                    println!("SIM  {} → {}: {}", from, to, design.proposal.why);
                }
            }
            News::Step(event) if json => print_json(&event),
            News::Step(event) => println!("{}", table::step_line(&event, begin)),
            News::Ended(record) if json => print_json(&record),
            News::Ended(record) => println!("\n{}\n", table::ending(&record)),
            News::Trouble(refusal) => eprintln!("mose: {refusal}"),
        }
    }
}
