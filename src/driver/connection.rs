//! One encrypted connection: TCP, BOLT 8's handshake, BOLT 1's `init`, then messages both ways.
//!
//! ```text
//!   socket ──► decrypt, decode ──► bounded queue ─────────┬──► the peer's task
//!   socket ◄── bounded queue of encrypted bytes ◄─────────┴─── the peer's task (it encrypts, so order is its own)
//! ```
//!
//! One task carries both ways; what the system takes at once is written by the peer's task itself. It ends with the connection: with the [`Connection`], but for a few last words; when the peer hangs
//! up; and when it takes nothing for [`WRITE_TIMEOUT`]. A peer that sends faster than we work has to wait. One that reads
//! too slowly is told no answers above [`MAX_UNSENT_ANSWERS`], and is hung up on above [`MAX_UNSENT`].

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bitcoin::constants::ChainHash;
use leyden_channels::{
    transport::{
        ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, AwaitingActOne, AwaitingActTwo, CipherError, Decryptor, Encryptor,
        HandshakeError, ReceiveBuffer, Session,
    },
    wire::{
        DecodeError, EncodeError, Message,
        control::Init,
        features::{FeatureError, Features},
    },
};
use leyden_watchtower::codec::ReadError;
use secp256k1::{PublicKey, SecretKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::strangers::PeerStanding;
use super::uncommitted::Gossip;
use crate::counters::Counters;
use crate::limits::{
    FAREWELL, HANDSHAKE_TIMEOUT, MAX_LAST_WORDS, MAX_UNHANDLED, MAX_UNHANDLED_MESSAGES, MAX_UNSENT, MAX_UNSENT_ANSWERS,
    WRITE_TIMEOUT,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("nobody answers at {address}: {source}. Is the node running and the port right?")]
    Dial { address: String, source: io::Error },
    #[error("no answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the node at the other end does not hold the key that was expected, or does not speak BOLT 8: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("the encrypted stream is corrupt: {0}")]
    Cipher(#[from] CipherError),
    #[error("the peer sent a message that cannot be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("a message cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    #[error("the peer's first message is not `init`")]
    NoInit,
    #[error("the peer's features do not suit ours: {0}")]
    Features(#[from] FeatureError),
    #[error("the peer is on another chain: connect to a node of the same network")]
    OtherChain,
    #[error("the peer hung up")]
    Closed,
    #[error("the peer does not read what it is sent")]
    NotReading,
    #[error("the tower sent a message that cannot be read: {0}")]
    Tower(ReadError),
}

/// Who we are on every connection.
#[derive(Clone)]
pub(crate) struct Local {
    pub secret: SecretKey,
    pub features: Features,
    pub chain: ChainHash,
    pub counters: Counters,
}

/// A connection after `init` both ways.
pub(crate) struct Established {
    pub remote: PublicKey,
    pub address: SocketAddr,
    pub inbound: bool,
    /// What the peer offers.
    pub features: Features,
    encryptor: Encryptor,
    reader: MessageReader,
    writer: OwnedWriteHalf,
}

/// Connects to `remote` at `address` (host:port).
pub(crate) async fn dial(local: &Local, remote: PublicKey, address: &str) -> Result<Established, ConnectionError> {
    let connect = async {
        let (stream, peer, session) = shake_hands(local.secret, remote, address).await?;
        exchange_init(local, stream, peer, session, false).await
    };
    timeout(HANDSHAKE_TIMEOUT, connect).await.map_err(|_| ConnectionError::Timeout(HANDSHAKE_TIMEOUT))?
}

/// Connects as the holder of `secret`, without `init`: to who is no Lightning peer.
pub(crate) async fn dial_line(secret: SecretKey, remote: PublicKey, address: &str) -> Result<Line, ConnectionError> {
    let connect = async {
        let (stream, _, session) = shake_hands(secret, remote, address).await?;
        Ok(Line::new(stream, session))
    };
    timeout(HANDSHAKE_TIMEOUT, connect).await.map_err(|_| ConnectionError::Timeout(HANDSHAKE_TIMEOUT))?
}

async fn shake_hands(
    secret: SecretKey,
    remote: PublicKey,
    address: &str,
) -> Result<(TcpStream, SocketAddr, Session), ConnectionError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| ConnectionError::Dial { address: address.to_owned(), source })?;
    let (mut stream, peer) = prepare(stream)?;
    let (handshake, act_one) = AwaitingActTwo::start(secret, remote, ephemeral_key());
    stream.write_all(&act_one).await?;
    let mut act_two = [0; ACT_TWO_LEN];
    stream.read_exact(&mut act_two).await?;
    let (session, act_three) = handshake.act_two(&act_two)?;
    stream.write_all(&act_three).await?;
    Ok((stream, peer, session))
}

