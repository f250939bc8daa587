//! What may be given to git as an argument. What is refused here can reach no option and no other program.

use mayfly_core::{Code, Error, Result};

/// Longest path, URL, name or revision, bytes.
const MAX_NAME: usize = 4096;
/// Most paths of one call.
const MAX_FILES: usize = 10_000;
/// Longest one-line text, such as a password or a person's name, bytes.
const MAX_LINE: usize = 16_384;

fn wrong(field: &str, value: &str, expected: &str) -> Error {
    let value: String =
        value.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
    Error::invalid(format!("{field}: `{value}` is not allowed: expected {expected}"))
}

/// A path inside the sandbox.
pub(super) fn path(field: &str, value: &str) -> Result<()> {
    if value.is_empty() || value.contains('\0') || value.len() > MAX_NAME {
        let expected = format!("{field}: expected a path of 1 to {MAX_NAME} bytes without NUL");
        return Err(Error::invalid(expected).with_code(Code::InvalidFilePath));
    }
    Ok(())
}

/// Paths below a repository; none is refused.
pub(super) fn files(values: &[String]) -> Result<()> {
    if values.is_empty() || values.len() > MAX_FILES {
        return Err(Error::invalid(format!("files: expected 1 to {MAX_FILES} paths")));
    }
    values.iter().try_for_each(|value| path("files", value))
}

/// One line of text; may be empty.
pub(super) fn line(field: &str, value: &str) -> Result<()> {
    if value.contains(['\0', '\n', '\r']) || value.len() > MAX_LINE {
        // The value may be a secret, so it is not repeated.
        return Err(Error::invalid(format!(
            "{field}: expected one line of at most {MAX_LINE} bytes"
        )));
    }
    Ok(())
}

/// A person's name or address.
pub(super) fn person(field: &str, value: &str) -> Result<()> {
    line(field, value)?;
    if value.trim().is_empty() {
        return Err(Error::invalid(format!("{field}: must not be empty")));
    }
    Ok(())
}

/// Text that stands where git also takes options.
fn plain(field: &str, value: &str) -> Result<()> {
    let is_long = value.is_empty() || value.len() > MAX_NAME;
    if is_long || value.starts_with('-') || value.chars().any(char::is_control) {
        return Err(wrong(field, value, "no leading `-` and no control characters"));
    }
    Ok(())
}

/// The name of a branch, by the rules of `git check-ref-format --branch`.
pub(super) fn branch(field: &str, value: &str) -> Result<()> {
    plain(field, value)?;
    // git compares the ending letter by letter.
    let is_lock = |part: &str| part.as_bytes().ends_with(b".lock");
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !is_lock(part);
    let is_good = value.split('/').all(part)
        && !value.contains("..")
        && !value.contains("@{")
        && !value.contains([' ', '~', '^', ':', '?', '*', '[', '\\'])
        && !value.ends_with('.')
        && value != "@"
        && value != "HEAD";
    if is_good { Ok(()) } else { Err(wrong(field, value, "the name of a branch")) }
}

/// The name of a remote, which is part of the names of its branches.
pub(super) fn remote(field: &str, value: &str) -> Result<()> {
    branch(field, value).map_err(|_| wrong(field, value, "the name of a remote, such as origin"))
}

/// Anything that names a commit: a branch, a tag, a hash, `HEAD~1`.
pub(super) fn revision(field: &str, value: &str) -> Result<()> {
    plain(field, value)?;
    if value.contains([' ', '\\', '*', '?', '[']) || value.starts_with(':') || value.contains("..")
    {
        return Err(wrong(field, value, "a branch, a tag or a commit"));
    }
    Ok(())
}

/// A commit's hash, whole or its beginning.
pub(super) fn commit(field: &str, value: &str) -> Result<()> {
    let is_hash = (4..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hash { Ok(()) } else { Err(wrong(field, value, "the hash of a commit")) }
}

/// Where a repository is: http, https, ssh, git, file, `user@host:path` or a path. Not `helper::address`, which
/// names a program to run.
pub(super) fn url(field: &str, value: &str) -> Result<()> {
    plain(field, value)?;
    let scheme = value.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let is_known = if let Some(scheme) = scheme {
        ["http", "https", "ssh", "git", "file", "git+ssh", "ssh+git"].contains(&scheme.as_str())
            && !value.contains("://-")
            && !value.contains("@-")
    } else {
        let head = value.split('/').next().unwrap_or(value);
        !head.contains("::") && !head.contains("@-")
    };
    // A URL may carry a password, so it is not repeated.
    if is_known {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{field}: expected a URL of http, https, ssh, git or file, user@host:path, or a path"
    )))
}

/// A setting's key: `section.name` or `section.anything.name`.
pub(super) fn key(field: &str, value: &str) -> Result<()> {
    plain(field, value)?;
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let ends = value.split_once('.').zip(value.rsplit_once('.'));
    let is_key = ends.is_some_and(|((section, _), (_, name))| {
        word(section) && word(name) && name.starts_with(|first: char| first.is_ascii_alphabetic())
    });
    if is_key { Ok(()) } else { Err(wrong(field, value, "a key such as user.name")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an attacker would like to see run.
    const ATTACKS: &[&str] = &[
        "--upload-pack=touch /tmp/x",
        "-u",
        "-",
        "",
        "a\nb",
        "a\0b",
        "ext::sh -c id",
        "fd::17",
        "ssh://-oProxyCommand=id/x",
        "ssh://u@-oProxyCommand=id/x",
        "u@-oProxyCommand=id:x",
        "evil://x",
        "a\x1b[2J",
    ];

    #[test]
    fn no_argument_can_become_an_option_or_a_program() {
        for attack in ATTACKS {
            assert!(url("url", attack).is_err(), "{attack:?}");
            assert!(branch("name", attack).is_err(), "{attack:?}");
            assert!(remote("name", attack).is_err(), "{attack:?}");
            assert!(commit("commit_id", attack).is_err(), "{attack:?}");
            assert!(key("key", attack).is_err(), "{attack:?}");
        }
        for attack in ["--hard", "-x", "", "a\nb", "a..b", ":/x", "a b"] {
            assert!(revision("target", attack).is_err(), "{attack:?}");
        }
    }

    #[test]
    fn branches_follow_gits_rules() {
        for good in ["main", "feature/a-b", "ü", "a$(id)", "a;b", "v1.0", "@a", "a@b"] {
            assert!(branch("name", good).is_ok(), "{good}");
        }
        for bad in [
            "a b", "a..b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "@",
            "a@{b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "HEAD",
        ] {
            assert!(branch("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_of_every_good_form_pass() {
        for good in [
            "https://u:p@h:1/r.git",
            "http://h",
            "ssh://git@h:22/r",
            "git@h:o/r.git",
            "h:r",
            "file:///a b",
            "/srv/r",
            "../r",
            "./a::b",
        ] {
            assert!(url("url", good).is_ok(), "{good}");
        }
    }

    #[test]
    fn keys_and_revisions() {
        for good in ["user.name", "remote.a b.url", "url.https://x/.insteadOf", "a-b.c"] {
            assert!(key("key", good).is_ok(), "{good}");
        }
        for bad in ["user", ".name", "user.", "us er.name", "user.1a", "user.na_me"] {
            assert!(key("key", bad).is_err(), "{bad}");
        }
        for good in ["HEAD~1", "HEAD^2", "v1", "origin/main", "abc123", "HEAD@{1}", "a^{commit}"] {
            assert!(revision("target", good).is_ok(), "{good}");
        }
        assert!(commit("c", "abcdef0").is_ok() && commit("c", "abc").is_err());
    }
}
