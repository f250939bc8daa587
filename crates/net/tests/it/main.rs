//! The network process end to end, in namespaces of its own, steered by a BPF program. Needs root and iproute2.
//!
//! The same tests run with packet rules in the target `tproxy`.

#[cfg(test)]
mod dns;
#[cfg(test)]
mod domains;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod life;
#[cfg(test)]
mod live;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod through;
#[cfg(test)]
mod udp;
#[cfg(test)]
mod world;

/// How sandboxes are steered in these tests.
#[cfg(test)]
const WAY: mayfly_net::way::Way = mayfly_net::way::Way::SkLookup;
