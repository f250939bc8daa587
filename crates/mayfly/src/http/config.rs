//! `/api/config` and the regions: what clients ask about the server itself.

use std::collections::BTreeMap;

use axum::Json as Reply;
use axum::extract::State;
use mayfly_core::sandbox::MAX_AUTO_ARCHIVE;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Seen};
use super::time::rfc3339;

/// Sign-in service of the dashboard; empty, there is none.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Oidc {
    issuer: String,
    client_id: String,
    audience: String,
}

/// What clients need to know of the server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Configuration)]
pub(crate) struct ConfigBody {
    version: &'static str,
    oidc: Oidc,
    linked_accounts_enabled: bool,
    #[schema(value_type = Object)]
    announcements: BTreeMap<String, String>,
    proxy_template_url: String,
    proxy_toolbox_url: String,
    default_snapshot: String,
    dashboard_url: String,
    max_auto_archive_interval: u32,
    /// Spelt as in the contract.
    maintanance_mode: bool,
    environment: &'static str,
}

/// A region label.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Region {
    id: String,
    name: String,
    #[serde(rename = "regionType")]
    kind: &'static str,
    created_at: String,
    updated_at: String,
}

/// What clients need to know of the server; needs no key.
#[utoipa::path(get, path = "/api/config", tag = "config", security(()), responses((status = 200, body = ConfigBody)))]
async fn config(State(app): State<App>, Seen(seen): Seen) -> Reply<ConfigBody> {
    let (scheme, host) = seen.split_once("://").unwrap_or(("http", seen.as_str()));
    let domain = app.options.proxy_domain.as_deref().unwrap_or(host);
    Reply(ConfigBody {
        version: env!("CARGO_PKG_VERSION"),
        oidc: Oidc::default(),
        linked_accounts_enabled: false,
        announcements: BTreeMap::new(),
        proxy_template_url: format!("{scheme}://{{{{PORT}}}}-{{{{sandboxId}}}}.{domain}"),
        proxy_toolbox_url: format!("{seen}/toolbox"),
        default_snapshot: app.options.default_snapshot.clone(),
        dashboard_url: seen.clone(),
        max_auto_archive_interval: MAX_AUTO_ARCHIVE,
        maintanance_mode: false,
        environment: "production",
    })
}

/// The one region of this server.
#[utoipa::path(get, path = "/api/shared-regions", tag = "config", responses((status = 200, body = Vec<Region>)))]
async fn regions(State(app): State<App>) -> Reply<Vec<Region>> {
    let since = rfc3339(mayfly_core::time::Timestamp(0));
    Reply(vec![Region {
        id: app.options.target.clone(),
        name: app.options.target.clone(),
        kind: "shared",
        created_at: since.clone(),
        updated_at: since,
    }])
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(config)).routes(routes!(regions))
}
