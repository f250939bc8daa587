//! The policy of one sandbox and its text, the form in which it is handed to the network process.
//!
//! ```text
//! mode allow                     block | public | allow (of what cidr and domain lines list)
//! cidr 140.82.112.0/20           listed by the caller
//! domain *.github.com            listed by the caller
//! permit 10.1.0.0/16             private range that the operator lets callers list
//! deny 203.0.113.7/32            what the operator denies besides what is always denied
//! resolver 10.1.0.2:53           the host's resolvers, in order
//! proxy http://user:word@proxy.example:3128
//! connections 1024               open TCP connections, at most
//! flows 256                      open UDP flows, at most
//! internal /run/mayfly/internal  unix socket behind mayfly.internal
//! ```
//! One line each, `key value`; an unknown key or a value that cannot be read refuses the whole text.

use std::fmt;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::cidr::Cidr;
use crate::names::{Name, Pattern};

/// Longest text of a policy, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;
const MAX_RESOLVERS: usize = 4;
const MAX_CONNECTIONS: u32 = 65_536;

/// What a sandbox may reach in principle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing but `mayfly.internal`.
    #[default]
    Block,
    /// The public internet.
    Public,
    /// What the lists name.
    Allow,
}

/// An HTTP proxy that all TCP goes through.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is: an address or a name.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// `user:password`, after percent-decoding.
    pub login: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?}:{})", self.host, self.port)
    }
}

/// An address or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name to be resolved.
    Name(Name),
}

/// What a sandbox may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it may reach in principle. Default: nothing.
    pub mode: Mode,
    /// Ranges listed by the caller.
    pub cidrs: Vec<Cidr>,
    /// Domains listed by the caller.
    pub domains: Vec<Pattern>,
    /// Private ranges that the operator lets callers list.
    pub permitted: Vec<Cidr>,
    /// Ranges that the operator denies.
    pub denied: Vec<Cidr>,
    /// The host's resolvers, 4 at most.
    pub resolvers: Vec<SocketAddr>,
    /// The proxy for all TCP.
    pub proxy: Option<Proxy>,
    /// Open TCP connections at most. Default: 1024.
    pub connections: u32,
    /// Open UDP flows at most. Default: 256.
    pub flows: u32,
    /// Unix socket behind `mayfly.internal`; nothing = refused.
    pub internal: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Block,
            cidrs: Vec::new(),
            domains: Vec::new(),
            permitted: Vec::new(),
            denied: Vec::new(),
            resolvers: Vec::new(),
            proxy: None,
            connections: 1024,
            flows: 256,
            internal: None,
        }
    }
}

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Number of the line, from 1; 0 = the text as a whole.
    pub line: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the network policy: expected {}", self.line, self.expected)
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// Reads a policy; nothing of a text with an error is used.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_TEXT {
            return Err(PolicyError { line: 0, expected: "at most 65536 bytes" });
        }
        let mut policy = Self::default();
        let mut mode = None;
        for (index, line) in text.lines().enumerate() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let taken = match key {
                "mode" if mode.is_some() => Err("one mode only"),
                "mode" => read_mode(value).map(|read| mode = Some(read)),
                key => policy.take(key, value),
            };
            taken.map_err(|expected| PolicyError { line: index + 1, expected })?;
        }
        policy.mode = mode.ok_or(PolicyError { line: 0, expected: "a mode" })?;
        Ok(policy)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "cidr" => self.cidrs.push(read_cidr(value)?),
            "permit" => self.permitted.push(read_cidr(value)?),
            "deny" => self.denied.push(read_cidr(value)?),
            "domain" => {
                self.domains.push(Pattern::parse(value).ok_or("a domain: name or *.name")?);
            }
            "resolver" if self.resolvers.len() == MAX_RESOLVERS => {
                return Err("4 resolvers at most");
            }
            "resolver" => {
                self.resolvers.push(value.parse().map_err(|_| "a resolver: address:port")?);
            }
            "proxy" if self.proxy.is_some() => return Err("one proxy only"),
            "proxy" => {
                self.proxy =
                    Some(Proxy::parse(value).ok_or("a proxy: http://[user:word@]host[:port]")?);
            }
            "connections" => self.connections = read_bound(value)?,
            "flows" => self.flows = read_bound(value)?,
            "internal" if value.starts_with('/') && value.len() <= 107 && !value.contains('\0') => {
                self.internal = Some(value.to_owned());
            }
            "internal" => return Err("an absolute path of 107 bytes at most"),
            _ => return Err("a known key"),
        }
        Ok(())
    }

    /// The text that reads as this policy.
    pub fn to_text(&self) -> String {
        let mode = match self.mode {
            Mode::Block => "block",
            Mode::Public => "public",
            Mode::Allow => "allow",
        };
        let mut text = format!("mode {mode}\n");
        let mut line = |key: &str, value: &dyn fmt::Display| {
            let _ = writeln!(text, "{key} {value}");
        };
        self.cidrs.iter().for_each(|cidr| line("cidr", cidr));
        self.domains.iter().for_each(|domain| line("domain", domain));
        self.permitted.iter().for_each(|cidr| line("permit", cidr));
        self.denied.iter().for_each(|cidr| line("deny", cidr));
        self.resolvers.iter().for_each(|resolver| line("resolver", resolver));
        if let Some(proxy) = &self.proxy {
            line("proxy", &proxy.to_text());
        }
        line("connections", &self.connections);
        line("flows", &self.flows);
        if let Some(path) = &self.internal {
            line("internal", path);
        }
        text
    }
}

