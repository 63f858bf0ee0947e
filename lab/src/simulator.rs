//! The flight simulator of the UAV: JSBSim, a Python package, with a Python that is whole. Fetched at first use and kept in the cache; the
//! UAV's host gets a copy. What does not fly needs none of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xxhash_rust::xxh3::xxh3_64;

use crate::cache;
use crate::config::{LabConfig, Progress};
use crate::error::{Context, LabError};
use crate::files::{remove_all, write_file};
use crate::lab::Lab;
use crate::packages::{self, Tree};
use crate::rootfs::timed;
use crate::run::{run, tail};

const SUITE: &str = "trixie";
/// How its name in the cache begins.
const PREFIX: &str = "simulator";
/// Part of the hash: to be raised when the tree comes to differ otherwise than by what is below.
const RECIPE: u32 = 1;

const PACKAGES: [&str; 3] = ["python3-minimal", "libpython3-stdlib", "python3-pip"];

/// The wheels, for Python 3.13 on x86-64; JSBSim has none for other machines. It flies the vehicle, and wants numpy.
const WHEELS: &str = "\
jsbsim==1.3.3 --hash=sha256:3a933792b350f2c2e75783ea746daa026dd59a160101682fdd32654faa7a5a6f
numpy==2.4.6 --hash=sha256:a7830bab239b79cda9c08c2da014761cafb48da6150e1da17ac06283f43b6089
";

/// What only the installation needs, and what nobody needs in the air.
const LEFT_OUT: [&str; 6] =
    ["usr/lib/python3", "usr/share", "var", "etc", "wheels/numpy/tests", "wheels/bin"];

/// Where a host has it.
const ON_HOST: &str = "/opt/simulator";

/// The Python that has JSBSim, on a host that has been [`Lab::give_simulator`]d.
pub(crate) const PYTHON: &str = "/opt/simulator/python";

/// Runs the tree's own Python with the tree's own libraries, whatever the machine has. `$0` is in the tree's top folder.
const RUN: &str = r#"#!/bin/sh
t="$(dirname "$0")"
l="$(dirname "$(find "$t/usr/lib" -name libc.so.6 | head -n 1)")"
PYTHONHOME="$t/usr" PYTHONPATH="$t/wheels:$t/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1 \
  exec "$(find "$t/usr/lib64" "$t/usr/lib" -name 'ld-linux*.so.*' | head -n 1)" --library-path "$l" "$t"/usr/bin/python3.1[0-9] "$@"
"#;

fn hash() -> u64 {
    xxh3_64(format!("{RECIPE} {SUITE} {PACKAGES:?} {WHEELS} {LEFT_OUT:?} {RUN}").as_bytes())
}

/// Makes sure the simulator is in the cache; its folder.
///
/// # Errors
/// A package cannot be had, or it is not what it should be; nothing half-built is kept.
fn ensure(config: &LabConfig, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, LabError> {
    let log = config.cache_dir.join("simulator.log");
    cache::ensure(&config.cache_dir, PREFIX, hash(), 1, |building| {
        progress("fetching the flight simulator: Python, JSBSim, numpy (once, about half a minute)");
        fs::create_dir_all(&config.cache_dir).on("make", &config.cache_dir)?;
        let tree = Tree {
            what: "the flight simulator",
            variant: "extract",
            packages: &PACKAGES,
            suites: &[SUITE],
            setup: None,
        };
        packages::unpack(&tree, building, &log)?;
        install(building, &log)?;
        for part in LEFT_OUT {
            remove_all(&building.join(part))?;
        }
        try_out(building)?;
        Ok(building.to_owned())
    })
}

/// Installs the wheels with the tree's own pip, as this machine's pip is configured: its index, its proxy, its certificates.
fn install(tree: &Path, log: &Path) -> Result<(), LabError> {
    let python = tree.join("python");
    write_file(&python, 0o755, RUN)?;
    let wanted = tree.join("wheels.txt");
    write_file(&wanted, 0o644, WHEELS)?;
    let file = File::options().append(true).open(log).on("open", log)?;
    let status = Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--no-cache-dir",
        ])
        .args(["--no-compile", "--root-user-action=ignore", "--retries", "2", "--target"])
        .arg(tree.join("wheels"))
        .arg("--requirement")
        .arg(&wanted)
        .stdin(Stdio::null())
        .stdout(file.try_clone().on("open", log)?)
        .stderr(file)
        .status()
        .on("run", &python)?;
    if status.success() {
        return Ok(());
    }
    Err(LabError::Command {
        what: "fetching JSBSim and numpy from the Python package index".into(),
        command: format!("pip install (its whole output is in {})", log.display()),
        status: status.to_string(),
        stderr: format!(
            "{}\nIt is fetched as pip is configured on this machine (PIP_INDEX_URL, /etc/pip.conf), for x86-64 only.",
            tail(&fs::read_to_string(log).unwrap_or_default(), 8)
        ),
    })
}

