//! Followers: clients that ask for output piece by piece, and how long output waits for them.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::AsFd;

use super::entry::{Entry, PATIENCE};
use crate::clients::{Client, ClientState};
use crate::protocol::stay::{DATA, DATA_HEAD, DONE, MAX_FOLLOWERS, RUN_HEAD};
use crate::protocol::{MAX_PACKET, Stage, Writer};
use crate::supervisor::Supervisor;
use crate::sys;

/// Questions of one follower that may wait for their answers.
const MAX_ASKED: usize = 8;

/// Longest that output waits for a follower that must miss nothing, milliseconds: a day.
const HELD: u64 = 24 * 3600 * 1000;

/// A client that follows output.
#[derive(Debug)]
pub(crate) struct Follow {
    pub(crate) number: u64,
    /// Offset of the next byte for it.
    pub(crate) at: u64,
    /// What it asked and was not answered: most bytes, whether to wait.
    asked: VecDeque<(usize, bool)>,
    /// Output waits for it as long as it stays, since it must miss nothing.
    patient: bool,
    /// It was waited for in vain, and has read nothing since.
    lost: bool,
}

impl Supervisor {
    /// Begins to follow.
    pub(crate) fn follow(&mut self, key: u64, number: u64, from: u64, patient: bool) {
        let Some(entry) = self.stay.entries.get_mut(&number) else {
            return self.refuse_number(key, number);
        };
        if entry.followers.len() >= MAX_FOLLOWERS {
            return self.refuse(key, Stage::Busy, 11);
        }
        entry.followers.push(key);
        let head = entry.ring.head();
        let at = from.clamp(head.begin.min(from), head.end);
        if let Some(client) = self.clients.get_mut(&key) {
            let follow = Follow { number, at, asked: VecDeque::new(), patient, lost: false };
            client.state = ClientState::Following(follow);
        }
        let done = Writer::new(DONE).u64(number).finish();
        self.answer(key, &done);
    }

    /// Notes a question of a follower, and answers it if that can be done now.
    pub(crate) fn asked(&mut self, key: u64, max: usize, wait: bool) {
        let Some(Client { state: ClientState::Following(follow), .. }) = self.clients.get_mut(&key)
        else {
            return self.refuse(key, Stage::Request, 22);
        };
        if follow.asked.len() >= MAX_ASKED {
            return self.drop_client(key);
        }
        follow.asked.push_back((max.max(1), wait));
        self.serve(key);
    }

    /// Answers all followers of an entry that wait for what there is now.
    pub(crate) fn serve_all(&mut self, number: u64) {
        let Some(entry) = self.stay.entries.get(&number) else { return };
        for key in entry.followers.clone() {
            self.serve(key);
        }
    }

