//! Seeded mutations of good input, for tests of parsers of foreign bytes.

/// Calls `check` with 20,000 inputs made of the good one by cuts, flips, copies and noise.
pub(crate) fn mutations(good: &[u8], mut check: impl FnMut(&[u8])) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap_or(0) % bound.max(1)
    };
    for _ in 0..20_000 {
        let mut bytes = good.to_vec();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            match next(5) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at..),
                2 => bytes.extend((0..next(40)).map(|_| u8::try_from(next(256)).unwrap_or(0))),
                3 => bytes.insert(at, u8::try_from(next(256)).unwrap_or(0)),
                _ if !bytes.is_empty() => bytes[at] = u8::try_from(next(256)).unwrap_or(0),
                _ => {}
            }
        }
        check(&bytes);
    }
}
