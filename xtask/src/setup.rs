//! Installs what the other verbs need. Each part is checked first, so that a second run costs next to nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::step::{self, command, run_quiet, seconds};
use crate::{repo, user};

/// Debian packages and a file that is there when the package is. They go below /usr, where sandboxes made
/// from the `host` snapshot see them.
const PACKAGES: &[(&str, &str)] = &[
    ("btrfs-progs", "/usr/bin/btrfs"),
    ("bubblewrap", "/usr/bin/bwrap"),
    ("chromium-headless-shell", "/usr/bin/chromium-headless-shell"),
    ("crun", "/usr/bin/crun"),
    ("curl", "/usr/bin/curl"),
    ("git", "/usr/lib/git-core/git-http-backend"),
    ("iproute2", "/usr/bin/ip"),
    ("libc6-dev", "/usr/lib/{arch}-linux-gnu/libc.a"),
    ("nodejs", "/usr/bin/node"),
    ("npm", "/usr/bin/npm"),
    ("openssh-client", "/usr/bin/sftp"),
    ("openssh-server", "/usr/sbin/sshd"),
    ("openssl", "/usr/bin/openssl"),
    ("procps", "/usr/bin/ps"),
    ("python3", "/usr/bin/python3"),
    ("python3-matplotlib", "/usr/lib/python3/dist-packages/matplotlib"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
    ("uidmap", "/usr/bin/newuidmap"),
];

/// Cargo's own helpers: subcommand and crate.
const CARGO_TOOLS: &[(&str, &str)] = &[("nextest", "cargo-nextest"), ("deny", "cargo-deny")];

/// Spelling check, from the Python index.
const TYPOS: &str = "typos==1.52.0";

/// Runs TypeScript where node cannot; sandboxes see it below /usr/local.
const TSX: &str = "tsx@4";

/// Language servers for Python and TypeScript, and a program that proves that they are there.
const LANGUAGE_SERVERS: &[(&str, &str)] = &[
    ("pyright@1.1.400", "pyright-langserver"),
    ("typescript-language-server@4", "typescript-language-server"),
    ("typescript@5", "tsserver"),
];

/// The clients that nobody here wrote: folder below `target/sdk`, and the package.
const PYTHON_SDKS: &[(&str, &str)] = &[
    ("python-new", "daytona==0.226.1"),
    ("python-old", "daytona==0.190.0"),
    ("python-split", "daytona==0.167.0"),
    ("python-marked", "daytona==0.166.0"),
    ("python-oldest", "daytona==0.150.0"),
];
/// Tries the API by its description.
const PROPERTY_TESTER: (&str, &str) = ("schemathesis", "schemathesis==4.32.5");
const NODE_SDKS: &[(&str, &str)] =
    &[("node", "@daytonaio/sdk@0.218.0"), ("node-other", "@daytona/sdk@0.216.0")];

/// Installs what running the server needs, besides a compiler: seconds on a fresh machine.
pub(crate) fn for_running() -> Result<()> {
    packages()
}

/// Installs whatever is missing for tests, too, and says which part runs: minutes on a fresh machine.
pub(crate) fn for_testing() -> Result<()> {
    packages()?;
    // Also what only other systems build with: the check of licences reads all, and nothing after this loads more.
    step::run(&mut command("cargo", &["fetch", "--locked", "--quiet"]))?;
    for (verb, tool) in CARGO_TOOLS {
        part(
            tool,
            command("cargo", &[verb, "--version"]).output().is_ok_and(|out| out.status.success()),
            || cargo_tool(tool),
        )?;
    }
    part("an ordinary user with subordinate ids", !is_root() || user::is_there(), user::make)?;
    python(&tools().join("typos"), TYPOS)?;
    below_usr(TSX, "tsx")?;
    for (package, program) in LANGUAGE_SERVERS {
        below_usr(package, program)?;
    }
    for (folder, package) in PYTHON_SDKS.iter().chain([&PROPERTY_TESTER]) {
        python(&sdks().join(folder), package)?;
    }
    for (folder, package) in NODE_SDKS {
        let folder = sdks().join(folder);
        stamped(&folder, package, || {
            npm(&["install", "--prefix", &folder.to_string_lossy(), package])
        })?;
    }
    Ok(())
}

/// Installs the fuzzer; a nightly compiler must be there.
pub(crate) fn for_fuzzing() -> Result<PathBuf> {
    let nightly = command("rustc", &["+nightly", "--version"]).output();
    if !nightly.is_ok_and(|output| output.status.success()) {
        bail!(
            "the fuzzer needs a nightly compiler
  hint: rustup toolchain install nightly"
        );
    }
    let folder = tools().join("cargo-fuzz");
    let program = folder.join("bin/cargo-fuzz");
    part("cargo-fuzz", program.exists(), || {
        let mut install = command("cargo", &["install", "--locked", "--quiet", "--root"]);
        step::run(install.arg(&folder).arg("cargo-fuzz"))
    })?;
    Ok(program)
}

/// The verb `setup`.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    for_testing()?;
    println!("set up: everything is there, {}", seconds(start.elapsed()));
    Ok(())
}

