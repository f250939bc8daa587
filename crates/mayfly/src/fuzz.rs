//! Fuzz bodies of the whole program: what must hold of any bytes from callers and operators.
//!
//! In no shipped build: compiled for tests and, with the feature `fuzzing`, for the fuzzer, so that private
//! parsers can stay private. Each body stands beside what it is about.

use crate::{config, http};

/// A body: its name and the function.
pub type Body = (&'static str, fn(&[u8]));

/// Every body of this crate.
pub fn bodies() -> Vec<Body> {
    [http::fuzz::BODIES, config::fuzz::BODIES].concat()
}

/// Every body of every crate.
#[cfg(feature = "fuzzing")]
pub fn everything() -> Vec<Body> {
    [bodies(), mayfly_runtime::fuzz::bodies(), mayfly_store::fuzz::BODIES.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_body_holds() {
        mayfly_testkit::fuzz::run(env!("CARGO_PKG_NAME"), &super::bodies());
    }
}
