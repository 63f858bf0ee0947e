//! The vehicle's connection to its autopilot.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use crate::wire::{Incoming, Message, Outgoing};

/// How long the autopilot may take to accept a connection, or nothing of what it is sent.
const CONNECTING: Duration = Duration::from_secs(5);
const DEAF: Duration = Duration::from_secs(60);

/// A connection that stands.
pub(super) struct Link {
    outgoing: Outgoing<TcpStream>,
    incoming: Receiver<(Instant, Message)>,
}

impl Link {
    pub(super) fn to(autopilot: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&autopilot, CONNECTING)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DEAF))?;
        let mut incoming = Incoming::over(stream.try_clone()?);
        let (tell, messages) = channel();
        // It ends with the connection, or when nobody listens to it any more.
        std::thread::spawn(move || {
            while let Ok(message) = incoming.read() {
                if tell.send((Instant::now(), message)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { outgoing: Outgoing::over(stream), incoming: messages })
    }

    /// The next message that has come, and when; an error where the connection has ended.
    pub(super) fn heard(&self) -> io::Result<Option<(Instant, Message)>> {
        match self.incoming.try_recv() {
            Ok(heard) => Ok(Some(heard)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    pub(super) fn send(&mut self, message: Message) -> io::Result<()> {
        self.outgoing.send(message)
    }

    /// Asks for the flight recorder: entries written (modulo 65 536), and bytes that are as they were written.
    pub(super) fn recorder(&mut self, patience: Duration) -> Option<(u16, u32)> {
        self.send(Message::AskLog).ok()?;
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let (_, Message::Log { written, intact }) = self.incoming.recv_timeout(left).ok()? {
                return Some((written, intact));
            }
        }
    }
}
