//! Bind mounts: files and folders of the host that a container sees. They must be at the destination already, of the same type, or
//! are copied if the order says so.
//!
//! What is copied arrives in a folder beside its place and is put there right before the restore, so that a hand-over that comes
//! to nothing leaves the destination's files as they were. What lay there is removed once the service runs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mose_pam::Bytes;
use mose_protocol::container::{BindDescription, BindKind};
use mose_protocol::handover::{MAX_COPIED_BINDS, Task};
use mose_protocol::{MigrationId, Refusal, RefusalCode};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::Value;

use super::{io_refusal, space};
use crate::StateTree;

/// In the folder beside a copy's place: what arrives.
const ARRIVING: &str = "arriving";

fn kind_of(path: &Path) -> io::Result<BindKind> {
    use std::os::unix::fs::FileTypeExt;
    let kind = fs::metadata(path)?.file_type();
    Ok(if kind.is_dir() {
        BindKind::Folder
    } else if kind.is_file() {
        BindKind::File
    } else if kind.is_socket() {
        BindKind::Socket
    } else {
        BindKind::Other
    })
}

fn refused(code: RefusalCode, reason: String, remedy: &str) -> Refusal {
    Refusal::new(code, reason, remedy)
}

/// The paths that a container has bind mounted.
fn sources(inspect: &Value) -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = Vec::new();
    for mount in inspect["Mounts"].as_array().into_iter().flatten().filter(|mount| mount["Type"] == "bind") {
        let Some(source) = mount["Source"].as_str().map(PathBuf::from) else { continue };
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

/// The bind mounts of a container, and the size of those that are to be copied.
///
/// # Errors
/// Where one to be copied is none of the container's, or cannot be copied.
pub(super) fn describe(name: &str, inspect: &Value, task: &Task) -> Result<Vec<BindDescription>, Refusal> {
    let sources = sources(inspect);
    let copied = &task.files.copy_binds;
    if copied.len() > MAX_COPIED_BINDS {
        let reason = format!("{} bind mounts to be copied are more than {MAX_COPIED_BINDS}", copied.len());
        return Err(refused(RefusalCode::Malformed, reason, "copy a folder that holds them"));
    }
    if let Some(unknown) = copied.iter().find(|path| !sources.contains(&PathBuf::from(path))) {
        let known: Vec<_> = sources.iter().map(|source| source.display().to_string()).collect();
        return Err(refused(
            RefusalCode::Malformed,
            format!("{unknown} is no bind mount of {name}"),
            &match known.as_slice() {
                [] => "it has none; leave --copy-bind out".to_owned(),
                known => format!("it has {}", known.join(", ")),
            },
        ));
    }
    let mut binds = Vec::new();
    for source in sources {
        let kind = kind_of(&source).map_err(|error| {
            refused(
                RefusalCode::Unmovable,
                format!("{name} has {} mounted, which is gone: {error}", source.display()),
                "bring it back, or run the service without it",
            )
        })?;
        let is_copied = copied.iter().any(|path| Path::new(path) == source);
        let bytes = match (is_copied, kind) {
            (false, _) => Bytes(0),
            (true, BindKind::Folder) => space::taken(&source).map(|(bytes, _)| bytes).unwrap_or_default(),
            (true, BindKind::File) => Bytes(fs::metadata(&source).map_or(0, |metadata| metadata.len())),
            (true, BindKind::Socket | BindKind::Other) => {
                return Err(refused(
                    RefusalCode::Unmovable,
                    format!("{} is {} and cannot be copied", source.display(), kind.name()),
                    "copy files and folders only",
                ));
            }
        };
        binds.push(BindDescription { source, kind, bytes });
    }
    Ok(binds)
}

/// Those of a description that are copied.
fn copied<'a>(task: &'a Task, binds: &'a [BindDescription]) -> impl Iterator<Item = &'a BindDescription> {
    binds.iter().filter(|bind| task.files.copy_binds.iter().any(|path| Path::new(path) == bind.source))
}

fn tree_name(source: &Path) -> String {
    format!("bind mount {}", source.display())
}

/// The trees of those that are copied, where they are at the source.
pub(super) fn trees(task: &Task, inspect: &Value) -> Vec<StateTree> {
    let copied = sources(inspect)
        .into_iter()
        .filter(|source| task.files.copy_binds.iter().any(|path| Path::new(path) == source));
    copied
        .filter_map(|source| {
            let name = tree_name(&source);
            if source.is_dir() {
                return Some(StateTree::whole(&name, source));
            }
            let (folder, file) = (source.parent()?.to_owned(), source.file_name()?.to_owned());
            Some(StateTree { only: Some(vec![file]), ..StateTree::whole(&name, folder) })
        })
        .collect()
}

/// The trees of those that are copied, where they arrive.
pub(super) fn arriving(task: &Task, binds: &[BindDescription]) -> Vec<StateTree> {
    copied(task, binds)
        .filter_map(|bind| {
            let (name, stage) = (tree_name(&bind.source), Stage::of(bind, &task.migration)?);
            let only = match bind.kind {
                BindKind::Folder => None,
                _ => Some(vec![bind.source.file_name()?.to_owned()]),
            };
            Some(StateTree { only, ..StateTree::whole(&name, stage.folder.join(ARRIVING)) })
        })
        .collect()
}

/// A copy on its way to its place: a folder beside that, with what arrives and notes of what was done.
struct Stage {
    folder: PathBuf,
    place: PathBuf,
    /// What arrives.
    copy: PathBuf,
}

impl Stage {
    fn of(bind: &BindDescription, migration: &MigrationId) -> Option<Self> {
        let name = bind.source.file_name()?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(OsStr::new(&format!(".mose-incoming-{migration}")));
        let folder = bind.source.with_file_name(hidden);
        let copy = match bind.kind {
            BindKind::Folder => folder.join(ARRIVING),
            _ => folder.join(ARRIVING).join(name),
        };
        Some(Self { folder, place: bind.source.clone(), copy })
    }

    /// Exists where the place was made for the container.
    fn made(&self) -> PathBuf {
        self.folder.join("made")
    }

    /// Holds the copy's inode number, from right before it is put into its place.
    fn inode(&self) -> PathBuf {
        self.folder.join("inode")
    }

    fn make(&self, kind: BindKind) -> io::Result<()> {
        remove(&self.folder)?;
        fs::create_dir(&self.folder)?;
        fs::create_dir(self.folder.join(ARRIVING))?;
        if fs::symlink_metadata(&self.place).is_err() {
            fs::write(self.made(), [])?;
            match kind {
                BindKind::Folder => fs::create_dir(&self.place)?,
                _ => drop(fs::File::create(&self.place)?),
            }
        }
        Ok(())
    }

    fn exchange(&self) -> io::Result<()> {
        renameat2(AT_FDCWD, &self.copy, AT_FDCWD, &self.place, RenameFlags::RENAME_EXCHANGE)
            .map_err(io::Error::from)
    }

    fn adopt(&self) -> io::Result<()> {
        let mut note = fs::File::create(self.inode())?;
        note.write_all(fs::metadata(&self.copy)?.ino().to_string().as_bytes())?;
        note.sync_all()?;
        self.exchange()
    }

    /// Whether the copy lies in its place, whoever put it there and whatever became of him.
    fn is_adopted(&self) -> bool {
        let noted = fs::read_to_string(self.inode()).ok().and_then(|text| text.parse::<u64>().ok());
        noted.is_some_and(|inode| fs::metadata(&self.place).is_ok_and(|there| there.ino() == inode))
    }

    fn discard(&self) -> io::Result<()> {
        if self.is_adopted() {
            self.exchange()?;
        }
        if self.made().exists() {
            match fs::metadata(&self.place) {
                Ok(there) if there.is_dir() => fs::remove_dir(&self.place)?,
                Ok(_) => fs::remove_file(&self.place)?,
                Err(_) => {}
            }
        }
        remove(&self.folder)
    }
}

/// Looks whether the bind mounts are as the container needs them, or can be copied; changes nothing.
pub(super) fn admit(task: &Task, binds: &[BindDescription]) -> Result<(), Refusal> {
    for bind in binds {
        let place = bind.source.display();
        let is_copied = copied(task, binds).any(|other| other == bind);
        match kind_of(&bind.source) {
            Err(_) if is_copied => {
                if !bind.source.parent().is_some_and(Path::is_dir) {
                    return Err(refused(
                        RefusalCode::Unmovable,
                        format!(
                            "{place} is to be copied, and the folder around it is missing at the destination"
                        ),
                        "make that folder there",
                    ));
                }
            }
            Err(error) => {
                return Err(refused(
                    RefusalCode::Unmovable,
                    format!("{place} is bind mounted, and at the destination: {error}"),
                    "put it there, or have it copied with --copy-bind",
                ));
            }
            Ok(kind) if kind != bind.kind => {
                return Err(refused(
                    RefusalCode::Unmovable,
                    format!(
                        "{place} is {} at the source and {} at the destination",
                        bind.kind.name(),
                        kind.name()
                    ),
                    "put the same there",
                ));
            }
            Ok(_) if is_copied && !task.files.overwrite && !holds_nothing(&bind.source) => {
                return Err(refused(
                    RefusalCode::Conflict,
                    format!("{place} is there already, with contents of its own"),
                    "empty it there, or insist with --overwrite-volume: what it holds is then lost",
                ));
            }
            Ok(_) => {}
        }
    }
    for bind in copied(task, binds) {
        let around = bind.source.parent().unwrap_or(Path::new("/"));
        space::check(around, bind.bytes)?;
    }
    Ok(())
}

fn holds_nothing(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
        }
        Ok(metadata) => metadata.len() == 0,
        Err(_) => true,
    }
}

