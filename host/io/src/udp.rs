//! Datagrams between a process and another machine.
//!
//! A datagram may be lost on its way, and so it may be here: one that arrives while the process has not acknowledged those
//! before it is dropped and counted. Nothing waits, so nobody is slowed.

use std::collections::VecDeque;
use std::io;

use exuvia_process::Payload;
use tokio::net::UdpSocket;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, PortEvent};
use crate::head;
use crate::patience::NEVER;
use crate::port::Outgoing;
use crate::settings::ConnectionLimits;
use exuvia_abi::io::{SOCKET_CLOSE, SOCKET_DATA, SOCKET_END, SOCKET_TEXT};

/// Bytes that a datagram may have.
pub(crate) const DATAGRAM: usize = 64 << 10;

/// Serves a socket until it ends.
pub(crate) async fn serve<G: Send + 'static>(
    connection: &Connection<G>,
    socket: UdpSocket,
    limits: &ConnectionLimits,
) {
    let mut lost: u64 = 0;
    let end = run(connection, &socket, limits, &mut lost).await;
    if lost > 0 {
        tracing::warn!(
            lost,
            "datagrams were dropped: their process did not acknowledge those before in time"
        );
    }
    if let Some(reason) = end {
        connection.set_reason(reason);
        let code = if reason == "closed" { 1000 } else { 1006 };
        connection
            .close(head::closed_with(code, reason, lost))
            .await;
    }
}

/// Returns why the socket has ended, unless its owner knows it.
async fn run<G: Send + 'static>(
    connection: &Connection<G>,
    socket: &UdpSocket,
    limits: &ConnectionLimits,
    lost: &mut u64,
) -> Option<&'static str> {
    let idle = limits.idle.unwrap_or(NEVER);
    let mut quiet_until = Instant::now() + idle;
    loop {
        tokio::select! {
            event = connection.port_event() => match event {
                PortEvent::Write(queue) => {
                    quiet_until = Instant::now() + idle;
                    if write(connection, socket, queue).await {
                        return None;
                    }
                }
                PortEvent::TooLarge => return Some("reset"),
                PortEvent::OwnerEnded(_) | PortEvent::Unread | PortEvent::Closed => return None,
            },
            datagram = receive(connection, socket) => {
                quiet_until = Instant::now() + idle;
                match datagram {
                    Ok(bytes) if connection.has_credit() => {
                        connection.deliver(SOCKET_DATA, Payload::new(&bytes));
                    }
                    Ok(_) => *lost += 1,
                    // Nobody listens there now: that was the answer to a datagram, which is lost.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => return Some("reset"),
                }
            }
            () = sleep_until(quiet_until) => return Some("timeout"),
        }
    }
}

/// Waits for a datagram. If they are read on request, those that nobody reads are left to the system.
async fn receive<G: Send + 'static>(
    connection: &Connection<G>,
    socket: &UdpSocket,
) -> io::Result<Vec<u8>> {
    if connection.is_passive() && !connection.credit().await {
        // The other branch says why.
        std::future::pending::<()>().await;
    }
    loop {
        // A flood would keep the thread otherwise: none of these waits while there is something.
        consume_budget().await;
        socket.readable().await?;
        let mut bytes = Vec::with_capacity(DATAGRAM);
        match socket.try_recv_buf(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends datagrams. Returns whether the socket is to be closed.
async fn write<G: Send + 'static>(
    connection: &Connection<G>,
    socket: &UdpSocket,
    queue: VecDeque<Outgoing>,
) -> bool {
    let mut writes = connection.writes(queue);
    while let Some((tag, payload)) = writes.next() {
        match tag {
            SOCKET_DATA | SOCKET_TEXT => match socket.send(payload.as_slice()).await {
                Ok(_) => writes.written(),
                Err(error) => writes.refuse(&error.to_string()),
            },
            SOCKET_END | SOCKET_CLOSE => {
                writes.written();
                return true;
            }
            _ => {}
        }
    }
    false
}
