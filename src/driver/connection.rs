//! One encrypted connection: TCP, BOLT 8's handshake, BOLT 1's `init`, then messages both ways.
//!
//! ```text
//!   socket ──► reader task: decrypt, decode ──► bounded queue ──► the peer's task
//!   socket ◄── writer task ◄── unbounded queue of encrypted bytes ◄── the peer's task (it encrypts, so order is its own)
//! ```
//!
//! The bounded queue makes a peer that sends faster than we work wait. A peer that does not read is hung up on once
//! [`MAX_UNSENT_BYTES`] wait for it.

use std::{
    io,
    net::SocketAddr,
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
use secp256k1::{PublicKey, SecretKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};

/// What handshake and `init` may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages that wait for the peer's task before the socket is read on.
const INCOMING_QUEUE: usize = 1024;

/// Encrypted bytes that may wait for a peer that does not read.
const MAX_UNSENT_BYTES: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
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
}

/// Who we are on every connection.
#[derive(Clone)]
pub struct Local {
    pub secret: SecretKey,
    pub features: Features,
    pub chain: ChainHash,
}

/// A connection after `init` both ways.
pub struct Established {
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
pub async fn dial(local: &Local, remote: PublicKey, address: &str) -> Result<Established, ConnectionError> {
    let connect = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| ConnectionError::Dial { address: address.to_owned(), source })?;
        let (mut stream, peer) = prepare(stream)?;
        let (handshake, act_one) = AwaitingActTwo::start(local.secret, remote, ephemeral_key());
        stream.write_all(&act_one).await?;
        let mut act_two = [0; ACT_TWO_LEN];
        stream.read_exact(&mut act_two).await?;
        let (session, act_three) = handshake.act_two(&act_two)?;
        stream.write_all(&act_three).await?;
        exchange_init(local, stream, peer, session, false).await
    };
    timeout(HANDSHAKE_TIMEOUT, connect).await.map_err(|_| ConnectionError::Timeout(HANDSHAKE_TIMEOUT))?
}

/// Answers a node that connected to us.
pub async fn accept(local: &Local, stream: TcpStream) -> Result<Established, ConnectionError> {
    let answer = async {
        let (mut stream, peer) = prepare(stream)?;
        let mut act_one = [0; ACT_ONE_LEN];
        stream.read_exact(&mut act_one).await?;
        let (handshake, act_two) = AwaitingActOne::start(local.secret, ephemeral_key()).act_one(&act_one)?;
        stream.write_all(&act_two).await?;
        let mut act_three = [0; ACT_THREE_LEN];
        stream.read_exact(&mut act_three).await?;
        let session = handshake.act_three(&act_three)?;
        exchange_init(local, stream, peer, session, true).await
    };
    timeout(HANDSHAKE_TIMEOUT, answer).await.map_err(|_| ConnectionError::Timeout(HANDSHAKE_TIMEOUT))?
}

fn prepare(stream: TcpStream) -> io::Result<(TcpStream, SocketAddr)> {
    // Small messages that wait for one another: Nagle's delay would cost more than the packets.
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?;
    Ok((stream, address))
}

/// A fresh key; all but 2^-127 of all 32 bytes are one.
pub fn ephemeral_key() -> SecretKey {
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
    let Session { mut encryptor, decryptor, remote } = session;
    let (read, mut writer) = stream.into_split();
    let mut reader = MessageReader { socket: read, decryptor, buffer: ReceiveBuffer::new(), received: Arc::default() };
    let mut out = Vec::new();
    encryptor.encrypt_message(&Message::Init(Init::new(local.features.clone(), local.chain)), &mut out)?;
    writer.write_all(&out).await?;
    let Message::Init(init) = reader.next().await? else { return Err(ConnectionError::NoInit) };
    let features = init.all_features();
    features.check()?;
    if !init.accepts_chain(local.chain) {
        return Err(ConnectionError::OtherChain);
    }
    Ok(Established { remote, address, inbound, features, encryptor, reader, writer })
}

