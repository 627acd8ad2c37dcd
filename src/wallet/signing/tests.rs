use bitcoin::{Amount, NetworkKind, TxIn, hashes::Hash as _};

use super::*;
use crate::wallet::{
    accounts::AddressKind,
    lent::{KeyChoice, KeyLocator},
    onchain::tests::{MemoryLog, open_with, payment},
    psbt_funding::tests::wallet_with,
};

fn key() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).unwrap()
}

#[test]
fn what_is_signed_in_each_form_is_verified_and_for_no_other_message() {
    let public = key().public_key(SECP256K1);
    let plain = sign_message(&key(), b"tea", &Digest::Single, &Form::Ecdsa).unwrap();
    assert_eq!(verify_ecdsa(&public, b"tea", &plain), Some(true));
    assert_eq!(verify_ecdsa(&public, b"coffee", &plain), Some(false));
    assert_eq!(verify_ecdsa(&public, b"tea", &plain[1..]), None);
    let double = sign_message(&key(), b"tea", &Digest::Double, &Form::Ecdsa).unwrap();
    assert_eq!(verify_ecdsa(&public, b"tea", &double), Some(false));
    let compact = sign_message(&key(), b"tea", &Digest::Single, &Form::Compact).unwrap();
    let numbers = secp256k1::ecdsa::Signature::from_der(&plain).unwrap().serialize_compact();
    assert_eq!((compact.len(), &compact[1..]), (65, numbers.as_slice()));

    let x_only = public.x_only_public_key().0;
    for digest in [Digest::Single, Digest::Tagged(b"a tag".to_vec())] {
        let signed = sign_message(&key(), b"tea", &digest, &Form::Schnorr { tweak: Vec::new() }).unwrap();
        assert_eq!(verify_schnorr(&x_only, b"tea", &signed, &digest), Some(true));
        assert_eq!(verify_schnorr(&x_only, b"tea", &signed, &Digest::Tagged(b"other".to_vec())), Some(false));
        let signed = sign_message(&key(), b"tea", &digest, &Form::Schnorr { tweak: vec![5; 32] }).unwrap();
        let root = bitcoin::TapNodeHash::from_byte_array([5; 32]);
        let output = x_only.tap_tweak(SECP256K1, Some(root)).0.to_x_only_public_key();
        assert_eq!(verify_schnorr(&output, b"tea", &signed, &digest), Some(true));
    }
}

#[test]
fn an_address_signs_and_other_addresses_have_not_signed() {
    let wallet = open_with(&MemoryLog::default(), 10);
    for kind in AddressKind::ALL {
        let address = wallet.new_address(kind).unwrap();
        let signed = wallet.sign_for_address(&address, b"mine").unwrap();
        let (valid, key) = verify_for_address(&address, b"mine", &signed).unwrap();
        assert_eq!((valid, key.len()), (Some(true), 33));
        assert_ne!(verify_for_address(&address, b"thine", &signed).map(|(valid, _)| valid), Some(Some(true)));
        let other = wallet.new_address(kind).unwrap();
        assert_eq!(verify_for_address(&other, b"mine", &signed).unwrap().0, Some(false));
    }
    // Of Bitcoin Core's own test: a legacy address.
    let address: Address<bitcoin::address::NetworkUnchecked> = "15CRxFdyRpGZLW9w8HnHvVduizdL5jKNbs".parse().unwrap();
    let signature = "IPojfrX2dfPnH26UegfbGQQLrdK844DlHq5157/P6h57WyuS/Qsl+h/WSVGDF4MUi4rWSswW38oimDYfNNUBUOk=";
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature).unwrap();
    let told = verify_for_address(&address.assume_checked(), b"Trust no one", &signature).unwrap();
    assert_eq!(told.0, Some(true));
    let foreign: Address<bitcoin::address::NetworkUnchecked> =
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".parse().unwrap();
    assert_eq!(wallet.sign_for_address(&foreign.assume_checked(), b"mine"), None);
}

fn spending(outputs: &[TxOut]) -> Transaction {
    let mut transaction = payment(outputs[0].script_pubkey.clone(), 500, 9);
    transaction.input = (0..)
        .zip(outputs)
        .map(|(vout, _)| TxIn {
            previous_output: bitcoin::OutPoint { txid: bitcoin::Txid::from_byte_array([3; 32]), vout },
            ..TxIn::default()
        })
        .collect();
    transaction
}

fn holds(transaction: &Transaction, spent: &[TxOut], at: usize) -> bool {
    use leyden_consensus::script::{ScriptFlags, SpendingTx};
    let spending = SpendingTx::new(transaction, spent.to_vec()).unwrap();
    spending.verify_input(at, ScriptFlags::STANDARD).is_ok()
}

