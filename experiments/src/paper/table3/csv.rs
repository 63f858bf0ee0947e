//! The table as comma-separated values: the figures of the JSON document, in its units.

use mose_experiments::documents::{Kept, Spread, Table3, Table3Row};

/// The figures that have a spread, and where they are.
type Column = (&'static str, fn(&Table3Row) -> Option<Spread>);

const SPREADS: [Column; 8] = [
    ("bandwidth_bps", |row| row.bandwidth_bps),
    ("rounds", |row| row.rounds),
    ("client_silence_ms", |row| row.client_silence_ms),
    ("service_stopped_ms", |row| row.service_stopped_ms),
    ("duration_ms", |row| row.duration_ms),
    ("deviation_m", |row| row.deviation_m),
    ("cross_track_m", |row| row.cross_track_m),
    ("undisturbed_deviation_m", |row| row.undisturbed_deviation_m),
];

/// One line for each row, behind a line of names.
pub(crate) fn csv(table: &Table3) -> String {
    let mut head: Vec<String> =
        ["row", "name", "trials", "done", "failed", "not_measured"].map(str::to_owned).into();
    for (name, _) in SPREADS {
        head.extend(["mean", "interval", "median", "min", "max"].map(|part| format!("{name}_{part}")));
    }
    head.extend(
        [
            "requests_lost",
            "connections_kept",
            "downtime_held",
            "downtime_held_of",
            "duration_held",
            "duration_held_of",
            "published_downtime_ms",
            "published_duration_ms",
            "published_deviation_m",
            "downtime_factor",
        ]
        .map(str::to_owned),
    );
    let mut lines = vec![head];
    for row in &table.rows {
        let failed: u32 = row.failures.iter().map(|failure| failure.trials).sum();
        let mut line = vec![
            row.row.clone(),
            row.name.clone(),
            row.trials.to_string(),
            row.done.to_string(),
            failed.to_string(),
            row.not_measured.clone().unwrap_or_default(),
        ];
        for (_, of) in SPREADS {
            let spread = of(row);
            let figure = |figure: Option<f64>| figure.map_or_else(String::new, |figure| figure.to_string());
            line.push(figure(spread.map(|spread| spread.mean)));
            line.push(figure(spread.and_then(|spread| spread.interval)));
            line.extend([
                figure(spread.map(|spread| spread.median)),
                figure(spread.map(|spread| spread.min)),
                figure(spread.map(|spread| spread.max)),
            ]);
        }
        line.extend([row.requests_lost.to_string(), row.connections_kept.to_string()]);
        for kept in [row.downtime_held, row.duration_held] {
            line.extend(match kept {
                Some(Kept { held, of }) => [held.to_string(), of.to_string()],
                None => [String::new(), String::new()],
            });
        }
        let published = row.published.map(|row| [row.downtime_ms, row.duration_ms, row.deviation_m]);
        line.extend(published.map_or_else(Default::default, |all| all.map(|one| one.mean.to_string())));
        line.push(row.downtime_factor.map_or_else(String::new, |factor| factor.to_string()));
        lines.push(line);
    }
    lines
        .iter()
        .map(|line| line.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",") + "\n")
        .collect()
}

/// A cell that holds a comma, a quote or an end of line is put in quotes (RFC 4180).
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{measured, setup, trial};
    use super::super::table::table;
    use super::*;
    use mose_experiments::documents::{Measured, Trial};
    use serde_json::Value;

    /// A line's cells.
    fn cells(line: &str) -> Vec<String> {
        let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(std::mem::take(&mut cell)),
                c => cell.push(c),
            }
        }
        cells.push(cell);
        cells
    }

    #[test]
    fn csv_and_json_have_the_same_figures() {
        let longer = Measured { client_silence_ms: Some(233.3), deviation_m: None, ..measured() };
        let trials =
            vec![trial("md-5s", 1), Trial { measured: longer, ..trial("md-5s", 2) }, trial("mr-3s", 3)];
        let table = table(&setup(), trials, |row| (row.key == "sota-iterative").then(|| "a, b".to_owned()));
        let json = serde_json::to_value(&table).unwrap();
        let text = csv(&table);
        let lines: Vec<Vec<String>> = text.lines().map(cells).collect();
        let mut compared = 0;
        for (line, row) in lines[1..].iter().zip(json["rows"].as_array().unwrap()) {
            assert_eq!(line.len(), lines[0].len(), "{line:?}");
            for (name, cell) in lines[0].iter().zip(line) {
                let direct = row.get(name);
                let nested = name.rsplit_once('_').and_then(|(field, part)| row.get(field)?.get(part));
                let Some(value) = direct.filter(|value| !value.is_object()).or(nested) else { continue };
                match value {
                    Value::Null => assert_eq!(cell, "", "{name}"),
                    Value::String(said) => assert_eq!(cell, said, "{name}"),
                    number => assert_eq!(cell.parse::<f64>().ok(), number.as_f64(), "{name}"),
                }
                compared += usize::from(value.is_number());
            }
        }
        assert!(compared > 100, "{compared}");
        assert_eq!(lines[2][5], "a, b");
        assert_eq!(lines.len(), 9);
    }
}
