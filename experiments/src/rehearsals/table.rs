//! What a terminal shows of rehearsals.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use mose_console::table;
use mose_experiments::documents::{Judged, Rehearsals, Rehearsed};
use mose_pam::Millis;

use crate::course::client_line;

/// The steps of one workload, as soon as it is through, and what went wrong with it.
pub(super) fn print_steps(tried: &Rehearsed) {
    println!("{}: {} rehearsals", tried.workload, tried.pairs.len());
    let mut rows: Vec<Vec<String>> = tried
        .steps
        .iter()
        .map(|one| {
            let side = if one.at_source { "source" } else { "destination" };
            row(&format!("{side}: {}", one.step.name()), &one.judged)
        })
        .collect();
    rows.push(row("dump, transfer and restore", &tried.sum));
    println!("{}", table::table(&["medians", "rehearsal", "migration", "ratio", ""], &[1, 2, 3], &rows));
    for (number, found) in tried.pairs.iter().map(|pair| &pair.found).enumerate() {
        let number = number + 1;
        found.left.iter().for_each(|left| println!("rehearsal {number} left: {left}"));
        if found.resumed {
            println!("rehearsal {number} resumed something at the destination");
        }
        if found.sent_packets > 0 {
            println!("rehearsal {number} sent {} packets from the destination", found.sent_packets);
        }
        if found.kept_in_packets > 0 {
            let kept_in = found.kept_in_packets;
            println!(
                "rehearsal {number}: the endpoint said {kept_in} packets at the destination, which went nowhere"
            );
        }
    }
    if let Some(client) = &tried.client {
        println!("{}", client_line(client));
    }
    if let Some(reason) = &tried.broken_off {
        println!("{} was broken off: {reason}", tried.workload);
    }
    println!();
}

fn row(name: &str, judged: &Judged) -> Vec<String> {
    let verdict = match judged.alike {
        Some(true) => "alike",
        Some(false) => "NOT ALIKE",
        None => "",
    };
    vec![
        name.to_owned(),
        shown(judged.took.rehearsal_ms),
        shown(judged.took.migration_ms),
        ratio(judged.ratio),
        verdict.to_owned(),
    ]
}

/// All workloads, a line each.
pub(super) fn print_summary(all: &Rehearsals) {
    let rows: Vec<Vec<String>> = all.workloads.iter().map(summary).collect();
    let head = [
        all.strategy.name(),
        "pairs",
        "sum ratio",
        "stopped: rehearsal",
        "migration",
        "would be",
        "silence: rehearsal",
        "migration",
        "left",
        "resumed",
        "sent",
        "client",
        "",
    ];
    println!("{}", table::table(&head, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &rows));
    println!(
        "\nsum ratio: dump, transfer and restore in the rehearsal over those in the migration; * is beyond 15 %. resumed: of so many \
         restores that CRIU's own log tells of"
    );
}

fn summary(tried: &Rehearsed) -> Vec<String> {
    let still = &tried.stood_still;
    let far = if tried.sum.alike == Some(false) { "*" } else { "" };
    let client = match &tried.client {
        Some(client) if client.is_clean() => "clean",
        Some(_) => "NOT CLEAN",
        None => "–",
    };
    vec![
        tried.workload.clone(),
        tried.pairs.len().to_string(),
        format!("{}{far}", ratio(tried.sum.ratio)),
        shown(still.blackout.rehearsal_ms),
        shown(still.blackout.migration_ms),
        shown(still.would_ms),
        silence(still.client_silence.rehearsal_ms),
        silence(still.client_silence.migration_ms),
        tried.left.to_string(),
        format!("{} of {}", tried.resumed, tried.restores_read),
        tried.sent_packets.to_string(),
        client.to_owned(),
        if tried.good() { "good" } else { "NOT GOOD" }.to_owned(),
    ]
}

fn shown(ms: Option<f64>) -> String {
    table::known(ms.map(Millis))
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// A client's silence; the client lists none under 50 ms.
fn silence(ms: Option<f64>) -> String {
    match ms {
        Some(ms) if ms <= 0.0 => "< 50 ms".to_owned(),
        _ => shown(ms),
    }
}
