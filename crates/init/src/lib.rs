//! The language that the server speaks with the forkserver and with process 1 of each sandbox.
//!
//! The program itself is `main.rs` beside this file; the runtime builds it as a static binary and embeds
//! it. Only the messages are shared, so that both ends are made from one definition.

pub mod protocol;
