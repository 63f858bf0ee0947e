//! The profile of the links to the other edge hosts: capacity, use, round-trip time.
//!
//! Every few seconds each link's round-trip time is measured, and the interfaces' counters at both ends are compared: what left
//! here and arrived there is what others use. Once a minute a burst that lasts some thirty milliseconds on the link, of
//! four mebibytes at most, tells the capacity: far less than a thousandth of what the link carries. Migrations add what their
//! transfers got. While a migration comes to or leaves either host, nothing is measured.

mod estimate;
mod interface;
mod known;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use mose_bus::peers::{Peers, QUICK, Requests};
use mose_driver::HandOvers;
use mose_pam::{BitsPerSec, Bytes, Millis};
use mose_protocol::agent::{Capability, Hello, Role};
use mose_protocol::link::{LinkMetrics, MAX_BURST, ProbeOffer, ProbeOrder, RttFrom};
use mose_protocol::record::Record;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::Config;
use crate::surroundings::Surroundings;
use estimate::{Burst, Counters};
use known::KnownLinks;

/// How often a link's round-trip time and use are measured; with many peers, as often as [`SPACING`] lets.
const PERIOD: Duration = Duration::from_secs(3);
/// The least time between two measurements of this agent.
const SPACING: Duration = Duration::from_millis(100);
/// How many bursts it takes until a link counts as known.
const BURSTS: usize = 3;
/// Bursts until one tells something, starting from the shortest.
const ATTEMPTS: usize = 5;
/// How long use is watched for a measurement on demand.
const WATCH: Duration = Duration::from_millis(500);
/// The longest that a measurement on demand may take.
const ON_DEMAND: Duration = Duration::from_secs(8);
/// Measurements that this host serves at the same time, so that no two bursts meet here.
const SERVED: usize = 1;
/// How often, and how long apart, it is tried to measure at a host that serves another.
const TRIES: usize = 10;
const TRY_EVERY: Duration = Duration::from_millis(150);

/// The links of this host to the other edge hosts.
pub(crate) struct Links {
    config: Config,
    requests: Requests,
    peers: Peers,
    hand_overs: Arc<HandOvers>,
    surroundings: Arc<dyn Surroundings>,
    known: KnownLinks,
    /// Held while this host measures.
    measuring: tokio::sync::Mutex<()>,
    serving: Arc<Semaphore>,
}

