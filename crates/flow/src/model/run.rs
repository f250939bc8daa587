//! State of one run in memory: what can begin, what waits, what is over. Pure: every change is an [`Entry`], applied by
//! `apply.rs` both live and when a log is read again.
//!
//! ```text
//! pending -> ready -> running -> completed
//!    ^         ^        |  \---> waiting -> running | ready | completed | failed
//!    |         |        v
//!    |         +---- failed, another attempt is due
//!    +-- dependents of what failed for good: skipped        in doubt: paused until resolved
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::config::{DagConfig, OnFailure};
use super::entry::{Entry, Slot, Wait};
use super::graph::{DEFAULT_KEY, GraphDefinition, Node};
use super::retry;
use super::status::{RunStatus, State};

/// One invocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) state: State,
    /// Of the newest attempt; 0 before the first.
    pub(crate) attempt: u32,
    /// Failed attempts since it last got fresh ones.
    pub(crate) failures: u32,
    pub(crate) errors: Vec<String>,
    pub(crate) artifact: Option<String>,
    pub(crate) wait: Option<(Wait, Option<i64>)>,
    pub(crate) due: Option<i64>,
    pub(crate) delivered: Vec<(String, Value)>,
    pub(crate) began: Option<i64>,
    pub(crate) ms: i64,
    pub(crate) by_condition: bool,
}

/// One node with its invocations.
#[derive(Clone, Debug)]
pub(crate) struct NodeState {
    pub(crate) node: Arc<Node>,
    pub(crate) before: Vec<usize>,
    pub(crate) after: Vec<usize>,
    pub(crate) unmet: usize,
    pub(crate) items: Vec<Item>,
    /// Whether a node that fans out has done so.
    pub(crate) expanded: bool,
    pub(crate) open: usize,
    pub(crate) running: usize,
    /// Invocations that are ready while as many run as may.
    pub(crate) backlog: Vec<usize>,
}

/// In the heap of what is ready: higher priority, then earlier declared.
type Rank = (i64, Reverse<usize>, Reverse<usize>);

/// A run.
#[derive(Debug)]
pub(crate) struct RunState {
    pub(crate) run_id: Arc<str>,
    pub(crate) flow: Arc<str>,
    pub(crate) agent: bool,
    pub(crate) config: DagConfig,
    pub(crate) status: RunStatus,
    pub(crate) reason: Option<String>,
    pub(crate) sequence: i64,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) index: HashMap<String, usize>,
    pub(super) ready: BinaryHeap<Rank>,
    pub(super) timers: BTreeSet<(i64, Slot)>,
    pub(crate) in_flight: usize,
    pub(super) waiting: usize,
    pub(super) humans: usize,
    pub(super) human_since: i64,
    /// When it began or was last resumed, and how long people were waited for since.
    pub(super) since: i64,
    pub(super) waited: i64,
    pub(super) open_nodes: usize,
    pub(super) signals: BTreeMap<String, std::collections::VecDeque<Value>>,
    pub(super) standing: BTreeSet<String>,
    pub(super) pausing: Option<String>,
    pub(crate) cancelling: bool,
    pub(crate) stopping: bool,
    pub(crate) iterations: u32,
    out: Vec<Recorded>,
}

/// An entry with when it happened and the attempt that it is about, as that was then.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) sequence: i64,
    pub(crate) at: i64,
    pub(crate) attempt: u32,
    pub(crate) entry: Entry,
}

/// What the newest step of deciding asks for, besides its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Begin this invocation: resolve its inputs, then say how it went.
    Begin(Slot),
    /// Resolve what this node fans out over.
    Expand(usize),
}

