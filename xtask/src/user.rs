//! The ordinary user of the tests: made by `setup`, and what root's test programs become.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::step::{command, run_quiet};

/// Its name; the tests know it too.
const NAME: &str = "mayfly-test";
/// Subordinate ids that the unprivileged profile needs.
const IDS: u32 = 65_536;

/// Whether it is there with its ids.
pub(crate) fn is_there() -> bool {
    ids().is_some() && ["/etc/subuid", "/etc/subgid"].iter().all(|file| has_range(file))
}

/// Makes it: without a home, a password or a shell, with subordinate ids.
pub(crate) fn make() -> Result<()> {
    for file in ["/etc/subuid", "/etc/subgid"] {
        // useradd gives ids only where these are.
        if !Path::new(file).exists() {
            fs::write(file, "").with_context(|| format!("make {file}"))?;
        }
    }
    if ids().is_none() {
        let shell = "/usr/sbin/nologin";
        let comment = "tests of mayfly";
        let arguments = ["--no-create-home", "--shell", shell, "--comment", comment, NAME];
        run_quiet(&mut command("useradd", &arguments))?;
    }
    if !is_there() {
        bail!(
            "user {NAME} has no {IDS} subordinate ids\n  hint: as root: usermod --add-subuids FIRST-LAST \
             --add-subgids FIRST-LAST {NAME}, with a range that nobody has"
        );
    }
    Ok(())
}

/// The verb `as-user`: becomes the user and runs a program in place of this one; returns only on failure.
/// The program is run by descriptor, since its folder may be closed to him.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    let [program, rest @ ..] = arguments else { bail!("as-user PROGRAM [ARGUMENT...]") };
    let (uid, gid) = ids().with_context(|| format!("no user {NAME}: run `cargo xtask setup`"))?;
    let file = File::open(program).with_context(|| format!("open {program}"))?;
    let mut become_it = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    become_it.arg0(program).args(rest).uid(uid).gid(gid).env("HOME", "/tmp");
    Err(become_it.exec()).with_context(|| format!("run {program} as {NAME}"))
}

fn ids() -> Option<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts.lines().find(|line| line.split(':').next() == Some(NAME))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn has_range(file: &str) -> bool {
    fs::read_to_string(file).unwrap_or_default().lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        matches!(fields[..], [NAME, _, count] if count.parse::<u32>().is_ok_and(|count| count >= IDS))
    })
}