/// Answers a node that connected to us.
pub(crate) async fn accept(local: &Local, stream: TcpStream) -> Result<Established, ConnectionError> {
    let answer = async {
        let (mut stream, peer) = prepare(stream)?;
        let session = answer_handshake::<ConnectionError>(local.secret, &mut stream).await?;
        exchange_init(local, stream, peer, session, true).await
    };
    timeout(HANDSHAKE_TIMEOUT, answer).await.map_err(|_| ConnectionError::Timeout(HANDSHAKE_TIMEOUT))?
}

/// The answering side of BOLT 8's handshake, as the holder of `secret`. Without a limit of time.
pub(crate) async fn answer_handshake<E>(secret: SecretKey, stream: &mut TcpStream) -> Result<Session, E>
where
    E: From<io::Error> + From<HandshakeError>,
{
    let mut act_one = [0; ACT_ONE_LEN];
    stream.read_exact(&mut act_one).await?;
    let (handshake, act_two) = AwaitingActOne::start(secret, ephemeral_key()).act_one(&act_one)?;
    stream.write_all(&act_two).await?;
    let mut act_three = [0; ACT_THREE_LEN];
    stream.read_exact(&mut act_three).await?;
    Ok(handshake.act_three(&act_three)?)
}

fn prepare(stream: TcpStream) -> io::Result<(TcpStream, SocketAddr)> {
    // Small messages that wait for one another: Nagle's delay would cost more than the packets.
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?;
    Ok((stream, address))
}

/// A fresh key; all but 2^-127 of all 32 bytes are one.
pub(crate) fn ephemeral_key() -> SecretKey {
    loop {
        if let Ok(key) = SecretKey::from_slice(&rand::random::<[u8; 32]>()) {
            return key;
        }
    }
}

async fn exchange_init(
    local: &Local,
    stream: TcpStream,
    address: SocketAddr,
    session: Session,
    inbound: bool,
) -> Result<Established, ConnectionError> {
    let remote = session.remote;
    let Line { mut encryptor, mut reader, mut writer } = Line::new(stream, session);
    reader.counters = local.counters.clone();
    let mut out = Vec::new();
    encryptor.encrypt_message(&Message::Init(Init::new(local.features.clone(), local.chain)), &mut out)?;
    writer.write_all(&out).await?;
    let (Message::Init(init), _) = reader.next().await? else { return Err(ConnectionError::NoInit) };
    let features = init.all_features();
    features.check()?;
    if !init.accepts_chain(local.chain) {
        return Err(ConnectionError::OtherChain);
    }
    Ok(Established { remote, address, inbound, features, encryptor, reader, writer })
}

/// Both ways of a connection after the handshake, before anything is said.
pub(crate) struct Line {
    pub(super) encryptor: Encryptor,
    pub(super) reader: MessageReader,
    pub(super) writer: OwnedWriteHalf,
}

impl Line {
    fn new(stream: TcpStream, session: Session) -> Self {
        let Session { encryptor, decryptor, remote: _ } = session;
        let (socket, writer) = stream.into_split();
        let (buffer, counters) = (ReceiveBuffer::new(), Counters::default());
        let reader = MessageReader { socket, decryptor, buffer, received: Arc::default(), counters };
        Self { encryptor, reader, writer }
    }
}

pub(super) struct MessageReader {
    socket: OwnedReadHalf,
    decryptor: Decryptor,
    buffer: ReceiveBuffer,
    received: Arc<AtomicU64>,
    counters: Counters,
}

impl MessageReader {
    /// A message, and its length on the wire.
    async fn next(&mut self) -> Result<(Message, u32), ConnectionError> {
        let (message, length) = self.next_with(Message::decode).await?;
        Ok((message?, length))
    }

