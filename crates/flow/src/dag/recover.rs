//! Runs that are not in memory: read from their logs, taken over, put to work again.

use std::pin::Pin;
use std::time::Duration;

use serde_json::{Map, Value};

use super::cache::{self, Cache, Scopes};
use super::driver::Message;
use super::executor::DagExecutor;
use super::steps::element_scope;
use crate::error::DagError;
use crate::journal::{RunRow, decode, lease_ended};
use crate::model::config::DagConfig;
use crate::model::entry::{Entry, Write};
use crate::model::graph::GraphDefinition;
use crate::model::run::RunState;
use crate::model::status::{RunStatus, State};

/// Entries read at once.
const PAGE: u32 = 10_000;
/// Runs recovered by one call at most.
const MOST: u32 = 100_000;

impl DagExecutor {
    /// Goes on with every run that was running when its process ended; answers their ids.
    ///
    /// Runs of processes that are alive are left to them. One whose lease ends later is looked at again then.
    pub async fn recover(&self) -> Result<Vec<String>, DagError> {
        let journal = self.storage().journal();
        let rows = journal.runs(Some(RunStatus::Running), None, MOST).await?;
        let mut recovered = Vec::new();
        let mut later: Option<i64> = None;
        let now = self.storage().clock().now();
        for row in rows.into_iter().rev() {
            if self.live(&row.run_id).is_some() {
                continue;
            }
            if !self.is_free(&row, now) {
                later = row.lease.into_iter().chain(later).min();
                continue;
            }
            let id = row.run_id.clone();
            match self.take_over(row, None).await {
                Ok(true) => recovered.push(id),
                Ok(false) => {}
                // One damaged run does not keep the others from going on.
                Err(error) => tracing::error!(run = id, %error, "a run could not be recovered"),
            }
        }
        if let Some(at) = later {
            self.recover_at(at - now);
        }
        Ok(recovered)
    }

