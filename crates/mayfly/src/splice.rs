//! Bytes both ways between a visitor and a connection into a sandbox, until both are done.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use mayfly_engine::Reach;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes held per direction.
const BUFFER: usize = 64 << 10;

/// Passes bytes on until both ends have said all, or one fails. What passes counts as use of the sandbox; silence
/// does not. The end of one direction is passed on while the other goes on.
pub(crate) async fn splice<A, B>(reach: &Reach, outside: A, inside: B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut outside, mut inside) = (outside, Noticed { inner: inside, reach });
    tokio::io::copy_bidirectional_with_sizes(&mut outside, &mut inside, BUFFER, BUFFER).await
}

/// A connection whose traffic is noticed.
struct Noticed<'a, T> {
    inner: T,
    reach: &'a Reach,
}

impl<T: AsyncRead + Unpin> AsyncRead for Noticed<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if read.is_ready() {
            self.reach.touch();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noticed<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.reach.touch();
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
