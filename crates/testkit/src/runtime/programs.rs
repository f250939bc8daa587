//! The programs that the fake runtime knows.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::process::ExecRequest;
use mayfly_core::{Code, Error, Kind, Result};

/// Runs one of them with the sandbox's environment below the request's.
pub(super) async fn run(
    request: &ExecRequest,
    mut env: BTreeMap<String, String>,
) -> Result<(i32, Bytes)> {
    env.extend(request.env.clone());
    let argv: Vec<&str> = request.argv.iter().map(String::as_str).collect();
    match argv.as_slice() {
        ["echo", words @ ..] => Ok((0, Bytes::from(format!("{}\n", words.join(" "))))),
        ["false"] => Ok((1, Bytes::new())),
        ["printenv", name] => match env.get(*name) {
            Some(value) => Ok((0, Bytes::from(format!("{value}\n")))),
            None => Ok((1, Bytes::new())),
        },
        ["sleep", seconds] => {
            let seconds = seconds.parse().map_err(|_| Error::invalid("sleep needs seconds"))?;
            let nap = tokio::time::sleep(Duration::from_secs(seconds));
            if tokio::time::timeout(request.timeout, nap).await.is_err() {
                let error = Error::new(Kind::Timeout, "command timeout: it was killed");
                return Err(error.with_code(Code::ProcessExecutionTimeout));
            }
            Ok((0, Bytes::new()))
        }
        _ => Ok((127, Bytes::from("not found\n"))),
    }
}
