//! Keys and callers.

use std::collections::BTreeSet;

use mayfly_core::access::{ApiKey, Caller, Permission};
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Kind, Result};
use sha2::{Digest, Sha256};

use crate::commit;
use crate::house::{House, need, not_found, operator};

/// How every key of ours begins.
const PREFIX: &str = "mf_key_";
/// Random bytes in a key.
const SECRET_BYTES: usize = 32;
/// Most bytes of a key's value or name.
const MAX_TEXT: usize = 255;
/// Name of the key that comes from the environment.
const ENVIRONMENT: &str = "environment";
/// Name of the key made at first start.
const FIRST: &str = "default";

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Unique within the organization, 1 to 255 bytes.
    pub name: String,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// After this it is refused; `None` = never.
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// Refuses what can be refused without looking anything up; the message names the field.
    pub fn check(&self, now: Timestamp) -> Result<()> {
        let bad = |c: char| c.is_control();
        if self.name.is_empty() || self.name.len() > MAX_TEXT || self.name.contains(bad) {
            return Err(Error::invalid(format!(
                "name must have 1 to {MAX_TEXT} bytes and no control characters"
            )));
        }
        if self.expires_at.is_some_and(|expiry| expiry <= now) {
            return Err(Error::invalid("expiresAt must lie in the future"));
        }
        Ok(())
    }
}

/// Use cases of keys.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a>(pub(crate) &'a House);

impl Access<'_> {
    /// Makes sure that there is a key: the given value (under the name `environment`), else, when the
    /// organization has none at all, a new one whose value is returned this once.
    pub async fn bootstrap_key(&self, given: Option<&str>) -> Result<Option<String>> {
        let house = self.0;
        let caller = self.administrator();
        let wanted = |name: &str| NewKey {
            name: name.to_owned(),
            permissions: BTreeSet::from([Permission::Admin]),
            expires_at: None,
        };
        if let Some(value) = given {
            if value.is_empty() || value.len() > MAX_TEXT || value.contains(char::is_whitespace) {
                return Err(Error::invalid(format!(
                    "the given API key must have 1 to {MAX_TEXT} bytes and no white space"
                )));
            }
            let known = house.store.key_by_hash(&hash(value)).await?;
            if known.is_none() {
                self.remove(&caller, ENVIRONMENT).await?;
                self.add(&caller, wanted(ENVIRONMENT), value).await?;
            }
            return Ok(None);
        }
        if !house.store.keys(caller.organization).await?.is_empty() {
            return Ok(None);
        }
        let (_, value) = self.create_key(&caller, wanted(FIRST)).await?;
        Ok(Some(value))
    }

    /// The caller behind a key's value; [`Kind::Unauthenticated`] when it is unknown or expired.
    pub async fn authenticate(&self, value: &str) -> Result<Caller> {
        let house = self.0;
        let hash = hash(value);
        let key = match house.keys.get(&hash) {
            Some(key) => key,
            None => self.load(&hash).await?,
        };
        let now = house.now().wall;
        if !same(&key.hash, &hash) || !house.tenants.has(key.organization) {
            return Err(unknown());
        }
        if key.expires_at.is_some_and(|expiry| expiry <= now) {
            return Err(Error::new(Kind::Unauthenticated, "this API key has expired")
                .with_hint("make a new one"));
        }
        house.keys.used(&hash, now);
        Ok(Caller {
            organization: key.organization,
            permissions: key.permissions,
            key: Some(key.name),
            operator: false,
        })
    }

    /// Whether a key was used since the start, so that its caller is known without a look into the store.
    pub fn knows(&self, value: &str) -> bool {
        self.0.keys.get(&hash(value)).is_some()
    }

    /// The server's own administrator, for callers whom the operating system vouches for.
    pub fn administrator(&self) -> Caller {
        operator(self.0.organization)
    }

    /// The same, acting in the organization of this id or name.
    pub fn administrator_of(&self, id_or_name: &str) -> Result<Caller> {
        let found = self.0.tenants.find(id_or_name);
        let organization = found.ok_or_else(|| not_found("organization", id_or_name))?;
        Ok(operator(organization.id))
    }

    /// Makes a key; its value is returned this once. Needs `admin`. [`Kind::Conflict`] when the name is taken.
    pub async fn create_key(&self, caller: &Caller, wanted: NewKey) -> Result<(ApiKey, String)> {
        need(caller, Permission::Admin)?;
        wanted.check(self.0.now().wall)?;
        let mut secret = [0; SECRET_BYTES];
        self.0.entropy.fill(&mut secret);
        let value = format!("{PREFIX}{}", base64url(&secret));
        let key = self.add(caller, wanted, &value).await?;
        Ok((key, value))
    }

    /// The key that the caller came with, whatever it may do; [`Kind::NotFound`] where it came without.
    pub async fn own_key(&self, caller: &Caller) -> Result<ApiKey> {
        let none = || Error::not_found("this call came without an API key");
        let name = caller.key.as_deref().ok_or_else(none)?;
        let keys = self.0.store.keys(caller.organization).await?;
        keys.into_iter().find(|key| key.name == name).ok_or_else(none)
    }

    /// Keys of the caller's organization, by name. Needs `admin`.
    pub async fn keys(&self, caller: &Caller) -> Result<Vec<ApiKey>> {
        need(caller, Permission::Admin)?;
        self.0.store.keys(caller.organization).await
    }

    /// Deletes a key; refused from then on. Needs `admin`.
    pub async fn delete_key(&self, caller: &Caller, name: &str) -> Result<()> {
        need(caller, Permission::Admin)?;
        if self.remove(caller, name).await? { Ok(()) } else { Err(not_found("API key", name)) }
    }

    async fn add(&self, caller: &Caller, wanted: NewKey, value: &str) -> Result<ApiKey> {
        let house = self.0;
        let key = ApiKey {
            name: wanted.name,
            organization: caller.organization,
            hash: hash(value),
            masked: masked(value),
            permissions: wanted.permissions,
            created_at: house.now().wall,
            expires_at: wanted.expires_at,
            last_used_at: None,
        };
        commit::add_key(&*house.store, &key).await?;
        Ok(key)
    }

    async fn remove(&self, caller: &Caller, name: &str) -> Result<bool> {
        let house = self.0;
        let removed = commit::delete_key(&*house.store, caller.organization, name).await?;
        house.keys.forget(|key| key.organization == caller.organization && key.name == name);
        Ok(removed)
    }

    async fn load(&self, hash: &[u8; 32]) -> Result<ApiKey> {
        let house = self.0;
        let before = house.keys.deletions();
        let key = house.store.key_by_hash(hash).await?.ok_or_else(unknown)?;
        house.keys.keep(&key, before);
        Ok(key)
    }
}

