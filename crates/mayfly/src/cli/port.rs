//! `mayfly sandbox port`: where a port of a sandbox is seen, and a port of this machine that leads there.

use std::net::SocketAddr;

use clap::Args;
use hyper::Method;
use mayfly_core::{Error, Kind, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::exec::{find, sandbox_path};
use super::output::cell;
use super::{Ended, Session};
use crate::client::{Client, encode};
use crate::exit_code;

/// Connections through a forwarded port at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;

/// Show the URL of a port of a sandbox, or forward it to this machine
#[derive(Debug, Args)]
pub(super) struct Port {
    /// Name or id
    sandbox: String,
    /// Port inside; without it, the ports that something inside listens on
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    number: Option<u16>,
    /// Open all previews of the sandbox to everybody
    #[arg(long, requires = "number", conflicts_with_all = ["signed", "listen"])]
    public: bool,
    /// A URL that needs no token, for so many seconds
    #[arg(long, value_name = "SECONDS", requires = "number", conflicts_with = "listen")]
    signed: Option<u32>,
    /// Listen on this machine and pass every connection on to the port
    #[arg(long, value_name = "[ADDR:]PORT", requires = "number")]
    listen: Option<String>,
}

impl Port {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let id = find(&client, &self.sandbox).await?;
        let Some(port) = self.number else { return list(session, &client, &id).await };
        if let Some(listen) = &self.listen {
            return forward(session, client, &id, port, listen).await;
        }
        if self.public {
            let path = format!("{}/public/true", sandbox_path(&id));
            client.call(Method::POST, &path, None).await?;
        }
        let verb = match self.signed {
            Some(seconds) => format!("signed-preview-url?expiresInSeconds={seconds}"),
            None => "preview-url".to_owned(),
        };
        let path = format!("{}/ports/{port}/{verb}", sandbox_path(&id));
        let preview = client.call(Method::GET, &path, None).await?;
        let needs_token = self.signed.is_none() && !self.public && !is_public(&client, &id).await?;
        session.output.show(&preview, || {
            let (url, token) = (cell(&preview["url"]), cell(&preview["token"]));
            if needs_token {
                format!("{url}/?DAYTONA_SANDBOX_AUTH_KEY={token}\n")
            } else {
                format!("{url}/\n")
            }
        })?;
        Ok(exit_code::SUCCESS)
    }
}

async fn is_public(client: &Client, id: &str) -> Result<bool> {
    let sandbox = client.call(Method::GET, &sandbox_path(id), None).await?;
    Ok(sandbox["public"] == Value::Bool(true))
}

async fn list(session: &Session<'_>, client: &Client, id: &str) -> Ended {
    let ports = client.call(Method::GET, &format!("/toolbox/{}/port", encode(id)), None).await?;
    session.output.show(&ports, || {
        let ports = ports["ports"].as_array().into_iter().flatten();
        ports.map(|port| format!("{port}\n")).collect::<Vec<_>>().concat()
    })?;
    Ok(exit_code::SUCCESS)
}

/// Passes connections on until this command is interrupted.
async fn forward(
    session: &Session<'_>,
    client: Client,
    id: &str,
    port: u16,
    listen: &str,
) -> Ended {
    let address = address(listen)?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::new(Kind::Unavailable, format!("cannot listen on {address}: {error}"))
            .with_hint("choose another port, or 0 for any")
            .with_source(error)
    })?;
    let failed = |error| Error::internal("the listener has no address", error);
    let address = listener.local_addr().map_err(failed)?.to_string();
    session.output.show(&json!({ "listen": address, "port": port }), || {
        format!("{address} leads to port {port} of {id}; interrupt to end\n")
    })?;
    let path = format!("/toolbox/{}/port/{port}/connect", encode(id));
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tokio::signal::ctrl_c() => return Ok(exit_code::SUCCESS),
        };
        let Ok((mut here, _)) = accepted else { continue };
        let (client, path) = (client.clone(), path.clone());
        connections.spawn(async move {
            let passed = pass(&client, &path, &mut here).await;
            if let Err(error) = passed {
                tracing::warn!(%error, "a connection was not passed on");
                let _ = here.shutdown().await;
            }
        });
    }
}

async fn pass(client: &Client, path: &str, here: &mut TcpStream) -> Result<()> {
    let _ = here.set_nodelay(true);
    let mut inside = client.upgrade(path, "tcp").await?;
    // An end that breaks off is the other one's end, too.
    let _ = copy_bidirectional(here, &mut inside).await;
    Ok(())
}

fn address(text: &str) -> Result<SocketAddr> {
    let whole = if text.contains(':') { text.to_owned() } else { format!("127.0.0.1:{text}") };
    whole.parse().map_err(|_| {
        Error::invalid(format!(
            "--listen: `{text}` is no address: expected [ADDR:]PORT, such as 8080"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_the_host_out() {
        assert_eq!(address("8080").unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(address("0.0.0.0:1").unwrap().to_string(), "0.0.0.0:1");
        assert_eq!(address("[::1]:1").unwrap().to_string(), "[::1]:1");
        for bad in ["", "x", "1.2.3.4", "70000", ":80"] {
            assert_eq!(address(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }
}
