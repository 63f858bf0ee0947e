//! The table for a paper: LaTeX with booktabs.

use std::fmt::Write as _;

use mose_experiments::documents::{Spread, Table3};

use super::rows::FIRST_WITH_OUR_RULE;
use super::shown::{failures, mean};

/// The table, with a caption and what it needs of the preamble.
pub(crate) fn latex(table: &Table3) -> String {
    let setup = &table.setup;
    let mut text = format!(
        "% \\usepackage{{booktabs}}\n% mose lab paper table3 -n {} --seed {}; build {}\n\\begin{{table}}\n  \\centering\n  \\caption{{UAV \
         flown by an autopilot that migrates: means and {} of {} trials of each row. Downtime: the vehicle's silence; stopped: from \
         the freeze to the restored service.}}\n  \\label{{tab:uav}}\n  \\begin{{tabular}}{{lrrrrrrr}}\n    \\toprule\n",
        setup.runs,
        setup.seed,
        escaped(&setup.build),
        "90\\,\\% confidence intervals",
        setup.runs
    );
    text += "    & $L$ (Mb/s) & $I$ & downtime (s) & stopped (s) & duration (s) & deviation (m) & cross-track (m) \\\\\n    \\midrule\n";
    for (number, row) in table.rows.iter().enumerate() {
        if number == FIRST_WITH_OUR_RULE {
            text += "    \\midrule\n";
        }
        let cells = [
            escaped(&mean(row.bandwidth_bps, 1e6, 0)),
            escaped(&mean(row.rounds, 1.0, 1)),
            cell(row.client_silence_ms, 1e3, 2),
            cell(row.service_stopped_ms, 1e3, 2),
            cell(row.duration_ms, 1e3, 2),
            cell(row.deviation_m, 1.0, 2),
            cell(row.cross_track_m, 1.0, 2),
        ];
        let _ = writeln!(text, "    {} & {} \\\\", escaped(&row.name), cells.join(" & "));
    }
    text += "    \\bottomrule\n  \\end{tabular}\n";
    for row in &table.rows {
        for line in failures(row) {
            let _ = writeln!(text, "  \\par\\footnotesize {}", escaped(&line));
        }
    }
    text + "\\end{table}\n"
}

fn cell(spread: Option<Spread>, unit: f64, digits: usize) -> String {
    match spread {
        Some(Spread { mean, interval: Some(interval), .. }) => {
            format!("${:.digits$} \\pm {:.digits$}$", mean / unit, interval / unit)
        }
        other => escaped(&mean(other, unit, digits)),
    }
}

/// A text in which nothing means anything to LaTeX.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '<' => out += "\\textless{}",
            '>' => out += "\\textgreater{}",
            '±' => out += "$\\pm$",
            '→' => out += "$\\rightarrow$",
            '≤' => out += "$\\leq$",
            '–' => out += "--",
            '…' => out += "\\dots{}",
            '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{setup, trial};
    use super::super::table::table;
    use super::*;

    #[test]
    fn nothing_of_a_text_means_anything_to_latex() {
        assert_eq!(escaped(r"50 % of a_b & {c}#1 $x$"), r"50 \% of a\_b \& \{c\}\#1 \$x\$");
        assert_eq!(escaped(r"C:\x^2~"), r"C:\textbackslash{}x\textasciicircum{}2\textasciitilde{}");
        assert_eq!(escaped("a → b ± 1\nc"), "a $\\rightarrow$ b $\\pm$ 1 c");
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_table_has_columns() {
        let unable = |row: &super::super::rows::Row| {
            (row.key == "sota-iterative").then(|| "no soft_dirty bits & 100 % of none".to_owned())
        };
        let trials = ["md-5s", "md-5s", "mr-3s"].map(|row| trial(row, 1)).to_vec();
        let text = latex(&table(&setup(), trials, unable));
        let rows: Vec<&str> = text.lines().filter(|line| line.ends_with("\\\\")).collect();
        assert_eq!(rows.len(), 9, "{text}");
        for row in rows {
            assert_eq!(
                row.matches(" & ").count() + usize::from(row.starts_with("    & ")),
                7 + usize::from(row.starts_with("    & ")),
                "{row}"
            );
        }
        let md = text.lines().find(|line| line.contains("MOSE-MD, max duration 5 s &")).unwrap();
        assert!(md.contains("& 1000 & 3.0 & $0.21 \\pm 0.00$ & $0.20 \\pm 0.00$"), "{md}");
        assert!(text.contains("no soft\\_dirty bits \\& 100 \\% of none"), "{text}");
        for word in ["\\toprule", "\\bottomrule", "\\caption{", "90\\,\\% confidence"] {
            assert_eq!(text.matches(word).count(), 1, "{word}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
