//! The network process end to end, in namespaces of its own. Needs root and iproute2.

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
