//! The tests of the target `it` once more, steered by packet rules in the sandbox's namespace.

#[cfg(test)]
#[path = "../it/dns.rs"]
mod dns;
#[cfg(test)]
#[path = "../it/domains.rs"]
mod domains;
#[cfg(test)]
#[path = "../it/isolation.rs"]
mod isolation;
#[cfg(test)]
#[path = "../it/life.rs"]
mod life;
#[cfg(test)]
#[path = "../it/live.rs"]
mod live;
#[cfg(test)]
#[path = "../it/tcp.rs"]
mod tcp;
#[cfg(test)]
#[path = "../it/through.rs"]
mod through;
#[cfg(test)]
#[path = "../it/udp.rs"]
mod udp;
#[cfg(test)]
#[path = "../it/world.rs"]
mod world;

/// How sandboxes are steered in these tests.
#[cfg(test)]
const WAY: mayfly_net::way::Way = mayfly_net::way::Way::Tproxy;
