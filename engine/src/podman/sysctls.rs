//! Settings of the network namespace (sysctl) that a container was given.
//!
//! The OCI runtime sets them when it creates a container; a restore does not. A service that is taken back gets a new namespace, which
//! has none of them.

use std::io;
use std::path::Path;

use serde_json::Value;

/// The settings of the network namespace, by the container's OCI configuration.
fn of_network(runtime: &Value) -> Vec<(String, String)> {
    let settings = runtime["linux"]["sysctl"].as_object().into_iter().flatten();
    let network = settings.filter(|(name, _)| name.starts_with("net.") || name.starts_with("net/"));
    network.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// Sets them again.
pub(super) fn set(runtime: &Value, namespace: &Path) -> io::Result<()> {
    let settings = of_network(runtime);
    if settings.is_empty() { Ok(()) } else { mose_coat::settings::apply(namespace, settings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_other_namespaces_are_left_alone() {
        let runtime = serde_json::json!({"linux": {"sysctl": {
            "net.ipv4.ping_group_range": "0 0", "kernel.shmmax": "1", "net/core/somaxconn": "7",
        }}});
        let mut settings = of_network(&runtime);
        settings.sort();
        let wanted = [("net.ipv4.ping_group_range", "0 0"), ("net/core/somaxconn", "7")];
        assert_eq!(settings, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(of_network(&serde_json::json!({})), []);
    }
}
