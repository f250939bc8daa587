//! One member of a packed tree: a tar header, and beside it what tar has no field for.
//!
//! Names over 100 bytes use GNU's long-name members. Attributes, nanoseconds and holes stand in a PAX header under
//! names of our own, both in base64 without padding: readers split at line ends and `=`, which attributes may hold.

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use tar::{Entry, EntryType, Header};

/// Bytes of a tar block.
const BLOCK: usize = 512;
/// Longest name that fits a header.
const SHORT: usize = 100;
const NANOS: &str = "MAYFLY.nanos";
const ATTRIBUTE: &str = "MAYFLY.xattr.";
const EXTENTS: &str = "MAYFLY.extents";
/// Most bytes of attributes of one member; what is over it is left out.
pub(super) const MAX_ATTRIBUTES: usize = 1 << 20;
/// Most stretches of data of one file that are told apart; those behind count as one.
pub(super) const MAX_EXTENTS: usize = 4096;

/// A stretch of data in a file with holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What is known of a file, folder or node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Of the last change of its content; seconds may be negative.
    pub(super) modified: (i64, u32),
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of a file with holes, and where its data is; the member holds only the data.
    pub(super) sparse: Option<(u64, Vec<Extent>)>,
}

impl Facts {
    fn header(&self, kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(self.mode & 0o7777);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        // Times before 1970 exist only by mischief.
        header.set_mtime(u64::try_from(self.modified.0).unwrap_or(0));
        header.set_size(size);
        header
    }

    /// Reads them back.
    pub(super) fn of(entry: &mut Entry<'_, impl Read>) -> io::Result<Self> {
        let header = entry.header();
        let small = |value: u64| u32::try_from(value).map_err(|_| broken("an id over 32 bits"));
        let mut facts = Self {
            mode: header.mode()? & 0o7777,
            uid: small(header.uid()?)?,
            gid: small(header.gid()?)?,
            modified: (i64::try_from(header.mtime()?).unwrap_or(0), 0),
            ..Self::default()
        };
        let Some(records) = entry.pax_extensions()? else { return Ok(facts) };
        for record in records {
            let record = record?;
            let Ok(key) = record.key() else { continue };
            let value = record.value().map_err(|_| broken("a record that is no text"))?;
            if key == NANOS {
                facts.modified.1 = value.parse().map_err(|_| broken("nanoseconds"))?;
            } else if key == EXTENTS {
                facts.sparse = Some(parse_extents(value)?);
            } else if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                facts.attributes.push((decode(name)?, decode(value)?));
            }
        }
        Ok(facts)
    }

    fn records(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if self.modified.1 != 0 {
            record(&mut text, NANOS, &self.modified.1.to_string());
        }
        for (name, value) in &self.attributes {
            record(
                &mut text,
                &format!("{ATTRIBUTE}{}", BASE64.encode(name)),
                &BASE64.encode(value),
            );
        }
        if let Some((size, extents)) = &self.sparse {
            let list = extents.iter().map(|one| format!("{}+{}", one.offset, one.length));
            let list: Vec<String> = std::iter::once(size.to_string()).chain(list).collect();
            record(&mut text, EXTENTS, &list.join(","));
        }
        text
    }
}

/// Writes all that comes before a member's data.
pub(super) fn begin(
    out: &mut dyn Write,
    kind: EntryType,
    (name, link): (&[u8], &[u8]),
    facts: &Facts,
    (size, device): (u64, Option<(u32, u32)>),
) -> io::Result<()> {
    if name.len() > SHORT {
        special(out, EntryType::GNULongName, &terminated(name))?;
    }
    if link.len() > SHORT {
        special(out, EntryType::GNULongLink, &terminated(link))?;
    }
    let records = facts.records();
    if !records.is_empty() {
        special(out, EntryType::XHeader, &records)?;
    }
    let mut header = facts.header(kind, size);
    if let Some((major, minor)) = device {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    let old = header.as_old_mut();
    copy(&mut old.name, name);
    copy(&mut old.linkname, link);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Fills the last block of a member's data.
pub(super) fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { Ok(()) } else { out.write_all(&[0; BLOCK][over..]) }
}

fn special(out: &mut dyn Write, kind: EntryType, data: &[u8]) -> io::Result<()> {
    let mut header = Facts::default().header(kind, data.len() as u64);
    copy(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(data)?;
    pad(out, data.len() as u64)
}

fn terminated(name: &[u8]) -> Vec<u8> {
    [name, b"\0"].concat()
}

/// A long name's beginning is enough: its own member has all of it.
fn copy(field: &mut [u8; SHORT], name: &[u8]) {
    let length = name.len().min(SHORT);
    field[..length].copy_from_slice(&name[..length]);
}

/// `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    out.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
}

fn parse_extents(text: &str) -> io::Result<(u64, Vec<Extent>)> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| broken("a list of extents"));
    let mut parts = text.split(',');
    let size = number(parts.next().unwrap_or_default())?;
    let mut extents = Vec::new();
    let mut end = 0_u64;
    for part in parts.take(MAX_EXTENTS + 1) {
        let (offset, length) = part.split_once('+').ok_or_else(|| broken("a list of extents"))?;
        let one = Extent { offset: number(offset)?, length: number(length)? };
        let after = one.offset.checked_add(one.length).filter(|after| *after <= size);
        if one.offset < end || extents.len() == MAX_EXTENTS {
            return Err(broken("extents that overlap, or too many"));
        }
        end = after.ok_or_else(|| broken("an extent behind the end"))?;
        extents.push(one);
    }
    Ok((size, extents))
}

fn decode(text: &str) -> io::Result<Vec<u8>> {
    BASE64.decode(text).map_err(|_| broken("a value that is not base64"))
}

/// The error of an archive that was not written by this program.
pub(super) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive holds {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(name: &[u8], facts: &Facts) -> (Vec<u8>, Facts) {
        let mut bytes = Vec::new();
        begin(&mut bytes, EntryType::Regular, (name, b""), facts, (3, None)).unwrap();
        bytes.extend_from_slice(b"abc");
        pad(&mut bytes, 3).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let name = entry.path_bytes().into_owned();
        let facts = Facts::of(&mut entry).unwrap();
        let mut data = String::new();
        entry.read_to_string(&mut data).unwrap();
        assert_eq!(data, "abc");
        (name, facts)
    }

    #[test]
    fn any_name_and_any_attribute_comes_back_as_it_was() {
        let facts = Facts {
            mode: 0o4755,
            uid: 65_535,
            gid: 7,
            modified: (1_700_000_000, 123_456_789),
            attributes: vec![
                (b"user.a=b\nc".to_vec(), b"\0\n\xff=".to_vec()),
                (b"security.capability".to_vec(), vec![1; 20]),
            ],
            sparse: Some((1 << 40, vec![Extent { offset: 4096, length: 3 }])),
        };
        let long = vec![b'x'; 300];
        for name in [&b"short"[..], b"line\nend \xff", &long, &[b'y'; 100], &[b'z'; 101]] {
            let (back, read) = round(name, &facts);
            assert_eq!((back.as_slice(), read), (name, facts.clone()));
        }
    }

    #[test]
    fn lists_of_extents_that_lie_are_refused() {
        for text in ["", "x", "10,5", "10,0+11", "10,4+2,5+1", "10,18446744073709551615+2"] {
            assert!(parse_extents(text).is_err(), "{text}");
        }
        let many = vec!["0+0"; MAX_EXTENTS + 1].join(",");
        assert!(parse_extents(&format!("10,{many}")).is_err());
        assert_eq!(parse_extents("10").unwrap(), (10, vec![]));
    }
}
