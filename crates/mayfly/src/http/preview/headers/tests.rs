//! N12: what may cross between a visitor and a sandbox, header by header.

use super::*;

const INSIDE: &str = "3000-0192f0c1-2b3c-7def-8123-456789abcdef.localhost:3457";

fn names() -> Names {
    Names {
        outside: format!("3000-{}.localhost:3457", "a".repeat(56)),
        inside: INSIDE.to_owned(),
        prefix: String::new(),
        visitor: "192.0.2.7".to_owned(),
        scheme: "http".to_owned(),
    }
}

fn by_path() -> Names {
    Names {
        outside: "127.0.0.1:3458".to_owned(),
        inside: "localhost:3000".to_owned(),
        prefix: "/0192f0c1-2b3c-7def-8123-456789abcdef/3000".to_owned(),
        ..names()
    }
}

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn n12_nothing_that_opens_anything_goes_inside() {
    let given = map(&[
        ("host", "3000-x.localhost"),
        ("authorization", "Bearer mf_key_secret"),
        ("x-daytona-preview-token", "secret"),
        ("cookie", "a=1; mayfly-preview=secret;b=2"),
        ("cookie", "Mayfly-Preview = secret"),
        ("proxy-authorization", "secret"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "evil"),
        ("x-real-ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("accept", "text/html"),
        ("x-own", "1"),
        ("x-own", "2"),
    ]);
    let inside = inward(&given, &names());
    let text = format!("{inside:?}");
    assert!(
        !text.contains("secret") && !text.contains("10.0.0.1") && !text.contains("evil"),
        "{text}"
    );
    assert_eq!(all(&inside, "cookie"), ["a=1; b=2"]);
    assert_eq!(all(&inside, "x-own"), ["1", "2"]);
    assert_eq!(all(&inside, "host"), [INSIDE]);
    assert_eq!(all(&inside, "x-forwarded-host"), [INSIDE]);
    assert_eq!(all(&inside, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(all(&inward(&given, &by_path()), "cookie"), [""; 0]);
}

#[test]
fn n12_headers_of_one_connection_stay_there() {
    let given = map(&[
        ("connection", "keep-alive, X-Drop"),
        ("connection", "upgrade, host"),
        ("x-drop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("upgrade", "websocket"),
        ("expect", "100-continue"),
        ("x-keep", "1"),
    ]);
    for kept in [inward(&given, &names()), outward(&given, &names(), false)] {
        for gone in [
            "connection",
            "x-drop",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "content-length",
            "upgrade",
            "expect",
        ] {
            assert!(!kept.contains_key(gone), "{gone}");
        }
        assert!(kept.contains_key("x-keep"));
    }
    assert_eq!(all(&inward(&given, &names()), "host"), [INSIDE]);
    assert_eq!(all(&outward(&given, &names(), true), "content-length"), ["5"]);
    assert_eq!(upgrade(&given).unwrap(), "websocket");
    assert!(upgrade(&map(&[("upgrade", "h2c")])).is_none(), "named by Connection or not at all");
}

#[test]
fn n12_where_a_visitor_came_from_tells_no_token() {
    let token = "a".repeat(56);
    for (referer, expected) in [
        (
            format!("http://3000-{token}.localhost:3457/a?x=1"),
            Some(format!("http://{INSIDE}/a?x=1")),
        ),
        (
            format!("http://3000-{token}.localhost:3457/a?DAYTONA_SANDBOX_AUTH_KEY=s&x=%20#frag"),
            Some(format!("http://{INSIDE}/a?x=%20")),
        ),
        (
            "https://example.com/?DAYTONA%5FSANDBOX_AUTH_KEY=s".to_owned(),
            Some("https://example.com/".to_owned()),
        ),
        (format!("http://80-{token}.localhost:3457/"), None),
        (format!("http://80-{token}.other.example/"), None),
        ("null".to_owned(), Some("null".to_owned())),
        ("/?DAYTONA_SANDBOX_AUTH_KEY=s".to_owned(), None),
    ] {
        for name in ["referer", "origin"] {
            let inside = inward(&map(&[(name, &referer)]), &names());
            let seen = inside.get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(seen, expected, "{name}: {referer}");
        }
    }
    let path = by_path().prefix;
    let from = |referer: &str| {
        let inside = inward(&map(&[("referer", referer)]), &by_path());
        inside.get("referer").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(from(&format!("http://127.0.0.1:3458{path}/a")).unwrap(), "http://localhost:3000/a");
    assert_eq!(from("http://127.0.0.1:3458/another/80/a"), None);
}

#[test]
fn n12_what_comes_out_stays_with_the_sandbox_s_own_host() {
    let given = map(&[
        ("set-cookie", "a=1; Path=/; Domain=localhost; HttpOnly"),
        ("set-cookie", "mayfly-preview=stolen"),
        ("set-cookie", "b=2; DOMAIN = .example.com"),
        ("alt-svc", "h3=\":443\""),
        ("clear-site-data", "\"*\""),
        ("location", "/next"),
    ]);
    let out = outward(&given, &names(), false);
    assert_eq!(all(&out, "set-cookie"), ["a=1; Path=/; HttpOnly", "b=2"]);
    assert!(!out.contains_key("alt-svc") && out.contains_key("clear-site-data"));
    assert!(!out.contains_key("content-security-policy"));
    let out = outward(&given, &by_path(), false);
    assert!(!out.contains_key("set-cookie") && !out.contains_key("clear-site-data"));
    assert_eq!(all(&out, "content-security-policy"), ["sandbox"]);
    assert_eq!(all(&out, "location"), [format!("{}/next", by_path().prefix)]);
}

#[test]
fn answers_lead_where_the_visitor_is() {
    let token = "a".repeat(56);
    for (location, expected) in [
        (format!("http://{INSIDE}/a?b#c"), format!("http://3000-{token}.localhost:3457/a?b#c")),
        ("/a".to_owned(), "/a".to_owned()),
        ("//evil/a".to_owned(), "//evil/a".to_owned()),
        ("https://example.com/".to_owned(), "https://example.com/".to_owned()),
    ] {
        let out = outward(&map(&[("location", &location)]), &names(), false);
        assert_eq!(all(&out, "location"), [expected]);
    }
}

#[test]
fn only_our_parameter_leaves_a_query() {
    for (query, expected) in [
        ("DAYTONA_SANDBOX_AUTH_KEY=a", None),
        ("a=%41+b&DAYTONA_SANDBOX_AUTH_KEY&c", Some("a=%41+b&c")),
        ("%44AYTONA_SANDBOX_AUTH_KEY=x&&d=", Some("&d=")),
        ("x=DAYTONA_SANDBOX_AUTH_KEY", Some("x=DAYTONA_SANDBOX_AUTH_KEY")),
    ] {
        assert_eq!(without_token(query).as_deref(), expected, "{query}");
    }
}
