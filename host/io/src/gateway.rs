//! All listeners of a node: they are opened, changed and closed together. One thread accepts, and the schedulers serve.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use exuvia_abi::Pid;
use exuvia_process::{Body, Limits, NameError, System};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::datagrams;
use crate::drain::Drain;
use crate::error::ListenError;
use crate::inherited::InheritedSockets;
use crate::keyed::{self, Keyed};
use crate::listener::{Endpoint, ListenAddress, Listener, SocketFile};
use crate::pollers::Pollers;
use crate::router::Router;
use crate::serve;
use crate::settings::{Existing, Listen, Protocol};
use crate::tcp;
use crate::thread::Thread;
use crate::tls::{Stream, Tls};

/// How long is waited after the system has refused a connection: it is out of descriptors or memory.
pub(crate) const REFUSED: Duration = Duration::from_millis(100);

/// How often is looked whether all connections have ended, when the gateway stops.
const CLOSING: Duration = Duration::from_millis(5);

/// Makes processes of guests.
pub trait Guests<G>: Send + Sync {
    /// Returns what a new process of a module needs.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn new_process(&self, module: &str) -> Result<NewProcess<G>, NoProcess>;
}

/// What a new process needs.
#[derive(Debug)]
pub struct NewProcess<G> {
    /// Its code and its state.
    pub body: Body<G>,
    /// What it may use.
    pub limits: Arc<Limits>,
}

/// Why no process could be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProcess {
    /// The release has no such module.
    #[error("the release has no module `{0}`")]
    NoModule(String),
    /// It may not have the memory that its module starts with.
    #[error("{0}")]
    Limit(String),
    /// It cannot have its name.
    #[error("the name of its key cannot be registered: {0:?}")]
    Name(NameError),
    /// The node has as many processes as it may have.
    #[error("the node has as many processes as it may have")]
    TableFull,
    /// The node stops.
    #[error("the node stops")]
    Stopping,
}

/// What all listeners share.
pub(crate) struct Shared<G: 'static> {
    pub(crate) system: Arc<System<G>>,
    pub(crate) guests: Arc<dyn Guests<G>>,
    /// The limits of the processes of connections.
    pub(crate) limits: Arc<Limits>,
    pub(crate) keyed: Keyed<G>,
    /// The sockets that end one after another when the node stops.
    pub(crate) drain: Arc<Drain>,
    /// The folder of the app, if clients are its developers: responses say what has failed in a process.
    pub(crate) sources: Option<PathBuf>,
}

/// One address.
pub(crate) struct Address {
    /// What it is set to; changed while it is listened to.
    pub(crate) settings: ArcSwap<(Listen, Router)>,
    /// Its certificate; changed with the settings.
    tls: ArcSwapOption<Tls>,
    /// Its connections.
    connections: AtomicUsize,
    /// Told when there is one less, or when there may be more.
    room: Notify,
    /// Requests to groups so far: their members take turns.
    turns: AtomicUsize,
}

/// The place of a connection among those of its address.
struct Place(Arc<Address>);

/// What a connection holds as long as it is open: its place, and the gateway's attention when it stops.
pub(crate) struct Held {
    _place: Place,
    _under_way: Arc<()>,
}

impl Address {
    fn new(listen: Listen, router: Router, tls: Option<Tls>) -> Arc<Address> {
        Arc::new(Address {
            settings: ArcSwap::from_pointee((listen, router)),
            tls: ArcSwapOption::from_pointee(tls),
            connections: AtomicUsize::new(0),
            room: Notify::new(),
            turns: AtomicUsize::new(0),
        })
    }

