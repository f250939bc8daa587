//! The program's entry; everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mayfly::main()
}
