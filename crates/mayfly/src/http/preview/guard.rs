//! Who may pass to a preview: the one place that decides it.

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use mayfly_core::id::SandboxId;
use sha2::{Digest, Sha256};

use super::address::{Address, Named};
use super::headers::{PARAMETER, TOKEN, own_cookies};
use super::link::Link;
use crate::http::app::App;
use crate::http::fault::{Answer, Fault};
use crate::http::input::Params;
use crate::http::preview_token::{TOOLBOX_PORTS, opens};

/// Port under which the toolbox itself is addressed.
pub(crate) const TOOLBOX: u16 = 2280;

/// A request that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// To which sandbox.
    pub(crate) sandbox: SandboxId,
    /// The token stood in the query, so a browser is better off with a cookie.
    pub(crate) by_query: bool,
    /// Only this one sandbox's cookies could be meant, so they may be set.
    pub(crate) may_set_cookie: bool,
}

/// Judges a request. Everything that does not open the port is 401 in the same words.
pub(crate) async fn judge(
    app: &App,
    address: &Address,
    parts: &Parts,
    by_path: bool,
) -> Answer<Passed> {
    let (port, master) = (address.port, &app.master);
    let sandbox = match &address.named {
        Named::Sandbox(sandbox) => *sandbox,
        Named::Signed(token) => {
            let link = Link::read(master, port, token).ok_or_else(refused)?;
            let over = port == TOOLBOX || link.is_over(app.now());
            if over || app.store.link_ended(&digest(token)).await? {
                return Err(refused());
            }
            let sandbox = link.sandbox;
            return Ok(Passed { sandbox, by_query: false, may_set_cookie: false });
        }
    };
    let opens = |token: &str| {
        opens(master, sandbox, port, token)
            || (port == TOOLBOX
                && TOOLBOX_PORTS.iter().any(|port| opens(master, sandbox, *port, token)))
    };
    let passed = Passed { sandbox, by_query: false, may_set_cookie: !by_path && port != TOOLBOX };
    if parts.headers.get_all(TOKEN).iter().any(|value| value.to_str().is_ok_and(opens)) {
        return Ok(passed);
    }
    let query = Params::parse(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    if query.get(PARAMETER).is_some_and(opens) {
        return Ok(Passed { by_query: true, ..passed });
    }
    // Neither a cookie nor openness to all ever reaches the toolbox.
    if port == TOOLBOX {
        return Err(refused());
    }
    if app.engine.is_public(sandbox) {
        return Ok(passed);
    }
    if !by_path && own_cookies(&parts.headers).into_iter().any(opens) && is_own_site(parts) {
        return Ok(passed);
    }
    Err(refused())
}

/// What is stored of a token that was ended early.
pub(crate) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn refused() -> Fault {
    Fault::unauthenticated(
        "this preview needs a valid token: send the header x-daytona-preview-token, or ask for a new preview URL",
    )
}

/// Whether a request that carries a cookie comes from the preview's own pages. A browser sends the cookie also
/// when another page, of another sandbox say, makes it ask; only following a link from there is harmless.
fn is_own_site(parts: &Parts) -> bool {
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase)
    };
    let headers = &parts.headers;
    let is_link = matches!(parts.method, Method::GET | Method::HEAD)
        && text(headers, "sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    let site = text(headers, "sec-fetch-site");
    let from_own = site.is_none_or(|site| site == "same-origin" || site == "none");
    let host = text(headers, HOST.as_str()).unwrap_or_default();
    let origin_is_own = text(headers, ORIGIN.as_str()).is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, authority)| authority == host)
    });
    origin_is_own && (from_own || is_link)
}
