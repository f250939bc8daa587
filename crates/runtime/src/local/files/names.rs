//! Names of users and groups, read from the sandbox's own files and believed only for display and for
//! the sandbox's own ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{OFlags, Stat};

use super::view::{View, read_up_to};

/// Most bytes read of a passwd or group file.
const MOST: u64 = 1 << 20;

/// Names of one file, both ways.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_id: HashMap<u32, String>,
    by_name: HashMap<String, u32>,
}

impl Table {
    /// Reads `name:password:id:...` lines; others are passed over. The first of two wins, as in libc.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut table = Self::default();
        for line in String::from_utf8_lossy(text).lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else { continue };
            let (false, Ok(id)) = (name.is_empty(), id.parse::<u32>()) else { continue };
            table.by_id.entry(id).or_insert_with(|| name.to_owned());
            table.by_name.entry(name.to_owned()).or_insert(id);
        }
        table
    }

    /// The name of an id, else its number.
    pub(super) fn name(&self, id: u32) -> String {
        self.by_id.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The id of a name or number; names first, as chown does it.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied().or_else(|| name.parse().ok())
    }
}

/// A table with the state of the file it was read from.
pub(super) type Cached = Option<(Stamp, Arc<Table>)>;

/// Changes whenever the file is edited or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: i64,
    changed: (i64, u64),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            file: (stat.st_dev, stat.st_ino),
            size: stat.st_size,
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Users (`/etc/passwd`) of the sandbox; empty when the file is missing, odd or unreadable.
pub(super) fn users(view: &View<'_>) -> Arc<Table> {
    table(view, b"/etc/passwd", &view.root.users)
}

/// Groups (`/etc/group`) of the sandbox, in the same way.
pub(super) fn groups(view: &View<'_>) -> Arc<Table> {
    table(view, b"/etc/group", &view.root.groups)
}

fn table(view: &View<'_>, path: &[u8], cache: &Mutex<Cached>) -> Arc<Table> {
    let Ok(node) = view.node(path, OFlags::empty()) else { return Arc::default() };
    let stamp = Stamp::of(&node.stat);
    let known = cache.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((seen, table)) = known
        && seen == stamp
    {
        return table;
    }
    let read = view.open_plain(&node).and_then(|file| read_up_to(&file, MOST));
    let table = Arc::new(read.map(|text| Table::parse(&text)).unwrap_or_default());
    *cache.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, Arc::clone(&table)));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_is_well_formed_and_passes_over_the_rest() {
        let text = b"root:x:0:0::/root:/bin/sh\n\nbroken\n:x:5:\nbob:x:1000:1000\nbob2:x:1000:1\nx:y:-1:\n\xff\xfe:x:7:";
        let table = Table::parse(text);
        assert_eq!(table.name(0), "root");
        assert_eq!(table.name(1000), "bob");
        assert_eq!(table.name(5), "5");
        assert_eq!(table.id("bob2"), Some(1000));
        assert_eq!(table.id("42"), Some(42));
        assert_eq!(table.id("nobody-here"), None);
    }
}
