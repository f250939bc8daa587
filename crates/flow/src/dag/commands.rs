//! What callers may do to a run. Every verb answers when it is durable, and may be repeated.

use serde_json::Value;
use tokio::sync::oneshot;

use super::action::named;
use super::driver::{Driver, Message};
use super::executor::DagExecutor;
use super::report::{DagExecutionReport, report};
use super::steps::Given;
use crate::clock::Millis;
use crate::error::DagError;
use crate::model::entry::{Slot, Wait};
use crate::model::status::{RunStatus, State};

/// What a caller says about an attempt that was cut short.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// It had no effect: do it again.
    Retry,
    /// It had its effect: this is its output.
    Complete(Value),
    /// It failed.
    Fail,
}

/// A run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Its id.
    pub run_id: String,
    /// The flow's name.
    pub flow: String,
    /// Its state.
    pub status: RunStatus,
    /// Why it stands or failed.
    pub reason: Option<String>,
    /// In milliseconds since the epoch.
    pub created_at: Millis,
    /// In milliseconds since the epoch.
    pub finished_at: Option<Millis>,
}

impl DagExecutor {
    /// Does something inside of the run's driver and answers when it is written.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        run: &str,
        act: impl FnOnce(&mut Driver, Millis) -> Result<T, DagError> + Send + 'static,
    ) -> Result<T, DagError> {
        let run = self.run_of(run);
        let Some(live) = self.live(&run) else { return Err(self.not_live(&run).await) };
        let (message, answer) = asked(act);
        live.driver.send(message).await.map_err(|_| unheard(&run))?;
        answer.await.map_err(|_| unheard(&run))?
    }

    /// The same for a run that may stand: it is brought back, and this is the first thing that happens to it.
    async fn act_reviving<T: Send + 'static>(
        &self,
        run: &str,
        act: impl FnOnce(&mut Driver, Millis) -> Result<T, DagError> + Send + 'static,
    ) -> Result<T, DagError> {
        let run = self.run_of(run);
        if self.live(&run).is_some() {
            return self.act(&run, act).await;
        }
        let (message, answer) = asked(act);
        self.revive(&run, Some(message)).await?;
        answer.await.map_err(|_| unheard(&run))?
    }

    async fn not_live(&self, run: &str) -> DagError {
        match self.run_status(run).await {
            Ok(info) => DagError::InvalidState(format!(
                "run {run} is {} and not at work in this process",
                info.status.name()
            )),
            Err(error) => error,
        }
    }

    /// A run as it stands.
    pub async fn run_status(&self, run: &str) -> Result<RunInfo, DagError> {
        let run = self.run_of(run);
        let found = self.storage().journal().run(&run).await?;
        let row = found.ok_or_else(|| DagError::DagNotFound(format!("there is no run {run}")))?;
        let stalled = self.is_stalled(&run);
        Ok(RunInfo {
            run_id: row.run_id,
            flow: row.flow,
            status: if stalled { RunStatus::Paused } else { row.status },
            reason: if stalled {
                Some("its last step could not be written".into())
            } else {
                row.reason
            },
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }

    /// Runs of a status and flow, newest first, at most `limit`.
    pub async fn list_runs(
        &self,
        status: Option<RunStatus>,
        flow: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RunInfo>, DagError> {
        let rows = self.storage().journal().runs(status, flow.map(str::to_owned), limit).await?;
        let info = |row: crate::journal::RunRow| RunInfo {
            run_id: row.run_id,
            flow: row.flow,
            status: row.status,
            reason: row.reason,
            created_at: row.created_at,
            finished_at: row.finished_at,
        };
        Ok(rows.into_iter().map(info).collect())
    }

    /// Waits until a run ends or pauses.
    pub async fn wait_run(&self, run: &str) -> Result<DagExecutionReport, DagError> {
        let run = self.run_of(run);
        if let Some(live) = self.live(&run) {
            let (waiter, answer) = oneshot::channel();
            if live.driver.send(Message::Wait(waiter)).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
        }
        self.report(&run).await
    }

    /// What a run has come to so far, by its log.
    pub async fn report(&self, run: &str) -> Result<DagExecutionReport, DagError> {
        let (state, _) = self.restore(&self.run_of(run)).await?;
        if state.status == RunStatus::TimedOut {
            return Err(DagError::ExecutionTimeout(state.reason.unwrap_or_default()));
        }
        Ok(report(&state))
    }

    /// Lets what is in flight end and begins nothing more.
    pub async fn pause_run(&self, run: &str) -> Result<(), DagError> {
        self.act(run, |driver, _| {
            driver.run.pause();
            Ok(())
        })
        .await
    }

    /// Lets a paused or timed out run go on; failed nodes get fresh attempts. A running one is left alone.
    pub async fn resume_run(&self, run: &str) -> Result<(), DagError> {
        let run = self.run_of(run);
        if let Some(live) = self.live(&run) {
            let (reply, answer) = oneshot::channel();
            if live.driver.send(Message::Resume(reply)).await.is_ok() && answer.await.is_ok() {
                return Ok(());
            }
        }
        self.revive(&run, None).await
    }

    /// Resumes a paused run, its newest when a flow is named, with more inputs; waits until it ends or pauses again.
    pub async fn resume_from_pause(
        &self,
        dag_or_run: &str,
        input: Value,
    ) -> Result<DagExecutionReport, DagError> {
        let run = self.run_of(dag_or_run);
        let Value::Object(fields) = input else {
            self.resume_run(&run).await?;
            return self.wait_run(&run).await;
        };
        self.act_reviving(&run, move |driver, now| {
            driver.run.give(now, fields.clone());
            let write = |(key, value)| crate::model::entry::Write {
                scope: super::cache::INPUTS.to_owned(),
                key,
                value,
                append: false,
            };
            driver.values.apply(&fields.into_iter().map(write).collect::<Vec<_>>());
            Ok(())
        })
        .await?;
        self.wait_run(&run).await
    }

    /// Cancels a run. What is in flight is told and has its grace; a run that is over is left alone.
    pub async fn cancel_run(&self, run: &str) -> Result<(), DagError> {
        let run = self.run_of(run);
        if self.live(&run).is_none() && self.run_status(&run).await?.status.is_final() {
            return Ok(());
        }
        let cancelled = self.act_reviving(&run, |driver, now| {
            if !driver.run.cancelling {
                driver.run.cancel(now);
                driver.cancel.send_replace(true);
                let grace = i64::try_from(driver.run.config.cancel_grace_seconds).unwrap_or(0);
                driver.grace = Some(now + grace * 1000);
            }
            Ok(())
        });
        match cancelled.await {
            // It ended meanwhile.
            Err(DagError::InvalidState(_)) if self.live(&run).is_none() => Ok(()),
            other => other,
        }
    }

    /// Ends the work of this process on all runs. They stay as they are in the file and can be recovered.
    pub async fn stop(&self) {
        for (_, live) in self.all_live() {
            if live.driver.send(Message::Quit).await.is_ok() {
                live.driver.closed().await;
            }
        }
    }

    /// Sends a signal to a run. It is kept until somebody waits for it, and is delivered once.
    pub async fn signal(&self, run: &str, name: &str, payload: Value) -> Result<(), DagError> {
        let name = name.to_owned();
        self.act(run, move |driver, now| {
            driver.signal(now, &name, payload);
            Ok(())
        })
        .await
    }

    /// Answers a human interrupt: the node completes with the payload.
    pub async fn approve(&self, run: &str, node: &str, payload: Value) -> Result<(), DagError> {
        let given = self.given(payload).await?;
        let node = node.to_owned();
        self.act(run, move |driver, now| {
            let slot = awaiting(driver, &node)?;
            driver.complete_with(now, slot, given);
            Ok(())
        })
        .await
    }

    /// Answers a human interrupt: the node fails, without another attempt.
    pub async fn reject(&self, run: &str, node: &str, reason: &str) -> Result<(), DagError> {
        let (node, reason) = (node.to_owned(), format!("rejected: {reason}"));
        self.act(run, move |driver, now| {
            let slot = awaiting(driver, &node)?;
            driver.run.fail(now, slot, reason, true);
            Ok(())
        })
        .await
    }

    /// Says what became of an attempt that was cut short and must not be repeated by itself.
    pub async fn resolve(
        &self,
        run: &str,
        node: &str,
        resolution: Resolution,
    ) -> Result<(), DagError> {
        let run = self.run_of(run);
        let given = match &resolution {
            Resolution::Complete(outputs) => Some(self.given(outputs.clone()).await?),
            _ => None,
        };
        let node = node.to_owned();
        self.act_reviving(&run, move |driver, now| {
            let slot = in_state(driver, &node, State::Paused, "an attempt that was cut short")?;
            match (resolution, given) {
                (Resolution::Fail, _) => {
                    let error = "resolved as failed".to_owned();
                    driver.run.fail(now, slot, error, true);
                }
                (_, Some(given)) => driver.complete_with(now, slot, given),
                _ => driver.run.again(now, slot),
            }
            Ok(())
        })
        .await
    }

    async fn given(&self, outputs: Value) -> Result<Given, DagError> {
        let outputs = named(Some(outputs));
        if outputs.is_empty() {
            return Ok(Given { outputs, artifact: None });
        }
        let bytes = serde_json::to_vec(&outputs)?;
        let artifact = Some(self.storage().prepare_artifact(bytes.into(), "json").await?);
        Ok(Given { outputs, artifact })
    }

    /// Begins nothing of a branch (a label, or a node with everything after it) until it is resumed. Durable.
    pub async fn pause_branch(&self, dag_or_run: &str, branch: &str) -> Result<(), DagError> {
        let branch = branch.to_owned();
        self.act(dag_or_run, move |driver, now| driver.run.stand(now, &branch, true)).await
    }

    /// Lets a branch go on; its siblings never stood.
    pub async fn resume_branch(&self, dag_or_run: &str, branch: &str) -> Result<(), DagError> {
        let branch = branch.to_owned();
        self.act(dag_or_run, move |driver, now| driver.run.stand(now, &branch, false)).await
    }

    /// Cancels a branch: what runs is aborted, what needs it is skipped.
    pub async fn cancel_branch(&self, dag_or_run: &str, branch: &str) -> Result<(), DagError> {
        let branch = branch.to_owned();
        self.act(dag_or_run, move |driver, now| {
            for slot in driver.run.cancel_branch(now, &branch)? {
                driver.abort(slot);
            }
            Ok(())
        })
        .await
    }

    /// Returns when a branch does not stand any more, or its run is over.
    pub async fn await_branch_resumed(
        &self,
        dag_or_run: &str,
        branch: &str,
    ) -> Result<(), DagError> {
        let run = self.run_of(dag_or_run);
        let Some(live) = self.live(&run) else { return Ok(()) };
        let mut progress = live.progress;
        loop {
            progress.borrow_and_update();
            let name = branch.to_owned();
            if !self.act(&run, move |driver, _| Ok(driver.run.stands(&name))).await? {
                return Ok(());
            }
            if progress.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

type Answer<T> = oneshot::Receiver<Result<T, DagError>>;

fn asked<T: Send + 'static>(
    act: impl FnOnce(&mut Driver, Millis) -> Result<T, DagError> + Send + 'static,
) -> (Message, Answer<T>) {
    let (reply, answer) = oneshot::channel();
    let act = Box::new(move |driver: &mut Driver, now| {
        let result = act(driver, now);
        driver.after.push(Box::new(move |written| drop(reply.send(written.and(result)))));
    });
    (Message::Act(act), answer)
}

fn unheard(run: &str) -> DagError {
    DagError::InvalidState(format!(
        "run {run} takes no commands: it has just ended, or its last step could not be written; resume it"
    ))
}

fn awaiting(driver: &Driver, node: &str) -> Result<Slot, DagError> {
    let slot = in_state(driver, node, State::Waiting, "waiting for a person")?;
    match driver.run.item(slot).wait {
        Some((Wait::Human, _)) => Ok(slot),
        _ => Err(DagError::InvalidState(format!(
            "run {}: node {node} waits for a signal, not for a person",
            driver.run.run_id
        ))),
    }
}

fn in_state(driver: &Driver, node: &str, state: State, what: &str) -> Result<Slot, DagError> {
    let run = &driver.run;
    let Some(at) = run.index.get(node).copied() else {
        return Err(DagError::NodeNotFound(format!("run {}: node {node}", run.run_id)));
    };
    let items = &run.nodes[at].items;
    let found = items.iter().position(|item| item.state == state);
    found.map(|item| Slot { node: at, item }).ok_or_else(|| {
        let is = items.first().map_or("pending", |item| item.state.name());
        DagError::InvalidState(format!("run {}: node {node} is {is}; expected {what}", run.run_id))
    })
}
