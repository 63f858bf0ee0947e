//! The images of what is tried, made at first use from Debian's packages and kept in the cache as archives, so that each host
//! loads the same one.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::software::{Data, Software};
use crate::cache;
use crate::config::{LabConfig, Progress};
use crate::error::LabError;
use crate::images::{self, Recipe};
use crate::packages::{self, Tree};
use crate::rootfs::{self, timed};

const SUITE: &str = "trixie";
/// How the names in the cache begin.
pub(crate) const PREFIX: &str = "trial-";
/// Part of the hash: to be raised when an image comes to differ otherwise than by what its row says.
const RECIPE: u32 = 1;

/// Makes sure the software's image is in the cache; its archive.
///
/// # Errors
/// Its packages could not be fetched, or the image not be made.
pub fn ensure(
    config: &LabConfig,
    software: &Software,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, LabError> {
    let mut progress = timed(std::time::Instant::now(), progress);
    let rootfs = rootfs::ensure(config, &mut progress)?;
    let script = script(software);
    // Not the root file system: what comes out does not depend on it.
    let recipe = format!("{RECIPE} {SUITE} {} {script}", software.packages.join(" "));
    let folder =
        cache::ensure(&config.cache_dir, &prefix(software), xxh3_64(recipe.as_bytes()), 1, |building| {
            progress(&format!(
                "making the image of {} from Debian's packages (once, about half a minute)",
                software.name
            ));
            let tree = Tree {
                what: &format!("the image of {}", software.name),
                variant: "extract",
                packages: software.packages,
                suites: &[SUITE],
                setup: None,
            };
            let unpacked = building.join("tree");
            std::fs::create_dir_all(building)
                .map_err(|source| LabError::Io { what: format!("make {}", building.display()), source })?;
            packages::unpack(&tree, &unpacked, &config.cache_dir.join("trial.log"))?;
            images::make(
                building,
                &Recipe { rootfs: &rootfs, script: &script, binaries: &[], tree: Some(&unpacked) },
            )
        })?;
    Ok(folder.join(ARCHIVE))
}

/// The archive's folder in the cache, for a guest that is to have it too.
pub(super) fn folder(archive: &Path) -> &Path {
    archive.parent().unwrap_or(archive)
}

fn prefix(software: &Software) -> String {
    format!("{PREFIX}{}", software.name)
}

const ARCHIVE: &str = "image.tar";

/// What is done inside the throw-away root file system: the tree's files over the common base, and what the row adds.
fn script(software: &Software) -> String {
    let mut script = "new\ntree\n".to_owned();
    for pattern in software.without {
        script += &format!("rm -rf /tmp/img/{pattern}\n");
    }
    let (user, id) = software.user;
    script += &format!("user {user} {id}\n");
    for (path, content) in software.files {
        script += &images::file_line(path, content);
    }
    let data = software.data.path();
    script += &format!("mkdir -p .{data}; chown {id}:{id} .{data}; chmod 700 .{data}\n");
    let words: Vec<String> = software.command.iter().map(|word| format!("\"{word}\"")).collect();
    let mut changes =
        vec![format!("CMD [{}]", words.join(", ")), format!("STOPSIGNAL {}", software.stop_signal)];
    if let Data::Declared(path) = software.data {
        changes.push(format!("VOLUME {path}"));
    }
    let changes: Vec<String> = changes.iter().map(|change| format!("--change '{change}'")).collect();
    script += &format!("archive {} {ARCHIVE} {}\n", software.image(), changes.join(" "));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_declared_where_the_row_says_so() {
        let declares = |name: &str| script(Software::named(name).unwrap()).contains("--change 'VOLUME /");
        assert!(declares("redis") && declares("mosquitto"));
        assert!(!declares("nginx") && !declares("postgres"));
    }
}
