//! One client's connection: BOLT 8's handshake, then messages of the tower's protocol both ways.
//!
//! ```text
//!   socket ──► decrypt, decode ──► the worker's queue        no more than TOWER_MAX_UNHANDLED bytes that are not durable
//!   socket ◄── encrypt ◄── sign receipts ◄── the worker      no more than TOWER_MAX_UNSENT answers that nobody reads
//! ```

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use leyden_channels::{
    transport::{CipherError, Decryptor, Encryptor, HandshakeError, ReceiveBuffer, Session},
    types::Uptime,
};
use leyden_watchtower::{
    appointment::ClientId,
    codec::ReadError,
    message::TowerMessage,
    session::{Bucket, Limits},
    tower::{HangUp, ToSign},
};
use secp256k1::SecretKey;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::worker::Job;
use crate::{
    admission::{CallerTrust, ConnectionSlot},
    counters,
    driver::connection::answer_handshake,
    limits::{
        HANDSHAKE_TIMEOUT, TOWER_MAX_UNHANDLED, TOWER_MAX_UNSENT, TOWER_MESSAGE_COST, TOWER_REGISTER_TIMEOUT,
        WRITE_TIMEOUT,
    },
};

/// Answers that are written at a time: so many receipts are signed before others on the same thread have their turn.
const ANSWERS_AT_ONCE: usize = 32;

/// How a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client hung up")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("no handshake within {} seconds", HANDSHAKE_TIMEOUT.as_secs())]
    Silent,
    #[error("whoever is at the other end does not know this tower's key, or does not speak BOLT 8: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("the encrypted stream is corrupt: {0}")]
    Cipher(#[from] CipherError),
    #[error("the client sent a message that cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("an answer cannot be sent: {0}")]
    Encode(#[from] leyden_channels::wire::EncodeError),
    #[error("{0}")]
    HungUp(HangUp),
    #[error("the client does not read what it is sent")]
    NotReading,
    #[error("the connection gives way to another one")]
    GivesWay,
    #[error("the client has not registered within {} seconds", TOWER_REGISTER_TIMEOUT.as_secs())]
    NotRegistered,
    #[error("the connection ends here")]
    Cut,
}

/// What the worker says to a connection.
#[derive(Debug)]
pub(super) enum Outgoing {
    Message(TowerMessage),
    /// Sign, then send.
    Sign(ToSign),
    /// The last one.
    HangUp(HangUp),
}

/// A connection, as the worker and the connection's task share it.
pub(super) struct Link {
    pub client: ClientId,
    /// Tells two connections of one client apart.
    pub id: u64,
    slot: ConnectionSlot,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    unsent: AtomicUsize,
    is_registered: AtomicBool,
    overflown: AtomicBool,
    cut: CancellationToken,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Link({}, {})", self.client, self.id)
    }
}

impl Link {
    pub(super) fn new(
        client: ClientId,
        id: u64,
        slot: ConnectionSlot,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Outgoing>) {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let link = Self {
            client,
            id,
            slot,
            outgoing,
            unsent: AtomicUsize::new(0),
            is_registered: AtomicBool::new(false),
            overflown: AtomicBool::new(false),
            cut: CancellationToken::new(),
        };
        (Arc::new(link), queue)
    }

    pub(super) fn send(&self, outgoing: Outgoing) {
        if self.unsent.fetch_add(1, Ordering::Relaxed) >= TOWER_MAX_UNSENT {
            self.overflown.store(true, Ordering::Relaxed);
            return self.cut.cancel();
        }
        // The connection may have ended.
        let _ = self.outgoing.send(outgoing);
    }

