//! CRIU's own chain of pre-dumps (criu(8): `pre-dump`, `--track-mem`, `--prev-images-dir`), where the kernel has soft-dirty.
//!
//! Each pre-dump holds the pages that were written to since the one before, the first one all of them. It is a folder beside
//! the container's checkpoint folder, `pre-checkpoint-1`, `pre-checkpoint-2` …, with a symbolic link `parent` to the one before;
//! the final dump is given the symbolic link `pre-checkpoint`, which points to the newest one, as that is the name that Podman
//! gives to CRIU. At the destination the pre-dumps lie within the checkpoint folder, where the transfer puts them.
//!
//! Pre-dumps are made by CRIU itself, neither by Podman (which makes one only) nor by runc: one then freezes the service for as
//! long as CRIU takes to collect its pages. Beneath runc it stands still for 100 ms more, since CRIU, given the container's
//! freezer, looks whether the tasks are frozen every 100 ms, and no action script, by which a final dump is spared
//! this, is run in a pre-dump.
//!
//! Whatever ends a pre-dump half-way, CRIU is never killed: the service would go on with CRIU's code in the place of its own.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mose_pam::Millis;
use mose_protocol::record::CriuTimes;
use mose_protocol::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::process::Command;
use tokio::sync::{OnceCell, OwnedMutexGuard};

use super::{CRIU_DEADLINE, io_refusal, pid_of};
use crate::aside::aside;
use crate::{Container, PreDumped};

/// The name that Podman gives to CRIU for the parent of the final dump; with a dash and a number, a pre-dump's.
const PREVIOUS: &str = "pre-checkpoint";

/// Where CRIU puts what is no image: its log, its statistics, its cache of inodes.
const WORK: &str = "pre-checkpoint-work";

/// CRIU's log of a pre-dump, below [`WORK`].
const LOG: &str = "pre-dump.log";

/// The symbolic link of a checkpoint folder to its parent.
const PARENT: &str = "parent";

/// How long CRIU may take to say what the kernel can do.
const CHECK_DEADLINE: Duration = Duration::from_secs(20);

/// The chains on this host.
#[derive(Default)]
pub(super) struct Chains {
    supported: OnceCell<Result<(), Refusal>>,
    /// Containers of which CRIU makes a pre-dump, or whose pre-dumps are removed.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Chains {
    /// Whether kernel and CRIU can make chains; asked once.
    pub(super) async fn support(&self) -> Result<(), Refusal> {
        self.supported.get_or_try_init(check).await?.clone()
    }

    /// Makes the pre-dump `number`, from 1; the first one begins a new chain. Goes on to its end even if nobody waits for it.
    pub(super) async fn pre_dump(&self, container: &Container, number: u32) -> Result<PreDumped, Refusal> {
        self.support().await?;
        let pid = pid_of(container)?;
        let turn = self.turn(container).await?;
        let (container, name) = (container.clone(), container.name.clone());
        // It belongs to nobody: it ends when CRIU does, which nothing hurries. Until then it has the container's turn, so that it is
        // the only one.
        let pre_dump = tokio::spawn(async move {
            let made = make(&container, pid, number).await;
            drop(turn);
            made
        });
        match tokio::time::timeout(CRIU_DEADLINE, pre_dump).await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => Err(refusal(format!("the pre-dump of {name} was lost: {error}"))),
            Err(_) => Err(refusal(format!("the pre-dump of {name} took longer than {CRIU_DEADLINE:?}"))),
        }
    }

    /// Removes all pre-dumps of a container; none being there is no error.
    pub(super) async fn remove(&self, container: &Container) -> Result<(), Refusal> {
        let turn = self.turn(container).await?;
        let folder = folder_of(container)?.to_owned();
        // With its turn: nobody makes a link of what still goes.
        let (removed, _turn) = aside(move || Ok((remove(&folder), turn))).await?;
        // Forgotten, unless somebody else waits for it: it is in the table and in our own hands.
        let mut busy = self.busy.lock();
        busy.retain(|id, turn| *id != container.id || Arc::strong_count(turn) > 2);
        removed.map_err(|error| io_refusal(&format!("pre-dumps of {} stay", container.name), &error))
    }

    /// Waits until CRIU is done with what it does to a container for us.
    async fn turn(&self, container: &Container) -> Result<OwnedMutexGuard<()>, Refusal> {
        let turn = {
            let mut busy = self.busy.lock();
            busy.entry(container.id.clone()).or_default().clone()
        };
        tokio::time::timeout(CRIU_DEADLINE, turn.lock_owned()).await.map_err(|_| {
            refusal(format!(
                "an earlier pre-dump of {} is still under way after {CRIU_DEADLINE:?}",
                container.name
            ))
        })
    }
}

