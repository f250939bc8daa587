//! From what a caller asks for and the operator decides to the text that the network process takes.

use std::fmt::Display;
use std::str::FromStr;

use mayfly_core::network::NetworkPolicy;
use mayfly_core::{Error, Kind, Result};
use mayfly_net::cidr::Cidr;
use mayfly_net::names::Pattern;
use mayfly_net::policy::{MAX_TEXT, Mode, Policy, Proxy};

use super::options::NetworkOptions;

/// The policy of a namespace that is no sandbox's yet.
pub(super) const WAITING: &str = "mode block\n";

/// The text of a policy; [`Kind::Invalid`] when the process would not take it.
pub(super) fn text(wanted: &NetworkPolicy, options: &NetworkOptions) -> Result<String> {
    let mode = match wanted {
        NetworkPolicy { block_all: true, .. } => Mode::Block,
        wanted if wanted.lists() => Mode::Allow,
        _ => Mode::Public,
    };
    let proxy = wanted.proxy.as_ref().or(options.proxy.as_ref());
    let proxy = proxy
        .map(|url| Proxy::parse(url.as_str()).ok_or_else(|| unreadable("the proxy")))
        .transpose()?;
    let internal = options.internal.as_ref().map(|path| path.display().to_string());
    let policy = Policy {
        mode,
        cidrs: each(&wanted.cidrs)?,
        domains: wanted
            .domains
            .iter()
            .map(|domain| Pattern::parse(domain.as_str()).ok_or_else(|| unreadable(domain)))
            .collect::<Result<_>>()?,
        permitted: each(&options.permitted)?,
        denied: each(&options.denied)?,
        resolvers: options.resolvers.clone(),
        proxy,
        connections: options.connections,
        flows: options.flows,
        internal,
    };
    let text = policy.to_text();
    if text.len() <= MAX_TEXT {
        return Ok(text);
    }
    Err(Error::invalid(format!(
        "the network policy is {} bytes long: expected at most {MAX_TEXT}",
        text.len()
    ))
    .with_hint("list fewer ranges and domains"))
}

fn each(cidrs: &[mayfly_core::network::Cidr]) -> Result<Vec<Cidr>> {
    cidrs
        .iter()
        .map(|cidr| Cidr::from_str(&cidr.to_string()).map_err(|()| unreadable(cidr)))
        .collect()
}

fn unreadable(what: &(impl Display + ?Sized)) -> Error {
    Error::new(Kind::Invalid, format!("the network process cannot read `{what}`"))
}

#[cfg(test)]
mod tests {
    use mayfly_core::network::{cidrs, domains};

    use super::*;

    #[test]
    fn what_the_core_accepts_the_process_reads() {
        let wanted = NetworkPolicy {
            block_all: false,
            cidrs: cidrs("1.2.3.0/24,0.0.0.0/0,::/0,2606:4700::/32,10.0.0.1").unwrap(),
            domains: domains("a.com,*.b.org,x_y.Z.io.").unwrap(),
            proxy: Some("http://u%3A:p%40w@[2606::1]:3128/".parse().unwrap()),
        };
        let options = NetworkOptions {
            permitted: cidrs("10.0.0.0/8,fd00::/8").unwrap(),
            denied: cidrs("203.0.113.7").unwrap(),
            resolvers: vec!["127.0.0.53:53".parse().unwrap()],
            internal: Some("/run/x y".into()),
            ..NetworkOptions::default()
        };
        let read = Policy::parse(&text(&wanted, &options).unwrap()).unwrap();
        assert_eq!((read.mode, read.cidrs.len(), read.domains.len()), (Mode::Allow, 5, 3));
        assert_eq!((read.permitted.len(), read.denied.len()), (2, 1));
        assert!(read.proxy.is_some() && read.internal.as_deref() == Some("/run/x y"));
    }

    #[test]
    fn block_all_wins_over_lists_and_no_list_is_the_public_internet() {
        let mode = |wanted: &NetworkPolicy| {
            let text = text(wanted, &NetworkOptions::default()).unwrap();
            Policy::parse(&text).unwrap().mode
        };
        let mut wanted = NetworkPolicy::default();
        assert_eq!(mode(&wanted), Mode::Public);
        wanted.domains = domains("a.com").unwrap();
        assert_eq!(mode(&wanted), Mode::Allow);
        wanted.block_all = true;
        assert_eq!(mode(&wanted), Mode::Block);
        assert_eq!(Policy::parse(WAITING).unwrap(), Policy::default());
    }
}
