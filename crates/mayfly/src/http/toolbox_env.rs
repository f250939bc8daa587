//! `/toolbox/{id}/env`: the environment of what starts from now on.

use std::collections::BTreeMap;

use axum::Json as Reply;
use mayfly_core::sandbox::EnvChange;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::{Answer, Fault};
use super::input::{Json, environment};
use super::toolbox::Toolbox;

/// Most names to take out in one call; as many as a sandbox may have.
const MAX_UNSET: usize = 1024;

/// A change; what is taken out goes before what is set.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct UpdateEnvRequest {
    /// Variables to set, byte-exact.
    set: Option<BTreeMap<String, String>>,
    /// Names to take out; unknown ones are none.
    unset: Option<Vec<String>>,
    /// Takes out every variable whose value begins like this and that is not in `set`.
    unset_value_prefix: Option<String>,
}

impl UpdateEnvRequest {
    fn into_change(self) -> Answer<EnvChange> {
        let unset = self.unset.unwrap_or_default();
        if unset.len() > MAX_UNSET {
            return Err(Fault::bad_request(format!("unset: expected at most {MAX_UNSET} names")));
        }
        Ok(EnvChange {
            set: environment("set", self.set)?,
            unset,
            // Every value begins with nothing; clients that name no prefix may send that.
            unset_value_prefix: self.unset_value_prefix.filter(|prefix| !prefix.is_empty()),
        })
    }
}

/// Changes the environment of commands, sessions, terminals and interpreters that start from now on; it stays
/// when the sandbox or the server is restarted. Answers with all variables that this call ever set and that are
/// in force. Those of the sandbox's maker and its image are covered, never taken out.
#[utoipa::path(post, path = "/toolbox/{sandbox}/env", tag = "server", request_body = UpdateEnvRequest,
    params(("sandbox" = String, Path)), responses((status = 200, body = BTreeMap<String, String>)))]
async fn update(
    Toolbox(reach): Toolbox,
    Json(body): Json<UpdateEnvRequest>,
) -> Answer<Reply<BTreeMap<String, String>>> {
    Ok(Reply(reach.set_env(body.into_change()?).await?))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(update))
}
