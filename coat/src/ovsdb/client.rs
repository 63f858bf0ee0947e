//! The connection to `ovsdb-server`: requests side by side, each with a deadline; made anew when it broke.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::frame::Framer;
use crate::CoatError;

#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
    params: Option<Value>,
    result: Option<Value>,
    error: Option<Value>,
}

type Reply = Result<Value, String>;
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>;

/// One connection; its task ends with it.
struct Connection {
    queue: mpsc::Sender<String>,
    waiting: Waiting,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client of one database server.
pub(crate) struct OvsdbClient {
    path: PathBuf,
    deadline: Duration,
    next: AtomicU64,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

impl OvsdbClient {
    pub(crate) fn new(path: PathBuf, deadline: Duration) -> Self {
        Self { path, deadline, next: AtomicU64::new(1), connection: tokio::sync::Mutex::new(None) }
    }

    fn unreachable(&self, reason: impl ToString) -> CoatError {
        CoatError::Unreachable { path: self.path.clone(), reason: reason.to_string(), daemon: "ovsdb-server" }
    }

    async fn connection(&self) -> Result<Arc<Connection>, CoatError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|c| !c.task.is_finished()) {
            return Ok(Arc::clone(connection));
        }
        let connection = connect(&self.path).await.map_err(|e| self.unreachable(e))?;
        Ok(Arc::clone(slot.insert(Arc::new(connection))))
    }

    /// Carries out operations as one transaction on the `Open_vSwitch` database and returns their results, one each.
    ///
    /// `patience` is added to the deadline, for a transaction that itself waits.
    pub(crate) async fn transact(
        &self,
        what: &str,
        operations: Vec<Value>,
        patience: Duration,
    ) -> Result<Vec<Value>, CoatError> {
        let count = operations.len();
        let mut params = vec![json!("Open_vSwitch")];
        params.extend(operations);
        let deadline = self.deadline + patience;
        let result = tokio::time::timeout(deadline, self.call("transact", Value::Array(params)))
            .await
            .map_err(|_| CoatError::Deadline { what: what.to_owned(), after: deadline })??;
        let refused = |reason: String| CoatError::Ovsdb { what: what.to_owned(), reason };
        let results = match result {
            Ok(Value::Array(results)) => results,
            Ok(_) => return Err(refused("its answer is no list".to_owned())),
            Err(reason) => return Err(refused(reason)),
        };
        // An error stands in the place of the operation that failed, or behind the last one.
        for result in &results {
            if let Some(error) = result.get("error").and_then(Value::as_str) {
                let details = result.get("details").and_then(Value::as_str).unwrap_or_default();
                return Err(refused(format!("{error} {details}").trim_end().to_owned()));
            }
        }
        if results.len() < count {
            return Err(refused("its answer is too short".to_owned()));
        }
        Ok(results)
    }

    async fn call(&self, method: &str, params: Value) -> Result<Reply, CoatError> {
        let connection = self.connection().await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (done, reply) = oneshot::channel();
        connection.waiting.lock().insert(id, done);
        let registered = Registered { waiting: &connection.waiting, id };
        let text = json!({ "method": method, "params": params, "id": id }).to_string();
        let broken = || self.unreachable("the connection broke");
        connection.queue.send(text).await.map_err(|_| broken())?;
        let reply = reply.await.map_err(|_| broken());
        drop(registered);
        reply
    }
}

/// Forgets a request when it ends, however it ends.
struct Registered<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

async fn connect(path: &Path) -> io::Result<Connection> {
    let (reader, writer) = UnixStream::connect(path).await?.into_split();
    let (queue, queued) = mpsc::channel(64);
    let waiting = Waiting::default();
    let (of_task, answers) = (Arc::clone(&waiting), queue.downgrade());
    let task = tokio::spawn(async move {
        let ended = tokio::select! {
            ended = read(reader, &of_task, &answers) => ended,
            ended = write(writer, queued) => ended,
        };
        tracing::debug!(error = ?ended.err(), "the OVSDB connection ended");
        // Tells those who wait.
        of_task.lock().clear();
    });
    Ok(Connection { queue, waiting, task })
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<String>) -> io::Result<()> {
    while let Some(text) = queue.recv().await {
        writer.write_all(text.as_bytes()).await?;
    }
    Ok(())
}

async fn read(
    mut reader: OwnedReadHalf,
    waiting: &Waiting,
    answers: &mpsc::WeakSender<String>,
) -> io::Result<()> {
    let invalid = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
    let mut framer = Framer::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        framer.push(&buffer[..count]);
        while let Some(text) = framer.next_text().map_err(|e| invalid(e.to_string()))? {
            let message: Message = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
            if message.method.as_deref() == Some("echo") {
                let answer = json!({ "id": message.id, "result": message.params, "error": null });
                if let Some(queue) = answers.upgrade() {
                    // A full queue means that the server reads nothing: it has no right to an answer.
                    let _ = queue.try_send(answer.to_string());
                }
                continue;
            }
            let Some(done) = message.id.and_then(|id| id.as_u64()).and_then(|id| waiting.lock().remove(&id))
            else {
                continue;
            };
            let reply = match message.error {
                None | Some(Value::Null) => Ok(message.result.unwrap_or(Value::Null)),
                Some(error) => Err(error.to_string()),
            };
            let _ = done.send(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncBufReadExt, net::UnixListener};

    use super::*;

    fn client(path: &Path) -> OvsdbClient {
        OvsdbClient::new(path.to_owned(), Duration::from_millis(500))
    }

    #[tokio::test]
    async fn nobody_listening_is_said_with_path_and_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sock");
        let error = client(&path).transact("x", vec![], Duration::ZERO).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("db.sock") && text.contains("is ovsdb-server running?"), "{text}");
    }

    #[tokio::test]
    async fn an_echo_between_request_and_reply_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio::io::BufReader::new(stream);
            let mut got = vec![0; 1024];
            let n = stream.read(&mut got).await.unwrap();
            let request: Value = serde_json::from_slice(&got[..n]).unwrap();
            let echo = r#"{"method":"echo","id":"echo","params":["are you there"]}"#;
            stream.write_all(echo.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_until(b'}', &mut answer).await.unwrap();
            let reply = json!({ "id": request["id"], "result": [{ "rows": [] }], "error": null });
            stream.write_all(reply.to_string().as_bytes()).await.unwrap();
            serde_json::from_slice::<Value>(&answer).unwrap()
        });
        let results =
            client(&path).transact("x", vec![json!({ "op": "select" })], Duration::ZERO).await.unwrap();
        assert_eq!(results, [json!({ "rows": [] })]);
        let answer = server.await.unwrap();
        assert_eq!(answer, json!({ "id": "echo", "result": ["are you there"], "error": null }));
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_meets_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = client(&path).transact("the test", vec![], Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, CoatError::Deadline { .. }), "{error}");
    }
}
