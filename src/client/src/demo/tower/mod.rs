//! The tower's story: Alice's process is killed, Bob publishes a state that he has revoked and moves its HTLCs on, and a
//! watchtower takes it all from him. Three times:
//!
//! - a stranger's tower, which could read nothing before the breach, and a `static_remotekey` channel: it takes all that Bob
//!   could have. What is Alice's anyway waits for her.
//! - the same with an `anchors` channel, and Bob is first with some HTLCs. What his transactions for these are is known only
//!   when they are mined, so no signature against them can lie at the tower. Alice takes what they made when she comes back.
//! - Alice's second machine: it takes all that Bob could have, his second stages too.

mod fates;

use std::collections::BTreeSet;

use leyden_proto::lnrpc::CommitmentType;

use super::{
    DataFolder, DemoError, DemoOptions, Narrator,
    calls::succeeded,
    force_close::end,
    guarded::{Guarded, HeldPayment, Opening},
    ledger::Ledger,
    narrator::coins,
    stage::{CAPACITY, FINAL, PUSHED, Share},
};
use crate::cluster::{ClusterError, DaemonProcess, wait_until};
use fates::{Fate, Kind, OldState, Taken};

/// What Bob would like to have back.
const SPENT_SINCE: i64 = 20_000_000;
/// Payments on their way in the state that Bob publishes, with their numbers; every amount is another.
const ALICES: [(u8, i64); 2] = [(1, 2_000_000), (2, 3_000_000)];
const BOBS: [(u8, i64); 2] = [(3, 4_000_000), (4, 1_500_000)];

/// How one part of the story differs from the others.
struct Act {
    title: &'static str,
    folder: &'static str,
    /// The tower is Alice's.
    own: bool,
    commitment_type: CommitmentType,
    /// Bob keeps his blocks to himself until his own HTLCs have expired too.
    with_timeouts: bool,
    /// What Bob's HTLC transactions make is out of the tower's reach.
    without_second_stages: bool,
}

const ACTS: [Act; 3] = [
    Act {
        title: "A stranger's tower, a static_remotekey channel",
        folder: "stranger",
        own: false,
        commitment_type: CommitmentType::StaticRemoteKey,
        with_timeouts: true,
        without_second_stages: false,
    },
    Act {
        title: "A stranger's tower, an anchors channel, and Bob is first with some HTLCs",
        folder: "stranger-anchors",
        own: false,
        commitment_type: CommitmentType::Anchors,
        with_timeouts: false,
        without_second_stages: true,
    },
    Act {
        title: "Alice's second machine as the tower, an anchors channel",
        folder: "own",
        own: true,
        commitment_type: CommitmentType::Anchors,
        with_timeouts: true,
        without_second_stages: false,
    },
];

/// Plays the story. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    let folder = DataFolder::new(options.folder)?;
    let mut narrator = Narrator::default();
    let mut last = None;
    let mut result = Ok(());
    for act in &ACTS {
        narrator.chapter(act.title);
        drop(last.take());
        let all = last.insert(Guarded::start(&folder.path().join(act.folder), &[]).await?);
        result = act.tell(&mut narrator, all).await;
        if result.is_err() {
            break;
        }
    }
    if let Some(all) = last.as_mut().filter(|_| options.keep) {
        println!(
            "\nThe nodes of the last part keep running in {}. Talk to them, for example:",
            folder.keep().display()
        );
        for node in [&mut all.alice, &mut all.bob, &mut all.tower] {
            println!("  leyden --data-dir {} getinfo", node.data_dir().display());
            node.keep_running();
        }
        println!("Stop them with `leyden --data-dir … stop`.");
    }
    result?;
    narrator.finish()
}

/// The breach, once it is being played.
struct Breach {
    channel_point: String,
    old: OldState,
    /// The last block before it.
    before: u32,
    /// What everybody had.
    alice: Share,
    bob: Share,
    /// Alice's part of the channel by the last state.
    honest: i64,
}

impl Breach {
    /// What the chain did since; with the id of the old commitment.
    async fn ledger(&self, node: &DaemonProcess) -> Result<(Ledger, String), ClusterError> {
        let ledger = Ledger::since(node, self.before).await?;
        let commitment = ledger.spender(&self.channel_point).unwrap_or_default().to_owned();
        Ok((ledger, commitment))
    }
}

