//! One attempt: a task of the runtime that calls an agent within its limits and tells the dispatcher how it went.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::agent::Registered;
use super::center::Center;
use super::context::TaskContext;
use super::dispatcher::Message;
use super::task::{MAX_BYTES, Task};
use crate::error::AgentError;
use crate::journal::tasks::Ended;

/// Runs the attempt and tells the dispatcher.
pub(crate) async fn run(
    center: Arc<Center>,
    agent: Arc<Registered>,
    task: Task,
    cancel: watch::Receiver<bool>,
) {
    let (id, version) = (task.id, task.version);
    let inbox = center.inbox.clone();
    let ended = attempt(center, &agent, task, cancel).await;
    // A dispatcher that is gone needs no answer.
    drop(inbox.send(Message::Ended { id, version, ended }).await);
}

/// How it went; nothing when the task waits for others.
async fn attempt(
    center: Arc<Center>,
    agent: &Registered,
    task: Task,
    cancel: watch::Receiver<bool>,
) -> Option<Ended> {
    if let Err(error) = agent.check_input(&task.input) {
        return Some(Ended::Failed { error, permanent: true });
    }
    let (input, limit) = (task.input.clone(), task.timeout);
    let ctx = Arc::new(TaskContext::new(task, center, cancel));
    let calm = AssertUnwindSafe(agent.agent.execute(input, Arc::clone(&ctx))).catch_unwind();
    let answer = match tokio::time::timeout(limit, calm).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => Err(AgentError::System(told(panic.as_ref()))),
        Err(_) => Err(AgentError::Timeout(format!("the attempt took longer than {limit:?}"))),
    };
    if ctx.has_left() {
        return None;
    }
    let failed = |error: String, permanent| Ended::Failed { error, permanent };
    Some(match answer {
        Ok(output) => match check(agent, &output) {
            Ok(()) => Ended::Completed(output),
            Err(error) => failed(error, true),
        },
        Err(AgentError::User(error)) => failed(error, true),
        Err(error) => failed(error.to_string(), false),
    })
}

fn check(agent: &Registered, output: &Bytes) -> Result<(), String> {
    if output.len() > MAX_BYTES {
        return Err(format!(
            "output has {} bytes, at most {MAX_BYTES} are taken; store it as an artifact and give its id",
            output.len()
        ));
    }
    agent.check_output(output)
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the agent panicked: {}", text.unwrap_or("without a message"))
}
