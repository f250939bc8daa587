//! Paths of older clients: their toolbox below the API, `/api/toolbox/{id}/toolbox/...`.

use axum::extract::Request;
use axum::http::Uri;

/// What is named otherwise today.
const RENAMED: [(&str, &str); 3] = [
    ("/project-dir", "/work-dir"),
    ("/files/upload", "/files/upload-v2"),
    ("/lsp/workspace-symbols", "/lsp/workspacesymbols"),
];

/// Turns such a path into today's, before anything is routed by it.
pub(super) fn renew(request: &mut Request) {
    if let Some(path) = renewed(request.uri().path()) {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = format!("{path}{query}").parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

fn renewed(path: &str) -> Option<String> {
    let (id, rest) = path.strip_prefix("/api/toolbox/")?.split_once('/')?;
    let rest = rest.strip_prefix("toolbox").filter(|rest| rest.starts_with('/'))?;
    let today = RENAMED.iter().find(|(old, _)| *old == rest).map_or(rest, |(_, new)| new);
    Some(format!("/toolbox/{id}{today}"))
}

#[cfg(test)]
mod tests {
    use super::renewed;

    #[test]
    fn older_paths_become_today_s_and_others_stay() {
        for (old, new) in [
            ("/api/toolbox/x/toolbox/files/find", Some("/toolbox/x/files/find")),
            ("/api/toolbox/x/toolbox/project-dir", Some("/toolbox/x/work-dir")),
            ("/api/toolbox/x/toolbox/files/upload", Some("/toolbox/x/files/upload-v2")),
            (
                "/api/toolbox/x/toolbox/lsp/workspace-symbols",
                Some("/toolbox/x/lsp/workspacesymbols"),
            ),
            ("/api/toolbox/x/toolbox", None),
            ("/api/toolbox/x/toolboxes/a", None),
            ("/api/toolbox/toolbox/a", None),
            ("/toolbox/x/toolbox/a", None),
        ] {
            assert_eq!(renewed(old).as_deref(), new, "{old}");
        }
    }
}
