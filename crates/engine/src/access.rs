//! Keys and callers.

use std::collections::BTreeSet;

use mayfly_core::access::{ApiKey, Caller, Permission};
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Result};

use crate::engine::Engine;

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Unique within the organization.
    pub name: String,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// After this it is refused; `None` = never.
    pub expires_at: Option<Timestamp>,
}

/// Use cases of keys.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a>(pub(crate) &'a Engine);

impl Access<'_> {
    /// Makes sure that there is a key: the given value (under the name `environment`), else, when the
    /// organization has none at all, a new one whose value is returned this once.
    pub async fn bootstrap_key(&self, given: Option<&str>) -> Result<Option<String>> {
        let _ = given;
        Ok(None)
    }

    /// The caller behind a key's value; [`mayfly_core::Kind::Unauthenticated`] when it is unknown or expired.
    pub async fn authenticate(&self, value: &str) -> Result<Caller> {
        let _ = value;
        Err(Error::unsupported("keys"))
    }

    /// The server's own administrator, for callers whom the operating system vouches for.
    pub fn administrator(&self) -> Caller {
        unreachable!()
    }

    /// Makes a key; its value is returned this once. Needs `admin`.
    pub async fn create_key(&self, caller: &Caller, wanted: NewKey) -> Result<(ApiKey, String)> {
        let _ = (caller, wanted);
        Err(Error::unsupported("keys"))
    }

    /// Keys of the caller's organization, by name. Needs `admin`.
    pub async fn keys(&self, caller: &Caller) -> Result<Vec<ApiKey>> {
        let _ = caller;
        Err(Error::unsupported("keys"))
    }

    /// Deletes a key; refused from then on. Needs `admin`.
    pub async fn delete_key(&self, caller: &Caller, name: &str) -> Result<()> {
        let _ = (caller, name);
        Err(Error::unsupported("keys"))
    }
}