#[test]
fn outputs_of_lent_keys_are_spent_by_each_method() {
    let (_, public) = (key(), bitcoin::PublicKey::new(key().public_key(SECP256K1)));
    let x_only = public.inner.x_only_public_key().0;
    let leaf =
        ScriptBuf::builder().push_x_only_key(&x_only).push_opcode(bitcoin::opcodes::all::OP_CHECKSIG).into_script();
    let script = ScriptBuf::builder().push_key(&public).push_opcode(bitcoin::opcodes::all::OP_CHECKSIG).into_script();
    let tree = bitcoin::taproot::TaprootBuilder::new().add_leaf(0, leaf.clone()).unwrap();
    let tree = tree.finalize(SECP256K1, x_only).unwrap();
    let root = tree.merkle_root().unwrap().to_byte_array().to_vec();
    let output = |script_pubkey| TxOut { value: Amount::from_sat(1_000), script_pubkey };
    let spent = vec![
        output(ScriptBuf::new_p2wsh(&script.wscript_hash())),
        output(ScriptBuf::new_p2tr(SECP256K1, x_only, None)),
        output(ScriptBuf::new_p2tr(SECP256K1, x_only, tree.merkle_root())),
        output(ScriptBuf::new_p2tr(SECP256K1, x_only, tree.merkle_root())),
    ];
    let transaction = spending(&spent);
    let ask = |input: usize, spend: Spend, sighash| {
        let asked = OutputToSign { input, output: spent[input].clone(), spend, tweak: KeyTweak::None, sighash };
        sign_output(&mut SighashCache::new(&transaction), &spent, &asked, key()).unwrap()
    };
    let mut signed = transaction.clone();
    let der = ask(0, Spend::WitnessV0(script.clone()), 1);
    signed.input[0].witness = Witness::from_slice(&[[der, vec![1]].concat(), script.to_bytes()]);
    signed.input[1].witness = Witness::from_slice(&[ask(1, Spend::KeyPath(Vec::new()), 0)]);
    signed.input[2].witness = Witness::from_slice(&[ask(2, Spend::KeyPath(root), 0)]);
    let control = tree.control_block(&(leaf.clone(), LeafVersion::TapScript)).unwrap().serialize();
    let by_leaf = ask(3, Spend::ScriptPath(leaf.clone()), 0);
    signed.input[3].witness = Witness::from_slice(&[by_leaf, leaf.to_bytes(), control]);
    for at in 0..4 {
        assert!(holds(&signed, &spent, at), "input {at}");
    }
    let no_type = OutputToSign {
        input: 0,
        output: spent[0].clone(),
        spend: Spend::WitnessV0(script),
        tweak: KeyTweak::None,
        sighash: 0x44,
    };
    assert!(matches!(
        sign_output(&mut SighashCache::new(&transaction), &spent, &no_type, key()),
        Err(SignError::Sighash(0x44))
    ));
    let without = OutputToSign { input: 1, spend: Spend::KeyPath(Vec::new()), sighash: 0, ..no_type };
    assert!(matches!(
        sign_output(&mut SighashCache::new(&transaction), &[], &without, key()),
        Err(SignError::NoPrevOutputs)
    ));
    let beyond = OutputToSign { input: 9, ..without };
    assert!(matches!(
        sign_output(&mut SighashCache::new(&transaction), &spent, &beyond, key()),
        Err(SignError::NoInput { input: 9 })
    ));
}

#[test]
fn tweaked_keys_are_those_of_channels() {
    use leyden_channels::keys::secp;
    let single = KeyTweak::Single([9; 32]).apply(key()).unwrap();
    let tweak = SecretKey::from_slice(&[9; 32]).unwrap();
    let sum = key().public_key(secp()).combine(&tweak.public_key(secp())).unwrap();
    assert_eq!(single.public_key(secp()), sum);
    // BOLT 3, appendix E: the revocation key.
    let base: SecretKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f".parse().unwrap();
    let secret: SecretKey = "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100".parse().unwrap();
    let revocation = KeyTweak::Double(secret).apply(base).unwrap();
    let expected = "d09ffff62ddb2297ab000cc85bcb4283fdeb6aa052affbc9dddcf33b61078110";
    assert_eq!(revocation.display_secret().to_string(), expected);
}

#[test]
fn an_input_script_spends_a_coin_of_the_wallet_and_no_other() {
    let wallet = wallet_with(&[100_000, 60_000]);
    let coins = wallet.unspent();
    let spent: Vec<TxOut> =
        (coins.iter()).map(|coin| TxOut { value: coin.amount, script_pubkey: coin.script_pubkey.clone() }).collect();
    let mut transaction = spending(&spent);
    for (input, coin) in transaction.input.iter_mut().zip(&coins) {
        input.previous_output = coin.outpoint;
    }
    let mut signed = transaction.clone();
    for input in 0..2 {
        let sighash = u32::from(coins[input].kind == AddressKind::SegwitV0);
        let coin = CoinToSign { input, output: spent[input].clone(), sighash };
        signed.input[input].witness = wallet.input_script(&transaction, &spent, &coin).unwrap();
        assert!(holds(&signed, &spent, input));
        let told = TxOut { value: Amount::from_sat(1), ..spent[input].clone() };
        let wrong = CoinToSign { output: told, ..coin.clone() };
        assert!(wallet.input_script(&transaction, &spent, &wrong).is_err(), "the amount is not true");
        let open = CoinToSign { sighash: 2, ..coin };
        assert!(wallet.input_script(&transaction, &spent, &open).is_err(), "it would not say where the coin goes");
    }
    let foreign =
        TxOut { value: Amount::from_sat(5), script_pubkey: ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::all_zeros()) };
    let elsewhere = spending(std::slice::from_ref(&foreign));
    let coin = CoinToSign { input: 0, output: foreign, sighash: 1 };
    assert!(matches!(wallet.input_script(&elsewhere, &[], &coin), Err(SignError::NotOurs { input: 0 })));
}

#[test]
fn keys_of_coins_are_no_keys_that_are_lent() {
    use crate::wallet::{keys::NodeKeys, seed::Seed};
    let keys = NodeKeys::new(&Seed::from_entropy([5; 32], ""), NetworkKind::Test, &bitcoin::BlockHash::all_zeros());
    let wallet = open_with(&MemoryLog::default(), 10);
    let address = wallet.new_address(AddressKind::SegwitV0).unwrap();
    for family in [0, 1, 84, 86, 99] {
        for index in 0..20 {
            let key = keys.lent(KeyChoice::At(KeyLocator { family, index })).unwrap().public_key(SECP256K1);
            let hash = bitcoin::CompressedPublicKey(key).wpubkey_hash();
            assert_ne!(ScriptBuf::new_p2wpkh(&hash), address.script_pubkey());
        }
    }
}
