//! The table for a terminal, and the report that sets it beside what was published.

use std::fmt::Write as _;

use mose_console::table;
use mose_experiments::documents::{Claim, Table3, Table3Row};

use super::rows::SOURCE;
use super::shown::{UNKNOWN, done, failures, kept, mean, published, range, spread};

/// The table for a terminal.
pub(crate) fn plain(table: &Table3) -> String {
    let head = [
        "row",
        "trials",
        "L Mb/s",
        "rounds",
        "silence s",
        "stopped s",
        "duration s",
        "deviation m",
        "cross-track m",
        "lost",
        "kept",
        "held",
        "factor",
    ];
    let rows: Vec<Vec<String>> = table.rows.iter().map(cells).collect();
    let right: Vec<usize> = (1..head.len()).collect();
    let mut text = table::table(&head, &right, &rows);
    text += "\n\nmeans ± half of their 90 % confidence intervals. silence: the client's; stopped: the service, by the hosts' clocks; lost: \
             requests;\nkept: connections; held: the worst cases of the time for which it is stopped, and of the duration; factor: the \
             published downtime over\nthe silence\n\n";
    for line in table.rows.iter().flat_map(failures) {
        let _ = writeln!(text, "{line}");
    }
    for claim in &table.claims {
        let _ = writeln!(text, "{}", verdict(claim));
    }
    if table.trials_left > 0 {
        let _ = writeln!(text, "{} trials are left", table.trials_left);
    }
    text
}

fn cells(row: &Table3Row) -> Vec<String> {
    let held = match (row.downtime_held, row.duration_held) {
        (None, None) => UNKNOWN.to_owned(),
        (downtime, duration) => format!("{}, {}", kept(downtime), kept(duration)),
    };
    vec![
        row.name.clone(),
        done(row),
        mean(row.bandwidth_bps, 1e6, 0),
        spread(row.rounds, 1.0, 1),
        spread(row.client_silence_ms, 1e3, 2),
        spread(row.service_stopped_ms, 1e3, 2),
        spread(row.duration_ms, 1e3, 2),
        spread(row.deviation_m, 1.0, 2),
        spread(row.cross_track_m, 1.0, 2),
        if row.trials == 0 { UNKNOWN.to_owned() } else { row.requests_lost.to_string() },
        if row.trials == 0 { UNKNOWN.to_owned() } else { format!("{}/{}", row.connections_kept, row.trials) },
        held,
        row.downtime_factor.map_or_else(|| UNKNOWN.to_owned(), |factor| format!("{factor:.1}")),
    ]
}

fn verdict(claim: &Claim) -> String {
    let word = match claim.holds {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "unknown",
    };
    format!("{word}: {} ({})", claim.claim, claim.figures)
}