/// The spelling checker.
pub(crate) fn typos() -> PathBuf {
    tools().join("typos/bin/typos")
}

fn tools() -> PathBuf {
    repo::target().join("tools")
}

fn sdks() -> PathBuf {
    repo::target().join("sdk")
}

/// Does one part unless it is there already, and says how long it took.
fn part(name: &str, is_there: bool, install: impl FnOnce() -> Result<()>) -> Result<()> {
    if is_there {
        return Ok(());
    }
    println!("    set up: {name} ...");
    let start = Instant::now();
    install().with_context(|| format!("set up {name}"))?;
    println!("    set up: {name}: {}", seconds(start.elapsed()));
    Ok(())
}

/// The same for a folder that carries a stamp once it is complete.
fn stamped(folder: &Path, package: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = folder.join(".installed");
    let is_there = std::fs::read_to_string(&stamp).is_ok_and(|text| text.trim() == package);
    part(package, is_there, || {
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .with_context(|| format!("clear {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        install()?;
        std::fs::write(&stamp, package).with_context(|| format!("write {}", stamp.display()))
    })
}

fn packages() -> Result<()> {
    let file = |pattern: &str| PathBuf::from(pattern.replace("{arch}", std::env::consts::ARCH));
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, proof)| !file(proof).exists())
        .map(|(package, _)| *package)
        .collect();
    part(&format!("packages {}", missing.join(" ")), missing.is_empty(), || {
        if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
            bail!(
                "these packages are missing: {list}\n  hint: as root on Debian: apt-get install {list}",
                list = missing.join(" ")
            );
        }
        apt(&["update"])?;
        let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
        arguments.extend(&missing);
        apt(&arguments)
    })
}

fn apt(arguments: &[&str]) -> Result<()> {
    run_quiet(command("apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

/// These tools run for seconds, so that compiling them quickly is worth more than making them quick.
fn cargo_tool(tool: &str) -> Result<()> {
    let mut install = command("cargo", &["install", "--locked", "--quiet", tool]);
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    step::run(&mut install)
}

/// A virtual environment of Debian's python3 with one package in it.
fn python(folder: &Path, package: &str) -> Result<()> {
    stamped(folder, package, || {
        let folder = folder.to_string_lossy();
        run_quiet(&mut command("/usr/bin/python3", &["-m", "venv", &folder]))?;
        let pip = format!("{folder}/bin/pip");
        run_quiet(&mut command(
            &pip,
            &["install", "--quiet", "--disable-pip-version-check", package],
        ))?;
        Ok(())
    })
}

fn npm(arguments: &[&str]) -> Result<()> {
    let mut install = Command::new("npm");
    install.args(arguments).args(["--no-audit", "--no-fund", "--loglevel", "error"]);
    run_quiet(install.current_dir(repo::root())).map(drop)
}

/// A package for node where sandboxes see its programs, too.
fn below_usr(package: &str, program: &str) -> Result<()> {
    let folders = ["/usr/local/bin", "/usr/bin"];
    let is_there = folders.iter().any(|folder| Path::new(folder).join(program).exists());
    part(package, is_there, || {
        needs_root(package)?;
        npm(&["install", "--global", "--prefix", "/usr/local", package])
    })
}

fn needs_root(what: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!(
        "{what} must be installed below /usr\n  hint: as root: npm install --global --prefix /usr/local {what}"
    )
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
