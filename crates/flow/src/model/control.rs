//! What callers may do to a run while it goes on: pause, resume, cancel, answer, resolve, grow.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

use super::check;
use super::config::HumanTimeoutAction;
use super::entry::{Entry, Slot, Wait};
use super::graph::{Durability, GraphDefinition, Node};
use super::run::RunState;
use super::status::{RunStatus, State};
use crate::error::DagError;

/// The built-in action that waits for a person.
pub const HUMAN_INTERRUPT: &str = "human_interrupt";
/// How ids of reviews begin.
const REVIEW: &str = "review_";
/// The action of an agent's step.
pub const SUPERVISOR_STEP: &str = "supervisor_step";

impl RunState {
    /// Lets what is in flight end and begins nothing more.
    pub(crate) fn pause(&mut self) {
        if self.pausing.is_none() {
            self.pausing = Some("paused by a caller".to_owned());
        }
    }

    /// Begins nothing more, for this reason.
    pub(crate) fn pause_for(&mut self, reason: String) {
        self.pausing = Some(reason);
    }

    /// An attempt ended while its run is being cancelled.
    pub(crate) fn cancel_one(&mut self, now: i64, slot: Slot) {
        self.record(now, Entry::Cancelled { slot });
    }

    /// An invocation completed.
    pub(crate) fn complete(&mut self, now: i64, entry: Entry) {
        self.record(now, entry);
    }

    /// Gives an invocation fresh attempts.
    pub(crate) fn again(&mut self, now: i64, slot: Slot) {
        self.record(now, Entry::Again { slot, fresh: true });
    }

    /// Goes on: failed nodes get fresh attempts, attempts that were cut short are repeated.
    pub(crate) fn resume(&mut self, now: i64) {
        self.record(now, Entry::Run { status: RunStatus::Running, reason: None });
        self.each(|run, slot| {
            if run.item(slot).state == State::Failed {
                run.record(now, Entry::Again { slot, fresh: true });
            }
        });
        self.repeat_interrupted(now);
    }

    /// Decides about attempts that nobody works on any more, after a crash or a time limit.
    pub(crate) fn repeat_interrupted(&mut self, now: i64) {
        self.each(|run, slot| {
            if run.item(slot).state != State::Running {
                return;
            }
            if run.node(slot).durability == Durability::AtMostOnce {
                let reason = "the attempt was cut short; nobody knows whether it had its effect";
                run.record(now, Entry::InDoubt { slot, reason: reason.to_owned() });
            } else {
                run.record(now, Entry::Again { slot, fresh: false });
            }
        });
    }

    fn each(&mut self, mut act: impl FnMut(&mut Self, Slot)) {
        for node in 0..self.nodes.len() {
            for item in 0..self.nodes[node].items.len() {
                act(self, Slot { node, item });
            }
        }
    }

    /// Invocations in flight.
    pub(crate) fn running(&self) -> Vec<Slot> {
        let of =
            |node: usize| (0..self.nodes[node].items.len()).map(move |item| Slot { node, item });
        let busy = (0..self.nodes.len()).filter(|node| self.nodes[*node].running > 0);
        busy.flat_map(of).filter(|slot| self.item(*slot).state == State::Running).collect()
    }

    /// Cancels everything; what is in flight has its grace.
    pub(crate) fn cancel(&mut self, now: i64) {
        self.cancelling = true;
        self.cancel_open(now, false);
    }

    pub(super) fn human_timeout(&mut self, now: i64, slot: Slot) {
        let id = self.node(slot).id.clone();
        match self.config.human_timeout_action {
            HumanTimeoutAction::Pause => {
                self.record(now, Entry::Waiting { slot, wait: Wait::Human, until: None });
                self.pausing = Some(format!("nobody answered node {id} in time"));
            }
            HumanTimeoutAction::Autopilot => {
                let ms = 0;
                let (hash, writes, artifact) = ([0; 32], Vec::new(), None);
                let attempt = self.item(slot).attempt;
                self.record(now, Entry::Completed { slot, attempt, hash, artifact, writes, ms });
            }
        }
    }

