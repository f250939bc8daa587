//! What comes in: JSON bodies and query parameters, bounded, with errors that name the field.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::app::App;
use super::fault::{Answer, Fault};

/// Most bytes read and thrown away after the limit, so that the refusal reaches a client still sending.
const DRAIN_LIMIT: usize = 16 << 20;
/// Longest silence within a body.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// Most bytes that a refusal quotes of a path or a reason.
const MAX_QUOTE: usize = 256;

/// The next bytes of a body; `None` at its end. Silence over 30 s is 408.
pub(crate) async fn next_chunk(body: &mut Body) -> Answer<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(BODY_PAUSE, body.frame()).await.map_err(|_| {
            Fault::new(StatusCode::REQUEST_TIMEOUT, "the request body stopped for 30 seconds")
        })?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(Fault::bad_body(format!("the request body broke off: {error}")));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read_limited(mut body: Body, limit: usize) -> Answer<Bytes> {
    let Some(first) = next_chunk(&mut body).await? else { return Ok(Bytes::new()) };
    let Some(second) = next_chunk(&mut body).await? else {
        return if first.len() > limit { Err(too_large(limit)) } else { Ok(first) };
    };
    let mut whole = BytesMut::from(first);
    whole.extend_from_slice(&second);
    while whole.len() <= limit {
        match next_chunk(&mut body).await? {
            Some(chunk) => whole.extend_from_slice(&chunk),
            None => return Ok(whole.freeze()),
        }
    }
    let mut drained = 0;
    while drained < DRAIN_LIMIT {
        match next_chunk(&mut body).await {
            Ok(Some(chunk)) => drained += chunk.len(),
            _ => break,
        }
    }
    Err(too_large(limit))
}

fn too_large(limit: usize) -> Fault {
    Fault::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the request body is larger than {limit} bytes"),
    )
}

/// A JSON body. Unknown fields are ignored, wrong types are 400 naming the field, an empty body is `{}`.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &App) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        let bytes = read_limited(body, app.options.max_body).await?;
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        expect_json(&parts.headers)?;
        parse(&bytes).map(Self)
    }
}

fn expect_json(headers: &HeaderMap) -> Answer<()> {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kind.is_empty() || kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json") {
        return Ok(());
    }
    Err(Fault::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("Content-Type `{kind}` is not supported here: expected application/json"),
    ))
}

/// Reads the text of a JSON object; errors name the field and repeat little of what was sent.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Fault::bad_body(format!(
            "the request body is not valid UTF-8 after byte {}",
            error.valid_up_to()
        ))
    })?;
    // Derived readers take an array as the fields in their order, which no contract means.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(Fault::bad_body("the request body is not the expected JSON: it is no object"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = clipped(&error.path().to_string());
        let is_data = error.inner().is_data();
        let reason = clipped(&error.into_inner().to_string());
        if is_data && path != "." {
            Fault::bad_request(format!("{path}: {reason}"))
        } else {
            Fault::bad_body(format!("the request body is not the expected JSON: {reason}"))
        }
    })?;
    json.end().map_err(|_| Fault::bad_body("the request body goes on after its JSON value"))?;
    Ok(value)
}

/// The beginning of a text that may hold what the caller sent.
fn clipped(text: &str) -> String {
    if text.len() <= MAX_QUOTE {
        return text.to_owned();
    }
    let mut short = text[..text.floor_char_boundary(MAX_QUOTE)].to_owned();
    short.push_str("...");
    short
}

