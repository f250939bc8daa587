//! What a driver decides with values in hand: which inputs an attempt gets, whether an earlier output serves, what a node
//! fans out over, and what an outcome means.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::action::{CancelToken, NodeCtx};
use super::attempt::{Job, Link, Outcome};
use super::cache::{self, look_up, resolve};
use super::driver::{Driver, Live};
use super::registry::Registered;
use crate::clock::Millis;
use crate::error::DagError;
use crate::journal::{Artifact, Reusable};
use crate::model::control::HUMAN_INTERRUPT;
use crate::model::entry::{Entry, Slot, Wait, Write};
use crate::model::graph::{DEFAULT_KEY, Node};
use crate::model::run::Next;
use crate::model::status::State;
use crate::model::when;

impl Driver {
    /// Begins what may begin, then looks whether the run is over.
    pub(crate) async fn advance(&mut self) {
        let now = self.executor.storage().clock().now();
        while let Some(next) = self.run.next() {
            match next {
                Next::Begin(slot) => self.begin(now, slot).await,
                Next::Expand(node) => self.expand(now, node),
            }
        }
        self.run.conclude(now);
        if self.run.status.is_final() {
            self.attempts.clear();
        }
    }

    /// A value as this step sees it: what it is about to write, then what is written.
    fn value(&self, scope: &str, key: &str) -> Option<Value> {
        let staged = self.staged.get(scope).and_then(|values| values.get(key)).cloned();
        staged.or_else(|| self.values.get(scope, key))
    }

    fn look_up(&self, reference: &str) -> Option<Value> {
        look_up(reference, &self.run.flow, &|scope, key| self.value(scope, key))
    }

    fn is_refused(&self, node: &Node) -> bool {
        let Some(condition) = node.when.as_deref() else { return false };
        // Definitions with a condition that cannot be read are refused when they are loaded.
        when::parse(condition)
            .is_ok_and(|condition| !when::holds(&condition, &|reference| self.look_up(reference)))
    }

    fn expand(&mut self, now: Millis, at: usize) {
        let node = Arc::clone(&self.run.nodes[at].node);
        if self.is_refused(&node) {
            return self.run.refuse(now, at);
        }
        let reference = node.for_each.as_deref().unwrap_or_default();
        let all = self.look_up(reference).map(Arc::new);
        let keys = match all.as_deref() {
            Some(Value::Array(items)) => (0..items.len()).map(|index| index.to_string()).collect(),
            Some(Value::Object(fields)) => fields.keys().cloned().collect(),
            found => {
                self.run.expand(now, at, vec![DEFAULT_KEY.to_owned()]);
                let what = found.map_or("no value", |_| "neither a list nor an object");
                let error = format!("for_each: `{reference}` leads to {what}");
                return self.run.fail(now, Slot { node: at, item: 0 }, error, true);
            }
        };
        let keys: Vec<String> = keys;
        let is_empty = keys.is_empty();
        self.spread.extend(all.filter(|_| !is_empty).map(|all| (at, all)));
        self.run.expand(now, at, keys);
        if is_empty {
            self.gather(at);
        }
    }

    async fn begin(&mut self, now: Millis, slot: Slot) {
        let node = Arc::clone(self.run.node(slot));
        if self.run.item(slot).attempt == 0 && node.for_each.is_none() && self.is_refused(&node) {
            return self.run.refuse(now, slot.node);
        }
        if node.action == HUMAN_INTERRUPT {
            let minutes = self.run.config.human_wait_minutes.map(i64::from);
            return self.run.wait(now, slot, Wait::Human, minutes.map(|n| now + n * 60_000));
        }
        let Some(action) = self.executor.action_of(&node) else {
            let name = &node.action;
            self.run.pause_for(format!("node {}: action `{name}` is not registered", node.id));
            return;
        };
        let inputs = match self.inputs(&node, slot) {
            Ok(inputs) => inputs,
            Err(error) => return self.run.fail(now, slot, error.to_string(), true),
        };
        let hash = input_hash(&node, &action, &inputs);
        let reuse = node.cache.unwrap_or(self.run.config.reuse_cached_outputs);
        if reuse && self.take_reusable(now, slot, hash).await {
            return;
        }
        let last = self.run.is_last_attempt(slot);
        let attempt = self.run.begin(now, slot, hash);
        self.attempts.insert(slot, Live { hash, reuse, ..Live::default() });
        let job = self.job(&node, slot, attempt, action, inputs, last);
        self.starts.push((slot, job));
    }

