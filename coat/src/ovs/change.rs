//! Changes of ports: endpoints and tunnels, made and taken away, one at a time.

use std::net::Ipv4Addr;

use super::{Inner, OvsConfig};
use crate::{
    CoatError, Endpoint, EndpointSpec, Route,
    devices::{self, Devices},
    name, netns,
    openflow::route_delete,
    ports::{self, Port},
};

impl Inner {
    pub(super) async fn attach(&self, spec: EndpointSpec, epoch: u64) -> Result<Endpoint, CoatError> {
        spec.validate()?;
        name::cookie(epoch)?;
        let _changing = self.changing.lock().await;
        for port in self.ports().await? {
            let Port::Endpoint(present) = port else { continue };
            if present.spec == spec && self.output(&Route::Endpoint(spec.name.clone())).is_some() {
                return self.raise_epoch(present, epoch).await;
            }
            if present.spec.name == spec.name && present.spec != spec {
                return Err(CoatError::OtherSpec {
                    present: present.spec.to_string(),
                    wanted: spec.to_string(),
                    name: spec.name,
                });
            }
            if present.spec.name != spec.name && present.spec.address.addr() == spec.address.addr() {
                return Err(CoatError::Config(format!(
                    "{} cannot be the address of endpoint {}: endpoint {} has it",
                    spec.address, spec.name, present.spec.name
                )));
            }
        }
        let device = name::endpoint_device(&self.config.bridge, &spec.name);
        let devices = Devices::here()?;
        // Whatever an attempt before left under these names.
        self.schema.remove_port(&device).await?;
        devices.delete(&device).await?;
        devices::make_namespace(&spec.name).await?;
        match self.make_endpoint(&devices, &device, &spec, epoch).await {
            Ok(port) => {
                self.set_output(Route::Endpoint(spec.name.clone()), Some(port));
                self.lengthen_queues().await;
            }
            Err(error) => {
                self.unmake_endpoint(&devices, &device, &spec.name).await;
                return Err(error);
            }
        }
        Ok(Endpoint { netns: netns::path(&spec.name), host_device: device, epoch, spec })
    }

    async fn raise_epoch(&self, mut present: Endpoint, epoch: u64) -> Result<Endpoint, CoatError> {
        if epoch > present.epoch {
            let device = &present.host_device;
            self.schema.set_id(device, ports::EPOCH, &epoch.to_string()).await?;
            present.epoch = epoch;
        }
        Ok(present)
    }

    async fn make_endpoint(
        &self,
        devices: &Devices,
        device: &str,
        spec: &EndpointSpec,
        epoch: u64,
    ) -> Result<u32, CoatError> {
        devices.add_endpoint(device, spec).await?;
        devices.set_alias(device, &self.alias(&spec.name)).await?;
        self.schema.add_port(device, ports::endpoint_ids(spec, epoch)).await
    }

    /// Takes back what [`Self::make_endpoint`] began; what cannot be taken back now is swept at the next start.
    async fn unmake_endpoint(&self, devices: &Devices, device: &str, name: &str) {
        for undone in [
            self.schema.remove_port(device).await,
            devices.delete(device).await,
            devices::remove_namespace(name).await,
        ] {
            if let Err(error) = undone {
                tracing::warn!(%error, endpoint = name, "a failed attach left something over");
            }
        }
    }

    pub(super) async fn detach(&self, name: String) -> Result<(), CoatError> {
        name::validate("an endpoint", &name)?;
        let _changing = self.changing.lock().await;
        let device = name::endpoint_device(&self.config.bridge, &name);
        let target = Route::Endpoint(name.clone());
        let recorded = self.ports().await?.iter().any(|port| port.target() == target);
        self.forget_target(&target).await?;
        self.schema.remove_port(&device).await?;
        let devices = Devices::here()?;
        let ours = recorded || devices.exists(&device).await?;
        devices.delete(&device).await?;
        if ours { devices::remove_namespace(&name).await } else { Ok(()) }
    }

    pub(super) async fn add_tunnel(&self, host: String, remote: Ipv4Addr) -> Result<(), CoatError> {
        name::validate("a host", &host)?;
        if remote == self.config.underlay || remote.is_unspecified() || remote.is_multicast() {
            return Err(CoatError::Config(format!(
                "{remote} cannot be the other end of the tunnel to {host}: give it that host's underlay address"
            )));
        }
        let _changing = self.changing.lock().await;
        let target = Route::Tunnel(host.clone());
        let present = self.ports().await?.into_iter().any(|port| match port {
            Port::Tunnel { host: h, remote: r, .. } => h == host && r == remote,
            Port::Endpoint(_) => false,
        });
        if present && self.output(&target).is_some() {
            return Ok(());
        }
        // Before the port goes, so that its number is not another's while routes still name it.
        {
            let routes = self.routes.lock().await;
            let severed: Vec<_> = routes
                .iter()
                .filter(|(_, (route, _))| *route == target)
                .flat_map(|(address, _)| route_delete(*address))
                .collect();
            if !severed.is_empty() {
                self.of.commit("the replacement of a tunnel", &severed).await?;
            }
            self.set_output(target.clone(), None);
        }
        let made = self.make_tunnel(&host, remote).await;
        if made.is_err() {
            self.forget_target(&target).await?;
            return made;
        }
        let routes = self.routes.lock().await;
        self.install(&routes, |route| *route == target).await
    }

    /// Makes a tunnel, in place of whatever has its name.
    pub(super) async fn make_tunnel(&self, host: &str, remote: Ipv4Addr) -> Result<(), CoatError> {
        let OvsConfig { bridge, vni, underlay, .. } = &self.config;
        let device = name::tunnel_device(bridge, host);
        let vni = name::pair_vni(*vni, *underlay, remote);
        let devices = Devices::here()?;
        self.schema.remove_port(&device).await?;
        devices.delete(&device).await?;
        devices.add_vxlan(&device, vni, *underlay, remote).await?;
        let made = async {
            devices.set_alias(&device, &self.alias(host)).await?;
            self.schema.add_port(&device, ports::tunnel_ids(host, remote)).await
        };
        match made.await {
            Ok(port) => {
                self.set_output(Route::Tunnel(host.to_owned()), Some(port));
                self.lengthen_queues().await;
                Ok(())
            }
            Err(error) => {
                for undone in [self.schema.remove_port(&device).await, devices.delete(&device).await] {
                    if let Err(error) = undone {
                        tracing::warn!(%error, host, "a failed tunnel left something over");
                    }
                }
                Err(error)
            }
        }
    }

    pub(super) async fn remove_tunnel(&self, host: String) -> Result<(), CoatError> {
        name::validate("a host", &host)?;
        let _changing = self.changing.lock().await;
        let device = name::tunnel_device(&self.config.bridge, &host);
        self.forget_target(&Route::Tunnel(host)).await?;
        self.schema.remove_port(&device).await?;
        Devices::here()?.delete(&device).await
    }
}