impl Links {
    /// Of none is anything known yet. They are not measured while `hand_overs` move something.
    pub(crate) fn new(
        config: Config,
        requests: Requests,
        peers: Peers,
        hand_overs: Arc<HandOvers>,
        surroundings: Arc<dyn Surroundings>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            requests,
            peers,
            hand_overs,
            surroundings,
            known: KnownLinks::default(),
            measuring: tokio::sync::Mutex::default(),
            serving: Arc::new(Semaphore::new(SERVED)),
        })
    }

    /// What a migration's transfer shows of its link, if it was held up by nothing else.
    pub(crate) fn transferred(&self, record: &Record) {
        self.known.transferred(record);
    }

    /// What is known of the links to the other edge hosts.
    pub(crate) fn metrics(&self) -> Vec<LinkMetrics> {
        let now = Timestamp::now();
        let peers = self.edges();
        let measured = self.known.lock();
        let metrics = |peer: &Hello| match self.surroundings.link(&peer.host) {
            Some(known) => known.ok(),
            None => measured.get(&peer.host).map(|known| known.estimate.metrics(&peer.host, now)),
        };
        peers.iter().filter_map(metrics).collect()
    }

    /// What is known of the link to one host, also to one that is gone.
    pub(crate) fn to(&self, host: &HostName) -> Option<LinkMetrics> {
        match self.surroundings.link(host) {
            Some(known) => known.ok(),
            None => {
                let measured = self.known.lock();
                measured.get(host).map(|known| known.estimate.metrics(host, Timestamp::now()))
            }
        }
    }

    /// The other edge hosts that are live, by name.
    fn edges(&self) -> Vec<Hello> {
        if self.config.role != Role::Edge {
            return Vec::new();
        }
        let mut peers = self.peers.live();
        peers.retain(|peer| peer.capabilities.contains(&Capability::Containers));
        peers.sort_by(|a, b| a.host.cmp(&b.host));
        peers
    }

    fn not_while_migrating(&self) -> Result<(), Refusal> {
        if !self.hand_overs.any_moves() {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::Conflict,
            format!(
                "a migration is under way at {}, and its link is not measured meanwhile",
                self.config.host
            ),
            "wait for its end (`mose watch`)",
        ))
    }

    /// Measures every link, one after another, for ever; what past migrations told counts first.
    pub(crate) async fn keep_measuring(self: Arc<Self>, past: Vec<Record>) {
        for record in past {
            self.transferred(&record);
        }
        loop {
            let peers = self.edges();
            let pause = PERIOD / u32::try_from(peers.len().max(1)).unwrap_or(u32::MAX);
            for peer in &peers {
                tokio::time::sleep(pause.max(SPACING)).await;
                if self.hand_overs.any_moves() {
                    self.known.with(&peer.host, |known| known.estimate.recount());
                    continue;
                }
                let _turn = self.measuring.lock().await;
                let burst = self.known.burst_due(&peer.host, Instant::now());
                if let Err(refusal) = self.measure(peer, burst).await {
                    tracing::debug!(host = %peer.host, %refusal, "a link was not measured");
                    self.known.with(&peer.host, |known| known.estimate.recount());
                }
            }
            if peers.is_empty() {
                tokio::time::sleep(PERIOD).await;
            }
        }
    }

    /// Measures a link now: its use over half a second, then its capacity, with bursts.
    pub(crate) async fn probe(&self, to: &HostName) -> Result<LinkMetrics, Refusal> {
        if self.config.role != Role::Edge {
            return Err(Refusal::new(
                RefusalCode::Capability,
                format!("{} is no edge host, and moves no images", self.config.host),
                "measure from an edge host",
            ));
        }
        let peer = self.peers.get(to)?;
        if !peer.capabilities.contains(&Capability::Containers) {
            return Err(Refusal::new(
                RefusalCode::Capability,
                format!("{to} is a {} host, and takes no images", peer.role.name()),
                "measure to an edge host",
            ));
        }
        if let Some(known) = self.surroundings.link(to) {
            return known;
        }
        let measured = async {
            let _turn = self.measuring.lock().await;
            self.known.with(to, |known| known.estimate.recount());
            self.measure(&peer, false).await?;
            tokio::time::sleep(WATCH).await;
            self.measure(&peer, false).await?;
            for _ in 0..BURSTS {
                self.measure(&peer, true).await?;
            }
            Ok(())
        };
        match tokio::time::timeout(ON_DEMAND, measured).await {
            Ok(done) => done?,
            Err(_) => {
                return Err(Refusal::new(
                    RefusalCode::Unreachable,
                    format!("the link to {to} was not measured within {ON_DEMAND:?}"),
                    "see whether the hosts reach each other on the underlay",
                ));
            }
        }
        Ok(self.known.with(to, |known| known.estimate.metrics(to, Timestamp::now())))
    }

    /// Measures round-trip time and use and, if `burst`, sends bursts until one tells something.
    async fn measure(&self, peer: &Hello, burst: bool) -> Result<(), Refusal> {
        let attempts = if burst { ATTEMPTS } else { 1 };
        for _ in 0..attempts {
            let bytes = if burst {
                self.known.with(&peer.host, |known| known.estimate.next_burst())
            } else {
                Bytes(0)
            };
            if self.exchange(peer, bytes).await? {
                break;
            }
        }
        Ok(())
    }

    /// One measurement. Whether it told what it was for.
    async fn exchange(&self, peer: &Hello, burst: Bytes) -> Result<bool, Refusal> {
        self.not_while_migrating()?;
        let host = &peer.host;
        let interface = interface::towards(peer.underlay).ok();
        let carried = interface.as_deref().and_then(|name| interface::carried(name).ok());
        let asked = Timestamp::now();
        let offer = self.offered(host, burst).await?;
        let round_trip = Timestamp::now().since(asked);
        if let (Some(carried), Some(received)) = (carried, offer.received) {
            let (sent, received_at) = (carried.sent, offer.at);
            let counters = Counters { sent, sent_at: asked, received, received_at, own: 0 };
            self.known.with(host, |known| known.estimate.count(counters));
        }
        let Some(address) = offer.address else {
            let from = RttFrom::Request;
            self.known.with(host, |known| known.estimate.round_trip(round_trip, Millis(0.0), from, asked));
            return Ok(true);
        };
        if burst.0 > 0 {
            self.known.with(host, |known| known.last_burst = Some(Instant::now()));
        }
        let sending = move || probe::send(address, &offer.token, burst.0, interface.as_deref());
        let sent = tokio::task::spawn_blocking(sending).await.map_err(|error| failed(host, &error))?;
        let sent = sent.map_err(|error| failed(host, &error))?;
        let now = Timestamp::now();
        Ok(self.known.with(host, |known| {
            let tcp = sent.round_trip;
            let rtt = Millis::from(tcp.least_rtt.unwrap_or(tcp.rtt));
            known.estimate.round_trip(rtt, Millis::from(tcp.rtt_variation), RttFrom::Tcp, now);
            if burst.0 == 0 {
                return true;
            }
            known.estimate.sent(sent.bytes);
            known.estimate.burst(&Burst { arrivals: sent.arrivals, others: sent.others }, now)
        }))
    }

    /// Asks a host to take part, again if it is busy with someone else's measurement.
    async fn offered(&self, host: &HostName, burst: Bytes) -> Result<ProbeOffer, Refusal> {
        let request = Request::OpenProbe(ProbeOrder { from: self.config.host.clone(), burst });
        let busy = || {
            let reason = format!("{host} is busy measuring other links");
            Refusal::new(RefusalCode::Conflict, reason, "try again")
        };
        let ask = || async {
            match self.requests.ask(host, &request, QUICK).await {
                Ok(Reply::Probe(Some(offer))) => Ok(offer),
                Ok(Reply::Probe(None)) => Err((busy(), true)),
                Ok(_) => {
                    let reason = format!("{host} does not answer how its link can be measured");
                    let remedy = "run the same release of MOSE on both hosts";
                    Err((Refusal::new(RefusalCode::Malformed, reason, remedy), false))
                }
                Err(refusal) => Err((refusal, false)),
            }
        };
        let again = ConstantBuilder::new().with_delay(TRY_EVERY).with_max_times(TRIES - 1);
        ask.retry(again).when(|(_, again)| *again).await.map_err(|(refusal, _)| refusal)
    }

    /// What a migration to a host may use of the link: what its plan allots, and no more than the link has left.
    pub(crate) fn allotted(&self, to: &HostName, plan: Option<BitsPerSec>) -> Option<BitsPerSec> {
        plan.into_iter().chain(self.surroundings.left(to)).min()
    }

    /// Takes part in another host's measurement; `None` while it serves another one.
    pub(crate) async fn open_probe(&self, order: &ProbeOrder) -> Result<Option<ProbeOffer>, Refusal> {
        self.surroundings.may_measure_links()?;
        self.not_while_migrating()?;
        if order.burst > MAX_BURST {
            return Err(Refusal::new(
                RefusalCode::Malformed,
                format!("a burst of {} is over the limit of {MAX_BURST}", order.burst),
                "run the same release of MOSE on both hosts",
            ));
        }
        let peer = self.peers.get(&order.from)?;
        let interface = interface::towards(peer.underlay).ok();
        let received = interface.as_deref().and_then(|name| interface::carried(name).ok());
        let at = Timestamp::now();
        let received = received.map(|carried| carried.received);
        if !self.config.transports.contains(&TransportKind::Tcp) {
            return Ok(Some(ProbeOffer { address: None, token: String::new(), received, at }));
        }
        let Ok(serving) = self.serving.clone().try_acquire_owned() else { return Ok(None) };
        let listening =
            probe::listen(self.config.underlay).await.map_err(|error| failed(&order.from, &error))?;
        let (address, token) = (Some(listening.address), listening.token.clone());
        let (from, burst) = (order.from.clone(), order.burst.0);
        self.hand_overs.tasks().spawn(async move {
            if let Err(error) = listening.serve(burst, interface).await {
                tracing::debug!(%from, %error, "a link's measurement came to nothing");
            }
            drop(serving);
        });
        Ok(Some(ProbeOffer { address, token, received, at }))
    }
}

fn failed(host: &HostName, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::Unreachable,
        format!("the link with {host} cannot be measured: {error}"),
        "see whether the hosts reach each other on the underlay",
    )
}
