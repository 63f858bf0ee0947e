//! The state of a container that lies beside its root file system: volumes, the files of `/dev/shm`, its log, and what Podman makes
//! for it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use mose_pam::Bytes;
use mose_protocol::Refusal;
use nix::mount::{MsFlags, mount};
use serde_json::Value;

use super::{io_refusal, own_files, processes, space, volumes};
use crate::{Container, StateTree};

/// What the tree of `/dev/shm` is called.
const SHM: &str = "/dev/shm";

/// What the tree of a container's log is called.
const LOG: &str = "log";

/// The trees of a container, by its inspection and its OCI configuration.
pub(super) fn trees(inspect: &Value, runtime: &Value) -> Vec<StateTree> {
    let mut trees = Vec::new();
    if let Some(path) = shm(inspect, runtime) {
        trees.push(StateTree::whole(SHM, path));
    }
    for (name, path) in volumes::places(inspect) {
        trees.push(StateTree::whole(&volumes::tree_name(&name), path));
    }
    trees.extend(own_files::trees(runtime, inspect["Id"].as_str().unwrap_or_default()));
    trees.extend(log(inspect));
    trees
}

/// The log of a container, if it is a file of Podman's: conmon writes it until the container's end.
fn log(inspect: &Value) -> Option<StateTree> {
    let path = PathBuf::from(inspect["StaticDir"].as_str()?);
    let driver = inspect["HostConfig"]["LogConfig"]["Type"].as_str().unwrap_or_default();
    matches!(driver, "k8s-file" | "json-file").then(|| StateTree {
        name: LOG.to_owned(),
        path,
        only: Some(vec![OsString::from("ctr.log")]),
        until_gone: true,
    })
}

/// What trees take on their disks and in memory; `None` where there are none, or they are empty.
pub(super) async fn size(trees: Vec<StateTree>) -> Result<Option<Bytes>, Refusal> {
    let sizes = tokio::task::spawn_blocking(move || {
        trees
            .iter()
            .map(|tree| match &tree.only {
                None => space::taken(&tree.path).map(|(bytes, _)| bytes.0),
                Some(names) => {
                    let found = names.iter().filter_map(|name| fs::metadata(tree.path.join(name)).ok());
                    Ok(found.map(|file| file.len()).sum())
                }
            })
            .sum::<std::io::Result<u64>>()
    });
    let size = sizes.await.map_err(std::io::Error::other).and_then(|size| size);
    let size = size.map_err(|error| io_refusal("the service's files cannot be measured", &error))?;
    Ok((size > 0).then_some(Bytes(size)))
}

/// Where Podman keeps the container's `/dev/shm`, if it is Podman's own tmpfs: CRIU takes that for the host's, and leaves its files
/// where they are.
fn shm(inspect: &Value, runtime: &Value) -> Option<PathBuf> {
    let mounts = runtime["mounts"].as_array()?;
    let mount = mounts.iter().find(|mount| mount["destination"] == SHM && mount["type"] == "bind")?;
    let source = Path::new(mount["source"].as_str()?);
    source.starts_with(inspect["StaticDir"].as_str()?).then(|| source.to_owned())
}

/// Mounts the `/dev/shm` of a container that does not run, so that its files can be put there; Podman takes it as it is when it
/// restores, and unmounts it when it removes the container.
pub(super) fn mount_shm(inspect: &Value, runtime: &Value) -> Result<(), Refusal> {
    let Some(path) = shm(inspect, runtime) else { return Ok(()) };
    let refusal = |error: std::io::Error| io_refusal("the container's /dev/shm cannot be made", &error);
    let mounted = fs::read_to_string("/proc/self/mountinfo").map_err(refusal)?;
    let place = path.to_string_lossy();
    if mounted.lines().any(|line| line.split(' ').nth(4) == Some(&*place)) {
        return Ok(());
    }
    fs::create_dir_all(&path).map_err(refusal)?;
    let label = inspect["MountLabel"].as_str().filter(|label| !label.is_empty());
    let size = inspect["HostConfig"]["ShmSize"].as_u64().unwrap_or(64 << 20);
    let label = label.map(|label| format!(",context=\"{label}\"")).unwrap_or_default();
    let options = format!("mode=1777,size={size}{label}");
    let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("shm"), &path, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|errno| refusal(errno.into()))
}

/// The inode numbers of the files that the container's processes have mapped shared and writable.
pub(super) fn mapped(container: &Container) -> HashSet<u64> {
    let pids = container.pid.map(processes::tree).unwrap_or_default();
    let maps = pids.into_iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/maps")).ok());
    maps.flat_map(|maps| maps.lines().filter_map(shared_and_writable).collect::<Vec<_>>()).collect()
}

/// The inode number of a line of `/proc/PID/maps` (proc_pid_maps(5)) that is a shared and writable mapping of a file.
fn shared_and_writable(line: &str) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let rights = fields.next()?;
    let inode = fields.nth(2)?.parse().ok().filter(|inode| *inode > 0)?;
    (rights.contains('w') && rights.ends_with('s')).then_some(inode)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_podmans_own_shm_is_a_tree() {
        let inspect = json!({"StaticDir": "/s/userdata", "Mounts": []});
        let with = |mount: Value| trees(&inspect, &json!({ "mounts": [mount] }));
        let own = json!({"destination": "/dev/shm", "type": "bind", "source": "/s/userdata/shm"});
        assert_eq!(with(own)[0].path, Path::new("/s/userdata/shm"));
        let tmpfs = json!({"destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs"});
        let hosts = json!({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm"});
        for other in [tmpfs, hosts] {
            assert!(with(other).iter().all(|tree| tree.name != SHM));
        }
    }

    #[test]
    fn a_log_is_a_tree_where_it_is_a_file() {
        let has_log = |driver: &str| {
            let log = json!({"LogConfig": {"Type": driver}});
            let trees = trees(&json!({"StaticDir": "/s", "HostConfig": log}), &Value::Null);
            trees.iter().any(|tree| tree.name == LOG && tree.until_gone)
        };
        assert!(has_log("k8s-file") && has_log("json-file"));
        assert!(!has_log("journald") && !has_log("none"));
    }

    #[test]
    fn a_mapping_counts_where_it_is_shared_writable_and_of_a_file() {
        let inode = |line| shared_and_writable(line);
        assert_eq!(inode("7f00-7f01 rw-s 00000000 08:01 1234    /data/db-shm"), Some(1234));
        assert_eq!(inode("7f00-7f01 r--s 00000000 08:01 1234    /data/db-shm"), None);
        assert_eq!(inode("7f00-7f01 rw-p 00000000 08:01 1234    /data/db"), None);
        assert_eq!(inode("7f00-7f01 rw-s 00000000 00:00 0 "), None);
    }
}
