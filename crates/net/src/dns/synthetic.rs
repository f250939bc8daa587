//! Addresses out of 198.18.0.0/15 that stand for names under a domain policy, per sandbox.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::judge::SYNTHETIC;
use crate::names::Name;

/// Names that one sandbox can have addresses for at a time.
const MAX_NAMES: usize = 4096;
/// How long an address stays its name's after the last question or connection, in milliseconds; twice the
/// time to live that the server tells.
const KEPT: u64 = 120_000;

/// The table of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Synthetic {
    by_name: HashMap<Name, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, Entry>,
    next: u32,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    used: u64,
    flows: u32,
}

impl Synthetic {
    /// The address of a name; nothing when the table is full of names in use.
    pub(crate) fn address(&mut self, name: &Name, now: u64) -> Option<Ipv4Addr> {
        if let Some(address) = self.by_name.get(name) {
            let entry = self.by_address.get_mut(address)?;
            entry.used = now;
            return Some(*address);
        }
        if self.by_name.len() >= MAX_NAMES {
            self.forget_oldest(now)?;
        }
        let address = self.free_address();
        self.by_name.insert(name.clone(), address);
        self.by_address.insert(address, Entry { name: name.clone(), used: now, flows: 0 });
        Some(address)
    }

    /// The name that an address stands for.
    pub(crate) fn name(&self, address: Ipv4Addr) -> Option<&Name> {
        self.by_address.get(&address).map(|entry| &entry.name)
    }

    /// A connection to the address begins (`1`) or ends (`-1`).
    pub(crate) fn count(&mut self, address: Ipv4Addr, change: i32, now: u64) {
        if let Some(entry) = self.by_address.get_mut(&address) {
            entry.flows = entry.flows.saturating_add_signed(change);
            entry.used = now;
        }
    }

    fn forget_oldest(&mut self, now: u64) -> Option<()> {
        let idle = self.by_address.iter().filter(|(_, entry)| entry.flows == 0);
        let (address, entry) = idle.min_by_key(|(_, entry)| entry.used)?;
        if now.saturating_sub(entry.used) < KEPT {
            return None;
        }
        let (address, name) = (*address, entry.name.clone());
        self.by_address.remove(&address);
        self.by_name.remove(&name);
        Some(())
    }

    /// The next address in turn that stands for nothing; there are 32 times as many as names.
    fn free_address(&mut self) -> Ipv4Addr {
        loop {
            self.next = self.next % 0x1_fffd + 1;
            let address = Ipv4Addr::from_bits(SYNTHETIC.0.to_bits() + self.next);
            if !self.by_address.contains_key(&address) {
                return address;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::is_synthetic;

    fn name(index: usize) -> Name {
        Name::parse(&format!("n{index}.example.com")).unwrap()
    }

    #[test]
    fn a_name_keeps_its_address_and_no_other_has_it() {
        let mut table = Synthetic::default();
        let first = table.address(&name(1), 0).unwrap();
        let second = table.address(&name(2), 0).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.address(&name(1), 5), Some(first));
        assert_eq!(table.name(first), Some(&name(1)));
        assert!(is_synthetic(first.into()));
    }

    #[test]
    fn the_table_is_bounded_and_never_reuses_an_address_in_use() {
        let mut table = Synthetic::default();
        let first = table.address(&name(0), 0).unwrap();
        table.count(first, 1, 0);
        for index in 1..MAX_NAMES {
            assert!(table.address(&name(index), 1).is_some());
        }
        assert_eq!(table.address(&name(MAX_NAMES), KEPT), None, "all are still fresh");
        assert!(table.address(&name(MAX_NAMES), 2 * KEPT).is_some());
        assert_eq!(table.name(first), Some(&name(0)), "it has a live connection");
        assert_eq!(table.by_name.len(), MAX_NAMES);
        for index in 0..200_000 {
            let address = table.address(&name(index + MAX_NAMES), u64::MAX).unwrap();
            assert!(address != first && is_synthetic(address.into()));
            let Some(entry) = table.by_address.get_mut(&address) else { continue };
            entry.used = 0;
            if index > 3 * MAX_NAMES {
                break;
            }
        }
    }
}
