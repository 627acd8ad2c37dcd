//! Subscribers that speak what libzmq speaks, against a real chain.

use std::{future::Future, time::Duration};

use bitcoin::{Block, BlockHash, ScriptBuf, Transaction, consensus::deserialize};
use leyden_consensus::Params;
use leyden_node::NodeConfig;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    frame::{Frame, GREETING_LENGTH},
    *,
};
use crate::limits::SlotLimits;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

struct World {
    node: Node,
    address: SocketAddr,
    subscribers: Arc<Mutex<Vec<Arc<Queue>>>>,
    _folder: TempDir,
}

impl World {
    /// Publishes everything at one address.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = NodeConfig::new(Params::regtest(), folder.path().join("chain"));
        config.sync_writes = false;
        let node = Node::start(config).await.unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let notifiers: Vec<_> = Topic::ALL.into_iter().map(|topic| Notifier { topic, address }).collect();
        let publisher = Publisher::bind(&notifiers).await.unwrap();
        let address = publisher.notifiers()[0].address;
        assert!(publisher.notifiers().iter().all(|notifier| notifier.address == address), "topics share an address");
        let subscribers = Arc::clone(&publisher.endpoints[0].subscribers);
        let slots = ConnectionSlots::new(SlotLimits { strangers: 4, known: 0 });
        publisher.serve(&node, &slots, &CancellationToken::new());
        Self { node, address, subscribers, _folder: folder }
    }

    fn count(&self) -> usize {
        self.subscribers.lock().unwrap().len()
    }

    /// Until all subscribers together have so many prefixes.
    async fn subscribed(&self, wanted: usize) {
        let prefixes = || {
            let subscribers = self.subscribers.lock().unwrap();
            subscribers.iter().map(|queue| queue.prefix_count()).sum::<usize>()
        };
        soon(async {
            while prefixes() != wanted {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

struct Subscriber(TcpStream);

impl Subscriber {
    async fn new(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let mut greeting = [0; GREETING_LENGTH];
        stream.write_all(&frame::greeting()).await.unwrap();
        soon(stream.read_exact(&mut greeting)).await.unwrap();
        assert_eq!(greeting, frame::greeting());
        stream.write_all(&frame::ready(b"SUB")).await.unwrap();
        let ready = soon(frame::read(&mut stream)).await.unwrap();
        let Frame::Command { name, data } = ready else { panic!("{ready:?}") };
        assert_eq!((name.as_slice(), frame::property(&data, b"socket-type")), (&b"READY"[..], Some(&b"PUB"[..])));
        Self(stream)
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// A subscription as a message of version 3.0.
    async fn subscribe(&mut self, prefix: &str) {
        let length = u8::try_from(prefix.len() + 1).unwrap();
        self.say(&[&[0, length, 1], prefix.as_bytes()].concat()).await;
    }

    /// Topic, body and number of the next message.
    async fn next(&mut self) -> (String, Vec<u8>, u32) {
        let topic = self.part(true).await;
        let body = self.part(true).await;
        let number = self.part(false).await.try_into().unwrap();
        (String::from_utf8(topic).unwrap(), body, u32::from_le_bytes(number))
    }

    async fn part(&mut self, more: bool) -> Vec<u8> {
        // Blocks are longer than what a publisher reads.
        let flags = soon(self.0.read_u8()).await.unwrap();
        assert_eq!(flags & 1 == 1, more);
        let length =
            if flags & 2 == 0 { u64::from(self.0.read_u8().await.unwrap()) } else { self.0.read_u64().await.unwrap() };
        let mut body = vec![0; usize::try_from(length).unwrap()];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        body
    }

    /// It was hung up on.
    async fn is_ended(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(soon(self.0.read_to_end(&mut rest)).await, Ok(_) | Err(_))
    }
}

fn open_script() -> ScriptBuf {
    bitcoin::script::Builder::new().push_opcode(bitcoin::opcodes::OP_TRUE).into_script()
}

/// Spends the first reward of a chain that pays to `open_script`'s hash.
async fn spend(node: &Node, fee: u64) -> Transaction {
    let hash = node.block_hash(1).unwrap();
    let mut transaction = node.block(hash).await.unwrap().unwrap().txdata[0].clone();
    let previous_output = bitcoin::OutPoint { txid: transaction.compute_txid(), vout: 0 };
    transaction.version = bitcoin::transaction::Version::TWO;
    transaction.lock_time = bitcoin::absolute::LockTime::ZERO;
    let witness = bitcoin::Witness::from_slice(&[open_script().as_bytes()]);
    transaction.input = vec![bitcoin::TxIn { previous_output, witness, ..Default::default() }];
    transaction.output.truncate(1);
    transaction.output[0].value -= bitcoin::Amount::from_sat(fee);
    transaction
}

fn hash(text: impl ToString) -> Vec<u8> {
    hex::decode(text.to_string()).unwrap()
}

#[tokio::test]
async fn transactions_and_blocks_are_published_in_order_with_numbers() {
    let world = World::new().await;
    world.node.generate(101, open_script().to_p2wsh()).await.unwrap();
    let mut all = Subscriber::new(&world).await;
    all.subscribe("").await;
    world.subscribed(1).await;
    let first = spend(&world.node, 1_000).await;
    world.node.submit_transaction(first.clone()).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(all.next().await);
    }
    let accepted = [hash(first.compute_txid()), b"A".to_vec(), 1_u64.to_le_bytes().to_vec()].concat();
    let number = |told: &[(String, Vec<u8>, u32)], topic: &str| told.iter().find(|one| one.0 == topic).unwrap().2;
    assert_eq!(told[0], ("hashtx".to_owned(), hash(first.compute_txid()), number(&told, "hashtx")));
    assert_eq!(deserialize::<Transaction>(&told[1].1).unwrap(), first);
    assert_eq!(told[2], ("sequence".to_owned(), accepted, number(&told, "sequence")));
    // A replacement: the old one leaves before the new one comes.
    let second = spend(&world.node, 50_000).await;
    world.node.submit_transaction(second.clone()).await.unwrap();
    let removed = all.next().await;
    let body = [hash(first.compute_txid()), b"R".to_vec(), 2_u64.to_le_bytes().to_vec()].concat();
    assert_eq!(removed, ("sequence".to_owned(), body, told[2].2 + 1));
    for topic in ["hashtx", "rawtx", "sequence"] {
        assert_eq!(all.next().await.0, topic);
    }
    // Its block: reward, transaction, the block, the tip.
    let block: BlockHash = world.node.generate(1, open_script()).await.unwrap()[0];
    let mut topics = Vec::new();
    for _ in 0..7 {
        topics.push(all.next().await);
    }
    let names: Vec<&str> = topics.iter().map(|one| one.0.as_str()).collect();
    assert_eq!(names, ["hashtx", "rawtx", "hashtx", "rawtx", "sequence", "hashblock", "rawblock"]);
    assert_eq!(topics[2].1, hash(second.compute_txid()));
    assert_eq!(topics[4].1, [hash(block), b"C".to_vec()].concat());
    assert_eq!(topics[5].1, hash(block));
    assert_eq!(deserialize::<Block>(&topics[6].1).unwrap().block_hash(), block);
}

#[tokio::test]
async fn each_subscriber_gets_what_it_asks_for_and_no_more() {
    let world = World::new().await;
    let (mut hashes, mut nothing) = (Subscriber::new(&world).await, Subscriber::new(&world).await);
    hashes.subscribe("hashb").await;
    nothing.subscribe("weather").await;
    world.subscribed(2).await;
    let mined = world.node.generate(2, open_script()).await.unwrap();
    for (number, block) in (0..).zip(&mined) {
        assert_eq!(hashes.next().await, ("hashblock".to_owned(), hash(block), number));
    }
    // A command of version 3.1, and one that asks whether we are there.
    hashes.say(b"\x00\x06\x00hashb").await;
    hashes.say(b"\x04\x12\x09SUBSCRIBEhashbloc").await;
    world.subscribed(2).await;
    hashes.say(b"\x04\x0b\x04PING\x00\x01call").await;
    let pong = soon(frame::read(&mut hashes.0)).await.unwrap();
    assert_eq!(pong, Frame::Command { name: b"PONG".to_vec(), data: b"call".to_vec() });
    let mined = world.node.generate(1, open_script()).await.unwrap();
    assert_eq!(hashes.next().await, ("hashblock".to_owned(), hash(mined[0]), 2));
    assert!(timeout(Duration::from_millis(50), nothing.0.read_u8()).await.is_err(), "nobody publishes that");
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_or_asks_too_much_is_hung_up_on() {
    let world = World::new().await;
    let mut old = frame::greeting();
    old[10] = 2;
    let mut curve = frame::greeting();
    curve[12..17].copy_from_slice(b"CURVE");
    for greeting in [[b'G'; GREETING_LENGTH], old, curve] {
        let mut stranger = Subscriber(TcpStream::connect(world.address).await.unwrap());
        stranger.say(&greeting).await;
        assert!(stranger.is_ended().await);
    }
    let mut publisher = Subscriber(TcpStream::connect(world.address).await.unwrap());
    publisher.say(&frame::greeting()).await;
    publisher.say(&frame::ready(b"PUB")).await;
    assert!(publisher.is_ended().await);
    // A frame without end.
    let mut endless = Subscriber::new(&world).await;
    endless.say(&[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).await;
    assert!(endless.is_ended().await);
    let mut greedy = Subscriber::new(&world).await;
    for number in 0..65 {
        // The last ones may find the line closed.
        let _ = greedy.0.write_all(&[0, 2, 1, number]).await;
    }
    assert!(greedy.is_ended().await);
    soon(async {
        while world.count() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Nobody of them is in the way of who comes then.
    Subscriber::new(&world).await;
}

#[test]
fn a_slow_subscriber_loses_messages_and_holds_a_bounded_memory() {
    let (queue, mut waiting) = Queue::new();
    queue.subscribe(b"").unwrap();
    let small = Arc::new(Message::new("hashtx", &[0; 32], 0));
    for _ in 0..2 * HIGH_WATER_MARK {
        queue.offer(&small);
    }
    let mut taken = 0;
    while waiting.try_recv().is_ok() {
        taken += 1;
    }
    assert_eq!(taken, HIGH_WATER_MARK);
    let (queue, mut waiting) = Queue::new();
    queue.subscribe(b"rawblock").unwrap();
    let large = Arc::new(Message::new("rawblock", &vec![0; 4_000_000], 0));
    for _ in 0..100 {
        queue.offer(&large);
        queue.offer(&small);
    }
    let mut bytes = 0;
    while let Ok(subscriber::Outgoing::Message(message)) = waiting.try_recv() {
        bytes += message.bytes.len();
    }
    assert!((4_000_000..=32 << 20).contains(&bytes), "{bytes}");
}
