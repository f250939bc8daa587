//! System calls that a sandbox may make: an allow-list, compiled to a search tree for the kernel.
//!
//! `policy` says what is allowed and why the rest is not, `numbers` what the calls are called on each
//! architecture, `compile` makes the program. Loading it is init's work: it gets the bytes.

mod compile;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
mod machine;
mod numbers;
mod policy;

pub use compile::{Instruction, compile, to_bytes};

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It reaches the kernel.
    Allow,
    /// It returns this error number and does nothing.
    Errno(u16),
}

impl Action {
    /// The kernel's return value of a filter for this action.
    pub fn verdict(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
        }
    }
}

/// What decides over one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The same whatever the arguments are.
    Always(Action),
    /// By the value of an argument.
    Switch(Switch),
}

/// A decision by one argument.
///
/// Only its low 32 bits are looked at: every argument judged here is an `int` or `unsigned int` of which
/// the kernel itself drops the upper half, or holds flags that all lie in the lower half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Which argument, from 0 to 5.
    pub argument: u8,
    /// Bits that count.
    pub mask: u32,
    /// What happens for these values of the bits that count; the first that fits.
    pub cases: &'static [(&'static [u32], Rule)],
    /// What happens for all other values.
    pub otherwise: Action,
}

/// Calls next to each other, up to the next span, that share a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the first call.
    pub first: u32,
    /// What decides over them.
    pub rule: Rule,
}

/// A complete filter for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The kernel's audit number of the architecture.
    pub architecture: u32,
    /// What decides, by number: ascending, the first from 0, the last for all that follow.
    pub spans: Vec<Span>,
    /// What happens to calls by another architecture's convention, such as 32-bit calls on x86 (E16).
    pub foreign: Action,
}

/// Architectures with a table of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm, little endian.
    Aarch64,
}

impl Architecture {
    /// The one this program was built for; `None` where there is no table, so no sandbox.
    pub const fn host() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// The kernel's audit number.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    const fn table(self) -> &'static numbers::Table {
        match self {
            Self::X86_64 => numbers::X86_64,
            Self::Aarch64 => numbers::AARCH64,
        }
    }
}

/// The filter of every sandbox on an architecture.
pub fn filter(architecture: Architecture) -> Filter {
    let rules = policy::rules();
    let mut spans = vec![Span { first: 0, rule: policy::UNKNOWN }];
    let mut next = 0;
    for (first, names) in architecture.table() {
        if *first > next {
            extend(&mut spans, next, policy::UNKNOWN);
        }
        next = *first;
        for name in names.split_whitespace() {
            let rule = rules.get(name).copied().unwrap_or(policy::UNKNOWN);
            extend(&mut spans, next, rule);
            next += 1;
        }
    }
    // Numbers past the table: calls of later kernels, and on x86 all x32 calls, which set bit 30 (E16).
    extend(&mut spans, next, policy::UNKNOWN);
    Filter { architecture: architecture.audit(), spans, foreign: policy::FOREIGN }
}

fn extend(spans: &mut Vec<Span>, first: u32, rule: Rule) {
    match spans.last_mut() {
        Some(last) if last.rule == rule => {}
        Some(last) if last.first == first => last.rule = rule,
        _ => spans.push(Span { first, rule }),
    }
}

#[cfg(test)]
mod tests;
