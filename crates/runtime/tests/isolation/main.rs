//! Isolation scenarios of the local runtime, one file per case of the isolation contract.
//!
//! Each case tries an attack inside a default sandbox, checks from outside that nothing happened, and
//! shows the same attempt succeeding (or reaching the kernel) in a sandbox without the layer in question.

mod harness;

mod e01_capabilities;
