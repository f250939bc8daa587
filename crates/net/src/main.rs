//! The network process: `mayfly-net AUDIT_FOLDER`, with its listening control socket as descriptor 0.

use std::process::ExitCode;

fn main() -> ExitCode {
    mayfly_net::serve()
}
