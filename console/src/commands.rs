//! The commands that talk to agents.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;

use mose_console::arguments;
use mose_console::documents::{self, AgentLine, print_json};
use mose_console::{exit, movable, table, told};
use mose_orchestrator::decide::{self, Decided};
use mose_orchestrator::design::{self, Design, Given, Wanted};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow::Follower;
use mose_orchestrator::order::{self, Order};
use mose_orchestrator::told::{Told, Unanswered};
use mose_pam::{Limits, Millis, Plan, Strategy, Targets};
use mose_protocol::handover::{FilePolicy, ImagePolicy};
use mose_protocol::record::Record;
use mose_protocol::{HostName, Refusal, RefusalCode, ServiceName, Timestamp};
use serde::Serialize;

use crate::cli::{Command, Decision, Migrate};
use crate::connect::{endpoints, with_fleet};

/// The console's settings, commented; or what they may be, as JSON Schema.
pub(crate) fn print_config(schema: bool) -> ExitCode {
    if schema {
        print_json(&mose_screen::config::Config::schema());
    } else {
        print!("{}", mose_screen::config::COMMENTED);
    }
    ExitCode::SUCCESS
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

async fn talk(fleet: &Fleet, command: Command, json: bool) -> Result<ExitCode, Refusal> {
    match command {
        Command::Agents => agents(fleet, json).await,
        Command::Services => services(fleet, json).await,
        Command::Links { probe } => links(fleet, probe, json).await,
        Command::Migrate(migrate) => self::migrate(fleet, *migrate, false, json).await,
        Command::Rehearse(migrate) => self::migrate(fleet, *migrate, true, json).await,
        Command::Check { service, to, from } => check(fleet, &service, from, to.as_ref(), json).await,
        Command::Watch => watch(fleet, json).await,
        Command::History { count, migration } => history(fleet, count, migration.as_ref(), json).await,
        Command::Abort { migration, from } => {
            let what = decide::abort(fleet, from.as_ref(), &migration).await?;
            Ok(decided(&what, &migration, json))
        }
        Command::Settle { migration, from, decision } => {
            let keep = matches!(decision, Decision::Keep);
            let what = decide::settle(fleet, from.as_ref(), &migration, keep).await?;
            let code = decided(&what, &migration, json);
            if let Decided::AsOrdered(record) = &what {
                let there = decide::at_destination(fleet, record).await;
                let said = decide::settled(record, keep, &there);
                // With --json a program reads the record, and a person these.
                said.iter()
                    .for_each(|line| if json { eprintln!("mose: {line}") } else { println!("{line}") });
            }
            Ok(match what {
                // It took the decision, and nobody knows what came of it.
                Decided::Unheard(_) => ExitCode::from(exit::IN_DOUBT),
                _ => code,
            })
        }
        // Carried out before there is a session.
        Command::Lab { .. }
        | Command::Plan(_)
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

/// Prints what came of an order by hand: as it is, not as it was meant.
fn decided(what: &Decided, migration: &mose_protocol::MigrationId, json: bool) -> ExitCode {
    let waited = decide::PATIENCE;
    let told = |record: Option<&Record>| match record {
        Some(record) if json => print_json(record),
        Some(record) => println!("{}", table::ending(record)),
        None => {}
    };
    let later = format!("`mose history {migration}` tells what comes of it");
    match what {
        Decided::AsOrdered(record) => {
            told(Some(record));
            ExitCode::SUCCESS
        }
        Decided::Otherwise(record) => {
            told(Some(record));
            eprintln!("mose: it ended before the order took effect: {}", record.outcome.name());
            ExitCode::from(exit::FAILED)
        }
        Decided::NotYet(Some(record)) => {
            // Its reason says why, and which host is needed.
            told(Some(record));
            eprintln!("mose: it is still in doubt after {waited:?}; {later}");
            ExitCode::from(exit::IN_DOUBT)
        }
        Decided::NotYet(None) => {
            eprintln!("mose: it has not ended within {waited:?}; {later}");
            ExitCode::from(exit::FAILED)
        }
        Decided::Unheard(refusal) => {
            eprintln!("mose: its source took the order and fell silent: {refusal}; {later} once it answers");
            ExitCode::from(exit::FAILED)
        }
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
    let report = mose_orchestrator::movable::check(fleet, service, &from, to).await?;
    if json {
        print_json(&report);
    } else {
        println!("{}", movable::page(&report));
    }
    Ok(report.verdict().map_or(ExitCode::from(exit::REFUSED), |()| ExitCode::SUCCESS))
}

async fn agents(fleet: &Fleet, json: bool) -> Result<ExitCode, Refusal> {
    let seen = fleet.agents(&[]).await?;
    let complete = match seen.iter().all(|agent| agent.hello.is_ok()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(exit::INCOMPLETE),
    };
    if json {
        let all: Vec<AgentLine<'_>> = seen.iter().map(Into::into).collect();
        print_json(&all);
        return Ok(complete);
    }
    if seen.is_empty() {
        println!("{}", fleet.nobody());
        return Ok(complete);
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
    Ok(complete)
}

/// Prints what hosts told, as `table` shows it to people, and which did not tell; the exit code says whether all did.
fn tell_all<T: Serialize>(
    all: &Told<T>,
    json: bool,
    nothing: &str,
    host: impl Fn(&T) -> &HostName,
    table: impl Fn(&Told<T>, Timestamp) -> String,
) -> ExitCode {
    let now = Timestamp::now();
    if json {
        print_json(&documents::Lines::of(all));
    } else if all.told.is_empty() && all.last.is_empty() {
        // Nothing is there only if all have said so.
        if all.unanswered.is_empty() {
            println!("{nothing}");
        }
    } else {
        println!("{}", table(all, now));
    }
    for missing in &all.unanswered {
        let rows = all.last.iter().filter(|last| host(&last.row) == &missing.host).count();
        eprintln!("mose: {}", told::missing(missing, rows, now));
    }
    if all.unanswered.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::INCOMPLETE) }
}

async fn services(fleet: &Fleet, json: bool) -> Result<ExitCode, Refusal> {
    let all = fleet.services().await?;
    Ok(tell_all(&all, json, "no service runs anywhere", |service| &service.host, told::services))
}

async fn links(fleet: &Fleet, probe: bool, json: bool) -> Result<ExitCode, Refusal> {
    let all = fleet.links(probe).await?;
    let nothing = "no link is known: it takes two edge hosts whose agents have met";
    Ok(tell_all(&all, json, nothing, |link| &link.from, told::links))
}

/// Migrates, or only rehearses it.
async fn migrate(fleet: &Fleet, migrate: Migrate, rehearsal: bool, json: bool) -> Result<ExitCode, Refusal> {
    let mut from = migrate.from.clone();
    let (plan, forecast) = match migrate.target_downtime.zip(migrate.target_duration) {
        None => {
            let strategy = migrate.strategy.unwrap_or(Strategy::Cold);
            let (iterations, bandwidth) = (migrate.iterations, migrate.bandwidth);
            (Plan { iterations, bandwidth, ..arguments::plan(strategy, None) }, None)
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
        rehearsal,
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
        rounds: migrate.rounds_rule,
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
    let Some(wanted) = migration else {
        let all = fleet.history(count).await?;
        let table = |all: &Told<Record>, _| table::history(&all.told);
        return Ok(tell_all(&all, json, "no migration yet", |record| &record.from, table));
    };
    let mut all = fleet.record(wanted).await?;
    if let Some(record) = all.told.pop() {
        if json {
            print_json(&record);
        } else {
            println!("{}", table::record(&record));
        }
        return Ok(ExitCode::SUCCESS);
    }
    for Unanswered { host, refused, .. } in &all.unanswered {
        eprintln!("mose: {host} was not asked: {refused}");
    }
    Err(Refusal::new(
        RefusalCode::OutOfTurn,
        match all.unanswered.is_empty() {
            true => format!("no live host remembers a migration {wanted}"),
            false => format!("no host that answered remembers a migration {wanted}"),
        },
        "`mose history` lists those that are known",
    ))
}
