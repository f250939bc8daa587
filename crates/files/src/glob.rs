//! Shell patterns for one name: `*`, `?`, `[a-z]`, `[!a-z]`, and backslash before a literal character.

/// Longest pattern, bytes. With names of at most 255 it bounds a match to some 10^5 steps.
pub(crate) const MOST: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Literal(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Part {
    fn takes(&self, found: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Literal(wanted) => *wanted == found,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&found)) != *negated
            }
        }
    }
}

/// A pattern, read once.
#[derive(Clone, Debug)]
pub(crate) struct Glob(Vec<Part>);

impl Glob {
    /// Reads a pattern; a `[` that is never closed is an ordinary character. `None` when it is longer
    /// than [`MOST`] or empty.
    pub(crate) fn parse(pattern: &str) -> Option<Self> {
        if pattern.is_empty() || pattern.len() > MOST {
            return None;
        }
        let chars: Vec<char> = pattern.chars().collect();
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(current) = chars.get(at) {
            at += 1;
            parts.push(match current {
                '*' if parts.last() == Some(&Part::Any) => continue,
                '*' => Part::Any,
                '?' => Part::One,
                '\\' if at < chars.len() => {
                    at += 1;
                    Part::Literal(chars[at - 1])
                }
                '[' => match class(&chars[at..]) {
                    Some((part, length)) => {
                        at += length;
                        part
                    }
                    None => Part::Literal('['),
                },
                other => Part::Literal(*other),
            });
        }
        Some(Self(parts))
    }

    /// Whether the whole name fits. Only the last `*` is ever tried again: no pattern explodes.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut rest = name.chars();
        let mut part = 0;
        let mut again: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if self.0.get(part) == Some(&Part::Any) {
                part += 1;
                again = Some((part, rest.clone()));
                continue;
            }
            let mut next = rest.clone();
            match (next.next(), self.0.get(part)) {
                (None, None) => return true,
                (Some(found), Some(wanted)) if wanted.takes(found) => {
                    rest = next;
                    part += 1;
                }
                _ => {
                    let Some((after, mut from)) = again.take() else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (part, rest) = (after, from.clone());
                    again = Some((after, from));
                }
            }
        }
    }

    /// The same without cleverness, in time and space of pattern times name: the oracle of the fuzz body.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn matches_by_trying_all(&self, name: &str) -> bool {
        let mut reached = vec![false; self.0.len() + 1];
        reached[0] = true;
        let through_stars = |reached: &mut Vec<bool>| {
            for at in 0..self.0.len() {
                reached[at + 1] |= reached[at] && self.0[at] == Part::Any;
            }
        };
        through_stars(&mut reached);
        for found in name.chars() {
            let mut next = vec![false; reached.len()];
            for at in (0..self.0.len()).filter(|at| reached[*at]) {
                match &self.0[at] {
                    Part::Any => next[at] = true,
                    part => next[at + 1] |= part.takes(found),
                }
            }
            through_stars(&mut next);
            reached = next;
        }
        reached[self.0.len()]
    }
}

/// Reads a class after its `[`: the part and how many characters it took, `]` included.
fn class(chars: &[char]) -> Option<(Part, usize)> {
    let negated = matches!(chars.first(), Some('!' | '^'));
    let first = usize::from(negated);
    // A `]` right at the beginning is a member.
    let end = (first + 1..chars.len()).find(|at| chars[*at] == ']')?;
    let mut ranges = Vec::new();
    let mut at = first;
    while at < end {
        let is_range = at + 2 < end && chars[at + 1] == '-';
        let last = if is_range { at + 2 } else { at };
        ranges.push((chars[at], chars[last]));
        at = last + 1;
    }
    Some((Part::Class { negated, ranges }, end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_as_a_shell_does() {
        let cases = [
            ("*", "", true),
            ("*", ".hidden", true),
            ("*.rs", "main.rs", true),
            ("*.rs", "main.rss", false),
            ("m*n.*s", "main.rs", true),
            ("?ain", "main", true),
            ("?", "ä", true),
            ("?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("[abc", "[abc", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("**a**", "bab", true),
            ("README", "readme", false),
            ("a/b", "b", false),
        ];
        for (pattern, name, expected) in cases {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(glob.matches(name), expected, "{pattern} on {name}");
        }
        assert!(Glob::parse("").is_none());
        assert!(Glob::parse(&"x".repeat(MOST + 1)).is_none());
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let glob = Glob::parse(&"*a".repeat(MOST / 2 - 1)).unwrap();
        let name = "a".repeat(254) + "b";
        for _ in 0..1000 {
            assert!(!glob.matches(&name));
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_a_name_matches_itself(pattern in "[a-z*?!\\[\\]\\\\-]{1,20}", name in "[a-z.]{0,30}") {
            let _ = Glob::parse(&pattern).unwrap().matches(&name);
            if !name.is_empty() {
                prop_assert!(Glob::parse(&name).unwrap().matches(&name));
                let starred = format!("*{name}*");
                prop_assert!(Glob::parse(&starred).unwrap().matches(&name));
            }
        }
    }
}
