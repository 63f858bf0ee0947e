//! Clients that are threads of this program, each with one connection among the lab's clients.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::events::Events;
use super::site::{PATIENCE, Site, enter};
use crate::counter::ping::unix_ms;
use crate::error::{Context, LabError};

/// What a client of a crowd works with.
pub(super) struct Member {
    /// Which of the crowd it is, from 0.
    pub(super) number: u32,
    /// Its connection.
    pub(super) stream: TcpStream,
    /// What it saw so far.
    pub(super) events: Events,
    stop: Arc<AtomicBool>,
    ready: Option<Sender<()>>,
}

impl Member {
    /// Whether it is to go on asking. Says, the first time that there was an answer, that it is under way.
    pub(super) fn goes_on(&mut self) -> bool {
        if !self.events.answered.is_empty() {
            self.under_way();
        }
        !self.stop.load(Relaxed)
    }

    /// It is under way.
    pub(super) fn under_way(&mut self) {
        if let Some(ready) = self.ready.take() {
            self.events.from_unix_ms = unix_ms();
            let _ = ready.send(());
        }
    }

    /// Notes how a request came out whose answer was waited for; whether its connection is still good.
    pub(super) fn judge(&mut self, sent: Instant, outcome: Result<(), Failure>) -> bool {
        match outcome {
            Ok(()) => self.events.answer(sent),
            Err(Failure::Wrong(words)) => self.events.failure(words),
            Err(Failure::Silent) => {
                self.events.silence(sent.elapsed());
                self.events.lost.push(unix_ms().saturating_sub(sent.elapsed().as_millis() as u64));
                return false;
            }
            Err(Failure::Broken(error)) => {
                self.events.failure(format!("client {}: its connection ended: {error}", self.number));
                return false;
            }
        }
        true
    }
}

/// Why a request was not answered as it should be.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing came.
    Silent,
    /// Something else came.
    Wrong(String),
    /// The connection ended.
    Broken(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Silent,
            _ => Failure::Broken(error),
        }
    }
}

/// A number of clients at work; `T` is what each of them remembers.
pub(super) struct Crowd<T> {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(Events, T), LabError>>>,
}

impl<T: Send + 'static> Crowd<T> {
    /// Starts them, and waits until all are under way.
    ///
    /// # Errors
    /// One of them did not get a first answer.
    pub(super) fn start(
        site: &Site,
        size: u32,
        work: impl Fn(&mut Member) -> T + Clone + Send + 'static,
    ) -> Result<Self, LabError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, ready) = channel();
        let mut threads = Vec::new();
        for number in 0..size {
            let (netns, endpoint) = (site.clients_netns()?, site.endpoint());
            let (stop, tell, work) = (stop.clone(), tell.clone(), work.clone());
            threads.push(std::thread::spawn(move || {
                enter(&netns)?;
                let stream = connect(endpoint)?;
                let mut member =
                    Member { number, stream, events: Events::default(), stop, ready: Some(tell) };
                let kept = work(&mut member);
                member.events.to_unix_ms = unix_ms();
                Ok((member.events, kept))
            }));
        }
        drop(tell);
        let crowd = Self { stop, threads };
        let until = Instant::now() + PATIENCE;
        for _ in 0..size {
            if ready.recv_timeout(until.saturating_duration_since(Instant::now())).is_err() {
                let words = match crowd.stop() {
                    Ok((events, _)) => events.words.join("; "),
                    Err(error) => error.to_string(),
                };
                return Err(LabError::Trial {
                    what: format!("starting the clients of {}", site.software.name),
                    why: format!("one of them got no answer: {words}"),
                });
            }
        }
        Ok(crowd)
    }

    /// Has them end; what they saw and what each of them remembers.
    ///
    /// # Errors
    /// One of them never got as far as asking.
    pub(super) fn stop(self) -> Result<(Events, Vec<T>), LabError> {
        self.stop.store(true, Relaxed);
        let asked = unix_ms();
        let (mut all, mut kept) = (Events::default(), Vec::new());
        for thread in self.threads {
            let (events, memory) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            all.add(events);
            kept.push(memory);
        }
        // What they did after they were asked to end was to wait for what was outstanding.
        all.to_unix_ms = all.to_unix_ms.min(asked);
        Ok((all, kept))
    }
}

/// Opens a connection.
pub(super) fn connect(endpoint: SocketAddr) -> Result<TcpStream, LabError> {
    let stream = TcpStream::connect_timeout(&endpoint, PATIENCE).doing(&format!("connect to {endpoint}"))?;
    stream.set_nodelay(true).doing("set up a connection")?;
    stream.set_read_timeout(Some(PATIENCE)).doing("set up a connection")?;
    stream.set_write_timeout(Some(PATIENCE)).doing("set up a connection")?;
    Ok(stream)
}

/// Keeps to a rhythm: waits until the next beat, and catches nothing up that was missed.
pub(super) struct Rhythm {
    next: Instant,
    period: Duration,
}

impl Rhythm {
    /// So many beats a second.
    pub(super) fn per_second(beats: u32) -> Self {
        Self { next: Instant::now(), period: Duration::from_secs(1) / beats.max(1) }
    }

    /// Waits for the next beat.
    pub(super) fn wait(&mut self) {
        let now = Instant::now();
        self.next = (self.next + self.period).max(now);
        std::thread::sleep(self.next - now);
    }
}

/// A text that follows from who wrote it and its number: what comes back is known without being kept.
pub(super) fn text_of(owner: &str, number: u64, length: usize) -> String {
    let mut text = format!("{owner}-{number}-");
    let mut state = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    while text.len() < length {
        state = xxhash_rust::xxh3::xxh3_64(&state.to_le_bytes());
        text += &format!("{state:016x}");
    }
    text.truncate(length.max(owner.len() + 22));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ_with_owner_and_number_and_are_as_long_as_asked_for() {
        let text = text_of("a", 1, 100);
        assert_eq!(text.len(), 100);
        assert!(text != text_of("a", 2, 100) && text != text_of("b", 1, 100));
        assert_eq!(text, text_of("a", 1, 100));
    }
}
