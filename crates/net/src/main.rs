//! The network process: `mayfly-net WAY AUDIT_FOLDER`, with its listening control socket as descriptor 0.
//!
//! Started in a session of its own, so that no signal of the server's terminal reaches it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mayfly_net::serve()
}
