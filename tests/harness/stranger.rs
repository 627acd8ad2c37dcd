//! A node without a channel that speaks BOLT 8 and sends what it likes.

use std::time::Duration;

use leyden_channels::{
    channel::{
        Channel, ChannelPolicy, ChannelType, Ctx, Effect, Event, Feerates, FixedEnvironment, OpenOverrides,
        OpenRequest, Outbox, Persist, Publisher, TowerPolicy, Write,
    },
    keys::KeysSigner,
    transport::{ACT_TWO_LEN, AwaitingActTwo, ReceiveBuffer, Session},
    types::{ChannelId, CommitmentType, FeeratePerKw, Height, Msat, NodeId, ShortChannelId, TipTrust, UnixTime},
    wire::Message,
};
use leyden_client::cluster::DaemonProcess;
use rand::{RngExt as _, rngs::StdRng};
use secp256k1::{PublicKey, SecretKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub fn key(rng: &mut StdRng) -> SecretKey {
    loop {
        if let Ok(key) = SecretKey::from_slice(&rng.random::<[u8; 32]>()) {
            return key;
        }
    }
}

/// A stranger with a key, after a real handshake.
pub struct Stranger {
    pub stream: TcpStream,
    pub node_id: PublicKey,
    session: Session,
    buffer: ReceiveBuffer,
}

impl Stranger {
    pub async fn connect(node: &DaemonProcess, rng: &mut StdRng) -> Self {
        let key = key(rng);
        Self::connect_as(node, key, None).await.unwrap()
    }

    /// With this key and, if it is named, with a receive buffer of so many bytes; `None` if the node hangs up.
    pub async fn connect_as(node: &DaemonProcess, secret: SecretKey, receive_buffer: Option<u32>) -> Option<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = socket.connect(node.lightning_address().unwrap().parse().unwrap()).await.unwrap();
        let remote: PublicKey = node.node_id().await.unwrap().parse().unwrap();
        let (handshake, act_one) = AwaitingActTwo::start(secret, remote, key(&mut rand::make_rng()));
        stream.write_all(&act_one).await.ok()?;
        let mut act_two = [0; ACT_TWO_LEN];
        stream.read_exact(&mut act_two).await.ok()?;
        let (session, act_three) = handshake.act_two(&act_two).unwrap();
        stream.write_all(&act_three).await.ok()?;
        let node_id = secret.public_key(secp256k1::SECP256K1);
        Some(Self { stream, node_id, session, buffer: ReceiveBuffer::new() })
    }

    /// `false` once the other side has hung up.
    pub async fn send(&mut self, message: &[u8]) -> bool {
        let mut frame = Vec::new();
        self.session.encryptor.encrypt(message, &mut frame).unwrap();
        self.stream.write_all(&frame).await.is_ok()
    }

    /// The next message, if one comes soon.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        self.receive_within(Duration::from_millis(500)).await
    }

    pub async fn receive_within(&mut self, limit: Duration) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = self.session.decryptor.decrypt(&mut self.buffer).unwrap() {
                return Some(message.to_vec());
            }
            let read = timeout(limit, self.stream.read_buf(self.buffer.tail())).await;
            if !matches!(read, Ok(Ok(count)) if count > 0) {
                return None;
            }
        }
    }

    /// Reads, whatever comes, until the other side hangs up.
    pub async fn hung_up(&mut self) {
        while self.stream.read_buf(self.buffer.tail()).await.is_ok_and(|count| count > 0) {}
    }

    /// After `init` both ways, with the features that the daemon itself names.
    pub async fn greeted(node: &DaemonProcess, rng: &mut StdRng) -> Self {
        let key = key(rng);
        Self::greeted_as(node, key, None).await.expect("the daemon's init")
    }

    /// After `init` both ways, with this key.
    pub async fn greeted_as(node: &DaemonProcess, key: SecretKey, receive_buffer: Option<u32>) -> Option<Self> {
        let mut stranger = Self::connect_as(node, key, receive_buffer).await?;
        let init = stranger.receive_within(LONG).await?;
        assert_eq!(&init[..2], &16_u16.to_be_bytes());
        stranger.send(&init).await.then_some(stranger)
    }

    /// The next message for which this is so; others are passed over.
    pub async fn receive_until<T>(&mut self, mut wanted: impl FnMut(&Message) -> Option<T>) -> Option<T> {
        loop {
            let message = Message::decode(&self.receive_within(LONG).await?).unwrap();
            if let Some(found) = wanted(&message) {
                return Some(found);
            }
        }
    }

    /// Opens a channel as far as the daemon's signature, with a funding transaction that nobody will ever see: `Err` has
    /// the daemon's words if it refuses.
    pub async fn promise_channel(&mut self, remote: NodeId, push: Msat) -> Result<ChannelId, String> {
        let policy = ChannelPolicy::default();
        let chain = bitcoin::constants::ChainHash::REGTEST;
        let now = UnixTime(1_700_000_000);
        let (tip, trust, feerates) = (Height(101), TipTrust::Current, Feerates::default());
        let environment = FixedEnvironment::default();
        let ctx = Ctx {
            chain,
            now,
            tip,
            trust,
            feerates,
            policy: &policy,
            towers: TowerPolicy::None,
            environment: &environment,
        };
        let keys_id: [u8; 32] = rand::random();
        let signer = std::sync::Arc::new(KeysSigner::from_channel_seed(&keys_id).unwrap());
        let script = bitcoin::ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_raw_hash(
            bitcoin::hashes::Hash::from_byte_array([7; 20]),
        ));
        let request = OpenRequest {
            remote_node: remote,
            temporary_channel_id: ChannelId(rand::random()),
            keys_id,
            capacity: bitcoin::Amount::from_sat(1_000_000),
            push,
            feerate: FeeratePerKw(1_000),
            channel_type: ChannelType {
                commitment: CommitmentType::StaticRemoteKey,
                scid_alias: false,
                zero_conf: false,
            },
            announce: false,
            overrides: OpenOverrides::default(),
            shutdown_script: script,
            commit_to_script: false,
            alias: ShortChannelId(rand::random()),
            large_channels: false,
        };
        let (mut channel, outbox) = Channel::open(request, signer, &ctx).unwrap();
        let mut waiting = effects(outbox);
        loop {
            for effect in std::mem::take(&mut waiting) {
                match effect {
                    Effect::Send(message) => drop(self.send(&message.encode().unwrap()).await),
                    Effect::Fund { script, amount } => {
                        let transaction = funding(script, amount);
                        let funded = Event::Funded { transaction, output: 0, publisher: Publisher::Channel };
                        let outbox = channel.handle(funded, &ctx).unwrap();
                        waiting.extend(effects(outbox));
                    }
                    // It has the daemon's signature.
                    Effect::Broadcast(_) => return Ok(channel.id()),
                    _ => {}
                }
            }
            if !waiting.is_empty() {
                continue;
            }
            let next = self
                .receive_until(|message| match message {
                    Message::Error(error) => Some(Err(error.text())),
                    Message::AcceptChannel(_) | Message::FundingSigned(_) => Some(Ok(message.clone())),
                    _ => None,
                })
                .await;
            let message = next.unwrap_or_else(|| Err("the daemon hung up or says nothing".to_owned()))?;
            waiting = effects(channel.handle(Event::Message(message), &ctx).unwrap());
        }
    }
}

/// What an honest daemon says comes within this time on any machine.
const LONG: Duration = Duration::from_secs(20);

struct Nowhere;

impl Persist for Nowhere {
    type Error = std::convert::Infallible;

    fn commit(&mut self, _: Vec<Write>) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn effects(outbox: Outbox) -> Vec<Effect> {
    let Ok(effects) = Outbox::commit_all(vec![outbox], &mut Nowhere);
    effects.into_iter().flatten().collect()
}

/// Spends a coin that there is not.
fn funding(script: bitcoin::ScriptBuf, value: bitcoin::Amount) -> bitcoin::Transaction {
    let txid = bitcoin::Txid::from_raw_hash(bitcoin::hashes::Hash::from_byte_array(rand::random()));
    bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn {
            previous_output: bitcoin::OutPoint { txid, vout: 0 },
            witness: bitcoin::Witness::from_slice(&[[0; 71].as_slice(), &[2; 33]]),
            ..Default::default()
        }],
        output: vec![bitcoin::TxOut { value, script_pubkey: script }],
    }
}
