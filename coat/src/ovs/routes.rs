//! Changes of the bridge's routes: where an address's packets go, and how those that were held are let go.

use std::{net::Ipv4Addr, time::Duration};

use tokio::sync::oneshot;

use super::Inner;
use crate::{
    Change, CoatError, Route,
    hold::Released,
    name,
    openflow::{Output, Sender, route_add, route_delete},
};

/// Packets that are let go at once.
const PART: usize = 16;
/// How long letting go may take before the rest goes at once.
const LETTING_GO: Duration = Duration::from_millis(200);

impl Inner {
    pub(super) async fn route(
        &self,
        address: Ipv4Addr,
        route: Route,
        epoch: u64,
        begun: Option<oneshot::Sender<()>>,
    ) -> Result<Change, CoatError> {
        let cookie = name::cookie(epoch)?;
        let mut routes = self.routes.lock().await;
        let before = routes.get(&address).cloned();
        match &before {
            Some((_, current)) if epoch < *current => return Ok(Change::Stale { current: *current }),
            Some((present, current)) if epoch == *current && *present == route => {
                return Ok(Change::Unchanged);
            }
            _ => {}
        }
        let output = self.resolve(address, &route)?;
        let sender = self.of.sender()?;
        let holds = &self.guard.holds;
        // What it answers to what was held is to be heard.
        let lowered = match output {
            Output::Port(port) => self.guard.walls.lower(&route, port, &sender),
            Output::Here => None,
        };
        // What is held goes first: what comes later by the new flows is then behind it.
        let done = match output {
            Output::Here => {
                holds.hold(address);
                Released::default()
            }
            Output::Port(port) => {
                holds.leave(address, port);
                self.let_go(address, port, &sender, begun).await
            }
        };
        let what = format!("the route of {address}");
        let changes: Vec<_> = route_add(address, output, cookie).into_iter().chain(lowered.clone()).collect();
        if let Err(error) = self.of.commit(&what, &changes).await {
            if let (Some(_), Output::Port(port)) = (lowered, output) {
                self.guard.walls.keep(&route, port);
            }
            self.undo(address, before.as_ref().map(|(route, _)| route), &sender);
            return Err(error);
        }
        routes.insert(address, (route, epoch));
        Ok(Change::Applied { released: done.released, overflowed: done.overflowed })
    }

    /// Sends what leaves, a part at a time, each when the switch is done with the one before. All at once would be more than the
    /// queues between here and the clients take: a thousand requests call forth a thousand answers within milliseconds, and where
    /// the switch runs in user space each of its devices queues less than 300 small packets.
    async fn let_go(
        &self,
        address: Ipv4Addr,
        port: u32,
        sender: &Sender,
        mut begun: Option<oneshot::Sender<()>>,
    ) -> Released {
        let holds = &self.guard.holds;
        let send = |port: u32, frame: &[u8]| {
            sender.packet_out(port, frame);
        };
        let started = tokio::time::Instant::now();
        let mut done = Released::default();
        loop {
            let part = holds.part(address, PART, send);
            done.released += part.released;
            done.overflowed += part.overflowed;
            if let Some(begun) = begun.take() {
                // Whoever waited may have given up.
                let _ = begun.send(());
            }
            if part.over {
                return done;
            }
            let in_time = started.elapsed() < LETTING_GO;
            if !in_time || self.of.barrier("the packets that were held").await.is_err() {
                // More arrives than leaves, or the switch is gone: there is nothing to wait for.
                let rest = holds.release(address, port, send);
                done.released += rest.released;
                done.overflowed += rest.overflowed;
                return done;
            }
        }
    }

    /// The flows of a change were refused: treats packets as before.
    fn undo(&self, address: Ipv4Addr, before: Option<&Route>, sender: &Sender) {
        let holds = &self.guard.holds;
        match before.map(|route| (route, self.output(route))) {
            Some((Route::Hold, _)) => holds.hold(address),
            Some((_, Some(port))) => {
                holds.release(address, port, |port, frame| {
                    sender.packet_out(port, frame);
                });
            }
            _ => holds.forget(address),
        }
    }

    fn resolve(&self, address: Ipv4Addr, route: &Route) -> Result<Output, CoatError> {
        let (target, remedy) = match route {
            Route::Hold => return Ok(Output::Here),
            Route::Endpoint(name) => (format!("endpoint {name}"), "attach the endpoint first"),
            Route::Tunnel(host) => (format!("the tunnel to {host}"), "add the tunnel first"),
        };
        self.output(route).map(Output::Port).ok_or(CoatError::UnknownTarget { address, target, remedy })
    }

    pub(super) async fn forget(&self, address: Ipv4Addr) -> Result<(), CoatError> {
        let mut routes = self.routes.lock().await;
        self.of.commit("the removal of a route", &route_delete(address)).await?;
        routes.remove(&address);
        self.guard.holds.forget(address);
        Ok(())
    }

    /// Removes the routes to a port that is about to go: its number may be given to another.
    pub(super) async fn forget_target(&self, target: &Route) -> Result<(), CoatError> {
        let mut routes = self.routes.lock().await;
        let gone: Vec<Ipv4Addr> =
            routes.iter().filter(|(_, (route, _))| route == target).map(|(address, _)| *address).collect();
        let mut changes: Vec<_> = gone.iter().copied().flat_map(route_delete).collect();
        changes.extend(self.output(target).and_then(|port| self.guard.walls.forget(target, port)));
        self.set_output(target.clone(), None);
        if changes.is_empty() {
            return Ok(());
        }
        self.of.commit("the removal of routes", &changes).await?;
        for address in gone {
            routes.remove(&address);
            self.guard.holds.forget(address);
        }
        Ok(())
    }
}