    /// Keeps a signal and hands it to whoever waits for it; answers who that is.
    pub(crate) fn signal(&mut self, now: i64, name: &str, payload: Value) -> Option<Slot> {
        self.record(now, Entry::Signal { name: name.to_owned(), payload });
        let mut waiting = None;
        self.each(|run, slot| {
            let item = run.item(slot);
            let waits = item.state == State::Waiting
                && matches!(&item.wait, Some((Wait::Signal { name: of }, _)) if of == name);
            if waits && waiting.is_none() {
                waiting = Some(slot);
            }
        });
        if let Some(slot) = waiting {
            self.record(now, Entry::Delivered { slot, name: name.to_owned() });
        }
        waiting
    }

    /// Whether a signal of this name came and nobody took it.
    pub(crate) fn has_signal(&self, name: &str) -> bool {
        self.signals.get(name).is_some_and(|queue| !queue.is_empty())
    }

    /// Hands the oldest signal of a name to an invocation.
    pub(crate) fn deliver(&mut self, now: i64, slot: Slot, name: &str) {
        self.record(now, Entry::Delivered { slot, name: name.to_owned() });
    }

    /// An invocation goes on: its attempt in memory, or a new one.
    pub(crate) fn wake(&mut self, now: i64, slot: Slot, alive: bool) {
        let entry = if alive { Entry::Woken { slot } } else { Entry::Again { slot, fresh: false } };
        self.record(now, entry);
    }

    /// The node and everything after it, or everything with the label.
    pub(crate) fn members(&self, branch: &str) -> HashSet<usize> {
        let labelled = |at: &usize| self.nodes[*at].node.branch.as_deref() == Some(branch);
        let mut members: HashSet<usize> = (0..self.nodes.len()).filter(labelled).collect();
        if let Some(at) = self.index.get(branch) {
            let mut left = VecDeque::from([*at]);
            while let Some(at) = left.pop_front() {
                if members.insert(at) {
                    left.extend(&self.nodes[at].after);
                }
            }
        }
        members
    }

    pub(super) fn is_standing(&self, node: usize) -> bool {
        self.standing.iter().any(|branch| {
            self.nodes[node].node.branch.as_deref() == Some(branch)
                || self.index.get(branch).is_some_and(|of| self.comes_after(node, *of))
        })
    }

    fn comes_after(&self, node: usize, of: usize) -> bool {
        let mut seen = HashSet::new();
        let mut left = vec![node];
        while let Some(at) = left.pop() {
            if at == of {
                return true;
            }
            left.extend(self.nodes[at].before.iter().filter(|before| seen.insert(**before)));
        }
        false
    }

    /// Pauses or resumes a branch.
    pub(crate) fn stand(&mut self, now: i64, branch: &str, paused: bool) -> Result<(), DagError> {
        if self.members(branch).is_empty() {
            return Err(DagError::NodeNotFound(format!(
                "run {}: no node and no branch is named `{branch}`",
                self.run_id
            )));
        }
        if self.standing.contains(branch) != paused {
            self.record(now, Entry::Branch { branch: branch.to_owned(), paused });
        }
        Ok(())
    }

    /// Whether the branch stands.
    pub(crate) fn stands(&self, branch: &str) -> bool {
        self.standing.contains(branch)
    }

    /// Cancels a branch; answers whose attempts are to be aborted. Joins below are skipped.
    pub(crate) fn cancel_branch(&mut self, now: i64, branch: &str) -> Result<Vec<Slot>, DagError> {
        let members = self.members(branch);
        if members.is_empty() {
            return Err(DagError::NodeNotFound(format!(
                "run {}: no node and no branch is named `{branch}`",
                self.run_id
            )));
        }
        let running =
            self.running().into_iter().filter(|slot| members.contains(&slot.node)).collect();
        let mut members: Vec<usize> = members.into_iter().collect();
        members.sort_unstable();
        for node in &members {
            if self.nodes[*node].open > 0 {
                self.cancel_node(now, *node, true);
            }
        }
        for node in members {
            if !self.is_completed(node) {
                self.skip_after(now, node);
            }
        }
        Ok(running)
    }

