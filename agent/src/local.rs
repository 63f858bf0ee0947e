//! Orders from this host itself: putting a namespace on the overlay, and taking it off.
//!
//! They come over a unix socket that only root may open, one JSON line each, one JSON line back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use mose_bus::peers::QUICK;
use mose_coat::{EndpointSpec, Route};
use mose_protocol::agent::Location;
use mose_protocol::{Refusal, RefusalCode, Request, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::agent::Agent;
use crate::overlay::overlay_refusal;

/// Where the agent listens for orders of its own host.
pub const SOCKET: &str = "/run/mose/agent.sock";

/// The largest order, in bytes.
const MAX_ORDER: u64 = 64 << 10;

/// How long an order may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Make a namespace with this address and put it on the overlay.
    Attach(EndpointSpec),
    /// Take the namespace of this name off the overlay and remove it.
    Detach(String),
}

/// Carries out the orders that come to `socket`, from now on.
///
/// # Errors
/// Where the socket cannot be made.
pub fn listen(agent: Arc<Agent>, socket: &Path) -> std::io::Result<()> {
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    agent.clone().spawn(async move {
        let again = ConstantBuilder::new().with_delay(Duration::from_millis(100)).without_max_times();
        let said = |error: &std::io::Error, _| tracing::error!(%error, "local orders cannot be accepted");
        while let Ok((stream, _)) = (|| listener.accept()).retry(again).notify(said).await {
            let orders = agent.clone();
            agent.spawn(async move {
                if let Err(error) = serve(&orders, stream).await {
                    tracing::warn!(%error, "a local order was not answered");
                }
            });
        }
    });
    Ok(())
}

async fn serve(agent: &Agent, stream: UnixStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    if BufReader::new(reader.take(MAX_ORDER)).read_line(&mut line).await? == 0 {
        // Somebody only looked whether the agent is there.
        return Ok(());
    }
    let result = match serde_json::from_str::<Order>(&line) {
        Ok(Order::Attach(spec)) => agent.attach(&spec).await,
        Ok(Order::Detach(name)) => agent.detach(&name).await,
        Err(error) => Err(Refusal::new(RefusalCode::Malformed, format!("no order: {error}"), "")),
    };
    let mut answer = serde_json::to_vec(&result)?;
    answer.push(b'\n');
    writer.write_all(&answer).await
}

/// Gives the agent behind `socket` an order and waits until it is carried out.
///
/// # Errors
/// What the agent refused, or that it does not answer.
pub async fn give(socket: &Path, order: &Order) -> Result<(), Refusal> {
    let talk = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok::<_, std::io::Error>(serde_json::from_str::<Result<(), Refusal>>(&answer)?)
    };
    let failed = |reason: String| {
        Refusal::new(
            RefusalCode::Unreachable,
            format!("the agent does not answer on {}: {reason}", socket.display()),
            "start it: mose-agent run",
        )
    };
    match tokio::time::timeout(DEADLINE, talk).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("nothing came within {DEADLINE:?}"))),
    }
}

impl Agent {
    /// Puts a namespace on the overlay and tells the others where its address is.
    async fn attach(&self, spec: &EndpointSpec) -> Result<(), Refusal> {
        let address = spec.address.addr();
        let overlay_error = |error| overlay_refusal(&error);
        let routes = self.overlay.routes().await.map_err(overlay_error)?;
        let current = routes.iter().find(|entry| entry.address == address);
        if let Some(Route::Tunnel(host)) = current.map(|entry| &entry.route) {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!("the address {address} is on {host}"),
                "choose a free address",
            ));
        }
        // Above any that hosts may still remember of an earlier life of the address.
        let now = Timestamp::now().0 / 1_000_000;
        let epoch = current.map_or(0, |entry| entry.epoch).max(now);
        self.overlay.attach(spec, epoch).await.map_err(overlay_error)?;
        self.overlay
            .route(address, Route::Endpoint(spec.name.clone()), epoch)
            .await
            .map_err(overlay_error)?;
        let here = Location { address, host: self.config.host.clone(), epoch };
        for (host, told) in self.announce(&here, None, QUICK).await {
            if let Err(refusal) = told {
                tracing::warn!(%host, %refusal, "a location was not told");
            }
        }
        Ok(())
    }

    /// Takes a namespace off the overlay, and has the others forget its address.
    async fn detach(&self, name: &str) -> Result<(), Refusal> {
        let overlay_error = |error| overlay_refusal(&error);
        let here: Vec<_> = self
            .overlay
            .routes()
            .await
            .map_err(overlay_error)?
            .into_iter()
            .filter(|entry| entry.route == Route::Endpoint(name.to_owned()))
            .collect();
        self.overlay.detach(name).await.map_err(overlay_error)?;
        for entry in here {
            self.overlay.forget(entry.address).await.map_err(overlay_error)?;
            let gone =
                Location { address: entry.address, host: self.config.host.clone(), epoch: entry.epoch };
            for (host, told) in self.tell_peers(&Request::Forget(gone), None, QUICK).await {
                if let Err(refusal) = told {
                    tracing::warn!(%host, %refusal, "an address was not forgotten");
                }
            }
        }
        Ok(())
    }
}
