//! Channels that a transaction of the caller's funds (PSBT, BIP 174), and several channels by one transaction.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use bitcoin::{
    Amount, CompressedPublicKey, EcdsaSighashType, Network, OutPoint, PrivateKey, Psbt, ScriptBuf, Sequence,
    Transaction, TxIn, TxOut,
    absolute::LockTime,
    consensus,
    hashes::Hash as _,
    secp256k1::{Message, Secp256k1, SecretKey},
    sighash::SighashCache,
    transaction::Version,
};
use harness::{DEEP, Folder, MATURE, assert_calm, chain, fund, mempool, network::mine, open_request, refused};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::calls::succeeded,
};
use leyden_proto::{
    lnrpc::{
        BatchOpenChannel, BatchOpenChannelRequest, FundingPsbtFinalize, FundingPsbtVerify, FundingShim,
        FundingShimCancel, FundingTransitionMsg, OpenChannelRequest, OpenStatusUpdate, PsbtShim, ReadyForPsbtFunding,
        funding_shim::Shim, funding_transition_msg::Trigger, open_status_update::Update,
    },
    walletrpc::{self, wallet_kit_client::WalletKitClient},
};
use tonic::{Code, Status, Streaming};

const CAPACITY: i64 = 500_000;

/// A wallet elsewhere: one key, one coin.
struct Elsewhere {
    key: PrivateKey,
    script: ScriptBuf,
    coin: OutPoint,
    value: Amount,
}

impl Elsewhere {
    async fn funded(by: &DaemonProcess, seed: u8) -> Self {
        let key = PrivateKey::new(SecretKey::from_slice(&[seed; 32]).unwrap(), Network::Regtest);
        let public = CompressedPublicKey::from_private_key(&Secp256k1::new(), &key).unwrap();
        let script = ScriptBuf::new_p2wpkh(&public.wpubkey_hash());
        let value = Amount::from_sat(2_000_000);
        let coin = fund(by, &TxOut { value, script_pubkey: script.clone() }).await;
        Self { key, script, coin, value }
    }

    /// Adds the coin and the change to what the daemon wants to be paid.
    fn fund(&self, wanted: &[ReadyForPsbtFunding]) -> Psbt {
        let outputs = wanted.iter().map(|wanted| Psbt::deserialize(&wanted.psbt).unwrap().unsigned_tx.output.remove(0));
        let mut output: Vec<TxOut> = outputs.collect();
        let paid: Amount = output.iter().map(|output| output.value).sum();
        let change = self.value - paid - Amount::from_sat(2_000);
        output.push(TxOut { value: change, script_pubkey: self.script.clone() });
        let input = TxIn { previous_output: self.coin, sequence: Sequence::ENABLE_RBF_NO_LOCKTIME, ..TxIn::default() };
        let transaction = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output };
        let mut psbt = Psbt::from_unsigned_tx(transaction).unwrap();
        psbt.inputs[0].witness_utxo = Some(TxOut { value: self.value, script_pubkey: self.script.clone() });
        psbt
    }

    fn sign(&self, mut psbt: Psbt) -> Psbt {
        let secp = Secp256k1::new();
        let mut cache = SighashCache::new(&psbt.unsigned_tx);
        let digest = cache.p2wpkh_signature_hash(0, &self.script, self.value, EcdsaSighashType::All).unwrap();
        let signature = secp.sign_ecdsa(&Message::from(digest), &self.key.inner);
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
        psbt.inputs[0].partial_sigs.insert(self.key.public_key(&secp), signature);
        psbt
    }
}

/// Daemons on one chain; the first has a spendable block reward.
async fn nodes(folder: &Folder, names: &[&str]) -> Vec<DaemonProcess> {
    let mut nodes: Vec<DaemonProcess> = Vec::new();
    for name in names {
        let first = nodes.first().map(chain);
        let flags: Vec<&str> = first.iter().flat_map(|chain| ["--chain-connect", chain]).collect();
        let mut node = DaemonProcess::new(folder.path(), name, &flags).unwrap();
        node.start().await.unwrap();
        nodes.push(node);
    }
    nodes[0].mine(2, None).await.unwrap();
    mine(&nodes, MATURE).await;
    nodes
}

