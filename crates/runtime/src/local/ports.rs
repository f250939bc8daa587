//! TCP ports inside sandboxes, reached from within their own networks.
//!
//! A socket belongs for ever to the network of the thread that made it. As root, one thread of our own goes into
//! a sandbox's network, makes a socket, and comes back; an ordinary user may not, so there a program of its own
//! makes it. Everything else is done here, with the socket.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mayfly_core::{Error, Kind, Result};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::ids::IDS;
use super::live::Live;
use super::network::Lender;

/// Sockets that may be asked for at once.
const QUEUE: usize = 1024;
/// Longest wait for a service that does not take its connections.
const CONNECT: Duration = Duration::from_secs(10);
/// Connections that may wait at a port of ours inside.
const BACKLOG: u32 = 128;
/// Most bytes that are read of a table of sockets: more listeners than a sandbox may have open files.
const MAX_TABLE: u64 = 16 << 20;
/// Where a service inside is looked for, one after the other.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// The state of a listening socket in the kernel's tables.
const LISTENING: &str = "0A";

/// Makes sockets inside sandboxes.
#[derive(Debug)]
pub(super) enum Ports {
    /// By a thread of this process; none until the first is asked for, and a new one after its end.
    Thread(Mutex<Option<SyncSender<Request>>>),
    /// By a run of a program.
    Program(Arc<Lender>),
}

/// One socket to be made.
#[derive(Debug)]
pub(super) struct Request {
    namespace: OwnedFd,
    family: AddressFamily,
    made: oneshot::Sender<io::Result<OwnedFd>>,
}

impl Ports {
    /// For a server that is root.
    pub(super) fn of_root() -> Self {
        Self::Thread(Mutex::new(None))
    }

    /// For one that is not.
    pub(super) fn of_user() -> Result<Self> {
        Lender::new().map(|lender| Self::Program(Arc::new(lender)))
    }

    /// Connects to a port on the sandbox's loopback address, the IPv6 one where nothing listens on the other.
    pub(super) async fn connect(&self, live: &Live, port: u16) -> Result<OwnedFd> {
        for address in LOOPBACK {
            let connecting = self.connect_to(live, SocketAddr::new(address, port));
            let connected = tokio::time::timeout(CONNECT, connecting).await.map_err(|_| {
                unavailable(live, &format!("port {port} does not take connections"))
            })??;
            if let Some(socket) = connected {
                return Ok(socket);
            }
        }
        Err(unavailable(live, &format!("nothing listens on port {port}")))
    }

    /// `None` when nothing listens there.
    async fn connect_to(&self, live: &Live, address: SocketAddr) -> Result<Option<OwnedFd>> {
        let socket = match self.socket(live, family(address)).await {
            Ok(socket) => TcpSocket::from_std_stream(socket.into()),
            // A host without IPv6.
            Err(error) if address.is_ipv6() && live.is_alive() => {
                tracing::debug!(%error, "no IPv6 socket inside");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let stream = match socket.connect(address).await {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => {
                let port = address.port();
                return Err(
                    unavailable(live, &format!("port {port} cannot be reached")).with_source(error)
                );
            }
        };
        // A free port that the kernel chose as ours as well is connected to itself.
        if stream.local_addr().ok() == stream.peer_addr().ok() {
            return Ok(None);
        }
        let handed = stream.set_nodelay(true).and_then(|()| stream.into_std());
        handed.map(|stream| Some(stream.into())).map_err(|error| broken(live, error))
    }

    /// Listens on a port of the sandbox's loopback address.
    pub(super) async fn bind(&self, live: &Live, port: u16) -> Result<OwnedFd> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpSocket::from_std_stream(self.socket(live, family(address)).await?.into());
        let listener = socket
            .set_reuseaddr(true)
            .and_then(|()| socket.bind(address))
            .and_then(|()| socket.listen(BACKLOG))
            .and_then(tokio::net::TcpListener::into_std);
        listener.map(Into::into).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                Error::conflict(format!("port {port} of sandbox {} is in use", live.id))
                    .with_hint("choose another port, or 0 for any")
            }
            _ => broken(live, error),
        })
    }

    async fn socket(&self, live: &Live, family: AddressFamily) -> Result<OwnedFd> {
        let namespace = live.open_own("ns/net", OFlags::RDONLY)?;
        match self {
            Self::Thread(thread) => {
                let (made, socket) = oneshot::channel();
                let request = Request { namespace, family, made };
                ask(thread, request)?;
                let socket = socket.await.map_err(|lost| broken(live, io::Error::other(lost)))?;
                socket.map_err(|error| broken(live, error))
            }
            Self::Program(lender) => {
                let lender = Arc::clone(lender);
                let six = family == AddressFamily::INET6;
                let made = tokio::task::spawn_blocking(move || lender.socket(namespace, six));
                made.await.map_err(|lost| broken(live, lost.into()))?
            }
        }
    }
}

