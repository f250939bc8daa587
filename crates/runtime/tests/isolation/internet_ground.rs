//! What a pretend internet stands on: two namespaces, or the sockets that root lends an ordinary user.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mayfly_net::namespace::{fresh, inside};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Longest request for a socket.
const MAX_REQUEST: usize = 64;

pub(crate) enum Ground {
    /// Where traffic leaves from, and what answers at every address.
    Made { host: OwnedFd, far: OwnedFd },
    /// This process stands in the first; sockets in the second are asked for here.
    Lent(OwnedFd),
}

fn ip(namespace: &OwnedFd, lines: &str) {
    let mut ip = inside(namespace.as_fd(), || {
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap()
    })
    .unwrap();
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success(), "iproute2 refused {lines}");
}

impl Ground {
    /// Makes both; needs root.
    pub(crate) fn make() -> Self {
        let (host, far) = (fresh().unwrap(), fresh().unwrap());
        let peer = format!("/proc/{}/fd/{}", std::process::id(), far.as_raw_fd());
        ip(
            &host,
            &format!(
                "link set lo up\nlink add h0 type veth peer name i0\nlink set i0 netns {peer}\n\
                 addr add 203.0.113.1/24 dev h0\naddr add 2a0f:1::1/64 dev h0 nodad\n\
                 addr add 93.184.1.1/32 dev lo\nlink set h0 up\n"
            ),
        );
        ip(
            &far,
            "link set lo up\naddr add 203.0.113.2/24 dev i0\naddr add 2a0f:1::2/64 dev i0 nodad\n\
             addr add 9.9.9.9/32 dev lo\nlink set i0 up\n\
             route add local default dev lo table main\nroute add local ::/0 dev lo table main\n",
        );
        ip(&host, "route add default via 203.0.113.2\nroute add ::/0 via 2a0f:1::2\n");
        Self::Made { host, far }
    }

    /// The namespace that traffic leaves from, where this process is not in it.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        match self {
            Self::Made { host, .. } => Some(format!("/proc/self/fd/{}", host.as_raw_fd()).into()),
            Self::Lent(_) => None,
        }
    }

    /// Does something where traffic leaves from.
    pub(crate) fn on_host<T>(&self, act: impl FnOnce() -> T) -> T {
        match self {
            Self::Made { host, .. } => inside(host.as_fd(), act).unwrap(),
            Self::Lent(_) => act(),
        }
    }

    /// A TCP listener of the internet.
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        match self {
            Self::Made { far, .. } => {
                inside(far.as_fd(), || TcpListener::bind(("::", port)).unwrap()).unwrap()
            }
            Self::Lent(lender) => borrow(lender, &format!("tcp {port}")).into(),
        }
    }

    /// A UDP socket of the internet.
    pub(crate) fn datagrams(&self, address: &str) -> UdpSocket {
        match self {
            Self::Made { far, .. } => {
                inside(far.as_fd(), || UdpSocket::bind(address).unwrap()).unwrap()
            }
            Self::Lent(lender) => borrow(lender, &format!("udp {address}")).into(),
        }
    }

    /// Makes sockets for who asks at the other end, until there is nobody.
    pub(crate) fn lend(&self, asker: &OwnedFd) -> io::Result<()> {
        let mut request = [0_u8; MAX_REQUEST];
        loop {
            let (_, length) = rustix::net::recv(asker, &mut request[..], RecvFlags::empty())?;
            let text = std::str::from_utf8(&request[..length]).unwrap();
            let socket: OwnedFd = match text.split_once(' ') {
                Some(("tcp", port)) => self.listen(port.parse().unwrap()).into(),
                Some(("udp", address)) => self.datagrams(address).into(),
                _ => return Ok(()),
            };
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let given = [socket.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&given));
            let word = [IoSlice::new(b"socket")];
            rustix::net::sendmsg(asker, &word, &mut control, SendFlags::NOSIGNAL)?;
        }
    }
}

fn borrow(lender: &OwnedFd, what: &str) -> OwnedFd {
    rustix::net::send(lender, what.as_bytes(), SendFlags::NOSIGNAL).unwrap();
    let mut word = [0_u8; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(lender, &mut [IoSliceMut::new(&mut word)], &mut control, flags).unwrap();
    let mut lent = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    lent.next().and_then(|mut sockets| sockets.next()).unwrap_or_else(|| panic!("no {what}"))
}
