//! Compiles a filter to classic BPF: a balanced search tree over system-call numbers with shared leaves.
//!
//! The program is made from its end to its start, because BPF only jumps forward: whatever an
//! instruction jumps to is already there, and its distance is known.

use std::collections::BTreeMap;

use super::{Action, Filter, Rule, Span, Switch};

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Places in the kernel's `struct seccomp_data`: the number, the architecture, then six 64-bit arguments.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS_OFFSET: u32 = 16;

/// How far a conditional jump may reach here; the field holds 255, the rest is for helping jumps.
const REACH: usize = 250;

/// One instruction, as in the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The program of a filter; the kernel takes at most 4,096 instructions.
pub fn compile(filter: &Filter) -> Vec<Instruction> {
    let mut builder = Builder::default();
    let tree = builder.tree(&filter.spans);
    let foreign = builder.action(filter.foreign);
    // The tree may end in a shared leaf, so the load of the number jumps to it where it is not next.
    builder.continue_at(tree);
    let number = builder.push(LOAD_WORD, NUMBER_OFFSET);
    builder.branch(JUMP_IF_EQUAL, filter.architecture, number, foreign);
    builder.push(LOAD_WORD, ARCHITECTURE_OFFSET);
    builder.reversed.reverse();
    builder.reversed
}

/// The program as the kernel reads it from memory: 8 bytes each, in this host's byte order.
pub fn to_bytes(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    bytes
}

/// An instruction already made, by its place counted from the program's end.
#[derive(Clone, Copy)]
struct Label(usize);

#[derive(Default)]
struct Builder {
    reversed: Vec<Instruction>,
    leaves: BTreeMap<Action, Label>,
}

impl Builder {
    fn tree(&mut self, spans: &[Span]) -> Label {
        if let [span] = spans {
            return self.rule(&span.rule);
        }
        let (low, high) = spans.split_at(spans.len() / 2);
        let first_high = high.first().expect("a filter has at least one span").first;
        let high = self.tree(high);
        let low = self.tree(low);
        self.branch(JUMP_IF_AT_LEAST, first_high, high, low)
    }

    fn rule(&mut self, rule: &Rule) -> Label {
        match rule {
            Rule::Always(action) => self.action(*action),
            Rule::Switch(switch) => self.switch(switch),
        }
    }

    fn switch(&mut self, switch: &Switch) -> Label {
        let mut next = self.action(switch.otherwise);
        let cases: Vec<_> = switch.cases.iter().map(|case| (case.0, self.rule(&case.1))).collect();
        for (values, target) in cases.into_iter().rev() {
            for value in values.iter().rev() {
                next = self.branch(JUMP_IF_EQUAL, *value, target, next);
            }
        }
        self.continue_at(next);
        if switch.mask != u32::MAX {
            self.push(AND, switch.mask);
        }
        self.push(LOAD_WORD, ARGUMENTS_OFFSET + 8 * u32::from(switch.argument))
    }

    /// A return; made again where the last one like it is out of reach.
    fn action(&mut self, action: Action) -> Label {
        if let Some(label) = self.leaves.get(&action)
            && self.reversed.len() - label.0 <= REACH / 2
        {
            return *label;
        }
        let label = self.push(RETURN, action.verdict());
        self.leaves.insert(action, label);
        label
    }

    fn branch(&mut self, code: u16, k: u32, holds: Label, fails: Label) -> Label {
        let holds = self.near(holds);
        let fails = self.near(fails);
        let (jt, jf) = (self.skip(holds), self.skip(fails));
        let short = |skip: u32| u8::try_from(skip).expect("near() keeps targets within reach");
        self.reversed.push(Instruction { code, jt: short(jt), jf: short(jf), k });
        Label(self.reversed.len() - 1)
    }

    /// A label within reach of the next instructions: the target, or a jump to it.
    fn near(&mut self, target: Label) -> Label {
        if self.reversed.len() - target.0 <= REACH {
            return target;
        }
        self.push(JUMP, self.skip(target))
    }

    /// Makes sure that the instruction pushed next runs on into `target`.
    fn continue_at(&mut self, target: Label) {
        let skip = self.skip(target);
        if skip > 0 {
            self.push(JUMP, skip);
        }
    }

    /// Instructions between the next one pushed and `target`.
    fn skip(&self, target: Label) -> u32 {
        let skip = self.reversed.len() - 1 - target.0;
        u32::try_from(skip).expect("a program has far fewer instructions than 2^32")
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt: 0, jf: 0, k });
        Label(self.reversed.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::machine::{Call, RULES, meaning, run};
    use super::*;

    fn filters() -> impl Strategy<Value = Filter> {
        let spans = proptest::collection::btree_map(1_u32..2000, 0..RULES.len(), 0..400);
        (spans, 0..RULES.len()).prop_map(|(spans, first)| {
            let spans = std::iter::once((0, first)).chain(spans);
            let spans = spans.map(|(first, rule)| Span { first, rule: RULES[rule] }).collect();
            Filter { architecture: 7, spans, foreign: Action::Errno(2) }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_program_decides_as_its_rules_say(
            filter in filters(),
            calls in proptest::collection::vec((0_u32..2100, 0_u64..64, 0_u64..3, 0_u64..5), 64),
        ) {
            let program = compile(&filter);
            prop_assert!(program.len() <= 4096);
            for (number, first, second, last) in calls {
                let high = if number.is_multiple_of(2) { 1 << 40 } else { 0 };
                let arguments = [first | high, second, 0, 0, 0, last | high];
                let mut call = Call { architecture: 7, number, arguments };
                prop_assert_eq!(run(&program, &call), meaning(&filter, &call).verdict());
                call.architecture = 8;
                prop_assert_eq!(run(&program, &call), Action::Errno(2).verdict());
            }
        }
    }

    #[test]
    fn bytes_have_the_kernels_layout() {
        let bytes = to_bytes(&[Instruction { code: 0x15, jt: 1, jf: 2, k: 0x0102_0304 }]);
        let mut expected = 0x15_u16.to_ne_bytes().to_vec();
        expected.extend([1, 2]);
        expected.extend(0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes, expected);
    }
}
