//! What an operator decides about the local runtime.

use std::path::PathBuf;

use mayfly_core::limits::Ceilings;

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
    /// Limits that callers cannot choose.
    pub ceilings: Ceilings,
    /// Whether set-id programs may raise rights inside the user namespace. Default no.
    pub allow_setuid: bool,
    /// Layers left out, as `mayfly_init::protocol::WEAK_*`; for tests that must see an attack succeed on a
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
            ceilings: Ceilings::default(),
            allow_setuid: false,
            weakened: 0,
        }
    }
}
