//! One connection: bytes in, messages out, and the other way.
//!
//! ```text
//!   socket ── opening ──▶ transport ─┬─ reader: bytes ─▶ messages ─▶ core
//!               (BIP 324, or plain)  └─ writer: messages ─▶ bytes
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bitcoin::p2p::Magic;
use leyden_net::codec::{FRAME_HEADER, MAX_PAYLOAD};
use leyden_net::transport::{MAX_GARBAGE, MessageDecoder, MessageEncoder, Opening, Secrets, Transport};
use leyden_net::{Direction, Envelope, Event, FrameError, PeerId, TransportKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::core::Input;
use super::dial;
use crate::totals::Traffic;

/// Bytes of messages of one peer that were read and not handled yet: the largest message fits.
const MAX_UNHANDLED: usize = MAX_PAYLOAD + FRAME_HEADER;
/// Bytes that wait to be written, not counting blocks, of which few are served at a time.
const MAX_UNSENT: usize = 8_000_000;
/// Bytes that are read or written at once.
const CHUNK: usize = 64 * 1024;
/// A chunk has to be taken by the other end within this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// So long a peer that we connected to may take for its first byte before it is taken for one that speaks plain frames only.
/// (differs) Bitcoin Core waits until the peer has closed the connection; some only wait.
const FIRST_BYTE: Duration = Duration::from_secs(20);

/// What the writer is given.
pub(super) enum Outgoing {
    Message(Envelope),
    /// A block, or what is as long, whose departure is reported.
    Block(Vec<Envelope>),
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

    /// Queues a message; false if the peer has not read what was sent before.
    #[must_use]
    pub(super) fn send(&self, message: Envelope) -> bool {
        let before = self.unsent.fetch_add(message.frame_length(), Ordering::Relaxed);
        let _ = self.queue.send(Outgoing::Message(message));
        before <= MAX_UNSENT
    }

    /// Queues a block; false if the connection is closed.
    pub(super) fn send_block(&self, messages: Vec<Envelope>) -> bool {
        self.queue.send(Outgoing::Block(messages)).is_ok()
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
    #[error("the peer does not answer in encrypted packets")]
    Unheard,
    #[error("a message is longer than can be sent")]
    TooLong,
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
    pub(super) address: SocketAddr,
    pub(super) direction: Direction,
    pub(super) magic: Magic,
    /// Are encrypted packets tried, or understood if the peer connected to us (BIP 324)?
    pub(super) encrypts: bool,
    /// What is spoken, once that is known.
    pub(super) kind: Arc<OnceLock<TransportKind>>,
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
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        let reason = tokio::select! {
            end = self.converse() => end,
            () = stop.cancelled() => Ended::Stopping,
        };
        let Self { peer, input, place, ended, .. } = self;
        tracing::debug!(peer = peer.0, %reason, "connection ended");
        drop(place);
        let _ = input.send(Input::Closed { peer }).await;
        drop(ended);
    }

    async fn converse(&mut self) -> Ended {
        let transport = match self.open().await {
            Ok(transport) => transport,
            Err(end) => return end,
        };
        let Transport { kind, encoder, decoder } = transport;
        // Nobody else sets it.
        let _ = self.kind.set(kind);
        let (reader, writer) = self.stream.split();
        let Self { peer, outgoing, send_queue, counters, input, outcomes, .. } = self;
        tokio::select! {
            end = read(*peer, reader, decoder, input, counters) => end,
            end = write(*peer, writer, encoder, outgoing, send_queue, outcomes, counters) => end,
        }
    }

    /// Finds out what is spoken. A peer that we connected to and that does not know encrypted packets closes the connection
    /// without a byte, and is connected to again.
    async fn open(&mut self) -> Result<Transport, Ended> {
        // Announcements are small and urgent. If it cannot be set, they are only slower.
        let _ = self.stream.set_nodelay(true);
        if !self.encrypts {
            return Ok(Transport::v1(self.magic));
        }
        match self.direction {
            Direction::Inbound => {
                let opening = Opening::respond(self.magic, secrets())?;
                self.go_through(opening, Vec::new()).await
            }
            Direction::Outbound => {
                let (opening, greeting) = Opening::initiate(self.magic, secrets())?;
                match self.go_through(opening, greeting).await {
                    Err(Ended::Unheard) => {
                        tracing::debug!(
                            peer = self.peer.0,
                            "the peer does not speak in encrypted packets; connecting again"
                        );
                        self.stream = dial::connect(self.address).await?;
                        let _ = self.stream.set_nodelay(true);
                        Ok(Transport::v1(self.magic))
                    }
                    opened => opened,
                }
            }
        }
    }

    async fn go_through(&mut self, mut opening: Opening, mut send: Vec<u8>) -> Result<Transport, Ended> {
        let is_initiator = self.direction == Direction::Outbound;
        let mut is_heard = false;
        let mut chunk = vec![0; CHUNK];
        loop {
            // Less than a socket takes without being read.
            let sent = self.stream.write_all(&send).await;
            self.counters.add(send.len(), |counters| &counters.sent);
            let wait = async {
                sent?;
                self.stream.read(&mut chunk).await
            };
            let read = if is_initiator && !is_heard {
                tokio::time::timeout(FIRST_BYTE, wait).await.unwrap_or(Ok(0))
            } else {
                wait.await
            };
            let count = match read {
                Ok(0) | Err(_) if is_initiator && !is_heard => return Err(Ended::Unheard),
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => count,
                Err(error) => return Err(error.into()),
            };
            is_heard = true;
            self.counters.add(count, |counters| &counters.received);
            let (answer, transport) = opening.take(chunk.get(..count).unwrap_or_default())?;
            send = answer;
            if let Some(transport) = transport {
                self.stream.write_all(&send).await?;
                self.counters.add(send.len(), |counters| &counters.sent);
                return Ok(transport);
            }
        }
    }
}

/// For one connection.
fn secrets() -> Secrets {
    let mut garbage = vec![0; rand::random_range(0..=MAX_GARBAGE)];
    rand::fill(garbage.as_mut_slice());
    Secrets { key: rand::random(), entropy: rand::random(), garbage }
}

async fn read(
    peer: PeerId,
    mut reader: ReadHalf<'_>,
    mut decoder: MessageDecoder,
    input: &mpsc::Sender<Input>,
    counters: &Counters,
) -> Ended {
    let unhandled = Arc::new(Semaphore::new(MAX_UNHANDLED));
    let mut chunk = vec![0; CHUNK];
    loop {
        // The opening may have left some.
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
        let count = match reader.read(&mut chunk).await {
            Ok(0) => return Ended::Closed,
            Ok(count) => count,
            Err(error) => return error.into(),
        };
        counters.add(count, |counters| &counters.received);
        decoder.feed(chunk.get(..count).unwrap_or_default());
    }
}

async fn write(
    peer: PeerId,
    mut writer: WriteHalf<'_>,
    mut encoder: MessageEncoder,
    outgoing: &mut mpsc::UnboundedReceiver<Outgoing>,
    send_queue: &SendQueue,
    outcomes: &mpsc::UnboundedSender<Event>,
    counters: &Counters,
) -> Ended {
    while let Some(item) = outgoing.recv().await {
        let (messages, is_block) = match item {
            Outgoing::Message(message) => (vec![message], false),
            Outgoing::Block(messages) => (messages, true),
            Outgoing::Close => {
                let _ = writer.shutdown().await;
                return Ended::ByUs;
            }
        };
        for message in messages {
            let Some(bytes) = encoder.encode(&message) else { return Ended::TooLong };
            for chunk in bytes.chunks(CHUNK) {
                match tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(chunk)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return Ended::WriteTimeout,
                }
                counters.add(chunk.len(), |counters| &counters.sent);
            }
            if !is_block {
                send_queue.unsent.fetch_sub(message.frame_length(), Ordering::Relaxed);
            }
        }
        if is_block {
            let _ = outcomes.send(Event::BlockServed { peer });
        }
    }
    Ended::ByUs
}
