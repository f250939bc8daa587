//! The two ways in which what a sandbox sends can be steered to the network process.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::namespace;
use crate::steering::Steering;
use crate::sys;

/// How connections and datagrams of a sandbox come to the network process. Both leave 127/8 and `::1` to the
/// sandbox, and everything else that is judged and relayed is the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A BPF program chooses the socket. Needs Linux 5.9 and the right to load programs, so root.
    SkLookup,
    /// Packet rules in the namespace choose the socket. Needs `nf_tables` with `tproxy`, and no right outside
    /// of the namespace, so it is there for ordinary users too.
    Tproxy,
}

impl Way {
    /// Whether this host offers it to the caller. Moves the calling process into namespaces of its own, so it is
    /// for a program that ends afterwards.
    ///
    /// # Errors
    /// The step that the kernel refused, and its reason.
    pub fn probe(self) -> io::Result<()> {
        if self == Self::SkLookup {
            return Steering::load().map(drop);
        }
        sys::unshare_for_probe(!sys::is_root())?;
        namespace::probe_rules().map_err(|error| io::Error::other(error.to_string()))
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SkLookup => "sk_lookup",
            Self::Tproxy => "tproxy",
        })
    }
}

impl FromStr for Way {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::SkLookup, Self::Tproxy].into_iter().find(|way| way.to_string() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_come_back_from_their_names() {
        for way in [Way::SkLookup, Way::Tproxy] {
            assert_eq!(way.to_string().parse(), Ok(way));
        }
        assert_eq!("nft".parse::<Way>(), Err(()));
    }
}
