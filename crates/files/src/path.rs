//! Paths as callers write them: what can be one, and where a relative one begins.

use crate::fault::Fault;
use crate::refusal::Refusal;

/// Longest path the kernel takes, without its end mark.
pub(crate) const MAX_PATH: usize = 4095;
/// Longest name of one entry.
pub(crate) const MAX_NAME: usize = 255;

/// A path of the sandbox, and the same as the caller wrote it.
///
/// Whether it leads out of the sandbox is not decided here, by its text, but by the kernel's lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What the caller wrote; shown in errors and answers.
    pub(crate) text: String,
    /// Absolute inside the sandbox, otherwise byte for byte as asked.
    pub(crate) full: Vec<u8>,
}

impl Asked {
    /// Checks a path and makes it absolute. `workdir` is absolute.
    ///
    /// Backslash, `%2e`, `~` and newline are ordinary bytes of a name.
    pub(crate) fn parse(text: &str, workdir: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err(Fault::BadPath("a path is needed, but this one is empty"));
        }
        if text.contains('\0') {
            return Err(Fault::BadPath("a path cannot contain a NUL byte"));
        }
        if text.split('/').any(|part| part.len() > MAX_NAME) {
            return Err(Fault::BadPath("one part of the path is longer than 255 bytes"));
        }
        let full = if text.starts_with('/') {
            text.to_owned()
        } else {
            format!("/{}/{text}", workdir.trim_matches('/'))
        };
        if full.len() > MAX_PATH {
            return Err(Fault::BadPath("the path is longer than 4095 bytes"));
        }
        Ok(Self { text: text.to_owned(), full: full.into_bytes() })
    }

    /// The path as asked for, joined with a path below it.
    pub(crate) fn join(&self, below: &[u8]) -> String {
        let below = String::from_utf8_lossy(below);
        match self.text.trim_end_matches('/') {
            "" => format!("/{below}"),
            text => format!("{text}/{below}"),
        }
    }

    /// The last part, for display; `/` for the root.
    pub(crate) fn name(&self) -> String {
        let text = self.text.trim_end_matches('/');
        match text.rsplit('/').next() {
            None | Some("") => "/".to_owned(),
            Some(name) => name.to_owned(),
        }
    }
}

/// Refuses what cannot be a path, before anything is done.
pub fn check_path(path: &str) -> Result<(), Refusal> {
    Asked::parse(path, "/").map(drop).map_err(|fault| fault.at(path))
}

/// Folder and last name of a path; `None` when the last part is no name (`/`, `.` or `..`).
///
/// The folder part is left as it is: the kernel walks it, links and `..` included.
pub(crate) fn split(full: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = full.iter().rposition(|byte| *byte != b'/')? + 1;
    let full = &full[..end];
    let start = full.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = full.split_at(start);
    match name {
        b"." | b".." => None,
        _ => Some((if folder.is_empty() { b"/" } else { folder }, name)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn relative_paths_begin_at_the_work_dir() {
        let cases = [
            ("a", "/desk", "/desk/a"),
            ("a/b", "/", "//a/b"),
            ("/a", "/desk", "/a"),
            ("../..", "/desk/", "/desk/../.."),
            ("~", "/w", "/w/~"),
            ("a\\..\\b", "/w", "/w/a\\..\\b"),
            ("%2e%2e/x", "/w", "/w/%2e%2e/x"),
            ("line\nbreak", "/w", "/w/line\nbreak"),
        ];
        for (text, workdir, full) in cases {
            let asked = Asked::parse(text, workdir).unwrap();
            assert_eq!(String::from_utf8(asked.full).unwrap(), full, "{text:?} in {workdir}");
        }
    }

    #[test]
    fn what_cannot_be_a_path_is_refused() {
        let long = "n".repeat(256);
        let deep = "a/".repeat(2048);
        for text in ["", "a\0b", "\0", &long, &format!("/x/{long}/y"), &deep] {
            assert!(matches!(Asked::parse(text, "/"), Err(Fault::BadPath(_))), "{text:?}");
        }
        assert!(Asked::parse(&"n".repeat(255), "/").is_ok());
    }

    #[test]
    fn splits_off_the_last_name() {
        type Parts = Option<(&'static [u8], &'static [u8])>;
        let cases: [(&[u8], Parts); 8] = [
            (b"/a/b", Some((b"/a/", b"b"))),
            (b"/a", Some((b"/", b"a"))),
            (b"/a//", Some((b"/", b"a"))),
            (b"a", Some((b"/", b"a"))),
            (b"/", None),
            (b"/a/..", None),
            (b"/a/./", None),
            (b"/a/...", Some((b"/a/", b"..."))),
        ];
        for (path, expected) in cases {
            assert_eq!(split(path), expected, "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn names_are_the_last_part() {
        for (text, name) in [("/", "/"), ("/a/b", "b"), ("b/", "b"), (".", "."), ("//", "/")] {
            assert_eq!(Asked::parse(text, "/").unwrap().name(), name);
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_keeps_every_byte(text in "(.|\n|/|\\.\\./|\0){0,300}", workdir in "/[a-z/]{0,20}") {
            if let Ok(asked) = Asked::parse(&text, &workdir) {
                prop_assert!(asked.full.starts_with(b"/"));
                prop_assert!(asked.full.ends_with(text.as_bytes()));
                prop_assert!(!asked.full.contains(&0));
                let _ = asked.name();
                if let Some((folder, name)) = split(&asked.full) {
                    prop_assert!(folder.starts_with(b"/") && !name.contains(&b'/') && !name.is_empty());
                }
            }
        }
    }
}
