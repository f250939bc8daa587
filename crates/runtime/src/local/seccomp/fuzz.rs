//! Fuzz body of the filter compiler: any filter, compiled, decides as its rules say.

use super::machine::{Call, RULES, meaning, run};
use super::{Action, Filter, Span, compile};

/// A body: its name and the function.
type Body = (&'static str, fn(&[u8]));

pub(crate) const BODIES: &[Body] = &[("seccomp", seccomp)];

/// Most instructions that the kernel loads.
const MOST: usize = 4096;
/// Bytes that a span is made from: distance to the one before it, and its rule.
const SPAN: usize = 3;
/// Bytes that a call is made from, behind the spans: number, then three arguments.
const CALL: usize = 6;

/// First byte: number of calls at the end; the rest are spans.
fn seccomp(bytes: &[u8]) {
    let Some((calls, bytes)) = bytes.split_first() else { return };
    let calls = (usize::from(*calls) * CALL).min(bytes.len());
    let (spans, calls) = bytes.split_at(bytes.len() - calls);
    let rule = |byte: u8| RULES[usize::from(byte) % RULES.len()];
    let mut filter = Filter {
        architecture: 7,
        spans: vec![Span { first: 0, rule: RULES[0] }],
        foreign: Action::Errno(2),
    };
    let mut next = 0;
    for span in spans.chunks_exact(SPAN).take(400) {
        next += 1 + u32::from(span[0]) + u32::from(span[1] & 7) * 256;
        filter.spans.push(Span { first: next, rule: rule(span[2]) });
    }
    let program = compile(&filter);
    assert!(program.len() <= MOST, "{} instructions", program.len());
    for call in calls.chunks_exact(CALL) {
        // The upper half of an argument must never matter.
        let argument = |byte: u8| u64::from(byte) | u64::from(byte & 1) << 40;
        let mut call = Call {
            architecture: 7,
            number: u32::from(u16::from_le_bytes([call[0], call[1]])),
            arguments: [argument(call[2]), argument(call[3]), 0, 0, 0, argument(call[4])],
        };
        assert_eq!(run(&program, &call), meaning(&filter, &call).verdict(), "{call:?}");
        call.architecture = 8;
        assert_eq!(run(&program, &call), filter.foreign.verdict(), "{call:?}");
    }
    for span in &filter.spans {
        let call = Call { architecture: 7, number: span.first, arguments: [0; 6] };
        assert_eq!(run(&program, &call), meaning(&filter, &call).verdict(), "{call:?}");
    }
}