    fn job(
        &self,
        node: &Arc<Node>,
        slot: Slot,
        attempt: u32,
        action: Arc<Registered>,
        inputs: Value,
        last: bool,
    ) -> Job {
        let failure = (!node.failure.is_empty()).then(|| self.executor.find_action(&node.failure));
        let limit =
            node.timeout.or(self.run.config.timeout_seconds).filter(|_| node.timeout.is_some());
        let ctx = NodeCtx {
            dag_name: self.run.flow.to_string(),
            run_id: self.run.run_id.to_string(),
            node_id: node.id.clone(),
            invocation_key: self.run.item(slot).key.clone(),
            attempt,
            inputs,
            cache: self.values.layered(),
            app_data: self.executor.app_data(),
            cancel: CancelToken(self.cancel.subscribe()),
            node: Arc::clone(node),
            executor: self.handle.clone(),
            link: Link { slot, attempt, driver: self.to_self.clone() },
        };
        Job {
            action,
            failure: failure.flatten(),
            ctx,
            storage: self.executor.storage().clone(),
            timeout: limit.map(Duration::from_secs),
            last,
            places: self.executor.places(node),
        }
    }

    /// What a node fans out over, looked up once and not for each element.
    fn spread(&mut self, at: usize, reference: &str) -> Arc<Value> {
        if let Some(all) = self.spread.get(&at) {
            return Arc::clone(all);
        }
        let all = Arc::new(self.look_up(reference).unwrap_or_default());
        self.spread.insert(at, Arc::clone(&all));
        all
    }

    fn inputs(&mut self, node: &Node, slot: Slot) -> Result<Value, DagError> {
        let mut inputs = match &node.values {
            Value::Object(fields) => fields.clone(),
            _ => Map::new(),
        };
        if let Some(reference) = &node.for_each {
            let all = self.spread(slot.node, reference);
            let key = &self.run.item(slot).key;
            let item = cache::dig(&all, key).cloned().ok_or_else(|| {
                DagError::ValidationError(format!(
                    "for_each: `{reference}` has no `{key}` any more"
                ))
            })?;
            inputs.insert("item".to_owned(), item);
            inputs.insert("key".to_owned(), Value::String(key.clone()));
        }
        for field in &node.inputs {
            if inputs.contains_key(&field.name) && field.reference.is_none() {
                continue;
            }
            let value = resolve(field, &self.run.flow, &|scope, key| self.value(scope, key))?;
            inputs.insert(field.name.clone(), value);
        }
        Ok(Value::Object(inputs))
    }

    /// Takes the output of an earlier equal step, if there is one.
    async fn take_reusable(&mut self, now: Millis, slot: Slot, hash: [u8; 32]) -> bool {
        let storage = self.executor.storage().clone();
        // Without an answer from the file the step simply runs.
        let Ok(Some(found)) = storage.journal().reusable(hash).await else { return false };
        let outputs = match &found.artifact {
            None => Map::new(),
            Some(id) => {
                match storage.get_artifact(id).await.map(|bytes| serde_json::from_slice(&bytes)) {
                    Ok(Ok(Value::Object(outputs))) => outputs,
                    _ => return false,
                }
            }
        };
        let writes: Vec<Write> = match found.writes.as_deref().map(serde_json::from_str) {
            None => Vec::new(),
            Some(Ok(writes)) => writes,
            Some(Err(_)) => return false,
        };
        self.complete(now, slot, 0, hash, outputs, found.artifact, writes);
        true
    }

