//! The overlay on Open vSwitch.
//!
//! Two things may be under way at once: a change of ports (milliseconds, one at a time) and a change of route (well below one
//! millisecond, within the client's downtime). The second never waits for the first.

mod change;
mod queues;
mod routes;
mod walls;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::gap::{GapProbe, GapWatch};
use crate::{
    Change, CoatError, Endpoint, EndpointSpec, Health, HoldLimits, Overlay, Route, RouteEntry,
    devices::{self, Devices},
    hold::{Arrival, HoldTable},
    name, netns,
    openflow::{OfClient, Output, PacketIn, PacketSink, Sender, read_route, route_add, route_delete},
    ovsdb::{OvsdbClient, Schema},
    ports::Port,
};
use walls::Walls;

/// How this host's part of the overlay is made.
#[derive(Debug, Clone)]
pub struct OvsConfig {
    /// Where Open vSwitch has its sockets: `db.sock` and `<bridge>.mgmt`.
    pub rundir: PathBuf,
    /// The bridge; made if it is not there.
    pub bridge: String,
    /// `system` or `netdev`; `None` takes `system` where the kernel's `openvswitch` module is loaded. For a new bridge only.
    pub datapath: Option<String>,
    /// From it and the two underlay addresses each tunnel's network identifier is derived: the same on all hosts.
    pub vni: u32,
    /// This host's address on the underlay: what its peers give as `remote`.
    pub underlay: Ipv4Addr,
    /// How much is held for one address.
    pub hold: HoldLimits,
    /// For one answer of the database.
    pub ovsdb_deadline: Duration,
    /// For one answer of the switch.
    pub openflow_deadline: Duration,
    /// For the switch to open or let go of a device, and to come up.
    pub port_deadline: Duration,
}

impl OvsConfig {
    /// The defaults for a host with that underlay address.
    #[must_use]
    pub fn new(underlay: Ipv4Addr) -> Self {
        Self {
            rundir: PathBuf::from("/run/openvswitch"),
            bridge: "br-mose".to_owned(),
            datapath: None,
            vni: 77,
            underlay,
            hold: HoldLimits::default(),
            ovsdb_deadline: Duration::from_secs(5),
            openflow_deadline: Duration::from_secs(2),
            port_deadline: Duration::from_secs(10),
        }
    }

    fn validate(&self) -> Result<(), CoatError> {
        let wrong = |text: String| Err(CoatError::Config(text));
        name::validate("a bridge", &self.bridge)?;
        if self.bridge.len() > 15 {
            return wrong(format!("{} cannot name the bridge: the kernel takes 15 characters", self.bridge));
        }
        if self.vni >= 1 << 24 {
            return wrong(format!("{} is no VXLAN network identifier: take one below 2^24", self.vni));
        }
        if self.underlay.is_unspecified() || self.underlay.is_multicast() {
            return wrong(format!("{} cannot be this host's underlay address", self.underlay));
        }
        Ok(())
    }

    fn datapath(&self) -> &str {
        match &self.datapath {
            Some(datapath) => datapath,
            None if std::path::Path::new("/sys/module/openvswitch").exists() => "system",
            None => "netdev",
        }
    }
}

/// The hold as the connection's thread sees it.
struct Guard {
    holds: HoldTable,
    walls: Walls,
    /// Packets to addresses without a route that still came here.
    strays: AtomicU64,
}

impl PacketSink for Guard {
    fn packet_in(&self, packet: &PacketIn<'_>, sender: &Sender) {
        if self.walls.keeps_in(packet, sender) {
            return;
        }
        let arrival = self.holds.arrive(packet.in_port, packet.frame, |port, frame| {
            sender.packet_out(port, frame);
        });
        if matches!(arrival, Arrival::Unknown | Arrival::Returned) {
            self.strays.fetch_add(1, Ordering::Relaxed);
        }
    }
}

type Routes = BTreeMap<Ipv4Addr, (Route, u64)>;

struct Inner {
    config: OvsConfig,
    schema: Schema,
    of: OfClient,
    guard: Arc<Guard>,
    /// OpenFlow port numbers by the route that leads there.
    outputs: Mutex<HashMap<Route, u32>>,
    routes: tokio::sync::Mutex<Routes>,
    /// Held while ports are changed.
    changing: tokio::sync::Mutex<()>,
}

