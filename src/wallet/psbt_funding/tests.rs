use bitcoin::{ScriptBuf, absolute::LockTime, hashes::Hash as _, transaction::Version};

use super::*;
use crate::wallet::onchain::{
    Coins,
    tests::{MemoryLog, next_block, open_with, payment},
};

fn elsewhere() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros())
}

/// A wallet with a coin of each amount, of the kinds in turn.
pub(in crate::wallet) fn wallet_with(amounts: &[u64]) -> OnchainWallet {
    let wallet = open_with(&MemoryLog::default(), 10);
    let mut paid = Vec::new();
    for (salt, amount) in (0..).zip(amounts) {
        let kind = if salt % 2 == 0 { AddressKind::SegwitV0 } else { AddressKind::Taproot };
        paid.push(payment(wallet.new_address(kind).unwrap().script_pubkey(), *amount, salt));
    }
    wallet.block_connected(&next_block(wallet.tip().1, 1, paid), 1).unwrap();
    wallet
}

pub(in crate::wallet) fn template(outputs: &[(ScriptBuf, u64)], inputs: &[OutPoint]) -> Psbt {
    let output =
        |(script, sat): &(ScriptBuf, u64)| TxOut { value: Amount::from_sat(*sat), script_pubkey: script.clone() };
    Psbt::from_unsigned_tx(Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(|coin| TxIn { previous_output: *coin, ..TxIn::default() }).collect(),
        output: outputs.iter().map(output).collect(),
    })
    .unwrap()
}

pub(in crate::wallet) fn funding(template: Psbt, selection: Selection) -> PsbtFunding {
    PsbtFunding {
        template,
        selection,
        rate: FeeRate::from_sat_per_vb(2).unwrap(),
        min_confirmations: 1,
        reserve: Reserve::Keep,
        change: AddressKind::SegwitV0,
        max_fee_ratio: None,
        lease: Lease { id: [7; 32], until: 600 },
        time: Duration::from_secs(600),
    }
}

fn fee(psbt: &Psbt) -> u64 {
    psbt.fee().unwrap().to_sat()
}

#[test]
fn what_a_psbt_was_funded_with_is_leased_and_a_second_one_gets_other_coins() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let to = template(&[(elsewhere(), 50_000)], &[]);
    let first = wallet.fund_psbt(funding(to.clone(), Selection::Whole)).unwrap();
    assert_eq!(first.leased.len(), 1);
    assert_eq!(wallet.leases().len(), 1);
    let at = first.change.unwrap();
    assert!(wallet.is_mine(&first.psbt.unsigned_tx.output[at].script_pubkey));
    assert_eq!(first.psbt.outputs[at].bip32_derivation.len(), 1);
    let second = wallet.fund_psbt(funding(to.clone(), Selection::Whole)).unwrap();
    assert_ne!(first.leased, second.leased);
    let short = wallet.fund_psbt(funding(to.clone(), Selection::Whole)).unwrap_err().to_string();
    assert!(short.starts_with("insufficient funds available to construct transaction"), "{short}");
    // Given back, it can be had again.
    wallet.end_lease(&first.leased[0].0, &[7; 32]).unwrap();
    wallet.fund_psbt(funding(to, Selection::Whole)).unwrap();
}

#[test]
fn a_lease_of_a_caller_that_hangs_up_ends() {
    let wallet = wallet_with(&[100_000]);
    let to = template(&[(elsewhere(), 50_000)], &[]);
    let brief = PsbtFunding { time: Duration::ZERO, ..funding(to.clone(), Selection::Whole) };
    wallet.fund_psbt(brief).unwrap();
    wallet.fund_psbt(funding(to, Selection::Whole)).unwrap();
}

