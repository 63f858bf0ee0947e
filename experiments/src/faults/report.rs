//! What the table and the soak are told as: on a terminal, and in Markdown.

use mose_console::table;
use mose_experiments::documents::{Elsewhere, FaultCell, FaultTable, FaultTotals, Soak};
use mose_pam::Millis;

const HEAD: [&str; 10] =
    ["cell", "outcome", "stood still", "bound", "lost", "twice", "resets", "copies", "gap told", "verdict"];
const RIGHT: [usize; 7] = [2, 3, 4, 5, 6, 7, 8];

/// What needs no lab: the simulation's cells and the model's interleavings.
pub(crate) fn elsewhere() -> Vec<Elsewhere> {
    let of = |what: &str, by: &str, command: &str| Elsewhere {
        what: what.into(),
        by: by.into(),
        command: command.into(),
    };
    vec![
        of(
            "clocks that jump; messages that are late, lost, repeated or out of order; crashes at every write",
            "the simulation, driver/tests/simulation",
            "cargo test --release -p mose-driver --test simulation",
        ),
        of(
            "all interleavings of the two state machines, their hosts, CRIU and the network",
            "the model, handover/tests/model",
            "cargo test --release -p mose-handover --test model",
        ),
    ]
}

fn row(cell: &FaultCell) -> Vec<String> {
    vec![
        cell.name.clone(),
        cell.outcome.clone(),
        Millis(cell.silence_ms).to_string(),
        Millis(cell.bound_ms).to_string(),
        (cell.lost + cell.corrupted).to_string(),
        cell.repeated.to_string(),
        cell.resets.to_string(),
        cell.copies.to_string(),
        table::known(cell.told_ms.map(Millis)),
        if cell.good { "good" } else { "FAILED" }.to_owned(),
    ]
}

fn totals(totals: &FaultTotals) -> [(&'static str, u64); 14] {
    [
        ("cells", totals.cells as u64),
        ("done", totals.done as u64),
        ("rolled back", totals.rolled_back as u64),
        ("refused", totals.refused as u64),
        ("aborted", totals.aborted as u64),
        ("in doubt, then settled", totals.settled as u64),
        ("given up", totals.given_up as u64),
        ("lost", totals.lost),
        ("duplicated", totals.duplicated),
        ("connections reset", totals.resets),
        ("leaked", totals.leaked as u64),
        ("over their bound", totals.over_bound as u64),
        ("figures off", totals.figures_off as u64),
        ("failed", totals.failed as u64),
    ]
}

fn totals_line(all: &FaultTotals) -> String {
    totals(all).iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(" · ")
}

fn failures(cells: &[FaultCell], bullet: &str) -> String {
    let failed = cells.iter().filter(|cell| !cell.good);
    failed
        .map(|cell| {
            let reason = cell.reason.as_ref().map(|reason| format!(" (told: {reason})")).unwrap_or_default();
            format!("{bullet}{}: {}{reason}\n", cell.name, cell.why.join("; "))
        })
        .collect()
}

fn markdown_table(cells: &[FaultCell]) -> String {
    let line = |words: &[String]| format!("| {} |\n", words.join(" | "));
    let mut text = line(&HEAD.map(str::to_owned));
    text += &line(&HEAD.map(|_| "---".to_owned()));
    cells.iter().for_each(|cell| text += &line(&row(cell)));
    text
}

/// The table for a terminal.
pub(crate) fn plain(all: &FaultTable) -> String {
    let rows: Vec<Vec<String>> = all.cells.iter().map(row).collect();
    let mut text = format!("{}\n\n{}\n", table::table(&HEAD, &RIGHT, &rows), totals_line(&all.totals));
    text += &failures(&all.cells, "  ");
    for other in &all.elsewhere {
        text += &format!("not here, but in {}: {}; {}\n", other.by, other.what, other.command);
    }
    text
}

/// The table as a report.
pub(crate) fn markdown(all: &FaultTable) -> String {
    let mut text = format!("# Faults\n\n{}\n", totals_line(&all.totals));
    if all.totals.failed > 0 {
        text += &format!("\n## Failed\n\n{}", failures(&all.cells, "- "));
    }
    text += &format!("\n## Cells\n\n{}", markdown_table(&all.cells));
    text += "\n## Elsewhere\n\nWhat needs no real parts is struck without them:\n\n";
    for other in &all.elsewhere {
        text += &format!("- {}: {} (`{}`)\n", other.by, other.what, other.command);
    }
    text
}

/// The soak for a terminal.
pub(crate) fn soak_plain(all: &Soak) -> String {
    let mut text = format!(
        "{} migrations, seed {}, {} with a fault\n{}\nclient: {} sent, {} answered\n",
        all.migrations.len(),
        all.seed,
        all.struck,
        totals_line(&all.totals),
        all.sent,
        all.answered
    );
    for agent in &all.agents {
        text += &format!(
            "agent of {}: {:.1} MB after 50, {:.1} MB at the end: {:.2} of it, {} of one process\n",
            agent.host,
            agent.early_bytes as f64 / 1e6,
            agent.late_bytes as f64 / 1e6,
            agent.ratio,
            if agent.lives == 1 { "all" } else { "not" }
        );
    }
    text + &failures(&all.migrations, "  ")
}

/// The soak as a report.
pub(crate) fn soak_markdown(all: &Soak) -> String {
    let struck: Vec<FaultCell> =
        all.migrations.iter().filter(|one| one.fault != "none" || !one.good).cloned().collect();
    format!(
        "# Soak\n\n{}\n## With a fault\n\n{}",
        soak_plain(all).replace('\n', "\n\n"),
        markdown_table(&struck)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_and_why_is_told_and_what_is_struck_elsewhere_is_labelled() {
        let cell = FaultCell {
            name: "agent-killed@transfer/source/cold".into(),
            outcome: "rolled back".into(),
            why: vec!["2 requests lost".into()],
            lost: 2,
            ..FaultCell::default()
        };
        let totals = FaultTotals::of(std::slice::from_ref(&cell));
        let all = FaultTable { totals, cells: vec![cell], elsewhere: elsewhere() };
        for text in [plain(&all), markdown(&all)] {
            for word in ["2 requests lost", "1 failed", "FAILED", "handover/tests/model", "cargo test"] {
                assert!(text.contains(word), "{word}:\n{text}");
            }
        }
    }
}
