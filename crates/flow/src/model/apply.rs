//! What each entry does to a run's state. It depends on nothing else, so a log that is read again leads to the same
//! state.

use std::cmp::Reverse;
use std::sync::Arc;

use super::control::SUPERVISOR_STEP;
use super::entry::{Entry, Slot, Wait};
use super::graph::{DEFAULT_KEY, Node};
use super::run::{Item, NodeState, RunState};
use super::status::{RunStatus, State};

impl RunState {
    /// Reads one entry of a log again.
    pub(crate) fn replay(&mut self, at: i64, entry: &Entry) {
        self.sequence += 1;
        self.apply(at, entry);
    }

    pub(super) fn apply(&mut self, at: i64, entry: &Entry) {
        match entry {
            Entry::Run { status, reason } => self.apply_status(at, *status, reason.as_ref()),
            Entry::Planned { .. } | Entry::Emitted { .. } | Entry::InputsGiven { .. } => {}
            Entry::Started { slot, attempt, .. } => {
                self.set(at, *slot, State::Running);
                if let Some(due) = self.item_mut(*slot).due.take() {
                    self.timers.remove(&(due, *slot));
                }
                let item = self.item_mut(*slot);
                item.attempt = *attempt;
                item.began = Some(at);
            }
            Entry::Completed { slot, attempt, artifact, ms, .. } => {
                let item = self.item_mut(*slot);
                item.artifact.clone_from(artifact);
                item.attempt = item.attempt.max(*attempt);
                item.ms = *ms;
                self.set(at, *slot, State::Completed);
            }
            Entry::Failed { slot, attempt, error, retry_at, ms } => {
                let item = self.item_mut(*slot);
                item.attempt = item.attempt.max(*attempt);
                item.failures += 1;
                item.errors.push(error.clone());
                item.ms = *ms;
                item.due = *retry_at;
                match retry_at {
                    Some(due) => {
                        self.set(at, *slot, State::Pending);
                        self.timers.insert((*due, *slot));
                    }
                    None => self.set(at, *slot, State::Failed),
                }
            }
            Entry::Skipped { slot, by_condition, .. } => {
                self.item_mut(*slot).by_condition = *by_condition;
                self.set(at, *slot, State::Skipped);
            }
            Entry::Cancelled { slot } => self.set(at, *slot, State::Cancelled),
            Entry::Waiting { slot, wait, until } => {
                let item = self.item_mut(*slot);
                item.wait = Some((wait.clone(), *until));
                item.attempt = item.attempt.max(1);
                if let Some(until) = until {
                    self.timers.insert((*until, *slot));
                }
                self.set(at, *slot, State::Waiting);
            }
            Entry::Woken { slot } => self.set(at, *slot, State::Running),
            Entry::InDoubt { slot, .. } => self.set(at, *slot, State::Paused),
            Entry::Again { slot, fresh } => {
                if *fresh {
                    self.item_mut(*slot).failures = 0;
                }
                self.set(at, *slot, State::Ready);
                self.make_ready(*slot);
            }
            Entry::Expanded { node, keys } => self.apply_expanded(*node, keys),
            Entry::Added { nodes } => self.grow(nodes.iter().cloned()),
            Entry::InputsSet { node, values } => {
                Arc::make_mut(&mut self.nodes[*node].node).values = values.clone();
            }
            Entry::Branch { branch, paused } => self.apply_branch(branch, *paused),
            Entry::Signal { name, payload } => {
                self.signals.entry(name.clone()).or_default().push_back(payload.clone());
            }
            Entry::Delivered { slot, name } => {
                if let Some(payload) =
                    self.signals.get_mut(name).and_then(std::collections::VecDeque::pop_front)
                {
                    self.item_mut(*slot).delivered.push((name.clone(), payload));
                }
            }
        }
    }

    fn apply_status(&mut self, at: i64, status: RunStatus, reason: Option<&String>) {
        if status == RunStatus::Running {
            self.since = at;
            self.waited = 0;
            self.human_since = at;
            self.pausing = None;
        }
        self.status = status;
        self.reason = reason.cloned();
    }

