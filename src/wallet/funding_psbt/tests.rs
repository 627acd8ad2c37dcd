//! What is taken for a funding transaction, and what is not.

use bitcoin::{
    CompressedPublicKey, EcdsaSighashType, NetworkKind, OutPoint, PrivateKey, PubkeyHash, Sequence, TxIn, Txid,
    WPubkeyHash, Witness, absolute::LockTime, hashes::Hash as _, secp256k1::Message, secp256k1::SecretKey,
    sighash::SighashCache, transaction::Version,
};

use super::*;

const CAPACITY: Amount = Amount::from_sat(1_000_000);

fn key() -> PrivateKey {
    PrivateKey::new(SecretKey::from_slice(&[7; 32]).unwrap(), NetworkKind::Test)
}

fn key_hash() -> WPubkeyHash {
    let secp = Secp256k1::new();
    CompressedPublicKey::from_private_key(&secp, &key()).unwrap().wpubkey_hash()
}

fn channel() -> TxOut {
    TxOut { value: CAPACITY, script_pubkey: ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros()) }
}

fn coin(script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(1_010_000), script_pubkey }
}

/// One input that spends `coin`, one output that funds the channel.
fn psbt(coin: TxOut) -> Psbt {
    let input = TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 0 },
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        ..TxIn::default()
    };
    let transaction =
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: vec![channel()] };
    let mut psbt = Psbt::from_unsigned_tx(transaction).unwrap();
    psbt.inputs[0].witness_utxo = Some(coin);
    psbt
}

fn sign(psbt: &mut Psbt) {
    let secp = Secp256k1::new();
    let coin = psbt.inputs[0].witness_utxo.clone().unwrap();
    let mut cache = SighashCache::new(&psbt.unsigned_tx);
    let code = ScriptBuf::new_p2wpkh(&key_hash());
    let digest = cache.p2wpkh_signature_hash(0, &code, coin.value, EcdsaSighashType::All).unwrap();
    let signature = secp.sign_ecdsa(&Message::from(digest), &key().inner);
    let signature = bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
    psbt.inputs[0].partial_sigs.insert(key().public_key(&secp), signature);
}

#[test]
fn a_native_and_a_nested_witness_program_fund_a_channel_and_their_txid_is_known_before_they_are_signed() {
    let program = ScriptBuf::new_p2wpkh(&key_hash());
    let nested = ScriptBuf::new_p2sh(&program.script_hash());
    for script in [program.clone(), nested.clone()] {
        let mut psbt = psbt(coin(script.clone()));
        if script == nested {
            assert_eq!(FundingDraft::verify(&psbt, &channel()), Err(FundingPsbtError::NotSegwit { input: 0 }));
            psbt.inputs[0].redeem_script = Some(program.clone());
        }
        let draft = FundingDraft::verify(&psbt, &channel()).unwrap();
        sign(&mut psbt);
        let signed = draft.finalize(psbt.clone()).unwrap();
        assert_eq!(signed.compute_txid(), draft.transaction().compute_txid());
        assert_eq!(draft.finalize_raw(signed.clone()), Ok(signed.clone()));
        // Programs that sign in one step show the same PSBT for both.
        psbt.inputs[0].final_script_witness = Some(signed.input[0].witness.clone());
        psbt.inputs[0].final_script_sig = Some(signed.input[0].script_sig.clone()).filter(|script| !script.is_empty());
        psbt.inputs[0].redeem_script = None;
        let draft = FundingDraft::verify(&psbt, &channel()).unwrap();
        assert_eq!(draft.finalize(psbt), Ok(signed));
    }
}

#[test]
fn an_input_whose_signature_could_change_the_txid_is_refused() {
    let legacy = ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(key_hash().to_byte_array()));
    let refused = FundingDraft::verify(&psbt(coin(legacy)), &channel());
    assert_eq!(refused, Err(FundingPsbtError::NotSegwit { input: 0 }));
    assert!(
        refused.unwrap_err().to_string().starts_with("cannot use TX for channel funding, not all inputs are SegWit")
    );
}

#[test]
fn what_does_not_pay_the_channel_or_not_for_it_is_refused() {
    let script = ScriptBuf::new_p2wpkh(&key_hash());
    let good = psbt(coin(script.clone()));
    let less = TxOut { value: CAPACITY - Amount::from_sat(1), ..channel() };
    assert_eq!(FundingDraft::verify(&good, &less), Err(FundingPsbtError::NoOutput(less.value)));
    let poor = psbt(TxOut { value: CAPACITY, script_pubkey: script });
    let short = FundingPsbtError::TooLittle { inputs: CAPACITY, outputs: CAPACITY };
    assert_eq!(FundingDraft::verify(&poor, &channel()), Err(short));
    let mut blind = good.clone();
    blind.inputs[0].witness_utxo = None;
    assert_eq!(FundingDraft::verify(&blind, &channel()), Err(FundingPsbtError::NoUtxo { input: 0 }));
    let mut foreign = good.clone();
    foreign.inputs[0].non_witness_utxo = Some(good.unsigned_tx.clone());
    assert_eq!(FundingDraft::verify(&foreign, &channel()), Err(FundingPsbtError::ForeignUtxo { input: 0 }));
    let mut empty = good;
    empty.unsigned_tx.input.clear();
    empty.inputs.clear();
    assert_eq!(FundingDraft::verify(&empty, &channel()), Err(FundingPsbtError::NoInputs));
}

#[test]
fn only_the_verified_transaction_with_valid_signatures_is_taken_back() {
    let unsigned = psbt(coin(ScriptBuf::new_p2wpkh(&key_hash())));
    let draft = FundingDraft::verify(&unsigned, &channel()).unwrap();
    assert!(matches!(draft.finalize(unsigned.clone()), Err(FundingPsbtError::NotFinal { input: 0, .. })));
    assert_eq!(draft.finalize_raw(unsigned.unsigned_tx.clone()), Err(FundingPsbtError::Unsigned { input: 0 }));

    let mut signed = unsigned.clone();
    sign(&mut signed);
    let right = draft.finalize(signed.clone()).unwrap();
    let mut forged = right.clone();
    forged.input[0].witness = Witness::from_slice(&[[1; 72].as_slice(), &[2; 33]]);
    assert!(matches!(draft.finalize_raw(forged), Err(FundingPsbtError::BadSignature { input: 0, .. })));

    let mut elsewhere = right.clone();
    elsewhere.output[0].script_pubkey = ScriptBuf::new();
    assert_eq!(draft.finalize_raw(elsewhere), Err(FundingPsbtError::OtherOutputs));
    let mut other_coin = right.clone();
    other_coin.input[0].previous_output.vout = 1;
    assert_eq!(draft.finalize_raw(other_coin), Err(FundingPsbtError::OtherInputs));
    let mut later = right.clone();
    later.lock_time = LockTime::from_consensus(5);
    assert_eq!(draft.finalize_raw(later), Err(FundingPsbtError::OtherInputs));
    let mut padded = right;
    padded.input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]);
    assert_eq!(draft.finalize_raw(padded), Err(FundingPsbtError::OtherInputs));
}