/// The report.
pub(crate) fn markdown(table: &Table3) -> String {
    let setup = &table.setup;
    let mut text = format!(
        "# Table III, flown again\n\nA UAV flies a circle of 100 m diameter at 5 m/s, as its autopilot at the edge tells it over MAVLink, \
         while the autopilot moves from one edge host to the other. Published figures: {SOURCE}. Means ± half of their 90 % confidence \
         intervals (Student's t), of {} trials of each row.\n",
        setup.runs
    );
    if table.trials_left > 0 {
        let _ = writeln!(text, "\n**Not all of it is flown: {} trials are left.**", table.trials_left);
    }
    text += "\n## Verdicts\n\n";
    for claim in &table.claims {
        let _ = writeln!(text, "- {}", verdict(claim));
    }
    text += "\n## Ours beside the published\n\nPublished figures stand in brackets below ours. *Published / ours*: the published downtime \
             over the mean client silence measured here.\n\n";
    let beside = |row: &Table3Row| {
        let published_row = row.published;
        let below = |ours: String, theirs: Option<String>| match theirs {
            Some(theirs) => format!("{ours}<br>[{theirs}]"),
            None => ours,
        };
        vec![
            format!("{}<br>{}", row.name, row.how),
            below(
                spread(row.bandwidth_bps, 1e6, 0),
                published_row.map(|row| (row.bandwidth_bps / 1_000_000).to_string()),
            ),
            below(
                spread(row.rounds, 1.0, 1),
                published_row
                    .map(|row| row.rounds.map_or_else(|| UNKNOWN.to_owned(), |rounds| rounds.to_string())),
            ),
            below(
                spread(row.client_silence_ms, 1e3, 2),
                published_row.map(|row| published(row.downtime_ms, 1e3, 2)),
            ),
            spread(row.service_stopped_ms, 1e3, 2),
            below(
                spread(row.duration_ms, 1e3, 2),
                published_row.map(|row| published(row.duration_ms, 1e3, 2)),
            ),
            below(
                spread(row.deviation_m, 1.0, 2),
                published_row.map(|row| published(row.deviation_m, 1.0, 2)),
            ),
            row.downtime_factor.map_or_else(|| UNKNOWN.to_owned(), |factor| format!("{factor:.1}")),
        ]
    };
    let head = [
        "row",
        "L Mb/s",
        "rounds",
        "client silence s",
        "service stopped s",
        "duration s",
        "deviation m",
        "published / ours",
    ];
    text += &grid(&head, table.rows.iter().map(beside));
    text += "\n## Median and range\n\n";
    let ranges = |row: &Table3Row| {
        vec![
            row.name.clone(),
            range(row.client_silence_ms, 1e3, 2),
            range(row.service_stopped_ms, 1e3, 2),
            range(row.duration_ms, 1e3, 2),
            range(row.deviation_m, 1.0, 2),
            range(row.cross_track_m, 1.0, 2),
            range(row.undisturbed_deviation_m, 1.0, 2),
        ]
    };
    let head = [
        "row",
        "client silence s",
        "service stopped s",
        "duration s",
        "deviation m",
        "cross-track m",
        "undisturbed m",
    ];
    text += &grid(&head, table.rows.iter().map(ranges));
    text += "\n## The client, and worst cases\n\n";
    let clients = |row: &Table3Row| {
        let cells = cells(row);
        vec![
            row.name.clone(),
            done(row),
            cells[9].clone(),
            cells[10].clone(),
            kept(row.downtime_held),
            kept(row.duration_held),
        ]
    };
    let head = [
        "row",
        "trials",
        "requests lost",
        "connections kept",
        "worst case of the downtime held",
        "of the duration",
    ];
    text += &grid(&head, table.rows.iter().map(clients));
    let failed: Vec<String> = table.rows.iter().flat_map(failures).collect();
    if !failed.is_empty() {
        text += "\n## What failed, and is in no mean\n\n";
        failed.iter().for_each(|line| text += &format!("- {}\n", line.replace('\n', " ")));
    }
    text += "\n## What differs from the paper's testbed\n\n";
    table.differences.iter().for_each(|line| text += &format!("- {line}\n"));
    text += "\n## Made with\n\n";
    let machine = &setup.machine;
    let _ = writeln!(text, "- `mose lab paper table3 -n {} --seed {}`", setup.runs, setup.seed);
    let _ = writeln!(text, "- MOSE {}, programs with the hash {}", setup.release, setup.build);
    let _ = writeln!(
        text,
        "- {} × {}, {:.1} GiB, Linux {}",
        machine.processors,
        machine.processor,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        machine.kernel
    );
    for (name, version) in &setup.versions {
        let _ = writeln!(text, "- {name} {version}");
    }
    let behind = table.trials.iter().map(|trial| trial.measured.behind_ms).reduce(f64::max);
    if let Some(behind) = behind {
        let _ = writeln!(text, "- the flight's simulation was behind the clock by {behind:.0} ms at most");
    }
    text
}

fn grid(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&head.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
    text += &format!("|---|{}\n", "---:|".repeat(head.len() - 1));
    rows.for_each(|row| text += &line(&row));
    text
}

#[cfg(test)]
mod tests {
    use mose_experiments::documents::{Measured, Trial};
    use mose_protocol::record::Outcome;

    use super::super::super::samples::{measured, setup, trial};
    use super::*;

    fn sample() -> Table3 {
        let failed = Measured {
            outcome: Outcome::RolledBack,
            why: Some("CRIU failed".into()),
            connections_lost: 1,
            ..measured()
        };
        let trials =
            vec![trial("md-5s", 1), trial("md-5s", 2), Trial { measured: failed, ..trial("mr-3s", 3) }];
        super::super::table::table(&setup(), trials, |row| {
            (row.key == "sota-iterative").then(|| "no soft-dirty bits".into())
        })
    }

    #[test]
    fn what_failed_and_what_was_not_measured_is_told_and_what_is_simulated_is_labelled() {
        for text in [plain(&sample()), markdown(&sample())] {
            for words in [
                "MOSE-MR, max downtime 3 s: 1 of 1 rolled back; the first: CRIU failed",
                "SotA iterative: not measured here: no soft-dirty bits",
                "unknown: deviation: MD max duration 5 s",
                "11 trials are left",
                "0 of 1",
            ] {
                assert!(text.contains(words), "{words}:\n{text}");
            }
        }
        let report = markdown(&sample());
        for words in [
            "simulated",
            "JSBSim",
            "PX4",
            "namespaces",
            "--seed 1",
            "programs with the hash b1",
            "podman 5.4",
        ] {
            assert!(report.contains(words), "{words}:\n{report}");
        }
    }

    #[test]
    fn ours_stand_beside_the_published_with_the_factor() {
        let report = markdown(&sample());
        let row = report.lines().find(|line| line.starts_with("| MOSE-MD, max duration 5 s<br>")).unwrap();
        assert!(row.contains("0.21 ± 0.00<br>[1.08 ± 0.05]"), "{row}");
        assert!(row.contains("[0.65 ± 0.08]") && row.ends_with("| 5.1 |"), "{row}");
        for line in report.lines().filter(|line| line.starts_with('|')) {
            assert!(!line.contains("NaN") && !line.contains("inf"), "{line}");
        }
    }
}
