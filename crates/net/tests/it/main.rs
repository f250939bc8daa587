//! The network process end to end, in namespaces of its own. Needs root and iproute2.

mod dns;
mod domains;
mod isolation;
mod life;
mod live;
mod tcp;
mod through;
mod udp;
mod world;
