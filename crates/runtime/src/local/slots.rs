//! Numbers of sandboxes on this host: control groups and id ranges are named by them.

use std::collections::BTreeSet;

/// Numbers from 0 up; the lowest free one is handed out, in constant time however many are in use.
#[derive(Debug)]
pub(super) struct Slots {
    /// Free ones below `next`.
    free: BTreeSet<u32>,
    /// From here on all are free.
    next: u32,
    /// Numbers end below this.
    end: u32,
}

impl Slots {
    /// All below `end` but those in use.
    pub(super) fn new(end: u32, used: impl IntoIterator<Item = u32>) -> Self {
        let used: BTreeSet<u32> = used.into_iter().collect();
        let next = used.last().map_or(0, |last| last + 1);
        Self { free: (0..next).filter(|slot| !used.contains(slot)).collect(), next, end }
    }

    /// The lowest free number; `None` when all are in use.
    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop_first() {
            return Some(slot);
        }
        let slot = (self.next < self.end).then_some(self.next)?;
        self.next += 1;
        Some(slot)
    }

    /// Gives a number back.
    pub(super) fn give(&mut self, slot: u32) {
        debug_assert!(slot < self.next, "it was handed out");
        self.free.insert(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_comes_first() {
        let mut slots = Slots::new(5, [3, 1]);
        assert_eq!([slots.take(), slots.take(), slots.take()], [Some(0), Some(2), Some(4)]);
        assert_eq!(slots.take(), None, "all five are in use");
        slots.give(3);
        slots.give(1);
        assert_eq!([slots.take(), slots.take(), slots.take()], [Some(1), Some(3), None]);
    }

    #[test]
    fn nothing_is_used_at_first() {
        let mut slots = Slots::new(2, []);
        assert_eq!([slots.take(), slots.take(), slots.take()], [Some(0), Some(1), None]);
    }
}
