//! Reading the audit that the network process writes: `<folder>/<key>.log` and the older `.log.old`.
//!
//! A cursor is `<inode>-<offset>`: the file that was read last and how far. When that file has become the
//! older one reading goes on there; when it is gone reading begins at the oldest line that is kept.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use mayfly_core::network::{AuditEntry, AuditKind, AuditPage};
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Result};
use mayfly_net::audit::{Kind as Told, Record, file_name};
use mayfly_net::control::SandboxId as Key;

/// Lines of one page at most.
const MOST: usize = 1000;
/// Longest line; the process writes shorter ones.
const MAX_LINE: u64 = 4096;

fn paths(folder: &Path, key: &Key) -> [PathBuf; 2] {
    let newer = folder.join(file_name(key));
    [newer.with_extension("log.old"), newer]
}

pub(super) fn exists(folder: &Path, key: &Key) -> bool {
    paths(folder, key).iter().any(|path| path.exists())
}

pub(super) fn delete(folder: &Path, key: &Key) {
    for path in paths(folder, key) {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "an audit stays");
        }
    }
}

/// At most `limit` entries behind the cursor, oldest first.
pub(super) fn read(
    folder: &Path,
    key: &Key,
    after: Option<&str>,
    limit: usize,
) -> Result<AuditPage> {
    let failed = |error: io::Error| Error::internal("the network audit could not be read", error);
    let after = after.map(cursor).transpose()?;
    let mut files = Vec::new();
    for path in paths(folder, key) {
        match File::open(path) {
            Ok(file) => {
                let metadata = file.metadata().map_err(failed)?;
                files.push((metadata.ino(), metadata.size(), file));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    // A file that was renamed between both openings is read once.
    files.dedup_by_key(|(inode, ..)| *inode);
    let known = after.and_then(|(inode, offset)| {
        files.iter().position(|(found, size, _)| *found == inode && offset <= *size)
    });
    let mut page = AuditPage {
        next: after.map_or_else(String::new, |(inode, offset)| format!("{inode}-{offset}")),
        ..AuditPage::default()
    };
    for (index, (inode, _, file)) in files.into_iter().enumerate().skip(known.unwrap_or(0)) {
        let offset = match after {
            Some((_, offset)) if known == Some(index) => offset,
            _ => 0,
        };
        let room = limit.min(MOST) - page.items.len();
        let end = lines(file, offset, room, &mut page.items).map_err(failed)?;
        page.next = format!("{inode}-{end}");
        if page.items.len() >= limit.min(MOST) {
            break;
        }
    }
    Ok(page)
}

/// Reads whole lines from an offset; where it stopped.
fn lines(mut file: File, offset: u64, most: usize, into: &mut Vec<AuditEntry>) -> io::Result<u64> {
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::new(file);
    let (mut end, mut line) = (offset, Vec::new());
    let mut left = most;
    while left > 0 {
        line.clear();
        let length = io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line)?;
        // A line without an end is still being written.
        let Some(text) = line.strip_suffix(b"\n") else { break };
        end += length as u64;
        if let Some(entry) = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
            into.push(entry_of(entry));
            left -= 1;
        }
    }
    Ok(end)
}

fn entry_of(record: Record) -> AuditEntry {
    AuditEntry {
        kind: match record.kind {
            Told::Open => AuditKind::Open,
            Told::End => AuditKind::End,
            Told::Denied => AuditKind::Denied,
        },
        at: Timestamp(i64::try_from(record.started).unwrap_or(i64::MAX)),
        millis: record.duration,
        protocol: record.protocol,
        address: record.address,
        port: record.port,
        name: record.name,
        verdict: record.verdict,
        up: record.up,
        down: record.down,
        count: record.count,
    }
}

fn cursor(text: &str) -> Result<(u64, u64)> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    text.split_once('-')
        .and_then(|(inode, offset)| Some((number(inode)?, number(offset)?)))
        .ok_or_else(|| {
            Error::invalid("after is not a cursor of this audit")
                .with_hint("pass `next` of the previous page unchanged")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [7; 16];

    fn line(count: usize) -> String {
        format!("1 denied 5 0 tcp 1.2.3.4 80 - private 0 0 {count}\n")
    }

    fn counts(page: &AuditPage) -> Vec<u64> {
        page.items.iter().map(|item| item.count).collect()
    }

    #[test]
    fn pages_neither_repeat_nor_lose_a_line_also_when_the_file_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let read = |after: Option<&str>, limit| read(folder.path(), &KEY, after, limit).unwrap();
        assert_eq!(read(None, 5), AuditPage::default());
        let [old, new] = paths(folder.path(), &KEY);
        std::fs::write(&new, (1..=5).map(line).collect::<String>()).unwrap();
        let first = read(None, 2);
        assert_eq!(counts(&first), [1, 2]);
        std::fs::rename(&new, &old).unwrap();
        std::fs::write(&new, (6..=7).map(line).collect::<String>()).unwrap();
        let second = read(Some(&first.next), 4);
        assert_eq!(counts(&second), [3, 4, 5, 6]);
        let third = read(Some(&second.next), 4);
        assert_eq!(counts(&third), [7]);
        let none = read(Some(&third.next), 4);
        assert_eq!((counts(&none), &none.next), (vec![], &third.next));
        assert!(exists(folder.path(), &KEY));
        delete(folder.path(), &KEY);
        assert!(!exists(folder.path(), &KEY));
    }

    #[test]
    fn half_lines_wait_and_nonsense_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let [_, new] = paths(folder.path(), &KEY);
        std::fs::write(&new, format!("nonsense\n{}1 denied 5", line(1))).unwrap();
        let page = read(folder.path(), &KEY, None, 9).unwrap();
        assert_eq!(counts(&page), [1]);
        std::fs::write(&new, format!("nonsense\n{}{}", line(1), line(2))).unwrap();
        assert_eq!(counts(&read(folder.path(), &KEY, Some(&page.next), 9).unwrap()), [2]);
        for bad in ["", "-", "1-", "-1", "a-1", "1-+1", "1-2-3"] {
            let refused = read(folder.path(), &KEY, Some(bad), 9).unwrap_err();
            assert_eq!(refused.kind(), mayfly_core::Kind::Invalid, "{bad}");
        }
    }
}
