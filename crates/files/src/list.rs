//! Entries of a folder, and entries below it by name.

use rustix::fs::OFlags;

use crate::call::Info;
use crate::entry::Describer;
use crate::fault::Fault;
use crate::glob::Glob;
use crate::path::Asked;
use crate::view::View;
use crate::walk::walk;

/// Most entries in one answer.
const MOST: usize = 100_000;
/// Most bytes of their paths.
const MOST_BYTES: usize = 32 << 20;

/// Counts an answer that must not grow without end.
#[derive(Default)]
struct Budget {
    entries: usize,
    bytes: usize,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        self.entries += 1;
        self.bytes += bytes;
        if self.entries > MOST || self.bytes > MOST_BYTES {
            return Err(Fault::TooMany("100000 entries or 32 MiB of paths"));
        }
        Ok(())
    }
}

/// Entries of a folder, `depth` levels down, each folder's content sorted by name and right after it.
pub(crate) fn list(view: &View<'_>, asked: &Asked, depth: u32) -> Result<Vec<Info>, Fault> {
    let start = view.node(&asked.full, OFlags::empty())?;
    let describer = Describer::new(view);
    let mut found = Vec::new();
    let mut budget = Budget::default();
    walk(view, &start, depth, &mut |met| {
        let path = asked.join(met.path);
        budget.take(path.len())?;
        let name = String::from_utf8_lossy(met.name).into_owned();
        found.push(describer.describe(name, path, met.stat));
        Ok(())
    })?;
    found.sort_unstable_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
    Ok(found)
}

/// Paths of everything below a folder whose name matches, sorted.
pub(crate) fn search(view: &View<'_>, asked: &Asked, glob: &Glob) -> Result<Vec<String>, Fault> {
    let start = view.node(&asked.full, OFlags::empty())?;
    let mut found = Vec::new();
    let mut budget = Budget::default();
    walk(view, &start, u32::MAX, &mut |met| {
        if glob.matches(&String::from_utf8_lossy(met.name)) {
            let path = asked.join(met.path);
            budget.take(path.len())?;
            found.push(path);
        }
        Ok(())
    })?;
    found.sort_unstable();
    Ok(found)
}
