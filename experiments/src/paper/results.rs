//! The trials of a run on disk, one JSON line each behind a first line that says what the run was made with: a run that was killed goes on
//! where it was, and only with what it was begun with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use color_eyre::eyre::{WrapErr, bail, eyre};
use mose_console::lab::commands::Paper;
use mose_experiments::documents::{Setup, Trial};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

/// Where the trials are.
pub(crate) const FILE: &str = "results.ndjson";

/// How a folder is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is new.
    Fresh,
    /// It goes on.
    Resume,
    /// What it holds is kept under another name.
    Replace,
}

impl From<&Paper> for Mode {
    fn from(options: &Paper) -> Self {
        match (options.resume, options.replace) {
            (true, _) => Self::Resume,
            (false, true) => Self::Replace,
            (false, false) => Self::Fresh,
        }
    }
}

/// Refuses a folder that must not be written to, before anything is started.
pub(crate) fn admit(folder: &Path, mode: Mode) -> color_eyre::Result<()> {
    let shown = folder.display();
    let file = folder.join(FILE);
    if folder.exists() && !folder.is_dir() {
        bail!("{shown} is no folder; name another one with --out");
    }
    match mode {
        Mode::Resume if !file.exists() => bail!(
            "there is nothing to go on with: {shown} has no {FILE}; name the folder of the run with --out, or leave --resume out"
        ),
        Mode::Fresh if file.exists() => bail!(
            "{shown} has the results of a run already; go on with it (--resume), begin anew (--replace, which keeps them under another \
             name), or name another folder with --out"
        ),
        Mode::Fresh => match names(folder)?.as_slice() {
            [] => Ok(()),
            [some @ .., last] => bail!(
                "{shown} is not empty: it has {}{last}; name a new folder with --out, or give --replace to write into this one",
                some.iter().map(|name| format!("{name}, ")).collect::<String>()
            ),
        },
        Mode::Resume | Mode::Replace => Ok(()),
    }
}

/// Some of what a folder has.
fn names(folder: &Path) -> color_eyre::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(eyre!("{} cannot be read: {error}", folder.display())),
        Ok(entries) => {
            Ok(entries.flatten().take(3).map(|entry| entry.file_name().display().to_string()).collect())
        }
    }
}

/// The trials of a run.
pub(crate) struct Results {
    path: PathBuf,
    file: Flock<File>,
    pub(crate) trials: Vec<Trial>,
}

impl Results {
    /// Opens them; what a person should know of it goes to `say`.
    ///
    /// # Errors
    /// The folder is not to be written to or cannot be; the run there was made with something else, or is damaged.
    pub(crate) fn open(
        folder: &Path,
        mode: Mode,
        setup: &Setup,
        say: &mut impl FnMut(&str),
    ) -> color_eyre::Result<Self> {
        admit(folder, mode)?;
        let cannot = || format!("results cannot be kept in {}", folder.display());
        fs::create_dir_all(folder).wrap_err_with(cannot)?;
        let path = folder.join(FILE);
        if mode == Mode::Replace && path.exists() {
            let kept = free_name(folder);
            fs::rename(&path, &kept).wrap_err_with(cannot)?;
            say(&format!("the results that were there are kept as {}", kept.display()));
        }
        let options = OpenOptions::new().create(true).append(true).read(true).open(&path);
        let file = Flock::lock(options.wrap_err_with(cannot)?, FlockArg::LockExclusiveNonblock)
            .map_err(|_| eyre!("another run writes to {}; wait for its end", path.display()))?;
        let mut results = Self { path, file, trials: Vec::new() };
        if mode == Mode::Resume {
            results.read(setup, say)?;
        } else {
            results.append(&serde_json::to_string(setup)?)?;
        }
        Ok(results)
    }

    /// Reads what is there, and drops a last line that was cut short.
    fn read(&mut self, setup: &Setup, say: &mut impl FnMut(&str)) -> color_eyre::Result<()> {
        let shown = self.path.display().to_string();
        let text = fs::read_to_string(&self.path).wrap_err_with(|| format!("{shown} cannot be read"))?;
        // A kill or a full disk may cut a line off anywhere: one counts from its end of line on.
        let whole = text.rfind('\n').map_or(0, |last| last + 1);
        let mut lines = text[..whole].lines();
        let begun =
            lines.next().and_then(|line| serde_json::from_str::<Setup>(line).ok()).ok_or_else(|| {
                eyre!("{shown} does not begin with what its run was made with; begin anew with --replace")
            })?;
        let differ = differences(&begun, setup)?;
        if !differ.is_empty() {
            bail!(
                "the run in {shown} was begun with something else, and its trials do not go with those that would be flown now:\n  {}\n\
                 go on with what it was begun with, or begin anew with --replace",
                differ.join("\n  ")
            );
        }
        for (number, line) in lines.enumerate() {
            let trial = serde_json::from_str(line).map_err(|error| {
                eyre!("line {} of {shown} is damaged ({error}); begin anew with --replace", number + 2)
            })?;
            self.trials.push(trial);
        }
        if whole < text.len() {
            say(&format!(
                "the last line of {shown} was cut short; it is dropped, and its trial is flown again"
            ));
            self.file.set_len(whole as u64).wrap_err_with(|| format!("{shown} cannot be written"))?;
        }
        Ok(())
    }