/// One host's part of the overlay, on its Open vSwitch bridge. Dropping it leaves everything in place but the packets held.
pub struct OvsOverlay {
    inner: Arc<Inner>,
    /// Puts the flows back when the switch comes back, for as long as the overlay is there.
    _in_step: AbortOnDropHandle<()>,
}

impl OvsOverlay {
    /// Makes the bridge if it is not there, connects, and reads back endpoints, tunnels, routes and epochs. What an earlier
    /// run left half made is removed; tunnels that a reboot took away are made again.
    ///
    /// # Errors
    /// [`CoatError::Unreachable`] if Open vSwitch does not run, [`CoatError::Config`] and what Open vSwitch or the kernel refuses.
    pub fn start(config: OvsConfig) -> BoxFuture<'static, Result<Self, CoatError>> {
        Box::pin(async move {
            config.validate()?;
            let schema = Schema {
                client: OvsdbClient::new(config.rundir.join("db.sock"), config.ovsdb_deadline),
                bridge: config.bridge.clone(),
                patience: config.port_deadline,
            };
            schema.ensure_bridge(config.datapath()).await?;
            let holds = HoldTable::new(config.hold);
            let guard = Arc::new(Guard { holds, walls: Walls::default(), strays: AtomicU64::new(0) });
            let socket = config.rundir.join(format!("{}.mgmt", config.bridge));
            let sink: Arc<dyn PacketSink> = Arc::clone(&guard) as _;
            let of = OfClient::start(&socket, config.openflow_deadline, sink)?;
            of.up(config.port_deadline).await?;
            let inner = Arc::new(Inner {
                config,
                schema,
                of,
                guard,
                outputs: Mutex::default(),
                routes: tokio::sync::Mutex::default(),
                changing: tokio::sync::Mutex::default(),
            });
            let generation = inner.of.generation();
            inner.tidy().await?;
            inner.adopt().await?;
            let in_step = tokio::spawn(keep_in_step(Arc::downgrade(&inner), generation));
            Ok(Self { inner, _in_step: AbortOnDropHandle::new(in_step) })
        })
    }

    /// Packets that came to this process for an address without a route, or that would have gone back where they came from.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.inner.guard.strays.load(Ordering::Relaxed)
    }

    /// Runs a change to its end even if the caller stops waiting, since half a change is worse than none or all. Its task has no owner,
    /// but it ends soon: database and switch answer within a deadline, and the kernel at once.
    async fn to_the_end<T, F>(&self, change: impl FnOnce(Arc<Inner>) -> F) -> Result<T, CoatError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CoatError>> + Send + 'static,
    {
        match tokio::spawn(change(Arc::clone(&self.inner))).await {
            Ok(done) => done,
            Err(error) => Err(CoatError::kernel("finish a change of the overlay", error)),
        }
    }
}

/// How it is tried again to put the flows back.
const LONGEST: Duration = Duration::from_secs(1);
const AGAIN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(LONGEST)
    .without_max_times();

/// After the switch was away its flows are gone: puts them back as soon as it answers.
async fn keep_in_step(inner: Weak<Inner>, mut generation: tokio::sync::watch::Receiver<u64>) {
    // The first connection is the one that the state was read over.
    let mut in_step = 1;
    let mut pauses = AGAIN.build();
    loop {
        let Ok(now) = generation.wait_for(|n| *n != in_step).await.map(|n| *n) else {
            return;
        };
        let Some(inner) = inner.upgrade() else { return };
        match inner.put_back().await {
            Ok(()) => {
                in_step = now;
                pauses = AGAIN.build();
                tracing::info!("the switch came back; its flows were put back");
            }
            Err(error) => {
                drop(inner);
                tracing::warn!(%error, "the switch came back, but its flows could not be put back yet");
                // A switch that comes back once more is not kept waiting.
                let pause = pauses.next().unwrap_or(LONGEST);
                let _ = tokio::time::timeout(pause, generation.wait_for(|n| *n != now)).await;
            }
        }
    }
}

impl Inner {
    fn output(&self, target: &Route) -> Option<u32> {
        let outputs = self.outputs.lock();
        outputs.get(target).copied()
    }

    fn set_output(&self, target: Route, port: Option<u32>) {
        let mut outputs = self.outputs.lock();
        match port {
            Some(port) => outputs.insert(target, port),
            None => outputs.remove(&target),
        };
    }

