//! An address of UDP: a process gets each of its datagrams, and answers.
//!
//! One task reads all datagrams of an address, on the thread that accepts connections: a flood takes no time of a scheduler. A
//! process that gets some has a socket of its own for the address, with a port: it has its own window, and when it is slow
//! it loses its own datagrams; others lose some only in a flood, when reading rests and the system has no room for what comes.
//! Nothing waits, so what finds no room is dropped and counted.
//!
//! A process may answer, but not send to any address: that is what sockets to the outside are for, with their grants.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::ready;
use std::hash::BuildHasher as _;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use exuvia_abi::Pid;
use exuvia_process::{Envelope, ReportInterval, SpawnError};
use foldhash::fast::FixedState;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::{CLOSING, Connection, PortEvent};
use crate::gateway::{Address, REFUSED, Shared};
use crate::head;
use crate::listener::ListenAddress;
use crate::port::{Outgoing, Port};
use crate::settings::{Existing, Protocol};
use crate::udp::DATAGRAM;
use exuvia_abi::io::SOCKET_DATAGRAM;

/// Processes that may have a socket of one address.
const SOCKETS: usize = 10_000;
/// From how many on it is looked which of them have ended.
const FEW: usize = 64;
/// Addresses that may be answered: at least so many that were the last to send something, and at most twice as many.
const PEERS: usize = 16 << 10;
/// After so many datagrams in a row that were dropped, reading rests: then the system drops what comes, which costs less.
const DROPPED_IN_A_ROW: u32 = 100;
/// How long it rests.
const REST: Duration = Duration::from_millis(1);

/// What an address of UDP and the sockets of its processes share.
struct Listening<G: 'static> {
    shared: Arc<Shared<G>>,
    address: Arc<Address>,
    socket: UdpSocket,
    peers: Mutex<Peers>,
    lost: Lost,
}

/// Who may be answered. Forged addresses of a flood cannot fill it: only what a process gets counts.
#[derive(Debug, Default)]
struct Peers {
    recent: HashSet<SocketAddr, FixedState>,
    before: HashSet<SocketAddr, FixedState>,
}

impl Peers {
    fn heard(&mut self, peer: SocketAddr) {
        if self.recent.len() >= PEERS && !self.recent.contains(&peer) {
            self.before = mem::take(&mut self.recent);
        }
        self.recent.insert(peer);
    }

    fn may_be_answered(&self, peer: &SocketAddr) -> bool {
        self.recent.contains(peer) || self.before.contains(peer)
    }
}

/// Datagrams that were dropped since the last line of the log.
#[derive(Debug, Default)]
struct Lost {
    /// Nobody has the name or is in the group.
    no_process: AtomicU64,
    /// There is no socket for their process.
    no_socket: AtomicU64,
    /// Its process has not acknowledged those before.
    late: AtomicU64,
    /// They have too many bytes for the address, or for the whole mailbox of the process.
    too_large: AtomicU64,
    /// Answers to addresses from which nothing had come.
    unasked: AtomicU64,
    /// Those that the system has dropped so far, as far as they were logged.
    by_system: AtomicU64,
    reports: ReportInterval,
    /// For looks at what the system has dropped.
    looks: ReportInterval,
}

impl Lost {
    /// Returns what was dropped since the last time, if anything was, and begins to count anew. `by_system`: what the system has
    /// dropped so far, if it says so.
    fn report(&self, by_system: Option<u64>) -> Option<String> {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let by_system = by_system.map_or(0, |count| {
            count.saturating_sub(self.by_system.swap(count, Ordering::Relaxed))
        });
        let no_socket = format!(
            "for whose process there was no socket (an address has at most {SOCKETS}, each a process of the node)"
        );
        let all = [
            (
                take(&self.late),
                "for which their process was too slow (`queue`)",
            ),
            (
                by_system,
                "for which the system had no room before they were read",
            ),
            (
                take(&self.no_process),
                "for which there was no process with the name, or in the group",
            ),
            (take(&self.no_socket), &no_socket),
            (
                take(&self.too_large),
                "that were larger than `datagram` or than the mailbox of the process",
            ),
            (
                take(&self.unasked),
                "that were answers to nobody who had sent one",
            ),
        ];
        let some = all.into_iter().filter(|(count, _)| *count > 0);
        let some: Vec<String> = some.map(|(count, why)| format!("{count} {why}")).collect();
        (!some.is_empty()).then(|| some.join(", "))
    }
}

