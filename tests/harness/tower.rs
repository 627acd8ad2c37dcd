//! A client of a watchtower that says what the test wants: the protocol's own messages over BOLT 8.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use bitcoin::constants::ChainHash;
use leyden_channels::{
    transport::{ACT_TWO_LEN, AwaitingActTwo, ReceiveBuffer, Session},
    types::{CommitmentNumber, FeeratePerKw},
};
use leyden_client::{client::Client, cluster::DaemonProcess};
use leyden_proto::{
    leyden::{GetTowerStatsRequest, TowerStats},
    watchtowerrpc,
};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, ClientId, FundingIndex},
    hint::Hint,
    mark::Mark,
    message::{
        Acknowledged, Ask, Backup, BackupBody, Has, Hello, Mode, OpenChannel, PROTOCOL_VERSION, RefusalCode, Refused,
        Register, Registered, SignedHeld, State, TowerFeatures, TowerMessage,
    },
    receipt::{Digest, Held, Holding},
};
use secp256k1::{PublicKey, SecretKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::Program;

/// What an honest tower says comes within this time on any machine.
const LONG: Duration = Duration::from_secs(60);

/// A tower, as its clients know it.
#[derive(Clone, Copy)]
pub struct TowerAddress {
    pub at: SocketAddr,
    pub key: PublicKey,
}

pub struct TowerClient {
    pub id: ClientId,
    tower: PublicKey,
    stream: TcpStream,
    session: Session,
    buffer: ReceiveBuffer,
}

impl TowerClient {
    /// After the handshake, from this address of this machine; `None` if the tower hangs up.
    pub async fn connect(tower: TowerAddress, secret: SecretKey, from: IpAddr) -> Option<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = timeout(LONG, socket.connect(tower.at)).await.expect("a place in the backlog").ok()?;
        let ephemeral = SecretKey::from_slice(&[9; 32]).unwrap();
        let (handshake, act_one) = AwaitingActTwo::start(secret, tower.key, ephemeral);
        stream.write_all(&act_one).await.ok()?;
        let mut act_two = [0; ACT_TWO_LEN];
        timeout(LONG, stream.read_exact(&mut act_two)).await.ok()?.ok()?;
        let (session, act_three) = handshake.act_two(&act_two).ok()?;
        stream.write_all(&act_three).await.ok()?;
        let id = secret.public_key(secp256k1::SECP256K1).into();
        Some(Self { id, tower: tower.key, stream, session, buffer: ReceiveBuffer::new() })
    }

    /// After hello both ways.
    pub async fn greeted(tower: TowerAddress, secret: SecretKey, from: IpAddr) -> Option<Self> {
        let mut client = Self::connect(tower, secret, from).await?;
        let features = TowerFeatures::default();
        let hello = Hello { version: PROTOCOL_VERSION, chain: ChainHash::REGTEST, features };
        client.send(hello).await.then_some(())?;
        match client.receive().await? {
            TowerMessage::Hello(hello) => assert_eq!(hello.chain, ChainHash::REGTEST),
            other => panic!("{} comes before hello", other.name()),
        }
        Some(client)
    }

    /// Registered in this mode, or refused; as soon as the tower knows how far its chain is.
    pub async fn register(&mut self, mode: Mode) -> Result<Registered, Refused> {
        let begun = Instant::now();
        loop {
            self.send(Register { mode, sweep_feerate: FeeratePerKw(2_500), term: 10_000 }).await;
            match self.receive().await.expect("an answer") {
                TowerMessage::Registered(registered) => return Ok(registered),
                TowerMessage::Refused(refused) if refused.code == RefusalCode::NotReady && begun.elapsed() < LONG => {
                    sleep(Duration::from_millis(100)).await;
                }
                TowerMessage::Refused(refused) => return Err(refused),
                other => panic!("{} answers register", other.name()),
            }
        }
    }

    pub async fn open_channel(&mut self, open: OpenChannel) {
        let channel = open.channel;
        self.send(open).await;
        match self.receive().await.expect("an answer") {
            TowerMessage::ChannelOpened(opened) => assert_eq!(opened.channel, channel),
            other => panic!("{other:?} answers open_channel"),
        }
    }

    /// `false` once the tower has hung up.
    pub async fn send(&mut self, message: impl Into<TowerMessage>) -> bool {
        let mut frame = Vec::new();
        self.session.encryptor.encrypt(&message.into().encode(), &mut frame).unwrap();
        self.stream.write_all(&frame).await.is_ok()
    }

    pub async fn back_up(&mut self, backup: &Backup) -> bool {
        for message in backup.to_messages(mark(backup.channel, backup.number.0)) {
            if !self.send(message).await {
                return false;
            }
        }
        true
    }

    /// The next message; `None` if the tower has hung up.
    pub async fn receive(&mut self) -> Option<TowerMessage> {
        loop {
            if let Some(message) = self.session.decryptor.decrypt(&mut self.buffer).unwrap() {
                return Some(TowerMessage::decode(message).unwrap());
            }
            let read = timeout(LONG, self.stream.read_buf(self.buffer.tail())).await.expect("the tower is silent");
            if !matches!(read, Ok(count) if count > 0) {
                return None;
            }
        }
    }

    /// The next receipt, checked; `None` if the tower has hung up.
    pub async fn acknowledged(&mut self) -> Option<Held> {
        match self.receive().await? {
            TowerMessage::Acknowledged(Acknowledged { channel, receipt }) => {
                assert!(self.holding(channel, &receipt).verify(&receipt.signature, &self.tower));
                Some(receipt.held)
            }
            other => panic!("{other:?} answers a backup"),
        }
    }

    /// Receipts until this state is held.
    pub async fn acknowledged_up_to(&mut self, number: u64) -> Held {
        loop {
            let held = self.acknowledged().await.expect("the tower hung up");
            if held.up_to.0 >= number {
                return held;
            }
        }
    }

    /// What the tower says that it holds of a channel, checked.
    pub async fn held(&mut self, channel: ChannelName) -> Option<Held> {
        self.receipt(channel).await.map(|receipt| receipt.held)
    }

    pub async fn receipt(&mut self, channel: ChannelName) -> Option<SignedHeld> {
        self.send(Ask::Channel(channel)).await;
        match self.receive().await.expect("an answer") {
            TowerMessage::State(State { remaining: 0, channel: about, has }) => {
                assert_eq!(about, Some(channel));
                match has {
                    Has::Nothing => None,
                    Has::Backups { receipt, mark } => {
                        assert!(self.holding(channel, &receipt).verify(&receipt.signature, &self.tower));
                        assert_eq!(mark, self::mark(channel, receipt.held.up_to.0));
                        Some(receipt)
                    }
                    Has::Closed(closed) => panic!("{closed:?}"),
                }
            }
            other => panic!("{other:?} answers ask"),
        }
    }

    pub fn holding(&self, channel: ChannelName, receipt: &SignedHeld) -> Holding {
        let (held, until) = (receipt.held, receipt.until);
        Holding { chain: ChainHash::REGTEST, client: self.id, channel, held, until }
    }
}

