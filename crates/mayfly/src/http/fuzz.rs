//! Fuzz bodies of the edge: whatever callers send is refused naming the field, or is in its bounds.

use axum::http::StatusCode;
use bytes::Bytes;
use hmac::Mac as _;
use mayfly_core::sandbox::{CreateSandbox, Timers};
use mayfly_core::time::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::app::Options;
use super::code_run::{self, CodeRunRequest};
use super::fault::{Answer, Fault};
use super::input::{Params, parse};
use super::keys::CreateKey;
use super::multipart::{Event, Parser};
use super::sandbox_list;
use super::sandbox_wire::{CreateBody, ResizeBody};
use super::sandboxes::Labels;
use super::signed::{Claim, mac, verify};
use super::time;
use super::toolbox_download::DownloadRequest;
use super::toolbox_files::{MAX_FILES, ReplaceRequest, octal};
use super::toolbox_process::Execute;

/// A body: its name and the function.
type Body = (&'static str, fn(&[u8]));

pub(crate) const BODIES: &[Body] = &[
    ("multipart", multipart),
    ("query", query),
    ("sandbox_query", sandbox_query),
    ("file_query", file_query),
    ("time", moment),
    ("signed_url", signed_url),
    ("create_sandbox", create_sandbox),
    ("resize", resize),
    ("labels", labels),
    ("execute", execute),
    ("code_run", code_run),
    ("replace", replace),
    ("bulk_download", bulk_download),
    ("create_key", create_key),
];

/// Longest refusal, bytes: it must not send back what it refuses.
const MAX_MESSAGE: usize = 1024;

/// What a body is read as, exactly as its handler does; `None` when it is refused, which is checked here.
fn read<T: DeserializeOwned, O>(
    bytes: &[u8],
    fields: &[&str],
    accept: impl Fn(T) -> Answer<O>,
) -> Option<O> {
    match parse::<T>(bytes).and_then(accept) {
        Ok(read) => Some(read),
        Err(fault) => {
            let whole = serde_json::from_slice::<serde_json::Value>(bytes);
            refused(&fault, fields, !whole.is_ok_and(|value| value.is_object()));
            None
        }
    }
}

/// A refusal is the caller's fault, typed, short, and names the field unless the body as a whole is wrong.
fn refused(fault: &Fault, fields: &[&str], whole: bool) {
    let Fault { status, code, message, .. } = fault;
    assert!(message.len() <= MAX_MESSAGE, "a refusal of {} bytes", message.len());
    match (*status, *code) {
        (StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED")
        | (StatusCode::BAD_REQUEST, "BAD_REQUEST") => {
            let named = fields.iter().any(|field| message.starts_with(field));
            assert!(named, "a refusal does not begin with its field: {message}");
        }
        (StatusCode::BAD_REQUEST, "INVALID_REQUEST_BODY") => {
            let named = fields.iter().any(|field| message.contains(&format!("`{field}`")));
            assert!(whole || named, "an object is refused without naming a field: {message}");
        }
        _ => panic!("refused with {status} {code}: {message}"),
    }
}

fn create_sandbox(bytes: &[u8]) {
    const FIELDS: [&str; 35] = [
        "name",
        "snapshot",
        "user",
        "env",
        "label",
        "public",
        "networkBlockAll",
        "networkAllowList",
        "domainAllowList",
        "outboundProxyUrl",
        "target",
        "cpu",
        "memory",
        "disk",
        "gpu",
        "gpuType",
        "spot",
        "kvm",
        "autoStopInterval",
        "autoPauseInterval",
        "autoArchiveInterval",
        "autoDeleteInterval",
        "ttlMinutes",
        "queueTimeout",
        "volumes",
        "volumeId",
        "mountPath",
        "subpath",
        "secrets",
        "linkedSandbox",
        "otelEndpointOverride",
        "sandboxClass",
        "buildInfo",
        "labels",
        "idempotency key",
    ];
    let wish = read(bytes, &FIELDS, |body: CreateBody| {
        let wish = body.into_wish(None)?;
        wish.check()?;
        Ok(wish)
    });
    let Some(wish) = wish else { return };
    for text in [&wish.name, &wish.user, &wish.target].into_iter().flatten() {
        assert!((1..=255).contains(&text.len()) && !text.contains(char::is_control));
    }
    assert!(wish.snapshot.is_none_or(|snapshot| !snapshot.is_empty()));
    for (name, value) in &wish.env {
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    }
    allowed_labels(&wish.labels);
    for size in [wish.cpu, wish.memory_gib, wish.disk_gib] {
        assert!(size.is_none_or(|size| size > 0));
    }
    let Timers { auto_stop, auto_pause, auto_delete, .. } = wish.timers;
    assert!(auto_stop == 0 || auto_pause == 0, "a sandbox would both stop and pause");
    assert!(auto_delete >= -1 && (auto_pause == 0 || auto_delete != 0));
}

fn allowed_labels(labels: &std::collections::BTreeMap<String, String>) {
    assert!(labels.len() <= 1024);
    for (key, value) in labels {
        assert!(!key.is_empty() && !key.starts_with("mayfly."), "a caller sets {key}");
        assert!(!key.contains('\0') && !value.contains('\0'));
    }
}

fn labels(bytes: &[u8]) {
    let set = read(bytes, &["label", "labels"], |body: Labels| {
        // The same check as in the command that sets them.
        CreateSandbox { labels: body.labels.clone(), ..CreateSandbox::default() }.check()?;
        Ok(body.labels)
    });
    if let Some(set) = set {
        allowed_labels(&set);
    }
}

fn resize(bytes: &[u8]) {
    let wish = read(bytes, &["cpu", "memory", "disk", "gpu"], |body: ResizeBody| {
        let wish = body.into_wish()?;
        wish.check()?;
        Ok(wish)
    });
    if let Some(wish) = wish {
        assert!([wish.cpu, wish.memory_gib, wish.disk_gib].iter().all(|size| *size != Some(0)));
    }
}

fn execute(bytes: &[u8]) {
    let options = Options::default();
    let request = read(bytes, &["command", "cwd", "envs", "timeout"], |body: Execute| {
        body.into_request(&options)
    });
    if let Some(request) = request {
        assert!(request.cwd.as_ref().is_none_or(|cwd| !cwd.is_empty()));
        runnable(&request, &options);
    }
}

fn code_run(bytes: &[u8]) {
    let options = Options::default();
    let fields = ["code", "language", "argv", "envs", "timeout"];
    let request = read(bytes, &fields, |body: CodeRunRequest| {
        code_run::prepare(&body, "mark", &options).map(|(_, request)| request)
    });
    if let Some(request) = request {
        assert!(request.stdin.len() <= bytes.len() + (64 << 10), "the program grew");
        runnable(&request, &options);
    }
}

/// The kernel can take every text of it, and its limits are the server's at most.
fn runnable(request: &mayfly_core::process::ExecRequest, options: &Options) {
    let texts = request.argv.iter().chain(&request.cwd).chain(request.env.values());
    assert!(texts.clone().all(|text| !text.contains('\0')), "NUL reaches the kernel: {request:?}");
    for name in request.env.keys() {
        assert!(!name.is_empty() && !name.contains(['=', '\0']));
    }
    assert!(request.timeout <= options.execute_timeout && !request.timeout.is_zero());
    assert!(request.max_output >= options.max_output);
}

fn replace(bytes: &[u8]) {
    let fields = ["files", "pattern", "newValue"];
    if let Some(body) = read(bytes, &fields, ReplaceRequest::checked) {
        assert!(!body.pattern.is_empty() && body.files.len() <= MAX_FILES);
    }
}

fn bulk_download(bytes: &[u8]) {
    if let Some(paths) = read(bytes, &["paths"], DownloadRequest::into_paths) {
        assert!((1..=10_000).contains(&paths.len()));
    }
}

fn create_key(bytes: &[u8]) {
    const NOW: Timestamp = Timestamp(1_767_225_600_000);
    let wanted = read(bytes, &["name", "permissions", "expiresAt"], |body: CreateKey| {
        let wanted = body.into_wanted()?;
        wanted.check(NOW)?;
        Ok(wanted)
    });
    if let Some(wanted) = wanted {
        assert!((1..=255).contains(&wanted.name.len()) && !wanted.name.contains(char::is_control));
        assert!(wanted.expires_at.is_none_or(|expiry| expiry > NOW));
    }
}

/// Every pair that a query gives, written again, gives the same query.
fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(params) = read_query(text) else { return };
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let again: Vec<String> = params
        .pairs()
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    let again = Params::parse(&again.join("&")).expect("what we encode can be decoded");
    // A name and value that are both empty vanish from no query; a lone `=` stays a pair.
    assert_eq!(again.pairs(), params.pairs());
}

fn read_query(text: &str) -> Option<Params> {
    match Params::parse(text) {
        Ok(params) => Some(params),
        Err(fault) => {
            assert_eq!(fault.status, StatusCode::BAD_REQUEST);
            assert!(text.contains('%') && fault.message.contains("UTF-8"), "{}", fault.message);
            None
        }
    }
}

fn sandbox_query(bytes: &[u8]) {
    const FIELDS: [&str; 27] = [
        "limit",
        "includeErroredDeleted",
        "includeWarm",
        "autoDestroyAtAfter",
        "autoDestroyAtBefore",
        "labels",
        "states",
        "minGpu",
        "maxGpu",
        "minCpu",
        "maxCpu",
        "minMemoryGiB",
        "maxMemoryGiB",
        "minDiskGiB",
        "maxDiskGiB",
        "isPublic",
        "isRecoverable",
        "createdAtAfter",
        "createdAtBefore",
        "lastEventAfter",
        "lastEventBefore",
        "sandboxClasses",
        "sort",
        "order",
        "id",
        "name",
        "regionIds",
    ];
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(params) = read_query(text) else { return };
    match sandbox_list::query(&params) {
        Ok(Some(query)) => assert!((1..=200).contains(&query.limit)),
        Ok(None) => {}
        Err(fault) => refused(&fault, &FIELDS, false),
    }
}

/// The bounded parameters of the file calls.
fn file_query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(params) = read_query(text) else { return };
    match octal(&params) {
        Ok(mode) => assert!(mode.is_none_or(|mode| mode <= 0o7777)),
        Err(fault) => refused(&fault, &["mode"], false),
    }
    for (field, found) in [
        ("recursive", params.boolean("recursive").map(drop)),
        ("depth", params.number::<u32>("depth").map(drop)),
        ("path", params.require("path").map(|path| assert!(!path.is_empty()))),
    ] {
        if let Err(fault) = found {
            refused(&fault, &[field], false);
        }
    }
}