impl RunState {
    /// A run of a graph that was checked, before anything happened.
    pub(crate) fn new(run_id: &str, graph: &GraphDefinition, config: DagConfig) -> Self {
        let mut run = Self {
            run_id: run_id.into(),
            flow: graph.name.as_str().into(),
            agent: graph.agent,
            config,
            status: RunStatus::Pending,
            reason: None,
            sequence: 0,
            nodes: Vec::with_capacity(graph.nodes.len()),
            index: HashMap::with_capacity(graph.nodes.len()),
            ready: BinaryHeap::new(),
            timers: BTreeSet::new(),
            in_flight: 0,
            waiting: 0,
            humans: 0,
            human_since: 0,
            since: 0,
            waited: 0,
            open_nodes: 0,
            signals: BTreeMap::new(),
            standing: BTreeSet::new(),
            pausing: None,
            cancelling: false,
            stopping: false,
            iterations: 0,
            out: Vec::new(),
        };
        run.grow(graph.nodes.iter().cloned());
        run
    }

    /// Notes that something happened.
    pub(super) fn record(&mut self, now: i64, entry: Entry) {
        self.sequence += 1;
        self.apply(now, &entry);
        let attempt = entry.slot().map_or(0, |slot| self.item(slot).attempt);
        self.out.push(Recorded { sequence: self.sequence, at: now, attempt, entry });
    }

    /// What happened since it was last asked.
    pub(crate) fn take_entries(&mut self) -> Vec<Recorded> {
        std::mem::take(&mut self.out)
    }

    /// Whether something happened that nobody has taken.
    pub(crate) fn has_entries(&self) -> bool {
        !self.out.is_empty()
    }

    /// The invocation's state.
    pub(crate) fn item(&self, slot: Slot) -> &Item {
        &self.nodes[slot.node].items[slot.item]
    }

    pub(super) fn item_mut(&mut self, slot: Slot) -> &mut Item {
        &mut self.nodes[slot.node].items[slot.item]
    }

    /// The node of an invocation.
    pub(crate) fn node(&self, slot: Slot) -> &Arc<Node> {
        &self.nodes[slot.node].node
    }

    /// The invocation of a node with this key; the only one when the key is absent.
    pub(crate) fn find(&self, node: &str, key: Option<&str>) -> Option<Slot> {
        let at = *self.index.get(node)?;
        let key = key.unwrap_or(DEFAULT_KEY);
        let item = self.nodes[at].items.iter().position(|item| item.key == key)?;
        Some(Slot { node: at, item })
    }

    /// Begins the run.
    pub(crate) fn start(&mut self, now: i64) {
        self.record(now, Entry::Run { status: RunStatus::Running, reason: None });
        let nodes = self.nodes.iter().map(|state| state.node.id.clone()).collect();
        self.record(now, Entry::Planned { nodes });
    }

    /// The next thing that may begin now, if there is room. The answer counts as begun only once it is said how it went.
    pub(crate) fn next(&mut self) -> Option<Next> {
        let stands = self.status != RunStatus::Running
            || self.pausing.is_some()
            || self.stopping
            || self.cancelling;
        if stands || self.in_flight >= self.config.width() {
            return None;
        }
        while let Some((_, Reverse(node), Reverse(item))) = self.ready.pop() {
            if self.is_standing(node) {
                // Resuming the branch makes it ready again.
                continue;
            }
            let state = &mut self.nodes[node];
            if item == usize::MAX {
                if !state.expanded && state.unmet == 0 && state.open > 0 {
                    return Some(Next::Expand(node));
                }
                continue;
            }
            if state.items[item].state != State::Ready {
                continue;
            }
            if state.node.max_parallel.is_some_and(|most| state.running >= most) {
                state.backlog.push(item);
                continue;
            }
            return Some(Next::Begin(Slot { node, item }));
        }
        None
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self, now: i64, slot: Slot, hash: [u8; 32]) -> u32 {
        let attempt = self.item(slot).attempt + 1;
        self.record(now, Entry::Started { slot, attempt, hash });
        attempt
    }

    /// A node that fans out does so; no keys complete it at once.
    pub(crate) fn expand(&mut self, now: i64, node: usize, keys: Vec<String>) {
        self.record(now, Entry::Expanded { node, keys });
    }

    /// An invocation waits for a person or a signal.
    pub(crate) fn wait(&mut self, now: i64, slot: Slot, wait: Wait, until: Option<i64>) {
        self.record(now, Entry::Waiting { slot, wait, until });
    }

