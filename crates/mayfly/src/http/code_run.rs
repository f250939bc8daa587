//! `/toolbox/{id}/process/code-run`: a program in Python, JavaScript or TypeScript.
//!
//! The program goes in over standard input, so its size is not bound by the kernel's argument limits. A
//! shell line in front finds the interpreter and says so, over a marked line, when the image has none.

use std::collections::BTreeMap;

use axum::Json as Reply;
use axum::extract::State;
use bytes::Bytes;
use mayfly_core::Code;
use mayfly_core::process::ExecRequest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Options};
use super::charts;
use super::fault::{Answer, Fault};
use super::input::{Json, environment};
use super::toolbox::Toolbox;
use super::toolbox_process::{text, time_limit};

/// Room for charts beside the output in one answer of the runtime.
const CHART_ROOM: usize = 16 << 20;
/// Reads charts and program from standard input, runs the program as `__main__`.
const PYTHON: &str = include_str!("code_run/bootstrap.py");
/// Compiled inside only when the program imports matplotlib.
const PYTHON_CHARTS: &str = include_str!("code_run/charts.py");
/// `$1` is the mark, the rest are the program's arguments.
const RUN_PYTHON: &str = r#"m=$1 b=$2; shift 2
for p in python3 python; do command -v $p >/dev/null 2>&1 && exec $p -c "$b" "$@"; done
printf '%s' "$m"; exit 127"#;
const RUN_JAVASCRIPT: &str = r#"m=$1; shift 2
command -v node >/dev/null 2>&1 && exec node - "$@"
printf '%s' "$m"; exit 127"#;
/// Neither runner reads TypeScript from standard input, so the program becomes a file for a moment.
const RUN_TYPESCRIPT: &str = r#"m=$1 f=$PWD/$2; shift 2
if command -v node >/dev/null 2>&1; then
  v=$(node --version); v=${v#v}; major=${v%%.*}; v=${v#*.}; minor=${v%%.*}
  if [ "$major" -gt 22 ] || { [ "$major" -eq 22 ] && [ "$minor" -ge 6 ]; }; then
    run='node --experimental-strip-types --disable-warning=ExperimentalWarning'
  fi
fi
if [ -z "$run" ]; then
  for p in tsx ts-node; do command -v $p >/dev/null 2>&1 && run=$p && break; done
fi
[ -z "$run" ] && { printf '%s' "$m"; exit 127; }
( cat > "$f" ) 2>/dev/null || { f=${TMPDIR:-/tmp}/${f##*/}; cat > "$f"; } || exit 1
$run "$f" "$@"; code=$?
rm -f "$f"; exit $code"#;

/// A program to run.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CodeRunRequest {
    code: String,
    /// `python`, `javascript` or `typescript`.
    language: String,
    #[serde(default)]
    argv: Option<Vec<String>>,
    #[serde(default)]
    envs: Option<BTreeMap<String, String>>,
    /// Seconds; absent or 0 = only the server's maximum.
    #[serde(default)]
    timeout: Option<u64>,
}

/// How it ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CodeRunResponse {
    exit_code: i32,
    /// Standard output and error, merged.
    result: String,
    artifacts: Artifacts,
}

/// What the program showed beside its output.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Artifacts {
    /// One per shown matplotlib figure.
    #[schema(value_type = Vec<Object>)]
    charts: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    JavaScript,
    TypeScript,
}

impl Language {
    fn parse(text: &str) -> Answer<Self> {
        match text {
            "python" => Ok(Self::Python),
            "javascript" => Ok(Self::JavaScript),
            "typescript" => Ok(Self::TypeScript),
            other => {
                let other: String = other.chars().take(64).collect();
                Err(Fault::bad_request(format!(
                    "language: `{other}` is not supported: expected python, javascript or typescript"
                )))
            }
        }
    }

    /// What the image must have.
    fn interpreters(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::JavaScript => "node",
            Self::TypeScript => "node 22.6 or newer, tsx or ts-node",
        }
    }
}

/// Runs a program and waits for its end; the figures it showed come back as charts.
#[utoipa::path(post, path = "/toolbox/{sandbox}/process/code-run", tag = "process", request_body = CodeRunRequest,
    params(("sandbox" = String, Path)),
    responses((status = 200, body = CodeRunResponse), (status = 408, description = "PROCESS_EXECUTION_TIMEOUT: all its processes were killed")))]
async fn code_run(
    State(app): State<App>,
    Toolbox(reach): Toolbox,
    Json(body): Json<CodeRunRequest>,
) -> Answer<Reply<CodeRunResponse>> {
    let mark = format!("mayfly-{}", app.random_hex::<16>());
    let (language, request) = prepare(&body, &mark, &app.options)?;
    let done = match reach.exec(request).await {
        Ok(done) => done,
        Err(error) => {
            if language == Language::TypeScript
                && error.code() == Some(Code::ProcessExecutionTimeout)
            {
                // The killed shell could not remove the program's file; usually it is gone with it.
                let _ = reach.files().delete(reach.id(), &script(&mark), false).await;
            }
            return Err(error.into());
        }
    };
    if done.exit_code == 127 && done.output == mark.as_bytes() {
        return Err(Fault::bad_request(format!(
            "language: {} needs {} in the sandbox's image, which has none",
            body.language,
            language.interpreters()
        )));
    }
    let (output, charts) = charts::split(done.output, &mark);
    let result = charts::cut(text(&output), app.options.max_output);
    Ok(Reply(CodeRunResponse {
        exit_code: done.exit_code,
        result,
        artifacts: Artifacts { charts },
    }))
}

fn script(mark: &str) -> String {
    format!(".{mark}.ts")
}

/// The program as the runtime takes it, within the server's limits.
pub(crate) fn prepare(
    body: &CodeRunRequest,
    mark: &str,
    options: &Options,
) -> Answer<(Language, ExecRequest)> {
    let language = Language::parse(&body.language)?;
    let mut request = program(body, language, mark)?;
    request.timeout = time_limit(options, body.timeout);
    request.max_output = options.max_output + CHART_ROOM;
    Ok((language, request))
}

fn program(body: &CodeRunRequest, language: Language, mark: &str) -> Answer<ExecRequest> {
    let mut env = environment("envs", body.envs.clone())?;
    let (shell, second, stdin) = match language {
        Language::Python => {
            env.entry("MPLBACKEND".to_owned()).or_insert_with(|| "Agg".to_owned());
            let head = format!("{mark} {}\n", PYTHON_CHARTS.len());
            let whole = [head.as_bytes(), PYTHON_CHARTS.as_bytes(), body.code.as_bytes()].concat();
            (RUN_PYTHON, PYTHON.to_owned(), whole)
        }
        Language::JavaScript => (RUN_JAVASCRIPT, String::new(), body.code.clone().into_bytes()),
        Language::TypeScript => (RUN_TYPESCRIPT, script(mark), body.code.clone().into_bytes()),
    };
    let words = ["/bin/sh", "-c", shell, "code-run", mark];
    let mut argv: Vec<String> = words.into_iter().map(str::to_owned).collect();
    argv.push(second);
    for argument in body.argv.iter().flatten() {
        if argument.contains('\0') {
            return Err(Fault::bad_request("argv: an argument must not contain NUL"));
        }
        argv.push(argument.clone());
    }
    Ok(ExecRequest {
        argv,
        title: body.code.chars().take(4096).collect(),
        cwd: None,
        env,
        stdin: Bytes::from(stdin),
        timeout: std::time::Duration::ZERO,
        max_output: 0,
    })
}

/// Routes of code-run.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(code_run))
}