impl Act {
    async fn tell(&self, narrator: &mut Narrator, all: &mut Guarded) -> Result<(), DemoError> {
        let breach = self.prepare(narrator, all).await?;
        self.cheat(narrator, all, &breach).await?;
        let fates = self.punish(narrator, all, &breach).await?;
        come_back(narrator, all, &breach, &fates).await?;
        settle_accounts(narrator, all, &breach).await
    }

    /// A channel, a tower, a state that will be revoked, and what revokes it.
    async fn prepare(&self, narrator: &mut Narrator, all: &mut Guarded) -> Result<Breach, DemoError> {
        narrator.step("Alice opens a channel of 1.0 to Bob, half of it his, and adds a watchtower");
        let Self { commitment_type, .. } = *self;
        all.open(Opening { capacity: CAPACITY, pushed: PUSHED, commitment_type }).await?;
        all.add_tower(self.own).await?;
        let (pubkey, address) = all.tower_at.split_once('@').unwrap_or_default();
        let own = if self.own { "--own " } else { "" };
        narrator.say(&format!("leyden tower add {own}{}…@{address}", short(pubkey)));
        if self.own {
            let key = all.alice.the_tower().await?.client_pubkey;
            narrator.say(&format!("and on that machine: leydend --tower --tower-allow {}…", short(&key)));
        }
        let channel_point = all.alice.only_channel().await?.channel_point;
        let (alice, bob) = (Share::of(&all.alice, CAPACITY - PUSHED).await?, Share::of(&all.bob, PUSHED).await?);
        narrator.say(&format!("wallets: Alice {}, Bob {}", coins(alice.wallet), coins(bob.wallet)));

        narrator.step("Two payments of each are on their way when Bob's disk is copied");
        let paying = all.hold(&held(&ALICES), &held(&BOBS)).await?;
        let old = OldState::of(&all.bob.only_channel().await?);
        all.keep_bobs_past()?;
        narrator.say(&format!(
            "Bob has {}; on their way are {} of his and {} of Alice's",
            coins(old.to_local),
            coins(sum(&BOBS)),
            coins(sum(&ALICES))
        ));

        narrator
            .step(&format!("They are paid, and Bob buys a house of Alice for {}: that revokes", coins(SPENT_SINCE)));
        all.bob.start().await?;
        all.alice.wait_for_active_channels(1).await?;
        all.bob.wait_for_active_channels(1).await?;
        all.bob.settle(&held(&ALICES)).await?;
        all.alice.settle(&held(&BOBS)).await?;
        paying.join_all().await;
        let payment = all.bob.pay(all.alice.invoice(SPENT_SINCE, "a house").await?).await?;
        narrator.require("the payment succeeded", succeeded(&payment));
        let last = all.wait_until_covered().await?.revoked.unwrap_or_default();
        narrator.say(&format!("leyden tower coverage: the tower has signed for every revoked state, 0 to {last}"));
        let honest = alice.in_channel(all.alice.paid().await?);
        narrator.check("Alice has in the channel", CAPACITY - bob.in_channel(all.bob.paid().await?), honest);
        narrator.check("Bob has in the channel", CAPACITY - honest, all.bob.only_channel().await?.local_balance);
        let before = all.tower.height().await?;
        Ok(Breach { channel_point, old, before, alice, bob, honest })
    }

