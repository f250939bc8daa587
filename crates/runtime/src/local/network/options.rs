//! What an operator decides about the network of sandboxes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use mayfly_core::network::{Cidr, ProxyUrl};
use mayfly_net::way::Way;

/// Resolvers that a policy takes.
const MAX_RESOLVERS: usize = 4;

/// Choices for all sandboxes of a runtime.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// Private ranges that callers may list.
    pub permitted: Vec<Cidr>,
    /// Ranges that nobody reaches, besides those that never are.
    pub denied: Vec<Cidr>,
    /// Where names are resolved, at most 4; empty = as the host's `/etc/resolv.conf` says when the runtime is
    /// opened.
    pub resolvers: Vec<SocketAddr>,
    /// Open TCP connections of one sandbox, at most. Default 1024.
    pub connections: u32,
    /// Open UDP flows of one sandbox, at most. Default 256.
    pub flows: u32,
    /// Proxy that everything goes through whose sandbox has none of its own.
    pub proxy: Option<ProxyUrl>,
    /// Unix socket of the server behind `mayfly.internal`; `None` = refused.
    pub internal: Option<PathBuf>,
    /// Network namespace that traffic leaves from, by its path; `None` = that of this program. Root only.
    pub home: Option<PathBuf>,
    /// How sandboxes are steered to the network process; `None` = the best way that the host offers.
    pub steering: Option<Way>,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            permitted: Vec::new(),
            denied: Vec::new(),
            resolvers: Vec::new(),
            connections: 1024,
            flows: 256,
            proxy: None,
            internal: None,
            home: None,
            steering: None,
        }
    }
}

impl NetworkOptions {
    /// With the host's resolvers where none are named.
    pub(super) fn completed(mut self) -> Self {
        if self.resolvers.is_empty() {
            self.resolvers =
                resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        }
        self.resolvers.truncate(MAX_RESOLVERS);
        self
    }
}

/// The resolvers that a `resolv.conf` names, at port 53. Those with a zone (`fe80::1%eth0`) are passed over.
fn resolvers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = (words.next()? == "nameserver").then(|| words.next())??;
            Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, 53))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 9.9.9.9\nnameserver 10.1.0.2\n search a b\nnameserver\t::1 # x\n\
                    nameserver fe80::1%eth0\nnameservers 1.1.1.1\nnameserver\n  nameserver 1.1.1.1";
        let read: Vec<String> = resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["10.1.0.2:53", "[::1]:53", "1.1.1.1:53"]);
    }
}