    /// Ends the connection at once.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// It belongs to a client that is registered; a place on the allow list gives it one among the connections too.
    pub(super) fn registered(&self, is_listed: bool) {
        self.is_registered.store(true, Ordering::Relaxed);
        self.slot.rise(CallerTrust::Caller);
        if is_listed {
            // If there are too many of these, it stays one of the others.
            self.slot.rise(CallerTrust::Known);
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.is_registered.load(Ordering::Relaxed)
    }
}

/// Answers somebody who connected to us, who knows our key and shows a key of its own.
pub(super) async fn handshake(secret: SecretKey, stream: &mut TcpStream) -> Result<Session, End> {
    let answer = async {
        stream.set_nodelay(true)?;
        answer_handshake::<End>(secret, stream).await
    };
    timeout(HANDSHAKE_TIMEOUT, answer).await.map_err(|_| End::Silent)?
}

/// Both ways of a connection, until one of them ends, the worker hangs up, or somebody else needs the place.
pub(super) async fn serve(
    link: &Arc<Link>,
    session: Session,
    stream: TcpStream,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    secret: SecretKey,
    pace: Pace,
    jobs: &mpsc::Sender<Job>,
) -> End {
    let Session { encryptor, decryptor, remote: _ } = session;
    let (read, write) = stream.into_split();
    tokio::select! {
        end = read_all(link, read, decryptor, pace, jobs) => end,
        end = write_all(link, write, encryptor, outgoing, &secret) => end,
        () = link.slot.leave().cancelled() => End::GivesWay,
        () = link.cut.cancelled() => {
            if link.overflown.load(Ordering::Relaxed) { End::NotReading } else { End::Cut }
        }
        () = unregistered(link) => End::NotRegistered,
    }
}

async fn unregistered(link: &Link) {
    sleep(TOWER_REGISTER_TIMEOUT).await;
    if link.is_registered() {
        std::future::pending::<()>().await;
    }
}

async fn read_all(
    link: &Arc<Link>,
    mut socket: OwnedReadHalf,
    mut decryptor: Decryptor,
    mut pace: Pace,
    jobs: &mpsc::Sender<Job>,
) -> End {
    let unhandled = Arc::new(Semaphore::new(TOWER_MAX_UNHANDLED as usize));
    let mut buffer = ReceiveBuffer::new();
    loop {
        match next(&mut socket, &mut decryptor, &mut buffer).await {
            Ok((message, cost)) => {
                pace.keep().await;
                let Ok(share) = Arc::clone(&unhandled).acquire_many_owned(cost).await else { return End::Closed };
                let job = Job::Message { link: Arc::clone(link), message, share: Share(share) };
                if jobs.send(job).await.is_err() {
                    return End::Cut;
                }
            }
            Err(end) => return end,
        }
    }
}

/// Below the rate at which the tower hangs up: who catches up after an outage sends as fast as it can, and has to wait instead.
pub(super) struct Pace {
    bucket: Bucket,
    begun: Instant,
    per_minute: u64,
    at_once: u64,
}

/// Before a client that has to wait is read on.
const PACE_PAUSE: Duration = Duration::from_millis(20);

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        // Questions cost more than one message, and the other half is for them.
        let at_once = limits.messages_at_once / 2;
        let per_minute = limits.messages_per_second.saturating_mul(60 * 9 / 10);
        Self { bucket: Bucket::full(at_once, Uptime(0)), begun: Instant::now(), per_minute, at_once }
    }

    /// Waits until another message may be handled.
    async fn keep(&mut self) {
        while !self.bucket.take(1, self.per_minute, self.at_once, self.now()) {
            sleep(PACE_PAUSE).await;
        }
    }

    fn now(&self) -> Uptime {
        Uptime(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// A message's part of what may wait to be durable: more is read once it is dropped.
#[derive(Debug)]
pub(super) struct Share(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit);

/// A message, and what it counts for.
async fn next(
    socket: &mut OwnedReadHalf,
    decryptor: &mut Decryptor,
    buffer: &mut ReceiveBuffer,
) -> Result<(TowerMessage, u32), End> {
    loop {
        if let Some(bytes) = decryptor.decrypt(buffer)? {
            // BOLT 8: 65,535 at most.
            let length = u32::try_from(bytes.len()).unwrap_or(TOWER_MAX_UNHANDLED);
            return Ok((TowerMessage::decode(bytes)?, length.clamp(TOWER_MESSAGE_COST, TOWER_MAX_UNHANDLED)));
        }
        if socket.read_buf(buffer.tail()).await? == 0 {
            return Err(End::Closed);
        }
    }
}

async fn write_all(
    link: &Link,
    mut socket: OwnedWriteHalf,
    mut encryptor: Encryptor,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    secret: &SecretKey,
) -> End {
    let (mut waiting, mut frames) = (Vec::new(), Vec::new());
    loop {
        if outgoing.recv_many(&mut waiting, ANSWERS_AT_ONCE).await == 0 {
            return End::Cut;
        }
        let count = waiting.len();
        let mut last = None;
        for one in waiting.drain(..) {
            let message = match one {
                Outgoing::Message(message) => message,
                Outgoing::Sign(to_sign) => {
                    if matches!(to_sign, ToSign::Acknowledged(_)) {
                        counters::tower_receipt();
                    }
                    to_sign.sign(secret)
                }
                Outgoing::HangUp(why) => {
                    last = Some(End::HungUp(why));
                    break;
                }
            };
            if let Err(error) = encryptor.encrypt(&message.encode(), &mut frames) {
                return error.into();
            }
        }
        link.unsent.fetch_sub(count, Ordering::Relaxed);
        match timeout(WRITE_TIMEOUT, socket.write_all(&frames)).await {
            Err(_) => return End::NotReading,
            Ok(Err(error)) => return error.into(),
            Ok(Ok(())) => frames.clear(),
        }
        if let Some(last) = last {
            let _ = timeout(WRITE_TIMEOUT, socket.shutdown()).await;
            return last;
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_sends_as_fast_as_it_can_has_to_wait_and_is_never_too_fast() {
        let limits = Limits { messages_per_second: 2_000, messages_at_once: 40, ..Limits::default() };
        let mut pace = Pace::new(&limits);
        let mut tower = Bucket::full(limits.messages_at_once, Uptime(0));
        let begun = Instant::now();
        for message in 0..200 {
            pace.keep().await;
            let may = tower.take(1, limits.messages_per_second * 60, limits.messages_at_once, pace.now());
            assert!(may, "message {message} is too fast after {:?}", begun.elapsed());
        }
        assert!(begun.elapsed() > Duration::from_millis(50), "nobody had to wait");
    }
}