    /// Bob closes with the old state, and moves HTLCs on, in blocks that nobody else knows.
    async fn cheat(&self, narrator: &mut Narrator, all: &mut Guarded, breach: &Breach) -> Result<(), DemoError> {
        let pid = all.alice.pid().unwrap_or_default();
        narrator.step(&format!(
            "Alice's daemon is killed (SIGKILL, process {pid}). Bob puts the copy back, and closes with it"
        ));
        all.alice_dies_and_bob_goes_back().await?;
        let Breach { channel_point, old, before, honest, .. } = breach;
        let (bob, hopes) = (&all.bob, old.to_local + sum(&BOBS) + sum(&ALICES));
        let stolen = hopes - (CAPACITY - honest);
        narrator.say(&format!("the old state is worth {} to him, {} too much", coins(hopes), coins(stolen)));
        // He was told these preimages, and has a memory of his own.
        bob.settle(&held(&ALICES)).await?;
        bob.close_channel(channel_point, true).await?;
        bob.mine_alone(1).await?;
        old.mine_until_moved(bob, *before, channel_point, Kind::AlicesHtlc).await?;
        if self.with_timeouts {
            bob.mine_alone(old.expiry.saturating_sub(bob.height().await?)).await?;
            old.mine_until_moved(bob, *before, channel_point, Kind::BobsHtlc).await?;
        }
        let (ledger, commitment) = breach.ledger(bob).await?;
        let at = ledger.height(&commitment);
        narrator.say("he mines by himself, and keeps the blocks for himself:");
        narrator.say(&format!("C1b   {}… is the old commitment, in block {at}", short(&commitment)));
        for Fate { kind, amount, stage, .. } in old.fates(&ledger, &commitment, &BTreeSet::new()) {
            let Some(stage) = stage else { continue };
            let (name, why) = match kind {
                Kind::BobsHtlc => ("HT1b", "of his, which has expired (HTLC-timeout)"),
                _ => ("HE1b", "of Alice's, with the preimage (HTLC-success)"),
            };
            let (txid, at) = (short(&stage.txid), ledger.height(&stage.txid));
            narrator.say(&format!("{name}  {txid}… moves {} {why}, in block {at}", coins(amount)));
        }
        Ok(())
    }

    /// The tower sees it; gives what became of each output until that is final.
    async fn punish(&self, narrator: &mut Narrator, all: &Guarded, breach: &Breach) -> Result<Vec<Fate>, DemoError> {
        narrator.step("His blocks reach the others. Nobody is there but the tower");
        all.bob_shows_his_blocks().await?;
        let penalty = all.let_the_tower_act().await?;
        let (ledger, commitment) = breach.ledger(&all.tower).await?;
        let number = penalty.commitment_number;
        narrator.require(&format!("it knows the old state: number {number}"), penalty.breach_txid == commitment);
        let fates = breach.old.fates(&ledger, &commitment, &fates::claimed(&penalty));
        fates.iter().for_each(|fate| tell_fate(narrator, fate, &ledger));
        let expected = fates.iter().filter(|fate| !self.leaves(fate)).map(Fate::worth).sum();
        let taken = fates.iter().filter(|fate| fate.is_alices()).map(Fate::worth).sum();
        narrator.check("the tower has taken", expected, taken);
        self.say_why_not(narrator, &fates, &ledger, breach.old.delay);

        narrator.step(&format!("{FINAL} blocks later that is final, and the tower has nothing left to guard"));
        all.mine(FINAL).await?;
        wait_until("the tower to forget the channel", || async {
            let stats = all.tower_stats().await?;
            Ok(stats.penalties.is_empty() && stats.channels == 0 && stats.states == 0)
        })
        .await?;
        Ok(fates)
    }

    /// Whether the tower cannot take it.
    fn leaves(&self, fate: &Fate) -> bool {
        fate.kind == Kind::ToRemote || (self.without_second_stages && fate.stage.is_some())
    }

    /// What the tower has left, and why.
    fn say_why_not(&self, narrator: &mut Narrator, fates: &[Fate], ledger: &Ledger, delay: u32) {
        let left = || fates.iter().filter(|fate| !fate.is_alices());
        let stages = || left().filter_map(|fate| fate.stage.as_ref());
        if let Some(first) = stages().map(|stage| ledger.height(&stage.txid)).min() {
            let worth = coins(stages().map(|stage| stage.amount).sum());
            narrator.say(&format!(
                "left: {worth} that Bob's HTLC transactions made. In an anchors channel he chooses what"
            ));
            narrator
                .say("      else they spend, so Alice cannot sign in advance for what they make. To be safe from that");
            narrator.say(&format!(
                "      she needs a tower of her own, or be back before block {}: so long Bob must wait",
                first + delay
            ));
        }
        for fate in left().filter(|fate| fate.kind == Kind::ToRemote) {
            narrator.say(&format!(
                "left: {} of to_remote. Nobody but Alice has the key: it waits for her",
                coins(fate.amount)
            ));
        }
        narrator.require("nothing else is left", left().all(|fate| self.leaves(fate)));
    }
}

