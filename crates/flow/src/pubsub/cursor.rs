//! What one subscriber has still to do in one channel. Pure: the worker asks what is next and says how it went.
//!
//! ```text
//! loaded -> next -> done: acknowledged
//!             \---> failed: next again when it is due | dead after the last attempt
//! ```
//! Everything up to `read_to` that is not in `open` is acknowledged. Messages of one key stay in order; those without a
//! key are in order among themselves. A message that waits for its next attempt holds only its key up.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use super::message::Message;
use crate::clock::Millis;

/// A message that is not acknowledged.
#[derive(Clone, Debug)]
struct Open {
    message: Arc<Message>,
    attempts: u32,
    due: Option<Millis>,
}

/// How a failed attempt goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It is tried again then.
    Again { attempts: u32, due: Millis },
    /// It was the last attempt.
    Dead { attempts: u32 },
}

/// A subscriber's place in a channel.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    subscriber: Arc<str>,
    read_to: i64,
    open: VecDeque<Open>,
    /// Whether something was acknowledged before something earlier, so that the place is more than a number.
    has_holes: bool,
    /// Acknowledged by an earlier process, beyond its position.
    skip: VecDeque<(i64, i64)>,
    /// Attempts that an earlier process made.
    earlier: BTreeMap<i64, (u32, Millis)>,
}

impl Cursor {
    /// As it is stored: everything up to `position` and in `ahead` is acknowledged; `retries` are messages that failed.
    pub(crate) fn new(
        subscriber: Arc<str>,
        position: i64,
        ahead: Vec<(i64, i64)>,
        retries: Vec<(i64, u32, Millis)>,
    ) -> Self {
        let earlier = retries.into_iter().map(|(seq, attempts, due)| (seq, (attempts, due)));
        Self {
            subscriber,
            read_to: position,
            open: VecDeque::new(),
            has_holes: false,
            skip: ahead.into(),
            earlier: earlier.collect(),
        }
    }

    /// The newest sequence number that was loaded.
    pub(crate) fn read_to(&self) -> i64 {
        self.read_to
    }

    /// How many messages are loaded and not acknowledged.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Takes messages that come after what was loaded, in order. The subscriber's own and those for others are passed over.
    pub(crate) fn load(&mut self, messages: impl IntoIterator<Item = Arc<Message>>) {
        for message in messages {
            let seq = message.seq;
            if seq <= self.read_to {
                continue;
            }
            self.read_to = seq;
            while self.skip.front().is_some_and(|(_, to)| *to < seq) {
                self.skip.pop_front();
            }
            let is_acked = self.skip.front().is_some_and(|(from, _)| *from <= seq);
            let is_own = message.source == *self.subscriber;
            let is_for_others =
                message.target.as_deref().is_some_and(|target| target != &*self.subscriber);
            if is_acked || is_own || is_for_others {
                // Passed over behind something open, it is a hole like any other.
                self.has_holes |= !self.open.is_empty();
                continue;
            }
            let (attempts, due) = match self.earlier.remove(&seq) {
                Some((attempts, due)) => (attempts, Some(due)),
                None => (0, None),
            };
            self.open.push_back(Open { message, attempts, due });
        }
        // What is not there any more needs no further attempt.
        self.earlier = self.earlier.split_off(&(self.read_to + 1));
    }

    /// Nothing is left up to a sequence number beyond what was loaded.
    pub(crate) fn pass_to(&mut self, head: i64) {
        self.has_holes |= !self.open.is_empty();
        self.read_to = self.read_to.max(head);
    }

    /// The next message that may be handled now, with the failed attempts before.
    pub(crate) fn next(&self, now: Millis) -> Option<(Arc<Message>, u32)> {
        let mut held: HashSet<Option<&str>> = HashSet::new();
        for open in &self.open {
            let lane = open.message.key.as_deref();
            if !held.is_empty() && held.contains(&lane) {
                continue;
            }
            if open.due.is_none_or(|due| due <= now) {
                return Some((Arc::clone(&open.message), open.attempts));
            }
            held.insert(lane);
        }
        None
    }

    /// When [`Cursor::next`] has something that it has not now.
    pub(crate) fn deadline(&self, now: Millis) -> Option<Millis> {
        self.open.iter().filter_map(|open| open.due).filter(|due| *due > now).min()
    }

