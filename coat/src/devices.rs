//! Network devices over rtnetlink: veth pairs, VXLAN devices, addresses.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
};

use futures_util::TryStreamExt;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};
use tokio::task::JoinHandle;

use crate::{CoatError, EndpointSpec, netns, offload};

/// Fits an underlay of 1500 with VXLAN's 50 bytes.
pub(crate) const MTU: u32 = 1450;
/// The device inside a namespace.
pub(crate) const INNER: &str = "eth0";
/// VXLAN's registered port.
pub(crate) const VXLAN_PORT: u16 = 4789;
/// `lo` is a namespace's first device.
const LOOPBACK_INDEX: u32 = 1;

/// An rtnetlink connection into one network namespace.
pub(crate) struct Devices {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Devices {
    fn drop(&mut self) {
        // The socket keeps its namespace alive.
        self.task.abort();
    }
}

/// What the kernel answered, without the wording of netlink libraries.
fn reason(error: &Error) -> String {
    match error {
        Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    }
}

fn errno(error: &Error) -> Option<i32> {
    match error {
        Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}

fn refused(what: String) -> impl FnOnce(Error) -> CoatError {
    move |error| CoatError::kernel(what, reason(&error))
}

async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, CoatError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .and_then(|done| done)
        .map_err(|e| CoatError::kernel(what, e))
}

/// Asks for a neighbour's MAC ten times as often as Linux does by itself, for as long, and keeps more packets for it meanwhile.
///
/// After a move the service's namespace is new and knows nobody. One ARP request that gets lost (a busy userspace datapath drops the
/// first packet of a flow now and then) would cost the client a second. And until the first one is answered the kernel keeps 208 KiB
/// for the neighbour, some 250 small packets: of the answers to 500 connections half were lost, and came a second later.
fn quicken_neighbours() {
    for (setting, value) in [
        ("retrans_time_ms", "100"),
        ("mcast_solicit", "30"),
        ("ucast_solicit", "30"),
        ("unres_qlen_bytes", "33554432"),
    ] {
        let path = format!("/proc/sys/net/ipv4/neigh/{INNER}/{setting}");
        if let Err(error) = std::fs::write(&path, value) {
            tracing::debug!(path, %error, "left as it is");
        }
    }
}

impl Devices {
    /// Into this process's namespace.
    pub(crate) fn here() -> Result<Self, CoatError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| CoatError::kernel("open an rtnetlink socket", e))?;
        let task = tokio::spawn(connection);
        Ok(Self { handle, task })
    }

    /// Into a named namespace: the socket belongs to the namespace of the thread that opens it, whoever uses it then.
    async fn inside(namespace: &str) -> Result<Self, CoatError> {
        let name = namespace.to_owned();
        let runtime = tokio::runtime::Handle::current();
        let what = format!("open an rtnetlink socket in namespace {namespace}");
        let (connection, handle) = blocking(&what, move || {
            netns::within(&name, move || {
                let _entered = runtime.enter();
                let (connection, handle, _) = rtnetlink::new_connection()?;
                Ok((connection, handle))
            })
        })
        .await?;
        let task = tokio::spawn(connection);
        Ok(Self { handle, task })
    }

    async fn find(&self, device: &str) -> Result<Option<LinkMessage>, CoatError> {
        let mut found = self.handle.link().get().match_name(device).execute();
        match found.try_next().await {
            Ok(message) => Ok(message),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(refused(format!("look for device {device}"))(error)),
        }
    }

    /// Whether there is a device of that name.
    pub(crate) async fn exists(&self, device: &str) -> Result<bool, CoatError> {
        Ok(self.find(device).await?.is_some())
    }

    /// Removes a device; does nothing if there is none.
    pub(crate) async fn delete(&self, device: &str) -> Result<(), CoatError> {
        let Some(message) = self.find(device).await? else {
            return Ok(());
        };
        match self.handle.link().del(message.header.index).execute().await {
            Err(error) if errno(&error) != Some(libc::ENODEV) => {
                Err(refused(format!("remove device {device}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// The devices that carry an alias beginning so, with what follows in it.
    pub(crate) async fn with_alias(&self, prefix: &str) -> Result<HashMap<String, String>, CoatError> {
        let devices: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(refused("list devices".to_owned()))?;
        let name = |message: LinkMessage| {
            let (mut name, mut rest) = (None, None);
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(text) => name = Some(text),
                    LinkAttribute::IfAlias(alias) => rest = alias.strip_prefix(prefix).map(str::to_owned),
                    _ => {}
                }
            }
            name.zip(rest)
        };
        Ok(devices.into_iter().filter_map(name).collect())
    }

    async fn set(&self, what: String, message: LinkMessage) -> Result<(), CoatError> {
        self.handle.link().set(message).execute().await.map_err(refused(what))
    }

    /// Marks a device as ours, for the sweep at start.
    pub(crate) async fn set_alias(&self, device: &str, alias: &str) -> Result<(), CoatError> {
        let message = LinkUnspec::new_with_name(device).alias(alias).build();
        self.set(format!("name the owner of device {device}"), message).await
    }

    /// Makes an endpoint's veth pair: `device` here and up, the other end in the endpoint's namespace with its addresses and up.
    pub(crate) async fn add_endpoint(&self, device: &str, spec: &EndpointSpec) -> Result<(), CoatError> {
        let namespace = std::fs::File::open(netns::path(&spec.name))
            .map_err(|e| CoatError::kernel(format!("open namespace {}", spec.name), e))?;
        let peer = LinkMessageBuilder::<LinkUnspec>::default()
            .name(INNER)
            .mtu(MTU)
            .address(spec.mac.octets().to_vec())
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(device)
            .mtu(MTU)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle
            .link()
            .add(pair)
            .execute()
            .await
            .map_err(refused(format!("make the devices of endpoint {}", spec.name)))?;
        drop(namespace);
        let (name, outer) = (spec.name.clone(), device.to_owned());
        blocking("switch offloads off", move || {
            offload::switch_off(&outer)?;
            netns::within(&name, || {
                quicken_neighbours();
                offload::switch_off(INNER)
            })
        })
        .await?;
        Self::inside(&spec.name).await?.configure_inner(spec).await?;
        let up = LinkUnspec::new_with_name(device).up().build();
        self.set(format!("switch device {device} on"), up).await
    }

    async fn configure_inner(&self, spec: &EndpointSpec) -> Result<(), CoatError> {
        let name = &spec.name;
        let lo = LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build();
        self.set(format!("switch lo on in namespace {name}"), lo).await?;
        let missing = || CoatError::kernel(format!("find {INNER} in namespace {name}"), "it is not there");
        let index = self.find(INNER).await?.ok_or_else(missing)?.header.index;
        let up = LinkUnspec::new_with_index(index).up().build();
        self.set(format!("switch {INNER} on in namespace {name}"), up).await?;
        self.handle
            .address()
            .add(index, IpAddr::V4(spec.address.addr()), spec.address.prefix_len())
            .execute()
            .await
            .map_err(refused(format!("give endpoint {name} the address {}", spec.address)))
    }

    /// Makes the VXLAN device to a peer.
    pub(crate) async fn add_vxlan(
        &self,
        device: &str,
        vni: u32,
        local: Ipv4Addr,
        remote: Ipv4Addr,
    ) -> Result<(), CoatError> {
        let message =
            LinkVxlan::new(device, vni).remote(remote).local(local).port(VXLAN_PORT).learning(false).build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(refused(format!("make the tunnel to {remote} (VXLAN {vni}, UDP port {VXLAN_PORT})")))?;
        let outer = device.to_owned();
        blocking("switch offloads off", move || offload::switch_off(&outer)).await?;
        let up = LinkUnspec::new_with_name(device).mtu(MTU).up().build();
        self.set(format!("switch device {device} on"), up).await
    }
}

/// Makes a namespace. One of that name that can only be an earlier attempt's is replaced.
pub(crate) async fn make_namespace(name: &str) -> Result<(), CoatError> {
    let what = format!("make namespace {name}");
    let made = {
        let name = name.to_owned();
        blocking(&what, move || match netns::create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|_| true),
        })
        .await?
    };
    if made {
        return Ok(());
    }
    if netns::exists(name) && !only_loopback(name).await? {
        return Err(CoatError::ForeignNamespace { path: netns::path(name) });
    }
    let name = name.to_owned();
    blocking(&what, move || {
        netns::remove(&name)?;
        netns::create(&name).map(drop)
    })
    .await
}

/// Whether a namespace has no device but `lo`: what is left when an attempt ended between its first two steps, or when the
/// outer end of the pair was removed.
async fn only_loopback(name: &str) -> Result<bool, CoatError> {
    let inside = Devices::inside(name).await?;
    let devices: Vec<LinkMessage> = inside
        .handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(refused(format!("list the devices of namespace {name}")))?;
    Ok(devices.iter().all(|device| device.header.index == LOOPBACK_INDEX))
}

/// Removes a namespace's name.
pub(crate) async fn remove_namespace(name: &str) -> Result<(), CoatError> {
    let owned = name.to_owned();
    blocking(&format!("remove namespace {name}"), move || netns::remove(&owned)).await
}

/// Removes a namespace's name if nothing but `lo` is in it.
pub(crate) async fn remove_empty_namespace(name: &str) -> Result<(), CoatError> {
    if netns::exists(name) && only_loopback(name).await? {
        return remove_namespace(name).await;
    }
    Ok(())
}
