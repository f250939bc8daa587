//! What git's complaints mean. They are read in the C locale, and only to choose among errors: what they say
//! goes to the caller, cleaned.

use mayfly_core::{Code, Error, Kind};

use super::run::Done;

/// Most characters of git's own words in a message.
const MAX_WORDS: usize = 1_000;

/// Any of these words, in lower case, mean that.
struct Meaning {
    words: &'static [&'static str],
    kind: Kind,
    code: Option<Code>,
    hint: Option<&'static str>,
}

const fn means(words: &'static [&'static str], kind: Kind, code: Option<Code>) -> Meaning {
    Meaning { words, kind, code, hint: None }
}

const fn with_hint(mut meaning: Meaning, hint: &'static str) -> Meaning {
    meaning.hint = Some(hint);
    meaning
}

/// In this order: the first that fits counts, so what is finer stands before what is coarser.
const MEANINGS: &[Meaning] = &[
    with_hint(
        means(
            &[
                "authentication failed",
                "could not read username",
                "could not read password",
                "permission denied (",
                "terminal prompts disabled",
                "returned error: 401",
                "returned error: 403",
                "access denied",
                "too many authentication failures",
            ],
            Kind::Unauthenticated,
            Some(Code::GitAuthFailed),
        ),
        "give the right username and password, or a key that the remote knows",
    ),
    means(
        &["[remote rejected]", "hook declined", "remote unpack failed", "unpack failed"],
        Kind::Conflict,
        Some(Code::GitRemoteRejected),
    ),
    with_hint(
        means(
            &["[rejected]", "non-fast-forward", "(fetch first)", "stale info"],
            Kind::Conflict,
            Some(Code::GitPushRejected),
        ),
        "pull first, then push again",
    ),
    with_hint(
        means(
            &[
                "conflict (",
                "automatic merge failed",
                "unmerged files",
                "unmerged paths",
                "needs merge",
                "resolve your current index first",
                "you have not concluded your merge",
                "is unmerged",
                "could not apply",
            ],
            Kind::Conflict,
            Some(Code::GitMergeConflict),
        ),
        "resolve the conflicts, add the files and commit",
    ),
    with_hint(
        means(
            &[
                "would be overwritten by",
                "would be lost by",
                "commit your changes or stash them",
                "please move or remove them",
                "not uptodate",
                "you have unstaged changes",
                "contains uncommitted changes",
            ],
            Kind::Conflict,
            Some(Code::GitDirtyWorktree),
        ),
        "commit the changes, or throw them away by a hard reset",
    ),
    means(&["a branch named", "cannot lock ref"], Kind::Conflict, Some(Code::GitBranchExists)),
    means(
        &[
            "couldn't find remote ref",
            "not found in upstream",
            "invalid reference:",
            "src refspec",
            "not a valid object name",
            "unknown revision",
            "bad revision",
            "could not resolve",
            "reference is not a tree",
            "not our ref",
            "error: branch '",
            "did not send all necessary objects",
        ],
        Kind::NotFound,
        Some(Code::GitBranchNotFound),
    ),
    means(
        &[
            "not a git repository",
            "cannot change to",
            "can only be used inside a git repository",
            "does not appear to be a git repository",
            "repository not found",
            "does not exist",
        ],
        Kind::NotFound,
        Some(Code::GitRepoNotFound),
    ),
    with_hint(
        means(
            &[
                "unable to access",
                "could not read from remote repository",
                "remote end hung up",
                "host key verification failed",
                "connection refused",
                "connection timed out",
                "connection reset",
                "network is unreachable",
                "early eof",
                "rpc failed",
                "ssl",
                "unexpected disconnect",
                "cannot run ssh",
                "unable to connect",
                "unable to look up",
            ],
            Kind::Unavailable,
            Some(Code::GitTransportFailed),
        ),
        "is the remote reachable from the sandbox, and allowed by its network policy?",
    ),
    means(
        &["already exists", "index.lock", "another git process", "cannot delete branch"],
        Kind::Conflict,
        None,
    ),
    means(
        &["permission denied", "operation not permitted", "read-only file system"],
        Kind::Denied,
        Some(Code::FileAccessDenied),
    ),
    with_hint(
        means(&["identity unknown", "tell me who you are"], Kind::Invalid, None),
        "set the user's name and email first",
    ),
];

