//! What of a preview's request goes inside, and what of its answer comes out.
//!
//! Nothing that opens anything goes inside: no key, token or cookie of ours, neither by itself nor as part of where
//! the visitor came from. Nothing comes out that could reach beyond the sandbox's own host name.

use axum::http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, COOKIE, EXPECT,
    FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, ORIGIN, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, REFERER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// Query parameter and, in part, name of the cookie that carry a token.
pub(crate) const PARAMETER: &str = "DAYTONA_SANDBOX_AUTH_KEY";
/// Header that carries a token.
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-daytona-preview-token");
/// Cookie that carries a token; it never goes inside.
pub(crate) const COOKIE_NAME: &str = "mayfly-preview";

/// Names that the visitor and the preview go by.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The host that the visitor used.
    pub(crate) outside: String,
    /// The host as the service inside sees it: without a token.
    pub(crate) inside: String,
    /// Beginning of the path that is cut off inside; empty for previews by host.
    pub(crate) prefix: String,
    /// Address of the visitor.
    pub(crate) visitor: String,
    /// Scheme that the visitor used.
    pub(crate) scheme: String,
}

impl Names {
    fn by_path(&self) -> bool {
        !self.prefix.is_empty()
    }
}

/// Headers that belong to one connection only.
fn is_of_connection(name: &HeaderName) -> bool {
    [
        CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        CONTENT_LENGTH,
        EXPECT,
    ]
    .contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Names that the Connection headers add to those.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// The protocol that a request asks to change to, or an answer changes to.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = named_by_connection(headers).iter().any(|name| name == "upgrade");
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// Names the new protocol in a request or an answer.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// The headers that go inside.
pub(crate) fn inward(given: &HeaderMap, names: &Names) -> HeaderMap {
    let dropped = named_by_connection(given);
    let mut headers = HeaderMap::with_capacity(given.len() + 4);
    for (name, value) in given {
        let text = name.as_str();
        let ours = [AUTHORIZATION, TOKEN, HOST, FORWARDED, COOKIE, REFERER, ORIGIN].contains(name)
            || text.starts_with("x-forwarded-")
            || text == "x-real-ip";
        if !ours && !is_of_connection(name) && !dropped.iter().any(|drop| drop == text) {
            headers.append(name.clone(), value.clone());
        }
    }
    if !names.by_path() {
        for value in given.get_all(COOKIE) {
            if let Some(kept) = without_own(value) {
                headers.append(COOKIE, kept);
            }
        }
    }
    for name in [REFERER, ORIGIN] {
        if let Some(value) = given.get(&name).and_then(|value| came_from(value, names)) {
            headers.insert(name, value);
        }
    }
    let set = |headers: &mut HeaderMap, name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set(&mut headers, "host", &names.inside);
    set(&mut headers, "x-forwarded-host", &names.inside);
    set(&mut headers, "x-forwarded-proto", &names.scheme);
    set(&mut headers, "x-forwarded-for", &names.visitor);
    if names.by_path() {
        set(&mut headers, "x-forwarded-prefix", &names.prefix);
    }
    headers
}

/// Cookies but ours.
fn without_own(value: &HeaderValue) -> Option<HeaderValue> {
    let own = |pair: &[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(COOKIE_NAME.as_bytes())
    };
    let pairs = value.as_bytes().split(|byte| *byte == b';').filter(|pair| !own(pair));
    let kept: Vec<&[u8]> = pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect();
    HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|value| !value.is_empty())
}

/// The values of our cookie.
pub(crate) fn own_cookies(headers: &HeaderMap) -> Vec<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case(COOKIE_NAME))
        .map(|(_, value)| value.trim())
        .collect()
}