#[test]
fn the_fee_is_what_the_signed_transaction_weighs_with_coins_of_either_kind() {
    for (amounts, change) in [(&[90_000_u64][..], AddressKind::Taproot), (&[1_000, 90_000], AddressKind::SegwitV0)] {
        let wallet = wallet_with(amounts);
        let to = template(&[(elsewhere(), 50_000)], &[]);
        let funded = wallet.fund_psbt(PsbtFunding { change, ..funding(to, Selection::Whole) }).unwrap();
        let paid = fee(&funded.psbt);
        let (_, transaction) = wallet.finalize_psbt(funded.psbt).unwrap();
        let least = (transaction.weight().to_wu() * 2).div_ceil(4);
        assert!((least..least + 8).contains(&paid), "{paid} for {} vB", transaction.vsize());
        let at = funded.change.unwrap();
        let script = &transaction.output[at].script_pubkey;
        assert_eq!(script.is_p2tr(), change == AddressKind::Taproot);
        wallet.transaction_seen(transaction, 5).unwrap();
        assert!(wallet.balance().unconfirmed > Amount::from_sat(39_000), "{:?}", wallet.balance());
    }
}

#[test]
fn inputs_of_a_template_are_free_coins_of_the_wallet_and_all_that_is_spent() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let coins: Vec<OutPoint> = wallet.unspent().iter().map(|coin| coin.outpoint).collect();
    let outputs = [(elsewhere(), 50_000)];
    let funded = wallet.fund_psbt(funding(template(&outputs, &coins), Selection::Whole)).unwrap();
    assert_eq!(funded.leased.len(), 2);
    let again = wallet.fund_psbt(funding(template(&outputs, &coins), Selection::Whole)).unwrap_err();
    assert!(again.to_string().starts_with("input 0 not found in list of non-locked UTXO"), "{again}");
    let wallet = wallet_with(&[100_000, 60_000]);
    for wrong in [vec![OutPoint { txid: coins[0].txid, vout: 7 }], vec![coins[1], coins[1]]] {
        let refused = wallet.fund_psbt(funding(template(&outputs, &wrong), Selection::Whole)).unwrap_err();
        assert!(matches!(refused, PsbtError::NotFree { .. }), "{refused}");
    }
    let short = funding(template(&[(elsewhere(), 80_000)], &coins[1..]), Selection::Whole);
    assert!(wallet.fund_psbt(short).is_err(), "nothing is added to inputs that are named");
    assert!(wallet.leases().is_empty(), "what was refused leases nothing");
}

#[test]
fn coins_are_added_to_what_another_wallet_brings_and_its_change_output_grows() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let theirs = OutPoint { txid: bitcoin::Txid::from_byte_array([9; 32]), vout: 3 };
    let their_script = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([3; 20]));
    let mut given = template(&[(elsewhere(), 70_000), (their_script.clone(), 0)], &[theirs]);
    let untold = wallet.fund_psbt(funding(given.clone(), Selection::Added { change: Some(1) })).unwrap_err();
    assert_eq!(untold.to_string(), "input (index=0) doesn't specify any UTXO info");
    given.inputs[0].witness_utxo = Some(TxOut { value: Amount::from_sat(30_000), script_pubkey: their_script });
    let funded = wallet.fund_psbt(funding(given.clone(), Selection::Added { change: Some(1) })).unwrap();
    assert_eq!((funded.change, funded.leased.len()), (Some(1), 1));
    let transaction = &funded.psbt.unsigned_tx;
    assert_eq!((transaction.input.len(), transaction.output.len()), (2, 2));
    assert_eq!(transaction.input[0].previous_output, theirs);
    let inputs = 30_000 + funded.leased[0].1.value.to_sat();
    assert_eq!(transaction.output[1].value.to_sat(), inputs - 70_000 - fee(&funded.psbt));
    // What they bring is enough: nothing is added.
    let mut plain = template(&[(elsewhere(), 70_000)], &[theirs]);
    plain.inputs[0].witness_utxo = given.inputs[0].witness_utxo.clone();
    plain.inputs[0].witness_utxo.as_mut().unwrap().value = Amount::from_sat(90_000);
    let enough = wallet.fund_psbt(funding(plain.clone(), Selection::Added { change: None })).unwrap();
    assert!(enough.leased.is_empty());
    assert_eq!(enough.change, Some(1));
    // A coin of ours has to be leased before it stands in such a template.
    let free = wallet.unspent().iter().map(|coin| coin.outpoint).find(|coin| *coin != funded.leased[0].0).unwrap();
    let with_free = template(&[(elsewhere(), 10_000)], &[free]);
    let refused = wallet.fund_psbt(funding(with_free, Selection::Added { change: None })).unwrap_err().to_string();
    assert!(refused.contains("is not locked"), "{refused}");
    let strange = TxOut { value: Amount::from_sat(90_000), script_pubkey: elsewhere() };
    plain.inputs[0].witness_utxo = Some(strange);
    let refused = wallet.fund_psbt(funding(plain, Selection::Added { change: None })).unwrap_err().to_string();
    assert!(refused.starts_with("error estimating input weight"), "{refused}");
}