/// The error of a run that failed.
pub(super) fn error(done: &Done) -> Error {
    let tail = done.output.len().saturating_sub(16_384);
    let output = String::from_utf8_lossy(&done.output[tail..]);
    let all = format!("{}\n{output}", done.said).to_lowercase();
    let words = if done.said.trim().is_empty() { clean(&output) } else { clean(&done.said) };
    let message = match words.as_str() {
        "" => format!("git {} failed with exit code {}", done.verb, done.code),
        words => format!("git {} failed: {words}", done.verb),
    };
    // A missing repository on a host that answers is no failure of the transport.
    let is_missing_repository = all.contains("repository '") && all.contains("' not found");
    if is_missing_repository {
        return Error::not_found(message).with_code(Code::GitRepoNotFound);
    }
    // A host that cannot be resolved is not a revision that cannot be resolved.
    let is_host =
        |word: &str| word == "could not resolve" && all.contains("could not resolve host");
    let fits =
        |meaning: &&Meaning| meaning.words.iter().any(|word| all.contains(word) && !is_host(word));
    let Some(meaning) = MEANINGS.iter().find(fits) else { return Error::invalid(message) };
    let mut error = Error::new(meaning.kind, message);
    if let Some(code) = meaning.code {
        error = error.with_code(code);
    }
    match meaning.hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// git's own words as one line: without control characters, hints and what stands before the host in a URL.
fn clean(said: &str) -> String {
    let lines = said.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with("hint:") && !line.starts_with("Cloning into")
    });
    let line = lines.collect::<Vec<_>>().join("; ");
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = without_users(&line);
    if line.chars().count() <= MAX_WORDS {
        return line;
    }
    let mut short: String = line.chars().take(MAX_WORDS).collect();
    short.push_str("...");
    short
}

/// Cuts `user:password@` out of every URL.
fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail.find(['/', ' ', '\'', '"', '?']).unwrap_or(tail.len());
        rest = match tail[..end].rfind('@') {
            Some(user) => &tail[user + 1..],
            None => tail,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn of(said: &str, output: &'static str) -> Error {
        let output = Bytes::from_static(output.as_bytes());
        error(&Done { verb: "x", code: 1, output, said: said.to_owned(), cut: false })
    }

    #[test]
    fn complaints_become_the_contracts_codes() {
        for (said, code) in [
            ("fatal: Authentication failed for 'http://h/r/'", Some(Code::GitAuthFailed)),
            (
                "fatal: could not read Username for 'https://h': terminal prompts disabled",
                Some(Code::GitAuthFailed),
            ),
            (
                "u@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
                Some(Code::GitAuthFailed),
            ),
            (
                "fatal: not a git repository (or any of the parent directories): .git",
                Some(Code::GitRepoNotFound),
            ),
            ("fatal: cannot change to 'x': No such file or directory", Some(Code::GitRepoNotFound)),
            ("fatal: repository 'http://h/none/' not found", Some(Code::GitRepoNotFound)),
            (
                "fatal: '/none' does not appear to be a git repository\nfatal: Could not read from remote repository.",
                Some(Code::GitRepoNotFound),
            ),
            ("fatal: invalid reference: nope", Some(Code::GitBranchNotFound)),
            (
                "error: src refspec refs/heads/nope does not match any",
                Some(Code::GitBranchNotFound),
            ),
            ("fatal: couldn't find remote ref nope", Some(Code::GitBranchNotFound)),
            (
                "fatal: Remote branch nope not found in upstream origin",
                Some(Code::GitBranchNotFound),
            ),
            ("error: branch 'nope' not found", Some(Code::GitBranchNotFound)),
            ("fatal: a branch named 'a' already exists", Some(Code::GitBranchExists)),
            (
                "! [rejected] main -> main (fetch first)\nerror: failed to push",
                Some(Code::GitPushRejected),
            ),
            (
                "! [remote rejected] main -> main (pre-receive hook declined)",
                Some(Code::GitRemoteRejected),
            ),
            (
                "error: Your local changes to the following files would be overwritten by checkout:",
                Some(Code::GitDirtyWorktree),
            ),
            (
                "error: Committing is not possible because you have unmerged files.",
                Some(Code::GitMergeConflict),
            ),
            (
                "fatal: unable to access 'http://h/': Could not resolve host: h",
                Some(Code::GitTransportFailed),
            ),
            (
                "ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository.",
                Some(Code::GitTransportFailed),
            ),
            (
                "Host key verification failed.\nfatal: Could not read from remote repository.",
                Some(Code::GitTransportFailed),
            ),
            (
                "fatal: could not create work tree dir '/x': Permission denied",
                Some(Code::FileAccessDenied),
            ),
            ("fatal: destination path 'x' already exists and is not an empty directory.", None),
            ("fatal: pathspec 'x' did not match any files", None),
        ] {
            assert_eq!(of(said, "").code(), code, "{said}");
        }
        let merge = of("", "CONFLICT (content): Merge conflict in a\nAutomatic merge failed");
        assert_eq!(merge.code(), Some(Code::GitMergeConflict));
        assert_eq!(of("fatal: destination path 'x' already exists", "").kind(), Kind::Conflict);
        assert_eq!(of("fatal: who knows", "").kind(), Kind::Invalid);
        assert_eq!(of("", "").message(), "git x failed with exit code 1");
    }

    #[test]
    fn words_are_one_line_without_secrets() {
        let said = "Cloning into 'x'...\nfatal: \x1b[31mno 'https://u:secret@h:1/a@b' and ssh://t@g\nhint: y";
        assert_eq!(
            of(said, "").message(),
            "git x failed: fatal:  [31mno 'https://h:1/a@b' and ssh://g"
        );
        assert!(of(&"é".repeat(5_000), "").message().chars().count() < 1_050);
    }
}
