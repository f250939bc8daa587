//! Builds the programs that the runtime embeds, as static binaries: init (see `local/forkserver.rs`), the
//! network process (see `local/network/process.rs`) and the file helper (see `local/files/inside.rs`).
//!
//! Cargo cannot build one package of a workspace for another link model. Init and the network process have no
//! dependencies, so rustc is called directly; the file helper has a few, so cargo is, in a target folder of
//! its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets the manifest folder"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets the output folder"));
    build_init(&manifest, &out);
    build_net(&manifest, &out);
    build_files(&manifest, &out);
}

fn build_files(manifest: &Path, out: &Path) {
    let package = manifest.join("../files");
    println!("cargo::rerun-if-changed={}", package.join("src").display());
    println!("cargo::rerun-if-changed={}", package.join("Cargo.toml").display());
    let target = env::var("TARGET").expect("cargo sets the target");
    let folder = out.join("files");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--offline", "--locked", "--quiet", "--bin=mayfly-files"])
        .arg("--manifest-path")
        .arg(package.join("Cargo.toml"))
        .args(["--target", &target, "--target-dir"])
        .arg(&folder)
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static",
        )
        // The checks of the build around this one are not for this one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CLIPPY_ARGS")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the file helper could not be built; a static build needs the package libc6-dev"
    );
    let built = folder.join(target).join("release/mayfly-files");
    std::fs::copy(&built, out.join("mayfly-files")).expect("cargo leaves the program there");
}

fn build_init(manifest: &Path, out: &Path) {
    let source = manifest.join("../init/src/main.rs");
    println!("cargo::rerun-if-changed={}", manifest.join("../init/src").display());
    compile(
        &source,
        &["--crate-name=mayfly_init", "--crate-type=bin", "-Clto=fat"],
        &out.join("mayfly-init"),
    );
}

/// The library that the runtime uses too, and the program on top of it.
fn build_net(manifest: &Path, out: &Path) {
    let folder = manifest.join("../net/src");
    println!("cargo::rerun-if-changed={}", folder.display());
    let library = out.join("libmayfly_net.rlib");
    let flags = ["--crate-name=mayfly_net", "--crate-type=rlib", "-Cembed-bitcode=yes"];
    compile(&folder.join("lib.rs"), &flags, &library);
    let uses = format!("--extern=mayfly_net={}", library.display());
    let flags = ["--crate-name=mayfly_net_program", "--crate-type=bin", "-Clto=fat", &uses];
    compile(&folder.join("main.rs"), &flags, &out.join("mayfly-net"));
}

/// Calls rustc with the flags of all embedded programs and these.
fn compile(source: &Path, flags: &[&str], to: &Path) {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition=2024", "-Copt-level=s", "-Cpanic=abort", "-Ccodegen-units=1"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(["-Cstrip=symbols", "--cap-lints=allow", "--target"])
        .arg(env::var_os("TARGET").expect("cargo sets the target"))
        .args(flags)
        .arg("-o")
        .arg(to)
        .arg(source)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{} could not be built; a static build needs the package libc6-dev",
        source.display()
    );
}
