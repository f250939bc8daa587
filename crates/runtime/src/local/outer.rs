//! The outer user namespace of the unprivileged profile: what an ordinary user has, and how it is mapped.
//!
//! An ordinary user may map his own id; a range of further ids is given to him in `/etc/subuid` and
//! `/etc/subgid`, and mapped by two set-id programs of the system. Whatever is missing is a refusal that
//! names it and the remedy; nothing is tried with less.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mayfly_core::{Error, Kind, Result};

use super::ids::IDS;

/// Ids of a user and the ranges that belong to him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outer {
    uid: u32,
    gid: u32,
    /// First subordinate user id.
    pub(super) first_uid: u32,
    /// First subordinate group id.
    pub(super) first_gid: u32,
    /// Programs that map users and groups.
    programs: [PathBuf; 2],
}

impl Outer {
    /// What the caller has. [`Kind::Unavailable`] names what is missing and the remedy.
    pub(super) fn of_caller() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = name_of(&accounts, uid).unwrap_or_else(|| uid.to_string());
        let range = |file: &str, what: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            first_of(&text, &user, uid).ok_or_else(|| no_range(file, what, &user))
        };
        Ok(Self {
            uid,
            gid,
            first_uid: range("/etc/subuid", "user")?,
            first_gid: range("/etc/subgid", "group")?,
            programs: [program("newuidmap")?, program("newgidmap")?],
        })
    }

    /// Maps the ids of a process that has just left for a user namespace of its own: 0 is the caller, the
    /// rest are his subordinate ids.
    pub(super) fn map(&self, pid: u32) -> Result<()> {
        let [users, groups] = &self.programs;
        run(users, pid, self.uid, self.first_uid)?;
        run(groups, pid, self.gid, self.first_gid)
    }
}

fn run(program: &Path, pid: u32, own: u32, first: u32) -> Result<()> {
    let arguments = [pid, 0, own, 1, 1, first, IDS].map(|number| number.to_string());
    let ran = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| failed(program, &error.to_string()))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(failed(program, said.lines().next().unwrap_or("no reason given")))
}

fn failed(program: &Path, why: &str) -> Error {
    let why: String = why.chars().take(200).collect();
    Error::new(
        Kind::Unavailable,
        format!("the layer `user namespace` is missing: {} failed: {why}", program.display()),
    )
    .with_hint(
        "check that newuidmap and newgidmap are set-user-id root or have their file capabilities, and that \
         the ranges in /etc/subuid and /etc/subgid are the server's user's",
    )
}

fn program(name: &str) -> Result<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .ok_or_else(|| {
            Error::new(
                Kind::Unavailable,
                format!(
                    "the layer `user namespace` is missing: the program {name} is not installed"
                ),
            )
            .with_hint("install the package uidmap, or run the server as root")
        })
}

fn no_range(file: &str, what: &str, user: &str) -> Error {
    Error::new(
        Kind::Unavailable,
        format!(
            "the layer `user namespace` is missing: {file} gives user `{user}` no {IDS} subordinate {what} ids"
        ),
    )
    .with_hint(format!(
        "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user} (a range that \
         nobody else has), or run the server as root"
    ))
}

/// Name of a user id in the host's accounts.
fn name_of(accounts: &str, uid: u32) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// First id of the first range that is long enough; lines name the user or his number.
fn first_of(text: &str, user: &str, uid: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (who, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let first: u32 = first.trim().parse().ok()?;
        let count: u32 = count.trim().parse().ok()?;
        let his = who == user || who.parse() == Ok(uid);
        (his && count >= IDS && first > 0 && first.checked_add(IDS).is_some()).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_number() {
        let text = "other:100000:65536\nada:5:100\n1000:300000:65536\nada:400000:70000\nbroken\n";
        assert_eq!(first_of(text, "other", 7), Some(100_000));
        assert_eq!(first_of(text, "ada", 1000), Some(300_000));
        assert_eq!(first_of(text, "ada", 1001), Some(400_000), "short ranges do not do");
        assert_eq!(first_of(text, "nobody", 65_534), None);
        assert_eq!(first_of("ada:4294967290:65536\nada:0:65536", "ada", 1), None);
    }

    #[test]
    fn a_user_is_named_by_his_number() {
        let accounts = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_of(accounts, 1000).as_deref(), Some("ada"));
        assert_eq!(name_of(accounts, 5), None);
    }

    #[test]
    fn a_refusal_names_file_user_and_remedy() {
        let error = no_range("/etc/subuid", "user", "ada");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.message().contains("/etc/subuid") && error.message().contains("`ada`"));
        assert!(error.hint().is_some_and(|hint| hint.contains("usermod")));
    }
}