    /// Adds nodes, all or none; those that are there already in the same form are left alone.
    pub(crate) fn add(&mut self, now: i64, nodes: Vec<Node>) -> Result<Vec<String>, DagError> {
        let mut fresh: Vec<Node> = Vec::new();
        for node in nodes {
            match self.index.get(&node.id) {
                Some(at) if self.is_same(*at, &node) => {}
                Some(_) => {
                    return Err(DagError::NodeAlreadyExists(format!(
                        "run {}: node {} is there with another definition",
                        self.run_id, node.id
                    )));
                }
                None => fresh.push(node),
            }
        }
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        if self.status.is_final() {
            return Err(DagError::InvalidState(format!(
                "run {} is {}; nothing can be added",
                self.run_id,
                self.status.name()
            )));
        }
        let ids: HashSet<&str> = fresh.iter().map(|node| node.id.as_str()).collect();
        for node in &fresh {
            let known =
                |id: &&String| self.index.contains_key(id.as_str()) || ids.contains(id.as_str());
            if let Some(id) = node.dependencies.iter().find(|id| !known(id)) {
                return Err(DagError::DependencyNotFound(format!(
                    "run {}: node {} depends on `{id}`, which is no node",
                    self.run_id, node.id
                )));
            }
        }
        // A new node can only be part of a circle of new nodes.
        let inside = |node: &Node| {
            let mut node = node.clone();
            node.dependencies.retain(|id| ids.contains(id.as_str()));
            (node.inputs, node.when, node.for_each) = (Vec::new(), None, None);
            node
        };
        let graph =
            GraphDefinition { nodes: fresh.iter().map(inside).collect(), ..Default::default() };
        if let Some(problem) = check::check(&graph).into_iter().next() {
            let node = problem.node.unwrap_or_default();
            let text = format!("run {}: node {node}: {}", self.run_id, problem.message);
            return Err(DagError::InvalidGraph(text));
        }
        let fresh = self.reviewed(fresh);
        let ids: Vec<String> = fresh.iter().map(|node| node.id.clone()).collect();
        let lost: Vec<usize> = fresh
            .iter()
            .flat_map(|node| &node.dependencies)
            .filter_map(|id| self.index.get(id).copied())
            .filter(|at| self.nodes[*at].open == 0 && !self.is_completed(*at))
            .collect();
        self.record(now, Entry::Added { nodes: fresh });
        self.record(now, Entry::Planned { nodes: ids.clone() });
        for node in lost {
            self.skip_after(now, node);
        }
        Ok(ids)
    }

    /// Whether the node is there in this form, apart from a review that was put before it.
    fn is_same(&self, at: usize, node: &Node) -> bool {
        let mut known = (*self.nodes[at].node).clone();
        if let [only] = known.dependencies.as_slice()
            && only.starts_with(REVIEW)
            && let Some(review) = self.index.get(only)
        {
            known.dependencies.clone_from(&self.nodes[*review].node.dependencies);
        }
        known == *node
    }

    /// An agent's steps are counted; a person is put before every n-th and before all beyond the limit.
    fn reviewed(&mut self, nodes: Vec<Node>) -> Vec<Node> {
        if !self.agent {
            return nodes;
        }
        let every = self.config.review_frequency.unwrap_or(u32::MAX);
        let most = self.config.max_iterations.unwrap_or(u32::MAX);
        let mut all = Vec::with_capacity(nodes.len());
        let mut steps = self.iterations;
        for mut node in nodes {
            if node.action == SUPERVISOR_STEP {
                steps += 1;
                if steps.is_multiple_of(every) || steps >= most {
                    let review = Node {
                        id: format!("{REVIEW}{steps}"),
                        action: HUMAN_INTERRUPT.to_owned(),
                        dependencies: std::mem::take(&mut node.dependencies),
                        ..Node::default()
                    };
                    node.dependencies.push(review.id.clone());
                    all.push(review);
                }
            }
            all.push(node);
        }
        all
    }

    /// Replaces the fixed inputs of a node that has not begun.
    pub(crate) fn set_inputs(&mut self, now: i64, id: &str, values: Value) -> Result<(), DagError> {
        let Some(node) = self.index.get(id).copied() else {
            return Err(DagError::NodeNotFound(format!("run {}: node {id}", self.run_id)));
        };
        let begun = |state: State| !matches!(state, State::Pending | State::Ready);
        if self.nodes[node].items.iter().any(|item| begun(item.state) || item.attempt > 0) {
            return Err(DagError::InvalidState(format!(
                "run {}: node {id} has begun; its inputs cannot be changed",
                self.run_id
            )));
        }
        self.record(now, Entry::InputsSet { node, values });
        Ok(())
    }

    /// Notes more inputs.
    pub(crate) fn give(&mut self, now: i64, values: serde_json::Map<String, Value>) {
        self.record(now, Entry::InputsGiven { values });
    }

    /// Notes what an action told.
    pub(crate) fn emit(&mut self, now: i64, slot: Slot, event: Value) {
        self.record(now, Entry::Emitted { slot, event });
    }
}
