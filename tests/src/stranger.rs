//! An agent of another protocol version: it is there, introduces itself, and cannot be spoken to.

use mose_protocol::agent::{Hello, Role};
use mose_protocol::envelope::Message as _;
use mose_protocol::{HostName, Reply, Response, Timestamp, envelope, keys};
use tokio::runtime::Runtime;

/// Such an agent, of a host called `edge-x`.
pub struct Stranger {
    /// Where it is found.
    pub endpoint: String,
    runtime: Runtime,
    session: zenoh::Session,
}

impl Stranger {
    /// Listens there.
    #[must_use]
    pub fn at(endpoint: &str) -> Self {
        let runtime = Runtime::new().expect("threads");
        let session = runtime.block_on(Self::introduce(endpoint));
        Self { endpoint: endpoint.to_owned(), runtime, session }
    }

    async fn introduce(endpoint: &str) -> zenoh::Session {
        let listen = [endpoint.to_owned()];
        let session =
            mose_bus::session::open(&listen, &["tcp/127.0.0.1:1".into()]).await.expect("the address is free");
        let host: HostName = "edge-x".parse().expect("a host's name");
        let hello = Hello {
            host: host.clone(),
            role: Role::Edge,
            release: "99.0.0".into(),
            protocol: envelope::PROTOCOL_VERSION + 1,
            capabilities: [].into(),
            underlay: [127, 0, 0, 1].into(),
            tools: Vec::new(),
            started_at: Timestamp::now(),
            simulated: false,
        };
        let answer: Response = Ok(Reply::Hello(Box::new(hello)));
        let bytes = answer.seal_as(envelope::PROTOCOL_VERSION + 1).expect("it is small");
        session
            .declare_queryable(&keys::requests(&host))
            .callback(move |query| {
                // What a peer of another version makes of our requests: it cannot read them.
                assert!(query.payload().is_some());
                let key = query.key_expr().clone();
                let bytes = bytes.clone();
                tokio::spawn(async move { query.reply(key, bytes).await });
            })
            .background()
            .await
            .expect("it can answer");
        let token = session.liveliness().declare_token(keys::live(&host)).await.expect("it can be seen");
        // It lives as long as the session.
        std::mem::forget(token);
        session
    }

    /// Goes.
    pub fn leave(self) {
        self.runtime.block_on(async { self.session.close().await }).expect("the session ends");
    }
}
