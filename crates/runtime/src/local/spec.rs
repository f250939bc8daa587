//! What the runtime itself must know of a sandbox, kept as an attribute of its folder or a file in it.
//!
//! Everything else about a sandbox is the engine's; this little is needed to run commands and file calls
//! for a sandbox that an earlier server made.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use mayfly_core::ports::runtime::SandboxSpec;
use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::{Reader, Writer};
use rustix::fs::XattrFlags;

/// `trusted.*` can be read and written by root of the host only.
const ATTRIBUTE: &str = "trusted.mayfly.spec";
/// Raised when the fields change; a folder with another number is refused.
const FORMAT: u8 = 1;
/// Longest description, bytes: what the pool's file system takes as one attribute.
const MAX_SPEC: usize = 15 << 10;

/// User, work dir and environment of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) user: String,
    pub(super) workdir: Option<String>,
    pub(super) env: BTreeMap<String, String>,
}

impl From<&SandboxSpec> for Spec {
    fn from(spec: &SandboxSpec) -> Self {
        Self { user: spec.user.clone(), workdir: spec.workdir.clone(), env: spec.env.clone() }
    }
}

impl Spec {
    /// As bytes; refused when it is too long.
    pub(super) fn checked(&self) -> Result<Vec<u8>> {
        let bytes = self.encode();
        if bytes.len() > MAX_SPEC {
            return Err(Error::invalid(format!(
                "user, work dir and environment of the sandbox are {} bytes long: expected at most {MAX_SPEC}",
                bytes.len()
            ))
            .with_hint("put large values into a file of the sandbox"));
        }
        Ok(bytes)
    }

    /// Writes it to the sandbox's folder as an attribute.
    pub(super) fn save(&self, folder: impl AsFd) -> Result<()> {
        let bytes = self.checked()?;
        rustix::fs::fsetxattr(folder, ATTRIBUTE, &bytes, XattrFlags::empty()).map_err(|error| {
            Error::internal(
                "the sandbox's description could not be written",
                io::Error::from(error),
            )
        })
    }

    /// Whether none was ever written: the folder was left half made.
    pub(super) fn is_missing(folder: impl AsFd) -> bool {
        let answer = rustix::fs::fgetxattr(folder, ATTRIBUTE, &mut [0_u8; 0][..]);
        answer == Err(rustix::io::Errno::NODATA)
    }

    /// Reads it back.
    pub(super) fn load(folder: impl AsFd) -> Result<Self> {
        let mut buffer = vec![0_u8; MAX_SPEC];
        let length =
            rustix::fs::fgetxattr(folder, ATTRIBUTE, &mut buffer[..]).map_err(|error| {
                Error::internal(
                    "the sandbox's description could not be read",
                    io::Error::from(error),
                )
            })?;
        Self::read(&buffer[..length])
    }

    /// From bytes; [`Kind::Conflict`] for another format.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        Self::decode(bytes).ok_or_else(|| {
            Error::new(
                Kind::Conflict,
                format!("the sandbox was made in another format: expected format {FORMAT}"),
            )
            .with_hint("delete the sandbox, or use the version of mayfly that made it")
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let workdir = self.workdir.as_deref().unwrap_or_default();
        let env: Vec<&String> = self.env.iter().flat_map(|(key, value)| [key, value]).collect();
        Writer::new(FORMAT)
            .bytes(self.user.as_bytes())
            .bytes(workdir.as_bytes())
            .list(&env)
            .finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return None;
        }
        let mut text = || String::from_utf8(reader.bytes()?.to_vec()).ok();
        let (user, workdir) = (text()?, text()?);
        let texts = reader
            .list()?
            .into_iter()
            .map(|bytes| String::from_utf8(bytes.to_vec()).ok())
            .collect::<Option<Vec<_>>>()?;
        let env = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Some(Self { user, workdir: Some(workdir).filter(|workdir| !workdir.is_empty()), env })
    }
}