    /// An attempt said how it went.
    pub(crate) fn take_outcome(&mut self, now: Millis, slot: Slot, attempt: u32, outcome: Outcome) {
        if !self.is_current(slot, attempt) {
            return;
        }
        let Some(live) = self.attempts.remove(&slot) else { return };
        match outcome {
            Outcome::Failed { error, permanent } => self.run.fail(now, slot, error, permanent),
            Outcome::Completed { .. } if self.run.cancelling => self.run.cancel_one(now, slot),
            Outcome::Completed { outputs, artifact, writes } => {
                let id = artifact.as_ref().map(|artifact| artifact.id.clone());
                self.artifacts.extend(artifact);
                if live.reuse {
                    let text = (!writes.is_empty()).then(|| json!(writes).to_string());
                    let (hash, artifact) = (live.hash, id.clone());
                    self.reusable.push(Reusable { hash, artifact, writes: text });
                }
                self.complete(now, slot, attempt, live.hash, outputs, id, writes);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the parts of one entry")]
    fn complete(
        &mut self,
        now: Millis,
        slot: Slot,
        attempt: u32,
        hash: [u8; 32],
        outputs: Map<String, Value>,
        artifact: Option<String>,
        writes: Vec<Write>,
    ) {
        let node = Arc::clone(self.run.node(slot));
        let ms = self.run.item(slot).began.map_or(0, |began| now - began);
        let entry = Entry::Completed { slot, attempt, hash, artifact, writes: writes.clone(), ms };
        self.run.complete(now, entry);
        let key = &self.run.item(slot).key;
        let scope =
            if node.for_each.is_some() { element_scope(&node.id, key) } else { node.id.clone() };
        self.stage(outputs.into_iter().map(|(key, value)| Write {
            scope: scope.clone(),
            key,
            value,
            append: false,
        }));
        self.stage(writes);
        if node.for_each.is_some() {
            self.gather(slot.node);
        }
    }

    /// What a person or a resolution gave becomes the node's output.
    pub(crate) fn complete_with(&mut self, now: Millis, slot: Slot, given: Given) {
        self.abort(slot);
        let attempt = self.run.item(slot).attempt;
        let id = given.artifact.as_ref().map(|artifact| artifact.id.clone());
        self.artifacts.extend(given.artifact);
        self.complete(now, slot, attempt, [0; 32], given.outputs, id, Vec::new());
    }

    fn stage(&mut self, writes: impl IntoIterator<Item = Write>) {
        for write in writes {
            if write.append
                && self.staged.get(&write.scope).is_none_or(|known| !known.contains_key(&write.key))
            {
                // An append adds to what is written already.
                if let Some(value) = self.values.get(&write.scope, &write.key) {
                    self.staged
                        .entry(write.scope.clone())
                        .or_default()
                        .insert(write.key.clone(), value);
                }
            }
            cache::apply(&mut self.staged, std::slice::from_ref(&write));
            self.staged_writes.push(write);
        }
    }

    /// When all invocations of a node have completed, its outputs are lists in the order of the input.
    fn gather(&mut self, at: usize) {
        if !self.run.nodes[at].items.iter().all(|item| item.state == State::Completed) {
            return;
        }
        self.spread.remove(&at);
        let node = Arc::clone(&self.run.nodes[at].node);
        let keys: Vec<String> =
            self.run.nodes[at].items.iter().map(|item| item.key.clone()).collect();
        let items: Vec<Map<String, Value>> = keys
            .iter()
            .map(|key| {
                let scope = element_scope(&node.id, key);
                let mut outputs =
                    self.values.read(|all| all.get(&scope).cloned()).unwrap_or_default();
                outputs.extend(self.staged.get(&scope).cloned().unwrap_or_default());
                outputs
            })
            .collect();
        self.stage(super::recover::lists(&node, items));
    }
}

/// Outputs that a caller gave, ready to be written.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) outputs: Map<String, Value>,
    pub(crate) artifact: Option<Artifact>,
}

/// Where the outputs of one element stand.
pub(crate) fn element_scope(node: &str, key: &str) -> String {
    format!("{node}[{key}]")
}

/// SHA-256 of what decides an output: action, its version, inputs, instructions. Keys of objects are sorted.
fn input_hash(node: &Node, action: &Registered, inputs: &Value) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [&node.action, &action.version] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = String::new();
    canonical(inputs, &mut text);
    hash.update(text.as_bytes());
    for line in &node.instructions {
        hash.update((line.len() as u64).to_le_bytes());
        hash.update(line.as_bytes());
    }
    hash.finalize().into()
}

fn canonical(value: &Value, into: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            into.push('{');
            for (key, value) in fields {
                into.push_str(&Value::String(key.clone()).to_string());
                into.push(':');
                canonical(value, into);
                into.push(',');
            }
            into.push('}');
        }
        Value::Array(items) => {
            into.push('[');
            for item in items {
                canonical(item, into);
                into.push(',');
            }
            into.push(']');
        }
        plain => into.push_str(&plain.to_string()),
    }
}