/// An opening that waits for its PSBT.
struct Opening {
    id: Vec<u8>,
    updates: Streaming<OpenStatusUpdate>,
    wanted: ReadyForPsbtFunding,
}

async fn request(peer: &DaemonProcess, id: &[u8], no_publish: bool) -> OpenChannelRequest {
    let shim = PsbtShim { pending_chan_id: id.to_vec(), base_psbt: Vec::new(), no_publish };
    OpenChannelRequest {
        sat_per_vbyte: 0,
        funding_shim: Some(FundingShim { shim: Some(Shim::PsbtShim(shim)) }),
        ..open_request(peer, CAPACITY, 0).await
    }
}

async fn open(node: &DaemonProcess, peer: &DaemonProcess, id: u8, no_publish: bool) -> Opening {
    let id = vec![id; 32];
    let request = request(peer, &id, no_publish).await;
    let mut updates = node.client().unwrap().lightning().open_channel(request).await.unwrap().into_inner();
    let update = updates.message().await.unwrap().unwrap();
    assert_eq!(update.pending_chan_id, id);
    let Some(Update::PsbtFund(wanted)) = update.update else { panic!("{update:?}") };
    assert_eq!(wanted.funding_amount, CAPACITY);
    Opening { id, updates, wanted }
}

impl Opening {
    /// The funding output, once the channel is pending.
    async fn pending(&mut self) -> OutPoint {
        match self.updates.message().await.unwrap().unwrap().update {
            Some(Update::ChanPending(pending)) => OutPoint {
                txid: bitcoin::Txid::from_byte_array(pending.txid.try_into().unwrap()),
                vout: pending.output_index,
            },
            other => panic!("{other:?}"),
        }
    }
}

async fn step(node: &DaemonProcess, trigger: Trigger) -> Result<(), Status> {
    let step = FundingTransitionMsg { trigger: Some(trigger) };
    node.client().unwrap().lightning().funding_state_step(step).await.map(drop)
}

async fn verify(node: &DaemonProcess, id: &[u8], psbt: &Psbt, skip_finalize: bool) -> Result<(), Status> {
    let (funded_psbt, pending_chan_id) = (psbt.serialize(), id.to_vec());
    step(node, Trigger::PsbtVerify(FundingPsbtVerify { funded_psbt, pending_chan_id, skip_finalize })).await
}

async fn finalize(node: &DaemonProcess, id: &[u8], psbt: &Psbt) -> Result<(), Status> {
    let (signed_psbt, pending_chan_id) = (psbt.serialize(), id.to_vec());
    step(node, Trigger::PsbtFinalize(FundingPsbtFinalize { signed_psbt, pending_chan_id, final_raw_tx: Vec::new() }))
        .await
}

async fn cancel(node: &DaemonProcess, id: &[u8]) -> Result<(), Status> {
    step(node, Trigger::ShimCancel(FundingShimCancel { pending_chan_id: id.to_vec() })).await
}