/// Returns how many datagrams the system has dropped that had come to a socket, which its tables say (`/proc/net/udp`).
fn dropped_by_system(socket: &UdpSocket) -> Option<u64> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino.to_string();
    let of_socket = |table: &str| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().find_map(|line| {
            let mut cells = line.split_ascii_whitespace();
            let is_it = cells.nth(9) == Some(inode.as_str());
            is_it.then(|| cells.last()?.parse().ok())?
        })
    };
    of_socket("/proc/net/udp").or_else(|| of_socket("/proc/net/udp6"))
}

impl<G: 'static> Listening<G> {
    /// Counts a datagram that is dropped.
    fn drops(&self, count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
        if self.lost.reports.admits(&self.shared.system.clock) {
            self.report(dropped_by_system(&self.socket));
        }
    }

    /// Looks now and then whether the system drops some. It has to read a table for that.
    fn look(&self) {
        let (lost, clock) = (&self.lost, &self.shared.system.clock);
        if !lost.looks.admits(clock) {
            return;
        }
        let by_system = dropped_by_system(&self.socket);
        if by_system > Some(lost.by_system.load(Ordering::Relaxed)) && lost.reports.admits(clock) {
            self.report(by_system);
        }
    }

    /// Logs what was dropped, if anything was. `by_system`: by the system so far.
    fn report(&self, by_system: Option<u64>) {
        let Some(what) = self.lost.report(by_system) else {
            return;
        };
        let at = match self.socket.local_addr() {
            Ok(at) => ListenAddress::Udp(at),
            // That of the manifest, whose port may be any.
            Err(_) => self.address.settings.load().0.address.clone(),
        };
        tracing::warn!("datagrams at {at} were dropped: {what}");
    }

    /// Returns who gets a datagram. Of a group, those of one address go to one member, as the bytes of a connection do, as long as
    /// the group stays the same.
    fn receiver(&self, to: &Existing, peer: SocketAddr) -> Option<Pid> {
        let system = &self.shared.system;
        match to {
            Existing::Name(name) => system.names.find(name),
            Existing::Group(group) => {
                let members = system.groups.members(group);
                let hash = FixedState::default().hash_one(peer) as usize;
                let at = hash.checked_rem(members.len())?;
                members.from(at).next().copied()
            }
        }
    }
}

impl<G: 'static> Drop for Listening<G> {
    fn drop(&mut self) {
        self.report(dropped_by_system(&self.socket));
    }
}

/// The socket of a process at an address.
struct Owned<G: 'static> {
    connection: Connection<G>,
    /// Those of this process.
    lost: AtomicU64,
}

