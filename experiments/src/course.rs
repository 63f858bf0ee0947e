//! A measuring course in the lab: services on an edge host, their clients on the UAV, and migrations in between.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_lab::client::{Client, ClientKind, ClientReport, ClientSpec};
use mose_lab::{
    CLIENT_ADDRESS, CLIENT_NETNS, Lab, LinkRate, ServiceOptions, Workload, start_service, stop_service,
};
use mose_orchestrator::by_hand::{self, ByHand};
use mose_orchestrator::design::{self, Design, Wanted};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::order::{self, Order};
use mose_pam::{BitsPerSec, Plan};
use mose_protocol::agent::Hello;
use mose_protocol::forecast::Forecast;
use mose_protocol::handover::{ImagePolicy, PreCopyWay};
use mose_protocol::record::Record;
use mose_protocol::step::StepEvent;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request};

use crate::testbed::{agents_of, enter, show};

/// The hosts of the course.
pub(crate) const EDGES: [&str; 2] = ["edge-a", "edge-b"];
/// The host of the clients.
pub(crate) const MOBILE: &str = "uav";

/// How long a client is left alone between two migrations: its gap must end before the next one begins.
pub(crate) const PAUSE: Duration = Duration::from_millis(1500);

/// How long a client may take to connect.
const CONNECT: Duration = Duration::from_secs(20);

/// How long the agents may take to have met after the lab came up.
const ACQUAINTANCE: Duration = Duration::from_secs(10);

/// Which client belongs to a workload.
pub(crate) fn client_kind(workload: &str) -> color_eyre::Result<ClientKind> {
    Ok(Workload::named(workload)?.client_kind()?)
}

/// Puts the clients' namespace on the overlay; harmless if it is there.
pub(crate) fn attach_clients(lab: &Lab) -> color_eyre::Result<()> {
    let address = format!("{CLIENT_ADDRESS}/24");
    let mut attach = lab.exec(MOBILE, &["mose-agent", "attach", CLIENT_NETNS, "--address", &address])?;
    let output = attach.output().wrap_err("the clients' namespace cannot be attached")?;
    if output.status.success() {
        return Ok(());
    }
    Err(eyre!(
        "the clients' namespace cannot be attached: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

/// A command among the clients.
fn among_clients(lab: &Lab, argv: &[String]) -> Command {
    lab.exec_in_netns(MOBILE, CLIENT_NETNS, argv).unwrap_or_else(|error| failing(&error))
}

/// A command on a host.
pub(crate) fn on(lab: &Lab, host: &str, argv: &[String]) -> Command {
    lab.exec(host, argv).unwrap_or_else(|error| failing(&error))
}

/// A host that died since shows when a command is run there: it fails and says why.
fn failing(error: &dyn std::fmt::Display) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo \"$0\" >&2; exit 1", &error.to_string()]);
    command
}

/// A service of the course with its client.
pub(crate) struct Runner<'a> {
    lab: &'a Lab,
    options: ServiceOptions,
    client: Option<Client>,
}

impl<'a> Runner<'a> {
    /// Starts a workload on the first edge host and its client on the UAV, which runs until it is stopped.
    pub(crate) fn start(
        lab: &'a Lab,
        workload: &str,
        address: Ipv4Addr,
        arguments: &[String],
    ) -> color_eyre::Result<Self> {
        let options =
            ServiceOptions { address, arguments: arguments.to_vec(), ..ServiceOptions::of(workload) };
        Self::start_with(lab, workload, options, &spec_of(workload, address)?)
    }

    /// The same with all options of the service, and a client of one's own.
    pub(crate) fn start_with(
        lab: &'a Lab,
        workload: &str,
        options: ServiceOptions,
        spec: &ClientSpec,
    ) -> color_eyre::Result<Self> {
        let mut runner = Self::start_alone(lab, workload, options)?;
        runner.client = Some(started(lab, spec)?);
        Ok(runner)
    }

