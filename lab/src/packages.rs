//! Trees of Debian packages, unpacked by mmdebstrap from the mirror that the machine itself installs from. The machine's own
//! packages are neither used nor changed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, LabError};
use crate::run::{machine_program, tail};

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// What a tree is made of.
pub(crate) struct Tree<'a> {
    /// What it is, for whoever reads an error: `the root file system`.
    pub(crate) what: &'a str,
    /// mmdebstrap's variant: `minbase` is a Debian one can run in, `extract` the files alone.
    pub(crate) variant: &'a str,
    /// The packages; what they depend on comes with them.
    pub(crate) packages: &'a [&'a str],
    /// The suites they come from; the first is the one that is bootstrapped.
    pub(crate) suites: &'a [&'a str],
    /// A shell line that is run before apt is; the tree is `$1`.
    pub(crate) setup: Option<&'a str>,
}

/// Unpacks a tree to `target`, which must not exist.
///
/// # Errors
/// It failed; what mmdebstrap said last is in the error, all of it in `log`. Nothing is left at `target`.
pub(crate) fn unpack(tree: &Tree, target: &Path, log: &Path) -> Result<(), LabError> {
    let mirror = machine_mirror();
    let log_file = fs::File::create(log).on("create", log)?;
    let suite = tree.suites.first().copied().unwrap_or_default();
    // In a pid namespace and tied to us, so that an interrupted build leaves neither process nor mount.
    let status = machine_program("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["mmdebstrap", "--mode=root", &format!("--variant={}", tree.variant)])
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .args(["doc", "man", "locale", "info"].map(|d| format!("--dpkgopt=path-exclude=/usr/share/{d}/*")))
        .args(tree.setup.map(|line| format!("--setup-hook={line}")))
        .arg(format!("--include={}", tree.packages.join(",")))
        .arg(suite)
        .arg(target)
        .args(tree.suites.iter().map(|suite| format!("deb {mirror} {suite} main")))
        .env("LC_ALL", "C.UTF-8")
        .stdin(std::process::Stdio::null())
        .stdout(log_file.try_clone().on("open", log)?)
        .stderr(log_file)
        .status()
        .doing("start mmdebstrap")?;
    if status.success() {
        return Ok(());
    }
    let _ = fs::remove_dir_all(target);
    Err(LabError::Command {
        what: format!("building {} from {mirror}", tree.what),
        command: format!("mmdebstrap {suite} (its whole output is in {})", log.display()),
        status: status.to_string(),
        stderr: tail(&fs::read_to_string(log).unwrap_or_default(), 12),
    })
}

/// The Debian mirror the machine itself installs from, so that whatever proxy or mirror it was given works for us too.
fn machine_mirror() -> String {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut files: Vec<PathBuf> = dir.flatten().map(|e| e.path()).collect();
        files.sort();
        texts.extend(
            files
                .iter()
                .filter(|f| f.extension().is_some_and(|x| x == "list" || x == "sources"))
                .filter_map(|f| fs::read_to_string(f).ok()),
        );
    }
    find_mirror(&texts).unwrap_or_else(|| DEFAULT_MIRROR.to_owned())
}

/// The first Debian archive in apt sources of either format. Other archives (security, vendors') are passed over.
fn find_mirror(texts: &[String]) -> Option<String> {
    let is_debian = |uri: &&str| {
        let uri = uri.trim_end_matches('/');
        (uri.starts_with("http://") || uri.starts_with("https://")) && uri.ends_with("/debian")
    };
    texts.iter().flat_map(|text| text.lines()).find_map(|line| {
        let line = line.trim();
        let mut words = match (line.strip_prefix("URIs:"), line.strip_prefix("deb ")) {
            (Some(uris), _) => uris.split_whitespace(),
            (None, Some(entry)) => entry.split_whitespace(),
            (None, None) => return None,
        };
        words.find(is_debian).map(|uri| uri.trim_end_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines_debian_archive_in_either_format() {
        let deb822 = "Types: deb\nURIs: https://vendor.example/apt\n\nTypes: deb\nURIs: http://mirror.example/debian/\n";
        let one_line = "# deb http://old.example/debian x main\n\
                        deb http://mirror.example/debian-security trixie-security main\n\
                        deb [signed-by=/k.gpg] https://near.example/debian trixie main\n";
        let find = |text: &str| find_mirror(&[text.to_owned()]);
        assert_eq!(find(deb822).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(find(one_line).as_deref(), Some("https://near.example/debian"));
        assert_eq!(find("deb http://archive.ubuntu.com/ubuntu noble main"), None);
    }
}
