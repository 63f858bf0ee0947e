//! What these tests share: the real program, and agents that answer by a script, over a real session on this machine.

use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mose_bus::session;
use mose_protocol::agent::{Capability, Hello, Role};
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Response, Timestamp, envelope, keys};
use serde_json::Value;

/// How long the program may take for anything that these tests ask of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the program with `words`, where no lab and no settings of this machine are in its way.
pub(crate) fn mose(words: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mose"))
        .args(words)
        .env_remove("MOSE_CONNECT")
        .env_remove("MOSE_LOG")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (ended, waiting) = mpsc::channel();
    let complaints = std::thread::spawn(move || all_of(stderr));
    std::thread::spawn(move || ended.send(all_of(stdout)));
    let Ok(stdout) = waiting.recv_timeout(DEADLINE) else {
        child.kill().unwrap();
        panic!("mose {words:?} took longer than {DEADLINE:?}");
    };
    Output { status: child.wait().unwrap(), stdout, stderr: complaints.join().unwrap() }
}

/// What comes until the other end is closed.
fn all_of(mut from: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// What the program printed.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What the program complained of.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the program printed as JSON, one document a line.
pub(crate) fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A TCP port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What an agent answers. Events that come with it are published after it. One that is to be `Unreachable` does not answer, nor say that it
/// does not.
pub(crate) type Script = dyn Fn(&HostName, &Request) -> Option<(Response, Vec<StepEvent>)> + Send + Sync;

/// Agents on one endpoint.
pub(crate) struct Agents {
    /// For `--connect`.
    pub(crate) endpoint: String,
    session: zenoh::Session,
    runtime: tokio::runtime::Runtime,
}

impl Agents {
    /// Agents of `hosts` that introduce themselves, tell the time, and for the rest do as `script` says; what it leaves out they
    /// refuse as malformed, as agents of an earlier release would.
    pub(crate) fn start(
        hosts: &[&str],
        script: impl Fn(&HostName, &Request) -> Option<(Response, Vec<StepEvent>)> + Send + Sync + 'static,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let endpoint = format!("tcp/127.0.0.1:{}", free_port());
        let script: Arc<Script> = Arc::new(script);
        let session = runtime.block_on(async {
            // Who connects to somebody does not look for others by multicast.
            let nobody = format!("tcp/127.0.0.1:{}", free_port());
            let session = session::open(std::slice::from_ref(&endpoint), &[nobody]).await.unwrap();
            for host in hosts {
                answer(&session, host.parse().unwrap(), script.clone()).await;
            }
            session
        });
        Self { endpoint, session, runtime }
    }

    /// One more host whose agent is there, hears every request, and never answers.
    pub(crate) fn silent(&self, host: &str) {
        let host: HostName = host.parse().unwrap();
        self.runtime.block_on(async {
            let heard = std::sync::Mutex::new(Vec::new());
            let queryable = self
                .session
                .declare_queryable(keys::requests(&host))
                .complete(true)
                // As long as a query is kept, whoever asked waits.
                .callback(move |query| heard.lock().unwrap().push(query))
                .await
                .unwrap();
            let token = self.session.liveliness().declare_token(keys::live(&host)).await.unwrap();
            std::mem::forget((queryable, token));
        });
    }

    /// Tells of a step, as the host does that took it.
    pub(crate) async fn tell(&self, event: &StepEvent) {
        let key = keys::steps(&event.migration, &event.host);
        let put = self.session.put(key, envelope::seal(event).unwrap());
        // As an agent does: on a busy machine Zenoh drops what is not to be waited for.
        put.congestion_control(zenoh::qos::CongestionControl::Block).await.unwrap();
    }

    /// Does something beside the agents.
    pub(crate) fn run<T>(&self, todo: impl Future<Output = T>) -> T {
        self.runtime.block_on(todo)
    }

    /// Runs the program with these agents named.
    pub(crate) fn mose(&self, words: &[&str]) -> Output {
        mose(&[&["--connect", &self.endpoint], words].concat())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        let closed = async { tokio::time::timeout(Duration::from_secs(2), self.session.close()).await };
        // A session that does not close ends with this process.
        let _ = self.runtime.block_on(closed);
    }
}

async fn answer(session: &zenoh::Session, host: HostName, script: Arc<Script>) {
    let runtime = tokio::runtime::Handle::current();
    let (of_host, publisher) = (host.clone(), session.clone());
    let unanswered = std::sync::Mutex::new(Vec::new());
    let queryable = session
        .declare_queryable(keys::requests(&host))
        .complete(true)
        .callback(move |query| {
            let request: Request = envelope::open(&query.payload().unwrap().to_bytes()).unwrap();
            let (response, events) = match request {
                Request::Hello => (Ok(Reply::Hello(Box::new(hello(&of_host)))), Vec::new()),
                Request::Clock => (Ok(Reply::Clock(Timestamp::now())), Vec::new()),
                other => script(&of_host, &other).unwrap_or_else(|| {
                    let reason = format!("`{}` is not in the script", other.name());
                    (Err(Refusal::new(RefusalCode::Malformed, reason, "")), Vec::new())
                }),
            };
            if response.as_ref().is_err_and(|refusal| refusal.code == RefusalCode::Unreachable) {
                // As long as a query is kept, whoever asked waits.
                return unanswered.lock().unwrap().push(query);
            }
            let publisher = publisher.clone();
            runtime.spawn(async move {
                let bytes = envelope::seal(&response).unwrap();
                query.reply(query.key_expr().clone(), bytes).await.unwrap();
                for event in events {
                    let key = keys::steps(&event.migration, &event.host);
                    publisher.put(key, envelope::seal(&event).unwrap()).await.unwrap();
                }
            });
        })
        .await
        .unwrap();
    let token = session.liveliness().declare_token(keys::live(&host)).await.unwrap();
    // Both live as long as the session.
    std::mem::forget((queryable, token));
}

/// How an agent of these tests introduces itself.
pub(crate) fn hello(host: &HostName) -> Hello {
    Hello {
        host: host.clone(),
        role: Role::Edge,
        release: env!("CARGO_PKG_VERSION").into(),
        protocol: envelope::PROTOCOL_VERSION,
        capabilities: [Capability::Overlay, Capability::Containers, Capability::TransferTcp].into(),
        underlay: std::net::Ipv4Addr::LOCALHOST,
        tools: vec![("podman".into(), "5.4.2".into())],
        started_at: Timestamp(1),
        simulated: false,
    }
}
