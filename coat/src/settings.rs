//! Settings of a network namespace (sysctl).

use std::io;
use std::path::{Path, PathBuf};

/// Gives the namespace that a file stands for, such as `/run/netns/NAME`, these settings, each by its name (`net.ipv4.ip_forward`) and
/// its value. Blocks, for some tenths of a millisecond.
///
/// # Errors
/// There is no such namespace, or this process may not enter it; a setting is not one of network namespaces, or does not take its value.
pub fn apply(namespace: &Path, settings: Vec<(String, String)>) -> io::Result<()> {
    crate::netns::within_file(namespace, move || {
        for (name, value) in settings {
            let path = place(&name)?;
            std::fs::write(&path, &value)
                .map_err(|error| io::Error::new(error.kind(), format!("{name} = {value}: {error}")))?;
        }
        Ok(())
    })
}

/// Where a setting is written. Its name is Podman's: parts between dots, or between slashes where a part has a dot in it (sysctl(8)).
fn place(name: &str) -> io::Result<PathBuf> {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let sound = path.starts_with("net/") && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if sound {
        Ok(Path::new("/proc/sys").join(path))
    } else {
        Err(io::Error::other(format!("{name} is no setting of a network namespace")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_network_namespaces_have_a_place() {
        let there = |name: &str| place(name).ok().map(|path| path.display().to_string());
        assert_eq!(there("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(
            there("net/ipv4/conf/eth0.1/forwarding").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.1/forwarding"
        );
        for other in ["kernel.shmmax", "net", "net/../kernel/panic", "net..x", ""] {
            assert_eq!(there(other), None, "{other}");
        }
    }
}