/// Hands a request to the thread, starting one where none is.
fn ask(thread: &Mutex<Option<SyncSender<Request>>>, mut request: Request) -> Result<()> {
    use std::sync::mpsc::TrySendError::{Disconnected, Full};
    let mut sender = thread.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = sender.as_ref() {
        match sender.try_send(request) {
            Ok(()) => return Ok(()),
            Err(Full(_)) => {
                let busy = "too many connections into sandboxes are being made at once";
                return Err(Error::new(Kind::Unavailable, busy).with_hint("try again"));
            }
            Err(Disconnected(unsent)) => request = unsent,
        }
    }
    let (fresh, requests) = sync_channel(QUEUE);
    let started = std::thread::Builder::new()
        .name("mayfly-ports".to_owned())
        .spawn(move || make_sockets(&requests));
    started.map_err(|error| Error::internal("no thread for ports of sandboxes", error))?;
    fresh
        .try_send(request)
        .map_err(|_| Error::new(Kind::Internal, "the thread for ports of sandboxes ended"))?;
    *sender = Some(fresh);
    Ok(())
}

/// The thread: ends with the runtime.
fn make_sockets(requests: &Receiver<Request>) {
    let Ok(own) = File::open("/proc/thread-self/ns/net") else { return };
    let network = Some(LinkNameSpaceType::Network);
    while let Ok(Request { namespace, family, made }) = requests.recv() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = move_into_link_name_space(namespace.as_fd(), network)
            .and_then(|()| rustix::net::socket_with(family, SocketType::STREAM, flags, None));
        if let Err(error) = move_into_link_name_space(own.as_fd(), network) {
            // Nothing else may ever be done by a thread that stands in a sandbox's network.
            tracing::error!(%error, "a thread could not leave a sandbox's network and ends");
            return;
        }
        // Whoever asked may have left.
        let _ = made.send(socket.map_err(io::Error::from));
    }
}

/// TCP ports that the sandbox's own processes listen on, on addresses that a connection from inside reaches.
pub(super) fn listening(live: &Live) -> Result<Vec<u16>> {
    let mut ports = BTreeSet::new();
    for table in ["net/tcp", "net/tcp6"] {
        let file = match live.open_own(table, OFlags::RDONLY) {
            Ok(file) => File::from(file),
            // A host without IPv6.
            Err(_) if table == "net/tcp6" && live.is_alive() => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file.take(MAX_TABLE)).lines().skip(1) {
            let line = line.map_err(|error| broken(live, error))?;
            match row(&line) {
                Some(row) if row.listens => {
                    // Others, such as what carries the sandbox's traffic, listen there as ids of the host.
                    let own = row.user.checked_sub(live.id_base()).is_some_and(|id| id < IDS);
                    let reached = LOOPBACK.contains(&row.address) || row.address.is_unspecified();
                    if own && reached {
                        ports.insert(row.port);
                    }
                }
                // Listening sockets stand first.
                _ => break,
            }
        }
    }
    Ok(ports.into_iter().collect())
}

/// A line of the kernel's table of sockets.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    address: IpAddr,
    port: u16,
    listens: bool,
    /// Who made it, as this process counts.
    user: u32,
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let listens = fields.nth(1)? == LISTENING;
    let user = fields.nth(3)?.parse().ok()?;
    // Words of the machine's own order, whose bytes lie in the network's.
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let address = if address.len() == 8 {
        Ipv4Addr::from(word(0)?.to_ne_bytes()).into()
    } else {
        let mut bytes = [0; 16];
        for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
            part.copy_from_slice(&word(index * 8)?.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).to_canonical()
    };
    Some(Row { address, port: u16::from_str_radix(port, 16).ok()?, listens, user })
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET }
}

/// Whether the kernel found nobody listening.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, ConnectionReset, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | AddrNotAvailable | NetworkUnreachable
    )
}

fn unavailable(live: &Live, what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{what} of sandbox {}", live.id))
        .with_hint("start the service inside, on localhost or all addresses")
}

fn broken(live: &Live, error: io::Error) -> Error {
    Error::internal(format!("no socket inside sandbox {}", live.id), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_kernel_s_table_are_read() {
        let read = |line: &str| row(line).map(|row| (row.address.to_string(), row.port, row.user));
        if cfg!(target_endian = "little") {
            let four = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 5 1 0 100";
            assert_eq!(read(four), Some(("127.0.0.1".to_owned(), 3000, 1000)));
            let six = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 536870912 0 5";
            assert_eq!(read(six), Some(("::1".to_owned(), 80, 536_870_912)));
            let mapped = "   1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 5";
            assert_eq!(read(mapped), Some(("127.0.0.1".to_owned(), 80, 0)));
        }
        let other = "   0: 0100007F:0BB8 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 5";
        assert!(row(other).is_some_and(|row| !row.listens));
        for line in
            ["", "x", "0: 1:2", "   0: zz00007F:0BB8 00000000:0000 0A a b c 1", "0: ü:1 2 3"]
        {
            assert_eq!(row(line), None, "{line}");
        }
    }
}
