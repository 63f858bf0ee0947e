//! Files that are open or mapped: whether CRIU finds them again by their path, or can carry them along.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::options::Options;

/// What is the matter with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Whether it stands in the way; else it is only good to know.
    pub(super) blocks: bool,
    /// What is the matter.
    pub(super) reason: String,
    /// What the operator can do.
    pub(super) remedy: String,
}

/// A file in the container, by the path that the kernel tells, seen from outside.
pub(super) fn seen(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// What is the matter with a file that is held, `path` being what the kernel calls it. `root` leads to the container's root.
pub(super) fn look(held: &Metadata, path: &str, root: &Path, options: &Options) -> Option<Trouble> {
    let name = path.strip_suffix(" (deleted)").unwrap_or(path);
    if held.nlink() == 0 {
        return ghost(held, name, options);
    }
    let there = std::fs::symlink_metadata(seen(root, path));
    match there {
        Ok(there) if there.ino() == held.ino() && there.dev() == held.dev() => None,
        // Some other file is there now.
        Ok(_) => Some(Trouble {
            blocks: true,
            reason: format!("another file is at {name} now, and CRIU cannot tell them apart"),
            remedy: "have the service open it again, or restart it".into(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && options.link_remap => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Trouble {
            blocks: true,
            reason: format!(
                "{name} was deleted or replaced since it was opened, and CRIU is not told to give it a name again"
            ),
            remedy: "put `link-remap` into /etc/criu/runc.conf on this host, or restart the service".into(),
        }),
        // What cannot be looked at is left to CRIU.
        Err(_) => None,
    }
}

/// A file without any name goes with CRIU's images.
fn ghost(held: &Metadata, name: &str, options: &Options) -> Option<Trouble> {
    let size = held.blocks().saturating_mul(512);
    let told = mose_pam::Bytes(size);
    if size > options.ghost_limit {
        return Some(Trouble {
            blocks: true,
            reason: format!(
                "the deleted file {name} takes {told}, and CRIU carries at most {}",
                mose_pam::Bytes(options.ghost_limit)
            ),
            remedy:
                "raise `ghost-limit` in /etc/criu/runc.conf on this host, or have the service close the file"
                    .into(),
        });
    }
    (size > LARGE).then(|| Trouble {
        blocks: false,
        reason: format!("the deleted file {name} takes {told}, which is sent while the service stands still"),
        remedy: "have the service close it for a shorter downtime".into(),
    })
}

/// What is sent in the downtime without being worth a word.
const LARGE: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn options() -> Options {
        Options::read(&["/nowhere"])
    }

    #[test]
    fn a_file_is_looked_for_at_its_path() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("log");
        fs::write(&path, "x").unwrap();
        let held = File::open(&path).unwrap().metadata().unwrap();
        assert_eq!(look(&held, "/log", root.path(), &options()), None);
        fs::remove_file(&path).unwrap();
        let gone = look(&held, "/log", root.path(), &options()).unwrap();
        assert!(gone.blocks && gone.remedy.contains("link-remap"), "{gone:?}");
        assert_eq!(look(&held, "/log", root.path(), &Options { link_remap: true, ..options() }), None);
        fs::write(root.path().join("other"), "x").unwrap();
        fs::rename(root.path().join("other"), &path).unwrap();
        let replaced = look(&held, "/log", root.path(), &Options { link_remap: true, ..options() });
        assert!(replaced.is_none_or(|trouble| trouble.reason.contains("another file")));
    }

    #[test]
    fn a_file_without_a_name_is_carried_up_to_the_limit() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("big");
        fs::write(&path, vec![7; 2 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let held = file.metadata().unwrap();
        let trouble = look(&held, "/big (deleted)", root.path(), &options()).unwrap();
        assert!(trouble.blocks && trouble.reason.contains("/big") && trouble.remedy.contains("ghost-limit"));
        assert_eq!(
            look(&held, "/big (deleted)", root.path(), &Options { ghost_limit: 4 << 20, ..options() }),
            None
        );
    }
}