fn stages<'a>(task: &'a Task, binds: &'a [BindDescription]) -> impl Iterator<Item = (Stage, BindKind)> + 'a {
    copied(task, binds).filter_map(|bind| Some((Stage::of(bind, &task.migration)?, bind.kind)))
}

/// Makes the folders in which copies arrive, and what the container must find at their places until then.
pub(super) fn make(task: &Task, binds: &[BindDescription]) -> Result<(), Refusal> {
    for (stage, kind) in stages(task, binds) {
        let what = || format!("no room can be made for {}", stage.place.display());
        stage.make(kind).map_err(|error| io_refusal(&what(), &error))?;
    }
    Ok(())
}

/// Puts the copies into their places; what lay there takes theirs.
pub(super) fn adopt(task: &Task, binds: &[BindDescription]) -> Result<(), Refusal> {
    for (stage, _) in stages(task, binds) {
        let what = || format!("the copy cannot be put to {}", stage.place.display());
        stage.adopt().map_err(|error| io_refusal(&what(), &error))?;
    }
    Ok(())
}

/// The service runs here: what the copies replaced goes.
pub(super) fn keep(task: &Task, binds: &[BindDescription]) -> Result<(), Refusal> {
    for (stage, _) in stages(task, binds) {
        remove(&stage.folder)
            .map_err(|error| io_refusal("what a copy replaced cannot be removed", &error))?;
    }
    Ok(())
}

