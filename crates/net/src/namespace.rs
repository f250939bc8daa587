//! Network namespaces: how one becomes a sandbox's, and how sockets are made inside of one.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::door::Door;
use crate::netlink;
use crate::rules;
use crate::steering::Steering;
use crate::sys::{self, Result};
use crate::way::Way;

/// What the network process holds of a namespace: three descriptors, or two where rules steer.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) tcp: OwnedFd,
    pub(crate) udp: OwnedFd,
    /// Kept open: the steering of a BPF program ends with it. Rules steer to nothing once the sockets are closed.
    _link: Option<OwnedFd>,
}

/// A step of the set-up that failed.
#[derive(Debug)]
pub(crate) struct SetUpError {
    pub(crate) step: Cow<'static, str>,
    pub(crate) source: io::Error,
    /// Whether the host lacks a layer, rather than this one attempt having failed.
    pub(crate) is_layer: bool,
}

impl fmt::Display for SetUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.source)
    }
}

impl SetUpError {
    pub(crate) fn at(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self { step: step.into(), source, is_layer: false }
    }

    /// For [`SetUpError::decode`] in another process.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let code = self.source.raw_os_error().unwrap_or(0).to_ne_bytes();
        [&code, [u8::from(self.is_layer)].as_slice(), self.step.as_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let (code, rest) = bytes.split_at_checked(4).unwrap_or_default();
        let (is_layer, step) = rest.split_at_checked(1).unwrap_or_default();
        let code = i32::from_ne_bytes(code.try_into().unwrap_or_default());
        Self {
            step: String::from_utf8_lossy(step).into_owned().into(),
            source: io::Error::from_raw_os_error(code),
            is_layer: is_layer == [1],
        }
    }
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

/// Makes a namespace a sandbox's: set up, sockets inside, steering last (a BPF program loaded ahead, or now).
/// After an error nothing remains.
pub(crate) fn take_charge(
    door: &Door,
    namespace: BorrowedFd<'_>,
    way: Way,
    ready: Option<Steering>,
) -> std::result::Result<Sockets, SetUpError> {
    let made = door.make(namespace, || {
        let has_v6 = has_v6();
        let done = configure(has_v6, way);
        if done.is_err() {
            netlink::unconfigure(has_v6);
        }
        done
    })?;
    let Ok([tcp, udp]) = <[OwnedFd; 2]>::try_from(made) else {
        return Err(SetUpError::at("open sockets")(io::ErrorKind::UnexpectedEof.into()));
    };
    if way == Way::Tproxy {
        return Ok(Sockets { tcp, udp, _link: None });
    }
    let loaded = ready.map_or_else(Steering::load, Ok);
    match loaded.and_then(|steering| steering.attach(namespace, tcp.as_fd(), udp.as_fd())) {
        Ok(link) => Ok(Sockets { tcp, udp, _link: Some(link) }),
        Err(source) => {
            // Errors beside this one would only hide it.
            let _ = door.make(namespace, || {
                netlink::unconfigure(true);
                Ok(Vec::new())
            });
            Err(SetUpError { step: "steer with BPF sk_lookup".into(), source, is_layer: true })
        }
    }
}

/// Whether the kernel takes sockets and rules of [`Way::Tproxy`] in this process's namespace, a fresh one.
pub(crate) fn probe_rules() -> std::result::Result<(), SetUpError> {
    configure(has_v6(), Way::Tproxy).map(drop)
}

fn has_v6() -> bool {
    std::path::Path::new("/proc/thread-self/net/if_inet6").exists()
}

/// Addresses, routes, the TCP listener and the UDP socket, and the rules where they are wanted.
fn configure(has_v6: bool, way: Way) -> std::result::Result<Vec<OwnedFd>, SetUpError> {
    let at = SetUpError::at;
    netlink::configure(has_v6).map_err(at("set up addresses and routes"))?;
    let tcp = socket(has_v6, sys::STREAM, way).map_err(at("open the TCP listener"))?;
    prefer_reno(tcp.as_fd());
    sys::set(tcp.as_fd(), sys::SOL_TCP, sys::TCP_NODELAY, 1)
        .and_then(|()| sys::listen(tcp.as_fd(), 4096))
        .map_err(at("listen"))?;
    let udp = socket(has_v6, sys::DATAGRAM, way).map_err(at("open the UDP socket"))?;
    sys::set(udp.as_fd(), sys::SOL_IP, sys::IP_RECVORIGDSTADDR, 1)
        .map_err(at("ask for the destinations of datagrams"))?;
    if has_v6 {
        sys::set(udp.as_fd(), sys::SOL_IPV6, sys::IPV6_RECVORIGDSTADDR, 1)
            .map_err(at("ask for the destinations of IPv6 datagrams"))?;
    }
    if way == Way::Tproxy {
        let port = |socket: &OwnedFd| sys::local_address(socket.as_fd()).map(|name| name.port());
        let ports = port(&tcp).and_then(|tcp| Ok((tcp, port(&udp)?))).map_err(at("read ports"))?;
        rules::install(ports.0, ports.1).map_err(|source| {
            let step = "steer with packet rules (nf_tables, tproxy)".into();
            SetUpError { step, source, is_layer: true }
        })?;
    }
    Ok(vec![tcp, udp])
}

/// A socket for both families at any free port.
fn socket(has_v6: bool, kind: i32, way: Way) -> Result<OwnedFd> {
    let family = if has_v6 { sys::INET6 } else { sys::INET };
    let socket = sys::socket(family, kind, 0)?;
    if way == Way::Tproxy {
        // Of both families.
        sys::set(socket.as_fd(), sys::SOL_IP, sys::IP_TRANSPARENT, 1)?;
    }
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
pub(crate) fn speak_as(door: &Door, other: BorrowedFd<'_>, from: SocketAddr) -> Result<OwnedFd> {
    let namespace = sys::network_of(other)?;
    let make = || {
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
        Ok(vec![socket])
    };
    let made = door.make(namespace.as_fd(), || make().map_err(SetUpError::at("open a socket")));
    let first = made.map_err(|error| error.source)?.into_iter().next();
    first.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
