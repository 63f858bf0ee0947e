//! The workloads' container images. No registry is needed: an image is a few of the root file system's own programs. They are
//! baked once into read-only image stores that every host is given, so that `up` has nothing to import.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::cache;
use crate::config::LabConfig;
use crate::error::{Context, LabError};
use crate::files::write_file;
use crate::run::run;
use crate::workload::{WORKLOADS, Workload};

/// Puts together, in a throw-away overlay of the root file system, a folder per image and imports it.
/// `$1`: root file system, `$2`: work folder, `$3`: the store, `$4`: the script for inside, `$5`: the project's programs,
/// `$6`: a tree of packages, if there is one.
const OUTSIDE: &str = r#"set -e
mount -t tmpfs none "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
r="$2/root"
mkdir -p "$r/store"
mount --bind "$3" "$r/store"
mount -t proc proc "$r/proc"
mount -t tmpfs none "$r/run"
mount -t tmpfs none "$r/tmp"
mount --rbind /dev "$r/dev"
mount --rbind /sys "$r/sys"
cp "$4" "$r/make-images"
for p in $5; do cp "$p" "$r/usr/local/bin/"; done
if [ -n "$6" ]; then mkdir "$r/tree"; mount --bind "$6" "$r/tree"; fi
exec chroot "$r" sh /make-images
"#;

const INSIDE: &str = r#"set -e
new() {
    rm -rf /tmp/img; mkdir -p /tmp/img; cd /tmp/img
    mkdir -p usr/bin usr/sbin usr/lib usr/lib64 etc tmp root proc sys dev run var
    ln -s usr/bin bin; ln -s usr/sbin sbin; ln -s usr/lib lib; ln -s usr/lib64 lib64; chmod 1777 tmp
    echo 'root:x:0:0:root:/root:/bin/sh' > etc/passwd; echo 'root:x:0:' > etc/group
    cp /usr/bin/busybox usr/bin/busybox
    for a in sh ls cat echo sleep kill ps ip ping nc wget mkdir rm cp mv ln touch dd sync grep sed seq wc md5sum sha256sum head tail date env id mount df du top test true false; do
        ln -s busybox usr/bin/$a
    done
}
program() {
    mkdir -p "usr/bin"; cp -L "$1" usr/bin/
    ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r l; do [ -e "$l" ] && mkdir -p ".${l%/*}" && cp -L "$l" ".$l"; done || true
}
file() { mkdir -p ".${1%/*}"; printf '%s' "$2" > ".$1"; }
tree() { for d in usr etc var; do [ ! -d "/tree/$d" ] || cp -a --remove-destination "/tree/$d/." "$d/"; done; }
user() { echo "$1:x:$2:$2:$1:/tmp:/bin/sh" >> etc/passwd; echo "$1:x:$2:" >> etc/group; }
finish() { tar -c . | podman --root /store --runroot /run/c --storage-driver overlay import -q --change "CMD $2" - "localhost/$1" >/dev/null; }
archive() {
    image="$1" archive="$2"; shift 2
    tar -c . | podman --root /store/s --runroot /run/c --storage-driver overlay import -q "$@" - "$image" >/dev/null
    podman --root /store/s --runroot /run/c --storage-driver overlay save -q -o "/store/$archive" "$image"
    rm -rf /store/s
}
"#;

