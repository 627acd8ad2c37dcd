//! A watchtower's process that is killed at random moments, while a client backs up as fast as it can and one breach after the
//! other is answered: what it has acknowledged it still holds, and it misses no breach.
//!
//! `LEYDEN_TOWER_KILLS=30` kills it so often, `LEYDEN_SEED=7` at the moments of seed 7.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

#[path = "../watchtower/tests/common/mod.rs"]
mod cheaters;
mod harness;

use std::{path::PathBuf, time::Duration};

use bitcoin::{Block, OutPoint, Transaction, consensus};
use cheaters::{Duo, State, world};
use harness::{
    Folder, MATURE, Program, assert_calm, fund, height, mempool,
    tower::{
        TowerAddress, TowerClient, channel_name, client_key, digest_up_to, follow_flags, nowhere, sealed_backup,
        sealed_channel, start, stats,
    },
    wait_for_transaction,
};
use leyden_channels::{
    tx::OutputKind,
    types::{CommitmentNumber, CommitmentType},
};
use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, wait_for, wait_until},
    demo::NOBODY,
};
use leyden_proto::leyden::{
    GetBlockRequest, SubmitTransactionRequest, TowerClaim, TowerPenalty, get_block_request::Block as Which,
    tower_claim::State as Claim,
};
use leyden_watchtower::{
    appointment::ChannelName,
    message::{Ask, Audited, Mode, TowerMessage},
    receipt::{Audit, Says, convicts},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinHandle;

/// How far a breach is when the tower is killed: each moment once for every breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The state is backed up.
    BackedUp,
    /// It is in the mempool.
    Published,
    /// It is in a block.
    Mined,
    /// Penalties are on their way.
    Answered,
    /// They were passed over by two blocks, and some pay more.
    Raised,
    /// They are in a block.
    Claimed,
    /// They are final.
    Final,
}

const MOMENTS: [Moment; 7] = [
    Moment::BackedUp,
    Moment::Published,
    Moment::Mined,
    Moment::Answered,
    Moment::Raised,
    Moment::Claimed,
    Moment::Final,
];

/// Once at each moment.
const DEFAULT_KILLS: usize = MOMENTS.len();
/// After what has brought the moment about, the kill comes within this time.
const WITHIN: Duration = Duration::from_millis(300);
/// The load: backups that are sent before a receipt is waited for, and how many a life of the tower sees at most.
const BATCH: u64 = 100;
const MOST_BACKUPS: u64 = 2_000;
/// Blocks after which penalties are final.
const FINAL: u32 = 101;

/// The channel of the client that makes the load.
fn load_channel() -> ChannelName {
    channel_name(0xff)
}

/// Somebody who is cheated.
struct Victim {
    client: world::Client,
    breach: Transaction,
    /// Above it, the breach.
    before: u32,
    published: bool,
}

struct Towers {
    /// The cheaters' node, which mines.
    alice: DaemonProcess,
    /// Mines what has no penalties in it.
    rival: DaemonProcess,
    data_dir: PathBuf,
    flags: Vec<String>,
    victims: Vec<Victim>,
    /// The last state of the load that the tower has signed for.
    acknowledged: Option<u64>,
}

/// The tower while it lives.
struct Life {
    program: Program,
    rpc: Client,
    tower: TowerAddress,
}

impl Towers {
    async fn new(folder: &Folder) -> Self {
        let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
        alice.start().await.unwrap();
        alice.mine(1, None).await.unwrap();
        alice.mine(MATURE, Some(NOBODY)).await.unwrap();
        let mut rival = DaemonProcess::new(folder.path(), "rival", &[]).unwrap();
        rival.start().await.unwrap();
        let own = key(Mode::Own).public_key(secp256k1::SECP256K1).to_string();
        let mut flags: Vec<String> = follow_flags(&alice).map(str::to_owned).into();
        flags.extend(["--tower-allow".to_owned(), own, "--tower-strangers".to_owned(), "8".to_owned()]);
        let data_dir = folder.path().join("tower");
        Self { alice, rival, data_dir, flags, victims: Vec::new(), acknowledged: None }
    }

