//! What let a request in, so that a connection that stays open can be judged again.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use mayfly_core::access::{Caller, Permission};
use mayfly_core::id::SandboxId;
use mayfly_engine::Reach;

use super::app::{App, Who};
use super::fault::{Answer, Fault};
use super::input::Params;
use super::preview_token::{self, TOOLBOX_PORTS};
use super::toolbox;

/// Query parameter that carries a preview token.
pub(crate) const TOKEN: &str = "DAYTONA_SANDBOX_AUTH_KEY";

/// What let a request in.
#[derive(Clone)]
pub(crate) enum Pass {
    /// An API key.
    Key(Arc<str>),
    /// The way it came: the unix socket, or the keyless mode.
    Way,
    /// A preview token of this sandbox.
    Preview(SandboxId),
    /// Nothing yet: it comes from this address and has to say who it is.
    Stranger(Arc<str>),
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(_) => f.write_str("Key(..)"),
            Self::Way => f.write_str("Way"),
            Self::Preview(id) => write!(f, "Preview({id})"),
            Self::Stranger(from) => write!(f, "Stranger({from})"),
        }
    }
}

impl Pass {
    /// Whose share of what is limited per caller it takes from.
    pub(crate) fn caller(&self) -> String {
        match self {
            Self::Key(key) => format!("key {key}"),
            Self::Way => "way".to_owned(),
            Self::Preview(id) => format!("preview {id}"),
            Self::Stranger(from) => format!("stranger {from}"),
        }
    }

    /// Whether it would still let a request in; else why not.
    pub(crate) async fn check(&self, app: &App) -> Result<(), String> {
        match self {
            Self::Way | Self::Stranger(_) => Ok(()),
            Self::Key(key) => match app.engine.access().authenticate(key).await {
                Err(error) if error.kind() == mayfly_core::Kind::Unauthenticated => {
                    Err(error.message().to_owned())
                }
                // A store that does not answer is no reason to throw anybody out.
                _ => Ok(()),
            },
            Self::Preview(id) => match app.store.sandbox(*id).await {
                Ok(None) => Err("the sandbox is gone".to_owned()),
                _ => Ok(()),
            },
        }
    }
}

/// Whether a request may carry a preview token instead of a key: only those that ask for a WebSocket of a toolbox.
pub(crate) fn may_carry_token(parts: &axum::extract::Request) -> bool {
    let upgrade = parts.headers().get(axum::http::header::UPGRADE);
    parts.uri().path().starts_with("/toolbox/")
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && parts.uri().query().is_some_and(|query| query.contains(TOKEN))
}

/// Like [`toolbox::Toolbox`], for endpoints that speak WebSocket: a preview token may stand in for the key.
#[derive(Debug)]
pub(crate) struct SocketToolbox {
    pub(crate) reach: Reach,
    pub(crate) pass: Pass,
}

impl FromRequestParts<App> for SocketToolbox {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answer<Self> {
        let sandbox = toolbox::named(parts)?;
        if let Some(Who(caller)) = parts.extensions.get::<Who>() {
            let pass = parts.extensions.get::<Pass>().cloned().unwrap_or(Pass::Way);
            return Ok(Self { reach: app.engine.reach(caller, &sandbox).await?, pass });
        }
        let refused = || {
            Fault::unauthenticated(format!(
                "the preview token in {TOKEN} does not open the toolbox of this sandbox"
            ))
        };
        let params = Params::parse(parts.uri.query().unwrap_or_default())?;
        let token = params.get(TOKEN).ok_or_else(refused)?;
        let id: SandboxId = sandbox.parse().map_err(|_| refused())?;
        if !TOOLBOX_PORTS.iter().any(|port| preview_token::opens(&app.master, id, *port, token)) {
            return Err(refused());
        }
        let record = app.store.sandbox(id).await?.ok_or_else(refused)?;
        let caller = Caller {
            organization: record.organization,
            permissions: [Permission::WriteSandboxes].into(),
            key: None,
            operator: false,
        };
        Ok(Self { reach: app.engine.reach(&caller, &sandbox).await?, pass: Pass::Preview(id) })
    }
}
