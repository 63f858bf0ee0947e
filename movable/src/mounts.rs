//! The mounts of the container: kinds of file systems that CRIU cannot restore, and which of them hide others.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mose_protocol::check::Severity::Blocks;

use super::collected::Findings;
use super::task::Task;

/// The most mounts that are looked at.
const MOST: usize = 16_384;

/// File systems that CRIU mounts anew when a service has mounted them itself.
const KNOWN: [&str; 16] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "binfmt_misc",
    "tmpfs",
    "devpts",
    "simfs",
    "pstore",
    "mqueue",
    "securityfs",
    "fusectl",
    "debugfs",
    "tracefs",
    "cgroup",
    "cgroup2",
    "aufs",
];

/// One mount (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    id: u64,
    parent: u64,
    /// The device, as `stat` tells it.
    pub(super) device: u64,
    /// Where.
    pub(super) point: PathBuf,
    kind: String,
}

/// All mounts of a mount namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Mounts {
    all: Vec<Mount>,
    by_id: HashMap<u64, usize>,
}

impl Mounts {
    /// Those that a process sees.
    pub(super) fn of(task: &Task) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(task.file("mountinfo"))?))
    }

    /// Those that any of the processes sees: a descriptor may come from a mount namespace that its holder has left.
    pub(super) fn of_all(tasks: &[Task]) -> Self {
        let mut known = HashSet::new();
        let mut text = String::new();
        for task in tasks {
            if let Ok(namespace) = fs::read_link(task.file("ns/mnt"))
                && known.insert(namespace)
            {
                text.push_str(&fs::read_to_string(task.file("mountinfo")).unwrap_or_default());
            }
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let all: Vec<Mount> = text.lines().take(MOST).filter_map(mount).collect();
        let by_id = all.iter().enumerate().map(|(index, mount)| (mount.id, index)).collect();
        Self { all, by_id }
    }

    fn get(&self, id: u64) -> Option<&Mount> {
        self.by_id.get(&id).map(|index| &self.all[*index])
    }

    /// Whether a mount of that id is there at all.
    pub(super) fn has(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Whether another mount lies over it, or over a mount that it is on.
    pub(super) fn covered(&self, id: u64) -> bool {
        let mut at = self.get(id);
        // What lies over a mount does not hide itself, nor what is on it.
        let mut through = id;
        for _ in 0..MOST {
            let Some(mount) = at else { return false };
            let over = |other: &&Mount| {
                other.id != mount.id
                    && other.id != through
                    && (other.parent == mount.id && other.point == mount.point
                        || other.parent == mount.parent
                            && other.point != mount.point
                            && mount.point.starts_with(&other.point)
                            && other.id > mount.id)
            };
            if self.all.iter().any(|other| over(&other)) {
                return true;
            }
            through = mount.id;
            at = self.get(mount.parent).filter(|parent| parent.id != mount.id);
        }
        false
    }

    /// Those of a device, the first at the container's root first.
    pub(super) fn on_device(&self, device: u64) -> impl Iterator<Item = &Mount> {
        self.all.iter().filter(move |mount| mount.device == device)
    }
}

/// One line of `mountinfo`.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
    let _root = fields.next()?;
    let point = plain(fields.next()?).into();
    Some(Mount { id, parent, device, point, kind: right.split(' ').next()?.to_owned() })
}

/// A path of `mountinfo` as it is: there, blanks and the like are octal escapes.
#[must_use]
pub fn plain(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |text, (escape, is)| text.replace(escape, is))
}

/// Looks at the mounts that the service made: those at none of the `places` that the container was created with, nor parts of
/// what is at one.
pub(super) fn look(first: &Task, mounts: &Mounts, places: &[PathBuf], findings: &mut Findings) {
    let given = |mount: &Mount| mount.point == Path::new("/") || places.contains(&mount.point);
    for mount in &mounts.all {
        let part = mounts.on_device(mount.device).any(given);
        let kind = mount.kind.split('.').next().unwrap_or(&mount.kind);
        if part || KNOWN.contains(&kind) {
            continue;
        }
        findings.add(
            Blocks,
            &first.told,
            &format!("mount of {} at {}", mount.kind, mount.point.display()),
            "the service mounted it itself, and CRIU cannot mount such a file system again",
            "unmount it, or give it to the container from outside (podman run --volume)",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
300 200 0:50 / / rw - overlay overlay rw
301 300 0:51 / /proc rw - proc proc rw
302 300 0:52 / /tmp/a\\040b rw - tmpfs tmpfs rw
303 302 0:53 / /tmp/a\\040b rw - tmpfs tmpfs rw
304 302 0:54 / /tmp/a\\040b/below rw - tmpfs tmpfs rw
305 300 0:55 / /tmp/fuse rw - fuse.sshfs x rw
306 300 0:56 / /tmp/ram rw - ramfs x rw
307 300 0:50 /data /tmp/again rw - overlay overlay rw
308 300 0:57 / /volume rw - nfs4 x:/ rw
";

    #[test]
    fn a_mount_under_another_is_covered() {
        let mounts = Mounts::parse(MOUNTINFO);
        assert!(mounts.covered(302) && mounts.covered(304), "303 lies over it, and over what is on it");
        assert!(!mounts.covered(303) && !mounts.covered(300) && !mounts.covered(301));
        assert!(mounts.has(305) && !mounts.has(999));
    }

    #[test]
    fn what_the_service_mounted_and_criu_cannot_is_named_by_its_place() {
        let task = Task::of(std::process::id()).unwrap();
        let mut findings = Findings::default();
        look(&task, &Mounts::parse(MOUNTINFO), &["/volume".into()], &mut findings);
        let told: Vec<String> = findings.told().into_iter().map(|finding| finding.resource).collect();
        assert_eq!(told, ["mount of fuse.sshfs at /tmp/fuse", "mount of ramfs at /tmp/ram"]);
    }
}