/// Reads the datagrams of an address until the task is ended. Then the sockets of processes end by themselves: what they have
/// got is answered before. `under_way` is kept until then.
pub(crate) async fn serve<G: Send + 'static>(
    shared: Arc<Shared<G>>,
    address: Arc<Address>,
    socket: UdpSocket,
    under_way: Arc<()>,
) {
    let listening = Arc::new(Listening {
        shared,
        address,
        socket,
        peers: Mutex::default(),
        lost: Lost::default(),
    });
    // Dropped with this task.
    let (_is_open, closes) = watch::channel(());
    let mut sockets: HashMap<Pid, Weak<Owned<G>>, FixedState> = HashMap::default();
    let (mut looked_at, mut looked) = (FEW, None::<Instant>);
    let mut buffer = vec![0; DATAGRAM];
    let mut dropped = 0;
    loop {
        let (count, peer) = match listening.socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!("no datagram is read for a moment: {error}");
                sleep(REFUSED).await;
                continue;
            }
        };
        listening.look();
        let settings = listening.address.settings.load();
        let Protocol::Udp(datagrams) = &settings.0.protocol else {
            continue;
        };
        let became = 'became: {
            if count > datagrams.datagram {
                break 'became Err(&listening.lost.too_large);
            }
            let Some(owner) = listening.receiver(&datagrams.to, peer) else {
                break 'became Err(&listening.lost.no_process);
            };
            let known = sockets.get(&owner).and_then(Weak::upgrade);
            let owned = match known {
                Some(owned) => owned,
                None => {
                    // Of many that all live, not for each datagram.
                    let is_time = looked.is_none_or(|last| last.elapsed() >= REST);
                    if sockets.len() >= looked_at && is_time {
                        sockets.retain(|_, owned| owned.strong_count() > 0);
                        looked_at = (2 * sockets.len()).clamp(FEW, SOCKETS);
                        looked = Some(Instant::now());
                    }
                    if sockets.len() >= SOCKETS {
                        break 'became Err(&listening.lost.no_socket);
                    }
                    let Ok(owned) = open(&listening, owner, &closes, &under_way) else {
                        break 'became Err(&listening.lost.no_socket);
                    };
                    sockets.insert(owner, Arc::downgrade(&owned));
                    owned
                }
            };
            if !owned.connection.has_credit_of(datagrams.queue) {
                owned.lost.fetch_add(1, Ordering::Relaxed);
                break 'became Err(&listening.lost.late);
            }
            let payload = head::datagram(peer, &buffer[..count]);
            let message = Envelope::message(owner, SOCKET_DATAGRAM, payload.clone());
            if !listening.shared.system.could_accept(owner, &message) {
                break 'became Err(&listening.lost.too_large);
            }
            listening.peers.lock().heard(peer);
            owned.connection.deliver(SOCKET_DATAGRAM, payload);
            Ok(())
        };
        drop(settings);
        match became {
            Ok(()) => dropped = 0,
            Err(count) => {
                listening.drops(count);
                dropped += 1;
                if dropped >= DROPPED_IN_A_ROW {
                    dropped = 0;
                    sleep(REST).await;
                }
            }
        }
    }
}

/// Opens the socket of a process.
fn open<G: Send + 'static>(
    listening: &Arc<Listening<G>>,
    owner: Pid,
    closes: &watch::Receiver<()>,
    under_way: &Arc<()>,
) -> Result<Arc<Owned<G>>, SpawnError> {
    let shared = &listening.shared;
    let connection = Connection::start(&shared.system, &shared.guests, &shared.limits)?;
    let port = Port::datagrams(owner);
    connection.open_port(port, owner, head::opened_address());
    let owned = Arc::new(Owned {
        connection,
        lost: AtomicU64::new(0),
    });
    let (listening, closes) = (listening.clone(), closes.clone());
    let (serving, under_way) = (owned.clone(), under_way.clone());
    tokio::spawn(async move {
        serve_owner(listening, serving, closes).await;
        drop(under_way);
    });
    Ok(owned)
}

/// Sends what a process answers, until it ends or the address is closed.
async fn serve_owner<G: Send + 'static>(
    listening: Arc<Listening<G>>,
    owned: Arc<Owned<G>>,
    mut closes: watch::Receiver<()>,
) {
    let connection = &owned.connection;
    let mut ends_at = None;
    loop {
        tokio::select! {
            biased;
            // It is dropped, and never changes.
            _ = closes.changed(), if ends_at.is_none() => ends_at = Some(Instant::now() + CLOSING),
            // What it has got is answered.
            () = connection.answered(), if ends_at.is_some() => break,
            () = sleep_until(ends_at.unwrap_or_else(Instant::now)), if ends_at.is_some() => break,
            event = connection.port_event() => match event {
                PortEvent::Write(queue) => if write(&listening, connection, queue).await {
                    return;
                },
                PortEvent::OwnerEnded(_)
                | PortEvent::TooLarge
                | PortEvent::Unread
                | PortEvent::Closed => return,
            },
        }
    }
    tokio::select! {
        biased;
        event = connection.port_event() => if let PortEvent::Write(queue) = event {
            write(&listening, connection, queue).await;
        },
        // There is nothing.
        () = ready(()) => {}
    }
    // The address is free before the process has taken its end.
    drop(listening);
    connection.set_reason("closed");
    let lost = owned.lost.load(Ordering::Relaxed);
    let closed = head::closed_with(1000, "closed", lost);
    connection.close(closed).await;
}

