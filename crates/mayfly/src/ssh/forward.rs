//! Forwarded ports: out to services inside (`-L`), and back from a port inside to the visitor (`-R`).

use mayfly_core::{Error, Result};
use mayfly_engine::Reach;
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::door::Place;
use crate::splice::splice;

/// Names of the sandbox's own loopback address.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The port that a visitor wants to reach, if it is one of the sandbox's own.
pub(super) fn port(host: &str, port: u32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0 && is_loopback(host))
}

/// Whether a visitor may listen on an address; whatever it is, the sandbox's loopback address is meant.
pub(super) fn may_bind(address: &str) -> bool {
    matches!(address, "" | "*" | "0.0.0.0" | "::") || is_loopback(address)
}

/// Connects a channel to a port inside.
pub(super) async fn out(
    channel: Channel<Msg>,
    reach: Reach,
    port: u16,
    reply: ChannelOpenHandle,
    _place: Place,
) {
    let inside = reach.connect(port).await.and_then(watched);
    match inside {
        Ok(inside) => {
            reply.accept().await;
            let _ = splice(&reach, channel.into_stream(), inside).await;
        }
        Err(error) => {
            tracing::debug!(%error, "a forwarded port could not be reached");
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    }
}

/// Listens on a port inside and hands what connects to the visitor, until the task is aborted or the sandbox stops.
pub(super) async fn back(
    reach: Reach,
    address: String,
    port: u16,
    visitor: Handle,
    place: impl Fn() -> Option<Place> + Send + Sync + 'static,
) -> Result<(u16, AbortHandle)> {
    let listener = std::net::TcpListener::from(reach.bind(port).await?);
    let failed = |error| Error::internal("a port inside cannot be watched", error);
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        // What cannot be accepted was closed already, or nothing can be accepted any more.
        while let Ok((inside, from)) = listener.accept().await {
            while connections.try_join_next().is_some() {}
            let Some(place) = place() else { continue };
            let (visitor, address, reach) = (visitor.clone(), address.clone(), reach.clone());
            connections.spawn(async move {
                let _place = place;
                let (from, origin) = (from.ip().to_string(), from.port().into());
                let opened =
                    visitor.channel_open_forwarded_tcpip(address, port.into(), from, origin).await;
                if let Ok(channel) = opened {
                    let _ = splice(&reach, channel.into_stream(), inside).await;
                }
            });
        }
    });
    Ok((port, task.abort_handle()))
}

fn watched(socket: std::os::fd::OwnedFd) -> Result<TcpStream> {
    TcpStream::from_std(socket.into())
        .map_err(|error| Error::internal("a connection into a sandbox cannot be watched", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n11_only_the_sandbox_s_own_loopback_address_is_forwarded() {
        for host in ["localhost", "LocalHost", "127.0.0.1", "::1", "[::1]", "127.1.2.3"] {
            assert_eq!(port(host, 80), Some(80), "{host}");
        }
        for host in [
            "",
            "example.com",
            "10.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "localhost.evil",
            "2130706433",
        ] {
            assert_eq!(port(host, 80), None, "{host}");
        }
        assert_eq!((port("localhost", 0), port("localhost", 65_536)), (None, None));
        assert!(may_bind("") && may_bind("*") && may_bind("localhost") && !may_bind("192.0.2.1"));
    }
}
