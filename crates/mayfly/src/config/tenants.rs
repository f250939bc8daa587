//! Settings of `[tenants]`, and origins of pages.

use mayfly_core::access::Quota;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Most entries of a list.
const MOST: usize = 64;

/// `[tenants]`: organizations and what they may have where they have no limits of their own; 0 = no limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tenants {
    /// Names of organizations that are made at start where they are not there.
    pub(crate) organizations: Vec<String>,
    /// Sandboxes that are not destroyed.
    pub(crate) sandboxes: u32,
    /// Cores of sandboxes that run.
    pub(crate) cpu: u32,
    /// GiB of memory of sandboxes that run.
    pub(crate) memory_gib: u32,
    /// GiB of disk.
    pub(crate) disk_gib: u32,
    /// Volumes.
    pub(crate) volumes: u32,
    /// Lines of the audit log kept of each organization.
    pub(crate) audit_lines: u32,
}

impl Tenants {
    /// The limits of organizations without their own.
    pub(crate) fn quota(&self) -> Quota {
        Quota {
            sandboxes: Some(self.sandboxes),
            cpu: Some(self.cpu),
            memory_gib: Some(self.memory_gib),
            disk_gib: Some(self.disk_gib),
            volumes: Some(self.volumes),
        }
    }
}

/// Origins as browsers write them; no pattern, and nothing that stands for more than one.
pub(super) fn origins<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    if texts.len() > MOST {
        return Err(D::Error::custom(format!("{} entries: expected at most {MOST}", texts.len())));
    }
    match texts.iter().find(|text| !is_origin(text)) {
        None => Ok(texts),
        Some(bad) => Err(D::Error::custom(format!(
            "`{bad}`: expected an origin such as https://app.example.com, without a path"
        ))),
    }
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty()
            && host.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn only_whole_origins_are_taken() {
        for good in ["https://app.example.com", "http://localhost:3000", "http://[::1]:8080"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "*",
            "null",
            "https://",
            "https://*.a.com",
            "https://a.com/",
            "HTTPS://A.com",
            "a.com",
            "",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
