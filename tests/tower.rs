//! A watchtower as a process: whoever floods it does not keep the others away, and a breach is answered while its client is not
//! there. `tower_killed.rs` has what it keeps when it is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

#[path = "../watchtower/tests/common/mod.rs"]
mod cheaters;
mod harness;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bitcoin::{Transaction, consensus};
use cheaters::{Duo, KINDS, State, world};
use harness::{
    Folder, MATURE, Program, assert_calm, fund, height, leyden, mempool, refused_start,
    tower::{
        TowerClient, channel_name, client_key, follow_flags, nowhere, sealed_backup, sealed_channel, start, stats,
    },
    wait_for_transaction,
};
use leyden_channels::types::CommitmentNumber;
use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, wait_for, wait_until},
    demo::NOBODY,
};
use leyden_proto::leyden::{
    ConnectChainPeerRequest, Limit, ListLimitsRequest, SubmitTransactionRequest, TowerClaim, TowerPenalty, tower_claim,
    tower_penalty,
};
use leyden_watchtower::message::{Ask, Mode, RefusalCode};
use secp256k1::SecretKey;
use tokio::net::{TcpSocket, TcpStream};

async fn limit(client: &Client, name: &str) -> Limit {
    let answer = client.limits().list_limits(ListLimitsRequest {}).await.unwrap().into_inner();
    answer.limits.into_iter().find(|limit| limit.name == name).unwrap_or_else(|| panic!("no limit {name}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_a_tower_is_refused_while_an_honest_client_is_served() {
    let folder = Folder::new();
    let (mut program, rpc, tower) = start(folder.path(), &[]).await;
    let channel = channel_name(2);
    let mut honest = TowerClient::greeted(tower, client_key(1), nowhere(1)).await.unwrap();
    honest.register(Mode::Blind).await.unwrap();
    honest.open_channel(sealed_channel(channel)).await;

    // Connections without end, from one address.
    let room = limit(&rpc, "tower.strangers").await.limit;
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..room + 40 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((nowhere(2), 0).into()).unwrap();
        silent.push(tokio::time::timeout(Duration::from_secs(60), socket.connect(tower.at)).await.unwrap().unwrap());
    }
    wait_until("silent connections to give way", || async { Ok(limit(&rpc, "tower.strangers").await.refused >= 30) })
        .await
        .unwrap();

    // Places without end: so many a minute.
    let mut refused = None;
    for number in 0..200 {
        let mut stranger = TowerClient::greeted(tower, client_key(1_000 + number), nowhere(3)).await.unwrap();
        if let Err(answer) = stranger.register(Mode::Blind).await {
            refused = Some(answer);
            break;
        }
    }
    assert_eq!(refused.expect("somebody has to wait").code, RefusalCode::TooFast);

    // Questions without end, whose answers nobody reads.
    let flood = tokio::spawn(async move {
        let mut flooder = TowerClient::greeted(tower, client_key(1_000), nowhere(4)).await.unwrap();
        let mut sent = 0_u64;
        while flooder.send(Ask::Channel(channel_name(9))).await {
            sent += 1;
        }
        sent
    });
    let begun = Instant::now();
    let mut number = 0;
    while !flood.is_finished() || number < 20 {
        assert!(honest.back_up(&sealed_backup(channel, number)).await, "the honest client was hung up on");
        honest.acknowledged_up_to(number).await;
        number += 1;
        assert!(begun.elapsed() < Duration::from_secs(180), "the flood does not end");
    }
    let served = begun.elapsed();
    println!("{} questions were sent; meanwhile {number} receipts in {served:?}", flood.await.unwrap());

    // Nobody is let into own mode, or into more than there is.
    let mut stranger = TowerClient::greeted(tower, client_key(1_000), nowhere(3)).await.unwrap();
    assert_eq!(stranger.register(Mode::Own).await.unwrap_err().code, RefusalCode::NotOffered);
    assert_eq!(honest.held(channel).await.unwrap().up_to.0, number - 1);
    drop((honest, silent, stranger, rpc));
    program.stop().await;
    assert_calm("the tower", &program.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tower_with_an_allow_list_serves_nobody_else() {
    let folder = Folder::new();
    let friend = client_key(1).public_key(secp256k1::SECP256K1).to_string();
    let (mut program, rpc, tower) = start(folder.path(), &["--tower-allow", &friend]).await;
    let mut stranger = TowerClient::greeted(tower, client_key(2), nowhere(2)).await.unwrap();
    assert_eq!(stranger.register(Mode::Blind).await.unwrap_err().code, RefusalCode::NotOffered);
    let mut friend = TowerClient::greeted(tower, client_key(1), nowhere(1)).await.unwrap();
    assert_eq!(friend.register(Mode::Own).await.unwrap().states, u64::MAX);
    let shown = stats(&rpc).await;
    assert_eq!((shown.clients, shown.allowed_clients, shown.max_other_clients), (1, 1, 0));
    assert_eq!(limit(&rpc, "tower.allowed").await.used, 1);
    drop((rpc, stranger, friend));
    program.stop().await;

    let (status, said) = refused_start(&folder.path().join("other"), &["--tower-allow", "bob"]);
    assert!(!status.success() && said.contains("--tower"), "{said}");
}

/// A channel of a victim that is away, guarded by a tower in blind mode, and its peer's revoked state.
struct Cheat {
    alice: DaemonProcess,
    folder: Folder,
    towers: PathBuf,
    program: Program,
    rpc: Client,
    breach: Transaction,
}

impl Cheat {
    async fn prepared() -> Self {
        let folder = Folder::new();
        let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
        alice.start().await.unwrap();
        alice.mine(1, None).await.unwrap();
        alice.mine(MATURE, Some(NOBODY)).await.unwrap();
        let towers = folder.path().join("tower");
        let (program, rpc, tower) = start(&towers, &follow_flags(&alice)).await;

        // The funding output is in the chain, and the first state is revoked.
        let states = vec![State { alice: 600_000, ..State::default() }, State { alice: 400_000, ..State::default() }];
        let mut duo = Duo::new(1, KINDS[1], states);
        duo.funding.outpoint = fund(&alice, &duo.funding_output()).await;
        let breach = duo.breach(0);

        let secret = SecretKey::from_slice(&[0x44; 32]).unwrap();
        let victim = world::Client::new(1, Mode::Blind, duo);
        let mut client = TowerClient::greeted(tower, secret, nowhere(1)).await.unwrap();
        client.register(Mode::Blind).await.unwrap();
        client.open_channel(victim.open()).await;
        assert!(client.back_up(&victim.backup(0)).await);
        assert_eq!(client.acknowledged_up_to(0).await.up_to, CommitmentNumber(0));
        Self { alice, folder, towers, program, rpc, breach }
    }

    /// The peer publishes the revoked state, and it is mined.
    async fn publish(&self) {
        let raw_tx = consensus::serialize(&self.breach);
        let request = SubmitTransactionRequest { raw_tx };
        self.alice.client().unwrap().chain().submit_transaction(request).await.unwrap();
        self.alice.mine(1, Some(NOBODY)).await.unwrap();
    }

    /// The tower's process is replaced: killed, and started again after `meanwhile`.
    async fn killed(self, meanwhile: impl AsyncFnOnce(&DaemonProcess, &Transaction)) -> Self {
        let Self { alice, folder, towers, program, rpc, breach } = self;
        drop((rpc, program));
        meanwhile(&alice, &breach).await;
        let (program, rpc, _) = start(&towers, &follow_flags(&alice)).await;
        Self { alice, folder, towers, program, rpc, breach }
    }

    async fn penalty_when(&self, what: &str, holds: impl Fn(&TowerPenalty) -> bool) -> TowerPenalty {
        wait_for(what, || async { Ok(stats(&self.rpc).await.penalties.into_iter().next().filter(|one| holds(one))) })
            .await
            .unwrap()
    }

    /// Both outputs have a penalty in the mempool of others.
    async fn penalties_are_out(&self) -> TowerPenalty {
        let sent = |claim: &TowerClaim| claim.state() == tower_claim::State::Broadcast && claim.fee > 0;
        let out = |penalty: &TowerPenalty| penalty.claims.iter().all(sent) && penalty.claims.len() == 2;
        let penalty = self.penalty_when("the penalties", out).await;
        for claim in &penalty.claims {
            wait_for_transaction(&self.alice, &claim.txid).await;
        }
        penalty
    }

    async fn penalties_are_mined(&self) {
        let claimed = |claim: &TowerClaim| claim.state() == tower_claim::State::Claimed;
        let mined = |penalty: &TowerPenalty| penalty.height > 0 && penalty.claims.iter().all(claimed);
        self.penalty_when("the penalties to be in a block", mined).await;
    }

    /// What is kept for the channel is given back once its penalties are final.
    async fn wait_until_final(mut self) {
        self.alice.mine(FINAL, Some(NOBODY)).await.unwrap();
        wait_until("the channel's rows to be given back", || async {
            let shown = stats(&self.rpc).await;
            Ok(shown.penalties.is_empty() && shown.channels == 0 && shown.states == 0)
        })
        .await
        .unwrap();
        drop(self.rpc);
        self.program.stop().await;
        assert_calm("the tower", &self.program.log());
        drop(self.folder);
    }
}

/// Blocks after which penalties are final.
const FINAL: u32 = 101;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breach_while_the_tower_is_down_is_answered_when_it_comes_back() {
    let cheat = Cheat::prepared().await;
    let txid = cheat.breach.compute_txid().to_string();
    let cheat = cheat
        .killed(async |alice, breach| {
            let request = SubmitTransactionRequest { raw_tx: consensus::serialize(breach) };
            alice.client().unwrap().chain().submit_transaction(request).await.unwrap();
            alice.mine(3, Some(NOBODY)).await.unwrap();
        })
        .await;
    let penalty = cheat.penalties_are_out().await;
    assert_eq!((penalty.breach_txid.as_str(), penalty.commitment_number), (txid.as_str(), 0));
    assert_eq!(penalty.mode(), tower_penalty::Mode::Blind);
    let table = leyden(&cheat.towers, &["tower", "stats"]);
    assert!(table.contains("broadcast") && table.contains(&txid), "{table}");
    println!("{table}");
    // Killed between detection and confirmation: nothing is forgotten.
    let cheat = cheat.killed(async |alice, _| alice.mine(1, Some(NOBODY)).await.unwrap()).await;
    cheat.penalties_are_mined().await;
    assert!(mempool(&cheat.alice).await.is_empty());
    cheat.wait_until_final().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breach_that_a_reorganisation_takes_back_is_answered_when_it_returns() {
    let cheat = Cheat::prepared().await;
    let mut rival = DaemonProcess::new(cheat.folder.path(), "rival", &[]).unwrap();
    rival.start().await.unwrap();
    let connect = async |from: &DaemonProcess, to: &DaemonProcess| {
        let request = ConnectChainPeerRequest { address: to.chain_address().unwrap() };
        from.client().unwrap().chain().connect_peer(request).await.unwrap();
    };
    connect(&rival, &cheat.alice).await;
    rival.wait_for_height(height(&cheat.alice).await).await.unwrap();
    // From here on it has a chain of its own.
    assert!(rival.terminate().unwrap().success());
    rival.start().await.unwrap();
    rival.mine(3, Some(NOBODY)).await.unwrap();

    cheat.publish().await;
    cheat.penalties_are_out().await;
    connect(&rival, &cheat.alice).await;
    cheat.penalty_when("the breach to be taken back", |penalty| penalty.height == 0).await;
    let breach = cheat.breach.compute_txid().to_string();
    wait_for_transaction(&cheat.alice, &breach).await;
    cheat.alice.mine(1, Some(NOBODY)).await.unwrap();
    cheat.penalty_when("the breach to return", |penalty| penalty.height > 0).await;
    // The claim of to_remote has to wait for a block, so no mempool has kept it: it is told of again.
    for claim in cheat.penalty_when("both claims", |penalty| penalty.claims.len() == 2).await.claims {
        if claim.state() != tower_claim::State::Claimed {
            wait_until("the other claim to be sent", || async {
                let penalties = stats(&cheat.rpc).await.penalties;
                let now =
                    penalties.iter().flat_map(|penalty| &penalty.claims).find(|one| one.outpoint == claim.outpoint);
                let waiting = mempool(&cheat.alice).await;
                Ok(now.is_some_and(|now| waiting.contains(&now.txid)))
            })
            .await
            .unwrap();
        }
    }
    cheat.alice.mine(1, Some(NOBODY)).await.unwrap();
    cheat.penalties_are_mined().await;
    cheat.wait_until_final().await;
}