    /// Answers questions of one follower, as long as there is something to say and room to say it.
    pub(crate) fn serve(&mut self, key: u64) {
        loop {
            let Some(Client { state: ClientState::Following(follow), socket }) =
                self.clients.get_mut(&key)
            else {
                return;
            };
            let Some(&(max, wait)) = follow.asked.front() else { break };
            let Some(entry) = self.stay.entries.get(&follow.number) else { break };
            let head = entry.ring.head();
            let wait = wait && follow.asked.iter().all(|(_, wait)| *wait);
            if wait && follow.at >= head.end && entry.exit.is_none() {
                break;
            }
            let next = fill(&mut self.stay.packet, entry, follow.at.max(head.begin), max);
            match sys::send(socket.as_fd(), &[&self.stay.packet], &[]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.watch_client(key, true);
                }
                Err(_) => return self.drop_client(key),
                Ok(()) => {
                    follow.asked.pop_front();
                    follow.at = next;
                    follow.lost = false;
                }
            }
        }
        self.read_on(key);
    }

    /// A follower took something: output that waited for it goes on.
    fn read_on(&mut self, key: u64) {
        let Some(Client { state: ClientState::Following(follow), .. }) = self.clients.get(&key)
        else {
            return;
        };
        let Some(entry) = self.stay.entries.get(&follow.number) else { return };
        let slot = entry.slot;
        if self.stay.paused == 0 {
            return;
        }
        let (patience, crowded) = (entry.patience(), self.crowded(slot));
        if crowded && self.is_held(slot) {
            return;
        }
        let now = self.stay.now();
        let Some(process) = self.stay.process(slot) else { return };
        let Some((since, until)) = &mut process.paused else { return };
        if crowded {
            // It reads, if not fast enough: its time begins again, within that of all.
            *until = (now + PATIENCE).min(*since + patience);
        } else {
            self.resume(slot);
        }
    }

    /// Whether a follower that must miss nothing is one of those that a process waits for.
    fn is_held(&self, slot: usize) -> bool {
        let Some(Some(process)) = self.stay.processes.get(slot) else { return false };
        let Some(entry) = self.stay.entries.get(&process.target()) else { return false };
        entry.followers.iter().any(|key| match self.clients.get(key) {
            Some(Client { state: ClientState::Following(follow), .. }) => {
                follow.patient && !follow.lost && entry.crowds(follow.at)
            }
            _ => false,
        })
    }

    /// Whether a follower that is not lost would be run over by the next output of a process.
    fn crowded(&self, slot: usize) -> bool {
        let Some(Some(process)) = self.stay.processes.get(slot) else { return false };
        let Some(entry) = self.stay.entries.get(&process.target()) else { return false };
        entry.followers.iter().any(|key| match self.clients.get(key) {
            Some(Client { state: ClientState::Following(follow), .. }) => {
                !follow.lost && entry.crowds(follow.at)
            }
            _ => false,
        })
    }

    /// Whether output of a process has to wait for a follower; begins the wait.
    pub(crate) fn must_wait(&mut self, slot: usize) -> bool {
        if !self.crowded(slot) {
            return false;
        }
        let target = self.stay.process(slot).map(|process| process.target());
        let entry = target.and_then(|target| self.stay.entries.get(&target));
        let patience = if self.is_held(slot) {
            HELD
        } else {
            entry.map_or(0, |entry| entry.patience().min(PATIENCE))
        };
        if patience == 0 {
            self.lose(slot);
            return false;
        }
        self.pause(slot, patience);
        true
    }

    /// Gives up on the followers that a process waits for.
    fn lose(&mut self, slot: usize) {
        let Some(Some(process)) = self.stay.processes.get(slot) else { return };
        let Some(entry) = self.stay.entries.get(&process.target()) else { return };
        for key in &entry.followers {
            if let Some(Client { state: ClientState::Following(follow), .. }) =
                self.clients.get_mut(key)
                && entry.crowds(follow.at)
            {
                follow.lost = true;
            }
        }
    }

    /// Milliseconds until a wait for followers is over; -1 = there is none.
    pub(crate) fn patience(&self) -> i32 {
        if self.stay.paused == 0 {
            return -1;
        }
        let now = self.stay.now();
        let paused = self.stay.processes.iter().flatten().filter_map(|process| process.paused);
        let first = paused.map(|(_, until)| until.saturating_sub(now)).min();
        first.map_or(-1, |left| i32::try_from(left).unwrap_or(i32::MAX))
    }

    /// Ends the waits that took too long.
    pub(crate) fn end_waits(&mut self) {
        if self.stay.paused == 0 {
            return;
        }
        let now = self.stay.now();
        for slot in 0..self.stay.processes.len() {
            let paused = self.stay.process(slot).and_then(|process| process.paused);
            if paused.is_some_and(|(_, until)| until <= now) {
                self.lose(slot);
                self.resume(slot);
            }
        }
    }

    /// A follower left.
    pub(crate) fn unfollow(&mut self, key: u64, number: u64) {
        let Some(entry) = self.stay.entries.get_mut(&number) else { return };
        entry.followers.retain(|follower| *follower != key);
        let slot = entry.slot;
        let paused = self.stay.process(slot).is_some_and(|process| process.paused.is_some());
        if paused && !self.crowded(slot) {
            self.resume(slot);
        }
        self.settle(number);
    }
}

/// Fills a packet with as much output from an offset on as it can hold; the offset behind it.
fn fill(packet: &mut Vec<u8>, entry: &Entry, from: u64, max: usize) -> u64 {
    packet.clear();
    packet.push(DATA);
    packet.extend_from_slice(&from.to_le_bytes());
    packet.extend_from_slice(&[0; 5]);
    let max = max.min(MAX_PACKET - DATA_HEAD - RUN_HEAD);
    let mut next = from;
    if entry.ring.is_plain() {
        let length = entry.ring.read_plain(from, max, packet);
        next += length as u64;
    } else {
        for (error, bytes) in entry.ring.read(from, max) {
            let room = MAX_PACKET.saturating_sub(packet.len() + RUN_HEAD);
            let bytes = &bytes[..bytes.len().min(room)];
            if bytes.is_empty() {
                break;
            }
            packet.push(u8::from(error));
            packet.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
            packet.extend_from_slice(bytes);
            next += bytes.len() as u64;
        }
    }
    if let (Some(code), true) = (entry.exit, next >= entry.ring.head().end) {
        packet[9] = 1;
        packet[10..14].copy_from_slice(&code.to_le_bytes());
    }
    next
}
