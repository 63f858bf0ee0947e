//! Two hosts between which something is transferred.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use mose_bus::session;
use mose_transfer::{
    Folders, Receiver, Sender, TransferError, TransferLimits, TransportKind, TransportOffer, TreeFolder,
};
use tokio::net::TcpListener;

pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Two hosts: a link between them, if the transport needs one, and folders.
pub(crate) struct Pair {
    pub(crate) kind: TransportKind,
    pub(crate) sessions: Option<(zenoh::Session, zenoh::Session)>,
    dir: tempfile::TempDir,
    pub(crate) migration: String,
    pub(crate) limits: TransferLimits,
}

pub(crate) async fn opened(listen: Option<u16>, connect: Option<u16>) -> zenoh::Session {
    let mut config = zenoh::Config::default();
    let list = |port: Option<u16>| match port {
        Some(port) => format!(r#"["tcp/127.0.0.1:{port}"]"#),
        None => "[]".into(),
    };
    config.insert_json5("mode", r#""peer""#).unwrap();
    config.insert_json5("scouting/multicast/enabled", "false").unwrap();
    config.insert_json5("listen/endpoints", &list(listen)).unwrap();
    config.insert_json5("connect/endpoints", &list(connect)).unwrap();
    session::configured(config).await.unwrap()
}

pub(crate) async fn linked_sessions() -> (zenoh::Session, zenoh::Session) {
    for _ in 0..20 {
        let port = TcpListener::bind((LOCAL, 0)).await.unwrap().local_addr().unwrap().port();
        let one = opened(Some(port), None).await;
        let two = opened(None, Some(port)).await;
        // Another test may have been given the port in between.
        let alone =
            two.info().peers_zid().await.next().is_none() && one.info().peers_zid().await.next().is_none();
        if !alone {
            return (one, two);
        }
    }
    panic!("no link between two sessions");
}

impl Pair {
    pub(crate) async fn new(kind: TransportKind) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let sessions = match kind {
            TransportKind::Tcp => None,
            TransportKind::Zenoh => Some(linked_sessions().await),
        };
        let migration = format!("m{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let limits = TransferLimits { chunk: 64 << 10, window: 256 << 10, ..TransferLimits::default() };
        let pair = Self { kind, sessions, dir: tempfile::tempdir().unwrap(), migration, limits };
        for name in ["upper", "there", "images"] {
            fs::create_dir(pair.at(name)).unwrap();
        }
        pair
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn folders(&self) -> Folders {
        Folders {
            stream: self.at("stream"),
            images: self.at("checkpoint"),
            trees: vec![TreeFolder::whole(self.at("there"))],
        }
    }

    pub(crate) async fn open(&self) -> (Receiver, TransportOffer) {
        self.open_into(self.folders()).await
    }

    pub(crate) async fn open_into(&self, folders: Folders) -> (Receiver, TransportOffer) {
        let session = self.sessions.as_ref().map(|s| s.1.clone());
        Receiver::open(self.kind, LOCAL, session, &self.migration, folders, self.limits).await.unwrap()
    }

    pub(crate) async fn try_connect(&self, offer: &TransportOffer) -> Result<Sender, TransferError> {
        let session = self.sessions.as_ref().map(|s| s.0.clone());
        Sender::connect(offer, session, &self.migration, self.limits).await
    }

    pub(crate) async fn start(&self) -> (Receiver, Sender) {
        let (receiver, offer) = self.open().await;
        let sender = self.try_connect(&offer).await.unwrap();
        (receiver, sender)
    }
}

/// Bytes that no one would guess.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

/// Makes tests of functions that take a [`TransportKind`].
macro_rules! on_both_transports {
    ($($name:ident),* $(,)?) => {
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(super::TransportKind::Tcp).await; })*
        }
        mod zenoh_ {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(super::TransportKind::Zenoh).await; })*
        }
    };
}
pub(crate) use on_both_transports;
