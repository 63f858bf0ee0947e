//! `mose lab baseline --against FOLDER`: this build and another one migrate the same workload in turn, each with its own programs in a lab
//! of its own, so that both meet the same machine in the same minutes.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use color_eyre::eyre::{WrapErr, bail, eyre};
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::table;
use mose_experiments::documents::{Against, Figure};
use mose_lab::{Lab, LabConfig, OWN_BINARIES, median};
use serde_json::Value;

/// Blocks of migrations of each build, in turn.
const BLOCKS: u32 = 5;

/// Where a figure stands in a record.
const FIGURES: [(&str, &str); 4] = [
    ("service stopped", "/downtime/blackout"),
    ("CRIU frozen", "/downtime/criu/frozen"),
    ("CRIU restore", "/downtime/criu/restore"),
    ("duration", "/duration"),
];

/// What the client saw, which stands beside the records.
const CLIENT_GAP: &str = "client gap";

pub(crate) fn run(options: &commands::Baseline, folder: &Path) -> color_eyre::Result<ExitCode> {
    if Lab::open(&LabConfig::default().state_dir)?.is_some() {
        bail!("a lab is up, and each build needs one of its own; take it down first: mose lab down");
    }
    let here = std::env::current_exe().wrap_err("this program's own place is not known")?;
    let this = here.parent().unwrap_or(Path::new("/")).to_owned();
    let mut builds = [Build::at(&this)?, Build::at(folder)?];
    let blocks = BLOCKS.min(options.runs).max(1);
    for block in 0..blocks {
        // The remainder goes to the first ones.
        let runs = options.runs / blocks + u32::from(block < options.runs % blocks);
        for build in &mut builds {
            build.measure(&options.workload, runs)?;
        }
        if !options.json {
            eprintln!("{:>3} of {blocks} blocks of each build", block + 1);
        }
    }
    let [this, other] = &builds;
    let against = Against {
        workload: options.workload.clone(),
        runs: options.runs,
        this: this.folder.display().to_string(),
        other: other.folder.display().to_string(),
        figures: this.compared(other),
    };
    if options.json {
        print_json(&against);
    } else {
        print(&against);
    }
    Ok(ExitCode::SUCCESS)
}

/// The programs of a build, and what was measured with them.
struct Build {
    folder: PathBuf,
    /// Milliseconds, by the figure's name.
    figures: Vec<(&'static str, Vec<f64>)>,
}

impl Build {
    fn at(folder: &Path) -> color_eyre::Result<Self> {
        let folder =
            folder.canonicalize().wrap_err_with(|| format!("{} cannot be used", folder.display()))?;
        // Older builds have the lab's commands in `mose` itself.
        let missing = ["mose"].iter().chain(&OWN_BINARIES).find(|name| !folder.join(name).is_file());
        if let Some(name) = missing {
            bail!(
                "{} has no program {name}; give the folder of a build's programs, such as target/release of another \
                 checkout after cargo build --release",
                folder.display()
            );
        }
        let figures = FIGURES.iter().map(|(name, _)| *name).chain([CLIENT_GAP]);
        Ok(Self { folder, figures: figures.map(|name| (name, Vec::new())).collect() })
    }

    /// Migrates in a lab of its own.
    fn measure(&mut self, workload: &str, runs: u32) -> color_eyre::Result<()> {
        let up = self.mose(&["lab", "up"]);
        let measured =
            up.and_then(|_| self.mose(&["lab", "baseline", workload, "-n", &runs.to_string(), "--json"]));
        // Also one that came up halfway. The first failure is the one to tell.
        let down = self.mose(&["lab", "down"]);
        let measured = measured.and_then(|measured| down.map(|_| measured));
        let told: Value = serde_json::from_slice(&measured?.stdout)
            .wrap_err_with(|| format!("{} tells no JSON", self.folder.display()))?;
        let records = told["mose"].as_array().ok_or_else(|| eyre!("no migration was told"))?;
        for ((name, path), (_, all)) in FIGURES.iter().zip(&mut self.figures) {
            let found = records.iter().filter_map(|record| record.pointer(path)?.as_f64());
            let before = all.len();
            all.extend(found);
            if all.len() == before {
                tracing::warn!(figure = name, "no record has it");
            }
        }
        if let Some((_, gaps)) = self.figures.last_mut() {
            gaps.extend(told["mose_gaps_ms"].as_array().into_iter().flatten().filter_map(Value::as_f64));
        }
        Ok(())
    }

    fn mose(&self, words: &[&str]) -> color_eyre::Result<Output> {
        let program = self.folder.join("mose");
        let output = Command::new(&program)
            .args(words)
            .env_remove("MOSE_CONNECT")
            .output()
            .wrap_err_with(|| format!("{} cannot be run", program.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} {} failed: {}", program.display(), words.join(" "), said.trim());
        }
        Ok(output)
    }

    fn compared(&self, other: &Self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for ((name, this), (_, other)) in self.figures.iter().zip(&other.figures) {
            let (this_ms, other_ms) = (median(this.iter().copied()), median(other.iter().copied()));
            figures.push(Figure {
                name: (*name).to_owned(),
                this_ms,
                other_ms,
                ratio: this_ms.zip(other_ms).map(|(this, other)| this / other),
                all_this_ms: this.clone(),
                all_other_ms: other.clone(),
            });
        }
        figures
    }
}

fn print(against: &Against) {
    println!("{} migrations of {} with each build", against.runs, against.workload);
    println!("this   {}\nother  {}\n", against.this, against.other);
    let shown = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}"));
    let rows: Vec<_> = against
        .figures
        .iter()
        .map(|figure| {
            let ratio = figure.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"));
            vec![figure.name.clone(), shown(figure.this_ms), shown(figure.other_ms), ratio]
        })
        .collect();
    println!("{}", table::table(&["medians in ms", "this", "other", "ratio"], &[1, 2, 3], &rows));
}