fn unknown() -> Error {
    Error::new(Kind::Unauthenticated, "unknown API key")
        .with_hint("send `Authorization: Bearer <key>` with a key of this server")
}

fn hash(value: &str) -> [u8; 32] {
    Sha256::digest(value.as_bytes()).into()
}

/// Equality in a time that does not depend on where they differ.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let different = left.iter().zip(right).fold(0, |different, (a, b)| different | (a ^ b));
    std::hint::black_box(different) == 0
}

/// First and last characters; too short a value shows none.
fn masked(value: &str) -> String {
    let characters: Vec<char> = value.chars().collect();
    if characters.len() < 20 {
        return "***".to_owned();
    }
    let first: String = characters[..10].iter().collect();
    let last: String = characters[characters.len() - 3..].iter().collect();
    format!("{first}***{last}")
}

/// Base64 in the URL alphabet, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            let six = group >> (18 - 6 * index) & 63;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{base64url, masked, same};

    #[test]
    fn base64url_follows_the_standard() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"\xfb\xff", "-_8")]
        {
            assert_eq!(base64url(bytes), text);
        }
        assert_eq!(base64url(&[0; 32]).len(), 43);
    }

    #[test]
    fn a_masked_key_hides_its_middle() {
        let value = format!("mf_key_{}", "s".repeat(43));
        assert_eq!(masked(&value), "mf_key_sss***sss");
        assert_eq!(masked("short"), "***");
    }

    #[test]
    fn hashes_are_compared_whole() {
        let mut other = [7; 32];
        assert!(same(&[7; 32], &other));
        other[31] = 8;
        assert!(!same(&[7; 32], &other));
    }
}
