//! The commands that talk to agents.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mose_console::design::{self, Design, Given, Wanted};
use mose_console::documents::{AgentLine, Refused};
use mose_console::fleet::Fleet;
use mose_console::follow::Follower;
use mose_console::order::{self, Order};
use mose_console::{exit, movable, table};
use mose_lab::Lab;
use mose_pam::{Limits, Millis, Plan, Strategy, Targets};
use mose_protocol::handover::{FilePolicy, ImagePolicy, PreCopyWay};
use mose_protocol::record::Record;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, ServiceName};
use serde::Serialize;

use crate::cli::{self, Command, Decision, Migrate, PreCopy, Transport};
use crate::lab::{agents_of, enter};

/// Prints a value as one JSON document on one line.
pub(crate) fn print_json<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("mose: {error}"),
    }
}

/// The console's settings, commented; or what they may be, as JSON Schema.
pub(crate) fn print_config(schema: bool) -> ExitCode {
    if schema {
        print_json(&mose_screen::config::Config::schema());
    } else {
        print!("{}", mose_screen::config::COMMENTED);
    }
    ExitCode::SUCCESS
}

/// A line for whoever typed the command; a program is told by the exit code.
fn say(json: bool, line: &str) {
    if !json {
        println!("{line}");
    }
}

impl From<Transport> for TransportKind {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Zenoh => Self::Zenoh,
        }
    }
}

impl From<PreCopy> for PreCopyWay {
    fn from(way: PreCopy) -> Self {
        match way {
            PreCopy::Live => Self::Live,
            PreCopy::Chain => Self::Chain,
        }
    }
}

/// Runs a command that talks to agents: those at `connect`, else the lab's.
pub(crate) fn run(command: Command, connect: &[String], json: bool) -> ExitCode {
    let endpoints = match endpoints(connect) {
        Ok((endpoints, _)) => endpoints,
        Err(error) => return crate::fail(&error),
    };
    with_fleet(&endpoints, json, async |fleet| match command {
        Command::Record { file } => Box::pin(crate::record::run(fleet.clone(), &file)).await,
        command => Box::pin(talk(fleet, command, json)).await,
    })
}

/// Does something with the agents at `endpoints`; what it refuses is told.
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
        // What is left of the session must not outlive the runtime; its errors help nobody any more.
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
    match Lab::open(&mose_lab::LabConfig::default().state_dir) {
        Ok(Some(lab)) => {
            enter(&lab)?;
            Ok((agents_of(&lab), Source::Lab))
        }
        // Someone who may not look into the lab is not kept from agents elsewhere.
        Ok(None) | Err(_) => Ok((Vec::new(), Source::Multicast)),
    }
}

fn tell(refusal: &Refusal, json: bool) -> ExitCode {
    if json {
        print_json(&Refused { refused: refusal });
    }
    eprintln!("mose: {refusal}");
    exit::of_refusal(refusal)
}

