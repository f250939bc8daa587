//! Signed file URLs: keys per sandbox, and the check that lets a request in without an API key.

use axum::Json as Reply;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use mayfly_core::access::{Caller, Permission};
use mayfly_core::id::SandboxId;
use sha2::Sha256;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who, hex};
use super::fault::{Answer, Fault};
use super::input::Params;

pub(crate) type HmacSha256 = Hmac<Sha256>;

pub(crate) fn mac(key: &[u8], message: &str) -> HmacSha256 {
    let mut mac = HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    mac
}

fn setting(id: SandboxId) -> String {
    format!("files-epoch:{id}")
}

/// The sandbox's signing key: derived, so that only its epoch is stored.
async fn signing_key(app: &App, id: SandboxId) -> Answer<String> {
    let epoch = app.store.setting(&setting(id)).await?.unwrap_or_else(|| "0".to_owned());
    Ok(derive(&app.master, id, &epoch))
}

fn derive(master: &[u8; 32], id: SandboxId, epoch: &str) -> String {
    hex(&mac(master, &format!("files:{id}:{epoch}")).finalize().into_bytes())
}

/// What one signature is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    /// `GET` or `POST`.
    pub(crate) method: &'a str,
    /// The file's path, decoded.
    pub(crate) path: &'a str,
    /// Unix seconds, 0 = never.
    pub(crate) expires: &'a str,
}

/// Compares in constant time.
pub(crate) fn verify(key: &str, claim: Claim<'_>, signature: &str) -> bool {
    let Some(encoded) = signature.strip_prefix("v1_") else { return false };
    let Ok(given) = URL_SAFE_NO_PAD.decode(encoded) else { return false };
    let Claim { method, path, expires } = claim;
    mac(key.as_bytes(), &format!("v1:files:{method}:{path}:{expires}")).verify_slice(&given).is_ok()
}

/// The caller that a signed URL stands for; 401 for everything that is wrong with it, in the same words.
pub(crate) async fn caller(
    app: &App,
    sandbox: &str,
    method: &str,
    params: &Params,
) -> Answer<Caller> {
    let refused = || {
        Fault::unauthenticated(
            "this signed URL is not valid: its signature, path, method or time does not fit; ask for a new one",
        )
    };
    let (path, signature) = (params.get("path"), params.get("signature"));
    let (Some(path), Some(signature)) = (path, signature) else { return Err(refused()) };
    let expires = params.get("expires").ok_or_else(refused)?;
    let deadline: i64 = expires.parse().map_err(|_| refused())?;
    let id: SandboxId = sandbox.parse().map_err(|_| refused())?;
    let record = app.store.sandbox(id).await?.ok_or_else(refused)?;
    let key = signing_key(app, id).await?;
    if !verify(&key, Claim { method, path, expires }, signature) {
        return Err(refused());
    }
    if deadline != 0 && deadline.saturating_mul(1000) < app.now().0 {
        return Err(refused());
    }
    Ok(Caller {
        organization: record.organization,
        permissions: [Permission::WriteSandboxes].into(),
        key: None,
        operator: false,
    })
}

/// The key that signs file URLs of this sandbox.
#[utoipa::path(get, path = "/api/sandbox/{sandbox}/signing-key", tag = "sandbox",
    params(("sandbox" = String, Path)), responses((status = 200, content_type = "application/json", body = String)))]
async fn show(
    State(app): State<App>,
    Who(caller): Who,
    Path(sandbox): Path<String>,
) -> Answer<Reply<String>> {
    require_write(&caller)?;
    let sandbox = app.engine.sandboxes().get(&caller, &sandbox).await?;
    Ok(Reply(signing_key(&app, sandbox.id).await?))
}

/// A new key; URLs signed with the old one die at once.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/signing-key/rotate", tag = "sandbox",
    params(("sandbox" = String, Path)), responses((status = 200, content_type = "application/json", body = String)))]
async fn rotate(
    State(app): State<App>,
    Who(caller): Who,
    Path(sandbox): Path<String>,
) -> Answer<Reply<String>> {
    require_write(&caller)?;
    let sandbox = app.engine.sandboxes().get(&caller, &sandbox).await?;
    // A random epoch: two rotations at once end with one of their keys, and never with an older one.
    app.store.set_setting(&setting(sandbox.id), &app.random_hex::<8>()).await?;
    Ok(Reply(signing_key(&app, sandbox.id).await?))
}

/// The key stands for writing files, so a key that may only read cannot have it.
fn require_write(caller: &Caller) -> Answer<()> {
    if caller.may(Permission::WriteSandboxes) {
        return Ok(());
    }
    Err(mayfly_core::Error::new(
        mayfly_core::Kind::Denied,
        "this key may not sign file URLs: it needs the permission write:sandboxes",
    )
    .into())
}

/// Routes of signing keys.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(rotate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(key: &str, text: &str) -> String {
        format!("v1_{}", URL_SAFE_NO_PAD.encode(mac(key.as_bytes(), text).finalize().into_bytes()))
    }

    #[test]
    fn a_signature_fits_its_key_method_path_and_time_only() {
        let claim = Claim { method: "GET", path: "a b/ü.txt", expires: "0" };
        let good = sign("key", "v1:files:GET:a b/ü.txt:0");
        assert!(verify("key", claim, &good));
        assert!(!verify("other", claim, &good));
        assert!(!verify("key", Claim { method: "POST", ..claim }, &good));
        assert!(!verify("key", Claim { path: "a b/u.txt", ..claim }, &good));
        assert!(!verify("key", Claim { expires: "1", ..claim }, &good));
        assert!(!verify("key", claim, &good[3..]));
        assert!(!verify("key", claim, "v1_"));
        assert!(!verify("key", claim, &good[..good.len() - 2]));
    }

    #[test]
    fn keys_differ_by_sandbox_and_epoch() {
        let id = |n| SandboxId::from_uuid(uuid::Uuid::from_u128(n));
        let master = [7; 32];
        assert_eq!(derive(&master, id(1), "0"), derive(&master, id(1), "0"));
        assert_ne!(derive(&master, id(1), "0"), derive(&master, id(2), "0"));
        assert_ne!(derive(&master, id(1), "0"), derive(&master, id(1), "1"));
        assert_ne!(derive(&[8; 32], id(1), "0"), derive(&master, id(1), "0"));
    }
}
