//! What the runtime itself must know of a sandbox, kept as an attribute of its folder.
//!
//! Everything else about a sandbox is the engine's; this little is needed to run commands and file calls
//! for a sandbox that an earlier server made.

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

/// User, work dir and source of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) user: String,
    pub(super) workdir: Option<String>,
}

impl From<&SandboxSpec> for Spec {
    fn from(spec: &SandboxSpec) -> Self {
        Self { user: spec.user.clone(), workdir: spec.workdir.clone() }
    }
}

impl Spec {
    /// Writes it to the sandbox's folder.
    pub(super) fn save(&self, folder: impl AsFd) -> Result<()> {
        let workdir = self.workdir.as_deref().unwrap_or_default();
        let bytes =
            Writer::new(FORMAT).bytes(self.user.as_bytes()).bytes(workdir.as_bytes()).finish();
        rustix::fs::fsetxattr(folder, ATTRIBUTE, &bytes, XattrFlags::empty()).map_err(|error| {
            Error::internal(
                "the sandbox's description could not be written",
                io::Error::from(error),
            )
        })
    }

    /// Reads it back.
    pub(super) fn load(folder: impl AsFd) -> Result<Self> {
        let mut buffer = vec![0_u8; 16 << 10];
        let length =
            rustix::fs::fgetxattr(folder, ATTRIBUTE, &mut buffer[..]).map_err(|error| {
                Error::internal(
                    "the sandbox's description could not be read",
                    io::Error::from(error),
                )
            })?;
        Self::decode(&buffer[..length]).ok_or_else(|| {
            Error::new(
                Kind::Conflict,
                format!("the sandbox was made in another format: expected format {FORMAT}"),
            )
            .with_hint("delete the sandbox, or use the version of mayfly that made it")
        })
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return None;
        }
        let mut text = || String::from_utf8(reader.bytes()?.to_vec()).ok();
        let (user, workdir) = (text()?, text()?);
        Some(Self { user, workdir: Some(workdir).filter(|workdir| !workdir.is_empty()) })
    }
}
