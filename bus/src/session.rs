//! How a Zenoh session is set up for agents: what its defaults get wrong for them.

use futures_util::future::BoxFuture;
use mose_protocol::{Refusal, RefusalCode};
use zenoh::{Config, Session};

use crate::anew::LEASE_MS;
use crate::connections;

/// How long a message may wait for a receiver that takes nothing before Zenoh closes the connection, in microseconds. Who sends it waits
/// as long, on a thread of ours.
const BLOCK_US: u64 = 2_000_000;

/// The same for images, of which a message may be a mebibyte, on a slow link.
const BULK_BLOCK_US: u64 = 10_000_000;

/// How Zenoh's threads are divided, and where it reads that. While bulk data waits for a receiver that has stopped, the thread that closes
/// the connection waits too: were it the only one that sends or routes, nobody would hear of this host meanwhile.
const THREADS: (&str, &str) = ("ZENOH_RUNTIME", "(tx: (worker_threads: 4), net: (worker_threads: 4))");

/// The receive buffer of a session for images, in bytes: with it their throughput is a fifth higher.
const BULK_BUFFER: &str = "16777216";

/// For how long endpoints are dialled where nobody listens yet.
const DIALS: &str = "connect/timeout_ms";

/// For ever.
const DIALS_ON: &str = "-1";

/// How many ports are tried for a session that takes any.
const ATTEMPTS: u32 = 16;

/// Divides Zenoh's threads, unless the environment says how.
///
/// # Safety
/// No other thread runs yet: none may read the environment meanwhile (`std::env::set_var`).
pub unsafe fn divide_threads() {
    let (name, value) = THREADS;
    if std::env::var_os(name).is_none() {
        // SAFETY: the caller says that there is no other thread.
        unsafe { std::env::set_var(name, value) };
    }
}

/// A session that listens at `listen` and connects to `connect`; with none of these it looks for others by multicast.
///
/// # Errors
/// Where an endpoint is not one, or cannot be listened on.
pub async fn open(listen: &[String], connect: &[String]) -> Result<Session, Refusal> {
    let config = configuration(listen, connect, BLOCK_US).map_err(|error| session_refusal(&error))?;
    configured(config).await.map_err(|error| session_refusal(&error))
}

/// A session for a long-running program that only asks. It keeps dialling `connect`, and may be open before it is connected.
///
/// # Errors
/// Where an endpoint is not one.
pub async fn stay(connect: &[String]) -> Result<Session, Refusal> {
    let config = configuration(&[], connect, BLOCK_US).and_then(|mut config| {
        config.insert_json5(DIALS, DIALS_ON)?;
        Ok(config)
    });
    configured(config.map_err(|error| session_refusal(&error))?)
        .await
        .map_err(|error| session_refusal(&error))
}

/// A session with this configuration as it is.
///
/// Boxed, so that Zenoh's start, which is large, is compiled here, and not again in each program that opens a session.
///
/// # Errors
/// What Zenoh refuses.
pub fn configured(config: Config) -> BoxFuture<'static, zenoh::Result<Session>> {
    Box::pin(async move {
        let session = zenoh::open(config).await?;
        connections::look_after(&session).await?;
        Ok(session)
    })
}

/// A session that listens at `listen`, or on a free port of `127.0.0.1`, and its endpoint. It meets nobody but those that connect to it and
/// those at `connect`: for a testbed in one process, beside which others may run on the same network.
///
/// # Errors
/// Where the port is taken, or no free one can be had.
pub async fn open_alone(listen: Option<&str>, connect: &[String]) -> Result<(Session, String), Refusal> {
    let mut attempts = 0;
    loop {
        let endpoint = match listen {
            Some(endpoint) => endpoint.to_owned(),
            None => free_endpoint().map_err(|error| session_refusal(&error))?,
        };
        let listen = [endpoint.clone()];
        let mut config =
            configuration(&listen, connect, BLOCK_US).map_err(|error| session_refusal(&error))?;
        for key in ["scouting/multicast/enabled", "scouting/gossip/enabled"] {
            config.insert_json5(key, "false").map_err(|error| session_refusal(&error))?;
        }
        attempts += 1;
        match configured(config).await {
            Ok(session) => return Ok((session, endpoint)),
            // Somebody else took the port meanwhile.
            Err(error) if attempts < ATTEMPTS => tracing::debug!(%error, endpoint, "another port is tried"),
            Err(error) => return Err(session_refusal(&error)),
        }
    }
}

