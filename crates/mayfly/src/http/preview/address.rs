//! Which sandbox and port a preview request means: by its host, or by the beginning of its path.

use mayfly_core::id::SandboxId;

use super::link;
use crate::http::fault::{Answer, Fault};

/// What a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Port inside, never 0.
    pub(crate) port: u16,
    /// The sandbox, or a signed token that stands for it.
    pub(crate) named: Named,
}

/// How the sandbox is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// By its id.
    Sandbox(SandboxId),
    /// By a signed token, not yet checked.
    Signed(String),
}

/// Reads a host of the form `{port}-{id or token}.{domain}`.
///
/// `None` = no preview host, so the API answers. A host of that form in another domain is refused, so that the
/// API never answers under the name of a preview.
pub(crate) fn of_host(host: &str, domain: &str) -> Option<Answer<Address>> {
    let (name, domain) = (without_port(host).to_ascii_lowercase(), without_port(domain));
    let (label, rest) = name.split_once('.')?;
    let digits = label.bytes().take_while(u8::is_ascii_digit).count();
    let whom = label[digits..].strip_prefix('-').filter(|_| digits > 0)?;
    let ours = rest.strip_suffix('.').unwrap_or(rest).eq_ignore_ascii_case(domain);
    let named = whom
        .parse()
        .map(Named::Sandbox)
        .ok()
        .or_else(|| link::is_token(whom).then(|| Named::Signed(whom.to_owned())));
    match named {
        Some(named) if ours => Some(port(&label[..digits]).map(|port| Address { port, named })),
        Some(_) => Some(Err(Fault::new(
            axum::http::StatusCode::MISDIRECTED_REQUEST,
            format!("this server shows previews below the domain {domain} only"),
        ))),
        None if ours => Some(Err(Fault::bad_request(
            "a preview's host reads {port}-{sandbox id}: ask for the preview URL",
        ))),
        None => None,
    }
}

/// Reads a path of the form `/{id}/{port}/...`; also gives the length of that beginning.
pub(crate) fn of_path(path: &str) -> Answer<(Address, usize)> {
    let mut parts = path.splitn(4, '/').skip(1);
    let (Some(id), Some(number)) = (parts.next(), parts.next()) else { return Err(no_such_path()) };
    let id: SandboxId = id.parse().map_err(|_| no_such_path())?;
    let address = Address { port: port(number)?, named: Named::Sandbox(id) };
    Ok((address, 2 + path[1..].find('/').unwrap_or_default() + number.len()))
}

fn no_such_path() -> Fault {
    Fault::new(axum::http::StatusCode::NOT_FOUND, "a preview's path reads /{sandbox id}/{port}/...")
}

/// A port number of a URL.
pub(crate) fn port(text: &str) -> Answer<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or_else(|| {
        Fault::bad_request(format!(
            "port: expected a number from 1 to 65535, not `{}`",
            text.chars().take(16).collect::<String>()
        ))
    })
}

/// A host without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192f0c1-2b3c-7def-8123-456789abcdef";

    fn status(answer: Answer<Address>) -> u16 {
        answer.map_or_else(|fault| fault.status.as_u16(), |_| 200)
    }

    #[test]
    fn hosts_name_a_sandbox_and_a_port_or_are_not_ours() {
        let domain = "localhost:3457";
        let named = Named::Sandbox(ID.parse().unwrap());
        for host in [
            format!("3000-{ID}.localhost:3457"),
            format!("3000-{ID}.LOCALHOST"),
            format!("3000-{}.localhost.:80", ID.to_uppercase()),
        ] {
            let address = of_host(&host, domain).unwrap().unwrap();
            assert_eq!(address, Address { port: 3000, named: named.clone() }, "{host}");
        }
        for (host, expected) in [
            (format!("0-{ID}.localhost"), 400),
            (format!("65536-{ID}.localhost"), 400),
            (format!("99999999999999999999-{ID}.localhost"), 400),
            ("3000-box.localhost".to_owned(), 400),
            ("3000-.localhost".to_owned(), 400),
            (format!("3000-{ID}.example.com"), 421),
            (format!("3000-{ID}.x.localhost"), 421),
            (format!("3000-{ID}.localhost.evil"), 421),
        ] {
            assert_eq!(of_host(&host, domain).map(status), Some(expected), "{host}");
        }
        for host in
            ["localhost", "127.0.0.1:3457", "[::1]:3457", "box.localhost", "5-box.example.com", ""]
        {
            assert!(of_host(host, domain).is_none(), "{host}");
        }
        let token = "a".repeat(56);
        let signed = of_host(&format!("80-{token}.localhost"), domain).unwrap().unwrap();
        assert_eq!(signed, Address { port: 80, named: Named::Signed(token) });
    }

    #[test]
    fn paths_begin_with_the_sandbox_and_the_port() {
        for rest in ["", "/", "/a/b", "//x"] {
            let path = format!("/{ID}/3000{rest}");
            let (address, length) = of_path(&path).unwrap();
            assert_eq!((address.port, &path[length..]), (3000, rest));
        }
        for path in ["", "/", "/x", "/x/3000/", &format!("/{ID}"), &format!("{ID}/3000")] {
            assert_eq!(of_path(path).unwrap_err().status.as_u16(), 404, "{path}");
        }
        for port in ["", "0", "65536", "+80", "x", "0x50"] {
            let path = format!("/{ID}/{port}/");
            assert_eq!(of_path(&path).unwrap_err().status.as_u16(), 400, "{path}");
        }
    }
}
