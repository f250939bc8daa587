//! Calls that the safe libraries do not offer: the only unsafe code of this crate, one subsystem per file.

#![expect(
    unsafe_code,
    reason = "the one room of this crate for calls that safe libraries do not offer"
)]

pub(crate) mod btrfs;
pub(crate) mod creds;
pub(crate) mod loopdev;
pub(crate) mod namespaces;
pub(crate) mod watch;
