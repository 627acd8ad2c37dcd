//! What holds for each node after every commit.

use bitcoin::{Transaction, TxOut};
use leyden_channels::channel::{Channel, EstablishedSummary, StateName, Summary};
use leyden_channels::keys::Signer as _;
use leyden_channels::tx::HtlcSignatures;
use leyden_channels::types::{CommitmentNumber, Msat};
use leyden_consensus::script::{ScriptFlags, SpendingTx};

use super::node::Node;

/// `funding` is the output that the channel's commitments spend.
pub fn after_commit(node: &mut Node, funding: Option<&TxOut>) {
    let Some(live) = &node.channel else { return };
    let Some(summary) = live.summary() else { return };
    let Some(established) = &summary.established else { return };
    let stored = node.stored().expect("an established channel is durable");
    assert_eq!(durable(&stored), durable(live), "a restart finds what is in memory");
    // Nobody has lost data, so no lie may convince a node that it has.
    assert_ne!(summary.state, StateName::Lost);
    conserved(established, &summary);

    let number = established.local_commitment;
    let broadcast = node.broadcast.unwrap_or(number);
    assert!(node.released <= number.0.min(broadcast.0), "a commitment that may be broadcast is revoked");
    if node.executed != Some(number)
        && let Some(funding) = funding
    {
        execute_local_commitment(node, &stored, funding);
        node.executed = Some(number);
    }
}

/// What of a channel outlives a crash.
fn durable(channel: &Channel) -> impl PartialEq + std::fmt::Debug {
    let summary = channel.summary().expect("an established channel");
    let EstablishedSummary {
        funding,
        short_channel_id,
        local_balance,
        remote_balance,
        total_sent,
        total_received,
        feerate,
        htlcs,
        local_commitment,
        remote_commitment,
        funding_state,
        ..
    } = summary.established.expect("an established channel");
    (
        (summary.state, summary.spend, funding, short_channel_id, funding_state),
        (local_balance, remote_balance, total_sent, total_received, feerate),
        (htlcs, local_commitment, remote_commitment),
    )
}

fn conserved(established: &EstablishedSummary, summary: &Summary) {
    let amounts = established.htlcs.iter().map(|htlc| htlc.amount);
    let total = amounts.chain([established.local_balance, established.remote_balance]);
    let total = total.fold(Msat(0), |sum, amount| sum.checked_add(amount).expect("amounts of one channel"));
    assert_eq!(Some(total), Msat::from_sat(summary.capacity), "balances and HTLCs are the capacity");
}

/// Signs our latest commitment and its HTLC transactions from what is stored, and runs their scripts.
fn execute_local_commitment(node: &Node, stored: &Channel, funding: &TxOut) {
    let close = stored.local_close().expect("our own commitment").expect("the channel's state is current");
    assert_eq!(close.commitment.number, stored_number(stored));
    execute(&close.transaction, funding.clone());
    let paid: u64 = close.transaction.output.iter().map(|output| output.value.to_sat()).sum();
    assert!(paid <= funding.value.to_sat());

    let key = node.signer.htlc_key(&close.keys.per_commitment_point).expect("our own key");
    let mut signatures = close.htlc_signatures.iter();
    for htlc in close.commitment.htlc_txs() {
        let other = *signatures.next().expect("the peer has signed every HTLC transaction");
        let spent = TxOut { value: htlc.input_amount, script_pubkey: htlc.witness_script.to_p2wsh() };
        let owner = key.sign(&htlc.sighash_for_owner());
        let needs_preimage = htlc.tx.lock_time.to_consensus_u32() == 0;
        let preimage = super::world::preimage_of(&htlc.htlc.payment_hash);
        if needs_preimage && preimage.is_none() {
            // A liar has made the hash up; nobody knows its preimage.
            continue;
        }
        execute(&htlc.signed(&HtlcSignatures { owner, other }, preimage.as_ref()), spent);
    }
    assert!(signatures.next().is_none());
}

fn stored_number(channel: &Channel) -> CommitmentNumber {
    let established = channel.summary().and_then(|summary| summary.established);
    established.expect("an established channel").local_commitment
}

/// Runs the only input of a transaction.
pub fn execute(transaction: &Transaction, spent: TxOut) {
    let spending = SpendingTx::new(transaction, vec![spent]).expect("one input");
    spending.verify_input(0, ScriptFlags::STANDARD).unwrap_or_else(|error| panic!("{error}: {transaction:?}"));
}
