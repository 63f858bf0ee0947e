//! Whether there is room on a disk for what a migration puts there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mose_pam::Bytes;
use mose_protocol::doctor::Check;

/// How long the kernel may take to say what is free.
const LIMIT: Duration = Duration::from_secs(6);

/// Whether a folder, or the place where it is going to be, has room for what it `holds`, as a check of this host.
pub async fn disk(what: &str, folder: PathBuf, needed: Bytes, holds: &str) -> Check {
    let place = folder.clone();
    // A dead network file system never answers.
    let asked = tokio::task::spawn_blocking(move || free(&place));
    let shown = folder.display();
    match tokio::time::timeout(LIMIT, asked).await {
        Err(_) => Check::late(what, LIMIT),
        Ok(Err(error)) => Check::unknown(what, format!("{shown}: {error}"), "ask again"),
        Ok(Ok(Err(error))) => Check::unknown(
            what,
            format!("the free space of {shown} cannot be read: {error}"),
            "see whether the folder exists and its file system is mounted",
        ),
        Ok(Ok(Ok(free))) if free < needed => Check::broken(
            what,
            format!("{free} free in {shown}, and {needed} are wanted for {holds}"),
            format!("free {} there, or move the folder to a larger file system", Bytes(needed.0 - free.0)),
        ),
        Ok(Ok(Ok(free))) => Check::ok(what, format!("{free} free in {shown}")),
    }
}

/// What an unprivileged process may still write in a folder, or in the nearest one above it that exists.
fn free(folder: &Path) -> std::io::Result<Bytes> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let found = nix::sys::statvfs::statvfs(there)?;
    Ok(Bytes(found.blocks_available().saturating_mul(found.fragment_size())))
}

#[cfg(test)]
mod tests {
    use mose_protocol::doctor::CheckState;

    use super::*;

    #[tokio::test]
    async fn a_disk_without_room_is_broken_and_says_how_much_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let deeper = folder.path().join("not/yet/made");
        let fits = disk("state folder", deeper.clone(), Bytes(1), "journals").await;
        assert_eq!(fits.state, CheckState::Ok, "{fits:?}");
        let short = disk("state folder", deeper, Bytes(u64::MAX), "journals").await;
        assert_eq!(short.state, CheckState::Broken, "{short:?}");
        assert!(short.found.contains("for journals"), "{short:?}");
        assert!(short.remedy.unwrap().starts_with("free "));
    }
}