/// Makes sure all images can be had; the stores' paths in the cache.
///
/// # Errors
/// A store could not be built.
pub(crate) fn ensure(
    config: &LabConfig,
    rootfs: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<PathBuf>, LabError> {
    let own = |w: &&Workload| w.own_binary.is_some();
    let common: Vec<&Workload> = WORKLOADS.iter().filter(|w| !own(w)).collect();
    let mut stores = vec![store(config, rootfs, "images", &common, &[], progress)?];
    for workload in WORKLOADS.iter().filter(own) {
        // A store of its own, so that a rebuilt program of ours means one import, not all of them again.
        if let Some(binary) = workload.own_binary.and_then(|b| config.binaries.get(b)) {
            let prefix = format!("image-{}", workload.name);
            stores.push(store(config, rootfs, &prefix, &[workload], std::slice::from_ref(binary), progress)?);
        }
    }
    Ok(stores)
}

fn store(
    config: &LabConfig,
    rootfs: &Path,
    prefix: &str,
    workloads: &[&Workload],
    binaries: &[PathBuf],
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, LabError> {
    let script = inside(workloads);
    let mut hash = Xxh3::new();
    hash.update(rootfs.as_os_str().as_encoded_bytes());
    for text in [OUTSIDE, INSIDE, &script] {
        hash.update(text.as_bytes());
    }
    for binary in binaries {
        hash.update(&xxh3_64(&fs::read(binary).on("read", binary)?).to_le_bytes());
    }
    cache::ensure(&config.cache_dir, prefix, hash.digest(), 3, |building| {
        let names: Vec<&str> = workloads.iter().map(|w| w.name).collect();
        progress(&format!("making the images {}", names.join(", ")));
        make(building, &Recipe { rootfs, script: &script, binaries, tree: None })
    })
}

/// What a store or an archive is made of.
pub(crate) struct Recipe<'a> {
    /// The root file system.
    pub(crate) rootfs: &'a Path,
    /// The lines after [`INSIDE`].
    pub(crate) script: &'a str,
    /// The project's programs.
    pub(crate) binaries: &'a [PathBuf],
    /// A tree of packages.
    pub(crate) tree: Option<&'a Path>,
}

/// Carries a recipe out below `building`; the folder of what came of it.
///
/// # Errors
/// It failed; what it said is in the error.
pub(crate) fn make(building: &Path, recipe: &Recipe) -> Result<PathBuf, LabError> {
    let (work, out, file) = (building.join("work"), building.join("out"), building.join("script"));
    for dir in [&work, &out] {
        fs::create_dir_all(dir).on("make", dir)?;
    }
    write_file(&file, 0o644, &format!("{INSIDE}{}", recipe.script))?;
    let binaries: Vec<String> = recipe.binaries.iter().map(|b| b.display().to_string()).collect();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--net", "sh", "-c", OUTSIDE, "sh"])
        .args([recipe.rootfs, work.as_path(), out.as_path(), file.as_path()])
        .arg(binaries.join(" "))
        .arg(recipe.tree.unwrap_or(Path::new("")))
        .env_clear()
        .env("PATH", crate::exec::PATH)
        .env("HOME", "/root")
        .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
    run("making the container images", &mut command)?;
    Ok(out)
}

/// The line of a script that puts a file into the image.
pub(crate) fn file_line(path: &str, content: &str) -> String {
    format!("file {path} '{}'\n", content.replace('\'', r"'\''"))
}

fn inside(workloads: &[&Workload]) -> String {
    let mut script = String::new();
    for workload in workloads {
        script += "new\n";
        for program in workload.programs {
            script += &format!("program {program}\n");
        }
        for (path, content) in workload.files {
            script += &file_line(path, content);
        }
        let words: Vec<String> = workload.command.iter().map(|w| format!("\"{w}\"")).collect();
        script += &format!("finish {} '[{}]'\n", workload.name, words.join(", "));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_becomes_an_image_with_its_command() {
        let all: Vec<&Workload> = WORKLOADS.iter().collect();
        let script = inside(&all);
        for workload in WORKLOADS {
            assert!(script.contains(&format!("finish {} '[\"", workload.name)));
        }
    }

    #[test]
    fn a_file_in_an_image_is_what_the_table_says_to_the_letter() {
        const TEXT: &str = "it's 100%\n\\n \"$HOME\"\n";
        let workload = Workload {
            files: &[("/etc/a.conf", TEXT)],
            programs: &[],
            ..*Workload::named("busybox").unwrap()
        };
        let script = inside(&[&workload]);
        let line = script.find("file /etc").unwrap()..script.find("finish busybox").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{INSIDE}{}", &script[line])]).current_dir(dir.path());
        run("making the file", &mut shell).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("etc/a.conf")).unwrap(), TEXT);
    }
}