    /// Waits until there may be one more connection. One task asks at a time.
    async fn place(self: &Arc<Self>) -> Place {
        let has_room = || {
            let most = self.settings.load().0.limits.connections;
            self.connections.load(Ordering::Relaxed) < most
        };
        while !has_room() {
            // What is notified before is kept for it.
            self.room.notified().await;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Place(self.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.room.notify_one();
    }
}

impl<G: 'static> Shared<G> {
    /// Returns the process that gets what arrives at an address, or why there is none.
    pub(crate) fn existing(&self, existing: &Existing, address: &Address) -> Result<Pid, String> {
        let found = match existing {
            Existing::Name(name) => self.system.names.find(name),
            Existing::Group(group) => {
                let members = self.system.groups.members(group);
                let turn = address.turns.fetch_add(1, Ordering::Relaxed);
                members.from(turn % members.len().max(1)).next().copied()
            }
        };
        found.ok_or_else(|| match existing {
            Existing::Name(name) => format!("no process is named {name}"),
            Existing::Group(group) => format!("no process is in the group {group}"),
        })
    }
}

/// Waits until the gateway stops, or is gone.
pub(crate) async fn stops(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stops| *stops).await;
}

/// All listeners of a node. Dropped, it closes them; connections end with the schedulers. See [`Gateway::stop`].
pub struct Gateway<G: 'static> {
    shared: Arc<Shared<G>>,
    /// Where connections are accepted.
    thread: Thread,
    /// Where they are served.
    pollers: Arc<Pollers>,
    inherited: InheritedSockets,
    open: Mutex<Vec<Open>>,
    /// Set when connections are to end as soon as they have no request under way.
    stopping: watch::Sender<bool>,
    /// Each task of a connection has a clone, until it ends.
    under_way: Arc<()>,
}

/// A listener that is new.
struct Bound {
    endpoint: Endpoint,
    address: ListenAddress,
    file: Option<SocketFile>,
    socket: Option<String>,
}

/// A listener that is open.
struct Open {
    address: ListenAddress,
    /// The address in the settings: with port 0, it is another one.
    wanted: ListenAddress,
    /// The name of the socket that was passed to this program for it: closed, it would be gone.
    socket: Option<String>,
    /// The file of a Unix socket. Not the task's: a task that is ended is dropped at some later time, and with it the listener.
    file: Option<SocketFile>,
    shared: Arc<Address>,
    accepting: JoinHandle<()>,
}

impl<G: 'static> std::fmt::Debug for Gateway<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl<G: Send + 'static> Gateway<G> {
    /// Opens all addresses, or none. `limits` are those of the processes of connections; `sources` is the
    /// folder of the app, if clients are its developers: responses say what has failed in a process. An address takes one
    /// of the sockets that are `inherited`, if there is one for it.
    ///
    /// # Errors
    ///
    /// The first address that cannot be listened to, or the first route that is in the way of another.
    pub fn start(
        system: Arc<System<G>>,
        pollers: Arc<Pollers>,
        guests: Arc<dyn Guests<G>>,
        limits: Arc<Limits>,
        listen: Vec<Listen>,
        sources: Option<PathBuf>,
        inherited: InheritedSockets,
    ) -> Result<Gateway<G>, ListenError> {
        let thread = Thread::start("exuvia-accept").map_err(ListenError::Thread)?;
        let keyed = Keyed::start(&system, &guests, &limits);
        let keyed = keyed.map_err(|_| ListenError::TableFull)?;
        let (stopping, _) = watch::channel(false);
        let gateway = Gateway {
            shared: Arc::new(Shared {
                system,
                guests,
                limits,
                keyed,
                drain: Drain::new(),
                sources,
            }),
            thread,
            pollers,
            inherited,
            open: Mutex::default(),
            stopping,
            under_way: Arc::new(()),
        };
        gateway.set(listen)?;
        gateway.inherited.all_taken()?;
        let shared = Arc::downgrade(&gateway.shared);
        gateway.thread.handle().spawn(async move {
            loop {
                tokio::time::sleep(keyed::LOOK).await;
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                shared.keyed.end_idle();
            }
        });
        Ok(gateway)
    }

