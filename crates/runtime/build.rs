//! Builds the init program as a static binary and leaves it where `local/forkserver.rs` embeds it.
//!
//! Cargo cannot build one package of a workspace for another link model, so rustc is called directly.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let manifest =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets the manifest folder"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets the output folder"));
    let source = manifest.join("../init/src/main.rs");
    println!("cargo::rerun-if-changed={}", manifest.join("../init/src").display());
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args([
            "--edition=2024",
            "--crate-name=mayfly_init",
            "--crate-type=bin",
            "-Copt-level=s",
            "-Cpanic=abort",
        ])
        .args([
            "-Crelocation-model=static",
            "-Ctarget-feature=+crt-static",
            "-Clto=fat",
            "-Ccodegen-units=1",
        ])
        .args(["-Cstrip=symbols", "--cap-lints=allow", "--target"])
        .arg(env::var_os("TARGET").expect("cargo sets the target"))
        .arg("-o")
        .arg(out.join("mayfly-init"))
        .arg(source)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the init program could not be built; a static build needs the package libc6-dev"
    );
}