/// Alice starts again, and takes what the tower left.
async fn come_back(
    narrator: &mut Narrator,
    all: &mut Guarded,
    breach: &Breach,
    fates: &[Fate],
) -> Result<(), DemoError> {
    let left: i64 = fates.iter().filter(|fate| !fate.is_alices()).map(Fate::worth).sum();
    let rest = if left > 0 { format!(", and takes the {} that are left", coins(left)) } else { String::new() };
    narrator.step(&format!("Alice comes back{rest}"));
    all.alice.start().await?;
    all.alice.wait_for_height(all.tower.height().await?).await?;
    let (now, ledger) = loop {
        let (ledger, commitment) = breach.ledger(&all.tower).await?;
        let now = breach.old.fates(&ledger, &commitment, &all.alice.wallet_txids().await?);
        if now.iter().all(|fate| fate.taken != Taken::Unspent) {
            break (now, ledger);
        }
        wait_until("a claim of Alice's", || async { Ok(!all.tower.waiting_txids().await?.is_empty()) }).await?;
        all.mine(1).await?;
    };
    for (_, now) in fates.iter().zip(&now).filter(|(then, _)| !then.is_alices()) {
        tell_fate(narrator, now, &ledger);
    }
    narrator.require("nothing of it is Bob's", now.iter().all(Fate::is_alices));
    all.mine(FINAL).await?;
    end(&[(&all.alice, "BREACH_CLOSE"), (&all.bob, "LOCAL_FORCE_CLOSE")], narrator).await?;
    Ok(())
}

/// What everybody has in the end, and where the rest went.
async fn settle_accounts(narrator: &mut Narrator, all: &Guarded, breach: &Breach) -> Result<(), DemoError> {
    narrator.step("Every satoshi is accounted for");
    let Breach { alice, bob, honest, .. } = breach;
    let (ledger, commitment) = breach.ledger(&all.tower).await?;
    let (alices, bobs) = (all.alice.wallet_txids().await?, all.bob.wallet_txids().await?);
    let everybodys: BTreeSet<String> = ledger.txids().collect();
    let nobodys = |txid: &&String| **txid != commitment && !alices.contains(*txid) && !bobs.contains(*txid);
    // What no wallet paid for: an HTLC transaction of static_remotekey pays for itself.
    let (htlcs, count) = ledger.fees(&everybodys.iter().filter(nobodys).cloned().collect());
    let cost = ledger.commitment_cost(&commitment, CAPACITY);
    narrator.say(&format!("the old commitment paid {} to miners and for anchors", coins(cost)));
    if count > 0 {
        narrator.say(&format!("{count} HTLC transactions of Bob's paid {} of what they moved", coins(htlcs)));
    }
    let swept = |txids| ledger.anchors_swept(&commitment, txids);
    narrator.say(&format!("Alice's part by the last state was {}; she gets all {}:", coins(*honest), coins(CAPACITY)));
    let borne = cost + htlcs + swept(&everybodys) - swept(&alices);
    alice.check(narrator, &all.alice, &ledger, CAPACITY, borne).await?;
    bob.check(narrator, &all.bob, &ledger, swept(&bobs), 0).await?;
    let before = alice.wallet + bob.wallet + CAPACITY;
    let wallets = all.alice.wallet_balance().await? + all.bob.wallet_balance().await?;
    let (fees, anchors) = (ledger.all_fees(), ledger.anchors_left());
    narrator.say(&format!("miners got {}; {} lie in anchors that nobody wants", coins(fees), coins(anchors)));
    narrator.check("wallets, miners and anchors: as much as before", before, wallets + fees + anchors);
    Ok(())
}

fn tell_fate(narrator: &mut Narrator, fate: &Fate, ledger: &Ledger) {
    let (txid, whose) = match &fate.taken {
        Taken::Unspent => return,
        Taken::For(txid) => (txid, "takes"),
        Taken::Against(txid) => (txid, "takes for Bob"),
    };
    let ((name, what), worth, at) = (fate.penalty(), coins(fate.worth()), ledger.height(txid));
    narrator.say(&format!("{name:<5} {}… {whose} {worth}, {what}, in block {at}", short(txid)));
}

fn held(payments: &[(u8, i64)]) -> Vec<HeldPayment> {
    payments.iter().map(|(number, amount)| HeldPayment::new(*number, *amount)).collect()
}

fn sum(payments: &[(u8, i64)]) -> i64 {
    payments.iter().map(|(_, amount)| amount).sum()
}

/// The beginning of a key or an id.
fn short(hex: &str) -> &str {
    hex.get(..8).unwrap_or(hex)
}