    /// Returns the addresses of TCP that are listened to.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let open = self.open.lock();
        let tcp = open.iter().filter_map(|open| match open.address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Udp(_) | ListenAddress::Unix(_) => None,
        });
        tcp.collect()
    }

    /// Returns the addresses that are listened to as URLs: `http`, `https`, `tcp`, `tls` or `udp`; `http+unix` or `tcp+unix`.
    pub fn urls(&self) -> Vec<String> {
        let scheme = |shared: &Address| match (
            &shared.settings.load().0.protocol,
            shared.tls.load().is_some(),
        ) {
            (Protocol::Http(_), false) => "http",
            (Protocol::Http(_), true) => "https",
            (Protocol::Tcp(_), false) => "tcp",
            (Protocol::Tcp(_), true) => "tls",
            (Protocol::Udp(_), _) => "udp",
        };
        let open = self.open.lock();
        open.iter()
            .map(|open| match &open.address {
                ListenAddress::Tcp(address) | ListenAddress::Udp(address) => {
                    format!("{}://{address}", scheme(&open.shared))
                }
                ListenAddress::Unix(path) => {
                    format!("{}+unix:{}", scheme(&open.shared), path.display())
                }
            })
            .collect()
    }

    /// Changes what is listened to. An address that stays keeps its connections; a new one is opened before others
    /// are closed. If one cannot be opened, nothing changes.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub fn set(&self, listen: Vec<Listen>) -> Result<(), ListenError> {
        let runtime = self.thread.handle();
        let mut routed = Vec::new();
        for listen in listen {
            let routes = match &listen.protocol {
                Protocol::Http(routes) => &routes[..],
                Protocol::Tcp(_) | Protocol::Udp(_) => &[],
            };
            let router = Router::new(routes);
            let router = router.map_err(|(path, reason)| ListenError::Route {
                address: listen.address.clone(),
                path,
                reason,
            })?;
            let tls = tls(&listen).map_err(|reason| ListenError::Tls {
                address: listen.address.clone(),
                reason,
            })?;
            routed.push((listen, router, tls));
        }
        let mut open = self.open.lock();
        let stays = stays(&open, routed.iter().map(|(listen, ..)| listen));
        let _context = runtime.enter();
        let mut bound = Vec::new();
        for ((listen, ..), at) in routed.iter().zip(&stays) {
            let one = match at {
                Some(at) => fits(listen, &open[*at].address).map(|()| None),
                None => self.bind(listen).map(Some),
            };
            bound.push(one.map_err(|source| ListenError::Bind {
                address: listen.address.clone(),
                source,
            })?);
        }
        let mut before: Vec<_> = std::mem::take(&mut *open).into_iter().map(Some).collect();
        for (((listen, router, tls), bound), at) in routed.into_iter().zip(bound).zip(stays) {
            let wanted = listen.address.clone();
            match (bound, at.and_then(|at| before[at].take())) {
                (
                    Some(Bound {
                        endpoint,
                        address,
                        file,
                        socket,
                    }),
                    _,
                ) => {
                    let shared = Address::new(listen, router, tls);
                    let accepting = self.serve(runtime, endpoint, shared.clone());
                    open.push(Open {
                        address,
                        wanted,
                        socket,
                        file,
                        shared,
                        accepting,
                    });
                }
                (None, Some(mut one)) => {
                    if let Some(Err(error)) =
                        one.file.as_ref().map(|file| file.set_mode(listen.mode))
                    {
                        tracing::warn!("the mode of {wanted} stays as it is: {error}");
                    }
                    one.shared.settings.store(Arc::new((listen, router)));
                    one.shared.tls.store(tls.map(Arc::new));
                    one.shared.room.notify_one();
                    one.wanted = wanted;
                    open.push(one);
                }
                (None, None) => {}
            }
        }
        for closed in before.into_iter().flatten() {
            closed.accepting.abort();
        }
        Ok(())
    }

    /// Listens at an address, with a socket that was passed to this program or with one of its own.
    fn bind(&self, listen: &Listen) -> io::Result<Bound> {
        let name = listen.socket.as_deref();
        if let Some((endpoint, address)) = self.inherited.take(name, &listen.address)? {
            fits(listen, &address)?;
            return Ok(Bound {
                endpoint,
                address,
                file: None,
                socket: listen.socket.clone(),
            });
        }
        if self.inherited.is_expected {
            let address = &listen.address;
            tracing::warn!(
                "no socket for {address} was passed to this program: it opens one itself"
            );
        }
        let (endpoint, address, file) = Endpoint::bind(&listen.address, listen.mode)?;
        Ok(Bound {
            endpoint,
            address,
            file,
            socket: None,
        })
    }

    /// Serves what arrives at an address.
    fn serve(&self, runtime: &Handle, endpoint: Endpoint, address: Arc<Address>) -> JoinHandle<()> {
        match endpoint {
            Endpoint::Streams(listener) => self.accept(runtime, listener, address),
            Endpoint::Datagrams(socket) => {
                let (shared, under_way) = (self.shared.clone(), self.under_way.clone());
                runtime.spawn(datagrams::serve(shared, address, socket, under_way))
            }
        }
    }

    fn accept(
        &self,
        runtime: &Handle,
        listener: Listener,
        address: Arc<Address>,
    ) -> JoinHandle<()> {
        let (shared, under_way) = (self.shared.clone(), self.under_way.clone());
        let pollers = self.pollers.clone();
        let stopping = self.stopping.subscribe();
        runtime.spawn(async move {
            loop {
                let place = address.place().await;
                let (stream, peer) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // The client has gone already, or there are no descriptors or no memory.
                        if !is_of_the_client(&error) {
                            tracing::warn!("no connection is accepted for a moment: {error}");
                            tokio::time::sleep(REFUSED).await;
                        }
                        continue;
                    }
                };
                let (shared, address) = (shared.clone(), address.clone());
                let stopping = stopping.clone();
                let held = Arc::new(Held {
                    _place: place,
                    _under_way: under_way.clone(),
                });
                let served = pollers.spawn(async move {
                    let Ok(stream) = stream.registered() else {
                        return;
                    };
                    let settings = address.settings.load_full();
                    let reading = settings.0.limits.reading;
                    let mut stops_meanwhile = stopping.clone();
                    let stream = tokio::select! {
                        // What has arrived is served, also if the gateway stops now.
                        biased;
                        stream = encrypted(&address, stream, reading) => stream,
                        () = stops(&mut stops_meanwhile) => None,
                    };
                    let Some(stream) = stream else { return };
                    let client = (stream, peer);
                    match &settings.0.protocol {
                        Protocol::Http(_) => {
                            serve::connection(&shared, &address, client, &held, stopping).await;
                        }
                        Protocol::Tcp(owner) => {
                            tcp::connection(&shared, &address, owner, client).await;
                        }
                        // It has no connections, and no address of another kind becomes one of UDP.
                        Protocol::Udp(_) => {}
                    }
                    drop(held);
                });
                if let Err(error) = served {
                    tracing::warn!("a connection is refused: {error}");
                }
            }
        })
    }

    /// Accepts no more connections, lets requests under way end, for `patience` at most, closes sockets, `drain_per_s` in a
    /// second or more if the time demands it, and ends the processes that were started. Returns how long that took. Blocks the
    /// calling thread.
    pub fn stop(&self, patience: Duration, drain_per_s: u32) -> Duration {
        let began = Instant::now();
        for open in std::mem::take(&mut *self.open.lock()) {
            open.accepting.abort();
        }
        self.stopping.send_replace(true);
        let ended = async {
            tokio::select! {
                () = self.shared.drain.run(drain_per_s, patience) => {}
                () = async {
                    while Arc::strong_count(&self.under_way) > 1 {
                        tokio::time::sleep(CLOSING).await;
                    }
                } => {}
            }
        };
        let runtime = self.thread.handle();
        let wait = || runtime.block_on(async { tokio::time::timeout(patience, ended).await });
        // On a thread of its own: that of the caller may be one of another runtime, which cannot wait.
        let _ = std::thread::scope(|scope| scope.spawn(wait).join());
        self.shared.keyed.stop();
        began.elapsed()
    }
}

