//! Names of users and groups, read from the sandbox's own files and believed only for display and for
//! the sandbox's own ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{OFlags, Stat};

use crate::accounts;
use crate::view::{View, read_up_to};

/// Most bytes read of a passwd or group file.
const MOST: u64 = 1 << 20;

/// Names of one file, both ways.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_id: HashMap<u32, String>,
    by_name: HashMap<String, u32>,
}

impl Table {
    /// Of an /etc/passwd.
    pub(crate) fn users(text: &[u8]) -> Self {
        Self::of(accounts::users(text).map(|user| (user.name, user.uid)))
    }

    /// Of an /etc/group.
    pub(crate) fn groups(text: &[u8]) -> Self {
        Self::of(accounts::groups(text).map(|group| (group.name, group.gid)))
    }

    /// The first of several wins, as in libc.
    fn of(accounts: impl Iterator<Item = (String, u32)>) -> Self {
        let mut table = Self::default();
        for (name, id) in accounts {
            table.by_id.entry(id).or_insert_with(|| name.clone());
            table.by_name.entry(name).or_insert(id);
        }
        table
    }

    /// The name of an id, else its number.
    pub(crate) fn name(&self, id: u32) -> String {
        self.by_id.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The id of a name or number; names first, as chown does it.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied().or_else(|| name.parse().ok())
    }
}

/// A table with the state of the file it was read from.
pub(crate) type Cached = Option<(Stamp, Arc<Table>)>;

/// Changes whenever the file is edited or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
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
pub(crate) fn users(view: &View<'_>) -> Arc<Table> {
    table(view, b"/etc/passwd", &view.root.users, Table::users)
}

/// Groups (`/etc/group`) of the sandbox, in the same way.
pub(crate) fn groups(view: &View<'_>) -> Arc<Table> {
    table(view, b"/etc/group", &view.root.groups, Table::groups)
}

fn table(
    view: &View<'_>,
    path: &[u8],
    cache: &Mutex<Cached>,
    parse: impl FnOnce(&[u8]) -> Table,
) -> Arc<Table> {
    let Ok(node) = view.node(path, OFlags::empty()) else { return Arc::default() };
    let stamp = Stamp::of(&node.stat);
    let known = cache.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((seen, table)) = known
        && seen == stamp
    {
        return table;
    }
    let read = view.open_plain(&node).and_then(|file| read_up_to(&file, MOST));
    let table = Arc::new(read.map(|text| parse(&text)).unwrap_or_default());
    *cache.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, Arc::clone(&table)));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_wins_and_numbers_stand_for_themselves() {
        let accounts = [("root", 0), ("bob", 1000), ("bob2", 1000), ("bob", 7)];
        let table = Table::of(accounts.into_iter().map(|(name, id)| (name.to_owned(), id)));
        assert_eq!(table.name(1000), "bob");
        assert_eq!(table.name(5), "5");
        assert_eq!(table.id("bob"), Some(1000));
        assert_eq!(table.id("bob2"), Some(1000));
        assert_eq!(table.id("42"), Some(42));
        assert_eq!(table.id("nobody-here"), None);
    }
}
