//! What a guest is run with: QEMU, a kernel, busybox and mke2fs, unpacked from Debian's packages into the cache and run from
//! there. Nothing is installed: whatever QEMU the machine has, or of which release, is neither needed nor touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::config::LabConfig;
use crate::error::{Context, LabError};
use crate::exec::PATH;
use crate::files::write_file;
use crate::packages::{self, Tree};

const SUITE: &str = "trixie";
/// The cloud kernel: small, and with what the tests need that other kernels may lack (soft-dirty pages above all).
const PACKAGES: [&str; 4] = ["qemu-system-x86", "linux-image-cloud-amd64", "busybox-static", "e2fsprogs"];
const PREFIX: &str = "guest-tools";
/// Part of the hash: to be raised when the tree comes to differ otherwise than by what is named above.
const RECIPE: u32 = 2;
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The tree.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Where it is.
    pub(crate) tree: PathBuf,
    /// The kernel's version, e.g. `6.12.107+deb13-cloud-amd64`.
    pub(crate) kernel: String,
}

impl Tools {
    /// Makes sure the tree is in the cache.
    pub(crate) fn ensure(config: &LabConfig, progress: &mut dyn FnMut(&str)) -> Result<Tools, LabError> {
        let recipe = format!("{RECIPE} {SUITE} {}", PACKAGES.join(" "));
        let hash = xxhash_rust::xxh3::xxh3_64(recipe.as_bytes());
        let tree = cache::ensure(&config.cache_dir, PREFIX, hash, 2, |building| {
            progress("fetching QEMU and a kernel from Debian's packages (once, about half a minute)");
            let tree = Tree {
                what: "the guest's tools",
                variant: "extract",
                packages: &PACKAGES,
                suites: &[SUITE],
                setup: None,
            };
            packages::unpack(&tree, building, &config.cache_dir.join("guest-tools.log"))?;
            // Its folder has the age of Debian's; the cache is to know ours.
            write_file(&building.join("recipe"), 0o644, &recipe)?;
            Ok(building.to_owned())
        })?;
        let kernel = kernel_version(&tree)?;
        Ok(Tools { tree, kernel })
    }

    /// A program of the tree, e.g. `usr/sbin/mke2fs`, with the tree's own libraries.
    pub(crate) fn program(&self, path: &str) -> Command {
        let libraries = self.tree.join(LIBRARIES);
        // Its own loader: the machine's may be older than what the program was built for.
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(self.tree.join(path));
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
        command
    }

    /// QEMU, told where its firmware and its modules are.
    pub(crate) fn qemu(&self) -> Command {
        let mut command = self.program("usr/bin/qemu-system-x86_64");
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(self.tree.join(firmware));
        }
        command.env("QEMU_MODULE_DIR", self.tree.join(LIBRARIES).join("qemu"));
        command
    }

    /// The kernel.
    pub(crate) fn vmlinuz(&self) -> PathBuf {
        self.tree.join("boot").join(format!("vmlinuz-{}", self.kernel))
    }
}

fn kernel_version(tree: &Path) -> Result<String, LabError> {
    let modules = tree.join("usr/lib/modules");
    let names = fs::read_dir(&modules).on("list", &modules)?.flatten();
    let mut versions: Vec<String> = names.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    versions.sort();
    versions.pop().ok_or_else(|| LabError::Invalid {
        what: format!("the kernel's modules in {}", modules.display()),
        reason: "there are none; `mose lab down --purge`, and they are fetched anew".into(),
    })
}
