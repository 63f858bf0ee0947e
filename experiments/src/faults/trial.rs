//! One cell from its client's first request to its verdict.

use std::time::{Duration, Instant};

use mose_experiments::documents::FaultCell;
use mose_protocol::record::Outcome;

use super::bench::{Bench, now_ms};
use super::bound::{Worst, bound};
use super::cell::{Cell, Fault, Span};
use super::judge::{Found, judge};

/// How long a client is left alone before the order and after the end.
const REST: Duration = Duration::from_millis(500);

/// How long the service may take to answer again once the migration is over: its bound judges the silence, this ends the cell.
const ANSWERED: Duration = Duration::from_secs(30);

/// How long what a hand-over leaves may take to be removed.
const SETTLE: Duration = Duration::from_secs(30);

/// How long the next order may take to be taken once a link is back.
const AGAIN: Duration = Duration::from_secs(20);

/// A cell's line, and what to read where it is not good.
pub(crate) struct Tried {
    pub(crate) cell: FaultCell,
    pub(crate) evidence: String,
    /// Whether the lab is fit for another cell.
    pub(crate) fit: bool,
}

pub(crate) fn run(bench: &Bench<'_>, cell: &Cell) -> color_eyre::Result<Tried> {
    bench.daemons_ready();
    let begun = Instant::now();
    let hosts = bench.hosts()?;
    bench.course(hosts).acquainted();
    let logs = bench.logs();
    let mut client = bench.client()?;
    std::thread::sleep(REST);
    let from = now_ms();
    let bound = bound(cell, Worst::of(cell.by));
    let mut ended = bench.course(hosts).carry_out(cell.by, Some(cell))?;
    let answered = bench.answered(&mut client, ANSWERED);
    let to = now_ms();
    if !answered {
        ended
            .complaints
            .push(format!("the client was not answered {ANSWERED:?} after the migration had ended"));
    }
    let mut moved = ended.outcomes.last() == Some(&Outcome::Done);
    if matches!(cell.fault, Fault::LinkCut(_, Span::Seconds(40))) && !moved {
        match bench.course(hosts).again(cell.by, AGAIN) {
            Ok(()) => moved = true,
            Err(complaint) => ended.complaints.push(complaint),
        }
    }
    if answered && !bench.sound() {
        ended.complaints.push("the service's state is damaged".into());
    }
    std::thread::sleep(REST);
    let client = client.stop().map_err(|error| error.to_string());
    let place = if moved { hosts.destination } else { hosts.source };
    let mut rest = bench.at_rest(place, SETTLE)?;
    let fit = answered && rest.leaked.is_empty() && rest.running() == 1;
    if rest.running() != 1 {
        // What belongs to a second copy is told by that.
        rest.leaked.clear();
    }
    let found = Found {
        ended,
        client,
        span: (from, to),
        bound_ms: bound.as_secs_f64() * 1e3,
        copies: rest.copies.to_vec(),
        place: Some(place),
        leaked: rest.leaked,
        took_s: begun.elapsed().as_secs_f64(),
    };
    let steps = found.ended.record.as_ref().map(|record| format!("{record:#?}\n")).unwrap_or_default();
    let cell = judge(cell, found);
    let evidence = if cell.good { String::new() } else { steps + &bench.logged_since(logs) };
    Ok(Tried { cell, evidence, fit })
}