    /// What `decode` makes of a message's bytes, and their length.
    pub(super) async fn next_with<T>(&mut self, decode: impl Fn(&[u8]) -> T) -> Result<(T, u32), ConnectionError> {
        loop {
            if let Some(bytes) = self.decryptor.decrypt(&mut self.buffer)? {
                // BOLT 8: 65,535 at most.
                let length = u32::try_from(bytes.len()).unwrap_or(MAX_UNHANDLED);
                self.counters.message_received();
                return Ok((decode(bytes), length));
            }
            let read = self.socket.read_buf(self.buffer.tail()).await?;
            if read == 0 {
                return Err(ConnectionError::Closed);
            }
            self.received.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}

/// What is handed over: messages, then why there are no more.
pub(crate) type Incoming = Result<Received, ConnectionError>;

/// A message, with its share of what may wait to be handled: more is read once it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub message: Message,
    _share: OwnedSemaphorePermit,
}

/// The sending side of a running connection, in the peer's task. Dropping it closes the connection.
pub(crate) struct Connection {
    pub address: SocketAddr,
    pub inbound: bool,
    pub features: Features,
    encryptor: Encryptor,
    buffer: Vec<u8>,
    socket: Arc<OwnedWriteHalf>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    unsent: Arc<AtomicU64>,
    sent: u64,
    received: Arc<AtomicU64>,
    counters: Counters,
    /// The connection is gone: what waits may leave, but not for long.
    closing: CancellationToken,
    task: tokio::task::AbortHandle,
}

impl Connection {
    /// Encrypts into the connection's buffer; [`Self::flush`] hands it to the socket. For an [`Uncommitted`] message, or an effect
    /// whose commit is done.
    ///
    /// [`Uncommitted`]: super::uncommitted::Uncommitted
    pub(crate) fn queue(&mut self, message: &Message) -> Result<(), EncodeError> {
        self.counters.message_sent();
        self.encryptor.encrypt_message(message, &mut self.buffer)
    }

    /// Encrypts gossip, which is encoded already, into the connection's buffer.
    pub(crate) fn queue_gossip(&mut self, message: &Gossip) -> Result<(), EncodeError> {
        self.counters.message_sent();
        self.encryptor.encrypt(message.bytes(), &mut self.buffer)
    }

    /// Whether so much waits that what the peer has asked for is left out. `more` is what the answer would add.
    pub(crate) fn is_full_for(&self, more: u64) -> bool {
        self.waiting().saturating_add(more) > MAX_UNSENT_ANSWERS
    }

    /// Sends what was queued.
    pub(crate) fn flush(&mut self) -> Result<(), ConnectionError> {
        self.write_at_once();
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        let length = bytes.len() as u64;
        self.sent += length;
        if self.unsent.fetch_add(length, Ordering::Relaxed) > MAX_UNSENT {
            return Err(ConnectionError::NotReading);
        }
        self.outgoing.send(bytes).map_err(|_| ConnectionError::Closed)
    }

    /// Gives the system what it takes without waiting, unless the connection's task still has something that goes before. What
    /// is left is the task's, which also meets what is wrong with the socket.
    fn write_at_once(&mut self) {
        if self.buffer.is_empty() || self.unsent.load(Ordering::Acquire) > 0 {
            return;
        }
        if let Ok(count) = self.socket.try_write(&self.buffer) {
            self.buffer.drain(..count);
            self.sent += count as u64;
        }
    }

    /// Encrypted bytes that have not left yet.
    pub(crate) fn unsent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.unsent)
    }

    /// Hangs up at once, whatever waits.
    pub(crate) fn cut(&self) {
        self.task.abort();
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes that the peer has not taken, and what is about to follow them.
    pub(crate) fn waiting(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed).saturating_add(self.buffer.len() as u64)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.unsent.load(Ordering::Relaxed) > MAX_LAST_WORDS {
            self.task.abort();
        } else {
            self.closing.cancel();
        }
    }
}

impl Established {
    /// Starts the task that carries messages both ways.
    pub(crate) fn start(self, standing: &PeerStanding) -> (Connection, mpsc::Receiver<Incoming>) {
        self.start_with(standing, WRITE_TIMEOUT)
    }

    /// The peer has to take some bytes within `patience` while there are any.
    fn start_with(self, standing: &PeerStanding, patience: Duration) -> (Connection, mpsc::Receiver<Incoming>) {
        let Self { remote: _, address, inbound, features, encryptor, reader, writer } = self;
        let (received, counters) = (Arc::clone(&reader.received), reader.counters.clone());
        let unsent = Arc::new(AtomicU64::new(0));
        let closing = CancellationToken::new();
        let (outgoing, queue) = mpsc::unbounded_channel::<Vec<u8>>();
        let (deliver, incoming) = mpsc::channel(MAX_UNHANDLED_MESSAGES);
        let socket = Arc::new(writer);
        let writer = MessageWriter::new(Arc::clone(&socket), queue, Arc::clone(&unsent), patience);
        let task = tokio::spawn(standing.meter(carry(reader, writer, deliver, closing.clone())));
        let connection = Connection {
            address,
            inbound,
            features,
            encryptor,
            buffer: Vec::new(),
            socket,
            outgoing,
            unsent,
            sent: 0,
            received,
            counters,
            closing,
            task: task.abort_handle(),
        };
        (connection, incoming)
    }
}

