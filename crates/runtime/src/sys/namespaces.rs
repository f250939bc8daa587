//! Questions about namespaces that the safe libraries do not ask.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

/// `NS_GET_OWNER_UID` of the kernel.
const OWNER: Opcode = opcode::none(0xb7, 4);

/// Id, as this process counts, of the owner of a user namespace.
pub(crate) fn owner(namespace: impl AsFd) -> io::Result<u32> {
    // SAFETY: the call answers with one uid, 32 bits wide.
    let question = unsafe { Getter::<OWNER, u32>::new() };
    // SAFETY: the kernel writes the answer to the place that the question holds.
    Ok(unsafe { ioctl(namespace, question) }?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_user_namespace_belongs_to_root() {
        // Only the namespace of another process tells its owner to an ordinary user.
        let own = std::fs::File::open("/proc/self/ns/user").unwrap();
        let owner = super::owner(&own);
        assert!(matches!(owner, Ok(0)) || owner.is_err(), "{owner:?}");
        let other = std::fs::File::open("/proc/self/ns/net").unwrap();
        assert!(super::owner(&other).is_err(), "a network namespace has no owner of this kind");
    }
}
