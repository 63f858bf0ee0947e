//! What each cell came to, in a file of JSON lines: a run that was killed goes on where it was.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use color_eyre::eyre::WrapErr;
use mose_experiments::documents::FaultCell;

/// The results of a run, on disk.
pub(crate) struct Results {
    folder: PathBuf,
    file: File,
    pub(crate) cells: Vec<FaultCell>,
}

impl Results {
    /// Opens the results in a folder; without `resume` they begin anew.
    pub(crate) fn open(folder: &Path, name: &str, resume: bool) -> color_eyre::Result<Self> {
        let what = || format!("the results cannot be kept in {}", folder.display());
        fs::create_dir_all(folder).wrap_err_with(what)?;
        let path = folder.join(name);
        let text = if resume { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        let cells: Vec<FaultCell> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        // A line that was cut short is not carried over.
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).open(&path).wrap_err_with(what)?;
        for cell in &cells {
            writeln!(file, "{}", serde_json::to_string(cell)?).wrap_err_with(what)?;
        }
        Ok(Self { folder: folder.to_owned(), file, cells })
    }

    /// Whether there is one of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.cells.iter().any(|cell| cell.name == name)
    }

    /// Adds one, on disk before this returns.
    pub(crate) fn add(&mut self, cell: FaultCell, evidence: &str) -> color_eyre::Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(&cell)?).wrap_err("a result cannot be written")?;
        self.file.sync_data().wrap_err("a result cannot be written")?;
        if !evidence.is_empty() {
            let folder = self.folder.join("evidence");
            fs::create_dir_all(&folder).wrap_err("a log cannot be kept")?;
            let file = folder.join(format!("{}.log", cell.name.replace(['/', '@'], "_")));
            let text = format!("{}\n{}\n\n{evidence}", cell.name, cell.why.join("\n"));
            fs::write(file, text).wrap_err("a log cannot be kept")?;
        }
        self.cells.push(cell);
        Ok(())
    }

    /// Writes a report beside them.
    pub(crate) fn keep(&self, name: &str, text: &str) -> color_eyre::Result<()> {
        fs::write(self.folder.join(name), text).wrap_err("the report cannot be written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str) -> FaultCell {
        FaultCell { name: name.into(), silence_ms: 1.5, ..FaultCell::default() }
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("mose-results-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_run_goes_on_where_it_was_killed_and_a_line_that_was_cut_short_counts_as_none() {
        let folder = folder("resume");
        let mut results = Results::open(&folder, "r.ndjson", false).unwrap();
        results.add(cell("one"), "").unwrap();
        results.add(cell("two/b"), "what was logged").unwrap();
        let path = folder.join("r.ndjson");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"name\":\"thr")).unwrap();
        let mut again = Results::open(&folder, "r.ndjson", true).unwrap();
        assert_eq!(again.cells, [cell("one"), cell("two/b")]);
        assert!(again.has("one") && !again.has("three"));
        again.add(cell("three"), "").unwrap();
        assert_eq!(Results::open(&folder, "r.ndjson", true).unwrap().cells.len(), 3);
        assert!(folder.join("evidence/two_b.log").exists());
        assert!(Results::open(&folder, "r.ndjson", false).unwrap().cells.is_empty());
        fs::remove_dir_all(folder).unwrap();
    }
}
