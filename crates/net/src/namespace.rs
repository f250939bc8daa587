//! Network namespaces: how one becomes a sandbox's, and how sockets are made inside of one.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::netlink;
use crate::steering::Steering;
use crate::sys::{self, Result};

/// What the network process holds of a namespace: three descriptors.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) tcp: OwnedFd,
    pub(crate) udp: OwnedFd,
    /// Kept open: the steering ends with it.
    _link: OwnedFd,
}

/// A step of the set-up that failed.
#[derive(Debug)]
pub(crate) struct SetUpError {
    pub(crate) step: &'static str,
    pub(crate) source: io::Error,
    /// Whether the host lacks a layer, rather than this one attempt having failed.
    pub(crate) is_layer: bool,
}

impl fmt::Display for SetUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.source)
    }
}

fn at(step: &'static str) -> impl Fn(io::Error) -> SetUpError {
    move |source| SetUpError { step, source, is_layer: false }
}

/// The network namespace of the calling thread.
///
/// # Errors
/// When /proc is not mounted.
pub fn current() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Makes a fresh network namespace and returns to the caller's. For threads of one's own: another thread of
/// the process is not moved, but whatever this one does meanwhile happens inside.
///
/// # Errors
/// Needs `CAP_SYS_ADMIN`.
pub fn fresh() -> io::Result<OwnedFd> {
    let home = current()?;
    sys::unshare_network()?;
    let made = current();
    sys::join_network(home.as_fd())?;
    made
}

/// Does something inside of a namespace and returns to the caller's. The sockets made by it stay inside.
///
/// # Errors
/// Needs `CAP_SYS_ADMIN`. A thread that cannot return to its namespace must not go on: that is a panic.
pub fn inside<T>(namespace: BorrowedFd<'_>, act: impl FnOnce() -> T) -> io::Result<T> {
    let home = current()?;
    visit(home.as_fd(), namespace, act)
}

/// Whether this host can steer a sandbox's connections: the kernel loads the BPF program for it.
///
/// # Errors
/// The kernel's reason: no `sk_lookup` (before 5.9), or no right to load programs.
pub fn probe() -> io::Result<()> {
    Steering::load().map(drop)
}

/// As [`inside`], for who keeps a descriptor of its own namespace.
pub(crate) fn visit<T>(
    home: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    act: impl FnOnce() -> T,
) -> Result<T> {
    sys::join_network(namespace)?;
    let done = act();
    sys::join_network(home).expect("a thread can return to the namespace it came from");
    Ok(done)
}

/// Makes a namespace a sandbox's: set up, sockets inside, steering last (loaded ahead, or now). After an error
/// nothing remains.
pub(crate) fn take_charge(
    home: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    ready: Option<Steering>,
) -> std::result::Result<Sockets, SetUpError> {
    let made = visit(home, namespace, || {
        let has_v6 = std::path::Path::new("/proc/thread-self/net/if_inet6").exists();
        let done = configure(has_v6);
        if done.is_err() {
            netlink::unconfigure(has_v6);
        }
        done
    });
    let (tcp, udp) = made.map_err(at("enter the namespace"))??;
    let loaded = ready.map_or_else(Steering::load, Ok);
    match loaded.and_then(|steering| steering.attach(namespace, tcp.as_fd(), udp.as_fd())) {
        Ok(link) => Ok(Sockets { tcp, udp, _link: link }),
        Err(source) => {
            // Errors beside this one would only hide it.
            let _ = visit(home, namespace, || netlink::unconfigure(true));
            Err(SetUpError { step: "steer with BPF sk_lookup", source, is_layer: true })
        }
    }
}

fn configure(has_v6: bool) -> std::result::Result<(OwnedFd, OwnedFd), SetUpError> {
    netlink::configure(has_v6).map_err(at("set up addresses and routes"))?;
    let tcp = socket(has_v6, sys::STREAM).map_err(at("open the TCP listener"))?;
    prefer_reno(tcp.as_fd());
    sys::set(tcp.as_fd(), sys::SOL_TCP, sys::TCP_NODELAY, 1)
        .and_then(|()| sys::listen(tcp.as_fd(), 4096))
        .map_err(at("listen"))?;
    let udp = socket(has_v6, sys::DATAGRAM).map_err(at("open the UDP socket"))?;
    sys::set(udp.as_fd(), sys::SOL_IP, sys::IP_RECVORIGDSTADDR, 1)
        .map_err(at("ask for the destinations of datagrams"))?;
    if has_v6 {
        sys::set(udp.as_fd(), sys::SOL_IPV6, sys::IPV6_RECVORIGDSTADDR, 1)
            .map_err(at("ask for the destinations of IPv6 datagrams"))?;
    }
    Ok((tcp, udp))
}

/// A socket for both families at any free port.
fn socket(has_v6: bool, kind: i32) -> Result<OwnedFd> {
    let family = if has_v6 { sys::INET6 } else { sys::INET };
    let socket = sys::socket(family, kind, 0)?;
    let any = if has_v6 {
        sys::set(socket.as_fd(), sys::SOL_IPV6, sys::IPV6_V6ONLY, 0)?;
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    sys::bind(socket.as_fd(), SocketAddr::new(any, 0))?;
    Ok(socket)
}

/// Connections that the sandbox opens are sent with reno on our side too, where the kernel has it.
fn prefer_reno(socket: BorrowedFd<'_>) {
    let _ = sys::set_bytes(socket, sys::SOL_TCP, sys::TCP_CONGESTION, b"reno");
}

/// A UDP socket inside the namespace of another one that speaks as `from`, whatever address that is.
pub(crate) fn speak_as(
    home: BorrowedFd<'_>,
    other: BorrowedFd<'_>,
    from: SocketAddr,
) -> Result<OwnedFd> {
    let namespace = sys::network_of(other)?;
    visit(home, namespace.as_fd(), || {
        let family = if from.is_ipv4() { sys::INET } else { sys::INET6 };
        let socket = sys::socket(family, sys::DATAGRAM, 0)?;
        sys::set(socket.as_fd(), sys::SOL_SOCKET, sys::SO_REUSEADDR, 1)?;
        let (level, option) = if from.is_ipv4() {
            (sys::SOL_IP, sys::IP_FREEBIND)
        } else {
            (sys::SOL_IPV6, sys::IPV6_FREEBIND)
        };
        sys::set(socket.as_fd(), level, option, 1)?;
        sys::bind(socket.as_fd(), from)?;
        Ok(socket)
    })?
}