/// Whether the simulator can be loaded, with its aircraft: what cannot fly is not kept.
fn try_out(tree: &Path) -> Result<(), LabError> {
    let program = "import jsbsim, os; m = jsbsim.FGFDMExec(os.path.dirname(jsbsim.__file__)); assert m.load_model('F450')";
    run("trying the flight simulator", Command::new(tree.join("python")).args(["-c", program])).map(drop)
}

impl Lab {
    /// Puts the flight simulator on a host; harmless if it is there. It is fetched at first use.
    ///
    /// # Errors
    /// It cannot be fetched, or the host has no room for its 120 MB.
    pub fn give_simulator(&self, host: &str, progress: &mut dyn FnMut(Progress)) -> Result<(), LabError> {
        let mut progress = timed(std::time::Instant::now(), progress);
        let tree = ensure(self.config(), &mut progress)?;
        let there = self.exec(host, &["test", "-x", PYTHON])?.status().doing("look for the simulator")?;
        if there.success() {
            return Ok(());
        }
        progress(&format!("{host}: taking the flight simulator in"));
        let mut pack = Command::new("tar")
            .arg("--create")
            .arg("--directory")
            .arg(&tree)
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .doing("start tar")?;
        // Under another name until it is whole: a copy that was cut short must not be taken for one.
        let script =
            r#"set -e; rm -rf "$1" "$1.part"; mkdir -p "$1.part"; tar -x -C "$1.part"; mv "$1.part" "$1""#;
        let mut unpack = self.exec(host, &["sh", "-c", script, "sh", ON_HOST])?;
        if let Some(packed) = pack.stdout.take() {
            unpack.stdin(packed);
        }
        let output = unpack.output().doing("start tar on the host")?;
        let packed = pack.wait().doing("wait for tar")?;
        if output.status.success() && packed.success() {
            return Ok(());
        }
        Err(LabError::Command {
            what: format!("putting the flight simulator on {host}"),
            command: "tar".into(),
            status: output.status.to_string(),
            stderr: tail(&String::from_utf8_lossy(&output.stderr), 5),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_held_to_a_version_and_a_hash() {
        for line in WHEELS.lines() {
            let (name, hash) = line.split_once(" --hash=sha256:").unwrap();
            assert!(name.contains("==") && hash.len() == 64, "{line}");
        }
    }

    #[test]
    fn a_package_that_cannot_be_had_leaves_nothing_that_is_taken_for_built() {
        let dir = tempfile::tempdir().unwrap();
        let config = LabConfig { cache_dir: dir.path().join("cache"), ..LabConfig::default() };
        let built = cache::ensure(&config.cache_dir, PREFIX, hash(), 1, |building| {
            // A tree whose Python says no, as it does where the index cannot be reached.
            fs::create_dir_all(building).unwrap();
            let log = config.cache_dir.join("simulator.log");
            fs::write(&log, "no route to the index\n").unwrap();
            install(building, &log)?;
            Ok(building.to_owned())
        });
        let error = built.unwrap_err().to_string();
        assert!(error.contains("Python package index") && error.contains("PIP_INDEX_URL"), "{error}");
        assert!(cache::entries(&config.cache_dir, PREFIX).unwrap().iter().all(|path| !path.is_dir()));
    }
}
