//! Output of a command as sessions send it: `01 01 01` before bytes of standard output, `02 02 02` before
//! those of standard error; a mark may be cut by the end of a message.

use mayfly_core::Result;

const MARK: usize = 3;

/// Tells the two streams apart.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// 0 = standard output, 1 = standard error.
    stream: usize,
    /// Bytes that may be the beginning of a mark.
    held: Vec<u8>,
}

impl Marked {
    /// Gives the pieces of one message to `sink` with the number of their stream.
    pub(super) fn take(
        &mut self,
        message: &[u8],
        sink: &mut impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.held.extend_from_slice(message);
        let bytes = std::mem::take(&mut self.held);
        let mut rest = bytes.as_slice();
        while let Some(at) = rest.iter().position(|byte| matches!(byte, 1 | 2)) {
            let (plain, from) = rest.split_at(at);
            let run = from.iter().take(MARK).take_while(|byte| **byte == from[0]).count();
            if run == MARK {
                self.give(plain, sink)?;
                self.stream = usize::from(from[0] - 1);
                rest = &from[MARK..];
            } else if run == from.len() {
                // The rest of the mark may come with the next message.
                self.give(plain, sink)?;
                self.held.extend_from_slice(from);
                return Ok(());
            } else {
                self.give(&rest[..at + run], sink)?;
                rest = &from[run..];
            }
        }
        self.give(rest, sink)
    }

    /// Gives what looked like the beginning of a mark and was none.
    pub(super) fn finish(self, sink: &mut impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        self.give(&self.held, sink)
    }

    fn give(&self, bytes: &[u8], sink: &mut impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        if bytes.is_empty() { Ok(()) } else { sink(self.stream, bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(messages: &[&[u8]]) -> [Vec<u8>; 2] {
        let mut marked = Marked::default();
        let mut streams = [Vec::new(), Vec::new()];
        for message in messages {
            let mut sink = |stream: usize, bytes: &[u8]| {
                streams[stream].extend_from_slice(bytes);
                Ok(())
            };
            marked.take(message, &mut sink).unwrap();
        }
        let mut sink = |stream: usize, bytes: &[u8]| {
            streams[stream].extend_from_slice(bytes);
            Ok(())
        };
        marked.finish(&mut sink).unwrap();
        streams
    }

    #[test]
    fn streams_are_told_apart_wherever_messages_are_cut() {
        let whole = b"\x01\x01\x01out\x02\x02\x02err\x01a\x01\x01\x01more\x02\x02";
        let expected = split(&[whole]);
        assert_eq!(expected, [b"outmore\x02\x02".to_vec(), b"err\x01a".to_vec()]);
        for at in 0..whole.len() {
            assert_eq!(split(&[&whole[..at], &whole[at..]]), expected, "cut at {at}");
        }
    }
}