    /// The switch's queues are too short for a burst: they are made longer, those of a new port too. It works without, but loses
    /// more. All of the switch's descriptors are looked at, so not on an async thread.
    async fn lengthen_queues(&self) {
        let pidfile = self.config.rundir.join("ovs-vswitchd.pid");
        let lengthened = tokio::task::spawn_blocking(move || queues::lengthen(&pidfile));
        match lengthened.await.map_err(std::io::Error::other).and_then(|done| done) {
            Ok(made) => tracing::debug!(made, "the switch's queues are long enough"),
            Err(error) => tracing::warn!(%error, "the switch's queues are left as short as they are"),
        }
    }

    async fn ports(&self) -> Result<Vec<Port>, CoatError> {
        let records = self.schema.ports().await?;
        Ok(records.iter().filter_map(Port::read).collect())
    }

    fn alias(&self, name: &str) -> String {
        format!("mose:{}:{name}", self.config.bridge)
    }

    /// Removes what is recorded but not there, and what is there but not recorded.
    async fn tidy(&self) -> Result<(), CoatError> {
        let devices = Devices::here()?;
        let mut unrecorded = devices.with_alias(&self.alias("")).await?;
        for port in self.ports().await? {
            unrecorded.remove(port.device());
            let whole = match &port {
                Port::Endpoint(endpoint) => netns::exists(&endpoint.spec.name),
                Port::Tunnel { .. } => true,
            };
            if whole && devices.exists(port.device()).await? {
                continue;
            }
            tracing::warn!(link = port.device(), "recorded, but no longer there");
            self.schema.remove_port(port.device()).await?;
            match port {
                Port::Endpoint(endpoint) => {
                    devices.delete(&endpoint.host_device).await?;
                    devices::remove_namespace(&endpoint.spec.name).await?;
                }
                Port::Tunnel { host, remote, .. } => {
                    self.make_tunnel(&host, remote).await?;
                }
            }
        }
        for (device, name) in unrecorded {
            tracing::warn!(link = device, name, "left over from a change that was cut short");
            devices.delete(&device).await?;
            if device == name::endpoint_device(&self.config.bridge, &name) {
                devices::remove_empty_namespace(&name).await?;
            }
        }
        Ok(())
    }

    /// Learns the port numbers from the database.
    async fn learn_outputs(&self) -> Result<(), CoatError> {
        let mut outputs = HashMap::new();
        for port in self.ports().await? {
            match self.schema.await_ofport(port.device()).await {
                Ok(number) => {
                    outputs.insert(port.target(), number);
                }
                Err(error @ CoatError::Port { .. }) => tracing::warn!(%error, "a port is out of use"),
                Err(error) => return Err(error),
            }
        }
        *self.outputs.lock() = outputs;
        self.lengthen_queues().await;
        Ok(())
    }

    /// Reads the routes back from the flows.
    async fn adopt(&self) -> Result<(), CoatError> {
        self.learn_outputs().await?;
        let targets: HashMap<u32, Route> = {
            let outputs = self.outputs.lock();
            outputs.iter().map(|(route, port)| (*port, route.clone())).collect()
        };
        let mut routes = self.routes.lock().await;
        let (mut held, mut passing) = (Vec::new(), Vec::new());
        let flows = self.of.flows().await?;
        let mut lost = self.guard.walls.adopt(&flows, |port| match targets.get(&port) {
            Some(Route::Endpoint(name)) => Some(name.clone()),
            _ => None,
        });
        for flow in &flows {
            let Some((address, output, cookie)) = read_route(flow) else {
                continue;
            };
            let Some(epoch) = name::epoch(cookie) else { continue };
            let route = match output {
                Output::Here => {
                    held.push(address);
                    Route::Hold
                }
                Output::Port(port) => match targets.get(&port) {
                    Some(route) => {
                        passing.push((address, port));
                        route.clone()
                    }
                    None => {
                        tracing::warn!(%address, port, "its route leads to a port that is gone");
                        lost.extend(route_delete(address));
                        continue;
                    }
                },
            };
            routes.insert(address, (route, epoch));
        }
        if !lost.is_empty() {
            self.of.commit("the removal of flows to nowhere", &lost).await?;
        }
        let sender = self.of.sender()?;
        self.guard.holds.settle(&held, &passing, |port, frame| {
            sender.packet_out(port, frame);
        });
        Ok(())
    }

    /// Puts all routes in force again.
    async fn put_back(&self) -> Result<(), CoatError> {
        let _changing = self.changing.lock().await;
        self.learn_outputs().await?;
        let routes = self.routes.lock().await;
        // Before anything leads anywhere.
        let walls = self.guard.walls.flows(|endpoint| self.output(&Route::Endpoint(endpoint.to_owned())));
        if !walls.is_empty() {
            self.of.commit("the walls", &walls).await?;
        }
        self.install(&routes, |_| true).await
    }

