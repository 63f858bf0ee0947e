//! The cache: what takes long to make and serves every lab, each thing under a name with the hash of its recipe. What has its
//! name is whole, since it is made under another one first.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Context, LabError};
use crate::files::remove_all;
use crate::procfs::pids;
use crate::state::Lock;

/// How the name of what is not finished begins.
pub(crate) const BUILDING: &str = ".building-";
/// What is locked while the cache is changed.
pub(crate) const LOCK: &str = ".lock";

/// Makes sure the cache has the folder `PREFIX-HASH`; its path. `build` makes what is missing at, or below, the path it is given,
/// and says where. Of others with the prefix, the `keep` newest and those in use stay.
///
/// # Errors
/// It could not be built.
pub(crate) fn ensure(
    cache: &Path,
    prefix: &str,
    hash: u64,
    keep: usize,
    build: impl FnOnce(&Path) -> Result<PathBuf, LabError>,
) -> Result<PathBuf, LabError> {
    let target = entry(cache, prefix, hash);
    if target.exists() {
        return Ok(target);
    }
    let _lock = Lock::take(&cache.join(LOCK))?;
    if target.exists() {
        return Ok(target); // another `up` built it while we waited for the lock
    }
    // What an interrupted build left, before and what this one does after.
    remove_unfinished(cache)?;
    let built = build(&cache.join(format!("{BUILDING}{}", std::process::id())))?;
    fs::rename(&built, &target).on("rename what was built to", &target)?;
    remove_unfinished(cache)?;
    prune(cache, &format!("{prefix}-"), keep)?;
    Ok(target)
}

/// Where [`ensure`] puts it.
pub(crate) fn entry(cache: &Path, prefix: &str, hash: u64) -> PathBuf {
    cache.join(format!("{prefix}-{hash:016x}"))
}

/// The entries whose names begin with `prefix`.
pub(crate) fn entries(cache: &Path, prefix: &str) -> Result<Vec<PathBuf>, LabError> {
    let all = fs::read_dir(cache).on("list", cache)?.flatten();
    Ok(all.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path()).collect())
}

fn remove_unfinished(cache: &Path) -> Result<(), LabError> {
    entries(cache, BUILDING)?.iter().try_for_each(|path| remove_all(path))
}

/// Removes what older recipes or programs left: of the entries with this prefix, all but the `keep` newest and those some lab,
/// this one or another, has mounted.
fn prune(cache: &Path, prefix: &str, keep: usize) -> Result<(), LabError> {
    let mounted: String = pids()
        .into_iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok())
        .filter(|table| table.contains(prefix))
        .collect();
    let mut by_age: Vec<(SystemTime, PathBuf)> = entries(cache, prefix)?
        .into_iter()
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    by_age.sort_by(|a, b| b.cmp(a));
    for (_, path) in by_age.into_iter().skip(keep) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !mounted.contains(&*name) {
            remove_all(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(cache: &Path) -> Vec<String> {
        let mut names: Vec<String> = entries(cache, "")
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn pruning_keeps_the_newest_and_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        for (age, name) in [(30, "image-a-1"), (20, "image-a-2"), (10, "image-a-3"), (40, "other")] {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            let time = SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
        prune(dir.path(), "image-a-", 2).unwrap();
        assert_eq!(names(dir.path()), ["image-a-2", "image-a-3", "other"]);
    }

    #[test]
    fn what_fails_to_be_built_is_not_there_and_what_is_there_is_not_built() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let begun = |path: &Path| fs::create_dir_all(path.join("out")).on("make", path);
        let failed = ensure(&cache, "a", 1, 1, |path| {
            begun(path)?;
            Err(LabError::NotUp)
        });
        assert!(failed.is_err() && !entry(&cache, "a", 1).exists());
        let built = ensure(&cache, "a", 1, 1, |path| begun(path).map(|()| path.join("out"))).unwrap();
        assert_eq!(names(&cache), [".lock", "a-0000000000000001"]);
        assert_eq!(ensure(&cache, "a", 1, 1, |_| Err(LabError::NotUp)).unwrap(), built);
    }
}
