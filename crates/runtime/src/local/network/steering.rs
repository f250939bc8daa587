//! Which way of steering is in force: the first that this host offers, or the one that the operator named.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use mayfly_net::way::Way;

/// Longest reason that is read.
const MAX_REASON: u64 = 512;

/// The way that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Steering {
    pub(super) way: Way,
    /// Why it is not a better one; nothing where it is the best, or was named.
    pub(super) instead: Option<String>,
}

impl Steering {
    /// Tries the ways by running the network program; the reasons of all when there is none.
    pub(super) fn find(
        wanted: Option<Way>,
        is_root: bool,
        program: &OwnedFd,
    ) -> Result<Self, String> {
        choose(&candidates(wanted, is_root), |way| probe(program, way))
    }

    /// As `doctor` and the server's log tell it.
    pub(super) fn told(&self) -> String {
        let way = match self.way {
            Way::SkLookup => "steered by BPF sk_lookup",
            Way::Tproxy => "steered by nftables tproxy",
        };
        match &self.instead {
            None => way.to_owned(),
            Some(reason) => format!("{way}, since the kernel refuses {reason}"),
        }
    }
}

/// Programs are for root only, so an ordinary user's server does not try them.
fn candidates(wanted: Option<Way>, is_root: bool) -> Vec<Way> {
    match wanted {
        Some(way) => vec![way],
        None if is_root => vec![Way::SkLookup, Way::Tproxy],
        None => vec![Way::Tproxy],
    }
}

fn choose(
    ways: &[Way],
    mut probe: impl FnMut(Way) -> Result<(), String>,
) -> Result<Steering, String> {
    let mut refused: Vec<String> = Vec::new();
    for way in ways {
        match probe(*way) {
            Ok(()) => {
                let instead = (!refused.is_empty()).then(|| refused.join("; "));
                return Ok(Steering { way: *way, instead });
            }
            Err(reason) => refused.push(format!("{way}: {reason}")),
        }
    }
    Err(refused.join("; "))
}

fn probe(program: &OwnedFd, way: Way) -> Result<(), String> {
    let ran = || -> io::Result<(bool, String)> {
        let mut child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .args(["probe", &way.to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut reason = String::new();
        if let Some(said) = child.stdout.take() {
            File::from(OwnedFd::from(said)).take(MAX_REASON).read_to_string(&mut reason)?;
        }
        Ok((child.wait()?.success(), reason))
    };
    match ran() {
        Ok((true, _)) => Ok(()),
        Ok((false, reason)) if reason.is_empty() => Err("the network program ended".to_owned()),
        Ok((false, reason)) => Err(reason),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_that_is_there_is_taken_and_the_reason_told() {
        let all = candidates(None, true);
        let best = choose(&all, |_| Ok(())).unwrap();
        assert_eq!(best, Steering { way: Way::SkLookup, instead: None });
        let no_bpf = |way| if way == Way::SkLookup { Err("no BPF".to_owned()) } else { Ok(()) };
        let second = choose(&all, no_bpf).unwrap();
        assert_eq!(second.way, Way::Tproxy);
        assert!(second.told().ends_with("since the kernel refuses sk_lookup: no BPF"));
        let none = choose(&all, |way| Err(format!("no {way}"))).unwrap_err();
        assert_eq!(none, "sk_lookup: no sk_lookup; tproxy: no tproxy");
    }

    #[test]
    fn a_named_way_is_the_only_one() {
        assert_eq!(candidates(Some(Way::SkLookup), true), [Way::SkLookup]);
        assert_eq!(candidates(Some(Way::Tproxy), true), [Way::Tproxy]);
        assert_eq!(candidates(None, false), [Way::Tproxy]);
    }
}
