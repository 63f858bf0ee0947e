//! A guest: a virtual machine with Debian's cloud kernel and the lab's root file system, in which a script is run as root. For
//! what depends on a kernel that this machine may not run, such as CRIU's tracking of soft-dirty pages. The whole lab runs in it.
//!
//! Where the processor helps (KVM), it is nearly as fast as the machine. Else user code runs many times slower: good for a
//! functional test, no good for figures.

mod boot;
mod machine;
mod scratch;
mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::{LabConfig, Progress};
use crate::doctor::require_builder;
use crate::error::LabError;
use crate::rootfs::timed;
use crate::{images, rootfs};
use boot::Boot;
use machine::{Acceleration, Ports};
use scratch::Scratch;
use tools::Tools;

pub(crate) use scratch::sweep;

/// Where containers' layers are, which cannot lie on an overlay.
const CONTAINERS: &str = "/var/lib/containers";

/// A file or folder that a guest is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Where it is on the machine.
    pub from: PathBuf,
    /// Where the guest sees it: a whole path.
    pub to: PathBuf,
}

/// How a guest's script went.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestOutput {
    /// The script's exit code.
    pub code: i32,
    /// All it printed, standard output and standard error as they came.
    pub output: String,
    /// Whether the processor helped; if not, user code ran many times slower than on the machine.
    pub accelerated: bool,
    /// From the start of the guest's kernel to the start of the script.
    pub boot: Duration,
    /// From the start of the virtual machine to its end.
    pub took: Duration,
}

/// A guest that can be run, any number of times; each run begins afresh.
#[derive(Debug, Clone)]
pub struct Guest {
    config: LabConfig,
    tools: Tools,
    boot: Boot,
    acceleration: Acceleration,
    rootfs: PathBuf,
    files: Vec<GuestFile>,
}

impl Guest {
    /// Makes sure that all is there that a guest needs, in the cache of `config`. The programs of `config`, the calling one
    /// among them under the name `mose`, are in the guest's `/usr/local/bin`, and what a lab is made of is in its cache: in
    /// the guest, `mose lab up` builds nothing.
    ///
    /// # Errors
    /// The machine is no x86-64, the caller is not root, or something could not be fetched or made.
    pub fn prepare(config: &LabConfig, progress: &mut dyn FnMut(Progress)) -> Result<Guest, LabError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(LabError::Invalid {
                what: "the guest".into(),
                reason: "there is one for x86-64 machines only".into(),
            });
        }
        require_builder()?;
        let mut progress = timed(Instant::now(), progress);
        let rootfs = rootfs::ensure(config, &mut progress)?;
        let stores = images::ensure(config, &rootfs, &mut progress)?;
        let tools = Tools::ensure(config, &mut progress)?;
        let boot = Boot::ensure(config, &tools, &rootfs, &mut progress)?;
        let acceleration = Acceleration::of_machine(&tools, &boot.initrd, &config.cache_dir);
        let own = config
            .binaries
            .iter()
            .map(|(name, from)| GuestFile { from: from.clone(), to: Path::new("/usr/local/bin").join(name) });
        let stores = stores.into_iter().map(|store| GuestFile { to: store.clone(), from: store });
        let files = own.chain(stores).collect();
        Ok(Guest { config: config.clone(), tools, boot, acceleration, rootfs, files })
    }

    /// Whether the processor helps.
    #[must_use]
    pub fn accelerated(&self) -> bool {
        self.acceleration == Acceleration::Kvm
    }

    /// Boots a guest with `files` in it, runs the shell script `script` as root in it, and switches it off; it must be done with
    /// all of this within `deadline`. What the script prints is given to `output` as it comes. Nothing is left of it.
    ///
    /// # Errors
    /// A file is not there; the guest did not come as far as the script, or not to the script's end in time
    /// ([`LabError::Guest`], with the end of what its kernel said). That the script fails is no error.
    pub fn run(
        &self,
        script: &str,
        files: &[GuestFile],
        deadline: Duration,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<GuestOutput, LabError> {
        let all: Vec<GuestFile> = self.files.iter().chain(files).cloned().collect();
        let real = [&*self.config.cache_dir, &*self.config.data_dir, Path::new(CONTAINERS)];
        let scratch = Scratch::make(&self.config, &self.tools, script, &all, &real, &self.rootfs)?;
        let ports = Ports::in_folder(&scratch.folder);
        let mut qemu = machine::qemu(&self.tools, self.acceleration, &self.boot.initrd, "", &ports);
        machine::add_disk(&mut qemu, "root", &self.boot.root, false);
        machine::add_disk(&mut qemu, "scratch", &scratch.disk(), true);
        let begun = Instant::now();
        let mut text = Vec::new();
        let ended = machine::wait(&mut qemu, begun + deadline, &mut |bytes| {
            text.extend_from_slice(bytes);
            output(bytes);
        })?;
        let status = ports.status();
        match (status.exit, status.running) {
            (Some(code), Some(boot)) => Ok(GuestOutput {
                code,
                output: String::from_utf8_lossy(&text).into_owned(),
                accelerated: self.accelerated(),
                boot: Duration::from_secs_f64(boot.max(0.0)),
                took: begun.elapsed(),
            }),
            (_, running) => Err(LabError::Guest {
                what: match (ended, status.booted, running) {
                    (false, _, Some(_)) => "its script did not end in time",
                    (false, ..) => "it did not boot in time",
                    (true, _, Some(_)) => "it was switched off before its script's end",
                    (true, true, None) => "its kernel runs, but its root file system does not",
                    (true, false, None) => "its kernel did not boot",
                },
                seconds: begun.elapsed().as_secs(),
                log: ports.said(),
            }),
        }
    }
}
