//! What holds after every step.

use std::collections::BTreeMap;

use bitcoin::{Amount, Transaction, TxOut, Txid};
use leyden_consensus::script::{ScriptFlags, SpendingTx};

use super::harness::{TestChannel, Who};
use crate::channel::commitment::changes::Update;
use crate::channel::commitment::{Commitments, limits};
use crate::channel::record::{self, Rows};
use crate::channel::state::Established;
use crate::channel::*;
use crate::tx::{CommitmentTx, HtlcSignatures, fee};
use crate::types::*;

/// Which of a node's commitments have been executed already.
#[derive(Clone, Debug, Default)]
pub(crate) struct Executed {
    latest: Option<CommitmentNumber>,
    pub commitments: usize,
    pub htlcs: usize,
    /// The node's own commitments that it had.
    txids: BTreeMap<CommitmentNumber, Txid>,
}

/// Checks a node whose store has just been committed to.
pub(crate) fn after_commit(test: &mut TestChannel, who: Who) {
    let Some(channel) = test[who].channel.established() else { return };
    channel.commitments.check_conserved(&channel.terms).unwrap();
    record_round_trips(test, who);
    if channel_is_only_a_backup(test, who) {
        return;
    }
    execute_local_commitment(test, who);
}

fn channel_is_only_a_backup(test: &TestChannel, who: Who) -> bool {
    test[who].established().knowledge() == state::Knowledge::Nothing
}

/// What a restart would find is what the node has in memory, but for what a lost connection loses.
fn record_round_trips(test: &TestChannel, who: Who) {
    let node = &test[who];
    let channel = node.established();
    let rows = Rows::collect(node.live_rows()).unwrap();
    assert_eq!(record::decode_terms(&rows.terms.unwrap()).unwrap(), channel.terms);
    let signatures = record::decode_signatures(&rows.signatures.unwrap()).unwrap();
    let secrets = record::decode_secrets(&rows.secrets.unwrap()).unwrap();
    let bytes = rows.state.unwrap();
    let restored = record::decode_state(&bytes, rows.htlcs, signatures, secrets).unwrap();

    assert_eq!(bytes, record::encode_state(channel), "{who:?} did not write its latest state");
    assert_eq!(without_onions(restored.commitments), without_onions(durable(channel.commitments.clone())));
    assert_eq!(restored.phase.name(), channel.phase.name());
    assert_eq!(restored.short_channel_id, channel.short_channel_id);
    assert_eq!(restored.aliases, channel.aliases);
    assert_eq!(restored.funding_transaction, channel.funding_transaction);
    assert_eq!(restored.funding_state, channel.funding_state);
    let inputs = rows.funding_inputs.map_or(Vec::new(), |bytes| record::decode_inputs(&bytes).unwrap());
    assert_eq!(inputs, channel.funding_inputs);
    assert_eq!(restored.queued, channel.towers.queued);
}

fn durable(mut commitments: Commitments) -> Commitments {
    commitments.forget_uncommitted();
    commitments.local_changes.proposed.clear();
    commitments
}

fn without_onions(mut commitments: Commitments) -> Commitments {
    for details in commitments.details.values_mut() {
        details.onion = None;
        details.preimage_told = false;
        details.must_fail = false;
    }
    commitments
}

/// A commitment of the peer's was signed: where towers are required, they had every revoked state by then.
pub(crate) fn signed_with_towers(test: &mut TestChannel, who: Who) {
    let next = test[who].commitments().remote.next().map(|next| next.number);
    let node = &mut test[who];
    let again = next.is_none() || next <= node.towers.signed;
    node.towers.signed = node.towers.signed.max(next);
    if again || node.towers.policy != TowerPolicy::Require {
        return;
    }
    let queued = node.store.rows.keys().filter_map(|key| match key {
        Key::TowerBackup { number, .. } => Some(*number),
        _ => None,
    });
    assert!(queued.max() <= node.towers.told, "{who:?} signed {next:?} before its towers had the state before");
}

/// What was queued is the peer's commitment as it had it.
pub(crate) fn queued_for_towers(test: &mut TestChannel, who: Who, number: CommitmentNumber) {
    let channel = test[who].channel.id();
    let Some(row) = test[who].store.rows.get(&Key::TowerBackup { channel, number }) else {
        assert!(Some(number) <= test[who].towers.held, "{number:?} is neither queued nor with the towers");
        return;
    };
    let state = decode_revoked(row).unwrap();
    assert_eq!((state.number, record::encode_revoked(&state)), (number, row.clone()));
    let Established { terms, commitments, .. } = test[who].established();
    let commitment = state.commitment(terms, &commitments.secrets.get(number).unwrap()).unwrap();
    if let Some(txid) = test[who.other()].executed.txids.get(&number) {
        assert_eq!(commitment.txid, *txid, "{who:?} queued another state {number:?} than the peer had");
        test[who].towers.rebuilt += 1;
    }
}