impl<G: 'static> Drop for Gateway<G> {
    fn drop(&mut self) {
        self.shared.keyed.stop();
    }
}

/// Returns which listener is that of each address: the one with the name of its socket, or else with the address itself.
fn stays<'a>(open: &[Open], listen: impl Iterator<Item = &'a Listen>) -> Vec<Option<usize>> {
    let names: Vec<_> = open
        .iter()
        .map(|open| (open.socket.as_deref(), &open.wanted))
        .collect();
    let wanted: Vec<_> = listen
        .map(|listen| (listen.socket.as_deref(), &listen.address))
        .collect();
    stay(&names, &wanted)
}

/// The name of a socket, if there is one, and an address.
type Named<'a, A> = (Option<&'a str>, A);

fn stay<A: PartialEq>(open: &[Named<'_, A>], wanted: &[Named<'_, A>]) -> Vec<Option<usize>> {
    let mut stays = vec![None; wanted.len()];
    for by_name in [true, false] {
        for (n, (name, address)) in wanted.iter().enumerate() {
            let is_same = |(known, at): &Named<'_, A>| match by_name {
                true => known.is_some() && known == name,
                false => at == address,
            };
            if stays[n].is_none() {
                let mut all = 0..open.len();
                let is_free = |at| !stays.contains(&Some(at));
                stays[n] = all.find(|at| is_free(*at) && is_same(&open[*at]));
            }
        }
    }
    stays
}

