//! `/toolbox/{id}/…`: from the path to the inside of a started sandbox.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use mayfly_core::access::Caller;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::files::Files;
use mayfly_engine::Reach;

use super::app::{App, Who};
use super::fault::{Answer, Fault};
use super::input::Params;
use super::signed;

/// The sandbox named by the path, started, as the caller may use it; counts as a use of it.
#[derive(Debug)]
pub(crate) struct Toolbox(pub(crate) Reach);

impl Toolbox {
    /// The file port and the id it takes.
    pub(crate) fn files(&self) -> (&dyn Files, SandboxId) {
        (self.0.files(), self.0.id())
    }
}

impl FromRequestParts<App> for Toolbox {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answer<Self> {
        let Who(caller) = Who::from_request_parts(parts, app).await?;
        let sandbox = named(parts)?;
        Ok(Self(app.engine.reach(&caller, &sandbox).await?))
    }
}

/// Like [`Toolbox`], but a signature in the URL may stand in for the key.
#[derive(Debug)]
pub(crate) struct SignedToolbox(pub(crate) Toolbox);

impl FromRequestParts<App> for SignedToolbox {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answer<Self> {
        let sandbox = named(parts)?;
        let caller: Arc<Caller> = if let Some(Who(caller)) = parts.extensions.get::<Who>() {
            Arc::clone(caller)
        } else {
            let params = Params::parse(parts.uri.query().unwrap_or_default())?;
            Arc::new(signed::caller(app, &sandbox, parts.method.as_str(), &params).await?)
        };
        Ok(Self(Toolbox(app.engine.reach(&caller, &sandbox).await?)))
    }
}

/// The second part of the path, decoded.
pub(crate) fn named(parts: &Parts) -> Answer<String> {
    let name = parts.uri.path().split('/').nth(2).unwrap_or_default();
    percent_encoding::percent_decode_str(name)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Fault::bad_request("the sandbox's name in the path is not valid UTF-8"))
}