async fn pending_openings(node: &DaemonProcess) -> usize {
    node.pending_channels().await.unwrap().pending_open_channels.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_that_a_psbt_funds_open_together_and_pay() {
    let folder = Folder::new();
    let nodes = nodes(&folder, &["alice", "bob", "carol"]).await;
    let [alice, bob, carol] = &nodes[..] else { panic!() };
    alice.connect(bob).await.unwrap();
    alice.connect(carol).await.unwrap();
    let wallet = Elsewhere::funded(alice, 21).await;

    // As ln-service asks for it: all of them are to publish, and the same signed PSBT is shown at each step.
    let mut first = open(alice, bob, 1, false).await;
    let mut second = open(alice, carol, 2, false).await;
    let funded = wallet.fund(&[first.wanted.clone(), second.wanted.clone()]);
    let signed = wallet.sign(funded.clone());
    let wrong = wallet.sign(wallet.fund(&[second.wanted.clone()]));
    refused(verify(alice, &first.id, &wrong, false).await, Code::InvalidArgument, "funding output not found in PSBT");
    for opening in [&first, &second] {
        verify(alice, &opening.id, &signed, false).await.unwrap();
    }
    refused(finalize(alice, &first.id, &funded).await, Code::InvalidArgument, "error finalizing PSBT");
    refused(finalize(alice, &first.id, &wrong).await, Code::InvalidArgument, "outputs differ from verified PSBT");
    finalize(alice, &first.id, &signed).await.unwrap();
    let point = first.pending().await;
    assert!(mempool(alice).await.is_empty(), "the other channel has no commitment yet");
    finalize(alice, &second.id, &signed).await.unwrap();
    assert_eq!(second.pending().await.txid, point.txid);
    assert_eq!(mempool(alice).await, [point.txid.to_string()]);
    mine(&nodes, DEEP).await;
    for opening in [&mut first, &mut second] {
        let open = opening.updates.message().await.unwrap().unwrap();
        assert!(matches!(open.update, Some(Update::ChanOpen(_))), "{open:?}");
    }
    alice.wait_for_active_channels(2).await.unwrap();
    for payee in [bob, carol] {
        let invoice = payee.invoice(1_000, "tea").await.unwrap();
        assert!(succeeded(&alice.pay(invoice).await.unwrap()));
    }
    refused(cancel(alice, &first.id).await, Code::NotFound, "no funding intent found");
    for node in &nodes {
        assert_calm(node.name(), &node.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_psbt_that_its_user_publishes_funds_a_channel_and_a_cancelled_one_is_forgotten_by_both() {
    let folder = Folder::new();
    let mut nodes = nodes(&folder, &["alice", "bob"]).await;
    let [alice, bob] = &nodes[..] else { panic!() };
    alice.connect(bob).await.unwrap();
    let wallet = Elsewhere::funded(alice, 22).await;

    let mut gone = open(alice, bob, 1, true).await;
    let again = alice.client().unwrap().lightning().open_channel(request(bob, &gone.id, true).await).await;
    refused(again.map(drop), Code::AlreadyExists, "duplicate pending channel ID");
    cancel(alice, &gone.id).await.unwrap();
    refused(gone.updates.message().await, Code::FailedPrecondition, "user canceled funding");
    let psbt = wallet.fund(&[gone.wanted.clone()]);
    refused(verify(alice, &gone.id, &psbt, true).await, Code::NotFound, "no funding intent found for pendingChannelID");

    let mut opening = open(alice, bob, 2, true).await;
    let psbt = wallet.fund(&[opening.wanted.clone()]);
    verify(alice, &opening.id, &psbt, true).await.unwrap();
    let point = opening.pending().await;
    assert_eq!(point.txid, psbt.unsigned_tx.compute_txid());
    assert!(mempool(alice).await.is_empty());
    assert_eq!((pending_openings(alice).await, pending_openings(bob).await), (1, 1));

    // It is durable before it is told, and nothing publishes it but its user.
    nodes[0].kill();
    nodes[0].start().await.unwrap();
    let [alice, bob] = &nodes[..] else { panic!() };
    assert!(mempool(alice).await.is_empty());
    assert_eq!(pending_openings(alice).await, 1);
    refused(finalize(alice, &[2; 32], &psbt).await, Code::NotFound, "the daemon was restarted");
    let mut signed = wallet.sign(psbt);
    let secp = Secp256k1::new();
    let signature = signed.inputs[0].partial_sigs.values().next().unwrap().to_vec();
    let key = wallet.key.public_key(&secp).to_bytes();
    signed.unsigned_tx.input[0].witness = bitcoin::Witness::from_slice(&[signature, key]);
    let tx_hex = consensus::serialize(&signed.unsigned_tx);
    let mut wallet_kit: WalletKitClient<_> = alice.client().unwrap().wallet_kit();
    wallet_kit.publish_transaction(walletrpc::Transaction { tx_hex, label: String::new() }).await.unwrap();
    alice.connect(bob).await.unwrap();
    mine(&nodes, DEEP).await;
    let [alice, bob] = &nodes[..] else { panic!() };
    alice.wait_for_active_channels(1).await.unwrap();
    let invoice = bob.invoice(1_000, "tea").await.unwrap();
    assert!(succeeded(&alice.pay(invoice).await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_in_the_middle_of_a_psbt_funding_leaves_no_opening_behind() {
    let folder = Folder::new();
    let nodes = nodes(&folder, &["alice", "bob"]).await;
    let [alice, bob] = &nodes[..] else { panic!() };
    alice.connect(bob).await.unwrap();
    let wallet = Elsewhere::funded(alice, 23).await;
    let abandoned = open(alice, bob, 1, false).await;
    let verified = open(alice, bob, 2, false).await;
    let psbt = wallet.fund(std::slice::from_ref(&verified.wanted));
    verify(alice, &verified.id, &psbt, false).await.unwrap();
    let (left, kept) = (abandoned.id.clone(), verified.id.clone());
    let unfunded = wallet.fund(std::slice::from_ref(&abandoned.wanted));
    drop(abandoned);
    drop(verified);
    // A second call may come soon after; not for ever.
    wait_until("the opening to end", || async { Ok(alice.log().contains("hung up, and showed no transaction")) })
        .await
        .unwrap();
    refused(verify(alice, &left, &unfunded, false).await, Code::NotFound, "no funding intent found");
    wait_until("the peer to be told", || async { Ok(bob.log().contains("this channel is not funded")) }).await.unwrap();
    // One whose transaction was shown goes on without the stream, as with LND.
    finalize(alice, &kept, &wallet.sign(psbt)).await.unwrap();
    wait_until("the channel to be pending", || async { Ok(pending_openings(alice).await == 1) }).await.unwrap();
    wait_until("it to be published", || async { Ok(mempool(alice).await.len() == 1) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_opens_all_of_its_channels_or_none() {
    let folder = Folder::new();
    let nodes = nodes(&folder, &["alice", "bob", "carol"]).await;
    let [alice, bob, carol] = &nodes[..] else { panic!() };
    alice.connect(bob).await.unwrap();
    let of = async |peer: &DaemonProcess, amount: i64| BatchOpenChannel {
        node_pubkey: hex::decode(peer.node_id().await.unwrap()).unwrap(),
        local_funding_amount: amount,
        ..BatchOpenChannel::default()
    };
    let request = BatchOpenChannelRequest {
        channels: vec![of(bob, CAPACITY).await, of(carol, 2 * CAPACITY).await],
        sat_per_vbyte: 2,
        label: "two at once".to_owned(),
        ..BatchOpenChannelRequest::default()
    };
    let before = alice.wallet_balance().await.unwrap();
    let lightning = || alice.client().unwrap().lightning();
    let offline = lightning().batch_open_channel(request.clone()).await;
    refused(offline, Code::FailedPrecondition, "error batch opening channel, initial negotiation failed");
    wait_until("both to forget it", || async {
        Ok(pending_openings(alice).await == 0 && pending_openings(bob).await == 0)
    })
    .await
    .unwrap();
    assert_eq!(alice.wallet_balance().await.unwrap(), before);
    assert!(mempool(alice).await.is_empty());

    alice.connect(carol).await.unwrap();
    let too_small =
        BatchOpenChannelRequest { channels: vec![of(bob, CAPACITY).await, of(carol, 1).await], ..request.clone() };
    assert!(lightning().batch_open_channel(too_small).await.is_err());
    let opened = lightning().batch_open_channel(request).await.unwrap().into_inner().pending_channels;
    assert_eq!(opened.len(), 2);
    assert_eq!(opened[0].txid, opened[1].txid);
    assert_eq!(mempool(alice).await.len(), 1);
    mine(&nodes, DEEP).await;
    let [alice, ..] = &nodes[..] else { panic!() };
    alice.wait_for_active_channels(2).await.unwrap();
    let mut capacities: Vec<i64> = alice.channels().await.unwrap().iter().map(|channel| channel.capacity).collect();
    capacities.sort_unstable();
    assert_eq!(capacities, [CAPACITY, 2 * CAPACITY]);
    let labels: Vec<String> = alice.transactions().await.unwrap().into_iter().map(|tx| tx.label).collect();
    assert!(labels.contains(&"two at once".to_owned()), "{labels:?}");
}
