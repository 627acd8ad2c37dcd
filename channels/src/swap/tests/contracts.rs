//! The contract's script, executed: what spends it, and what does not.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid, hashes::Hash as _};
use leyden_consensus::{
    locktime,
    script::{ScriptFlags, SpendingTx},
};
use secp256k1::{SECP256K1, SecretKey};

use super::{chain::wallet_script, person::Keys, world::*};
use crate::{
    swap::{
        Contract, ContractError, Expiry, Leg, NotOurs, SwapKeys as _, Tip,
        contract::{Path, Spend, extract_secret, secret_from},
        way_out,
    },
    types::{Height, PaymentPreimage, UnixTime},
};

const SECRET: PaymentPreimage = PaymentPreimage([7; 32]);
const AMOUNT: Amount = Amount::from_sat(1_000_000);

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn contract() -> Contract {
    let public = |byte| key(byte).public_key(SECP256K1);
    Contract {
        hash: SECRET.hash(),
        redeem_key: public(1),
        refund_key: public(2),
        expiry: Expiry::Time(UnixTime(1_700_000_000)),
    }
}

fn spend(path: Path, by: u8) -> Result<Transaction, ContractError> {
    let to = wallet_script(9);
    let outpoint = OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 1 };
    contract().spend(&Spend { outpoint, amount: AMOUNT, path, to: &to, fee: Amount::from_sat(1_000) }, &key(by))
}

fn is_valid(transaction: &Transaction) -> bool {
    let spent = TxOut { value: AMOUNT, script_pubkey: contract().script_pubkey().unwrap() };
    SpendingTx::new(transaction, vec![spent]).unwrap().verify_input(0, ScriptFlags::STANDARD).is_ok()
}

#[test]
fn the_secret_and_the_key_redeem_and_the_time_and_the_other_key_refund() {
    let redeem = spend(Path::Redeem(SECRET), 1).unwrap();
    let refund = spend(Path::Refund, 2).unwrap();
    assert!(is_valid(&redeem) && is_valid(&refund));
    assert_eq!(extract_secret(&redeem, &SECRET.hash()), Some(SECRET));
    assert_eq!(extract_secret(&refund, &SECRET.hash()), None);
    assert_eq!(refund.lock_time.to_consensus_u32(), 1_700_000_000);
    // The wrong key, or no time.
    assert_eq!(spend(Path::Redeem(SECRET), 2), Err(ContractError::WrongKey));
    assert_eq!(spend(Path::Refund, 1), Err(ContractError::WrongKey));
    let mut early = refund;
    early.lock_time = bitcoin::absolute::LockTime::from_consensus(1_699_999_999);
    assert!(!is_valid(&early));
}

#[test]
fn a_spend_weighs_no_more_than_was_foretold() {
    for (path, by) in [(Path::Redeem(SECRET), 1), (Path::Refund, 2)] {
        let (weight, foretold) =
            (spend(path, by).unwrap().weight(), contract().spend_weight(path, &wallet_script(9)).unwrap());
        assert!(weight <= foretold && foretold.to_wu() - weight.to_wu() <= 2, "{weight} {foretold}");
    }
}

#[test]
fn wrong_secret() {
    let wrong = PaymentPreimage([8; 32]);
    assert_eq!(spend(Path::Redeem(wrong), 1), Err(ContractError::WrongSecret));
    // Nor does the chain take it.
    let mut redeem = spend(Path::Redeem(SECRET), 1).unwrap();
    let mut items = redeem.input[0].witness.to_vec();
    items[1] = wrong.0.to_vec();
    redeem.input[0].witness = items.into();
    assert!(!is_valid(&redeem));
}

#[test]
fn short_secret() {
    assert_eq!(secret_from(&[7; 31], &SECRET.hash()), Err(ContractError::SecretLength(31)));
    // A contract whose hash is that of 31 or 33 bytes is redeemed by nobody: the script checks the size.
    for length in [0, 31, 33] {
        let secret = vec![7; length];
        let hash = bitcoin::hashes::sha256::Hash::hash(&secret).to_byte_array();
        let odd = Contract { hash: crate::types::PaymentHash(hash), ..contract() };
        let mut redeem = spend(Path::Redeem(SECRET), 1).unwrap();
        let script = odd.witness_script().unwrap();
        let sighash = bitcoin::sighash::SighashCache::new(&redeem)
            .p2wsh_signature_hash(0, &script, AMOUNT, bitcoin::EcdsaSighashType::All)
            .unwrap();
        let signature = SECP256K1.sign_ecdsa_low_r(&secp256k1::Message::from(sighash), &key(1));
        let signature = bitcoin::ecdsa::Signature::sighash_all(signature).to_vec();
        redeem.input[0].witness = vec![signature, secret, vec![1], script.to_bytes()].into();
        let spent = TxOut { value: AMOUNT, script_pubkey: odd.script_pubkey().unwrap() };
        let result = SpendingTx::new(&redeem, vec![spent]).unwrap().verify_input(0, ScriptFlags::STANDARD);
        assert!(result.is_err(), "{length}");
    }
}