fn refusal(reason: String) -> Refusal {
    Refusal::new(RefusalCode::Engine, reason, "migrate with another way of pre-copy, or cold; see CRIU's log")
}

/// The folder of all that the engine keeps of a container beside its root file system.
fn folder_of(container: &Container) -> Result<&Path, Refusal> {
    container.checkpoint.parent().ok_or_else(|| refusal(format!("{} has no folder", container.name)))
}

fn folder_name(number: u32) -> String {
    format!("{PREVIOUS}-{number}")
}

/// The number of a pre-dump by its name.
fn number_of(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix(PREVIOUS)?.strip_prefix('-')?.parse().ok().filter(|number| *number > 0)
}

/// What kernel and CRIU can do; `Err` where CRIU could not be asked.
async fn check() -> Result<Result<(), Refusal>, Refusal> {
    let lacks = |reason: String| {
        Refusal::new(
            RefusalCode::Capability,
            format!("no chain of pre-dumps can be made on this host: {reason}"),
            "run a kernel with CONFIG_MEM_SOFT_DIRTY (Debian's and Ubuntu's have it), or use another way of pre-copy",
        )
    };
    let asked = Command::new("criu")
        .args(["check", "--no-default-config", "--feature", "mem_dirty_track"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(CHECK_DEADLINE, asked).await {
        Ok(Ok(output)) if output.status.success() => Ok(Ok(())),
        Ok(Ok(output)) => {
            let said = [output.stdout, output.stderr].concat();
            Ok(Err(lacks(telling(&String::from_utf8_lossy(&said)))))
        }
        Ok(Err(error)) => Err(lacks(format!("CRIU cannot be run: {error}"))),
        Err(_) => Err(lacks(format!("CRIU did not answer within {CHECK_DEADLINE:?}"))),
    }
}

/// The last line of CRIU's output that says why.
pub(super) fn telling(said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(|line| line.contains("Error")).or(lines().next_back());
    line.unwrap_or("CRIU does not say why").to_owned()
}

async fn make(container: &Container, pid: u32, number: u32) -> Result<PreDumped, Refusal> {
    let trouble = |error: io::Error| {
        io_refusal(&format!("the pre-dump {number} of {} cannot be made", container.name), &error)
    };
    // The pid was looked up a while ago, and pids are used again.
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if !cgroup.contains(&container.id) {
        return Err(refusal(format!("process {pid} is not of {} any more", container.name)));
    }
    let folder = folder_of(container)?;
    let place = folder.join(folder_name(number));
    let began = Instant::now();
    let begun = aside({
        let folder = folder.to_owned();
        move || Ok(begin(&folder, number))
    });
    begun.await?.map_err(trouble)?;
    let made = match run(folder, pid, number).await {
        Ok(times) => point_to(folder, number).map(|()| times).map_err(trouble),
        Err(reason) => {
            let log = super::criu_log::end(&log_of(folder)).ok();
            let what = format!("CRIU could not pre-dump {}: {reason}", container.name);
            Err(refusal(what).with_log(log.as_deref()))
        }
    };
    match made {
        Ok((looked_at, times)) => Ok(PreDumped {
            name: folder_name(number),
            folder: place,
            looked_at,
            pages: times.pages_written.unwrap_or(0),
            times,
            took: began.elapsed(),
        }),
        Err(refusal) => {
            // The chain ends with the pre-dump before; this one may be tried again.
            let _ = aside(move || Ok(fs::remove_dir_all(&place))).await;
            Err(refusal)
        }
    }
}

/// Makes the folder of a pre-dump. What an earlier chain, or an earlier attempt, left is removed: the kernel does not know for whom
/// it keeps track of writes, so nothing may be taken for a parent that is not the pre-dump right before.
fn begin(folder: &Path, number: u32) -> io::Result<()> {
    if number <= 1 {
        remove(folder)?;
    } else if !folder.join(folder_name(number - 1)).join("inventory.img").exists() {
        return Err(io::Error::other(format!("there is no pre-dump {} before it", number - 1)));
    }
    let new = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    let place = folder.join(folder_name(number));
    match new(&place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir_all(&place)?;
            new(&place)?;
        }
        other => other?,
    }
    match new(&folder.join(WORK)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Runs CRIU to its end; how many pages it looked at, and its times.
async fn run(folder: &Path, pid: u32, number: u32) -> Result<(u64, CriuTimes), String> {
    let work = folder.join(WORK);
    // Into a file: a pipe that loses its reader would kill CRIU in the midst of its work.
    let output = work.join("output");
    let file = fs::File::create(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    let errors = file.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new("criu");
    command.args(["pre-dump", "--no-default-config", "--track-mem", "--display-stats", "--log-file", LOG]);
    command.args(["--tree", &pid.to_string()]);
    command.arg("--images-dir").arg(folder.join(folder_name(number))).arg("--work-dir").arg(&work);
    if number > 1 {
        command.arg("--prev-images-dir").arg(format!("../{}", folder_name(number - 1)));
    }
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        // Nor does a signal to the agent's group end it.
        .process_group(0)
        .kill_on_drop(false)
        .status()
        .await
        .map_err(|error| format!("it cannot be run: {error}"))?;
    let said = fs::read_to_string(&output).unwrap_or_default();
    if status.success() {
        return statistics(&said)
            .ok_or_else(|| format!("its statistics are not understood: {}", said.trim()));
    }
    let log = fs::read_to_string(work.join(LOG)).unwrap_or_default();
    Err(telling(&format!("{said}\n{log}")))
}

/// What `criu pre-dump --display-stats` prints: pages looked at, and the times.
fn statistics(said: &str) -> Option<(u64, CriuTimes)> {
    let number = |label: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(label)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let millis = |label: &str| number(label).map(|us| Millis(us as f64 / 1e3));
    let times = CriuTimes {
        freezing: millis("Freezing time"),
        frozen: millis("Frozen time"),
        memdump: millis("Memory dump time"),
        memwrite: millis("Memory write time"),
        restore: None,
        pages_written: Some(number("Memory pages written")?),
    };
    Some((number("Memory pages scanned")?, times))
}

/// Makes [`PREVIOUS`] point to a pre-dump; at once, as a final dump may be waiting that reads it next.
fn point_to(folder: &Path, number: u32) -> io::Result<()> {
    point(folder, Path::new(&folder_name(number)))
}

fn point(folder: &Path, target: &Path) -> io::Result<()> {
    let new = folder.join(format!("{PREVIOUS}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &new)?;
    fs::rename(&new, folder.join(PREVIOUS))
}

/// Removes all that belongs to a chain from a container's folder; a folder that is gone has none.
fn remove(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name
            .to_str()
            .is_some_and(|name| name == PREVIOUS || name == WORK || name == format!("{PREVIOUS}.new"));
        if !ours && number_of(&name).is_none() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Before a restore: if the images in `checkpoint` have a parent, makes it be found. At the source it is where it was; at the
/// destination the pre-dumps came into the checkpoint folder.
pub(super) fn join(checkpoint: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(checkpoint.join(PARENT)).is_ok_and(|found| found.is_symlink()) {
        return Ok(());
    }
    let folder = checkpoint.parent().ok_or_else(|| io::Error::other("the checkpoint folder lies nowhere"))?;
    let newest = fs::read_dir(checkpoint)?.flatten().filter_map(|entry| number_of(&entry.file_name())).max();
    if let (Some(newest), Some(name)) = (newest, checkpoint.file_name()) {
        return point(folder, &Path::new(name).join(folder_name(newest)));
    }
    if folder.join(PREVIOUS).join("inventory.img").exists() {
        return Ok(());
    }
    Err(io::Error::other("they are what changed since a pre-dump, and that is not there"))
}

/// CRIU's log of the last pre-dump.
pub(super) fn log_of(folder: &Path) -> PathBuf {
    folder.join(WORK).join(LOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Displaying dump stats:\nFreezing time: 4937 us\nFrozen time: 114643 us\n\
        Memory dump time: 15761 us\nMemory write time: 11886 us\nIRMAP resolve time: 0 us\n\
        Memory pages scanned: 2112 (0x840)\nMemory pages skipped from parent: 1996 (0x7cc)\n\
        Memory pages written: 93 (0x5d)\nLazy memory pages: 0 (0x0)\n";

    fn pre_dump(folder: &Path, number: u32) {
        fs::create_dir_all(folder.join(folder_name(number))).unwrap();
        fs::write(folder.join(folder_name(number)).join("inventory.img"), "").unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn criu_says_how_long_the_service_stood_still() {
        let (looked_at, times) = statistics(SAID).unwrap();
        assert_eq!((looked_at, times.pages_written), (2112, Some(93)));
        assert_eq!(times.freezing, Some(Millis(4.937)));
        assert_eq!(times.frozen, Some(Millis(114.643)));
        assert_eq!(statistics("Error (criu/x.c:1): no\n"), None);
    }

    #[test]
    fn the_reason_is_the_last_error() {
        let said = "Warn (a): x\nError (criu/a.c:1): first\nError (criu/b.c:2): last\nmem_dirty_track is not supported\n";
        assert_eq!(telling(said), "Error (criu/b.c:2): last");
        assert_eq!(telling("Dirty tracking is OFF.\n"), "Dirty tracking is OFF.");
    }

    #[test]
    fn a_new_chain_takes_nothing_of_an_old_one_for_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        pre_dump(folder, 1);
        pre_dump(folder, 2);
        point_to(folder, 2).unwrap();
        fs::write(folder.join("config.json"), "").unwrap();
        begin(folder, 1).unwrap();
        assert_eq!(names(folder), ["config.json", "pre-checkpoint-1", "pre-checkpoint-work"]);
        assert!(names(&folder.join("pre-checkpoint-1")).is_empty());
        assert!(begin(folder, 2).is_err(), "the first one is not made yet");
        pre_dump(folder, 1);
        begin(folder, 2).unwrap();
        assert!(begin(folder, 4).is_err(), "there is no third one");
    }

    #[test]
    fn a_pre_dump_that_failed_can_be_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        pre_dump(dir.path(), 1);
        begin(dir.path(), 2).unwrap();
        fs::write(dir.path().join("pre-checkpoint-2/pages-1.img"), "half").unwrap();
        begin(dir.path(), 2).unwrap();
        assert!(names(&dir.path().join("pre-checkpoint-2")).is_empty());
    }

    #[test]
    fn the_final_dump_is_given_the_newest_pre_dump() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=3 {
            pre_dump(dir.path(), number);
            point_to(dir.path(), number).unwrap();
        }
        assert_eq!(fs::read_link(dir.path().join(PREVIOUS)).unwrap(), Path::new("pre-checkpoint-3"));
    }

    #[test]
    fn all_of_a_chain_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        pre_dump(dir.path(), 1);
        pre_dump(dir.path(), 12);
        point_to(dir.path(), 12).unwrap();
        fs::create_dir(dir.path().join(WORK)).unwrap();
        for other in ["checkpoint", "pre-checkpoint-x", "pre-checkpoints", "pre-checkpoint-0"] {
            fs::create_dir(dir.path().join(other)).unwrap();
        }
        remove(dir.path()).unwrap();
        assert_eq!(
            names(dir.path()),
            ["checkpoint", "pre-checkpoint-0", "pre-checkpoint-x", "pre-checkpoints"]
        );
        remove(&dir.path().join("gone")).unwrap();
    }

    #[test]
    fn a_restore_finds_the_pre_dumps_where_they_came_to() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint");
        fs::create_dir(&checkpoint).unwrap();
        join(&checkpoint).unwrap();
        assert_eq!(names(dir.path()), ["checkpoint"], "a cold dump has no parent");
        symlink("../pre-checkpoint", checkpoint.join(PARENT)).unwrap();
        assert!(join(&checkpoint).is_err(), "its parent is missing");
        // At the source.
        pre_dump(dir.path(), 1);
        point_to(dir.path(), 1).unwrap();
        join(&checkpoint).unwrap();
        assert!(checkpoint.join("parent/inventory.img").exists());
        remove(dir.path()).unwrap();
        // At the destination; the tenth is newer than the ninth.
        for number in [1, 2, 9, 10] {
            pre_dump(&checkpoint, number);
        }
        join(&checkpoint).unwrap();
        assert_eq!(
            fs::canonicalize(checkpoint.join(PARENT)).unwrap(),
            fs::canonicalize(checkpoint.join("pre-checkpoint-10")).unwrap()
        );
    }
}