/// A time that is read is written in its one form, which reads as the same moment.
fn moment(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match time::parse("at", text) {
        Ok(at) => {
            let written = time::rfc3339(at);
            assert!(written.ends_with('Z'), "{written}");
            assert_eq!(time::parse("at", &written).ok(), Some(at), "{written}");
        }
        Err(fault) => refused(&fault, &["at:"], false),
    }
}

/// No text but the one signature opens a signed URL.
fn signed_url(bytes: &[u8]) {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let claim = Claim { method: "GET", path: "/srv/a", expires: "0" };
    let good = mac(b"key", "v1:files:GET:/srv/a:0").finalize().into_bytes();
    let good = format!("v1_{}", URL_SAFE_NO_PAD.encode(good));
    assert_eq!(verify("key", claim, text), text == good);
}

/// Parts of a multipart body, as far as they came: names and data, and whether it ended.
type Parts = (Vec<(String, Vec<u8>)>, Result<bool, &'static str>);

/// First line: Content-Type; next byte: size of the pieces; rest: the body. Whatever the pieces, the same parts
/// come, and what the parser holds stays bounded.
fn multipart(bytes: &[u8]) {
    let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(content_type) = std::str::from_utf8(&bytes[..line]) else { return };
    let Some((piece, body)) = bytes[line + 1..].split_first() else { return };
    let Some(parser) = Parser::for_content_type(content_type) else { return };
    let whole = collect(parser, body, body.len());
    let parser = Parser::for_content_type(content_type).expect("it was taken a moment ago");
    assert_eq!(collect(parser, body, usize::from(*piece)), whole, "pieces change what is read");
}

fn collect(mut parser: Parser, body: &[u8], piece: usize) -> Parts {
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    let mut open = false;
    for chunk in body.chunks(piece.max(1)) {
        parser.push(&Bytes::copy_from_slice(chunk));
        loop {
            match parser.next() {
                Ok(Event::Part(name)) => {
                    assert!(!open, "a part begins in a part");
                    open = true;
                    parts.push((name, Vec::new()));
                }
                Ok(Event::Data(data)) => {
                    assert!(open && !data.is_empty());
                    parts.last_mut().expect("data lies in a part").1.extend_from_slice(&data);
                }
                Ok(Event::PartEnd) => {
                    assert!(open, "a part ends that never began");
                    open = false;
                }
                Ok(Event::End) => {
                    assert!(!open, "the body ends in a part");
                    return (parts, Ok(true));
                }
                Ok(Event::Starved) => break,
                Err(malformed) => return (parts, Err(malformed.0)),
            }
        }
        assert!(parser.held() <= (17 << 10) + chunk.len(), "{} bytes are held", parser.held());
    }
    // What may be the beginning of a delimiter is held back at the end, however the pieces fall.
    (parts, Ok(false))
}
