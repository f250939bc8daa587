//! `/metrics` as Prometheus text; every metric's name stands here.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, FORWARDED};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use mayfly_core::access::Permission;
use mayfly_core::measure::{BOUNDS, Reading};
use mayfly_core::ports::runtime::Extent;
use mayfly_engine::Measures;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::counters::Counters;
use super::fault::{Answer, Fault};
use super::gate::Peer;

/// Prometheus text. Open to loopback callers when no public URL is set, else it needs `read:metrics`.
#[utoipa::path(get, path = "/metrics", tag = "metrics", security((), ("key" = [])), responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    who: Option<Extension<Who>>,
    headers: HeaderMap,
) -> Answer<impl IntoResponse> {
    let forwarded = headers.contains_key(FORWARDED)
        || headers.keys().any(|name| name.as_str().starts_with("x-forwarded-"));
    let local = peer.is_some_and(|Extension(peer)| peer.is_local());
    let open = local && !forwarded && app.options.public_url.is_none();
    match who {
        Some(Extension(Who(caller))) if !open && !caller.may(Permission::ReadMetrics) => {
            return Err(Fault::new(
                StatusCode::FORBIDDEN,
                "this key may not read metrics: it needs the permission read:metrics",
            ));
        }
        None if !open => {
            return Err(Fault::unauthenticated(
                "metrics need an API key with the permission read:metrics",
            ));
        }
        _ => {}
    }
    let mut states: BTreeMap<(&str, bool), u64> = BTreeMap::new();
    for sandbox in app.store.living().await? {
        *states.entry((sandbox.state.as_str(), sandbox.warm)).or_default() += 1;
    }
    let measures = app.engine.measures().await?;
    let mut out = Text::default();
    requests(&mut out, &app.counters);
    sandboxes(&mut out, &states, &measures);
    host(&mut out, &measures);
    out.family("mayfly_build_info", "gauge", "The program; always 1.");
    out.line("mayfly_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], out.0))
}

/// Prometheus text that is being written.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (number, (label, text)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.line(name, &[], value);
    }

    /// A histogram in seconds; its family stands before it.
    fn histogram(&mut self, name: &str, label: Option<(&str, &str)>, reading: &Reading) {
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain(["+Inf".to_owned()]);
        let mut sum = 0;
        for (bound, count) in bounds.zip(reading.counts) {
            sum += count;
            let labels: Vec<_> = label.into_iter().chain([("le", bound.as_str())]).collect();
            self.line(&format!("{name}_bucket"), &labels, sum);
        }
        let labels: Vec<_> = label.into_iter().collect();
        self.line(&format!("{name}_count"), &labels, sum);
        let rest = label.map(|(name, text)| format!("{{{name}=\"{text}\"}}")).unwrap_or_default();
        let _ = writeln!(self.0, "{name}_sum{rest} {}", seconds(reading.micros));
    }
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn requests(out: &mut Text, counters: &Counters) {
    let (total, took) = ("mayfly_http_answers_total", "mayfly_http_answer_seconds");
    out.family(total, "counter", "Answered requests by kind and class of their status.");
    for (kind, answers, _) in counters.classes() {
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(answers) {
            out.line(total, &[("kind", kind), ("class", class)], count);
        }
    }
    out.family(took, "histogram", "Time to an answer\'s beginning by kind.");
    for (kind, _, reading) in counters.classes() {
        out.histogram(took, Some(("kind", kind)), &reading);
    }
    let refused = "mayfly_refusals_total";
    out.family(refused, "counter", "Refused requests by rule; limit and room are admission.");
    for (rule, count) in counters.refusals() {
        out.line(refused, &[("rule", rule)], count);
    }
}

fn sandboxes(out: &mut Text, states: &BTreeMap<(&str, bool), u64>, measures: &Measures) {
    let name = "mayfly_sandboxes";
    out.family(name, "gauge", "Sandboxes that are not destroyed.");
    for ((state, warm), count) in states {
        let warm = if *warm { "true" } else { "false" };
        out.line(name, &[("state", state), ("warm", warm)], *count);
    }
    let (took, failed) = ("mayfly_effect_seconds", "mayfly_effect_failures_total");
    out.family(took, "histogram", "Time that transitions took by effect, failed ones too.");
    for (effect, reading, _) in &measures.effects {
        out.histogram(took, Some(("effect", effect)), reading);
    }
    out.family(failed, "counter", "Transitions that failed by effect.");
    for (effect, _, count) in &measures.effects {
        out.line(failed, &[("effect", effect)], *count);
    }
    let took = "mayfly_command_seconds";
    out.family(took, "histogram", "Time that commands took which a caller waited for.");
    out.histogram(took, None, &measures.commands);
    let warm = "mayfly_warm_claims_total";
    out.family(warm, "counter", "Creates that could have been given a ready sandbox.");
    out.line(warm, &[("found", "true")], measures.warm.0);
    out.line(warm, &[("found", "false")], measures.warm.1);
    let help = "Listeners to events.";
    out.one("mayfly_event_listeners", "gauge", help, measures.listeners);
    let help = "Lines written to the audit log.";
    out.one("mayfly_audit_lines_total", "counter", help, measures.audit);
}

fn host(out: &mut Text, measures: &Measures) {
    let traffic = measures.traffic;
    let name = "mayfly_network_verdicts_total";
    out.family(name, "counter", "Connections, datagrams and queries of sandboxes by verdict.");
    out.line(name, &[("verdict", "allowed")], traffic.allowed);
    out.line(name, &[("verdict", "denied")], traffic.denied);
    let help = "Open TCP connections of sandboxes.";
    out.one("mayfly_network_connections", "gauge", help, traffic.connections);
    let help = "Lines that the audit of connections lost.";
    out.one("mayfly_network_audit_lost_total", "counter", help, traffic.audit_lost);
    let space = &measures.space;
    let rooms = [("disk", Some(space.disk)), ("pool", space.pool), ("memory", Some(space.memory))];
    for (name, help, of) in [
        (
            "mayfly_room_bytes",
            "Size of what sandboxes share.",
            (|room| room.size) as fn(Extent) -> u64,
        ),
        ("mayfly_room_free_bytes", "What is free of it.", |room| room.free),
    ] {
        out.family(name, "gauge", help);
        for (what, room) in &rooms {
            if let Some(room) = room {
                out.line(name, &[("what", what)], of(*room));
            }
        }
    }
    let help = "Bytes of the disk that are always left free.";
    out.one("mayfly_disk_reserve_bytes", "gauge", help, space.reserve);
    let help = "Writes that wait for the store.";
    out.one("mayfly_store_queue", "gauge", help, measures.store.queued);
    let took = "mayfly_store_commit_seconds";
    out.family(took, "histogram", "Time that transactions took.");
    out.histogram(took, None, &measures.store.commits);
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics))
}
