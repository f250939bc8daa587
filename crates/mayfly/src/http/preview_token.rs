//! Tokens of previews: one per sandbox and port, derived from the master key, so that nothing is stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use mayfly_core::id::SandboxId;

use super::signed::{HmacSha256, mac};

/// Ports whose tokens open the toolbox of their sandbox.
pub(crate) const TOOLBOX_PORTS: [u16; 2] = [1, 2280];

/// The token that opens this port of this sandbox, and no other.
pub(crate) fn token(master: &[u8; 32], sandbox: SandboxId, port: u16) -> String {
    URL_SAFE_NO_PAD.encode(code(master, sandbox, port).finalize().into_bytes())
}

/// Whether a token opens this port of this sandbox. Compares in constant time.
pub(crate) fn opens(master: &[u8; 32], sandbox: SandboxId, port: u16, given: &str) -> bool {
    URL_SAFE_NO_PAD
        .decode(given)
        .is_ok_and(|given| code(master, sandbox, port).verify_slice(&given).is_ok())
}

fn code(master: &[u8; 32], sandbox: SandboxId, port: u16) -> HmacSha256 {
    mac(master, &format!("preview:{sandbox}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_sandbox_and_port_only() {
        let id = |n| SandboxId::from_uuid(uuid::Uuid::from_u128(n));
        let (master, other) = ([7; 32], [8; 32]);
        let good = token(&master, id(1), 3000);
        assert!(opens(&master, id(1), 3000, &good));
        assert!(!opens(&other, id(1), 3000, &good));
        assert!(!opens(&master, id(2), 3000, &good));
        assert!(!opens(&master, id(1), 3001, &good));
        assert!(!opens(&master, id(1), 300, &good));
        for bad in ["", "x", &good[1..], &good[..good.len() - 1], &format!("{good}A")] {
            assert!(!opens(&master, id(1), 3000, bad), "{bad}");
        }
    }
}
