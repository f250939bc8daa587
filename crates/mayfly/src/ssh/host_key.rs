//! The gateway's host key: derived from the master key, so that it is the same for the life of the data directory and
//! lies in no file of its own.

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use sha2::Sha256;

/// The key.
pub(super) fn private(master: &[u8; 32]) -> PrivateKey {
    let mut mac = Hmac::<Sha256>::new_from_slice(master).expect("HMAC takes keys of any length");
    mac.update(b"ssh-host-key");
    let seed: [u8; 32] = mac.finalize().into_bytes().into();
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// Its public half, as it stands in a file of known hosts.
pub(crate) fn public(master: &[u8; 32]) -> String {
    private(master).public_key().to_openssh().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_key_is_the_same_for_a_master_key_and_another_for_another() {
        let key = super::public(&[1; 32]);
        assert!(key.starts_with("ssh-ed25519 AAAA"), "{key}");
        assert_eq!(key, super::public(&[1; 32]));
        assert_ne!(key, super::public(&[2; 32]));
    }
}
