//! What strangers do to a node, each in a loop until the end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bitcoin::{
    Amount, Sequence, Transaction, TxIn, TxOut, absolute,
    consensus::serialize,
    constants::ChainHash,
    hashes::Hash as _,
    p2p::{
        Magic, ServiceFlags,
        address::Address,
        message::{NetworkMessage, RawNetworkMessage},
        message_blockdata::{GetHeadersMessage, Inventory},
        message_network::VersionMessage,
    },
    transaction,
};
use leyden_channels::{
    types::{ChannelId, FeeratePerKw, Height, Msat, NodeId, ShortChannelId},
    wire::{
        ChannelAnnouncement, ErrorMessage, Features, Message, NodeAnnouncement, OpenChannel, Ping, QueryChannelRange,
        QueryShortChannelIds, ShortIds, Warning, gossip::Excess,
    },
};
use secp256k1::{PublicKey, SECP256K1, SecretKey, ecdsa::Signature};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{connection::Connection, crowd::Tally, random_key};

/// How long a stranger who says nothing keeps a connection.
const HOLD: Duration = Duration::from_secs(30);
/// Between two attempts of one stranger.
const PAUSE: Duration = Duration::from_millis(250);

/// The node that all of it is done to.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub node: PublicKey,
    pub lightning: SocketAddr,
    pub chain: SocketAddr,
    pub rpc: SocketAddr,
    /// Of the best block.
    pub height: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduct {
    /// Asks for large pongs and never reads.
    ShutWindow,
    /// Connects to the Lightning port and says nothing.
    SilentSocket,
    /// Connects to the gRPC port and says nothing.
    SilentClient,
    /// Opens channels and gives each up by an error.
    Openings,
    /// Announces channels with signatures that are not valid.
    ForgedChannels,
    /// Announces channels that are signed and do not exist, in the latest blocks.
    UnknownChannels,
    /// Announces nodes without channels.
    Nodes,
    /// Asks for all gossip again and again.
    Queries,
    /// Sends warnings full of control characters.
    Warnings,
    /// Asks for the chain's headers and blocks without reading them.
    ChainRequests,
    /// Sends transactions whose inputs nobody knows.
    ChainTransactions,
}

impl Conduct {
    pub(super) const ALL: [Self; 11] = [
        Self::ShutWindow,
        Self::SilentSocket,
        Self::SilentClient,
        Self::Openings,
        Self::ForgedChannels,
        Self::UnknownChannels,
        Self::Nodes,
        Self::Queries,
        Self::Warnings,
        Self::ChainRequests,
        Self::ChainTransactions,
    ];
}

/// One of the crowd. Its keys are made once: what it sends has to cost it little.
pub(super) struct Stranger {
    target: Target,
    tally: Arc<Tally>,
    /// Of two nodes, in the order of their ids, and of the funding outputs of their channels.
    nodes: [SecretKey; 2],
    fundings: [SecretKey; 2],
}

impl Stranger {
    pub(super) fn new(target: Target, tally: Arc<Tally>) -> Self {
        let mut nodes = [random_key(), random_key()];
        nodes.sort_by_key(|key| key.public_key(SECP256K1).serialize());
        Self { target, tally, nodes, fundings: [random_key(), random_key()] }
    }