/// Sends datagrams. Returns whether the socket is to be closed.
async fn write<G: Send + 'static>(
    listening: &Listening<G>,
    connection: &Connection<G>,
    queue: VecDeque<Outgoing>,
) -> bool {
    let mut writes = connection.writes(queue);
    while let Some((tag, payload)) = writes.next() {
        match tag {
            SOCKET_DATAGRAM => match send(listening, payload.as_slice()).await {
                Ok(()) => writes.written(),
                Err(why) => writes.refuse(&why),
            },
            // It takes nothing else: SOCKET_END or SOCKET_CLOSE.
            _ => {
                writes.written();
                return true;
            }
        }
    }
    false
}

async fn send<G: 'static>(listening: &Listening<G>, payload: &[u8]) -> Result<(), String> {
    let (peer, bytes) = head::sent_datagram(payload).map_err(|why| format!("invalid: {why}"))?;
    let is_known = listening.peers.lock().may_be_answered(&peer);
    if !is_known {
        listening.drops(&listening.lost.unasked);
        return Err(format!(
            "denied: no datagram from {peer} has come to this address: connect to it (`net.connect`)"
        ));
    }
    let sent = listening.socket.send_to(bytes, peer).await;
    sent.map(drop).map_err(|error| format!("reset: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_system_has_no_room_for_is_counted() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(any).await.unwrap();
            let address = socket.local_addr().unwrap();
            assert_eq!(dropped_by_system(&socket), Some(0));
            socket2::SockRef::from(&socket)
                .set_recv_buffer_size(10_000)
                .unwrap();
            let sender = std::net::UdpSocket::bind(any).unwrap();
            for _ in 0..1_000 {
                sender.send_to(&[7; 100], address).unwrap();
            }
            socket.readable().await.unwrap();
            let mut read = 0;
            while socket.try_recv(&mut [0; 100]).is_ok() {
                read += 1;
            }
            assert!(read < 1_000, "there was room for all");
            assert_eq!(dropped_by_system(&socket), Some(1_000 - read));
        }
    }

    #[test]
    fn what_was_dropped_is_said_once_with_its_reason() {
        let lost = Lost::default();
        assert_eq!(lost.report(Some(0)), None);
        for (count, why) in [
            (&lost.late, "for which their process was too slow (`queue`)"),
            (
                &lost.no_process,
                "for which there was no process with the name, or in the group",
            ),
            (
                &lost.no_socket,
                "for whose process there was no socket (an address has at most 10000, each a process of the node)",
            ),
            (
                &lost.too_large,
                "that were larger than `datagram` or than the mailbox of the process",
            ),
            (
                &lost.unasked,
                "that were answers to nobody who had sent one",
            ),
        ] {
            count.fetch_add(3, Ordering::Relaxed);
            assert_eq!(lost.report(None), Some(format!("3 {why}")));
            assert_eq!(lost.report(None), None);
        }
        // The system counts from the beginning.
        let why = "for which the system had no room before they were read";
        assert_eq!(lost.report(Some(2)), Some(format!("2 {why}")));
        lost.late.fetch_add(1, Ordering::Relaxed);
        let late = "1 for which their process was too slow (`queue`)";
        assert_eq!(lost.report(Some(5)), Some(format!("{late}, 3 {why}")));
        assert_eq!(lost.report(Some(5)), None);
    }

    #[test]
    fn the_last_who_have_sent_something_may_be_answered() {
        let address = |number: usize| -> SocketAddr {
            let [.., a, b, c] = number.to_be_bytes();
            ([10, a, b, c], 1).into()
        };
        let mut peers = Peers::default();
        for number in 0..3 * PEERS {
            peers.heard(address(number));
            // One that keeps sending.
            peers.heard(address(7));
            assert!(peers.recent.len() + peers.before.len() <= 2 * PEERS);
        }
        for number in (2 * PEERS + 10..3 * PEERS).chain([7]) {
            assert!(peers.may_be_answered(&address(number)), "{number}");
        }
        assert!(!peers.may_be_answered(&address(8)));
    }
}
