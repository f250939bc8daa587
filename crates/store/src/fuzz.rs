//! Fuzz bodies of the store: what must hold of any text that comes back as a cursor.
//!
//! In no shipped build: compiled for tests and, with the feature `fuzzing`, for the fuzzer, so that private
//! parsers can stay private.

use mayfly_core::Kind;
use mayfly_core::ports::store::SortBy;

use crate::sql::Cursor;

/// A body: its name and the function.
pub type Body = (&'static str, fn(&[u8]));

/// Every body.
pub const BODIES: &[Body] = &[("cursor", cursor)];

const SORTS: [SortBy; 6] = [
    SortBy::Name,
    SortBy::Cpu,
    SortBy::Memory,
    SortBy::Disk,
    SortBy::LastActivity,
    SortBy::Created,
];

/// A cursor is refused naming it, or reads back as itself and serves one sort order only.
fn cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut served = 0;
    for sort in SORTS {
        match Cursor::parse(sort, text) {
            Ok(cursor) => {
                served += 1;
                let again = Cursor::parse(sort, &cursor.to_text(sort));
                assert_eq!(again.ok(), Some(cursor), "a cursor of ours was refused or changed");
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::Invalid);
                assert!(error.message().starts_with("cursor"), "{error}");
            }
        }
    }
    assert!(served <= 1, "one text continues lists of {served} orders");
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_body_holds() {
        mayfly_testkit::fuzz::run(env!("CARGO_PKG_NAME"), super::BODIES);
    }
}