#[test]
fn amounts_beyond_all_money_and_fees_beyond_the_ratio_are_refused() {
    let wallet = wallet_with(&[100_000]);
    let much = [(elsewhere(), u64::MAX), (elsewhere(), u64::MAX)];
    let refused = wallet.fund_psbt(funding(template(&much, &[]), Selection::Whole)).unwrap_err();
    assert!(matches!(refused, PsbtError::TooMuch), "{refused}");
    let small = template(&[(elsewhere(), 1_000)], &[]);
    let capped = PsbtFunding { max_fee_ratio: Some(0.001), ..funding(small, Selection::Whole) };
    let refused = wallet.fund_psbt(capped).unwrap_err();
    assert!(matches!(refused, PsbtError::FeeTooHigh { .. }), "{refused}");
    let dust = template(&[(elsewhere(), 10)], &[]);
    assert!(wallet.fund_psbt(funding(dust, Selection::Whole)).is_err());
    let none = template(&[], &[]);
    assert!(wallet.fund_psbt(funding(none, Selection::Whole)).is_err());
    assert!(wallet.leases().is_empty());
}

#[test]
fn a_psbt_takes_nothing_from_what_is_kept_back_for_claims() {
    let wallet = wallet_with(&[100_000]);
    wallet.keep_reserve_for(leyden_channels::types::ChannelId([1; 32]));
    let most = template(&[(elsewhere(), 95_000)], &[]);
    let refused = wallet.fund_psbt(funding(most.clone(), Selection::Whole)).unwrap_err();
    assert!(matches!(refused, PsbtError::Wallet(WalletError::Reserve { .. })), "{refused}");
    let insists = PsbtFunding { reserve: Reserve::Spend, ..funding(most, Selection::Whole) };
    wallet.fund_psbt(insists).unwrap();
    let rate = FeeRate::BROADCAST_MIN;
    assert!(wallet.pay(&[(elsewhere(), Amount::from_sat(5_000))], rate, &Coins::default()).is_err(), "it is leased");
}

#[test]
fn what_one_psbt_has_leased_is_no_reserve_for_another_one() {
    let wallet = wallet_with(&[100_000, 60_000]);
    wallet.keep_reserve_for(leyden_channels::types::ChannelId([1; 32]));
    let coin = |sat| wallet.unspent().iter().find(|coin| coin.amount.to_sat() == sat).unwrap().outpoint;
    let (large, small) = (coin(100_000), coin(60_000));
    wallet.fund_psbt(funding(template(&[(elsewhere(), 98_000)], &[large]), Selection::Whole)).unwrap();
    let rest = funding(template(&[(elsewhere(), 58_000)], &[small]), Selection::Whole);
    let refused = wallet.fund_psbt(rest).unwrap_err();
    assert!(matches!(refused, PsbtError::Wallet(WalletError::Reserve { .. })), "both would empty it: {refused}");
    let pay = |sat| wallet.pay(&[(elsewhere(), Amount::from_sat(sat))], FeeRate::BROADCAST_MIN, &Coins::default());
    assert!(matches!(pay(58_000), Err(WalletError::Reserve { .. })));
    pay(45_000).unwrap();
}
