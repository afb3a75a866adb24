//! A stream on which an answer has one time to be written, however slowly its reader takes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream, and since when its reader takes nothing.
pub(super) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Set where something waits to be written; ended by the last octet alone, so that no drip renews it.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Patient<S> {
        Patient { stream, limit, waiting: None }
    }

    /// What came of a step: an error where the time is up.
    fn within<T>(&mut self, context: &mut Context<'_>, step: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if step.is_ready() {
            return step;
        }
        let limit = self.limit;
        ready!(self.waiting.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let step = Pin::new(&mut self.stream).poll_write(context, octets);
        self.within(context, step)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let step = Pin::new(&mut self.stream).poll_write_vectored(context, octets);
        self.within(context, step)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let step = Pin::new(&mut self.stream).poll_flush(context);
        if step.is_ready() {
            self.waiting = None;
        }
        self.within(context, step)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let step = Pin::new(&mut self.stream).poll_shutdown(context);
        self.within(context, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn who_reads_nothing_or_drop_by_drop_ends_the_writing_in_time() {
        for drips in [false, true] {
            let (near, mut far) = duplex(8);
            let mut near = Patient::new(near, Duration::from_millis(300));
            let writing = tokio::spawn(async move { near.write_all(&[7; 100_000]).await.unwrap_err().kind() });
            while drips && !writing.is_finished() {
                let mut drop = [0; 1];
                let _ = tokio::time::timeout(Duration::from_millis(20), far.read(&mut drop)).await;
                sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(writing.await.unwrap(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test]
    async fn each_answer_has_its_own_time() {
        let (near, mut far) = duplex(8);
        let mut near = Patient::new(near, Duration::from_millis(500));
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all.len())
        });
        for _ in 0..4 {
            near.write_all(&[7; 1_000]).await.unwrap();
            near.flush().await.unwrap();
            sleep(Duration::from_millis(200)).await;
        }
        drop(near);
        assert_eq!(reading.await.unwrap().unwrap(), 4_000);
    }
}
