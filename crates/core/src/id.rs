//! Typed identifiers; on the wire all of these are UUIDs in version 7 (platform contract, section 2).

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that was made by an entropy source or read back from a store.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID behind this id.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($noun, ":{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = crate::Error;

            /// Accepts only the hyphenated form, in either case.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if text.len() != 36 {
                    return Err(crate::Error::invalid(format!(
                        concat!("`{}` is not a ", $noun, " id: expected a UUID such as 0192f0c1-2b3c-7def-8123-456789abcdef"),
                        text.chars().take(64).collect::<String>()
                    )));
                }
                Uuid::parse_str(text).map(Self).map_err(|_| {
                    crate::Error::invalid(format!(concat!("`{}` is not a ", $noun, " id: expected a UUID"), text))
                })
            }
        }
    };
}

typed_id!(
    /// One isolated computer.
    SandboxId, "sandbox"
);
typed_id!(
    /// One named immutable environment.
    SnapshotId, "snapshot"
);
typed_id!(
    /// The owner of keys, sandboxes and snapshots.
    OrganizationId, "organization"
);
typed_id!(
    /// The files of a sandbox as they were at one moment.
    CaptureId, "capture"
);
typed_id!(
    /// Files that several sandboxes share.
    VolumeId, "volume"
);
typed_id!(
    /// One token that lets in by SSH.
    SshAccessId, "SSH access"
);
typed_id!(
    /// One mayfly server; every row carries the server that runs it.
    ServerId, "server"
);