    fn find(&self, seq: i64) -> Option<usize> {
        if self.open.front().is_some_and(|open| open.message.seq == seq) {
            return Some(0);
        }
        self.open.binary_search_by_key(&seq, |open| open.message.seq).ok()
    }

    /// It was handled, or is dead.
    pub(crate) fn done(&mut self, seq: i64) {
        if let Some(at) = self.find(seq) {
            self.has_holes |= at > 0;
            self.open.remove(at);
            self.has_holes &= !self.open.is_empty();
        }
    }

    /// An attempt failed; `delay` is the wait after so many failures.
    pub(crate) fn failed(
        &mut self,
        seq: i64,
        now: Millis,
        most: u32,
        delay: impl Fn(u32) -> i64,
    ) -> Failed {
        let Some(at) = self.find(seq) else { return Failed::Dead { attempts: 0 } };
        let open = &mut self.open[at];
        open.attempts = open.attempts.saturating_add(1);
        let attempts = open.attempts;
        if attempts >= most {
            return Failed::Dead { attempts };
        }
        let due = now.saturating_add(delay(attempts));
        open.due = Some(due);
        Failed::Again { attempts, due }
    }

    /// An attempt is counted before it is made, since it may end the process.
    pub(crate) fn count(&mut self, seq: i64) {
        if let Some(at) = self.find(seq) {
            self.open[at].attempts = self.open[at].attempts.saturating_add(1);
        }
    }

    /// An attempt that was counted ended without ending the process.
    pub(crate) fn uncount(&mut self, seq: i64) {
        if let Some(at) = self.find(seq) {
            self.open[at].attempts = self.open[at].attempts.saturating_sub(1);
        }
    }

    /// Everything up to here is acknowledged.
    pub(crate) fn position(&self) -> i64 {
        self.open.front().map_or(self.read_to, |open| open.message.seq - 1)
    }

    /// Failed attempts at the first message that is open.
    pub(crate) fn attempts(&self) -> u32 {
        self.open.front().map_or(0, |open| open.attempts)
    }

    /// What is acknowledged beyond the position: at most one range more than messages are open.
    pub(crate) fn ahead(&self) -> Vec<(i64, i64)> {
        let mut ranges = Vec::new();
        if self.has_holes {
            let ends = self.open.iter().skip(1).map(|open| open.message.seq);
            let mut from = self.open.front().map_or(self.read_to, |open| open.message.seq) + 1;
            for end in ends.chain([self.read_to + 1]) {
                if end > from {
                    ranges.push((from, end - 1));
                }
                from = end + 1;
            }
        }
        // What an earlier process acknowledged and this one has not come to.
        ranges.extend(
            self.skip
                .iter()
                .filter(|(_, to)| *to > self.read_to)
                .map(|(from, to)| ((*from).max(self.read_to + 1), *to)),
        );
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn message(seq: i64, key: Option<&str>, source: &str) -> Arc<Message> {
        let (key, source) = (key.map(str::to_owned), source.to_owned());
        Arc::new(Message { source, key, seq, ..Message::default() })
    }

    fn cursor(position: i64) -> Cursor {
        Cursor::new("me".into(), position, Vec::new(), Vec::new())
    }

    #[test]
    fn own_messages_and_those_for_others_are_passed_over() {
        let mut place = cursor(0);
        let for_other = Message { seq: 2, target: Some("you".into()), ..Message::default() };
        place.load([message(1, None, "me"), Arc::new(for_other), message(3, None, "you")]);
        assert_eq!(place.next(0).map(|(message, _)| message.seq), Some(3));
        assert_eq!((place.position(), place.ahead()), (2, vec![]));
        place.load([message(4, None, "me")]);
        assert_eq!((place.position(), place.ahead()), (2, vec![(4, 4)]));
        place.done(3);
        assert_eq!((place.position(), place.ahead()), (4, vec![]));
    }

    #[test]
    fn a_failed_message_holds_its_own_key_up_and_the_place_is_restored() {
        let mut place = cursor(0);
        place.load([
            message(1, Some("a"), ""),
            message(2, Some("a"), ""),
            message(3, Some("b"), ""),
            message(4, None, ""),
        ]);
        assert_eq!(place.failed(1, 10, 3, |_| 100), Failed::Again { attempts: 1, due: 110 });
        assert_eq!(place.next(10).unwrap().0.seq, 3);
        place.done(3);
        assert_eq!(place.next(10).unwrap().0.seq, 4);
        place.done(4);
        assert!(place.next(10).is_none());
        assert_eq!(place.deadline(10), Some(110));
        assert_eq!((place.position(), place.ahead()), (0, vec![(3, 4)]));
        let mut again = Cursor::new("me".into(), 0, place.ahead(), vec![(1, 1, 110)]);
        assert_eq!(again.ahead(), [(3, 4)]);
        again.load((1..=5).map(|seq| message(seq, (seq < 3).then_some("a"), "")));
        assert_eq!(again.next(20).unwrap().0.seq, 5);
        assert_eq!(again.next(110).unwrap(), (message(1, Some("a"), ""), 1));
        assert_eq!(again.failed(1, 110, 2, |_| 0), Failed::Dead { attempts: 2 });
        again.done(1);
        again.done(2);
        again.done(5);
        assert_eq!((again.position(), again.ahead()), (5, vec![]));
    }

    /// One thing that happens to a subscriber.
    #[derive(Clone, Debug)]
    enum Event {
        Load(i64),
        Ok,
        Fail,
        Pass(i64),
        Restart,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            3 => (1_i64..8).prop_map(Event::Load),
            8 => Just(Event::Ok),
            3 => Just(Event::Fail),
            2 => (1_i64..200).prop_map(Event::Pass),
            1 => Just(Event::Restart),
        ];
        prop::collection::vec(event, 1..120)
    }

