//! A node whose disk is gone: the 24 words and the channel backup bring all of its money back, the channels' too, as
//! long as the peers are there.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{fs, path::Path};

use leyden::inside::seed::{self, Seed};
use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use leyden_common::layout::Layout;
use leyden_proto::lnrpc::{
    ChanBackupExportRequest, Channel, ChannelBackupSubscription, ClosedChannelsRequest, CommitmentType, GetInfoRequest,
    PendingChannelsRequest, RestoreChanBackupRequest, WalletBalanceRequest, channel_close_summary::ClosureType,
    restore_chan_backup_request::Backup,
};
use tonic::Code;

use harness::{DEEP, Folder, MATURE, Program, assert_calm, chain, height, leyden, mempool, open_request, refused};

const CAPACITY: i64 = 2_000_000;
const PUSHED: i64 = 700_000;
/// Blocks that Bob waits for his own part.
const DELAY: u32 = 20;
/// Blocks after which a closed channel is forgotten.
const FINAL: u32 = 100;

fn layout(data_dir: &Path) -> Layout {
    Layout::new(data_dir.to_owned(), "regtest")
}

async fn balance(client: &Client) -> i64 {
    client.lightning().wallet_balance(WalletBalanceRequest::default()).await.unwrap().into_inner().total_balance
}

/// Mines for nobody and waits until the other one has seen it.
async fn mine(bob: &DaemonProcess, blocks: u32, alice: &Client) {
    bob.mine(blocks, Some(NOBODY)).await.unwrap();
    let height = height(bob).await;
    bob.wait_for_height(height).await.unwrap();
    wait_until("Alice to follow", || async {
        let info = alice.lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner();
        Ok(info.block_height >= height && info.wallet_synced)
    })
    .await
    .unwrap();
}

/// Two nodes with a channel that has something on both sides, and a history.
struct Used {
    folder: Folder,
    bob: DaemonProcess,
    alice: DaemonProcess,
    words: Seed,
    flags: [String; 4],
    channel: Channel,
}

impl Used {
    async fn new(kind: CommitmentType) -> Self {
        let folder = Folder::new();
        let mut bob = DaemonProcess::new(folder.path(), "bob", &[]).unwrap();
        bob.start().await.unwrap();
        let flags =
            ["--chain-connect", &chain(&bob), "--to-self-delay", &DELAY.to_string()].map(|flag| flag.to_owned());
        let mut alice = DaemonProcess::new(folder.path(), "alice", &flags.each_ref().map(String::as_str)).unwrap();
        let words = Seed::from_entropy([kind as u8 + 42; 32], "");
        seed::save(&layout(alice.data_dir()).wallet_seed(), &words, None).unwrap();
        alice.start().await.unwrap();
        alice.mine(1, None).await.unwrap();
        bob.wait_for_height(1).await.unwrap();
        let client = alice.client().unwrap();
        mine(&bob, MATURE, client).await;

        let subscription = ChannelBackupSubscription {};
        let mut updates = client.lightning().subscribe_channel_backups(subscription).await.unwrap().into_inner();
        let before = updates.message().await.unwrap().unwrap();
        assert!(before.single_chan_backups.unwrap().chan_backups.is_empty());
        alice.connect(&bob).await.unwrap();
        let mut request = open_request(&bob, CAPACITY, PUSHED).await;
        request.commitment_type = kind.into();
        client.lightning().open_channel_sync(request).await.unwrap();
        let now = updates.message().await.unwrap().unwrap();
        assert_eq!(now.single_chan_backups.unwrap().chan_backups.len(), 1, "before the funding confirms");
        wait_until("the funding to reach Bob", || async { Ok(mempool(&bob).await.len() == 1) }).await.unwrap();
        mine(&bob, DEEP, client).await;
        alice.wait_for_active_channels(1).await.unwrap();
        bob.wait_for_active_channels(1).await.unwrap();
        for _ in 0..3 {
            alice.pay(bob.invoice(50_000, "there").await.unwrap()).await.unwrap();
            bob.pay(alice.invoice(20_000, "and back").await.unwrap()).await.unwrap();
        }
        wait_until("the last update", || async {
            let (a, b) = (alice.only_channel().await?, bob.only_channel().await?);
            Ok(a.pending_htlcs.is_empty() && b.pending_htlcs.is_empty() && a.local_balance == b.remote_balance)
        })
        .await
        .unwrap();
        let channel = alice.only_channel().await.unwrap();
        assert_eq!(channel.remote_balance, PUSHED + 3 * 30_000);
        assert_eq!(channel.commitment_type(), kind);
        Self { folder, bob, alice, words, flags, channel }
    }
}