    /// Starts a workload that no client looks at.
    pub(crate) fn start_alone(
        lab: &'a Lab,
        workload: &str,
        options: ServiceOptions,
    ) -> color_eyre::Result<Self> {
        for host in EDGES {
            stop_service(lab, host, &options.name)?;
        }
        start_service(lab, workload, EDGES[0], &options)?;
        Ok(Self { lab, options, client: None })
    }

    /// Stops the client and returns what it saw; removes the service from wherever it is.
    pub(crate) fn stop(mut self) -> color_eyre::Result<ClientReport> {
        let client = self.client.take().ok_or_else(|| eyre!("the client was never started"))?;
        Ok(client.stop()?)
    }
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        drop(self.client.take());
        for host in EDGES {
            if let Err(error) = stop_service(self.lab, host, &self.options.name) {
                tracing::warn!(host, %error, "a service is left over");
            }
        }
    }
}

/// Starts the client of a workload.
pub(crate) fn start_client(lab: &Lab, workload: &str, address: Ipv4Addr) -> color_eyre::Result<Client> {
    started(lab, &spec_of(workload, address)?)
}

/// The usual client of a workload.
pub(crate) fn spec_of(workload: &str, address: Ipv4Addr) -> color_eyre::Result<ClientSpec> {
    let target = (address, Workload::named(workload)?.port).into();
    Ok(ClientSpec::new(client_kind(workload)?, target, Duration::from_secs(3600)))
}