    /// Starts the tower.
    async fn live(&self) -> Life {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let (program, rpc, tower) = start(&self.data_dir, &flags).await;
        Life { program, rpc, tower }
    }

    /// Begins the load of one life of the tower, once it has shown that it holds what it signed for: gives the last state that
    /// it has signed for when it is gone.
    async fn load(&self, tower: TowerAddress) -> JoinHandle<Option<u64>> {
        let mut acknowledged = self.acknowledged;
        let channel = load_channel();
        let mut client = TowerClient::greeted(tower, client_key(1), nowhere(1)).await.unwrap();
        if acknowledged.is_none() {
            client.register(Mode::Blind).await.unwrap();
            client.open_channel(sealed_channel(channel)).await;
        }
        let held = client.held(channel).await;
        assert!(held.map(|held| held.up_to.0) >= acknowledged, "{held:?} is less than {acknowledged:?}");
        if let Some(held) = held {
            assert_eq!(held.digest, digest_up_to(channel, held.up_to.0));
        }
        tokio::spawn(async move {
            let first = held.map_or(0, |held| held.up_to.0 + 1);
            for from in (first..first + MOST_BACKUPS).step_by(BATCH as usize) {
                for number in from..from + BATCH {
                    if !client.back_up(&sealed_backup(channel, number)).await {
                        return acknowledged;
                    }
                }
                while acknowledged.is_none_or(|last| last < from + BATCH - 1) {
                    match client.acknowledged().await {
                        Some(held) => acknowledged = Some(held.up_to.0),
                        None => return acknowledged,
                    }
                }
            }
            acknowledged
        })
    }

    /// Brings a moment about. The tower lives where that needs it.
    async fn reach(&mut self, moment: Moment, life: Option<&Life>) {
        match moment {
            Moment::BackedUp => self.new_victim(life.expect("a tower that takes backups")).await,
            Moment::Published => {
                let raw_tx = consensus::serialize(&self.victims.last().unwrap().breach);
                let request = SubmitTransactionRequest { raw_tx };
                self.alice.client().unwrap().chain().submit_transaction(request).await.unwrap();
                let height = height(&self.alice).await;
                let victim = self.victims.last_mut().unwrap();
                (victim.before, victim.published) = (height, true);
            }
            Moment::Mined | Moment::Claimed => self.alice.mine(1, Some(NOBODY)).await.unwrap(),
            Moment::Answered => drop(self.penalties_are_out(life.expect("a tower that answers")).await),
            Moment::Raised => self.mine_without_penalties(life.expect("a tower that pays more")).await,
            Moment::Final => self.alice.mine(FINAL, Some(NOBODY)).await.unwrap(),
        }
    }

    /// One more channel, whose only revoked state the tower holds.
    async fn new_victim(&mut self, life: &Life) {
        let number = self.victims.len() as u32 + 1;
        let mode = if number % 2 == 1 { Mode::Blind } else { Mode::Own };
        let old = State { alice: 300_000, offered: vec![(1, 60_000)], received: vec![(1_001, 50_000)] };
        let states = vec![old, State { alice: 400_000, ..State::default() }];
        let mut duo = Duo::new(number, CommitmentType::Anchors, states);
        duo.funding.outpoint = fund(&self.alice, &duo.funding_output()).await;
        let breach = duo.breach(0);
        let victim = world::Client::new(number, mode, duo);
        let mut client = TowerClient::greeted(life.tower, key(mode), nowhere(2)).await.unwrap();
        client.register(mode).await.unwrap();
        client.open_channel(victim.open()).await;
        assert!(client.back_up(&victim.backup(0)).await);
        assert_eq!(client.acknowledged_up_to(0).await.up_to, CommitmentNumber(0));
        self.victims.push(Victim { client: victim, breach, before: 0, published: false });
    }

    /// What the tower says of the newest breach, once that holds.
    async fn penalty_when(&self, life: &Life, what: &str, holds: impl Fn(&TowerPenalty) -> bool) -> TowerPenalty {
        let txid = self.victims.last().unwrap().breach.compute_txid().to_string();
        wait_for(what, || async {
            let penalties = stats(&life.rpc).await.penalties;
            Ok(penalties.into_iter().find(|penalty| penalty.breach_txid == txid && holds(penalty)))
        })
        .await
        .unwrap()
    }