    proptest! {
        /// Against a list of what is acknowledged: each message ends once, those of a key end in order, what is stored
        /// leads a new process to the same place.
        #[test]
        fn any_history_keeps_order_and_loses_nothing(
            keys in prop::collection::vec(0_u8..4, 300),
            events in events(),
        ) {
            let of = |seq: i64| {
                let key = keys[usize::try_from(seq).unwrap() % keys.len()];
                message(seq, (key > 0).then(|| ["a", "b", "c"][usize::from(key) - 1]), "")
            };
            let (mut place, mut now, mut head) = (cursor(0), 0, 0);
            let mut ended: Vec<i64> = Vec::new();
            let mut retries: HashMap<i64, (u32, Millis)> = HashMap::new();
            for event in events {
                match event {
                    Event::Load(count) => {
                        place.load((head + 1..=head + count).map(of));
                        head += count;
                    }
                    Event::Pass(time) => now += time,
                    Event::Restart => {
                        let stored = retries.iter().map(|(seq, (count, due))| (*seq, *count, *due));
                        place = Cursor::new("me".into(), place.position(), place.ahead(), stored.collect());
                        place.load((place.position() + 1..=head).map(of));
                    }
                    Event::Ok | Event::Fail => {
                        let Some((next, attempts)) = place.next(now) else { continue };
                        let seq = next.seq;
                        prop_assert!(!ended.contains(&seq), "{seq} came after its end");
                        prop_assert_eq!(attempts, retries.get(&seq).map_or(0, |(count, _)| *count));
                        let earlier = (1..seq).filter(|at| of(*at).key == next.key);
                        for at in earlier {
                            prop_assert!(ended.contains(&at), "{seq} came before {at}");
                        }
                        if matches!(event, Event::Fail)
                            && let Failed::Again { attempts, due } = place.failed(seq, now, 3, |_| 50)
                        {
                            retries.insert(seq, (attempts, due));
                            continue;
                        }
                        place.done(seq);
                        retries.remove(&seq);
                        ended.push(seq);
                    }
                }
                let acked = |seq: i64| {
                    seq <= place.position()
                        || place.ahead().iter().any(|(from, to)| (*from..=*to).contains(&seq))
                };
                for seq in 1..=head {
                    prop_assert_eq!(acked(seq), ended.contains(&seq), "{}", seq);
                }
                prop_assert!(place.ahead().len() <= place.open() + 1);
            }
        }
    }
}
