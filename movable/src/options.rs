//! What CRIU's configuration on this host lets it do: options that Podman and runc never give.

use std::fs;

use mose_protocol::doctor::Check;

/// Deleted files up to this size are dumped unless the configuration says otherwise.
const DEFAULT_GHOST_LIMIT: u64 = 1 << 20;

/// Where CRIU looks for the paths of watched files (irmap, the part of CRIU that finds paths of inodes).
const HINTS: [&str; 7] = [
    "/etc",
    "/var/spool",
    "/var/log",
    "/usr/share/dbus-1/services",
    "/usr/share/dbus-1/system-services",
    "/var/lib/polkit-1/localauthority",
    "/usr/share/polkit-1/actions",
];

/// What the check needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The largest deleted file that is dumped, in bytes.
    pub ghost_limit: u64,
    /// Whether a file whose name is gone, and which has another, is given a name for the while.
    pub link_remap: bool,
    /// Folders in which a watched file is looked for.
    pub watched_in: Vec<String>,
}

impl Options {
    /// As CRIU reads them: later lines win, and the first file that is there.
    #[must_use]
    pub fn read(files: &[&str]) -> Self {
        Self::parse(&files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut options = Self {
            ghost_limit: DEFAULT_GHOST_LIMIT,
            link_remap: false,
            watched_in: HINTS.map(str::to_owned).to_vec(),
        };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim().trim_start_matches("--");
            let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
            let value = line[end..].trim_start_matches(|c: char| c.is_whitespace() || c == '=').trim();
            match &line[..end] {
                "ghost-limit" => options.ghost_limit = size(value).unwrap_or(options.ghost_limit),
                "link-remap" => options.link_remap = true,
                "irmap-scan-path" if value.starts_with('/') => options.watched_in.push(value.to_owned()),
                _ => {}
            }
        }
        options
    }

    /// What they mean for services here.
    #[must_use]
    pub fn check(&self) -> Check {
        const WHAT: &str = "CRIU options";
        let mut lacking = Vec::new();
        if !self.link_remap {
            lacking.push("link-remap");
        }
        if self.ghost_limit <= DEFAULT_GHOST_LIMIT {
            lacking.push("ghost-limit 1G");
        }
        if lacking.is_empty() {
            let found = format!("deleted files move up to {}", mose_pam::Bytes(self.ghost_limit));
            return Check::ok(WHAT, found);
        }
        Check::fallback(
            WHAT,
            format!("/etc/criu/runc.conf lacks {}", lacking.join(" and ")),
            "a service that has a deleted file of more than 1 MiB open, or a program or library that was replaced since it \
             began, is refused",
            format!("add a line each there: {}", lacking.join(", ")),
        )
    }
}

/// A size as CRIU reads it: a number with a unit of 1024.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].chars().next() {
        None => 0,
        Some('K' | 'k') => 10,
        Some('M' | 'm') => 20,
        Some('G' | 'g') => 30,
        Some(_) => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use mose_protocol::doctor::CheckState;

    use super::*;

    #[test]
    fn options_are_read_as_criu_reads_them() {
        let none = Options::parse("network-lock nftables\n# link-remap\n");
        assert_eq!((none.ghost_limit, none.link_remap, none.watched_in.len()), (1 << 20, false, 7));
        assert_eq!(none.check().state, CheckState::Fallback);
        let all =
            Options::parse("ghost-limit 2M\n--link-remap\nghost-limit=1G # more\nirmap-scan-path /tmp\n");
        assert_eq!((all.ghost_limit, all.link_remap), (1 << 30, true));
        assert_eq!(all.watched_in.last().map(String::as_str), Some("/tmp"));
        assert_eq!(all.check().state, CheckState::Ok);
        assert_eq!(size("12x"), None);
        assert_eq!(Options::read(&["/nowhere/runc.conf"]), none);
    }
}