async fn talk(fleet: &Fleet, command: Command, json: bool) -> Result<ExitCode, Refusal> {
    match command {
        Command::Agents => agents(fleet, json).await,
        Command::Services => services(fleet, json).await,
        Command::Links { probe } => links(fleet, probe, json).await,
        Command::Migrate(migrate) => self::migrate(fleet, *migrate, json).await,
        Command::Check { service, to, from } => check(fleet, &service, from, to.as_ref(), json).await,
        Command::Watch => watch(fleet, json).await,
        Command::History { count, migration } => history(fleet, count, migration.as_ref(), json).await,
        Command::Abort { migration, from } => {
            fleet.agent(&from).await?;
            fleet.ask(&from, &Request::Abort(migration.clone())).await?;
            say(
                json,
                &format!("{migration} is being broken off; `mose history {migration}` tells how it ended"),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Settle { migration, from, decision } => {
            fleet.agent(&from).await?;
            let keep = matches!(decision, Decision::Keep);
            fleet.ask(&from, &Request::Settle { migration: migration.clone(), keep }).await?;
            let settled = if keep { "the service is taken back" } else { "the service is given up" };
            say(json, &format!("{migration}: {settled} on {from}; `mose services` tells where it runs"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Plan(plan) => crate::plan::run_measured(fleet, &plan, json).await,
        // Carried out before there is a session.
        Command::Lab { .. }
        | Command::Calibrate(_)
        | Command::Demo(_)
        | Command::Record { .. }
        | Command::Replay { .. }
        | Command::Config { .. }
        | Command::Doctor { .. }
        | Command::Schema { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(ExitCode::SUCCESS),
    }
}

async fn check(
    fleet: &Fleet,
    service: &ServiceName,
    from: Option<HostName>,
    to: Option<&HostName>,
    json: bool,
) -> Result<ExitCode, Refusal> {
    let from = match from {
        Some(from) => from,
        None => order::locate(fleet, service).await?,
    };
    fleet.agent(&from).await?;
    if let Some(to) = to {
        fleet.agent(to).await?;
    }
    let report = movable::check(fleet, service, &from, to).await?;
    if json {
        print_json(&report);
    } else {
        println!("{}", movable::page(&report));
    }
    Ok(report.verdict().map_or(ExitCode::from(exit::REFUSED), |()| ExitCode::SUCCESS))
}

async fn agents(fleet: &Fleet, json: bool) -> Result<ExitCode, Refusal> {
    let seen = fleet.agents(&[]).await?;
    if json {
        let all: Vec<AgentLine<'_>> = seen.iter().map(Into::into).collect();
        print_json(&all);
        return Ok(ExitCode::SUCCESS);
    }
    if seen.is_empty() {
        println!("{}", fleet.nobody());
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = seen
        .iter()
        .map(|agent| match &agent.hello {
            Ok(hello) => vec![
                agent.host.to_string(),
                table::marked(hello.role.name(), hello.simulated),
                hello.underlay.to_string(),
                hello.release.clone(),
                hello
                    .tools
                    .iter()
                    .map(|(name, version)| format!("{name} {version}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            ],
            Err(refusal) => {
                vec![agent.host.to_string(), "?".into(), "–".into(), "–".into(), refusal.to_string()]
            }
        })
        .collect();
    println!("{}", table::table(&["host", "role", "underlay", "release", "tools"], &[], &rows));
    Ok(ExitCode::SUCCESS)
}

async fn services(fleet: &Fleet, json: bool) -> Result<ExitCode, Refusal> {
    let (services, troubles) = fleet.services().await?;
    if json {
        print_json(&services);
    } else if services.is_empty() {
        println!("no service runs anywhere");
    } else {
        let rows: Vec<Vec<String>> = services
            .iter()
            .map(|service| {
                vec![
                    service.name.to_string(),
                    service.host.to_string(),
                    service.state.name().to_owned(),
                    service.address.map_or_else(|| "not on the overlay".to_owned(), |a| a.addr().to_string()),
                    table::known(service.memory),
                    table::known(service.processes),
                    service.image.clone(),
                ]
            })
            .collect();
        let headings = ["service", "host", "state", "address", "memory", "processes", "image"];
        println!("{}", table::table(&headings, &[4, 5], &rows));
    }
    for trouble in &troubles {
        eprintln!("mose: {trouble}");
    }
    Ok(if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

async fn links(fleet: &Fleet, probe: bool, json: bool) -> Result<ExitCode, Refusal> {
    let (links, troubles) = fleet.links(probe).await?;
    if json {
        print_json(&links);
    } else if links.is_empty() {
        println!("no link is known: it takes two edge hosts whose agents have met");
    } else {
        println!("{}", table::links(&links));
    }
    for trouble in &troubles {
        eprintln!("mose: {trouble}");
    }
    Ok(if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

async fn migrate(fleet: &Fleet, migrate: Migrate, json: bool) -> Result<ExitCode, Refusal> {
    let mut from = migrate.from.clone();
    let (plan, forecast) = match migrate.target_downtime.zip(migrate.target_duration) {
        None => {
            let strategy = migrate.strategy.unwrap_or(Strategy::Cold);
            let (iterations, bandwidth) = (migrate.iterations, migrate.bandwidth);
            (Plan { iterations, bandwidth, ..cli::plan(strategy, None) }, None)
        }
        Some((downtime, duration)) => {
            let host = match from {
                Some(host) => host,
                None => order::locate(fleet, &migrate.service).await?,
            };
            let design = designed(fleet, &migrate, &host, downtime, duration).await?;
            if !json {
                design.remarks.iter().for_each(|remark| println!("{remark}"));
                println!("plan: {}", design.proposal.why);
                if let Some(nearest) = &design.proposal.nearest {
                    println!("the targets are not met: {nearest}");
                }
            }
            if migrate.strict {
                design.insist()?;
            }
            from = Some(host);
            (design.plan(), Some(Box::new(design.forecast())))
        }
    };
    let order = Order {
        service: migrate.service,
        from,
        to: migrate.to,
        plan,
        transport: migrate.transport.map(Into::into),
        image_policy: if migrate.require_image { ImagePolicy::Require } else { ImagePolicy::Bring },
        files: FilePolicy { overwrite: migrate.overwrite_volume, copy_binds: migrate.copy_bind },
        pre_copy: migrate.pre_copy.map(Into::into),
        forecast,
    };
    let mut begin = None;
    let record = order::carry_out(fleet, &order, |event| {
        if json {
            print_json(event);
        } else {
            println!("{}", table::step_line(event, *begin.get_or_insert(event.at)));
        }
    })
    .await?;
    if json {
        print_json(&record);
    } else {
        println!("\n{}", table::record(&record));
    }
    Ok(exit::of(record.outcome))
}

/// Plans a migration for its targets.
async fn designed(
    fleet: &Fleet,
    migrate: &Migrate,
    from: &HostName,
    downtime: Millis,
    duration: Millis,
) -> Result<Design, Refusal> {
    let targets = Targets::new(downtime, duration)
        .map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string(), "give other targets"))?;
    let wanted = Wanted {
        targets,
        objective: migrate.objective,
        limits: Limits::default(),
        profile: None,
        given: Given { bandwidth: migrate.bandwidth, ..Given::default() },
    };
    design::design(fleet, &migrate.service, from, &migrate.to, &wanted).await
}

async fn watch(fleet: &Fleet, json: bool) -> Result<ExitCode, Refusal> {
    let mut follower = Follower::new(fleet).await?;
    if fleet.agents(&[]).await?.is_empty() {
        eprintln!("mose: {}; waiting for one", fleet.nobody());
    }
    let mut begins = std::collections::HashMap::new();
    loop {
        let event = tokio::select! {
            event = follower.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(event) = event else { return Ok(ExitCode::SUCCESS) };
        if json {
            print_json(&event);
        } else {
            let begin = *begins.entry(event.migration.clone()).or_insert(event.at);
            println!("{}  {}", event.migration, table::step_line(&event, begin));
        }
    }
}

async fn history(
    fleet: &Fleet,
    count: u32,
    migration: Option<&mose_protocol::MigrationId>,
    json: bool,
) -> Result<ExitCode, Refusal> {
    let hosts = fleet.live().await?.into_iter().filter(|agent| agent.hello.is_ok()).map(|agent| agent.host);
    if let Some(wanted) = migration {
        for host in hosts {
            match fleet.ask(&host, &Request::Record(wanted.clone())).await {
                Ok(Reply::Record(Some(record))) => {
                    if json {
                        print_json(&record);
                    } else {
                        println!("{}", table::record(&record));
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                Ok(_) => {}
                Err(refusal) => eprintln!("mose: {refusal}"),
            }
        }
        return Err(Refusal::new(
            RefusalCode::OutOfTurn,
            format!("no live host remembers a migration {wanted}"),
            "`mose history` lists those that are known",
        ));
    }
    let mut records: Vec<Record> = Vec::new();
    for host in hosts {
        match fleet.ask(&host, &Request::History(count)).await {
            Ok(Reply::History(found)) => records.extend(found),
            Ok(_) => {}
            Err(refusal) => eprintln!("mose: {refusal}"),
        }
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.started_at));
    records.truncate(count as usize);
    if json {
        print_json(&records);
    } else if records.is_empty() {
        println!("no migration yet");
    } else {
        println!("{}", table::history(&records));
    }
    Ok(ExitCode::SUCCESS)
}
