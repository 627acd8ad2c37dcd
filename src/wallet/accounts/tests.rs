use bitcoin::{FeeRate, hashes::Hash as _};
use leyden_channels::{onchain::ClaimId, types::ChannelId};

use super::*;
use crate::wallet::onchain::{
    Coins, OnchainWallet,
    tests::{MemoryLog, next_block, open_with, payment},
};

fn elsewhere() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros())
}

fn taproot_script(wallet: &OnchainWallet) -> ScriptBuf {
    wallet.new_address(AddressKind::Taproot).unwrap().script_pubkey()
}

/// Whether every input holds by the rules of the chain.
fn holds(transaction: &Transaction, spent: &[TxOut]) -> bool {
    use leyden_consensus::script::{ScriptFlags, SpendingTx};
    let spending = SpendingTx::new(transaction, spent.to_vec()).unwrap();
    (0..transaction.input.len()).all(|at| spending.verify_input(at, ScriptFlags::STANDARD).is_ok())
}

#[test]
fn the_first_taproot_address_is_that_of_bip_86() {
    use crate::wallet::{keys::NodeKeys, seed::Seed};
    // BIP 86's words without a passphrase; on main's network its first address.
    let words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
    let root = bip39::Mnemonic::parse(words).unwrap().to_seed("");
    let root = Xpriv::new_master(bitcoin::NetworkKind::Main, &root).unwrap();
    let (descriptor, ..) = Bip86(root, KeychainKind::External).build(bitcoin::NetworkKind::Main).unwrap();
    let script = descriptor.at_derivation_index(0).unwrap().script_pubkey();
    let address = Address::from_script(&script, bitcoin::Network::Bitcoin).unwrap().to_string();
    assert_eq!(address, "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr");
    // And a wallet of ours gives the descriptor's.
    let seed = Seed::from_entropy([5; 32], "");
    let keys = NodeKeys::new(&seed, bitcoin::NetworkKind::Test, &bitcoin::BlockHash::all_zeros());
    let (descriptor, ..) = Bip86(keys.root(), KeychainKind::External).build(bitcoin::NetworkKind::Test).unwrap();
    let wallet = open_with(&MemoryLog::default(), 10);
    assert_eq!(taproot_script(&wallet), descriptor.at_derivation_index(0).unwrap().script_pubkey());
}

#[test]
fn a_taproot_coin_is_found_shown_spent_and_its_address_not_given_twice_after_a_restart() {
    let log = MemoryLog::default();
    let wallet = open_with(&log, 10);
    let script = taproot_script(&wallet);
    let coin = payment(script.clone(), 100_000, 0);
    let block = next_block(wallet.tip().1, 1, vec![coin.clone()]);
    wallet.block_connected(&block, 1).unwrap();
    drop(wallet);
    let wallet = open_with(&log, 10);
    assert_eq!(wallet.balance().confirmed, Amount::from_sat(100_000));
    assert_eq!(wallet.unspent()[0].kind, AddressKind::Taproot);
    assert_ne!(taproot_script(&wallet), script);
    let unused = wallet.unused_address(AddressKind::Taproot).unwrap();
    assert_eq!(wallet.unused_address(AddressKind::Taproot).unwrap(), unused);
    assert_eq!(wallet.transactions(|_| true, 0, 1)[0].amount.to_sat(), 100_000);
    assert_eq!(wallet.transactions(|_| true, 0, 1)[0].local_outputs, [0]);

    let to = [(elsewhere(), Amount::from_sat(60_000))];
    let paid = wallet.pay(&to, FeeRate::BROADCAST_MIN, &Coins::default()).unwrap();
    assert!(holds(&paid, &coin.output));
    let fee = 100_000 - paid.output.iter().map(|output| output.value.to_sat()).sum::<u64>();
    let least = paid.vsize() as u64;
    assert!((least..least + 4).contains(&fee), "{fee} for {least} vB");
    wallet.transaction_seen(paid.clone(), 5).unwrap();
    assert_eq!(wallet.unspent().len(), 1, "the change");
    assert_eq!(wallet.transaction(&paid.compute_txid()).unwrap().fee, Some(Amount::from_sat(fee)));
    let rate = FeeRate::from_sat_per_vb(5).unwrap();
    let dearer = wallet.replacement(paid.compute_txid(), rate, Default::default()).unwrap();
    assert!(holds(&dearer, &coin.output));
    assert_eq!(wallet.reach().known, 2);
}

