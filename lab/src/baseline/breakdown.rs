//! Many migrations by hand as one table: per step the median and the worst, and what of it the client felt.

use super::{BaselineRun, ScriptStep};
use crate::median::median;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One line of the table, in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Row {
    /// The step, or a sum of steps.
    pub name: String,
    /// Median over the runs.
    pub median_ms: f64,
    /// Shortest.
    pub min_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

impl Row {
    fn of(name: &str, ms: &[f64]) -> Option<Self> {
        let figures = || ms.iter().copied();
        Some(Self {
            name: name.to_owned(),
            median_ms: median(figures())?,
            min_ms: figures().reduce(f64::min)?,
            max_ms: figures().reduce(f64::max)?,
        })
    }
}

/// The table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Breakdown {
    /// How many migrations.
    pub runs: usize,
    /// The steps in order; then what CRIU said, the blackout, and the client's gap if it was measured.
    pub rows: Vec<Row>,
    /// Median bytes of the archive.
    pub image_bytes: Option<u64>,
}

impl Breakdown {
    /// Sums up `runs`; `client_gaps_ms` are the client's, one per run, or empty.
    pub fn of(runs: &[BaselineRun], client_gaps_ms: &[f64]) -> Self {
        let names =
            runs.first().map(|run| run.steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>());
        let mut rows: Vec<Row> = names
            .unwrap_or_default()
            .iter()
            .filter_map(|name| {
                let took: Vec<f64> =
                    runs.iter().filter_map(|run| run.step(name)).map(ScriptStep::ms).collect();
                Row::of(name, &took)
            })
            .collect();
        let of_all = |name, figure: fn(&BaselineRun) -> Option<f64>| {
            Row::of(name, &runs.iter().filter_map(figure).collect::<Vec<_>>())
        };
        rows.extend(of_all("CRIU frozen", BaselineRun::criu_frozen_ms));
        rows.extend(of_all("CRIU restore", BaselineRun::criu_restore_ms));
        rows.extend(of_all("blackout", |run| Some(run.blackout_ms())));
        rows.extend(Row::of("client gap", client_gaps_ms));
        let bytes = runs.iter().filter_map(BaselineRun::image_bytes).map(|bytes| bytes as f64);
        Self { runs: runs.len(), rows, image_bytes: median(bytes).map(|bytes| bytes as u64) }
    }
}

impl fmt::Display for Breakdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14} {:>10} {:>10} {:>10}", "by hand, ms", "median", "min", "max")?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<14} {:>10.1} {:>10.1} {:>10.1}",
                row.name, row.median_ms, row.min_ms, row.max_ms
            )?;
        }
        write!(f, "{} runs", self.runs)?;
        match self.image_bytes {
            Some(bytes) => writeln!(f, ", {:.2} MiB copied", bytes as f64 / f64::from(1 << 20)),
            None => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::captured;
    use super::*;

    #[test]
    fn every_step_the_blackout_and_the_gap_have_a_row() {
        let table = Breakdown::of(&[captured(), captured(), captured()], &[3.0, 1.0, 2.0]);
        let names: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
        for name in
            ["prepare", "checkpoint", "copy", "restore", "flows", "CRIU frozen", "blackout", "client gap"]
        {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        let gap = table.rows.last().unwrap();
        assert_eq!((gap.median_ms, gap.min_ms, gap.max_ms), (2.0, 1.0, 3.0));
        assert!(table.to_string().contains("client gap            2.0        1.0        3.0"), "{table}");
    }

    #[test]
    fn no_runs_give_an_empty_table() {
        assert!(Breakdown::of(&[], &[]).rows.is_empty());
    }
}
