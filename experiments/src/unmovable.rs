//! `mose lab unmovable`: what the check says of each kind of thing, held against what CRIU does with it.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::{exit, table};
use mose_experiments::documents::Unmovable;
use mose_lab::holder::{Fate, KINDS, Kind};
use mose_lab::{ByHand, Holder, Lab, ServiceOptions, by_hand, stop_service};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::movable;
use mose_protocol::check::{Report, Severity};

/// Where the holders run; nobody migrates them.
const HOST: &str = "edge-a";
/// Their name.
const NAME: &str = "holder";

/// Holds each kind for a moment, and tells what the check and CRIU say of it.
pub(crate) fn run(options: &commands::Unmovable) -> color_eyre::Result<ExitCode> {
    let kinds: Vec<&Kind> = if options.kinds.is_empty() {
        KINDS.iter().filter(|kind| kind.fate != Fate::Outside).collect()
    } else {
        let named = options.kinds.iter().map(|name| {
            Kind::named(name).filter(|kind| kind.fate != Fate::Outside).ok_or_else(|| {
                let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
                eyre!("no kind is named {name}; there are {}", known.join(", "))
            })
        });
        named.collect::<color_eyre::Result<_>>()?
    };
    let lab = crate::guard::open_for(&[NAME], options.replace)?;
    crate::testbed::enter(&lab)?;
    let runtime = tokio::runtime::Runtime::new().wrap_err("no runtime")?;
    let endpoints = crate::testbed::agents_of(&lab);
    let fleet = runtime.block_on(Fleet::join(&endpoints)).map_err(|refusal| eyre!("{refusal}"))?;
    let fleet = Arc::new(fleet);
    let mut held = Vec::new();
    for kind in kinds {
        let one = hold(&lab, &runtime, &fleet, kind)?;
        if options.json {
            print_json(&one);
        } else {
            println!("{}", line(&one));
        }
        held.push(one);
    }
    stop_service(&lab, HOST, NAME)?;
    // What is left of the session must not outlive the runtime; its errors help nobody any more.
    let close = async { tokio::time::timeout(Duration::from_secs(1), fleet.session().close()).await };
    let _ = runtime.block_on(close);
    runtime.shutdown_timeout(Duration::from_millis(100));
    if !options.json {
        println!("\n{}", summary(&held));
    }
    let agree = held.iter().all(|one| one.agrees != Some(false));
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn hold(
    lab: &Lab,
    runtime: &tokio::runtime::Runtime,
    fleet: &Fleet,
    kind: &Kind,
) -> color_eyre::Result<Unmovable> {
    let holder = Holder::start(lab, HOST, &ServiceOptions::of(NAME), &[kind.name])?;
    if !holder.lacks.is_empty() {
        return Ok(told(kind, None));
    }
    let ask = async {
        let (service, host) = (NAME.parse(), HOST.parse());
        let (Ok(service), Ok(host)) = (service, host) else { return Err(eyre!("a name is none")) };
        movable::check(fleet, &service, &host, None).await.map_err(|refusal| eyre!("{refusal}"))
    };
    let report = runtime.block_on(ask)?;
    Ok(told(kind, Some((report, by_hand(lab, HOST, NAME)?))))
}

fn told(kind: &Kind, found: Option<(Report, ByHand)>) -> Unmovable {
    let name = kind.name.to_owned();
    let Some((report, by_hand)) = found else {
        return Unmovable {
            kind: name,
            criu: "this kernel has none".into(),
            check: String::new(),
            agrees: None,
        };
    };
    let criu = match &by_hand {
        ByHand::Moves => "moves".to_owned(),
        ByHand::DumpFails(reason) => format!("dump fails: {reason}"),
        ByHand::RestoreFails(reason) => format!("restore fails: {reason}"),
        ByHand::Hangs => "hangs".to_owned(),
    };
    let blocking = report.blocking().count() > 0;
    let worst = report.findings.iter().find(|finding| finding.severity > Severity::Note);
    Unmovable {
        kind: name,
        criu,
        check: worst
            .map(|finding| format!("{}: {}", finding.severity.name(), finding.told()))
            .unwrap_or_default(),
        // What CRIU loses without a word is refused too, and what hangs it alone may move with us.
        agrees: Some(match by_hand {
            ByHand::Moves => !blocking || kind.fate == Fate::Refused,
            ByHand::Hangs => blocking || kind.fate == Fate::Moves,
            ByHand::DumpFails(_) | ByHand::RestoreFails(_) => blocking,
        }),
    }
}

fn line(one: &Unmovable) -> String {
    let mark = match one.agrees {
        Some(true) => "✔",
        Some(false) => "✘",
        None => "–",
    };
    let check = if one.check.is_empty() { "nothing" } else { &one.check };
    format!("{mark} {}\n    CRIU:  {}\n    check: {check}", one.kind, one.criu)
}

fn summary(held: &[Unmovable]) -> String {
    let count = |word: &str| held.iter().filter(|one| one.criu.starts_with(word)).count().to_string();
    let missing = held.iter().filter(|one| one.agrees.is_none()).count().to_string();
    let wrong = held.iter().filter(|one| one.agrees == Some(false)).count().to_string();
    let rows = [
        vec!["moves".to_owned(), count("moves")],
        vec!["dump fails".to_owned(), count("dump")],
        vec!["restore fails".to_owned(), count("restore")],
        vec!["hangs".to_owned(), count("hangs")],
        vec!["not in this kernel".to_owned(), missing],
        vec!["the check is wrong".to_owned(), wrong],
    ];
    table::table(&["CRIU", "kinds"], &[1], &rows)
}