    /// Puts routes in force as they stand in the table, with today's port numbers.
    async fn install(&self, routes: &Routes, which: impl Fn(&Route) -> bool) -> Result<(), CoatError> {
        let mut changes = Vec::new();
        for (address, (route, epoch)) in routes.iter().filter(|(_, (route, _))| which(route)) {
            let output = match route {
                Route::Hold => Output::Here,
                target => match self.output(target) {
                    Some(port) => Output::Port(port),
                    None => {
                        tracing::warn!(%address, ?target, "its route leads to a port that is gone");
                        changes.extend(route_delete(*address));
                        continue;
                    }
                },
            };
            if let Output::Port(port) = output {
                let sender = self.of.sender()?;
                self.guard.holds.release(*address, port, |port, frame| {
                    sender.packet_out(port, frame);
                });
            }
            changes.extend(route_add(*address, output, name::cookie(*epoch)?));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.of.commit("the routes", &changes).await
    }
}

#[async_trait::async_trait]
impl Overlay for OvsOverlay {
    async fn endpoints(&self) -> Result<Vec<Endpoint>, CoatError> {
        let endpoint = |port| match port {
            Port::Endpoint(endpoint) => Some(endpoint),
            Port::Tunnel { .. } => None,
        };
        let mut endpoints: Vec<_> = self.inner.ports().await?.into_iter().filter_map(endpoint).collect();
        endpoints.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        Ok(endpoints)
    }

    async fn attach(&self, spec: &EndpointSpec, epoch: u64) -> Result<Endpoint, CoatError> {
        let spec = spec.clone();
        self.to_the_end(|inner| async move { inner.attach(spec, epoch).await }).await
    }

    async fn detach(&self, name: &str) -> Result<(), CoatError> {
        let name = name.to_owned();
        self.to_the_end(|inner| async move { inner.detach(name).await }).await
    }

    async fn wall(&self, name: &str) -> Result<(), CoatError> {
        let name = name.to_owned();
        self.to_the_end(|inner| async move { inner.wall(name).await }).await
    }

    async fn route(&self, address: Ipv4Addr, route: Route, epoch: u64) -> Result<Change, CoatError> {
        self.to_the_end(|inner| async move { inner.route(address, route, epoch, None).await }).await
    }

    async fn release(
        &self,
        address: Ipv4Addr,
        route: Route,
        epoch: u64,
        begun: oneshot::Sender<()>,
    ) -> Result<Change, CoatError> {
        self.to_the_end(|inner| async move { inner.route(address, route, epoch, Some(begun)).await }).await
    }

    async fn routes(&self) -> Result<Vec<RouteEntry>, CoatError> {
        let routes = self.inner.routes.lock().await;
        let entry = |(address, (route, epoch)): (&Ipv4Addr, &(Route, u64))| RouteEntry {
            address: *address,
            route: route.clone(),
            epoch: *epoch,
        };
        Ok(routes.iter().map(entry).collect())
    }

    async fn forget(&self, address: Ipv4Addr) -> Result<(), CoatError> {
        self.to_the_end(|inner| async move { inner.forget(address).await }).await
    }

    async fn add_tunnel(&self, host: &str, remote: Ipv4Addr) -> Result<(), CoatError> {
        let host = host.to_owned();
        self.to_the_end(|inner| async move { inner.add_tunnel(host, remote).await }).await
    }

    async fn remove_tunnel(&self, host: &str) -> Result<(), CoatError> {
        let host = host.to_owned();
        self.to_the_end(|inner| async move { inner.remove_tunnel(host).await }).await
    }

    async fn health(&self) -> Option<Health> {
        let (database, switch) = tokio::join!(self.inner.schema.recorded(), self.inner.of.flows());
        let bridge = self.inner.config.bridge.clone();
        Some(Health { bridge, database, switch: switch.map(|flows| flows.len()) })
    }

    async fn held(&self, address: Ipv4Addr) -> (u64, u64) {
        self.inner.guard.holds.held(address)
    }

    fn watch(&self, endpoint: &Endpoint, service: Ipv4Addr) -> Result<Box<dyn GapWatch>, CoatError> {
        Ok(Box::new(GapProbe::start(&endpoint.host_device, service)?))
    }
}
