use bitcoin::{ScriptBuf, hashes::Hash as _};

use super::*;
use crate::wallet::{
    onchain::Coins,
    psbt_funding::{
        Selection,
        tests::{funding, template, wallet_with},
    },
};

fn elsewhere() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros())
}

/// Pays 150,000 with a P2WPKH coin and a P2TR coin.
fn funded(wallet: &OnchainWallet) -> Psbt {
    wallet.fund_psbt(funding(template(&[(elsewhere(), 150_000)], &[]), Selection::Whole)).unwrap().psbt
}

fn place_of(wallet: &OnchainWallet, psbt: &Psbt, kind: AddressKind) -> usize {
    let state = wallet.lock();
    let is_it = |input: &TxIn| state.wallet.txout(input.previous_output).unwrap().0.kind == kind;
    psbt.unsigned_tx.input.iter().position(is_it).unwrap()
}

#[test]
fn coins_of_both_kinds_are_signed_told_and_made_a_transaction_that_holds() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let mut psbt = funded(&wallet);
    assert_eq!(wallet.sign_psbt(&mut psbt).unwrap(), [0, 1]);
    let (done, transaction) = wallet.finalize_psbt(psbt).unwrap();
    assert!(transaction.input.iter().all(|input| !input.witness.is_empty()));
    let again = wallet.finalize_psbt(done).unwrap_err();
    assert_eq!(again.to_string(), "PSBT is already fully signed");
}

#[test]
fn an_amount_that_is_not_the_coins_is_refused() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let fresh = funded(&wallet);
    for kind in AddressKind::ALL {
        let at = place_of(&wallet, &fresh, kind);
        let mut psbt = fresh.clone();
        psbt.inputs[at].non_witness_utxo = None;
        psbt.inputs[at].witness_utxo.as_mut().unwrap().value = Amount::from_sat(99_000);
        let refused = wallet.sign_psbt(&mut psbt).unwrap_err();
        assert!(matches!(refused, PsbtError::WrongUtxo { at: wrong } if wrong == at), "{refused}");
        let mut psbt = fresh.clone();
        psbt.inputs[at].witness_utxo = None;
        psbt.inputs[at].non_witness_utxo = None;
        let refused = wallet.sign_psbt(&mut psbt).unwrap_err().to_string();
        assert_eq!(refused, format!("input (index={at}) doesn't specify any UTXO info"));
    }
    // The parent is another transaction's.
    let at = place_of(&wallet, &fresh, AddressKind::SegwitV0);
    let mut psbt = fresh;
    psbt.inputs[at].non_witness_utxo.as_mut().unwrap().lock_time = bitcoin::absolute::LockTime::from_consensus(77);
    assert!(matches!(wallet.sign_psbt(&mut psbt), Err(PsbtError::WrongUtxo { .. })));
}

#[test]
fn inputs_of_others_are_left_alone_and_have_to_be_signed_before_the_end() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let coin = wallet.unspent()[0].outpoint;
    let theirs = OutPoint { txid: bitcoin::Txid::from_byte_array([9; 32]), vout: 3 };
    let mut psbt = template(&[(elsewhere(), 110_000)], &[theirs, coin]);
    let script = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([3; 20]));
    psbt.inputs[0].witness_utxo = Some(TxOut { value: Amount::from_sat(30_000), script_pubkey: script });
    let ours = wallet.unspent()[0].clone();
    psbt.inputs[1].witness_utxo = Some(TxOut { value: ours.amount, script_pubkey: ours.script_pubkey });
    assert_eq!(wallet.sign_psbt(&mut psbt).unwrap(), [1]);
    assert_eq!(psbt.inputs[0].partial_sigs.len(), 0);
    let refused = wallet.finalize_psbt(psbt).unwrap_err();
    assert!(matches!(refused, PsbtError::NotFinal { at: 0, .. }), "{refused}");
}

#[test]
fn coins_of_a_channel_that_opens_and_coins_that_are_spent_are_not_signed_away() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let psbt = funded(&wallet);
    for (coin, _, lease) in wallet.leases() {
        wallet.end_lease(&coin, &lease.id).unwrap();
    }
    let to = [(elsewhere(), Amount::from_sat(120_000))];
    let opening = wallet.pay(&to, bitcoin::FeeRate::BROADCAST_MIN, &Coins::default()).unwrap();
    let refused = wallet.sign_psbt(&mut psbt.clone()).unwrap_err();
    assert!(matches!(refused, PsbtError::SetAside { .. }), "{refused}");
    wallet.transaction_seen(opening.clone(), 5).unwrap();
    let refused = wallet.sign_psbt(&mut psbt.clone()).unwrap_err();
    assert!(matches!(refused, PsbtError::Spent { by, .. } if by == opening.compute_txid()), "{refused}");
}

#[test]
fn a_signature_that_leaves_open_where_the_coin_goes_is_refused() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let fresh = funded(&wallet);
    for at in [0, 1] {
        for asked in [bitcoin::EcdsaSighashType::None, bitcoin::EcdsaSighashType::SinglePlusAnyoneCanPay] {
            let mut psbt = fresh.clone();
            psbt.inputs[at].sighash_type = Some(asked.into());
            let refused = wallet.sign_psbt(&mut psbt).unwrap_err();
            assert!(matches!(refused, PsbtError::Sighash { .. }), "{refused}");
        }
        let mut psbt = fresh.clone();
        psbt.inputs[at].sighash_type = Some(bitcoin::EcdsaSighashType::All.into());
        wallet.finalize_psbt(psbt).unwrap();
    }
}

#[test]
fn what_nobody_would_relay_is_not_verified_signed_or_paid_for() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let outputs: Vec<_> = (0..2_500).map(|_| (elsewhere(), 1_000)).collect();
    let refused = wallet.fund_psbt(funding(template(&outputs, &[]), Selection::Whole)).unwrap_err();
    assert!(matches!(refused, PsbtError::TooHeavy { .. }), "{refused}");
    let mut psbt = funded(&wallet);
    let output = psbt.unsigned_tx.output[0].clone();
    psbt.unsigned_tx.output.resize(4_000, output);
    psbt.outputs.resize(4_000, psbt::Output::default());
    assert!(matches!(wallet.sign_psbt(&mut psbt), Err(PsbtError::TooHeavy { .. })));
    assert!(matches!(wallet.finalize_psbt(psbt), Err(PsbtError::TooHeavy { .. })));
}
