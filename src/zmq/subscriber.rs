//! One subscriber: what it wants, what waits for it, and its connection.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::frame::{self, Frame, GREETING_LENGTH, Message};
use crate::{admission::CallerTrust, callers::CallerStream, limits::CALLER_TIMEOUT};

/// Messages that may wait for a subscriber; those that come while so many wait are lost to it. Bitcoin Core's default.
pub(crate) const HIGH_WATER_MARK: usize = 1_000;
/// And bytes: some blocks of the largest size. Bitcoin Core has no such bound; a thousand blocks are 4 GB.
const MAX_WAITING_BYTES: usize = 32 << 20;
/// Prefixes of one subscriber: there are five topics.
const MAX_PREFIXES: usize = 64;

/// What is to be written to a subscriber.
pub(super) enum Outgoing {
    Message(Arc<Message>),
    Pong(Vec<u8>),
}

/// What a subscriber wants, and what waits for it.
pub(super) struct Queue {
    /// Beginnings of topics; the empty one fits all.
    prefixes: Mutex<Vec<Vec<u8>>>,
    waiting_bytes: AtomicUsize,
    sender: mpsc::Sender<Outgoing>,
}

impl Queue {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        let (sender, receiver) = mpsc::channel(HIGH_WATER_MARK);
        (Arc::new(Self { prefixes: Mutex::default(), waiting_bytes: AtomicUsize::new(0), sender }), receiver)
    }

    /// Adds the message if it is wanted and there is room.
    pub(super) fn offer(&self, message: &Arc<Message>) {
        let prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if !prefixes.iter().any(|prefix| message.topic.as_bytes().starts_with(prefix)) {
            return;
        }
        drop(prefixes);
        let bytes = message.bytes.len();
        let waiting = self.waiting_bytes.load(Ordering::Relaxed);
        // One always fits, however large.
        if waiting > 0 && waiting.saturating_add(bytes) > MAX_WAITING_BYTES {
            return;
        }
        // Before it can be taken out.
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.sender.try_send(Outgoing::Message(Arc::clone(message))).is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn subscribe(&self, prefix: &[u8]) -> io::Result<()> {
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if prefixes.len() >= MAX_PREFIXES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many subscriptions"));
        }
        prefixes.push(prefix.to_vec());
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn prefix_count(&self) -> usize {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn cancel(&self, prefix: &[u8]) {
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = prefixes.iter().position(|known| known == prefix) {
            prefixes.remove(place);
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    mut stream: CallerStream,
    subscribers: Arc<Mutex<Vec<Arc<Queue>>>>,
    stopping: CancellationToken,
) {
    let address = stream.caller().address();
    match timeout(CALLER_TIMEOUT, shake_hands(&mut stream)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return debug!(%address, %error, "a subscriber cannot be served"),
        Err(_) => return debug!(%address, "a subscriber did not finish its handshake"),
    }
    // It has said what there is to say: it is no longer held for silent.
    let caller = stream.caller().clone();
    caller.rise(CallerTrust::Caller);
    let (queue, outgoing) = Queue::new();
    subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&queue));
    let (read, write) = tokio::io::split(stream);
    let ended = tokio::select! {
        () = stopping.cancelled() => Ok(()),
        ended = listen(read, &queue) => ended,
        ended = speak(write, &queue, outgoing) => ended,
    };
    subscribers.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| !Arc::ptr_eq(known, &queue));
    if let Err(error) = ended {
        debug!(%address, %error, "a subscriber has left");
    }
}

async fn shake_hands(stream: &mut CallerStream) -> io::Result<()> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    stream.write_all(&frame::greeting()).await?;
    let mut greeting = [0; GREETING_LENGTH];
    stream.read_exact(&mut greeting).await?;
    if !frame::is_understood(&greeting) {
        return Err(wrong("it does not speak ZMTP 3 without encryption"));
    }
    stream.write_all(&frame::ready(b"PUB")).await?;
    let Frame::Command { name, data } = frame::read(stream).await? else { return Err(wrong("no READY came")) };
    let is_subscriber = matches!(frame::property(&data, b"Socket-Type"), Some(b"SUB" | b"XSUB"));
    if name == b"READY" && is_subscriber { Ok(()) } else { Err(wrong("it is no subscriber")) }
}

/// Subscriptions are messages that begin with 1, or 0 to end one; from version 3.1 on they may be commands.
async fn listen(mut stream: ReadHalf<CallerStream>, queue: &Queue) -> io::Result<()> {
    loop {
        match frame::read(&mut stream).await? {
            Frame::Message { body, more: false } => match body.split_first() {
                Some((1, prefix)) => queue.subscribe(prefix)?,
                Some((0, prefix)) => queue.cancel(prefix),
                // Nobody listens to what else subscribers may say.
                Some(_) | None => {}
            },
            Frame::Message { more: true, .. } => {}
            Frame::Command { name, data } => match name.as_slice() {
                b"SUBSCRIBE" => queue.subscribe(&data)?,
                b"CANCEL" => queue.cancel(&data),
                // Two bytes say how long it may take. A subscriber whose queue is full hears that it is alive otherwise.
                b"PING" => drop(queue.sender.try_send(Outgoing::Pong(frame::pong(data.get(2..).unwrap_or_default())))),
                _ => {}
            },
        }
    }
}

async fn speak(
    mut stream: WriteHalf<CallerStream>,
    queue: &Queue,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    while let Some(next) = outgoing.recv().await {
        match next {
            Outgoing::Message(message) => {
                stream.write_all(&message.bytes).await?;
                queue.waiting_bytes.fetch_sub(message.bytes.len(), Ordering::Relaxed);
            }
            Outgoing::Pong(frame) => stream.write_all(&frame).await?,
        }
    }
    Ok(())
}
