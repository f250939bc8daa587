//! A classic BPF machine and the plain meaning of a filter, to judge compiled programs by; in no shipped build.

use super::{Action, Filter, Instruction, Rule, Switch};

/// What the kernel hands to a filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

/// The verdict of a program, by the rules of classic BPF as seccomp uses it.
pub(super) fn run(program: &[Instruction], call: &Call) -> u32 {
    let mut data = [0_u8; 64];
    data[..4].copy_from_slice(&call.number.to_le_bytes());
    data[4..8].copy_from_slice(&call.architecture.to_le_bytes());
    for (place, argument) in call.arguments.iter().enumerate() {
        data[16 + place * 8..24 + place * 8].copy_from_slice(&argument.to_le_bytes());
    }
    let (mut next, mut accumulator) = (0, 0_u32);
    loop {
        let at = program[next];
        next += 1;
        let compare = match at.code {
            0x20 => {
                let from = at.k as usize;
                let word = [data[from], data[from + 1], data[from + 2], data[from + 3]];
                accumulator = u32::from_le_bytes(word);
                continue;
            }
            0x54 => {
                accumulator &= at.k;
                continue;
            }
            0x05 => {
                next += at.k as usize;
                continue;
            }
            0x06 => return at.k,
            0x15 => accumulator == at.k,
            0x25 => accumulator > at.k,
            0x35 => accumulator >= at.k,
            0x45 => accumulator & at.k != 0,
            code => panic!("operation {code:#x} is not interpreted"),
        };
        next += usize::from(if compare { at.jt } else { at.jf });
    }
}

/// What a filter says, read from its rules without compiling them.
pub(super) fn meaning(filter: &Filter, call: &Call) -> Action {
    fn decide(rule: &Rule, call: &Call) -> Action {
        match rule {
            Rule::Always(action) => *action,
            Rule::Switch(switch) => {
                let low = call.arguments[usize::from(switch.argument)] & 0xffff_ffff;
                let low = u32::try_from(low).expect("the upper half is masked off");
                let value = low & switch.mask;
                let case = switch.cases.iter().find(|case| case.0.contains(&value));
                case.map_or(switch.otherwise, |case| decide(&case.1, call))
            }
        }
    }
    if call.architecture != filter.architecture {
        return filter.foreign;
    }
    let span = filter.spans.iter().rev().find(|span| span.first <= call.number);
    let span = span.expect("the first span begins at 0");
    decide(&span.rule, call)
}

pub(super) const RULES: [Rule; 5] = [
    Rule::Always(Action::Allow),
    Rule::Always(Action::Errno(1)),
    Rule::Always(Action::Errno(38)),
    Rule::Switch(Switch {
        argument: 0,
        mask: 0xf0,
        cases: &[(&[0x10, 0x20], Rule::Always(Action::Allow))],
        otherwise: Action::Errno(1),
    }),
    Rule::Switch(Switch {
        argument: 5,
        mask: u32::MAX,
        cases: &[
            (&[1], Rule::Always(Action::Errno(9))),
            (
                &[2, 3],
                Rule::Switch(Switch {
                    argument: 1,
                    mask: 1,
                    cases: &[(&[1], Rule::Always(Action::Allow))],
                    otherwise: Action::Errno(22),
                }),
            ),
        ],
        otherwise: Action::Allow,
    }),
];
