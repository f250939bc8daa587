//! What the server counts about its requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use mayfly_core::measure::{Histogram, Reading};
use mayfly_core::time::Monotonic;

/// Kinds of requests that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A sandbox is made.
    Create,
    /// A command is run to its end.
    Execute,
    /// Code is run to its end.
    CodeRun,
    /// Processes that stay.
    Processes,
    /// Files.
    Files,
    /// git.
    Git,
    /// Whatever else goes into a sandbox.
    Toolbox,
    /// Previews.
    Preview,
    /// Whatever else is about sandboxes.
    Sandboxes,
    /// The rest of the API.
    Api,
    /// Everything else.
    Other,
}

impl Class {
    /// All of them with their names.
    pub(crate) const ALL: [(Self, &'static str); 11] = [
        (Self::Create, "create"),
        (Self::Execute, "execute"),
        (Self::CodeRun, "code-run"),
        (Self::Processes, "processes"),
        (Self::Files, "files"),
        (Self::Git, "git"),
        (Self::Toolbox, "toolbox"),
        (Self::Preview, "preview"),
        (Self::Sandboxes, "sandboxes"),
        (Self::Api, "api"),
        (Self::Other, "other"),
    ];

    /// That of a request; `route` is the matched one, without the caller's words in it.
    pub(crate) fn of(method: &Method, route: Option<&str>) -> Self {
        let Some(route) = route else { return Self::Other };
        if route == "/api/sandbox" && method == Method::POST {
            return Self::Create;
        }
        if route.ends_with("/process/execute") {
            return Self::Execute;
        }
        if route.ends_with("/process/code-run") {
            return Self::CodeRun;
        }
        let has = |part: &str| route.split('/').any(|one| one == part);
        match route {
            _ if has("process") => Self::Processes,
            _ if has("files") => Self::Files,
            _ if has("git") => Self::Git,
            _ if has("toolbox") => Self::Toolbox,
            _ if route.starts_with("/api/sandbox") => Self::Sandboxes,
            _ if route.starts_with("/api/") => Self::Api,
            _ => Self::Other,
        }
    }
}

/// One class.
#[derive(Debug, Default)]
struct Counted {
    /// Answers by hundreds of their status, from 1xx.
    answers: [AtomicU64; 5],
    took: Histogram,
}

/// Counters since the start of the server.
#[derive(Debug)]
pub(crate) struct Counters {
    classes: [Counted; Class::ALL.len()],
    refusals: [AtomicU64; RULES.len()],
    last_request: AtomicU64,
}

/// Rules that requests are refused by, as the audit names them.
pub(crate) const RULES: [&str; 5] = ["authentication", "permission", "state", "limit", "room"];

impl Counters {
    /// All zero.
    pub(crate) fn new(now: Monotonic) -> Self {
        Self {
            classes: Default::default(),
            refusals: Default::default(),
            last_request: AtomicU64::new(now.0),
        }
    }

    /// Marks the arrival of a request.
    pub(crate) fn arrived(&self, now: Monotonic) {
        self.last_request.store(now.0, Ordering::Relaxed);
    }

    /// When the last one arrived.
    pub(crate) fn last_request(&self) -> Monotonic {
        Monotonic(self.last_request.load(Ordering::Relaxed))
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, class: Class, status: StatusCode, took: Duration) {
        let hundreds = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        let counted = &self.classes[class as usize];
        counted.answers[hundreds].fetch_add(1, Ordering::Relaxed);
        counted.took.note(took);
    }

    /// Counts a refusal by one of [`RULES`].
    pub(crate) fn refused(&self, rule: &str) {
        if let Some(number) = RULES.iter().position(|known| *known == rule) {
            self.refusals[number].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers so far by hundreds of their status, from 1xx, and how long they took; by class.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (&'static str, [u64; 5], Reading)> {
        Class::ALL.iter().map(|(class, name)| {
            let counted = &self.classes[*class as usize];
            let answers =
                std::array::from_fn(|hundreds| counted.answers[hundreds].load(Ordering::Relaxed));
            (*name, answers, counted.took.read())
        })
    }

    /// Refusals by rule.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.refusals.iter().map(|count| count.load(Ordering::Relaxed));
        RULES.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_fall_into_a_few_classes() {
        let toolbox = "/toolbox/{sandbox}/toolbox";
        for (method, route, expected) in [
            (Method::POST, "/api/sandbox", Class::Create),
            (Method::GET, "/api/sandbox", Class::Sandboxes),
            (Method::POST, "/toolbox/{sandbox}/process/execute", Class::Execute),
            (Method::POST, "/toolbox/{sandbox}/process/session", Class::Processes),
            (Method::GET, "/toolbox/{sandbox}/files/download", Class::Files),
            (Method::POST, "/toolbox/{sandbox}/git/clone", Class::Git),
            (Method::GET, toolbox, Class::Toolbox),
            (Method::GET, "/api/api-keys", Class::Api),
            (Method::GET, "/health", Class::Other),
        ] {
            assert_eq!(Class::of(&method, Some(route)), expected, "{route}");
        }
        assert_eq!(Class::of(&Method::GET, None), Class::Other);
        for (number, (class, _)) in Class::ALL.iter().enumerate() {
            assert_eq!(*class as usize, number);
        }
    }
}