#[test]
fn a_wallet_made_again_from_its_words_finds_taproot_coins_behind_unpaid_addresses() {
    let owner = open_with(&MemoryLog::default(), 100);
    let last = (0..90).map(|_| taproot_script(&owner)).last().unwrap();
    let block = next_block(owner.tip().1, 1, vec![payment(last, 100_000, 0)]);
    let log = MemoryLog::default();
    let again = open_with(&log, 100);
    again.block_connected(&block, 1).unwrap();
    assert_eq!(again.balance().confirmed, Amount::from_sat(100_000));
    assert_eq!(again.reach().widest_gap, 89);
    // With a narrow window it is not found, and a rescan finds it.
    let narrow = open_with(&log, 10);
    assert_eq!(narrow.balance().confirmed, Amount::from_sat(100_000), "it was known");
    let fresh = open_with(&MemoryLog::default(), 10);
    fresh.block_connected(&block, 1).unwrap();
    assert_eq!(fresh.balance().confirmed, Amount::ZERO);
    fresh.rescan(100).unwrap();
    fresh.block_connected(&block, 1).unwrap();
    assert_eq!(fresh.balance().confirmed, Amount::from_sat(100_000));
}

#[test]
fn a_taproot_coin_in_a_reorganisation_waits_again_and_one_that_is_dropped_is_gone() {
    let wallet = open_with(&MemoryLog::default(), 10);
    let genesis = wallet.tip().1;
    let coin = payment(taproot_script(&wallet), 50_000, 0);
    wallet.block_connected(&next_block(genesis, 1, vec![coin.clone()]), 1).unwrap();
    let other = next_block(genesis, 2, vec![]);
    wallet.block_connected(&other, 1).unwrap();
    wallet.transaction_seen(coin.clone(), 10).unwrap();
    assert_eq!(wallet.balance().unconfirmed, Amount::from_sat(50_000));
    wallet.transaction_dropped(coin.compute_txid(), 11).unwrap();
    assert_eq!(wallet.balance().unconfirmed, Amount::ZERO);
    wallet.block_connected(&next_block(other.block_hash(), 3, vec![coin]), 2).unwrap();
    assert_eq!(wallet.balance().confirmed, Amount::from_sat(50_000));
}

#[test]
fn a_claim_is_paid_for_by_a_taproot_coin_whose_signature_holds_beside_inputs_of_others() {
    let wallet = open_with(&MemoryLog::default(), 10);
    let coin = payment(taproot_script(&wallet), 50_000, 0);
    wallet.block_connected(&next_block(wallet.tip().1, 1, vec![coin]), 1).unwrap();
    let coins = wallet.set_aside((ChannelId([1; 32]), ClaimId(0)), Amount::from_sat(20_000));
    assert_eq!(coins.len(), 1);
    let anchor = TxOut { value: Amount::from_sat(330), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
    let mut claim = payment(elsewhere(), 40_000, 3);
    claim.input.push(bitcoin::TxIn { previous_output: coins[0].outpoint, ..Default::default() });
    let signed = wallet.sign_coins(claim, &coins).unwrap();
    assert!(holds(&signed, &[anchor, coins[0].output.clone()]));
    let witness: usize = signed.input[1].witness.size();
    assert_eq!(witness as u64, coins[0].witness_weight.to_wu());
    // All of its own, it signs all of them.
    let recall = Transaction { input: vec![signed.input[1].clone()], ..signed };
    let signed = wallet.sign_coins(recall, &coins).unwrap();
    assert!(holds(&signed, &[coins[0].output.clone()]));
}

#[test]
fn addresses_are_listed_by_account_with_what_lies_there() {
    let wallet = open_with(&MemoryLog::default(), 10);
    let script = taproot_script(&wallet);
    wallet.new_address(AddressKind::SegwitV0).unwrap();
    let channel = wallet.channel_script(&[4; 32]);
    let paid = vec![payment(script.clone(), 7_000, 0), payment(channel.clone(), 9_000, 1)];
    wallet.block_connected(&next_block(wallet.tip().1, 1, paid), 1).unwrap();
    let taproot = wallet.addresses(AddressKind::Taproot).unwrap();
    assert_eq!(taproot.len(), 1);
    assert_eq!(taproot[0].address.script_pubkey(), script);
    assert_eq!((taproot[0].balance.to_sat(), taproot[0].path.to_string()), (7_000, "86'/1'/0'/0/0".to_owned()));
    let (internal, _) = taproot[0].public_key.x_only_public_key();
    let secp = bitcoin::secp256k1::SECP256K1;
    assert_eq!(Address::p2tr(secp, internal, None, bitcoin::Network::Regtest), taproot[0].address);
    let segwit = wallet.addresses(AddressKind::SegwitV0).unwrap();
    assert_eq!(segwit.len(), 2, "of the scripts for channels, the one that was paid");
    let back = segwit.iter().find(|one| one.address.script_pubkey() == channel).unwrap();
    assert_eq!((back.balance.to_sat(), back.place.branch_number()), (9_000, 1));
}