/// Starts a client.
pub(crate) fn started(lab: &Lab, spec: &ClientSpec) -> color_eyre::Result<Client> {
    if spec.kind == ClientKind::Autopilot {
        lab.give_simulator(MOBILE, &mut show)?;
    }
    let begun = std::time::Instant::now();
    loop {
        let mut client = Client::start(spec.clone(), &|argv: &[String]| among_clients(lab, argv))?;
        match client.wait_ready(CONNECT) {
            Ok(()) => return Ok(client),
            // A service that was just started may not listen yet.
            Err(error) if begun.elapsed() > CONNECT => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// How a service is to be moved.
#[derive(Debug, Clone)]
pub(crate) struct How {
    pub(crate) plan: Plan,
    pub(crate) transport: Option<TransportKind>,
    pub(crate) pre_copy: Option<PreCopyWay>,
    pub(crate) forecast: Option<Box<Forecast>>,
    /// Whether it is only to be rehearsed.
    pub(crate) rehearsal: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { plan: Plan::cold(), transport: None, pre_copy: None, forecast: None, rehearsal: false }
    }
}

/// Orders migrations from the lab's controller, as `mose migrate` would, from a thread of its own.
pub(crate) struct Orders {
    runtime: tokio::runtime::Runtime,
    fleet: Fleet,
}

impl Orders {
    /// Connects to the lab's agents. The calling thread enters the controller's network for good.
    pub(crate) fn connect(lab: &Lab) -> color_eyre::Result<Self> {
        enter(lab)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let fleet = runtime
            .block_on(Fleet::join(&agents_of(lab)))
            .map_err(|refusal| eyre!("the lab's agents cannot be reached: {refusal}"))?;
        Ok(Self { runtime, fleet })
    }

    /// Asks an agent.
    pub(crate) fn ask(&self, host: &HostName, request: &Request) -> color_eyre::Result<Reply> {
        self.runtime.block_on(self.fleet.ask(host, request)).map_err(|refusal| eyre!("{refusal}"))
    }

    /// Has the agents remember what was moved by hand.
    pub(crate) fn note(&self, moved: ByHand) -> color_eyre::Result<()> {
        self.runtime.block_on(by_hand::note(&self.fleet, moved)).map_err(|refusal| eyre!("{refusal}"))
    }

    /// Plans a migration from what the agents measure.
    pub(crate) fn design(
        &self,
        service: &str,
        from: &str,
        to: &str,
        wanted: &Wanted,
    ) -> color_eyre::Result<Design> {
        let (service, from, to) = (service.parse()?, from.parse()?, to.parse()?);
        let designed = self.runtime.block_on(design::design(&self.fleet, &service, &from, &to, wanted));
        designed.map_err(|refusal| eyre!("{refusal}"))
    }

    /// How an agent introduces itself.
    pub(crate) fn hello(&self, host: &HostName) -> color_eyre::Result<Hello> {
        self.runtime.block_on(self.fleet.agent(host)).map_err(|refusal| eyre!("{refusal}"))
    }

    /// The order to move a service.
    pub(crate) fn order(service: &str, from: &str, to: &str, how: &How) -> color_eyre::Result<Order> {
        Ok(Order {
            service: service.parse()?,
            from: Some(from.parse()?),
            to: to.parse()?,
            plan: how.plan.clone(),
            transport: how.transport,
            image_policy: ImagePolicy::Bring,
            files: Default::default(),
            pre_copy: how.pre_copy,
            rehearsal: how.rehearsal,
            forecast: how.forecast.clone(),
        })
    }

    /// Has an order carried out once, as it is answered; `watch` is shown every step.
    pub(crate) fn carry_out(
        &self,
        order: &Order,
        patience: Duration,
        watch: impl FnMut(&StepEvent),
    ) -> Result<Record, Refusal> {
        self.runtime.block_on(async {
            let carried = order::carry_out(&self.fleet, order, watch);
            tokio::time::timeout(patience, carried).await.unwrap_or_else(|_| {
                let late = format!("the migration had not ended after {patience:?}");
                Err(Refusal::new(RefusalCode::Failed, late, ""))
            })
        })
    }

    /// What an agent answers.
    pub(crate) fn answer(&self, host: &HostName, request: &Request) -> mose_protocol::Response {
        self.runtime.block_on(self.fleet.ask(host, request))
    }

    /// Moves a service, or rehearses it, and returns the record.
    pub(crate) fn migrate(
        &self,
        service: &str,
        from: &str,
        to: &str,
        how: &How,
    ) -> color_eyre::Result<Record> {
        let order = Self::order(service, from, to, how)?;
        let begun = std::time::Instant::now();
        loop {
            let carried = self.runtime.block_on(order::carry_out(&self.fleet, &order, |_| {}));
            let refusal = match carried {
                // Just after the lab came up the agents may not have met yet.
                Ok(Record { reason: Some(reason), .. })
                    if reason.code == RefusalCode::UnknownHost && begun.elapsed() < ACQUAINTANCE =>
                {
                    reason
                }
                Ok(record) => return Ok(record),
                Err(refusal) => refusal,
            };
            let Refusal { code, .. } = refusal;
            if code != RefusalCode::UnknownHost || begun.elapsed() > ACQUAINTANCE {
                return Err(eyre!("{refusal}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let closing = self.fleet.session().close();
        let _ = self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), closing).await });
    }
}

/// The bandwidth of a link as the model counts it.
pub(crate) fn bandwidth(rate: LinkRate) -> Option<BitsPerSec> {
    match rate {
        LinkRate::Unshaped => None,
        LinkRate::Bits(bits) => Some(BitsPerSec(bits)),
    }
}

/// What a client saw, in one line.
pub(crate) fn client_line(report: &ClientReport) -> String {
    let unit = match report.unit {
        mose_lab::client::Unit::Messages => "messages",
        mose_lab::client::Unit::Bytes => "bytes",
    };
    let mut line = format!(
        "client: {} {unit} sent, {} answered; {} lost, {} repeated, {} reordered, {} corrupted, {} resets; {} of {} \
         connections kept",
        report.sent,
        report.received,
        report.lost,
        report.repeated,
        report.reordered,
        report.corrupted,
        report.resets,
        report.connections.min(report.streams),
        report.streams
    );
    for (name, value) in report.extra.iter().filter(|(_, value)| !value.is_array()) {
        let shown = match value.as_object() {
            Some(fields) => {
                fields.iter().map(|(field, value)| format!("{field} {value}")).collect::<Vec<_>>().join(", ")
            }
            None => value.to_string(),
        };
        line.push_str(&format!("\n        {}: {shown}", name.replace('_', " ")));
    }
    for error in &report.errors {
        line.push_str(&format!("\n        error: {error}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_is_found_by_its_workload() {
        assert!(client_kind("redis").is_ok());
        assert!(client_kind("nothing").is_err());
    }
}
