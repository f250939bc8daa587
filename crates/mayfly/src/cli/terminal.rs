//! The caller's own terminal while a terminal inside a sandbox is shown on it.

use std::io::Read as _;

use bytes::Bytes;
use mayfly_core::{Error, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Pieces of typed input that wait for the connection.
const TYPED: usize = 16;
/// Bytes of one piece.
const PIECE: usize = 16 << 10;

/// Width and height of the terminal; 80 by 24 where it does not say.
pub(super) fn size() -> (u16, u16) {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => (80, 24),
    }
}

/// The terminal in raw mode: every key goes inside. Comes back as it was when this is dropped.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    pub(super) fn begin() -> Result<Self> {
        let wrong = |error: rustix::io::Errno| {
            Error::internal("the terminal could not be set up", std::io::Error::from(error))
        };
        let before = tcgetattr(std::io::stdin()).map_err(wrong)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(wrong)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// What is typed, piece by piece, until its end. The thread ends with the process: a read of a terminal cannot
/// be called off.
pub(super) fn typed() -> Result<mpsc::Receiver<Bytes>> {
    let (sender, receiver) = mpsc::channel(TYPED);
    std::thread::Builder::new()
        .name("mayfly-typed".to_owned())
        .spawn(move || {
            let mut piece = vec![0; PIECE];
            while let Ok(length) = std::io::stdin().read(&mut piece) {
                let bytes = Bytes::copy_from_slice(&piece[..length]);
                if length == 0 || sender.blocking_send(bytes).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| Error::internal("no thread to read the keyboard", error))?;
    Ok(receiver)
}

/// Writes what came from inside, at once.
pub(super) fn show(bytes: &[u8], to: &mut impl std::io::Write) -> Result<()> {
    to.write_all(bytes)
        .and_then(|()| to.flush())
        .map_err(|error| Error::internal("the output could not be written", error))
}