/// Where the visitor came from, without tokens; `None` = nothing that may be told.
fn came_from(value: &HeaderValue, names: &Names) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let Some((scheme, rest)) = text.split_once("://") else {
        // `null` and the like; a relative reference could hold a token.
        return (text == "null").then(|| value.clone());
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (mut host, mut path) = (&rest[..end], &rest[end..]);
    if host.eq_ignore_ascii_case(&names.outside) {
        host = &names.inside;
        // Another preview of the same host is none of this one's business.
        path = if path.is_empty() { path } else { path.strip_prefix(&names.prefix)? };
    } else if super::address::of_host(host, host.split_once('.').map_or("", |(_, rest)| rest))
        .is_some()
    {
        // Another preview, whose host may be a token.
        return None;
    }
    let path = path.split('#').next().unwrap_or_default();
    let path = match path.split_once('?') {
        Some((path, query)) => match without_token(query) {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        },
        None => path.to_owned(),
    };
    HeaderValue::from_str(&format!("{scheme}://{host}{path}")).ok()
}

/// A query without our parameter, all else as it was; `None` when nothing is left.
pub(crate) fn without_token(query: &str) -> Option<String> {
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_token_pair(pair)).collect();
    let query = kept.join("&");
    (!query.is_empty()).then_some(query)
}

/// Whether a pair of a query is our parameter, however its name is written.
pub(crate) fn is_token_pair(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    percent_encoding::percent_decode_str(name).eq(PARAMETER.bytes())
}

/// The headers that come out. `bodiless`: the length is not that of a body that follows.
pub(crate) fn outward(given: &HeaderMap, names: &Names, bodiless: bool) -> HeaderMap {
    let dropped = named_by_connection(given);
    let mut headers = HeaderMap::with_capacity(given.len() + 1);
    for (name, value) in given {
        let length = bodiless && name == CONTENT_LENGTH;
        let of_host = *name == ALT_SVC || (names.by_path() && name == "clear-site-data");
        if (is_of_connection(name) && !length)
            || of_host
            || dropped.iter().any(|drop| drop == name.as_str())
        {
            continue;
        }
        let value = match name {
            name if *name == SET_COOKIE && names.by_path() => None,
            name if *name == SET_COOKIE => host_only(value),
            name if *name == LOCATION => Some(leads_to(value, names)),
            _ => Some(value.clone()),
        };
        if let Some(value) = value {
            headers.append(name.clone(), value);
        }
    }
    if names.by_path() {
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
    headers
}

/// A cookie that the visitor's browser gives to this host only; `None` = one of our name.
fn host_only(value: &HeaderValue) -> Option<HeaderValue> {
    let mut parts = value.as_bytes().split(|byte| *byte == b';');
    let first = parts.next().unwrap_or_default();
    let name_of = |part: &[u8]| {
        part.split(|byte| *byte == b'=')
            .next()
            .unwrap_or_default()
            .trim_ascii()
            .to_ascii_lowercase()
    };
    if name_of(first) == COOKIE_NAME.as_bytes() {
        return None;
    }
    let mut kept = vec![first];
    kept.extend(parts.filter(|part| name_of(part) != b"domain"));
    HeaderValue::from_bytes(&kept.join(&b";"[..])).ok()
}

/// Where an answer leads, under the name that the visitor used.
fn leads_to(value: &HeaderValue, names: &Names) -> HeaderValue {
    let Ok(text) = value.to_str() else { return value.clone() };
    let moved = if text.starts_with('/') && !text.starts_with("//") && names.by_path() {
        Some(format!("{}{text}", names.prefix))
    } else {
        text.split_once("://").and_then(|(scheme, rest)| {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let same = rest[..end].eq_ignore_ascii_case(&names.inside);
            let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            (same && web && names.inside != names.outside).then(|| {
                format!("{}://{}{}{}", names.scheme, names.outside, names.prefix, &rest[end..])
            })
        })
    };
    moved.and_then(|text| HeaderValue::from_str(&text).ok()).unwrap_or_else(|| value.clone())
}

#[cfg(test)]
mod tests;