    /// Looks again when a lease ends.
    fn recover_at(&self, left: i64) {
        let weak = std::sync::Arc::downgrade(&self.inner);
        let later: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            // A little later, so that the lease is over by every clock of this machine.
            let left = u64::try_from(left).unwrap_or(0) + 10;
            tokio::time::sleep(Duration::from_millis(left)).await;
            let Some(inner) = weak.upgrade() else { return };
            if let Err(error) = (Self { inner, bound: None }).recover().await {
                tracing::error!(%error, "runs of another process could not be looked at");
            }
        });
        tokio::spawn(later);
    }

    /// Whether nobody works on the run.
    fn is_free(&self, row: &RunRow, now: i64) -> bool {
        let owner = self.storage().owner();
        match &row.owner {
            None => true,
            Some(name) => name == owner.name() || lease_ended(row, now) || owner.is_dead(name),
        }
    }

    /// Lets a run that stands go on in this process; `first` happens to it before anything begins.
    pub(crate) async fn revive(&self, run: &str, first: Option<Message>) -> Result<(), DagError> {
        let found = self.storage().journal().run(run).await?;
        let row = found.ok_or_else(|| DagError::DagNotFound(format!("there is no run {run}")))?;
        if row.status.is_final() {
            let status = row.status.name();
            return Err(DagError::InvalidState(format!("run {run} is {status}; it cannot go on")));
        }
        let works = row.busy && row.status == RunStatus::Running;
        if works && !self.is_free(&row, self.storage().clock().now()) {
            return Err(DagError::LockError(format!("run {run} is at work in another process")));
        }
        if self.take_over(row, first).await? {
            return Ok(());
        }
        Err(DagError::StaleLease(format!("run {run} was taken over by another process")))
    }

    async fn take_over(&self, row: RunRow, first: Option<Message>) -> Result<bool, DagError> {
        if !self.storage().journal().claim(&row, self.storage().owner().name()).await? {
            return Ok(false);
        }
        if let Some(name) = row.owner.clone().filter(|name| self.storage().owner().is_dead(name)) {
            self.storage().journal().forget_owner(name).await?;
        }
        let (key, version) = (row.row, row.version + 1);
        let (mut run, values) = self.rebuild(row).await?;
        let now = self.storage().clock().now();
        match run.status {
            RunStatus::Running => run.repeat_interrupted(now),
            _ => run.resume(now),
        }
        let mut driver = self.driver(run, values);
        driver.row = key;
        driver.version = version;
        driver.held.extend(first);
        self.spawn(driver);
        Ok(true)
    }

    /// A run's state by its log, without working on it.
    pub(crate) async fn restore(&self, run: &str) -> Result<(RunState, Cache), DagError> {
        let found = self.storage().journal().run(run).await?;
        let row = found.ok_or_else(|| DagError::DagNotFound(format!("there is no run {run}")))?;
        self.rebuild(row).await
    }

    async fn rebuild(&self, row: RunRow) -> Result<(RunState, Cache), DagError> {
        let graph: GraphDefinition = serde_json::from_str(&row.definition)?;
        let config: DagConfig = serde_json::from_str(&row.config)?;
        let mut scopes: Scopes = serde_json::from_str(&row.inputs)?;
        let mut run = RunState::new(&row.run_id, &graph, config);
        let mut gathered = Vec::new();
        loop {
            let page = self.storage().journal().log(row.row, run.sequence, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            for (entry, inline) in page {
                let (at, artifact) = (entry.at, entry.artifact.clone());
                let entry = decode(&run, &entry)?;
                run.replay(at, &entry);
                if let Entry::Completed { slot, writes, .. } = &entry {
                    let outputs = self.outputs(artifact, inline).await?;
                    let (node, key) = (run.node(*slot), &run.item(*slot).key);
                    let scope = match node.for_each {
                        Some(_) => element_scope(&node.id, key),
                        None => node.id.clone(),
                    };
                    if node.for_each.is_some() && !gathered.contains(&slot.node) {
                        gathered.push(slot.node);
                    }
                    scopes.entry(scope).or_default().extend(outputs);
                    cache::apply(&mut scopes, writes);
                } else if let Entry::InputsGiven { values } = &entry {
                    scopes.entry(cache::INPUTS.to_owned()).or_default().extend(values.clone());
                } else if let Entry::Expanded { node, keys } = &entry
                    && keys.is_empty()
                {
                    gathered.push(*node);
                }
            }
            if is_last {
                break;
            }
        }
        for node in gathered {
            gather(&run, &mut scopes, node);
        }
        Ok((run, Cache::of(scopes)))
    }

    async fn outputs(
        &self,
        artifact: Option<String>,
        inline: Option<Vec<u8>>,
    ) -> Result<Map<String, Value>, DagError> {
        let bytes = match (artifact, inline) {
            (None, _) => return Ok(Map::new()),
            (Some(_), Some(bytes)) => bytes,
            (Some(id), None) => self.storage().get_artifact(&id).await?,
        };
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// The outputs of a node that fanned out, as lists.
pub(super) fn gather(run: &RunState, scopes: &mut Scopes, at: usize) {
    let state = &run.nodes[at];
    if !state.items.iter().all(|item| item.state == State::Completed) {
        return;
    }
    let items: Vec<Map<String, Value>> = state
        .items
        .iter()
        .map(|item| {
            scopes.get(&element_scope(&state.node.id, &item.key)).cloned().unwrap_or_default()
        })
        .collect();
    let writes: Vec<Write> = lists(&state.node, items);
    cache::apply(scopes, &writes);
}

/// One list per output name, in the order of the input, and `items` with all of them.
pub(super) fn lists(
    node: &crate::model::graph::Node,
    items: Vec<Map<String, Value>>,
) -> Vec<Write> {
    let declared = node.outputs.iter().map(|output| output.name.clone());
    let mut names: Vec<String> =
        declared.chain(items.iter().flat_map(|item| item.keys().cloned())).collect();
    names.sort();
    names.dedup();
    let list = |name: &String| {
        items.iter().map(|item| item.get(name).cloned().unwrap_or_default()).collect()
    };
    let mut lists: Vec<(String, Value)> =
        names.iter().map(|name| (name.clone(), Value::Array(list(name)))).collect();
    let items = items.into_iter().map(Value::Object).collect();
    lists.push(("items".to_owned(), Value::Array(items)));
    let write = |(key, value)| Write { scope: node.id.clone(), key, value, append: false };
    lists.into_iter().map(write).collect()
}
