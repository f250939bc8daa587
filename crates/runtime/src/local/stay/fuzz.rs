//! Fuzz bodies of what a hostile process 1 says of processes that stay, and of the requests to it.

use mayfly_core::Kind;
use mayfly_init::protocol::Stage;
use mayfly_init::protocol::kept::{HEAD, Head, MAX_NOTE, MAX_SIZE};
use mayfly_init::protocol::stay::{Queue, Start, Write};

use super::ask::{Verb, refused};
use super::follow::Got;

/// Any packets as answers to a follower: offsets never go back, nothing is given twice, and after an end there
/// is an end for ever. The first byte is the length of each packet, the second how much is taken at a time.
pub(in crate::local) fn stay_data(bytes: &[u8]) {
    let [size, max, packets @ ..] = bytes else { return };
    let mut got = Got::from(7);
    let mut at = 7;
    for packet in packets.chunks(usize::from(*size).max(1)) {
        let Some(any) = got.take(packet) else { return };
        while any {
            let output = got.give(usize::from(*max));
            assert!(output.from >= at, "output goes back");
            let length: usize = output.pieces.iter().map(|piece| piece.bytes.len()).sum();
            assert!(length <= usize::from(*max).max(1));
            assert_eq!(output.next, output.from + length as u64);
            assert!(output.pieces.iter().all(|piece| !piece.bytes.is_empty()));
            at = output.next;
            if let Some(code) = output.exit_code {
                assert!((0..=255).contains(&code));
                let again = got.give(1);
                assert_eq!((again.exit_code, again.pieces.len()), (Some(code), 0));
                return;
            }
            if length == 0 {
                break;
            }
        }
    }
}

/// A request is read whole and written the same, or not at all.
pub(in crate::local) fn stay_request(bytes: &[u8]) {
    if let Some(start) = Start::decode(bytes) {
        assert!(start.note.len() <= MAX_NOTE);
        assert_eq!(Start::decode(&start.encode()), Some(start));
    }
    if let Some(queue) = Queue::decode(bytes) {
        assert!(!queue.command.contains(&0));
        let again = queue.encode();
        assert!(bytes.starts_with(&again));
    }
    if let Some(write) = Write::decode(bytes) {
        assert!(bytes.starts_with(&write.encode()));
    }
}

/// The head of a kept file is sound or no head; a refusal is typed whatever it says.
pub(in crate::local) fn stay_head(bytes: &[u8]) {
    let mut head = [0; HEAD];
    let length = bytes.len().min(HEAD);
    head[..length].copy_from_slice(&bytes[..length]);
    if let Some(head) = Head::decode(&head) {
        assert!(head.begin <= head.end && head.end - head.begin <= head.size);
        assert!(head.size <= MAX_SIZE && head.note_length as usize <= MAX_NOTE);
        let parts = head.parts(head.begin, head.end - head.begin);
        assert!(parts.iter().all(|(place, length)| place + length <= head.size));
    }
    let stage = bytes.first().copied().and_then(Stage::from_u8);
    for verb in [Verb::Start { cwd: None }, Verb::Queue(1), Verb::Of(1)] {
        let error = refused(verb, stage, i32::from(bytes.len() as u8));
        let typed = [
            Kind::NotFound,
            Kind::Gone,
            Kind::Conflict,
            Kind::Invalid,
            Kind::Limit,
            Kind::Unsupported,
            Kind::Internal,
        ];
        assert!(typed.contains(&error.kind()) && !error.message().is_empty());
    }
}
