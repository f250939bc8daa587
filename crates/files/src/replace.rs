//! Replaces a literal text in a file.

use memchr::memmem::Finder;
use rustix::fs::OFlags;

use crate::fault::Fault;
use crate::path::Asked;
use crate::upload::Upload;
use crate::view::{View, read_up_to};

/// Largest file, before and after.
const LARGEST: usize = 16 << 20;

/// Replaces every occurrence; the file changes at once or not at all and keeps its owner and
/// permission bits. Without an occurrence it is not touched.
pub(crate) fn replace(view: &View<'_>, asked: &Asked, from: &str, to: &str) -> Result<(), Fault> {
    view.check()?;
    let node = view.node(&asked.full, OFlags::empty())?;
    let file = view.open_plain(&node)?;
    let text = read_up_to(&file, LARGEST as u64 + 1)?;
    if text.len() > LARGEST {
        return Err(too_large());
    }
    let Some(replaced) = substitute(&text, from.as_bytes(), to.as_bytes())? else { return Ok(()) };
    let upload = Upload::start(view, &asked.full, true)?;
    upload.write(&[replaced])?;
    upload.own_like(view, &node.stat)?;
    upload.commit(view).map(drop)
}

/// The text with every occurrence replaced, from the left; `None` when there is none.
fn substitute(text: &[u8], from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let finder = Finder::new(from);
    let mut replaced = Vec::new();
    let mut copied = 0;
    while let Some(found) = finder.find(&text[copied..]) {
        replaced.extend_from_slice(&text[copied..copied + found]);
        replaced.extend_from_slice(to);
        copied += found + from.len();
        if replaced.len() > LARGEST {
            return Err(too_large());
        }
    }
    if copied == 0 {
        return Ok(None);
    }
    replaced.extend_from_slice(&text[copied..]);
    if replaced.len() > LARGEST { Err(too_large()) } else { Ok(Some(replaced)) }
}

fn too_large() -> Fault {
    Fault::Wrong(format!("is larger than {} MiB, or would become so", LARGEST >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutes_from_the_left() {
        let cases = [
            ("aaa", "a", "bb", Some("bbbbbb")),
            ("aaa", "aa", "b", Some("ba")),
            ("abc", "b", "", Some("ac")),
            ("abc", "x", "y", None),
            ("a\nb", "\n", "\r\n", Some("a\r\nb")),
            ("", "x", "y", None),
        ];
        for (text, from, to, expected) in cases {
            let replaced = substitute(text.as_bytes(), from.as_bytes(), to.as_bytes()).unwrap();
            assert_eq!(replaced.as_deref(), expected.map(str::as_bytes), "{text:?}");
        }
    }

    #[test]
    fn growth_is_bounded() {
        let text = vec![b'a'; 1 << 20];
        assert!(substitute(&text, b"a", &[b'b'; 1024]).is_err());
    }
}
