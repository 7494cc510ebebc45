//! A connection of TCP: bytes between the client and the process that owns it.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use exuvia_process::Payload;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::{Connection, PortEvent};
use crate::drain::Drained;
use crate::gateway::{Address, Shared};
use crate::head;
use crate::listener::Peer;
use crate::patience::{NEVER, Patient, STOPPING, linger};
use crate::port::Outgoing;
use crate::settings::{ConnectionLimits, Owner};
use crate::tls::Stream;
use exuvia_abi::io::{SOCKET_CLOSE, SOCKET_DATA, SOCKET_END, SOCKET_TEXT};

/// Bytes that are read at once.
const READ: usize = 16 << 10;

/// Serves a connection until it ends.
pub(crate) async fn connection<G: Send + 'static>(
    shared: &Arc<Shared<G>>,
    address: &Arc<Address>,
    owner: &Owner,
    (stream, peer): (Stream, Peer),
) {
    let limits = address.settings.load().0.limits.clone();
    let Ok(connection) = Connection::start(&shared.system, &shared.guests, &shared.limits) else {
        tracing::warn!(%peer, "a connection is refused: the node has as many processes as it may have");
        return;
    };
    let owner = match owner {
        Owner::Existing(existing) => shared.existing(existing, address),
        Owner::Module(module) => {
            let started = connection.own(module.clone()).await;
            started.map_err(|error| error.to_string())
        }
    };
    let owner = match owner {
        Ok(owner) => owner,
        Err(error) => {
            tracing::warn!(%peer, "a connection is closed: {error}");
            return;
        }
    };
    connection.open(owner, head::opened("tcp", None, peer));
    serve(&connection, stream, &limits, &shared.drain.enter()).await;
}

/// Serves an open connection, whichever side has made it, until it ends.
pub(crate) async fn serve<G: Send + 'static>(
    connection: &Connection<G>,
    stream: Stream,
    limits: &ConnectionLimits,
    drained: &Drained,
) {
    let mut serving = Serving {
        connection,
        stream: Patient::new(stream, limits.timeout),
        idle: limits.idle.unwrap_or(NEVER),
        buffer: Vec::new(),
        has_read_all: false,
        has_written_all: false,
        is_killed: false,
    };
    let (reason, is_told) = serving.run(drained).await;
    connection.set_reason(reason);
    let mut stream = serving.stream;
    let (has_read_all, is_killed) = (serving.has_read_all, serving.is_killed);
    let finish = async {
        if reason != "closed" || is_killed {
            return;
        }
        let time = if drained.is_stopping() {
            STOPPING
        } else {
            limits.reading
        };
        let ends = timeout(time, stream.shutdown()).await;
        if matches!(ends, Ok(Ok(()))) && !has_read_all {
            linger(&mut stream, time).await;
        }
    };
    let tell = async {
        if !is_told {
            let closed = head::closed(if reason == "closed" { 1000 } else { 1006 }, reason);
            connection.close(closed).await;
        }
    };
    tokio::join!(finish, tell);
}

struct Serving<'a, G: 'static> {
    connection: &'a Connection<G>,
    stream: Patient<Stream>,
    idle: Duration,
    /// What is read, of an encrypted connection.
    buffer: Vec<u8>,
    /// The client sends no more.
    has_read_all: bool,
    /// The owner sends no more.
    has_written_all: bool,
    /// The process of the connection was killed.
    is_killed: bool,
}

impl<G: Send + 'static> Serving<'_, G> {
    /// Returns why the connection ended, and whether its owner knows it.
    async fn run(&mut self, drained: &Drained) -> (&'static str, bool) {
        let mut turn = pin!(drained.turn());
        // What has arrived and waits for credit.
        let mut arrived: Option<(u32, Payload)> = None;
        let mut quiet_until = Instant::now() + self.idle;
        loop {
            if self.has_read_all && self.has_written_all && arrived.is_none() {
                return ("closed", false);
            }
            let waits = arrived.is_some();
            tokio::select! {
                event = self.connection.port_event() => {
                    quiet_until = Instant::now() + self.idle;
                    match event {
                        PortEvent::Write(queue) => {
                            let connection = self.connection;
                            let end = tokio::select! {
                                end = self.write(queue) => end,
                                () = connection.ended() => {
                                    self.is_killed = true;
                                    return ("closed", true);
                                }
                            };
                            if let Some(end) = end {
                                return end;
                            }
                        }
                        // What it had sent is written.
                        PortEvent::OwnerEnded(_) => return ("closed", true),
                        PortEvent::TooLarge => return ("reset", false),
                        PortEvent::Closed | PortEvent::Unread => {
                            self.is_killed = true;
                            return ("closed", true);
                        }
                    }
                }
                has_credit = self.connection.credit(), if waits => {
                    if let Some((tag, payload)) = arrived.take()
                        && has_credit
                    {
                        self.connection.deliver(tag, payload);
                        quiet_until = Instant::now() + self.idle;
                    }
                }
                read = read(&mut self.stream, &mut self.buffer), if !waits && !self.has_read_all => {
                    quiet_until = Instant::now() + self.idle;
                    match read {
                        Ok(bytes) if bytes.is_empty() => {
                            self.has_read_all = true;
                            arrived = Some((SOCKET_END, Payload::empty()));
                        }
                        Ok(bytes) => arrived = Some((SOCKET_DATA, bytes)),
                        Err(_) => return ("reset", false),
                    }
                }
                () = sleep_until(quiet_until), if !waits => return ("timeout", false),
                () = &mut turn => return ("closed", false),
            }
        }
    }

    /// Writes what the owner has sent. Returns the end if there is one.
    async fn write(&mut self, queue: VecDeque<Outgoing>) -> Option<(&'static str, bool)> {
        let mut writes = self.connection.writes(queue);
        while let Some((tag, payload)) = writes.next() {
            let written = match tag {
                SOCKET_DATA | SOCKET_TEXT if !self.has_written_all => {
                    let written = self.stream.write_all(payload.as_slice()).await;
                    // An encrypted connection keeps a part for itself otherwise.
                    match written {
                        Ok(()) => self.stream.flush().await,
                        error => error,
                    }
                }
                SOCKET_END | SOCKET_CLOSE => {
                    self.has_written_all = true;
                    self.stream.shutdown().await
                }
                _ => {
                    writes.refuse("this side has ended");
                    continue;
                }
            };
            match written {
                Ok(()) => writes.written(),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Some(("timeout", false));
                }
                Err(_) => return Some(("reset", false)),
            }
            if tag == SOCKET_CLOSE {
                return Some(("closed", true));
            }
        }
        None
    }
}

/// Reads what has arrived; nothing at the end. A connection at rest has no buffer, but for an encrypted one.
async fn read(stream: &mut Patient<Stream>, buffer: &mut Vec<u8>) -> io::Result<Payload> {
    if let Stream::Tls(_) = stream.get_ref() {
        buffer.resize(READ, 0);
        let count = stream.read(buffer).await?;
        return Ok(Payload::new(&buffer[..count]));
    }
    loop {
        // A client that always has more would keep the thread otherwise: nothing here waits then.
        consume_budget().await;
        let plain = stream.get_ref();
        plain.readable().await?;
        let mut bytes = vec![0; READ];
        match plain.try_read(&mut bytes) {
            Ok(count) => return Ok(Payload::new(&bytes[..count])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