/// Both ways of a connection, until one of them ends or the [`Connection`] is gone.
async fn carry(
    mut reader: MessageReader,
    mut writer: MessageWriter,
    deliver: mpsc::Sender<Incoming>,
    closing: CancellationToken,
) {
    let end = {
        let mut reading = pin!(read_all(&mut reader, &deliver));
        tokio::select! {
            end = &mut reading => Some(end),
            end = writer.run() => match end {
                Ok(()) => None,
                // A peer that has hung up takes nothing more, but may have said why.
                Err(ConnectionError::Io(error)) => {
                    Some(timeout(FAREWELL, &mut reading).await.unwrap_or(ConnectionError::Io(error)))
                }
                Err(end) => Some(end),
            },
            () = closing.cancelled() => None,
        }
    };
    match end {
        // Who would hear of it may have gone.
        Some(end) => drop(deliver.send(Err(end)).await),
        None => {
            let _ = timeout(FAREWELL, async {
                let _ = writer.run().await;
            })
            .await;
        }
    }
}

async fn read_all(reader: &mut MessageReader, deliver: &mpsc::Sender<Incoming>) -> ConnectionError {
    let unhandled = Arc::new(Semaphore::new(MAX_UNHANDLED as usize));
    loop {
        let (message, length) = match reader.next().await {
            Ok(next) => next,
            Err(end) => return end,
        };
        let Ok(share) = Arc::clone(&unhandled).acquire_many_owned(length).await else { return ConnectionError::Closed };
        if deliver.send(Ok(Received { message, _share: share })).await.is_err() {
            // The connection is about to go.
            std::future::pending::<()>().await;
        }
    }
}

pub(super) struct MessageWriter {
    /// Whoever lets it go last says to the peer that nothing more comes.
    socket: Arc<OwnedWriteHalf>,
    queue: mpsc::UnboundedReceiver<Vec<u8>>,
    current: Vec<u8>,
    /// How much of `current` has left.
    written: usize,
    unsent: Arc<AtomicU64>,
    patience: Duration,
}

impl MessageWriter {
    /// `unsent` counts what the queue has been given and the peer has not taken, of which it has to take some within
    /// `patience`.
    pub(super) fn new(
        socket: Arc<OwnedWriteHalf>,
        queue: mpsc::UnboundedReceiver<Vec<u8>>,
        unsent: Arc<AtomicU64>,
        patience: Duration,
    ) -> Self {
        Self { socket, queue, current: Vec::new(), written: 0, unsent, patience }
    }