/// A port that nobody listens on at this moment.
fn free_endpoint() -> std::io::Result<String> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    Ok(format!("tcp/{}", listener.local_addr()?))
}

/// A session for images beside the one at `listen`: every endpoint's port is one higher. On the same link a small
/// request would wait behind the bulk data, whatever its priority; on a link of its own it does not.
///
/// # Errors
/// As [`open`], and where an endpoint names no port.
pub async fn open_bulk(listen: &[String], connect: &[String]) -> Result<Session, Refusal> {
    let beside = |endpoints: &[String]| -> Result<Vec<String>, Refusal> {
        endpoints.iter().map(|endpoint| next_port(endpoint)).collect()
    };
    let mut config = configuration(&beside(listen)?, &beside(connect)?, BULK_BLOCK_US)
        .map_err(|error| session_refusal(&error))?;
    for (key, value) in [
        ("transport/link/rx/buffer_size", BULK_BUFFER),
        // It is found by its port alone; a session that hears of it by gossip would connect to it as well.
        ("scouting/gossip/enabled", "false"),
    ] {
        config.insert_json5(key, value).map_err(|error| session_refusal(&error))?;
    }
    configured(config).await.map_err(|error| session_refusal(&error))
}

/// `tcp/10.0.0.1:7447` as `tcp/10.0.0.1:7448`. Port 0, which the system chooses, stays.
fn next_port(endpoint: &str) -> Result<String, Refusal> {
    let parsed = endpoint.rsplit_once(':').and_then(|(place, port)| {
        let port: u16 = port.parse().ok()?;
        Some(format!("{place}:{}", if port == 0 { 0 } else { port.checked_add(1)? }))
    });
    parsed.ok_or_else(|| session_refusal(&format!("the endpoint `{endpoint}` names no port below 65535")))
}

/// A Zenoh session that does not do what it must.
#[must_use]
pub fn session_refusal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::Failed,
        format!("the Zenoh session failed: {error}"),
        "see whether the listen address is free and belongs to this host",
    )
}

fn configuration(
    listen: &[String],
    connect: &[String],
    block_us: u64,
) -> Result<Config, Box<dyn std::error::Error + Send + Sync>> {
    let mut config = Config::default();
    let json = |value: &[String]| serde_json::to_string(value);
    let mut set = |key: &str, value: &str| config.insert_json5(key, value);
    set("mode", "\"peer\"")?;
    set("listen/endpoints", &json(listen)?)?;
    set("connect/endpoints", &json(connect)?)?;
    // An agent keeps dialling one that starts later. A program that only asks tries once: its session is connected when it is open.
    set(DIALS, if listen.is_empty() { "0" } else { DIALS_ON })?;
    set("connect/exit_on_failure", "false")?;
    set("connect/retry", r#"{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }"#)?;
    set("scouting/multicast/enabled", if connect.is_empty() { "true" } else { "false" })?;
    set("scouting/delay", "0")?;
    if !listen.is_empty() {
        // Of two agents one connects to the other, always the same one (see `anew`): the one that names the other, or, where agents find
        // each other, the one with the greater identity.
        for way in ["gossip", "multicast"] {
            let greater = r#"{ peer: { to_router: "always", to_peer: "greater-zid" } }"#;
            set(&format!("scouting/{way}/autoconnect_strategy"), greater)?;
        }
        if !connect.is_empty() {
            set("scouting/gossip/autoconnect", "{ peer: [] }")?;
        }
    }
    set("transport/link/tx/lease", &LEASE_MS.to_string())?;
    set("transport/link/tx/queue/congestion_control/block/wait_before_close", &block_us.to_string())?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_for_images_is_beside_the_other() {
        assert_eq!(next_port("tcp/10.0.0.1:7447").ok(), Some("tcp/10.0.0.1:7448".to_owned()));
        assert_eq!(next_port("tcp/10.0.0.1:0").ok(), Some("tcp/10.0.0.1:0".to_owned()));
        assert!(next_port("tcp/10.0.0.1:65535").is_err());
        assert!(next_port("tcp/10.0.0.1").is_err());
    }

    #[test]
    fn every_setting_is_one_that_this_release_of_zenoh_knows() {
        let config = configuration(&["tcp/127.0.0.1:0".into()], &["tcp/127.0.0.1:1".into()], BLOCK_US);
        assert!(config.is_ok(), "{}", config.err().map(|e| e.to_string()).unwrap_or_default());
    }
}