    /// Goes on until it is cancelled.
    pub(super) async fn go_on(self, conduct: Conduct) {
        let target = self.target;
        loop {
            match conduct {
                Conduct::SilentSocket => self.be_silent(target.lightning).await,
                Conduct::SilentClient => self.be_silent(target.rpc).await,
                Conduct::ChainRequests | Conduct::ChainTransactions => {
                    let _ = self.annoy_chain(conduct).await;
                }
                Conduct::ShutWindow
                | Conduct::Openings
                | Conduct::ForgedChannels
                | Conduct::UnknownChannels
                | Conduct::Nodes
                | Conduct::Queries
                | Conduct::Warnings => {
                    if let Some(connection) = Connection::open(target.lightning, target.node, random_key()).await {
                        self.tally.connected();
                        self.annoy(conduct, connection).await;
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Until the other side hangs up.
    async fn annoy(&self, conduct: Conduct, mut connection: Connection) {
        let mut number = 0_u32;
        loop {
            number = number.wrapping_add(1);
            let message = match conduct {
                Conduct::ShutWindow => Ping { num_pong_bytes: 65_531, ignored: Vec::new() }.into(),
                Conduct::Openings => Message::from(Box::new(self.open_channel(number))),
                Conduct::ForgedChannels => Message::from(Box::new(self.announcement(number, false))),
                Conduct::UnknownChannels => Message::from(Box::new(self.announcement(number, true))),
                Conduct::Nodes => Message::from(Box::new(self.node_announcement(number))),
                Conduct::Queries if number.is_multiple_of(2) => QueryChannelRange {
                    chain_hash: ChainHash::REGTEST,
                    first_blocknum: 0,
                    number_of_blocks: u32::MAX,
                    query_option: None,
                }
                .into(),
                Conduct::Queries => {
                    let same = ShortChannelId::new(Height(self.target.height), 1, 0);
                    let encoded_short_ids = ShortIds::Plain(vec![same; 8_000]);
                    let chain_hash = ChainHash::REGTEST;
                    QueryShortChannelIds { chain_hash, encoded_short_ids, query_flags: None }.into()
                }
                _ => Warning { channel_id: ChannelId::ALL, data: vec![0x1b; 60_000] }.into(),
            };
            if !self.send(&mut connection, &message).await {
                return;
            }
            match conduct {
                Conduct::ShutWindow if number.is_multiple_of(1_000) => sleep(HOLD).await,
                Conduct::Openings => {
                    connection.receive(Duration::from_secs(2)).await;
                    let gone = ErrorMessage::new(temporary_id(number), "changed my mind");
                    if !self.send(&mut connection, &gone.into()).await {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    async fn send(&self, connection: &mut Connection, message: &Message) -> bool {
        let sent = connection.send(message).await;
        self.tally.sent(sent.unwrap_or_default());
        sent.is_some()
    }

    /// Misbehaves as a node of the chain.
    async fn annoy_chain(&self, conduct: Conduct) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.target.chain).await?;
        self.tally.connected();
        stream.write_all(&framed(version(self.target))).await?;
        // `version` and `verack` of the other side.
        let mut answer = [0; 1024];
        let _ = timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
        stream.write_all(&framed(NetworkMessage::Verack)).await?;
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).block_hash();
        let mut orphan = orphan();
        for number in 0_u32.. {
            let message = if conduct == Conduct::ChainTransactions {
                if let Some(input) = orphan.input.first_mut() {
                    input.previous_output.txid = bitcoin::Txid::from_byte_array(rand::random());
                }
                NetworkMessage::Tx(orphan.clone())
            } else if number.is_multiple_of(2) {
                NetworkMessage::GetData(vec![Inventory::WitnessBlock(genesis); 100])
            } else {
                let stop_hash = bitcoin::BlockHash::all_zeros();
                let request = GetHeadersMessage { version: 70_016, locator_hashes: vec![genesis], stop_hash };
                NetworkMessage::GetHeaders(request)
            };
            let frame = framed(message);
            match timeout(HOLD, stream.write_all(&frame)).await {
                Ok(written) => written?,
                Err(_) => return Ok(()),
            }
            self.tally.sent(frame.len());
        }
        Ok(())
    }

    async fn be_silent(&self, address: SocketAddr) {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            self.tally.connected();
            let _ = timeout(HOLD, stream.read(&mut [0; 64])).await;
        }
    }

    /// Asks for a channel as an honest node would.
    fn open_channel(&self, number: u32) -> OpenChannel {
        let [key, _] = self.fundings.map(|key| key.public_key(SECP256K1));
        OpenChannel {
            chain_hash: ChainHash::REGTEST,
            temporary_channel_id: temporary_id(number),
            funding_satoshis: Amount::from_sat(1_000_000),
            push_msat: Msat(0),
            dust_limit_satoshis: Amount::from_sat(546),
            max_htlc_value_in_flight_msat: Msat(1_000_000_000),
            channel_reserve_satoshis: Amount::from_sat(10_000),
            htlc_minimum_msat: Msat(1_000),
            feerate_per_kw: FeeratePerKw(1_000),
            to_self_delay: 144,
            max_accepted_htlcs: 30,
            funding_pubkey: key,
            revocation_basepoint: key,
            payment_basepoint: key,
            delayed_payment_basepoint: key,
            htlc_basepoint: key,
            first_per_commitment_point: key,
            channel_flags: 0,
            upfront_shutdown_script: Some(bitcoin::ScriptBuf::new()),
            channel_type: Some(Features::static_remotekey_channel()),
        }
    }

    /// A channel in one of the last six blocks that nobody has opened.
    fn announcement(&self, number: u32, is_signed: bool) -> ChannelAnnouncement {
        let id = |key: &SecretKey| NodeId::from(key.public_key(SECP256K1));
        let ([node_1, node_2], [key_1, key_2]) = (&self.nodes, &self.fundings);
        let height = Height(self.target.height.saturating_sub(number % 6));
        let unsigned = |signature| ChannelAnnouncement {
            node_signature_1: signature,
            node_signature_2: signature,
            bitcoin_signature_1: signature,
            bitcoin_signature_2: signature,
            features: Features::empty(),
            chain_hash: ChainHash::REGTEST,
            short_channel_id: ShortChannelId::new(height, number % 0xff_ffff, 0),
            node_id_1: id(node_1),
            node_id_2: id(node_2),
            bitcoin_key_1: id(key_1),
            bitcoin_key_2: id(key_2),
            excess: Excess::default(),
        };
        let forged = unsigned(any_signature(node_1));
        if !is_signed {
            return forged;
        }
        let digest = forged.signed_digest();
        let sign = |key: &SecretKey| SECP256K1.sign_ecdsa(&digest, key);
        ChannelAnnouncement {
            node_signature_1: sign(node_1),
            node_signature_2: sign(node_2),
            bitcoin_signature_1: sign(key_1),
            bitcoin_signature_2: sign(key_2),
            ..forged
        }
    }

    fn node_announcement(&self, number: u32) -> NodeAnnouncement {
        let [key, _] = &self.nodes;
        let unsigned = NodeAnnouncement {
            signature: any_signature(key),
            features: Features::empty(),
            timestamp: number,
            node_id: NodeId::from(key.public_key(SECP256K1)),
            rgb_color: [0; 3],
            alias: [b'x'; 32],
            addresses: Vec::new(),
            excess: Excess(vec![0; 30_000]),
        };
        let signature = SECP256K1.sign_ecdsa(&unsigned.signed_digest(), key);
        NodeAnnouncement { signature, ..unsigned }
    }
}

fn temporary_id(number: u32) -> ChannelId {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    ChannelId(id)
}

/// Of something else than what it stands under.
fn any_signature(key: &SecretKey) -> Signature {
    SECP256K1.sign_ecdsa(&secp256k1::Message::from_digest([1; 32]), key)
}

fn framed(message: NetworkMessage) -> Vec<u8> {
    serialize(&RawNetworkMessage::new(Magic::REGTEST, message))
}

fn version(target: Target) -> NetworkMessage {
    let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
    let nobody = Address::new(&target.chain, services);
    let height = i32::try_from(target.height).unwrap_or(i32::MAX);
    let message = VersionMessage::new(services, 0, nobody.clone(), nobody, rand::random(), "/stranger/".into(), height);
    NetworkMessage::Version(VersionMessage { version: 70_016, ..message })
}

/// A standard transaction of some 45 kB that spends what nobody knows.
fn orphan() -> Transaction {
    let input = |at: u32| {
        let txid = bitcoin::Txid::from_byte_array(rand::random());
        TxIn {
            previous_output: bitcoin::OutPoint { txid, vout: at },
            script_sig: bitcoin::ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: bitcoin::Witness::from_slice(&[[1; 70].as_slice(), [2; 33].as_slice()]),
        }
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: (0..300).map(input).collect(),
        output: vec![TxOut {
            value: Amount::from_sat(10_000),
            script_pubkey: bitcoin::ScriptBuf::from_bytes(vec![0; 22]),
        }],
    }
}
