//! One connection: bytes in, messages out, and the other way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bitcoin::p2p::Magic;
use leyden_net::codec::{FRAME_HEADER, MAX_PAYLOAD};
use leyden_net::{Event, FrameDecoder, FrameError, PeerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::core::Input;
use crate::totals::Traffic;

/// Bytes of messages of one peer that were read and not handled yet: the largest message fits.
const MAX_UNHANDLED: usize = MAX_PAYLOAD + FRAME_HEADER;
/// Bytes that wait to be written, not counting blocks, of which few are served at a time.
const MAX_UNSENT: usize = 8_000_000;
/// Bytes that are read or written at once.
const CHUNK: usize = 64 * 1024;
/// A chunk has to be taken by the other end within this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the writer is given.
pub(super) enum Outgoing {
    Frame(Vec<u8>),
    /// A block, whose departure is reported.
    Block(Vec<u8>),
    /// Nothing comes after this.
    Close,
}

/// The way to a peer's writer.
#[derive(Clone)]
pub(super) struct SendQueue {
    queue: mpsc::UnboundedSender<Outgoing>,
    unsent: Arc<AtomicUsize>,
}

impl SendQueue {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Outgoing>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        (Self { queue, unsent: Arc::default() }, receiver)
    }

    /// Queues a frame; false if the peer has not read what was sent before.
    #[must_use]
    pub(super) fn send(&self, frame: Vec<u8>) -> bool {
        let before = self.unsent.fetch_add(frame.len(), Ordering::Relaxed);
        let _ = self.queue.send(Outgoing::Frame(frame));
        before <= MAX_UNSENT
    }

    /// Queues a block; false if the connection is closed.
    pub(super) fn send_block(&self, frame: Vec<u8>) -> bool {
        self.queue.send(Outgoing::Block(frame)).is_ok()
    }

    /// Closes the connection when all before is written.
    pub(super) fn close(&self) {
        let _ = self.queue.send(Outgoing::Close);
    }
}

/// Counts the bytes of a connection, or of all of them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    /// Where what is counted here counts too.
    all: Option<Arc<Counters>>,
}

impl Counters {
    /// Of one connection among all.
    pub(super) fn among(all: &Arc<Self>) -> Self {
        Self { all: Some(Arc::clone(all)), ..Self::default() }
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic { sent: self.sent.load(Ordering::Relaxed), received: self.received.load(Ordering::Relaxed) }
    }

    fn add(&self, bytes: usize, which: fn(&Self) -> &AtomicU64) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        for counters in std::iter::once(self).chain(self.all.as_deref()) {
            which(counters).fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Why a connection ended, other than by our will.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the peer closed the connection")]
    Closed,
    #[error("this side closed the connection")]
    ByUs,
    #[error("the peer does not read what it is sent")]
    WriteTimeout,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the node is stopping")]
    Stopping,
}

/// All that a connection's task needs.
pub(super) struct Connection {
    pub(super) peer: PeerId,
    pub(super) stream: TcpStream,
    pub(super) magic: Magic,
    pub(super) outgoing: mpsc::UnboundedReceiver<Outgoing>,
    pub(super) send_queue: SendQueue,
    pub(super) counters: Arc<Counters>,
    pub(super) input: mpsc::Sender<Input>,
    pub(super) outcomes: mpsc::UnboundedSender<Event>,
    pub(super) stop: CancellationToken,
    /// Its share of the inbound connections, held until its socket is closed.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// Dropped when the connection is over.
    pub(super) ended: Option<oneshot::Sender<()>>,
}

impl Connection {
    /// Runs until one end has had enough, and reports that to the core.
    pub(super) async fn run(self) {
        let Self { peer, stream, magic, mut outgoing, send_queue, counters, input, outcomes, stop, place, ended } =
            self;
        // Announcements are small and urgent. If it cannot be set, they are only slower.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        let reason = tokio::select! {
            end = read(peer, reader, magic, &input, &counters) => end,
            end = write(peer, writer, &mut outgoing, &send_queue, &outcomes, &counters) => end,
            () = stop.cancelled() => Ended::Stopping,
        };
        tracing::debug!(peer = peer.0, %reason, "connection ended");
        drop(place);
        let _ = input.send(Input::Closed { peer }).await;
        drop(ended);
    }
}

async fn read(
    peer: PeerId,
    mut reader: OwnedReadHalf,
    magic: Magic,
    input: &mpsc::Sender<Input>,
    counters: &Counters,
) -> Ended {
    let unhandled = Arc::new(Semaphore::new(MAX_UNHANDLED));
    let mut decoder = FrameDecoder::new(magic);
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match reader.read(&mut chunk).await {
            Ok(0) => return Ended::Closed,
            Ok(count) => count,
            Err(error) => return error.into(),
        };
        counters.add(count, |counters| &counters.received);
        decoder.feed(chunk.get(..count).unwrap_or_default());
        loop {
            let message = match decoder.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return error.into(),
            };
            let bytes = u32::try_from(decoder.last_frame_length()).unwrap_or(u32::MAX);
            // The core gives the permit back when it has handled the message. Until then the peer has to wait.
            let Ok(permit) = Arc::clone(&unhandled).acquire_many_owned(bytes).await else { return Ended::Stopping };
            if input.send(Input::Message { peer, message, permit }).await.is_err() {
                return Ended::Stopping;
            }
        }
    }
}

async fn write(
    peer: PeerId,
    mut writer: OwnedWriteHalf,
    outgoing: &mut mpsc::UnboundedReceiver<Outgoing>,
    send_queue: &SendQueue,
    outcomes: &mpsc::UnboundedSender<Event>,
    counters: &Counters,
) -> Ended {
    while let Some(item) = outgoing.recv().await {
        let (bytes, is_block) = match item {
            Outgoing::Frame(bytes) => (bytes, false),
            Outgoing::Block(bytes) => (bytes, true),
            Outgoing::Close => {
                let _ = writer.shutdown().await;
                return Ended::ByUs;
            }
        };
        for chunk in bytes.chunks(CHUNK) {
            match tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(chunk)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.into(),
                Err(_) => return Ended::WriteTimeout,
            }
            counters.add(chunk.len(), |counters| &counters.sent);
        }
        if is_block {
            let _ = outcomes.send(Event::BlockServed { peer });
        } else {
            send_queue.unsent.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }
    Ended::ByUs
}