    /// Adds a trial, on disk before this returns.
    ///
    /// # Errors
    /// It cannot be written; what was there is kept.
    pub(crate) fn add(&mut self, trial: Trial) -> color_eyre::Result<()> {
        self.append(&serde_json::to_string(&trial)?)?;
        self.trials.push(trial);
        Ok(())
    }

    fn append(&mut self, line: &str) -> color_eyre::Result<()> {
        let before = self.file.metadata().map(|data| data.len());
        let written =
            self.file.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.file.sync_data());
        let Err(error) = written else { return Ok(()) };
        // Half a line is worth nothing. Where even this fails, it is dropped by who goes on.
        let _ = before.and_then(|before| self.file.set_len(before));
        bail!(
            "{} cannot be written: {error}; it keeps the {} trials before. Make room, then go on with --resume",
            self.path.display(),
            self.trials.len()
        )
    }
}

/// A name for results that make room for others.
fn free_name(folder: &Path) -> PathBuf {
    (1..)
        .map(|number: u32| folder.join(format!("results.{number}.ndjson")))
        .find(|path| !path.exists())
        .unwrap_or_default()
}

/// Writes a file beside the results: whole, or not at all.
pub(crate) fn keep(folder: &Path, name: &str, text: &str) -> color_eyre::Result<()> {
    let (path, half) = (folder.join(name), folder.join(format!("{name}.part")));
    fs::write(&half, text).and_then(|()| fs::rename(&half, &path)).map_err(|error| {
        let _ = fs::remove_file(&half);
        eyre!(
            "{} cannot be written: {error}; every trial is in {FILE}. Make room, then give --resume, which flies nothing again",
            path.display()
        )
    })
}

/// In what two runs differ: the names of the fields, and both values.
fn differences(there: &Setup, here: &Setup) -> color_eyre::Result<Vec<String>> {
    let mut found = Vec::new();
    compare("", &serde_json::to_value(there)?, &serde_json::to_value(here)?, &mut found);
    Ok(found)
}