/// Signs and executes the node's latest commitment and every HTLC transaction on it, and accounts for every satoshi.
fn execute_local_commitment(test: &mut TestChannel, who: Who) {
    let number = test[who].commitments().local.number;
    if test[who].executed.latest == Some(number) || test[who].channel.state_name() == StateName::Lost {
        return;
    }
    let close = test[who].channel.local_close().unwrap().unwrap();
    let (_, funding_output) = test.funding_output();
    execute(&close.transaction, vec![funding_output]);
    account(test, who, &close.commitment);

    let key = test[who].signer.htlc_key(&close.keys.per_commitment_point).unwrap();
    let mut signatures = close.htlc_signatures.iter();
    let mut count = 0;
    for htlc in close.commitment.htlc_txs() {
        let other = *signatures.next().expect("a signature for each HTLC");
        let spent = TxOut { value: htlc.input_amount, script_pubkey: htlc.witness_script.to_p2wsh() };
        let owner = key.sign(&htlc.sighash_for_owner());
        let preimage = test.preimages.get(&htlc.htlc.payment_hash).copied();
        let transaction = htlc.signed(&HtlcSignatures { owner, other }, preimage.as_ref());
        execute(&transaction, vec![spent]);
        count += 1;
    }
    assert!(signatures.next().is_none());
    let executed = &mut test[who].executed;
    executed.latest = Some(number);
    executed.txids.insert(number, close.commitment.txid);
    executed.commitments += 1;
    executed.htlcs += count;
}

/// Capacity = outputs + fee, and the fee is what BOLT 3 says: base fee, trimmed HTLCs, dust, and fractions.
fn account(test: &TestChannel, who: Who, commitment: &CommitmentTx) {
    let channel = test[who].established();
    let (terms, spec) = (&channel.terms, &channel.commitments.local.spec);
    assert_eq!(spec.total(), Some(terms.capacity_msat()));
    let kind = terms.commitment_type();
    let dust_limit = terms.sides.local.dust_limit.to_sat();
    let opener_balance = spec.balance.of(terms.opener).floor_sat().to_sat();
    let other_balance = spec.balance.of(terms.opener.other()).floor_sat().to_sat();
    let untrimmed = limits::untrimmed(spec, terms, Side::Local);
    assert_eq!(untrimmed, commitment.htlc_count());

    let base = fee::commitment_fee(kind, spec.feerate, untrimmed).to_sat();
    let cost = base + fee::anchors_cost(kind).to_sat();
    let opener_output = opener_balance.saturating_sub(cost);
    let kept = |amount: u64| if amount >= dust_limit { amount } else { 0 };
    let outputs: u64 = commitment.tx.output.iter().map(|output| output.value.to_sat()).sum();
    let anchors =
        commitment.tx.output.iter().filter(|output| output.value == Amount::from_sat(330)).count() as u64 * 330;
    let htlcs: u64 = commitment.htlc_txs().map(|htlc| htlc.input_amount.to_sat()).sum();
    assert_eq!(outputs, kept(opener_output) + kept(other_balance) + htlcs + anchors);
    assert!(outputs <= terms.capacity.to_sat());
    // The reserve keeps the opener able to pay the anchors, at least.
    assert!(opener_balance >= fee::anchors_cost(kind).to_sat());
}

/// Executes a transaction that spends the funding output; others are the wallet's.
pub(crate) fn execute_broadcast(test: &TestChannel, transaction: &Transaction) {
    let (funding, output) = test.funding_output();
    if transaction.input.iter().any(|input| input.previous_output == funding) {
        execute(transaction, vec![output]);
    }
}

pub(crate) fn execute(transaction: &Transaction, spent: Vec<TxOut>) {
    let spending = SpendingTx::new(transaction, spent).unwrap();
    for index in 0..transaction.input.len() {
        spending.verify_input(index, ScriptFlags::STANDARD).unwrap_or_else(|error| panic!("input {index}: {error}"));
    }
}

/// What a commitment holds, seen from the other end.
pub(crate) fn mirrored(spec: &CommitmentSpec) -> CommitmentSpec {
    let htlcs = spec.htlcs().iter().map(|htlc| Htlc { offered_by: htlc.offered_by.other(), ..*htlc }).collect();
    let balance = Sides { local: spec.balance.remote, remote: spec.balance.local };
    CommitmentSpec::with_htlcs(balance, spec.feerate, htlcs).unwrap()
}

/// How many updates of each kind are on their way, for messages about a failed schedule.
pub(crate) fn pending(commitments: &Commitments) -> String {
    let count = |updates: &[Update]| updates.len();
    format!(
        "local {}/{}/{} remote {}/{}/{}",
        count(&commitments.local_changes.proposed),
        count(&commitments.local_changes.signed),
        count(&commitments.local_changes.acked),
        count(&commitments.remote_changes.proposed),
        count(&commitments.remote_changes.acked),
        count(&commitments.remote_changes.signed),
    )
}