#[test]
fn a_contract_is_read_back_and_an_altered_one_is_not() {
    let script = contract().witness_script().unwrap();
    assert_eq!(Contract::parse(&script), Ok(contract()));
    for at in 0..script.len() {
        for byte in 0..=u8::MAX {
            let mut altered = script.to_bytes();
            if altered[at] == byte {
                continue;
            }
            altered[at] = byte;
            let altered = ScriptBuf::from_bytes(altered);
            // Another hash, key or time is another contract, and says so; any other change is none.
            if let Ok(read) = Contract::parse(&altered) {
                assert_ne!(read, contract());
                assert_eq!(read.witness_script().unwrap(), altered);
            }
        }
    }
    assert_eq!(Contract::parse(&script.as_script()[1..]), Err(ContractError::Foreign));
    assert_eq!(
        Contract::parse(&ScriptBuf::from_bytes([script.to_bytes(), vec![0x51]].concat())),
        Err(ContractError::Foreign)
    );
}

#[test]
fn an_expiry_is_written_as_what_it_is_or_not_at_all() {
    for wrong in [Expiry::Time(UnixTime(499_999_999)), Expiry::Height(Height(500_000_000))] {
        assert_eq!(Contract { expiry: wrong, ..contract() }.witness_script(), Err(ContractError::Expiry(wrong)));
    }
    for height in [17, 127, 128, 65_536, 499_999_999] {
        let by_height = Contract { expiry: Expiry::Height(Height(height)), ..contract() };
        assert_eq!(Contract::parse(&by_height.witness_script().unwrap()), Ok(by_height));
    }
}

#[test]
fn a_contract_that_expires_at_a_height_is_refunded_above_it() {
    let contract = Contract { expiry: Expiry::Height(Height(700)), ..contract() };
    let tip = |height| Tip { height: Height(height), hash: [0; 32], median_time: UnixTime(2_000_000_000) };
    // BIP 65 with nLockTime 700: in block 701 at the earliest.
    assert_eq!([699, 700].map(|height| contract.is_expired(&tip(height))), [false, true]);
    let to = wallet_script(9);
    let outpoint = OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 1 };
    let spend = Spend { outpoint, amount: AMOUNT, path: Path::Refund, to: &to, fee: Amount::from_sat(1_000) };
    let refund = contract.spend(&spend, &key(2)).unwrap();
    let spent = TxOut { value: AMOUNT, script_pubkey: contract.script_pubkey().unwrap() };
    assert!(SpendingTx::new(&refund, vec![spent]).unwrap().verify_input(0, ScriptFlags::STANDARD).is_ok());
    assert_eq!([700, 701].map(|height| locktime::is_final(&refund, height, u32::MAX)), [false, true]);
}

#[test]
fn a_contract_is_taken_with_the_seed_and_its_script_alone() {
    let (alice, bob) = (Keys(1), Keys(2));
    let hash = SECRET.hash();
    let public = |keys: &Keys, leg| keys.key(&hash, leg).public_key(SECP256K1);
    let expiry = Expiry::Height(Height(700));
    for leg in Leg::ALL {
        let contract = Contract { hash, redeem_key: public(&bob, leg), refund_key: public(&alice, leg), expiry };
        let read = Contract::parse(&contract.witness_script().unwrap()).unwrap();
        assert_eq!(way_out(&read, &alice, None), Ok((Path::Refund, alice.key(&hash, leg))));
        assert_eq!(way_out(&read, &bob, Some(SECRET)), Ok((Path::Redeem(SECRET), bob.key(&hash, leg))));
        assert_eq!(way_out(&read, &bob, None), Err(NotOurs::NeedsSecret));
        assert_eq!(way_out(&read, &bob, Some(PaymentPreimage([1; 32]))), Err(NotOurs::WrongSecret));
        assert_eq!(way_out(&read, &Keys(3), Some(SECRET)), Err(NotOurs::OtherWallet));
    }
}

#[test]
fn a_refund_that_shows_a_secret_of_zeros_is_a_refund() {
    let world = World::agreed(true);
    let zeros = PaymentPreimage([0; 32]);
    let offer = *world.bob.swap.offer();
    let agreed = offer.contract(Leg::Outer, world.bob.swap.acceptance().unwrap());
    let contract = Contract { hash: zeros.hash(), ..agreed };
    let to = world.alice.wallet();
    let outpoint = world.alice.swap.leg(Leg::Outer).lock.unwrap().outpoint;
    let spend = Spend { outpoint, amount: ONE, path: Path::Refund, to: &to, fee: Amount::from_sat(1_000) };
    let key = world.alice.keys.key(&offer.hash, Leg::Outer);
    let mut odd = contract.spend(&spend, &key).unwrap();
    let items: Vec<Vec<u8>> = odd.input[0].witness.iter().map(<[u8]>::to_vec).collect();
    odd.input[0].witness = bitcoin::Witness::from_slice(&[&items[0][..], &[0; 32], &items[2]]);
    // MINIMALIF is no rule of blocks: any false value takes the branch of the refund.
    let coin = bitcoin::TxOut { value: ONE, script_pubkey: contract.script_pubkey().unwrap() };
    let spending = SpendingTx::new(&odd, vec![coin]).unwrap();
    assert!(spending.verify_input(0, ScriptFlags::CONSENSUS).is_ok());
    assert_eq!(contract.secret_in(&odd.input[0].witness), None);
}
