//! Where a path in a container lies on the host, while the container does not run.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

/// Whether a file has this path, by the container's OCI configuration and the folder of its root file system's changes. One that has
/// always been in the image, or lies in memory, is not seen.
pub(super) fn has_file(runtime: &Value, changes: &Path, path: &Path) -> bool {
    let Some(place) = place(runtime, changes, path) else { return false };
    place.symlink_metadata().is_ok_and(|found| !is_whiteout(&found))
}

fn place(runtime: &Value, changes: &Path, path: &Path) -> Option<PathBuf> {
    if path.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let path = Path::new("/").join(path);
    let mounts = runtime["mounts"].as_array().into_iter().flatten();
    let over = mounts.filter_map(|mount| {
        let destination = Path::new(mount["destination"].as_str()?);
        Some((destination, path.strip_prefix(destination).ok()?, mount))
    });
    match over.max_by_key(|(destination, ..)| destination.components().count()) {
        Some((_, rest, mount)) if mount["type"] == "bind" => {
            Some(Path::new(mount["source"].as_str()?).join(rest))
        }
        Some(_) => None,
        None => Some(changes.join(path.strip_prefix("/").ok()?)),
    }
}

/// How overlayfs notes that a file of a lower layer is gone.
fn is_whiteout(found: &Metadata) -> bool {
    found.file_type().is_char_device() && found.rdev() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_path_is_looked_for_where_it_lies() {
        let host = tempfile::tempdir().unwrap();
        let (changes, volume) = (host.path().join("diff"), host.path().join("volume"));
        for folder in [changes.join("lib"), changes.join("data"), volume.join("deep")] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in [changes.join("lib/new"), changes.join("data/hidden"), volume.join("deep/file")] {
            fs::write(file, "").unwrap();
        }
        let runtime = serde_json::json!({"mounts": [
            {"destination": "/data", "type": "bind", "source": volume},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ]});
        let there = |path: &str| has_file(&runtime, &changes, Path::new(path));
        assert!(there("/lib/new") && there("lib/new") && there("/data/deep/file"));
        for not in ["/lib/old", "/data/hidden", "/tmp/x", "/data/../lib/new"] {
            assert!(!there(not), "{not}");
        }
    }
}