    /// Writes what comes until nothing can come any more. It can be given up at any await and taken up again.
    pub(super) async fn run(&mut self) -> Result<(), ConnectionError> {
        loop {
            while let Some(rest) = self.current.get(self.written..).filter(|rest| !rest.is_empty()) {
                let count = match self.socket.try_write(rest) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let ready = timeout(self.patience, self.socket.writable()).await;
                        ready.map_err(|_| ConnectionError::NotReading)??;
                        continue;
                    }
                    result => result?,
                };
                if count == 0 {
                    return Err(ConnectionError::Closed);
                }
                self.written += count;
                // Only now may others write: what they see of this they see with all that was written before.
                self.unsent.fetch_sub(count as u64, Ordering::Release);
            }
            self.current.clear();
            self.written = 0;
            match self.queue.recv().await {
                Some(bytes) => self.current = bytes,
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use leyden_channels::wire::control::Ping;
    use tokio::net::TcpListener;

    use super::*;

    fn local(byte: u8, chain: u8) -> Local {
        Local {
            secret: SecretKey::from_slice(&[byte; 32]).unwrap(),
            features: Features::init(),
            chain: ChainHash::from([chain; 32]),
            counters: Counters::default(),
        }
    }

    /// Nobody's work has to wait.
    fn known() -> PeerStanding {
        PeerStanding::new(&leyden_node::TimeBudget::new(crate::limits::STRANGERS_TIME))
    }

    async fn pair(
        dialler: Local,
        answerer: Local,
    ) -> (Result<Established, ConnectionError>, Result<Established, ConnectionError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let remote = answerer.secret.public_key(secp256k1::SECP256K1);
        tokio::join!(dial(&dialler, remote, &address), async {
            let (stream, _) = listener.accept().await.unwrap();
            accept(&answerer, stream).await
        })
    }

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_end_is_told() {
        let (dialled, accepted) = pair(local(1, 9), local(2, 9)).await;
        let (mut out, _keep) = dialled.unwrap().start(&known());
        let (_link, mut incoming) = accepted.unwrap().start(&known());
        for number in 0..1_000 {
            out.queue(&Message::Ping(Ping { num_pong_bytes: number, ignored: vec![] })).unwrap();
            if number % 100 == 99 {
                out.flush().unwrap();
            }
        }
        drop(out);
        for number in 0..1_000 {
            let Received { message, .. } = incoming.recv().await.unwrap().unwrap();
            assert_eq!(message, Message::Ping(Ping { num_pong_bytes: number, ignored: vec![] }));
        }
        assert!(matches!(incoming.recv().await, Some(Err(_))));
        assert!(incoming.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_node_of_another_chain_is_refused() {
        let (dialled, accepted) = pair(local(1, 9), local(2, 8)).await;
        assert!(matches!(dialled, Err(ConnectionError::OtherChain)));
        assert!(matches!(accepted, Err(ConnectionError::OtherChain)));
    }

    #[tokio::test]
    async fn nobody_at_the_address_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let remote = SecretKey::from_slice(&[2; 32]).unwrap().public_key(secp256k1::SECP256K1);
        assert!(matches!(dial(&local(1, 9), remote, &address).await, Err(ConnectionError::Dial { .. })));
    }

    /// What the systems of both ends may hold between them.
    const SYSTEM: usize = 64 << 20;

    fn block() -> Message {
        Message::Ping(Ping { num_pong_bytes: 0, ignored: vec![0; 60_000] })
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_hung_up_on_in_time() {
        let (dialled, accepted) = pair(local(1, 9), local(2, 9)).await;
        let (mut out, mut end) = dialled.unwrap().start_with(&known(), Duration::from_millis(300));
        let silent = accepted.unwrap();
        // Until the systems between the two take no more.
        let mut sent = 0;
        while out.queue(&block()).is_ok() && out.flush().is_ok() {
            tokio::task::yield_now().await;
            sent += 60_000;
            assert!(sent < SYSTEM + MAX_UNSENT as usize);
        }
        assert!(out.is_full_for(1));
        assert!(matches!(end.recv().await, Some(Err(ConnectionError::NotReading))));
        drop(silent);
    }

    #[tokio::test]
    async fn no_turn_is_begun_while_too_much_waits() {
        let (dialled, accepted) = pair(local(1, 9), local(2, 9)).await;
        let (mut out, _end) = dialled.unwrap().start(&known());
        let silent = accepted.unwrap();
        let mut sent = 0;
        loop {
            out.queue(&block()).unwrap();
            match out.flush() {
                Ok(()) => sent += 60_000,
                Err(error) => break assert!(matches!(error, ConnectionError::NotReading)),
            }
            assert!(sent < SYSTEM + MAX_UNSENT as usize);
        }
        assert!(out.waiting() <= MAX_UNSENT + 2 * 61_000);
        // Nothing of it stays when the connection is gone, though nobody reads.
        let unsent = Arc::downgrade(&out.unsent);
        drop(out);
        while unsent.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
        drop(silent);
    }

    #[tokio::test]
    async fn what_is_not_handled_is_not_read_on() {
        let (dialled, accepted) = pair(local(1, 9), local(2, 9)).await;
        let (mut out, _keep) = dialled.unwrap().start(&known());
        let (connection, mut incoming) = accepted.unwrap().start(&known());
        let messages = 300;
        for _ in 0..messages {
            out.queue(&block()).unwrap();
        }
        out.flush().unwrap();
        let most = u64::from(MAX_UNHANDLED) + 300_000;
        for handled in 1..=messages {
            let received = incoming.recv().await.unwrap().unwrap();
            assert!(
                connection.bytes_received() <= most + handled * 60_100,
                "{handled}: {}",
                connection.bytes_received()
            );
            drop(received);
        }
    }
}