fn read_mode(value: &str) -> Result<Mode, &'static str> {
    match value {
        "block" => Ok(Mode::Block),
        "public" => Ok(Mode::Public),
        "allow" => Ok(Mode::Allow),
        _ => Err("a mode: block, public or allow"),
    }
}

fn read_cidr(value: &str) -> Result<Cidr, &'static str> {
    value.parse().map_err(|()| "a range: address/length without bits beyond the length")
}

fn read_bound(value: &str) -> Result<u32, &'static str> {
    let bound = value.parse().ok().filter(|bound| *bound <= MAX_CONNECTIONS);
    bound.ok_or("a number of 65536 at most")
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`, optionally with a last `/`; the port is 80 without one.
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, authority) = match rest.rsplit_once('@') {
            Some((login, authority)) => (Some(percent_decoded(login)?), authority),
            None => (None, rest),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, 80),
        };
        let address = match host.strip_prefix('[') {
            Some(inner) => Some(IpAddr::V6(inner.strip_suffix(']')?.parse().ok()?)),
            None => host.parse().ok().map(IpAddr::V4),
        };
        let host = match address {
            Some(address) => Host::Address(address.to_canonical()),
            None => Host::Name(Name::parse(host)?),
        };
        (port != 0).then_some(Self { host, port, login })
    }

    fn to_text(&self) -> String {
        let login = self.login.as_deref().map_or_else(String::new, |login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            format!("{}:{}@", percent_encoded(user), percent_encoded(password))
        });
        let host = match &self.host {
            Host::Address(IpAddr::V6(v6)) => format!("[{v6}]"),
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.to_string(),
        };
        format!("http://{login}{host}:{}", self.port)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    text.bytes().all(|byte| !byte.is_ascii_control()).then_some(text)
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_back_from_its_text() {
        let text = "mode allow\ncidr 10.1.2.0/24\ncidr 2606:4700::/32\ndomain example.com\n\
                    domain *.x.org\npermit 10.0.0.0/8\ndeny 1.1.1.1/32\nresolver 127.0.0.53:53\n\
                    proxy http://u%3A:p%40w@[2606::1]:3128\nconnections 7\nflows 9\ninternal /run/x y\n";
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.proxy.as_ref().unwrap().login.as_deref(), Some("u::p@w"));
        let again = Policy::parse(&policy.to_text()).unwrap();
        assert_eq!((again.cidrs, again.domains), (policy.cidrs, policy.domains));
        assert_eq!((again.connections, again.internal), (7, Some("/run/x y".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_refuses_the_whole_text() {
        for (text, line) in [
            ("", 0),
            ("mode", 1),
            ("mode none", 1),
            ("mode public\nmode block", 2),
            ("mode public\ncolour red", 2),
            ("mode public\n\n", 2),
            ("mode allow\ncidr 10.0.0.1/8", 2),
            ("mode allow\ncidr", 2),
            ("mode allow\ndomain ", 2),
            ("mode allow\ndomain *", 2),
            ("mode allow\ndomain bücher.de", 2),
            ("mode allow\nresolver 1.1.1.1", 2),
            ("mode allow\nproxy https://a:1", 2),
            ("mode allow\nproxy http://a:0", 2),
            ("mode allow\nproxy http://a/b", 2),
            ("mode allow\nproxy http://u:a%0d%0a@b", 2),
            ("mode allow\nconnections 65537", 2),
            ("mode allow\nconnections -1", 2),
            ("mode allow\ninternal run", 2),
        ] {
            assert_eq!(Policy::parse(text).map_err(|error| error.line), Err(line), "{text:?}");
        }
        let long = format!("mode public\n{}", "deny 1.1.1.1\n".repeat(6000));
        assert_eq!(Policy::parse(&long).map_err(|error| error.line), Err(0));
    }

    #[test]
    fn random_texts_never_panic() {
        crate::seeded::mutations(
            b"mode allow\ncidr 1.2.3.4/8\nproxy http://a:b@[::1]:2",
            |bytes| {
                let _ = Policy::parse(&String::from_utf8_lossy(bytes));
            },
        );
    }
}