fn compare(name: &str, there: &Value, here: &Value, found: &mut Vec<String>) {
    if let (Value::Object(there), Value::Object(here)) = (there, here) {
        let mut fields: Vec<&String> = there.keys().chain(here.keys()).collect();
        fields.sort();
        fields.dedup();
        for field in fields {
            let name = if name.is_empty() { field.clone() } else { format!("{name} {field}") };
            let of = |all: &serde_json::Map<String, Value>| all.get(field).cloned().unwrap_or_default();
            compare(&name, &of(there), &of(here), found);
        }
    } else if there != here {
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "nothing".to_owned(),
            other => other.to_string(),
        };
        found.push(format!("{name}: {} there, {} now", shown(there), shown(here)));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::samples::{setup, trial};
    use super::*;

    fn open(folder: &Path, mode: Mode, setup: &Setup) -> (color_eyre::Result<Results>, Vec<String>) {
        let mut said = Vec::new();
        let results = Results::open(folder, mode, setup, &mut |text| said.push(text.to_owned()));
        (results, said)
    }

    #[track_caller]
    fn refused<T>(result: color_eyre::Result<T>) -> String {
        result.err().unwrap().to_string()
    }

    /// A folder of a test's own.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("mose-paper-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_folder_with_anything_in_it_is_refused_unasked() {
        let folder = folder("admit");
        admit(&folder, Mode::Fresh).unwrap();
        assert!(refused(admit(&folder, Mode::Resume)).contains("nothing to go on with"));
        fs::create_dir_all(&folder).unwrap();
        admit(&folder, Mode::Fresh).unwrap();
        fs::write(folder.join("thesis.tex"), "years of work").unwrap();
        let why = refused(admit(&folder, Mode::Fresh));
        assert!(why.contains("thesis.tex") && why.contains("--replace"), "{why}");
        let why = refused(admit(&folder.join("thesis.tex"), Mode::Replace));
        assert!(why.contains("no folder"), "{why}");
        drop(open(&folder, Mode::Replace, &setup()).0.unwrap());
        let why = refused(admit(&folder, Mode::Fresh));
        assert!(why.contains("--resume") && why.contains("--replace"), "{why}");
        assert_eq!(fs::read_to_string(folder.join("thesis.tex")).unwrap(), "years of work");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_replaced_is_kept_under_another_name() {
        let folder = folder("replace");
        let mut results = open(&folder, Mode::Fresh, &setup()).0.unwrap();
        results.add(trial("sota-cold", 1)).unwrap();
        drop(results);
        for number in 1..=2 {
            let (results, said) = open(&folder, Mode::Replace, &setup());
            assert!(results.unwrap().trials.is_empty());
            assert!(said[0].contains(&format!("results.{number}.ndjson")), "{said:?}");
        }
        let kept = fs::read_to_string(folder.join("results.1.ndjson")).unwrap();
        assert_eq!(kept.lines().count(), 2, "{kept}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_last_line_that_was_cut_short_is_dropped_and_told() {
        let folder = folder("cut");
        let mut results = open(&folder, Mode::Fresh, &setup()).0.unwrap();
        results.add(trial("sota-cold", 1)).unwrap();
        results.add(trial("md-5s", 2)).unwrap();
        drop(results);
        let path = folder.join(FILE);
        let whole = fs::read_to_string(&path).unwrap();
        // Wherever it was cut.
        for cut in [1, 2, 40] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (results, said) = open(&folder, Mode::Resume, &setup());
            let mut results = results.unwrap();
            assert_eq!(results.trials, [trial("sota-cold", 1)]);
            assert!(said[0].contains("cut short"), "{said:?}");
            results.add(trial("md-5s", 2)).unwrap();
            drop(results);
            assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        }
        assert!(open(&folder, Mode::Resume, &setup()).1.is_empty());
        let damaged = whole.replacen("\"row\":\"sota-cold\"", "\"row\":", 1);
        fs::write(&path, damaged).unwrap();
        assert!(refused(open(&folder, Mode::Resume, &setup()).0).contains("line 2"));
        fs::write(&path, "no head\n").unwrap();
        assert!(refused(open(&folder, Mode::Resume, &setup()).0).contains("does not begin"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_run_goes_on_only_with_what_it_was_begun_with_and_what_differs_is_named() {
        let folder = folder("differs");
        drop(open(&folder, Mode::Fresh, &setup()).0.unwrap());
        type Change = fn(&mut Setup);
        let changes: [(Change, &str); 5] = [
            (|setup| setup.build = "b2".into(), "build: b1 there, b2 now"),
            (|setup| setup.seed = 2, "seed: 1 there, 2 now"),
            (|setup| setup.runs = 3, "runs: 2 there, 3 now"),
            (|setup| setup.machine.kernel = "7.0".into(), "machine kernel: 6.18 there, 7.0 now"),
            (|setup| drop(setup.versions.remove("podman")), "versions podman: 5.4 there, nothing now"),
        ];
        for (change, what) in changes {
            let mut other = setup();
            change(&mut other);
            let why = refused(open(&folder, Mode::Resume, &other).0);
            assert!(why.contains(what) && why.contains("--replace"), "{why}");
            assert_eq!(why.matches(" there, ").count(), 1, "{why}");
        }
        open(&folder, Mode::Resume, &setup()).0.unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn two_runs_do_not_write_to_one_folder() {
        let folder = folder("twice");
        let first = open(&folder, Mode::Fresh, &setup()).0.unwrap();
        assert!(refused(open(&folder, Mode::Resume, &setup()).0).contains("another run"));
        drop(first);
        open(&folder, Mode::Resume, &setup()).0.unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let folder = folder("full");
        fs::create_dir_all(&folder).unwrap();
        let results = |folder: &Path| {
            let path = folder.join("full");
            let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
            let file = Flock::lock(file, FlockArg::LockSharedNonblock).unwrap();
            Results { path, file, trials: vec![trial("sota-cold", 1)] }
        };
        let mut results = results(&folder);
        let why = refused(results.add(trial("md-5s", 2)));
        for words in ["No space left", "keeps the 1 trials", "--resume"] {
            assert!(why.contains(words), "{words}: {why}");
        }
        assert_eq!(results.trials.len(), 1, "what is not on disk does not count");
        symlink("/dev/full", folder.join("table3.csv.part")).unwrap();
        let why = refused(keep(&folder, "table3.csv", "a,b\n"));
        assert!(why.contains("No space left") && why.contains("--resume"), "{why}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing half-written is taken for a table");
        keep(&folder, "table3.csv", "a,b\n").unwrap();
        assert_eq!(fs::read_to_string(folder.join("table3.csv")).unwrap(), "a,b\n");
        fs::remove_dir_all(folder).unwrap();
    }
}