    /// Moves an invocation to a state and keeps every count right.
    fn set(&mut self, at: i64, slot: Slot, state: State) {
        let item = self.item_mut(slot);
        let before = std::mem::replace(&mut item.state, state);
        if before == state {
            return;
        }
        let human = matches!(item.wait, Some((Wait::Human, _)));
        if before == State::Running {
            self.in_flight -= 1;
            self.nodes[slot.node].running -= 1;
            if let Some(next) = self.nodes[slot.node].backlog.pop() {
                self.make_ready(Slot { node: slot.node, item: next });
            }
        }
        if before == State::Waiting {
            self.waiting -= 1;
            if let Some((_, Some(until))) = &self.item(slot).wait {
                let timer = (*until, slot);
                self.timers.remove(&timer);
            }
            if human {
                self.humans -= 1;
                if self.humans == 0 {
                    self.waited += at - self.human_since;
                }
            }
        }
        match state {
            State::Running => {
                self.in_flight += 1;
                self.nodes[slot.node].running += 1;
            }
            State::Waiting => {
                self.waiting += 1;
                if human {
                    if self.humans == 0 {
                        self.human_since = at;
                    }
                    self.humans += 1;
                }
            }
            _ => {}
        }
        if state.is_final() && !before.is_final() {
            if let Some(due) = self.item(slot).due {
                self.timers.remove(&(due, slot));
            }
            self.nodes[slot.node].open -= 1;
            if self.nodes[slot.node].open == 0 {
                self.settled(slot.node);
            }
        } else if before.is_final() && !state.is_final() {
            if self.nodes[slot.node].open == 0 {
                self.open_nodes += 1;
            }
            self.nodes[slot.node].open += 1;
        }
    }

    /// All invocations of a node have ended.
    fn settled(&mut self, node: usize) {
        self.open_nodes -= 1;
        let completed = self.is_completed(node);
        for next in self.nodes[node].after.clone() {
            if !completed && !self.nodes[next].node.always {
                continue;
            }
            self.nodes[next].unmet = self.nodes[next].unmet.saturating_sub(1);
            if self.nodes[next].unmet == 0 {
                self.unblock(next);
            }
        }
    }

    pub(super) fn is_completed(&self, node: usize) -> bool {
        self.nodes[node].items.iter().all(|item| item.state == State::Completed)
    }

    /// A node's dependencies are met.
    fn unblock(&mut self, node: usize) {
        let state = &self.nodes[node];
        if !state.expanded {
            self.ready.push((state.node.priority, Reverse(node), Reverse(usize::MAX)));
            return;
        }
        for item in 0..self.nodes[node].items.len() {
            let slot = Slot { node, item };
            if self.item(slot).state == State::Pending && self.item(slot).due.is_none() {
                self.make_ready(slot);
            }
        }
    }

    pub(super) fn make_ready(&mut self, slot: Slot) {
        let priority = self.node(slot).priority;
        self.item_mut(slot).state = State::Ready;
        self.ready.push((priority, Reverse(slot.node), Reverse(slot.item)));
    }

    /// Makes everything of these nodes ready that could be; for branches that go on.
    pub(super) fn unblock_again(&mut self, node: usize) {
        if self.nodes[node].unmet > 0 || self.nodes[node].open == 0 {
            return;
        }
        if !self.nodes[node].expanded {
            return self.unblock(node);
        }
        for item in 0..self.nodes[node].items.len() {
            let slot = Slot { node, item };
            if self.item(slot).state == State::Ready {
                self.make_ready(slot);
            }
        }
    }

    fn apply_expanded(&mut self, node: usize, keys: &[String]) {
        let state = &mut self.nodes[node];
        state.expanded = true;
        state.items = keys.iter().map(|key| Item { key: key.clone(), ..Item::default() }).collect();
        state.open = keys.len();
        if keys.is_empty() {
            self.settled(node);
        } else if self.nodes[node].unmet == 0 {
            self.unblock(node);
        }
    }

    /// Adds nodes whose dependencies exist or are among them.
    pub(super) fn grow(&mut self, nodes: impl Iterator<Item = Node>) {
        let first = self.nodes.len();
        for node in nodes {
            self.index.insert(node.id.clone(), self.nodes.len());
            self.iterations += u32::from(self.agent && node.action == SUPERVISOR_STEP);
            let fans_out = node.for_each.is_some();
            let one = Item { key: DEFAULT_KEY.to_owned(), ..Item::default() };
            self.nodes.push(NodeState {
                node: Arc::new(node),
                before: Vec::new(),
                after: Vec::new(),
                unmet: 0,
                items: if fans_out { Vec::new() } else { vec![one] },
                expanded: !fans_out,
                open: 1,
                running: 0,
                backlog: Vec::new(),
            });
            self.open_nodes += 1;
        }
        for at in first..self.nodes.len() {
            let node = Arc::clone(&self.nodes[at].node);
            let mut before: Vec<usize> =
                node.dependencies.iter().filter_map(|id| self.index.get(id).copied()).collect();
            before.sort_unstable();
            before.dedup();
            for of in &before {
                self.nodes[*of].after.push(at);
                let met = self.nodes[*of].open == 0 && (self.is_completed(*of) || node.always);
                self.nodes[at].unmet += usize::from(!met);
            }
            self.nodes[at].before = before;
        }
        for at in first..self.nodes.len() {
            if self.nodes[at].unmet == 0 {
                self.unblock(at);
            }
        }
    }

    fn apply_branch(&mut self, branch: &str, paused: bool) {
        if paused {
            self.standing.insert(branch.to_owned());
            return;
        }
        self.standing.remove(branch);
        for node in 0..self.nodes.len() {
            self.unblock_again(node);
        }
    }
}
