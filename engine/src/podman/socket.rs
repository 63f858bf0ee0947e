//! The calls that the podman-api crate lacks, over the same socket: raw libpod REST.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::body::HttpBody;
use hyper::{Body, Client, Method, Request, StatusCode};
use hyperlocal::{UnixClientExt, UnixConnector, Uri};
use mose_protocol::{Refusal, RefusalCode};
use serde_json::Value;
use tokio::io::AsyncRead;

use super::CALL_DEADLINE;

/// The libpod API version whose paths are used; Podman keeps serving older ones.
const API: &str = "/v4.0.0/libpod";

/// How long Podman may take to remove something, or to begin to send it.
const SLOW_CALL: Duration = Duration::from_secs(120);

/// How long Podman may take to take in a file.
const UPLOAD: Duration = Duration::from_secs(600);

/// How long an answer that has begun may stand still.
const SILENCE: Duration = Duration::from_secs(60);

/// The largest JSON answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// A client for raw libpod requests.
#[derive(Clone)]
pub(super) struct Socket {
    path: PathBuf,
    client: Client<UnixConnector>,
}

impl Socket {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), client: Client::unix() }
    }

    /// The error of a socket that does not answer.
    pub(super) fn unreachable(&self, reason: &dyn std::fmt::Display) -> Refusal {
        Refusal::new(
            RefusalCode::Engine,
            format!("Podman does not answer on {}: {reason}", self.path.display()),
            format!("start its service: podman system service --time=0 unix://{}", self.path.display()),
        )
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Body,
        deadline: Duration,
    ) -> Result<hyper::Response<Body>, Refusal> {
        let uri: hyper::Uri = Uri::new(&self.path, &format!("{API}{path}")).into();
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", content_type)
            .body(body)
            .map_err(|error| self.unreachable(&error))?;
        match tokio::time::timeout(deadline, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.unreachable(&causes(&error))),
            Err(_) => Err(self.unreachable(&format!("no answer to {path} within {deadline:?}"))),
        }
    }

    async fn json_of(&self, what: &str, response: hyper::Response<Body>) -> Result<Value, Refusal> {
        let status = response.status();
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        loop {
            let chunk = tokio::time::timeout(SILENCE, body.data()).await;
            let chunk = chunk
                .map_err(|_| self.unreachable(&format!("its answer to {what} stopped for {SILENCE:?}")))?;
            let Some(chunk) = chunk else { break };
            bytes.extend_from_slice(&chunk.map_err(|error| self.unreachable(&causes(&error)))?);
            if bytes.len() > MAX_ANSWER {
                return Err(self.unreachable(&format!("its answer to {what} is over {MAX_ANSWER} bytes")));
            }
        }
        let value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into()))
        };
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(value);
        }
        let said = value["message"].as_str().or(value["cause"].as_str()).unwrap_or("no reason given");
        Err(Refusal::new(
            if status == StatusCode::NOT_FOUND { RefusalCode::UnknownService } else { RefusalCode::Engine },
            format!("Podman could not {what}: {said}"),
            "see the agent's log and CRIU's own log on that host",
        ))
    }

    /// `GET path`, its answer as JSON. `what` names the deed for errors.
    pub(super) async fn get(&self, what: &str, path: &str) -> Result<Value, Refusal> {
        let response = self.send(Method::GET, path, "application/json", Body::empty(), CALL_DEADLINE).await?;
        self.json_of(what, response).await
    }

    /// `POST path` with a JSON body, its answer as JSON.
    pub(super) async fn post(
        &self,
        what: &str,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Value, Refusal> {
        let body = body.map_or_else(Body::empty, |value| Body::from(value.to_string()));
        let response = self.send(Method::POST, path, "application/json", body, deadline).await?;
        self.json_of(what, response).await
    }

    /// `POST path` with bytes of some type as the body, its answer as JSON.
    pub(super) async fn post_bytes(
        &self,
        what: &str,
        path: &str,
        content_type: &str,
        bytes: Vec<u8>,
        deadline: Duration,
    ) -> Result<Value, Refusal> {
        let response = self.send(Method::POST, path, content_type, Body::from(bytes), deadline).await?;
        self.json_of(what, response).await
    }

    /// `DELETE path`.
    pub(super) async fn delete(&self, what: &str, path: &str) -> Result<Value, Refusal> {
        let deadline = SLOW_CALL;
        let response = self.send(Method::DELETE, path, "application/json", Body::empty(), deadline).await?;
        self.json_of(what, response).await
    }

    /// `GET path`, its body as a stream of bytes.
    pub(super) async fn download(
        &self,
        what: &str,
        path: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, Refusal> {
        let response = self.send(Method::GET, path, "application/json", Body::empty(), SLOW_CALL).await?;
        if !response.status().is_success() {
            return Err(match self.json_of(what, response).await {
                Ok(_) => self.unreachable(&"an answer that cannot be read"),
                Err(refusal) => refusal,
            });
        }
        let stream = futures_util::stream::try_unfold(response.into_body(), |mut body| async {
            match tokio::time::timeout(SILENCE, body.data()).await {
                Ok(Some(chunk)) => chunk.map(|chunk| Some((chunk, body))).map_err(std::io::Error::other),
                Ok(None) => Ok(None),
                Err(_) => {
                    let reason = format!("Podman sent nothing for {SILENCE:?}");
                    Err(std::io::Error::new(std::io::ErrorKind::TimedOut, reason))
                }
            }
        });
        Ok(Box::new(Box::pin(tokio_util::io::StreamReader::new(stream))))
    }

    /// `POST path` with a file as the body.
    pub(super) async fn upload(&self, what: &str, path: &str, file: &Path) -> Result<Value, Refusal> {
        let file = tokio::fs::File::open(file).await.map_err(|error| {
            Refusal::new(RefusalCode::Failed, format!("{} cannot be read: {error}", file.display()), "")
        })?;
        let body = Body::wrap_stream(tokio_util::io::ReaderStream::with_capacity(file, 1 << 20));
        let response = self.send(Method::POST, path, "application/x-tar", body, UPLOAD).await?;
        self.json_of(what, response).await
    }
}

/// An error with all that caused it: what a library says first is often only that something failed.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = error.source();
    }
    said
}

/// For a query (RFC 3986, 2.1).
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut whole, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            whole.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(whole, "%{byte:02X}");
        }
        whole
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::new(&folder.path().join("podman.sock"));
        let refusal = socket.get("say who it is", "/info").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Engine);
        assert!(refusal.reason.ends_with("No such file or directory (os error 2)"), "{refusal}");
    }

    #[tokio::test]
    async fn an_answer_that_stops_half_way_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("podman.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let half = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
            tokio::io::AsyncWriteExt::write_all(&mut stream, head).await.unwrap();
            std::future::pending::<()>().await;
        });
        let socket = Socket::new(&path);
        let answer =
            socket.send(Method::GET, "/info", "application/json", Body::empty(), CALL_DEADLINE).await;
        // From here on the clock goes as soon as there is nothing to do but to wait.
        tokio::time::pause();
        let refusal = socket.json_of("say who it is", answer.unwrap()).await.unwrap_err();
        assert!(refusal.reason.ends_with("its answer to say who it is stopped for 60s"), "{refusal}");
        half.abort();
    }

    #[test]
    fn a_query_keeps_what_a_name_may_hold() {
        assert_eq!(encoded(r#"{"volume":["a_b"]}"#), "%7B%22volume%22%3A%5B%22a_b%22%5D%7D");
    }
}