/// Reads the certificate of an address.
fn tls(listen: &Listen) -> Result<Option<Tls>, String> {
    let Some(certificate) = &listen.tls else {
        return Ok(None);
    };
    let protocols: &[&[u8]] = match listen.protocol {
        Protocol::Http(_) => &[b"h2", b"http/1.1"],
        Protocol::Tcp(_) | Protocol::Udp(_) => &[],
    };
    Tls::new(certificate.clone(), protocols).map(Some)
}

/// Fails if a socket that was passed cannot be what an address is set to: a Unix socket with TLS, or streams for datagrams.
fn fits(listen: &Listen, address: &ListenAddress) -> io::Result<()> {
    let is_udp = |address: &ListenAddress| matches!(address, ListenAddress::Udp(_));
    if is_udp(&listen.address) != is_udp(address) {
        let why = match is_udp(address) {
            true => "what was passed for it is a socket of datagrams: `protocol = \"udp\"`",
            false => "what was passed for it is a socket of connections, not of datagrams",
        };
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    if listen.tls.is_some() && matches!(address, ListenAddress::Unix(_)) {
        let why = "what was passed for it is a Unix socket, which has no TLS";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(())
}

/// Encrypts a connection, if its address has a certificate. `None`: the client cannot, or takes too long.
async fn encrypted(address: &Address, stream: Stream, reading: Duration) -> Option<Stream> {
    let (stream, tls) = match (stream, address.tls.load_full()) {
        (Stream::Plain(stream), Some(tls)) => (stream, tls),
        (stream, _) => return Some(stream),
    };
    let accepted = async { tls.acceptor().await.accept(stream).await };
    match timeout(reading, accepted).await {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream.into()))),
        Ok(Err(error)) => {
            tracing::debug!("a connection is not encrypted: tls: {error}");
            None
        }
        Err(_) => None,
    }
}

/// Returns whether a connection has failed that was not accepted yet.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::stay;

    #[test]
    fn a_listener_with_a_passed_socket_stays_when_its_address_changes() {
        let open = [(Some("web"), 1), (None, 2), (None, 3)];
        for (wanted, expected) in [
            // The address is edited.
            (vec![(Some("web"), 9)], vec![Some(0)]),
            (vec![(None, 2), (None, 1)], vec![Some(1), Some(0)]),
            // The name counts first, and each listener once.
            (vec![(None, 1), (Some("web"), 2)], vec![None, Some(0)]),
            (vec![(Some("other"), 3), (None, 4)], vec![Some(2), None]),
        ] {
            assert_eq!(stay(&open, &wanted), expected, "{wanted:?}");
        }
    }
}
