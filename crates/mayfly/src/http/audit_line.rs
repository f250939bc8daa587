//! What of a request goes into the audit log.
//!
//! Changes made through the API are written down before they are answered, so whoever has an answer finds its
//! line. Refusals, and calls into sandboxes, which come by the hundred, are counted up.

use axum::extract::MatchedPath;
use axum::http::{Method, StatusCode};
use mayfly_core::audit::Entry;

use super::app::{App, Who};
use super::gate;

/// What a request made, said by its handler where the path does not name it.
#[derive(Clone, Debug)]
pub(crate) struct Made(pub(crate) String);

/// The line of a request that is under way. Dropped without an answer, it says that the caller left.
#[derive(Debug)]
pub(super) struct Line {
    app: App,
    entry: Option<Entry>,
    /// Whether it is a change that is written down by itself.
    alone: bool,
    /// Whether something is done at all, beyond looking.
    acts: bool,
    has_caller: bool,
}

impl Line {
    /// A request on this path from there.
    pub(super) fn new(
        app: &App,
        method: &Method,
        path: &str,
        route: Option<&MatchedPath>,
        from: &str,
    ) -> Self {
        let route = route.map_or("an unknown path", MatchedPath::as_str);
        let looks = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let entry = Entry {
            id: 0,
            at: app.now(),
            organization: app.engine.access().administrator().organization,
            key: None,
            origin: from.to_owned(),
            action: format!("{method} {route}"),
            object: object(route, path),
            status: 0,
            rule: None,
            count: 1,
        };
        Self {
            app: app.clone(),
            entry: Some(entry),
            alone: !looks && path.starts_with("/api/") && !path.ends_with("/last-activity"),
            acts: !looks,
            has_caller: false,
        }
    }

    /// Who it is.
    pub(super) fn caller(&mut self, who: Option<&Who>) {
        let Some(entry) = &mut self.entry else { return };
        if let Some(Who(caller)) = who {
            entry.organization = caller.organization;
            entry.key.clone_from(&caller.key);
        } else {
            // A token or a signature: it acts for the owner of the sandbox.
            let sandbox = entry.object.as_ref().and_then(|object| object.parse().ok());
            if let Some(owner) = sandbox.and_then(|id| self.app.engine.owner(id).ok()) {
                entry.organization = owner;
            }
        }
        self.has_caller = true;
    }

    /// What came of it.
    pub(super) async fn answered(&mut self, status: StatusCode, made: Option<Made>) {
        let Some(mut entry) = self.entry.take() else { return };
        entry.status = status.as_u16();
        let log = self.app.engine.audit_log();
        if let Some(rule) = gate::rule(status) {
            entry.rule = Some(rule.to_owned());
            return log.count(entry);
        }
        let opened = status == StatusCode::SWITCHING_PROTOCOLS && entry.object.is_some();
        if entry.status >= 400 || !(self.acts || opened) {
            return;
        }
        if !self.alone {
            return log.count(entry);
        }
        if let Some(Made(name)) = made {
            entry.object = Some(name);
        }
        if let Err(error) = log.write(entry).await {
            tracing::error!(%error, "a change was made whose line in the audit log is missing");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // What was begun goes on without its caller.
        if let Some(entry) = self.entry.take().filter(|_| self.acts && self.has_caller) {
            self.app.engine.audit_log().count(entry);
        }
    }
}

/// What the first variable part of a route stands for in a path.
fn object(route: &str, path: &str) -> Option<String> {
    let mut parts = route.split('/').zip(path.split('/'));
    let (_, found) = parts.find(|(part, _)| part.starts_with('{') && !part.starts_with("{*"))?;
    Some(percent_encoding::percent_decode_str(found).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::object;

    #[test]
    fn the_object_is_the_first_variable_part_and_never_a_token_behind_it() {
        for (route, path, named) in [
            ("/api/sandbox", "/api/sandbox", None),
            ("/api/sandbox/{sandbox}/start", "/api/sandbox/a%20b/start", Some("a b")),
            (
                "/api/sandbox/{s}/signed-preview-url/{token}/expire",
                "/api/sandbox/x/signed-preview-url/secret/expire",
                Some("x"),
            ),
            ("/toolbox/{sandbox}/files", "/toolbox/x/files", Some("x")),
            ("/api/secret/{*rest}", "/api/secret/x", None),
            ("an unknown path", "/x/y", None),
        ] {
            assert_eq!(object(route, path).as_deref(), named, "{path}");
        }
    }
}