async fn restored_from_seed_and_backup(kind: CommitmentType) {
    let Used { folder, bob, mut alice, words, flags, channel } = Used::new(kind).await;
    let flags = flags.each_ref().map(String::as_str);
    let client = alice.client().unwrap();

    // The backup is exported, and is what the daemon keeps by itself.
    let kept = layout(alice.data_dir()).channel_backup();
    let elsewhere = folder.path().join("stick.backup");
    leyden(alice.data_dir(), &["exportchanbackup", "--output-file", elsewhere.to_str().unwrap()]);
    for file in [&kept, &elsewhere] {
        let said = leyden(alice.data_dir(), &["verifychanbackup", file.to_str().unwrap()]);
        assert!(said.contains(&channel.channel_point), "{said}");
    }
    let foreign = bob.client().unwrap().lightning().export_all_channel_backups(ChanBackupExportRequest {}).await;
    let foreign = foreign.unwrap().into_inner().multi_chan_backup.unwrap().multi_chan_backup;
    let request = RestoreChanBackupRequest { backup: Some(Backup::MultiChanBackup(foreign)) };
    refused(client.lightning().restore_channel_backups(request).await, Code::InvalidArgument, "another seed");
    let ours = RestoreChanBackupRequest { backup: Some(Backup::MultiChanBackup(fs::read(&elsewhere).unwrap())) };
    let none = client.lightning().restore_channel_backups(ours.clone()).await.unwrap().into_inner();
    assert_eq!(none.num_restored, 0, "the channel is here");

    // The disk is gone.
    let had = balance(client).await;
    assert_calm("alice", &alice.log());
    alice.kill();
    fs::remove_dir_all(alice.data_dir()).unwrap();

    // On an empty one: seed and backup.
    let empty = folder.path().join("alice-again");
    let mut again = Program::start(&empty, &flags);
    let client = again.client().await;
    let (words_file, password) = (folder.path().join("words"), folder.path().join("password"));
    fs::write(&words_file, words.words().join(" ")).unwrap();
    fs::write(&password, "a new password").unwrap();
    drop(client);
    leyden(
        &empty,
        &[
            "create",
            "--words-file",
            words_file.to_str().unwrap(),
            "--password-file",
            password.to_str().unwrap(),
            "--multi_file",
            elsewhere.to_str().unwrap(),
        ],
    );
    let client = again.client().await;
    let twice = client.lightning().restore_channel_backups(ours.clone()).await.unwrap().into_inner();
    assert_eq!(twice.num_restored, 0, "it is restored already");

    // Bob is found, closes at once, and Alice never broadcasts anything of the channel.
    wait_until("Bob's commitment", || async { Ok(mempool(&bob).await.len() == 1) }).await.unwrap();
    let [commitment] = mempool(&bob).await.try_into().unwrap();
    mine(&bob, 1, &client).await;
    let pending =
        || async { client.lightning().pending_channels(PendingChannelsRequest::default()).await.unwrap().into_inner() };
    wait_until("Alice to see the close", || async {
        let closing = pending().await.pending_force_closing_channels;
        Ok(closing.first().is_some_and(|closing| closing.closing_txid == commitment))
    })
    .await
    .unwrap();
    assert_eq!(pending().await.pending_force_closing_channels[0].limbo_balance, channel.local_balance);
    wait_until("Alice's sweep", || async { Ok(mempool(&bob).await.len() == 1) }).await.unwrap();
    let [sweep] = mempool(&bob).await.try_into().unwrap();
    mine(&bob, 1, &client).await;
    let found = client.chain().get_transaction(leyden_proto::leyden::GetTransactionRequest { txid: sweep }).await;
    let found = found.unwrap().into_inner();
    assert_eq!(found.inputs.len(), 1);
    assert!(found.inputs[0].outpoint.starts_with(&commitment));
    let swept = found.outputs.iter().map(|output| i64::try_from(output.amount_sat).unwrap()).sum::<i64>();
    let fee = channel.local_balance - swept;
    assert!((100..10_000).contains(&fee), "a fee of {fee}");
    wait_until("the money to be in the wallet", || async { Ok(balance(&client).await == had + swept) }).await.unwrap();

    // Bob gets his part after the delay that Alice had asked for.
    let bobs = balance(bob.client().unwrap()).await;
    assert_eq!(bobs, 0);
    for _ in 0..DELAY + 2 {
        mine(&bob, 1, &client).await;
    }
    wait_until("Bob's part", || async {
        let has = balance(bob.client()?).await;
        // His claim may have come just after the last block.
        if !mempool(&bob).await.is_empty() {
            mine(&bob, 1, &client).await;
        }
        Ok(has > channel.remote_balance - 10_000 && has <= channel.remote_balance)
    })
    .await
    .unwrap();

    // In the end the channel is one of the past, and no backup holds it.
    mine(&bob, FINAL, &client).await;
    wait_until("the end of it", || async {
        let closed = client.lightning().closed_channels(ClosedChannelsRequest::default()).await.unwrap().into_inner();
        Ok(closed
            .channels
            .iter()
            .any(|closed| closed.close_type() == ClosureType::RemoteForceClose && closed.settled_balance == swept))
    })
    .await
    .unwrap();
    let kept = layout(&empty).channel_backup();
    let kept = kept.to_str().unwrap();
    wait_until("the backup to forget the channel", || async {
        Ok(leyden(&empty, &["verifychanbackup", kept]).contains("no channel"))
    })
    .await
    .unwrap();
    let late = client.lightning().restore_channel_backups(ours).await.unwrap().into_inner();
    assert_eq!(late.num_restored, 0, "it has ended");
    assert_calm("alice", &again.log());
    assert_calm("bob", &bob.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_and_backup_bring_the_money_home_anchors() {
    restored_from_seed_and_backup(CommitmentType::Anchors).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_and_backup_bring_the_money_home_static_remotekey() {
    restored_from_seed_and_backup(CommitmentType::StaticRemoteKey).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_file_outlives_the_database_and_is_never_overwritten_with_less() {
    let Used { folder: _folder, mut bob, mut alice, channel, .. } = Used::new(CommitmentType::Anchors).await;
    alice.kill();
    bob.kill();
    fs::remove_dir_all(layout(alice.data_dir()).node_database()).unwrap();
    let kept = layout(alice.data_dir()).channel_backup();
    // Two starts without the channel: its backup stays.
    for _ in 0..2 {
        alice.start().await.unwrap();
        assert!(alice.channels().await.unwrap().is_empty());
        let said = leyden(alice.data_dir(), &["verifychanbackup", kept.to_str().unwrap()]);
        assert!(said.contains(&channel.channel_point), "{said}");
        alice.kill();
    }
    alice.start().await.unwrap();
    let said = leyden(alice.data_dir(), &["restorechanbackup", kept.to_str().unwrap()]);
    assert!(said.contains("1 channels and swaps are restored"), "{said}");
    let refusal = alice.close_channel(&channel.channel_point, true).await.unwrap_err().to_string();
    assert!(refusal.contains("we have only a backup of it"), "{refusal}");
    // Another restart before the peer is there.
    alice.kill();
    alice.start().await.unwrap();
    bob.start().await.unwrap();
    wait_until("Bob's commitment", || async { Ok(mempool(&bob).await.len() == 1) }).await.unwrap();
    // To wish for a close that is under way already does no harm.
    wait_until("the wish to be taken", || async {
        Ok(alice.close_channel(&channel.channel_point, true).await.is_ok())
    })
    .await
    .unwrap();
    mine(&bob, 1, alice.client().unwrap()).await;
    wait_until("Alice's sweep", || async { Ok(mempool(&bob).await.len() == 1) }).await.unwrap();
    assert_calm("alice", &alice.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_keeps_the_backup_for_a_node_that_has_nothing_but_its_words() {
    let Used { folder, bob, mut alice, words, flags, channel } = Used::new(CommitmentType::Anchors).await;
    let had = balance(alice.client().unwrap()).await;
    alice.kill();
    fs::remove_dir_all(alice.data_dir()).unwrap();

    let flags = flags.each_ref().map(String::as_str);
    let mut again = DaemonProcess::new(folder.path(), "alice-again", &flags).unwrap();
    seed::save(&layout(again.data_dir()).wallet_seed(), &words, None).unwrap();
    again.start().await.unwrap();
    let client = again.client().unwrap();
    mine(&bob, 1, client).await;
    again.connect(&bob).await.unwrap();
    let kept = layout(again.data_dir()).channel_backup();
    wait_until("the backup to come back", || async {
        let said = leyden(again.data_dir(), &["verifychanbackup", kept.to_str().unwrap()]);
        Ok(said.contains(&channel.channel_point))
    })
    .await
    .unwrap();
    for command in ["getinfo", "recoveryinfo"] {
        let said = leyden(again.data_dir(), &[command]);
        assert!(said.contains(&channel.channel_point) && said.contains("restorechanbackup"), "{said}");
    }
    leyden(again.data_dir(), &["restorechanbackup", kept.to_str().unwrap()]);
    let said = leyden(again.data_dir(), &["recoveryinfo"]);
    assert!(!said.contains(&channel.channel_point), "{said}");
    // Bob's commitment, and the sweep of what is Alice's.
    for what in ["Bob's commitment", "Alice's sweep"] {
        wait_until(what, || async { Ok(mempool(&bob).await.len() == 1) }).await.unwrap();
        mine(&bob, 1, client).await;
    }
    wait_until("the money to be in the wallet", || async {
        let has = balance(client).await;
        Ok(has > had + channel.local_balance - 10_000 && has < had + channel.local_balance)
    })
    .await
    .unwrap();
    assert_calm("alice", &again.log());
    assert_calm("bob", &bob.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_window_looks_at_the_whole_chain_again() {
    let folder = Folder::new();
    let words = Seed::from_entropy([99; 32], "");
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).block_hash();
    let address = |index: u32| {
        let path: bitcoin::bip32::DerivationPath = format!("m/84'/1'/0'/0/{index}").parse().unwrap();
        let key =
            words.root_key(bitcoin::NetworkKind::Test, &genesis).derive_priv(secp256k1::SECP256K1, &path).unwrap();
        let key = bitcoin::CompressedPublicKey(key.private_key.public_key(secp256k1::SECP256K1));
        bitcoin::Address::p2wpkh(&key, bitcoin::Network::Regtest).to_string()
    };
    let data_dir = folder.path().join("alice");
    let (words_file, password) = (folder.path().join("words"), folder.path().join("password"));
    fs::write(&words_file, words.words().join(" ")).unwrap();
    fs::write(&password, "a good password").unwrap();
    let password = password.to_str().unwrap();
    let mut node = Program::start(&data_dir, &[]);
    drop(node.client().await);
    let words_file = words_file.to_str().unwrap();
    let created = ["create", "--words-file", words_file, "--password-file", password, "--recovery-window", "300"];
    assert!(leyden(&data_dir, &created).contains("leyden recoveryinfo"));
    // Beyond what is looked at by itself.
    leyden(&data_dir, &["chain", "generate", "1", "--to", &address(600)]);
    leyden(&data_dir, &["chain", "generate", "3", "--to", NOBODY]);
    leyden(&data_dir, &["chain", "generate", "1", "--to", &address(3_000)]);
    assert_eq!(balance(&node.client().await).await, 0);

    node.stop().await;
    let mut node = Program::start(&data_dir, &[]);
    drop(node.client().await);
    leyden(&data_dir, &["unlock", "--password-file", password, "--recovery-window", "1000"]);
    let client = node.client().await;
    wait_until("the first coin", || async { Ok(immature(&client).await == 5_000_000_000) }).await.unwrap();
    let said = leyden(&data_dir, &["recoveryinfo"]);
    assert!(said.contains("leyden rescan --recovery-window 4000"), "the coin lay near the edge: {said}");
    leyden(&data_dir, &["rescan", "--recovery-window", "4000"]);
    assert_eq!(immature(&client).await, 10_000_000_000);
    // It goes on with the chain.
    leyden(&data_dir, &["chain", "generate", "1", "--to", &address(0)]);
    wait_until("the next coin", || async { Ok(immature(&client).await == 15_000_000_000) }).await.unwrap();
    assert_calm("alice", &node.log());
}

/// What was mined, from `listchaintxns`: it is not in the balance yet.
async fn immature(client: &Client) -> i64 {
    let request = leyden_proto::lnrpc::GetTransactionsRequest::default();
    let known = client.lightning().get_transactions(request).await.unwrap().into_inner();
    known.transactions.iter().filter(|known| known.num_confirmations > 0).map(|known| known.amount).sum()
}