    /// Whether one more failed attempt would be the last.
    pub(crate) fn is_last_attempt(&self, slot: Slot) -> bool {
        let node = self.node(slot);
        let most = match node.try_count {
            Some(count) => count.max(1),
            None => self.config.max_attempts.unwrap_or(1),
        };
        !node.onfailure
            || node.durability == super::graph::Durability::AtMostOnce
            || self.item(slot).failures + 1 >= most
    }

    /// An attempt failed; it is repeated later or the node has failed for good.
    pub(crate) fn fail(&mut self, now: i64, slot: Slot, error: String, permanent: bool) {
        let attempt = self.item(slot).attempt;
        let ms = self.item(slot).began.map_or(0, |began| now - began);
        if self.cancelling || self.stopping {
            return self.record(now, Entry::Cancelled { slot });
        }
        let last = permanent || self.is_last_attempt(slot);
        let retry_at = (!last).then(|| {
            let (node, key) = (&self.node(slot).id, &self.item(slot).key);
            let chance = retry::chance(&self.run_id, node, key, attempt);
            let failures = self.item(slot).failures + 1;
            let config = &self.config;
            now + retry::delay(config.retry_strategy, config.retry_jitter, failures, chance)
        });
        self.record(now, Entry::Failed { slot, attempt, error, retry_at, ms });
        if last {
            self.after_failure(now, slot);
        }
    }

    fn after_failure(&mut self, now: i64, slot: Slot) {
        match self.config.on_failure {
            OnFailure::Continue => self.skip_after(now, slot.node),
            OnFailure::Pause => {
                let id = &self.node(slot).id;
                let error = self.item(slot).errors.last().map_or("", String::as_str);
                self.pausing = Some(format!("node {id} failed: {error}"));
            }
            OnFailure::Stop => {
                self.stopping = true;
                self.cancel_open(now, false);
            }
        }
    }

    /// Skips what needs a node that will not complete.
    pub(super) fn skip_after(&mut self, now: i64, node: usize) {
        let mut left = vec![node];
        while let Some(at) = left.pop() {
            let reason = format!("node {} did not complete", self.nodes[at].node.id);
            let by_condition = self.nodes[at].items.iter().any(|item| item.by_condition);
            for next in self.nodes[at].after.clone() {
                if self.nodes[next].node.always || self.nodes[next].open == 0 {
                    continue;
                }
                self.skip_node(now, next, &reason, by_condition);
                left.push(next);
            }
        }
    }

    fn skip_node(&mut self, now: i64, node: usize, reason: &str, by_condition: bool) {
        self.give_items(now, node);
        for item in 0..self.nodes[node].items.len() {
            let slot = Slot { node, item };
            if !self.item(slot).state.is_final() {
                let reason = reason.to_owned();
                self.record(now, Entry::Skipped { slot, reason, by_condition });
            }
        }
    }

    /// A node that never fanned out ends as one invocation.
    pub(super) fn give_items(&mut self, now: i64, node: usize) {
        if !self.nodes[node].expanded {
            self.record(now, Entry::Expanded { node, keys: vec![DEFAULT_KEY.to_owned()] });
        }
    }

    /// The condition of a node is false.
    pub(crate) fn refuse(&mut self, now: i64, node: usize) {
        let reason = "its condition is false".to_owned();
        self.skip_node(now, node, &reason, true);
        self.skip_after(now, node);
    }

    /// Cancels what has not ended; what is in flight only when `running` says so (its attempt was aborted).
    pub(crate) fn cancel_open(&mut self, now: i64, running: bool) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].open > 0 {
                self.cancel_node(now, node, running);
            }
        }
    }

    pub(super) fn cancel_node(&mut self, now: i64, node: usize, running: bool) {
        self.give_items(now, node);
        for item in 0..self.nodes[node].items.len() {
            let slot = Slot { node, item };
            let state = self.item(slot).state;
            if !state.is_final() && (running || state != State::Running) {
                self.record(now, Entry::Cancelled { slot });
            }
        }
    }
}
