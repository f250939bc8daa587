//! Values that tasks share: a handle on the file's table.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::task::MAX_BYTES;
use crate::error::DagError;
use crate::journal::Synchronous;
use crate::journal::shared_state::{SharedPut, SharedValue};
use crate::storage::SqliteStorage;

/// Values by scope and key, durable and the same for all processes. A cheap handle.
#[derive(Clone)]
pub struct SharedState {
    storage: SqliteStorage,
    mode: Synchronous,
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl SharedState {
    pub(crate) fn new(storage: SqliteStorage, mode: Synchronous) -> Self {
        Self { storage, mode }
    }

    /// The bytes of a value; `None` when there is none or its time is over.
    pub async fn get(&self, scope: &str, key: &str) -> Result<Option<Bytes>, DagError> {
        Ok(self.entry(scope, key).await?.map(|entry| entry.value.into()))
    }

    /// A value with its version and end.
    pub async fn entry(&self, scope: &str, key: &str) -> Result<Option<SharedValue>, DagError> {
        self.storage.journal().shared(scope, key).await
    }

    /// Writes a value, whatever was there; answers its new version.
    pub async fn put(
        &self,
        scope: &str,
        key: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<i64, DagError> {
        self.write(scope, key, value.as_ref(), None, None).await
    }

    /// Writes a value that ends after `ttl`.
    pub async fn put_for(
        &self,
        scope: &str,
        key: &str,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<i64, DagError> {
        self.write(scope, key, value.as_ref(), None, Some(ttl)).await
    }

    /// Writes a value if its version is still the expected one; 0 expects none at all. [`DagError::InvalidState`] names
    /// both versions when it is not.
    pub async fn put_if(
        &self,
        scope: &str,
        key: &str,
        value: impl AsRef<[u8]>,
        expected: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, DagError> {
        self.write(scope, key, value.as_ref(), Some(expected), ttl).await
    }

    /// Removes a value; whether there was one.
    pub async fn delete(&self, scope: &str, key: &str) -> Result<bool, DagError> {
        self.remove(scope, key, None).await
    }

    /// Removes a value if its version is still the expected one.
    pub async fn delete_if(&self, scope: &str, key: &str, expected: i64) -> Result<bool, DagError> {
        self.remove(scope, key, Some(expected)).await
    }

    async fn remove(
        &self,
        scope: &str,
        key: &str,
        expected: Option<i64>,
    ) -> Result<bool, DagError> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        let put = SharedPut { scope, key, value: None, expected, expires_at: None };
        Ok(self.storage.journal().put_shared(self.mode, put).await?.0 > 0)
    }

    async fn write(
        &self,
        scope: &str,
        key: &str,
        value: &[u8],
        expected: Option<i64>,
        ttl: Option<Duration>,
    ) -> Result<i64, DagError> {
        if value.len() > MAX_BYTES {
            return Err(DagError::ValidationError(format!(
                "shared value {scope}/{key} has {} bytes, at most {MAX_BYTES} are taken; store it as an artifact",
                value.len()
            )));
        }
        let now = self.storage.clock().now();
        let expires_at =
            ttl.map(|ttl| now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)));
        let (scope, key, value) = (scope.to_owned(), key.to_owned(), Some(value.to_vec()));
        let put = SharedPut { scope, key, value, expected, expires_at };
        Ok(self.storage.journal().put_shared(self.mode, put).await?.1)
    }
}