    /// Every output has a penalty in the mempool of the miner, or in a block: the tower answers a breach in the mempool too.
    async fn penalties_are_out(&self, life: &Life) -> TowerPenalty {
        let is_out = |claim: &TowerClaim| matches!(claim.state(), Claim::Broadcast | Claim::Claimed);
        let holds = |penalty: &TowerPenalty| penalty.claims.len() > 2 && penalty.claims.iter().all(is_out);
        let penalty = self.penalty_when(life, "the penalties", holds).await;
        for claim in penalty.claims.iter().filter(|claim| claim.state() == Claim::Broadcast) {
            wait_for_transaction(&self.alice, &claim.txid).await;
        }
        penalty
    }

    /// Two blocks without penalties, so that those whose deadline is near pay more.
    async fn mine_without_penalties(&mut self, life: &Life) {
        let penalty = self.penalties_are_out(life).await;
        if !penalty.claims.iter().any(|claim| claim.state() == Claim::Broadcast && claim.deadline > 0) {
            // They were in the block of the breach.
            self.alice.mine(2, Some(NOBODY)).await.unwrap();
            return;
        }
        let before = mempool(&self.alice).await;
        self.rival.connect_chain(&self.alice).await.unwrap();
        let height = height(&self.alice).await;
        self.rival.wait_for_height(height).await.unwrap();
        // Whatever it has heard of is gone, and so is its peer.
        self.rival.kill();
        self.rival.start().await.unwrap();
        self.rival.mine(2, Some(NOBODY)).await.unwrap();
        self.rival.connect_chain(&self.alice).await.unwrap();
        self.alice.wait_for_height(height + 2).await.unwrap();
        wait_until("a penalty to pay more", || async {
            let now = mempool(&self.alice).await;
            Ok(now.len() >= before.len() && now != before)
        })
        .await
        .unwrap();
        self.rival.kill();
        self.rival.start().await.unwrap();
    }

    /// SIGKILL; what it signed for until then is in `loading`.
    async fn kill(&mut self, life: Life, loading: JoinHandle<Option<u64>>) {
        let Life { program, rpc, .. } = life;
        let log = program.log();
        drop((program, rpc));
        self.acknowledged = loading.await.unwrap();
        assert_calm("the tower", &log);
    }

    /// Mines until nothing that was published is left unpunished, and that is final.
    async fn finish(&self, life: &Life) {
        wait_until("every penalty to be mined", || async {
            let penalties = stats(&life.rpc).await.penalties;
            let claimed =
                penalties.iter().flat_map(|penalty| &penalty.claims).all(|claim| claim.state() == Claim::Claimed);
            let open = self.victims.iter().filter(|victim| victim.published);
            let blocks = self.blocks_since(0).await;
            let done = open.into_iter().all(|victim| unpunished(victim, &blocks).is_empty());
            if !(claimed && done) {
                self.alice.mine(1, Some(NOBODY)).await?;
            }
            Ok(claimed && done)
        })
        .await
        .unwrap();
        self.alice.mine(FINAL, Some(NOBODY)).await.unwrap();
        let kept = self.victims.iter().filter(|victim| !victim.published).count() as u64;
        wait_until("the rows of what is final to be given back", || async {
            let shown = stats(&life.rpc).await;
            Ok(shown.penalties.is_empty() && shown.channels == kept + u64::from(self.acknowledged.is_some()))
        })
        .await
        .unwrap();
    }

    async fn blocks_since(&self, before: u32) -> Vec<Block> {
        let mut blocks = Vec::new();
        for height in before + 1..=height(&self.alice).await {
            let request = GetBlockRequest { block: Some(Which::Height(height)), include_raw: true };
            let block = self.alice.client().unwrap().chain().get_block(request).await.unwrap().into_inner();
            blocks.push(consensus::deserialize(&block.raw_block).unwrap());
        }
        blocks
    }
}

/// A client's key: those in own mode are one on the tower's list.
fn key(mode: Mode) -> secp256k1::SecretKey {
    match mode {
        Mode::Blind => client_key(2),
        Mode::Own => client_key(3),
    }
}

