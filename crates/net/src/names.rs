//! Domain names and the patterns of an allow list.

use std::fmt;

/// A domain name in lower case without its last dot; 1 to 253 bytes, labels of letters, digits, `-`, `_`.
///
/// Names in other scripts come as their punycode text (`xn--…`); their last label is never a number, so that
/// no name can be taken for an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Reads a name in any case, with or without its last dot; nothing when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
            || (last.starts_with("0x") || last.starts_with("0X"));
        let is_name = text.len() <= 253 && text.split('.').all(is_label) && !is_number;
        is_name.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One entry of a domain allow list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// This name and no other.
    Exact(Name),
    /// `*.name`: every name below, of any depth, but not the name itself.
    Below(Name),
}

impl Pattern {
    /// Reads `name` or `*.name`; nothing for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(rest) => Name::parse(rest).map(Self::Below),
            None => Name::parse(text).map(Self::Exact),
        }
    }

    /// Whether the pattern names this name, label by label.
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Below(own) => {
                let rest = name.0.strip_suffix(own.as_str());
                rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_strictly() {
        let long = format!("{}.com", "a".repeat(64));
        let total = format!("{}com", "abcdefg.".repeat(32));
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "é.com",
            "a/b",
            "1.2.3.4",
            "a.0x7f",
            "*.a",
            "*",
            "a:80",
            "[::1]",
            "a.com..",
            "a\0b",
            long.as_str(),
            total.as_str(),
        ] {
            assert_eq!(Name::parse(bad), None, "{bad:?}");
        }
        for (good, text) in [
            ("example.com", "example.com"),
            ("EXAMPLE.Com.", "example.com"),
            ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
            ("_http._tcp.deb.debian.org", "_http._tcp.deb.debian.org"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(Name::parse(good).unwrap().as_str(), text);
        }
    }

    #[test]
    fn patterns_match_whole_labels() {
        for (pattern, name, expected) in [
            ("example.com", "example.com", true),
            ("Example.COM.", "eXample.com.", true),
            ("example.com", "www.example.com", false),
            ("example.com", "badexample.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", "example.com.evil.org", false),
            ("*.com", "a.com", true),
        ] {
            let name = Name::parse(name).unwrap();
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(&name),
                expected,
                "{pattern} {name}"
            );
        }
        for bad in ["*", "*.", "*a.com", "a.*.com", "**.com", "*.*.com", "*.1.2.3.4", ""] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }
}
