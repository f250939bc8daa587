//! Fuzz bodies of the runtime: what must hold of any bytes from callers, sandboxes and disks.
//!
//! In no shipped build: compiled for tests and, with the feature `fuzzing`, for the fuzzer, so that private
//! parsers can stay private. Each body stands beside what it is about.

use crate::local::{fuzz, seccomp};

/// A body: its name and the function.
pub type Body = (&'static str, fn(&[u8]));

/// Every body.
pub fn bodies() -> Vec<Body> {
    [fuzz::BODIES, mayfly_files::fuzz::BODIES, seccomp::fuzz::BODIES].concat()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_body_holds() {
        mayfly_testkit::fuzz::run(env!("CARGO_PKG_NAME"), &super::bodies());
    }
}