/// The outputs of a breach that have not gone to its victim.
fn unpunished(victim: &Victim, blocks: &[Block]) -> Vec<OutPoint> {
    let home = &victim.client.home;
    let own = victim.client.mode == Mode::Own;
    let outputs = victim.client.duo.bobs_commitment(0);
    let txid = victim.breach.compute_txid();
    let wanted = outputs.outputs().filter(|(_, _, info)| match info.kind {
        OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => false,
        // In own mode it is left to its owner.
        OutputKind::ToRemote => !own,
        OutputKind::ToLocal | OutputKind::Htlc(_) => true,
    });
    let transactions = || blocks.iter().flat_map(|block| &block.txdata);
    let taken = |outpoint: &OutPoint| {
        transactions().any(|tx| {
            tx.input.iter().any(|input| input.previous_output == *outpoint)
                && tx.output.iter().all(|output| output.script_pubkey == *home)
        })
    };
    wanted.map(|(vout, ..)| OutPoint { txid, vout }).filter(|outpoint| !taken(outpoint)).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tower_killed_at_any_moment_holds_what_it_acknowledged_and_misses_no_breach() {
    let seed = number("LEYDEN_SEED").unwrap_or_else(rand::random);
    let kills = number("LEYDEN_TOWER_KILLS").map_or(DEFAULT_KILLS, |kills| kills as usize);
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = Folder::new();
    let mut all = Towers::new(&folder).await;
    let (mut answering, mut away) = (0, 0);
    for kill in 0..kills {
        let moment = MOMENTS[kill % MOMENTS.len()];
        // Some of it happens while the tower does not run.
        let needs_tower = matches!(moment, Moment::BackedUp | Moment::Answered | Moment::Raised);
        let is_away = !needs_tower && rng.random_range(0..3) == 0;
        if is_away {
            all.reach(moment, None).await;
        }
        let life = all.live().await;
        let loading = all.load(life.tower).await;
        if !is_away {
            all.reach(moment, Some(&life)).await;
        }
        tokio::time::sleep(rng.random_range(Duration::ZERO..WITHIN)).await;
        let penalties = stats(&life.rpc).await.penalties.len();
        all.kill(life, loading).await;
        answering += usize::from(penalties > 0);
        away += usize::from(is_away);
        println!(
            "kill {}: {moment:?}{}, {penalties} breaches open, {:?} states acknowledged",
            kill + 1,
            if is_away { " while it was away" } else { "" },
            all.acknowledged.map(|last| last + 1)
        );
    }

    let mut life = all.live().await;
    all.finish(&life).await;
    let published = all.victims.iter().filter(|victim| victim.published).count();
    println!(
        "seed {seed}: killed {kills} times, {answering} of them while a breach was answered; {published} breaches, all answered; \
        {away} times the chain went on without the tower"
    );
    assert!(kills < DEFAULT_KILLS || answering > 0);

    // What it signs for is on the disk: it reads all of it again, and shows it.
    let channel = load_channel();
    let mut client = TowerClient::greeted(life.tower, client_key(1), nowhere(1)).await.unwrap();
    let receipt = client.receipt(channel).await.unwrap();
    assert!(Some(receipt.held.up_to.0) >= all.acknowledged);
    let nonce = [7; 32];
    client.send(Ask::Audit { channel, up_to: receipt.held.up_to, nonce }).await;
    let TowerMessage::Audited(audited) = client.receive().await.unwrap() else { panic!("no audit") };
    let holding = client.holding(channel, &receipt);
    let Audited { nonce: answered, at, says, .. } = audited;
    let audit = Audit { chain: holding.chain, client: holding.client, channel, nonce: answered, at, says };
    assert!(audit.verify(&audited.signature, &life.tower.key));
    assert_eq!((audit.says, audit.nonce), (Says::Holds(receipt.held), nonce));
    assert_eq!(convicts(&holding, &audit, None), None);
    let shown = stats(&life.rpc).await;
    assert!(shown.bytes > shown.states * 200 && shown.connected_clients == 1, "{shown:?}");
    drop(client);
    life.program.stop().await;
    assert_calm("the tower", &life.program.log());
}
