//! Fuzz bodies of the file calls: paths and patterns of callers, account files of sandboxes, and what goes
//! over the socket.
//!
//! In no shipped build: compiled for tests and, with the feature `fuzzing`, for the fuzzer.

use crate::fault::Fault;
use crate::glob::{Glob, MOST};
use crate::names::Table;
use crate::path::{Asked, MAX_NAME, MAX_PATH, split};
use crate::wire::{self, Request};

/// A body: its name and the function.
pub type Body = (&'static str, fn(&[u8]));

/// Every body.
pub const BODIES: &[Body] = &[
    ("path", path),
    ("glob", glob),
    ("account_names", account_names),
    ("file_request", file_request),
    ("file_reply", file_reply),
];

/// A path is refused for one of three reasons, or kept byte for byte below the root; its last name is one.
fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for workdir in ["/", "/work", "/deep/er/"] {
        let bad = text.is_empty()
            || text.contains('\0')
            || text.split('/').any(|part| part.len() > MAX_NAME)
            || text.len() > MAX_PATH;
        match Asked::parse(text, workdir) {
            Err(Fault::BadPath(reason)) => {
                let over = text.len() + workdir.len() + 2 > MAX_PATH;
                assert!(bad || over, "refused for no reason: {reason}");
            }
            Err(other) => panic!("a path is refused as {other:?}"),
            Ok(asked) => {
                assert!(!bad, "a path that cannot be one was taken");
                assert!(asked.full.starts_with(b"/") && asked.full.ends_with(bytes));
                assert!(asked.full.len() <= MAX_PATH && !asked.full.contains(&0));
                let below = format!("/{}/", workdir.trim_matches('/'));
                assert!(text.starts_with('/') || asked.full.starts_with(below.as_bytes()));
                assert!(!asked.name().is_empty());
                assert!(asked.join(b"below").ends_with("/below"));
                last_name(&asked.full);
            }
        }
    }
}

fn last_name(full: &[u8]) {
    let Some((folder, name)) = split(full) else {
        let last = full.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty());
        assert!(matches!(last, None | Some(b"." | b"..")), "a name was not found");
        return;
    };
    assert!(folder.starts_with(b"/") && folder.ends_with(b"/"));
    assert!(!name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..");
    let whole = [folder, name].concat();
    assert!(full.starts_with(&whole), "the parts are not the path's");
    assert!(full[whole.len()..].iter().all(|byte| *byte == b'/'));
}

/// A pattern (first line) matches a name (the rest) exactly when trying all ways finds one.
fn glob(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
    let Some(glob) = Glob::parse(pattern) else {
        assert!(pattern.is_empty() || pattern.len() > MOST, "a good pattern was refused");
        return;
    };
    assert!(!pattern.is_empty() && pattern.len() <= MOST);
    assert_eq!(glob.matches(name), glob.matches_by_trying_all(name), "{pattern:?} on {name:?}");
    let escaped: String = name.chars().flat_map(|letter| ['\\', letter]).collect();
    if let Some(literal) = Glob::parse(&escaped) {
        assert!(literal.matches(name), "an escaped name does not match itself");
    }
}

/// Names shown for ids are never empty and never more than their file's field; numbers stand for themselves.
fn account_names(bytes: &[u8]) {
    let table = Table::users(bytes);
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        let name = line.split(':').next().unwrap_or_default();
        let Some(id) = table.id(name) else { continue };
        let shown = table.name(id);
        assert!(!shown.is_empty() && !shown.contains([':', '\n']), "{shown:?}");
        assert!(table.id(&shown).is_some(), "a shown name is unknown");
    }
    assert_eq!(table.id("not in any file of ours?"), None);
}

/// A request that is read is written the same again; no part of one is taken for whole.
fn file_request(bytes: &[u8]) {
    let Some(request) = Request::decode(bytes) else { return };
    assert_eq!(request.encode(), bytes, "{request:?}");
    assert_eq!(
        Request::decode(&bytes[..bytes.len() - 1]),
        None,
        "a cut request is taken for whole"
    );
}

/// The same of a reply that comes without a descriptor.
fn file_reply(bytes: &[u8]) {
    let Some(reply) = wire::decode(bytes, Vec::new()) else { return };
    let (again, descriptor) = wire::encode(&reply);
    assert!(descriptor.is_none(), "a descriptor from nowhere");
    assert_eq!(again, bytes, "{reply:?}");
}
