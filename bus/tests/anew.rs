//! Who meets whom over real connections: after one side opened a new session unnoticed, after a late start, by a third's word.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mose_bus::session;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use zenoh::sample::SampleKind;
use zenoh::{Config, Session};

const WAIT: Duration = Duration::from_secs(30);
const TOKEN: &str = "mose/live/stays";

/// A relay before a peer.
struct Relay {
    address: SocketAddr,
    deaf: Arc<Notify>,
    relaying: JoinHandle<()>,
}

impl Relay {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let deaf = Arc::new(Notify::new());
        let becomes_deaf = deaf.clone();
        let relaying = tokio::spawn(async move {
            let mut relayed = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let becomes_deaf = becomes_deaf.clone();
                relayed.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = becomes_deaf.notified() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, deaf, relaying }
    }

    /// Relays nothing more over what is connected, which stays connected.
    fn be_deaf(&self) {
        self.deaf.notify_waiters();
    }

    /// Closes all that is connected.
    fn close(self) {
        self.relaying.abort();
    }
}

/// A session of a peer; the one that listens at an address is the same peer whenever it begins.
fn peer(listen: SocketAddr, connect: Option<SocketAddr>) -> Config {
    let mut config = Config::default();
    let mut set = |key: &str, value: &str| config.insert_json5(key, value).unwrap();
    set("mode", "\"peer\"");
    set("listen/endpoints", &format!("[\"tcp/{listen}\"]"));
    set("id", &format!("\"5ca1ab1e{:04x}\"", listen.port()));
    if let Some(connect) = connect {
        set("connect/endpoints", &format!("[\"tcp/{connect}\"]"));
    }
    set("connect/timeout_ms", "0");
    set("connect/exit_on_failure", "false");
    set("connect/retry", "{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }");
    set("scouting/multicast/enabled", "false");
    set("scouting/gossip/enabled", "false");
    set("transport/link/tx/lease", "3000");
    config
}

/// Waits until a session is told of the token.
async fn sees(session: &Session) {
    let tokens = session.liveliness().declare_subscriber(TOKEN).history(true).await.unwrap();
    let seen = tokio::time::timeout(WAIT, tokens.recv_async()).await.expect("the peer was not seen in time");
    assert_eq!(seen.unwrap().kind(), SampleKind::Put);
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_began_anew_meets_one_that_did_not_notice() {
    let (near, far) = (free(), free());
    let relay = Relay::to(far).await;
    let goes = session::configured(peer(far, None)).await.unwrap();
    let stays = session::configured(peer(near, Some(relay.address))).await.unwrap();
    let _token = stays.liveliness().declare_token(TOKEN).await.unwrap();
    sees(&goes).await;

    relay.be_deaf();
    goes.close().await.unwrap();
    let anew = session::configured(peer(far, Some(near))).await.unwrap();
    sees(&anew).await;
    relay.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_may_start_after_those_that_connect_to_it() {
    let later = free();
    let waits = session::open(&[format!("tcp/{}", free())], &[format!("tcp/{later}")]).await.unwrap();
    let _token = waits.liveliness().declare_token(TOKEN).await.unwrap();
    let starts = session::configured(peer(later, None)).await.unwrap();
    sees(&starts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_stays_meets_who_starts_later() {
    let later = free();
    let asks = session::stay(&[format!("tcp/{later}")]).await.unwrap();
    let starts = session::open(&[format!("tcp/{later}")], &[format!("tcp/{}", free())]).await.unwrap();
    let _token = starts.liveliness().declare_token(TOKEN).await.unwrap();
    sees(&asks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_one_agent_finds_the_others_whoever_has_the_greater_identity() {
    let (known, other) = (free(), free());
    let at = |address: SocketAddr| format!("tcp/{address}");
    let _known = session::open(&[at(known)], &[at(free())]).await.unwrap();
    let told = session::open(&[at(other)], &[at(known)]).await.unwrap();
    let _token = told.liveliness().declare_token(TOKEN).await.unwrap();
    // Each has a random identity.
    for _ in 0..8 {
        let asks = session::open(&[], &[at(known)]).await.unwrap();
        sees(&asks).await;
        let found = asks.info().peers_zid().await.count();
        assert_eq!(found, 2, "it is connected to both");
        asks.close().await.unwrap();
    }
}
