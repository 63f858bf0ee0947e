//! Where every address of the overlay is: told to others, learnt from them, put into routes.
//!
//! The epoch of an address grows with each hand-over, so that what arrives late or twice changes nothing.

use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, ExponentialBuilder, Retryable};
use mose_bus::peers::QUICK;
use mose_bus::session::session_refusal;
use mose_coat::Route;
use mose_protocol::agent::{Hello, Location};
use mose_protocol::{HostName, Refusal, Reply, Request, envelope, keys};
use zenoh::sample::SampleKind;

use crate::agent::Agent;
use crate::overlay::overlay_refusal;

/// How long to wait for a peer to confirm an address.
const TELLING: Duration = Duration::from_secs(1);
/// The pause between retries, and how many there are.
const TOLD_AGAIN: ConstantBuilder =
    ConstantBuilder::new().with_delay(Duration::from_millis(200)).with_max_times(25);

/// How often it is tried to meet an agent that is there but does not answer: for some minutes.
const MEETINGS: usize = 50;

impl Agent {
    /// The addresses that are on this host.
    pub(crate) async fn locations(&self) -> Result<Vec<Location>, Refusal> {
        let routes = self.overlay.routes().await.map_err(|error| overlay_refusal(&error))?;
        Ok(routes
            .into_iter()
            .filter(|entry| matches!(entry.route, Route::Endpoint(_)))
            .map(|entry| Location {
                address: entry.address,
                host: self.config.host.clone(),
                epoch: entry.epoch,
            })
            .collect())
    }

    /// Sends packets for an address to the host that it is on, unless it is known to be here or elsewhere since.
    pub(crate) async fn locate(&self, location: &Location) -> Result<(), Refusal> {
        if location.host == self.config.host {
            return Ok(());
        }
        let route = Route::Tunnel(location.host.to_string());
        let change = self.overlay.route(location.address, route, location.epoch).await;
        change.map(|_| ()).map_err(|error| overlay_refusal(&error))
    }

    /// Forgets an address that is gone from the overlay.
    pub(crate) async fn forget(&self, location: &Location) -> Result<(), Refusal> {
        let routes = self.overlay.routes().await.map_err(|error| overlay_refusal(&error))?;
        let there = Route::Tunnel(location.host.to_string());
        if routes
            .iter()
            .any(|e| e.address == location.address && e.route == there && e.epoch <= location.epoch)
        {
            self.overlay.forget(location.address).await.map_err(|error| overlay_refusal(&error))?;
        }
        Ok(())
    }

    /// Tells every live peer but `except` where an address is; returns who did not take it in time.
    pub(crate) async fn announce(
        &self,
        location: &Location,
        except: Option<&HostName>,
        deadline: Duration,
    ) -> Vec<(HostName, Result<(), Refusal>)> {
        self.tell_peers(&Request::Locate(location.clone()), except, deadline).await
    }

    /// The same, and tells it again to each peer that does not answer. Until it has heard, a client's host sends packets to the old place,
    /// where they are lost if that host is cut off.
    pub(crate) async fn announce_until_heard(
        &self,
        location: &Location,
        except: Option<&HostName>,
    ) -> Vec<(HostName, Result<(), Refusal>)> {
        let request = &Request::Locate(location.clone());
        let told = self.live_peers(except).into_iter().map(|host| async move {
            let ask = || self.requests.ask(&host, request, TELLING);
            // One that is gone asks for itself when it comes back.
            let heard = ask.retry(TOLD_AGAIN).when(|_| self.peers.get(&host).is_ok()).await;
            (host, heard.map(|_| ()))
        });
        futures_util::future::join_all(told).await
    }

    /// Tells every live peer but `except` something, all at once; what came of it.
    pub(crate) async fn tell_peers(
        &self,
        request: &Request,
        except: Option<&HostName>,
        deadline: Duration,
    ) -> Vec<(HostName, Result<(), Refusal>)> {
        let asked = self.live_peers(except).into_iter().map(|host| async move {
            let told = self.requests.ask(&host, request, deadline).await.map(|_| ());
            (host, told)
        });
        futures_util::future::join_all(asked).await
    }

    fn live_peers(&self, except: Option<&HostName>) -> Vec<HostName> {
        self.peers.live().into_iter().map(|hello| hello.host).filter(|h| Some(h) != except).collect()
    }

    /// Meets every agent that is there or comes, and notes who goes.
    pub(crate) async fn follow_peers(self: &Arc<Self>) -> Result<(), Refusal> {
        let subscriber = self
            .session
            .liveliness()
            .declare_subscriber(keys::LIVE_ALL)
            .history(true)
            .await
            .map_err(|error| session_refusal(&error))?;
        let agent = self.clone();
        self.spawn(async move {
            while let Ok(sample) = subscriber.recv_async().await {
                let Some(host) = keys::host_of_live(sample.key_expr().as_str()) else { continue };
                if host == agent.config.host {
                    continue;
                }
                match sample.kind() {
                    SampleKind::Put => {
                        agent.spawn(agent.clone().meet(host));
                    }
                    SampleKind::Delete => {
                        tracing::info!(%host, "its agent is gone");
                        agent.peers.lost(&host);
                    }
                }
            }
        });
        Ok(())
    }

    /// Exchanges introductions and locations with a peer, and builds the tunnel to it.
    async fn meet(self: Arc<Self>, host: HostName) {
        let again = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(MEETINGS);
        let said = |refusal: &Refusal, _| tracing::warn!(%host, %refusal, "an agent cannot be met");
        match (|| self.introduce(&host)).retry(again).notify(said).await {
            Ok(()) => tracing::info!(%host, "met its agent"),
            Err(refusal) => {
                tracing::error!(%host, %refusal, "an agent is given up; it is met when it starts again")
            }
        }
    }

    async fn introduce(&self, host: &HostName) -> Result<(), Refusal> {
        let Reply::Hello(hello) = self.requests.ask(host, &Request::Hello, QUICK).await? else {
            return Err(Refusal::new(
                mose_protocol::RefusalCode::Malformed,
                format!("the agent on {host} does not introduce itself"),
                "run the same release of MOSE on both hosts",
            ));
        };
        check_version(&hello)?;
        self.overlay
            .add_tunnel(host.as_str(), hello.underlay)
            .await
            .map_err(|error| overlay_refusal(&error))?;
        self.peers.met(*hello);
        if let Reply::Locations(locations) = self.requests.ask(host, &Request::Locations, QUICK).await? {
            for location in locations.iter().filter(|location| &location.host == host) {
                self.locate(location).await?;
            }
        }
        // It asks for ours when it meets us; but what changed between that and now it has not been told.
        for location in self.locations().await? {
            self.requests.ask(host, &Request::Locate(location), QUICK).await?;
        }
        Ok(())
    }
}

/// Refuses a peer of another protocol version by name.
pub(crate) fn check_version(hello: &Hello) -> Result<(), Refusal> {
    if hello.protocol == envelope::PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Refusal::new(
        mose_protocol::RefusalCode::Version,
        format!(
            "the agent on {} speaks protocol version {}, this side {}",
            hello.host,
            hello.protocol,
            envelope::PROTOCOL_VERSION
        ),
        "run the same release of MOSE on both hosts",
    ))
}