/// The hand-over came to nothing: what lay at the places is put back, and the copies go.
pub(super) fn discard(task: &Task, binds: &[BindDescription]) -> Result<(), Refusal> {
    for (stage, _) in stages(task, binds).filter(|(stage, _)| stage.folder.exists()) {
        let what = || format!("the copy of {} cannot be removed", stage.place.display());
        stage.discard().map_err(|error| io_refusal(&what(), &error))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &Path, kind: BindKind) -> BindDescription {
        BindDescription { source: source.to_owned(), kind, bytes: Bytes(1) }
    }

    /// A folder with a place in it, and the stage of a copy that has arrived for it.
    fn arrived(kind: BindKind, before: Option<&str>) -> (tempfile::TempDir, PathBuf, Stage) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        let put = |at: &Path, content: &str| match kind {
            BindKind::Folder => {
                fs::create_dir_all(at).unwrap();
                fs::write(at.join("content"), content).unwrap();
            }
            _ => fs::write(at, content).unwrap(),
        };
        if let Some(before) = before {
            put(&place, before);
        }
        let stage = Stage::of(&bind(&place, kind), &"m1".parse().unwrap()).unwrap();
        stage.make(kind).unwrap();
        put(&stage.copy, "new");
        (folder, place, stage)
    }

    fn content(place: &Path) -> Option<String> {
        fs::read_to_string(place).or_else(|_| fs::read_to_string(place.join("content"))).ok()
    }

    #[test]
    fn a_copy_takes_its_place_only_when_it_is_adopted_and_can_be_taken_back_from_it() {
        for kind in [BindKind::Folder, BindKind::File] {
            for before in [None, Some("old")] {
                for adopt in [false, true] {
                    let (folder, place, stage) = arrived(kind, before);
                    assert_ne!(content(&place).as_deref(), Some("new"));
                    if adopt {
                        stage.adopt().unwrap();
                        assert_eq!(content(&place).as_deref(), Some("new"));
                    }
                    assert_eq!(stage.is_adopted(), adopt);
                    stage.discard().unwrap();
                    assert_eq!(content(&place).as_deref(), before, "{kind:?} {adopt}");
                    assert_eq!(place.exists(), before.is_some());
                    let left = fs::read_dir(folder.path()).unwrap().count();
                    assert_eq!(left, usize::from(before.is_some()), "nothing else is left");
                }
            }
        }
    }

    #[test]
    fn an_agent_that_died_between_the_note_and_the_exchange_has_changed_nothing() {
        let (_folder, place, stage) = arrived(BindKind::Folder, Some("old"));
        fs::write(stage.inode(), fs::metadata(&stage.copy).unwrap().ino().to_string()).unwrap();
        assert!(!stage.is_adopted());
        stage.discard().unwrap();
        assert_eq!(content(&place).as_deref(), Some("old"));
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let mut task: Task = serde_json::from_value(serde_json::json!({
            "migration": "m1", "service": "s", "from": "a", "to": "b",
            "plan": mose_pam::Plan::cold(), "transport": null, "image_policy": "bring",
        }))
        .unwrap();
        let place = folder.path().join("place");
        let wanted = [bind(&place, BindKind::Folder)];
        assert!(admit(&task, &wanted).unwrap_err().reason.contains("place"));
        fs::write(&place, "x").unwrap();
        let refusal = admit(&task, &wanted).unwrap_err();
        assert!(refusal.reason.contains("a folder at the source and a file"), "{refusal}");
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        admit(&task, &wanted).unwrap();
        task.files.copy_binds = vec![place.display().to_string()];
        admit(&task, &wanted).unwrap();
        fs::write(place.join("own"), "x").unwrap();
        assert_eq!(admit(&task, &wanted).unwrap_err().code, RefusalCode::Conflict);
        task.files.overwrite = true;
        admit(&task, &wanted).unwrap();
    }
}