struct MessageReader {
    socket: OwnedReadHalf,
    decryptor: Decryptor,
    buffer: ReceiveBuffer,
    received: Arc<AtomicU64>,
}

impl MessageReader {
    async fn next(&mut self) -> Result<Message, ConnectionError> {
        loop {
            if let Some(bytes) = self.decryptor.decrypt(&mut self.buffer)? {
                return Ok(Message::decode(bytes)?);
            }
            let read = self.socket.read_buf(self.buffer.tail()).await?;
            if read == 0 {
                return Err(ConnectionError::Closed);
            }
            self.received.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}

/// What a reader hands over: messages, then why there are no more.
pub type Incoming = Result<Message, ConnectionError>;

/// The sending side of a running connection, in the peer's task. Dropping it closes the connection after everything
/// that was sent has left.
pub struct Link {
    pub address: SocketAddr,
    pub inbound: bool,
    pub features: Features,
    encryptor: Encryptor,
    buffer: Vec<u8>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    unsent: Arc<AtomicU64>,
    sent: u64,
    received: Arc<AtomicU64>,
    reader: tokio::task::AbortHandle,
}

impl Link {
    /// Encrypts into the link's buffer; [`Self::flush`] hands it to the socket.
    pub fn queue(&mut self, message: &Message) -> Result<(), EncodeError> {
        self.encryptor.encrypt_message(message, &mut self.buffer)
    }

    /// Likewise, for a message that is encoded already.
    pub fn queue_raw(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        self.encryptor.encrypt(message, &mut self.buffer)
    }

    /// Sends what was queued.
    pub fn flush(&mut self) -> Result<(), ConnectionError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        let length = bytes.len() as u64;
        self.sent += length;
        if self.unsent.fetch_add(length, Ordering::Relaxed) + length > MAX_UNSENT_BYTES {
            return Err(ConnectionError::NotReading);
        }
        self.outgoing.send(bytes).map_err(|_| ConnectionError::Closed)
    }

    /// Encrypted bytes that have not left yet.
    pub fn unsent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.unsent)
    }

    pub fn bytes_sent(&self) -> u64 {
        self.sent
    }

    pub fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Established {
    /// Starts the reader and the writer.
    pub fn start(self) -> (Link, mpsc::Receiver<Incoming>) {
        let Self { remote: _, address, inbound, features, encryptor, mut reader, mut writer } = self;
        let received = Arc::clone(&reader.received);
        let unsent = Arc::new(AtomicU64::new(0));
        let (outgoing, mut to_write) = mpsc::unbounded_channel::<Vec<u8>>();
        let (deliver, incoming) = mpsc::channel(INCOMING_QUEUE);
        let still_unsent = Arc::clone(&unsent);
        tokio::spawn(async move {
            while let Some(bytes) = to_write.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
                still_unsent.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
            }
            let _ = writer.shutdown().await;
        });
        let reader = tokio::spawn(async move {
            loop {
                let item = reader.next().await;
                let ended = item.is_err();
                if deliver.send(item).await.is_err() || ended {
                    break;
                }
            }
        });
        let link = Link {
            address,
            inbound,
            features,
            encryptor,
            buffer: Vec::new(),
            outgoing,
            unsent,
            sent: 0,
            received,
            reader: reader.abort_handle(),
        };
        (link, incoming)
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
        }
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
        let (mut out, _keep) = dialled.unwrap().start();
        let (_link, mut incoming) = accepted.unwrap().start();
        for number in 0..2000 {
            out.queue(&Message::Ping(Ping { num_pong_bytes: number, ignored: vec![] })).unwrap();
            if number % 100 == 99 {
                out.flush().unwrap();
            }
        }
        drop(out);
        for number in 0..2000 {
            let message = incoming.recv().await.unwrap().unwrap();
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
}