/// The query parameters, decoded; a key may come more than once.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Params {
    /// Decodes a query string; text that is not UTF-8 is refused, never replaced.
    pub(crate) fn parse(query: &str) -> Answer<Self> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decode(key)
                .ok_or_else(|| Fault::bad_request("a query parameter's name is not valid UTF-8"))?;
            let value = decode(value).ok_or_else(|| {
                Fault::bad_request(format!("{key}: the query parameter is not valid UTF-8"))
            })?;
            pairs.push((key, value));
        }
        Ok(Self(pairs))
    }

    /// All pairs as they were decoded.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The first value of a key; an empty one counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, value)| name == key && !value.is_empty())
            .map(|(_, v)| v.as_str())
    }

    /// Like [`Params::get`], 400 when it is absent.
    pub(crate) fn require(&self, key: &str) -> Answer<&str> {
        self.get(key).ok_or_else(|| {
            Fault::bad_request(format!("{key}: the query parameter is missing or empty"))
        })
    }

    /// All values of a key; comma lists count as several.
    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(name, _)| name == key)
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// A value of any type that reads itself from text, such as a number.
    pub(crate) fn number<T: FromStr>(&self, key: &str) -> Answer<Option<T>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Fault::bad_request(format!("{key}: expected a whole number within its bounds"))
        })
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str) -> Answer<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(Fault::bad_request(format!("{key}: expected true or false"))),
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

/// Checks the names and values of environment variables: a shell could not hold others.
pub(crate) fn environment(
    field: &str,
    map: Option<BTreeMap<String, String>>,
) -> Answer<BTreeMap<String, String>> {
    let map = map.unwrap_or_default();
    for (name, value) in &map {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Fault::bad_request(format!(
                "{field}: a variable's name must not be empty or contain `=` or NUL"
            )));
        }
        if value.contains('\0') {
            return Err(Fault::bad_request(format!("{field}.{name}: the value contains NUL")));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    struct Sample {
        #[serde(default)]
        cpu: Option<u32>,
        #[serde(default)]
        env: Option<BTreeMap<String, String>>,
    }

    #[test]
    fn wrong_types_name_the_field_and_unknown_fields_are_ignored() {
        for (text, field) in [
            (r#"{"cpu":"x"}"#, "cpu: "),
            (r#"{"cpu":1.5}"#, "cpu: "),
            (r#"{"env":{"A":1}}"#, "env.A: "),
            (r#"{"cpu":-1}"#, "cpu: "),
        ] {
            let fault = parse::<Sample>(text.as_bytes()).expect_err(text);
            assert!(fault.message.starts_with(field), "{text}: {}", fault.message);
            assert_eq!(fault.code, "BAD_REQUEST");
        }
        let sample =
            parse::<Sample>(br#"{"cpu":null,"env":null,"what":[1]}"#).expect("null is absent");
        assert!(sample.cpu.is_none() && sample.env.is_none());
        for text in ["[", "{} {}", "\"x\"", "", "[1]", "null"] {
            let fault = parse::<Sample>(text.as_bytes()).expect_err(text);
            assert_eq!(fault.code, "INVALID_REQUEST_BODY", "{text}");
        }
        let long = format!("{{\"cpu\":\"{}\"}}", "ä".repeat(5000));
        let fault = parse::<Sample>(long.as_bytes()).expect_err("a text");
        assert!(fault.message.len() < 600, "a refusal sends back what it refuses");
        let fault = parse::<Sample>(b"{\"cpu\":\"\xff\"}").expect_err("not UTF-8");
        assert!(fault.message.contains("UTF-8"), "{}", fault.message);
    }

    #[test]
    fn queries_decode_once_and_refuse_other_encodings() {
        let params =
            Params::parse("path=a%20b%2Fc%2B+d&states=started,stopped&states=error&x&y=%252e")
                .expect("a good query");
        assert_eq!(params.get("path"), Some("a b/c+ d"));
        assert_eq!(params.all("states"), ["started", "stopped", "error"]);
        assert_eq!(params.get("x"), None);
        assert_eq!(params.get("y"), Some("%2e"));
        let fault = Params::parse("path=%ff").expect_err("not UTF-8");
        assert!(fault.message.starts_with("path:"), "{}", fault.message);
        assert!(Params::parse("n=abc").expect("text").number::<u32>("n").is_err());
        assert!(Params::parse("n=maybe").expect("text").boolean("n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(query in ".{0,200}") {
            let _ = Params::parse(&query);
        }

        #[test]
        fn no_body_makes_the_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = parse::<Sample>(&bytes);
        }

        #[test]
        fn encoded_text_comes_back(text in ".{1,60}") {
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
            let params = Params::parse(&format!("path={encoded}")).expect("encoded text");
            proptest::prop_assert_eq!(params.get("path"), Some(text.as_str()));
        }
    }
}
