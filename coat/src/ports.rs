//! Ports of the bridge as the overlay knows them, and how they are written into the database.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{Endpoint, EndpointSpec, Route, netns, ovsdb::PortRecord};

const ENDPOINT: &str = "mose-endpoint";
const ADDRESS: &str = "mose-address";
const MAC: &str = "mose-mac";
/// The hand-over an endpoint was attached for.
pub(crate) const EPOCH: &str = "mose-epoch";
const TUNNEL: &str = "mose-tunnel";
const REMOTE: &str = "mose-remote";

/// What a port of the bridge is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Port {
    Endpoint(Endpoint),
    Tunnel { host: String, remote: Ipv4Addr, device: String },
}

impl Port {
    /// Reads a port back; `None` if somebody changed what was written.
    pub(crate) fn read(record: &PortRecord) -> Option<Self> {
        let get = |key: &str| record.ids.get(key);
        let device = record.device.clone();
        if let Some(host) = get(TUNNEL) {
            return Some(Self::Tunnel { host: host.clone(), remote: get(REMOTE)?.parse().ok()?, device });
        }
        let name = get(ENDPOINT)?.clone();
        Some(Self::Endpoint(Endpoint {
            netns: netns::path(&name),
            host_device: device,
            epoch: get(EPOCH)?.parse().ok()?,
            spec: EndpointSpec { name, address: get(ADDRESS)?.parse().ok()?, mac: get(MAC)?.parse().ok()? },
        }))
    }

    /// The device.
    pub(crate) fn device(&self) -> &str {
        match self {
            Self::Endpoint(endpoint) => &endpoint.host_device,
            Self::Tunnel { device, .. } => device,
        }
    }

    /// The route that leads to it.
    pub(crate) fn target(&self) -> Route {
        match self {
            Self::Endpoint(endpoint) => Route::Endpoint(endpoint.spec.name.clone()),
            Self::Tunnel { host, .. } => Route::Tunnel(host.clone()),
        }
    }
}

fn ids<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

/// What is written of an endpoint.
pub(crate) fn endpoint_ids(spec: &EndpointSpec, epoch: u64) -> BTreeMap<String, String> {
    ids([
        (ENDPOINT, spec.name.clone()),
        (ADDRESS, spec.address.to_string()),
        (MAC, spec.mac.to_string()),
        (EPOCH, epoch.to_string()),
    ])
}

/// What is written of a tunnel.
pub(crate) fn tunnel_ids(host: &str, remote: Ipv4Addr) -> BTreeMap<String, String> {
    ids([(TUNNEL, host.to_owned()), (REMOTE, remote.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ids: BTreeMap<String, String>) -> PortRecord {
        PortRecord { device: "mo-1".to_owned(), ofport: Some(1), error: None, ids }
    }

    #[test]
    fn an_endpoint_is_read_back_as_it_was_written() {
        let spec = EndpointSpec::new("web", "10.77.0.20/24".parse().unwrap());
        let Some(Port::Endpoint(read)) = Port::read(&record(endpoint_ids(&spec, 7))) else {
            panic!("no endpoint");
        };
        assert_eq!((read.spec, read.epoch, read.host_device.as_str()), (spec, 7, "mo-1"));
        assert_eq!(read.netns.to_str(), Some("/run/netns/web"));
    }

    #[test]
    fn a_tunnel_is_read_back_and_a_damaged_record_is_not() {
        let mut ids = tunnel_ids("b", Ipv4Addr::LOCALHOST);
        let port = Port::read(&record(ids.clone())).unwrap();
        assert_eq!(port.target(), Route::Tunnel("b".to_owned()));
        ids.insert(REMOTE.to_owned(), "x".to_owned());
        assert_eq!(Port::read(&record(ids)), None);
    }
}
