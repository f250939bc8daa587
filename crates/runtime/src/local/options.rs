//! What an operator decides about the local runtime.

use std::path::PathBuf;

use mayfly_core::limits::Ceilings;
use mayfly_core::ports::runtime::Profile;
use mayfly_core::{Error, Kind, Result};

use super::network::NetworkOptions;

/// Which isolation is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Full for root, unprivileged otherwise.
    #[default]
    Auto,
    /// Every layer; refused without root.
    Full,
    /// What an ordinary user can have.
    Unprivileged,
}

impl Wanted {
    /// The profile that this is for root or an ordinary user; [`Kind::Unavailable`] says who has to start the
    /// server. There is no way down from what was asked for.
    pub fn profile(self, root: bool) -> Result<Profile> {
        match (self, root) {
            (Self::Auto | Self::Full, true) => Ok(Profile::Full),
            (Self::Auto | Self::Unprivileged, false) => Ok(Profile::Unprivileged),
            (Self::Full, false) => {
                Err(Error::new(Kind::Unavailable, "isolation profile `full` needs root").with_hint(
                    "run the server as root, or set isolation.profile = \"unprivileged\"",
                ))
            }
            (Self::Unprivileged, true) => Err(Error::new(
                Kind::Unavailable,
                "isolation profile `unprivileged` is for ordinary users, and the server is root",
            )
            .with_hint(
                "start the server as an ordinary user, or set isolation.profile = \"full\"",
            )),
        }
    }
}

/// No network process: sandboxes have loopback only, whatever they ask for.
pub const WEAK_POLICY: u32 = 1 << 31;

/// Options of [`super::LocalRuntime`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of this server's state; made with mode 0700.
    pub data_dir: PathBuf,
    /// Which isolation.
    pub profile: Wanted,
    /// Size of a new storage pool in bytes; `None` = half of what is free, at most 100 GiB.
    pub pool_bytes: Option<u64>,
    /// Bytes kept free on the host's disk.
    pub reserve_bytes: u64,
    /// Sets of namespaces kept ready. Default 64.
    pub namespaces: usize,
    /// Choices about their network.
    pub network: NetworkOptions,
    /// Limits that callers cannot choose.
    pub ceilings: Ceilings,
    /// Whether set-id programs may raise rights inside the user namespace. Default no.
    pub allow_setuid: bool,
    /// Layers left out, as `mayfly_init::protocol::WEAK_*` or [`WEAK_POLICY`]; for tests that must see an attack succeed on a
    /// weakened sandbox. The server never sets it.
    pub weakened: u32,
}

impl Options {
    /// Defaults for a data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            profile: Wanted::Auto,
            pool_bytes: None,
            reserve_bytes: 1 << 30,
            namespaces: 64,
            network: NetworkOptions::default(),
            ceilings: Ceilings::default(),
            allow_setuid: false,
            weakened: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_less_than_was_asked_for() {
        assert_eq!(Wanted::Auto.profile(true).unwrap(), Profile::Full);
        assert_eq!(Wanted::Full.profile(true).unwrap(), Profile::Full);
        assert_eq!(Wanted::Auto.profile(false).unwrap(), Profile::Unprivileged);
        assert_eq!(Wanted::Unprivileged.profile(false).unwrap(), Profile::Unprivileged);
        for (wanted, root) in [(Wanted::Full, false), (Wanted::Unprivileged, true)] {
            let refused = wanted.profile(root).unwrap_err();
            assert_eq!(refused.kind(), Kind::Unavailable, "{wanted:?}");
            assert!(refused.hint().is_some_and(|hint| hint.contains("isolation.profile")));
        }
    }
}