/// By which a client knows its own word again.
pub fn mark(channel: ChannelName, number: u64) -> Mark {
    Mark::of(&[7; 32], &channel, CommitmentNumber(number))
}

/// A client's key.
pub fn client_key(number: u32) -> SecretKey {
    let mut secret = [0x33; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_slice(&secret).unwrap()
}

pub fn channel_name(number: u8) -> ChannelName {
    ChannelName { tag: ChannelTag([number; 16]), funding: FundingIndex(0) }
}

/// A channel of which a blind tower can read nothing, here because there is nothing.
pub fn sealed_channel(channel: ChannelName) -> OpenChannel {
    OpenChannel { channel, constants: vec![5; 240] }
}

/// A backup of the usual size that opens with nothing.
pub fn sealed_backup(channel: ChannelName, number: u64) -> Backup {
    let hint = Hint(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let sealed = (0..194).map(|at: u64| (at ^ number) as u8).collect();
    Backup { channel, number: CommitmentNumber(number), body: BackupBody::Blind { hint, sealed } }
}

/// The digest of the sealed backups up to this one.
pub fn digest_up_to(channel: ChannelName, number: u64) -> Digest {
    (0..=number).fold(Digest::default(), |digest, number| digest.and(&sealed_backup(channel, number).digest()))
}

/// An address of this machine that is not the daemon's.
pub fn nowhere(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 9, 8, number).into()
}

/// A watchtower alone, started with these flags besides.
pub async fn start(data_dir: &Path, flags: &[&str]) -> (Program, Client, TowerAddress) {
    let mut program = Program::start(data_dir, &[&["--tower-only", "--tower-listen", "127.0.0.1:0"], flags].concat());
    let client = program.client().await;
    let address = address(&client, program.running().tower.unwrap()).await;
    (program, client, address)
}

async fn address(client: &Client, at: SocketAddr) -> TowerAddress {
    let info = client.watchtower().get_info(watchtowerrpc::GetInfoRequest {}).await.unwrap().into_inner();
    let key = PublicKey::from_slice(&info.pubkey).unwrap();
    assert_eq!(info.uris, [format!("{key}@{at}")]);
    TowerAddress { at, key }
}

pub async fn stats(client: &Client) -> TowerStats {
    client.tower().get_tower_stats(GetTowerStatsRequest {}).await.unwrap().into_inner()
}

/// The flags of a tower whose node follows the chain of another.
pub fn follow_flags(node: &DaemonProcess) -> [&'static str; 2] {
    // Of the test's process, which ends soon.
    ["--chain-connect", node.chain_address().unwrap().leak()]
}
