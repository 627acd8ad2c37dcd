//! What the wallet does with blocks, transactions, payments and what it keeps back.

use std::sync::Arc;

use bitcoin::{
    FeeRate, NetworkKind, TxMerkleNode, TxOut, absolute::LockTime, block, constants::genesis_block, hashes::Hash as _,
    transaction,
};

use leyden_channels::{onchain::ClaimId, types::ChannelId};

use super::*;
use crate::wallet::seed::Seed;

#[derive(Clone, Default)]
pub(in crate::wallet) struct MemoryLog(Arc<Mutex<Vec<Vec<u8>>>>);

impl ChangeLog for MemoryLog {
    fn load(&self) -> Result<Vec<Vec<u8>>, WalletError> {
        Ok(self.0.lock().unwrap().clone())
    }
    fn append(&self, change: &[u8]) -> Result<(), WalletError> {
        self.0.lock().unwrap().push(change.to_vec());
        Ok(())
    }
    fn replace(&self, whole: &[u8]) -> Result<(), WalletError> {
        *self.0.lock().unwrap() = vec![whole.to_vec()];
        Ok(())
    }
}

fn open(log: &MemoryLog) -> OnchainWallet {
    open_with(log, 100)
}

pub(in crate::wallet) fn open_with(log: &MemoryLog, look_ahead: u32) -> OnchainWallet {
    let genesis = genesis_block(Network::Regtest).block_hash();
    let keys = NodeKeys::new(&Seed::from_entropy([5; 32], ""), NetworkKind::Test, &genesis);
    OnchainWallet::open(&keys, Network::Regtest, genesis, look_ahead, Box::new(log.clone())).unwrap()
}

pub(in crate::wallet) fn payment(script: ScriptBuf, amount: u64, salt: u32) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::from_consensus(salt),
        input: vec![bitcoin::TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([salt as u8 + 1; 32]), vout: 0 },
            ..Default::default()
        }],
        output: vec![TxOut { value: Amount::from_sat(amount), script_pubkey: script }],
    }
}

pub(in crate::wallet) fn next_block(previous: BlockHash, nonce: u32, transactions: Vec<Transaction>) -> Block {
    let header = block::Header {
        version: block::Version::TWO,
        prev_blockhash: previous,
        merkle_root: TxMerkleNode::all_zeros(),
        time: nonce,
        bits: bitcoin::CompactTarget::from_consensus(0x207f_ffff),
        nonce,
    };
    Block { header, txdata: transactions }
}

#[test]
fn scripts_are_derived_once_and_kept() {
    let log = MemoryLog::default();
    drop(open(&log));
    let kept = log.load().unwrap();
    let scripts = merged(&kept).unwrap().indexer.spk_cache;
    assert_eq!(scripts.len(), 4, "two branches of two accounts each");
    assert!(scripts.values().all(|of_branch| of_branch.len() >= 100));
    drop(open(&log));
    assert_eq!(log.load().unwrap(), kept);
}

#[test]
fn restored_wallet_knows_its_coins_and_gives_no_address_twice() {
    let log = MemoryLog::default();
    let wallet = open(&log);
    let first = wallet.new_address(AddressKind::SegwitV0).unwrap();
    let block = next_block(wallet.tip().1, 1, vec![payment(first.script_pubkey(), 100_000, 0)]);
    wallet.block_connected(&block, 1).unwrap();
    drop(wallet);

    let wallet = open(&log);
    assert_eq!(wallet.tip(), (1, block.block_hash()));
    assert_eq!(wallet.balance().confirmed, Amount::from_sat(100_000));
    assert_ne!(wallet.new_address(AddressKind::SegwitV0).unwrap(), first);
}

#[test]
fn a_wallet_made_again_from_its_seed_finds_coins_behind_unpaid_addresses() {
    let wallet = open(&MemoryLog::default());
    let last = (0..90).map(|_| wallet.new_script().unwrap()).last().unwrap();
    let block = next_block(wallet.tip().1, 1, vec![payment(last, 100_000, 0)]);
    let again = open(&MemoryLog::default());
    again.block_connected(&block, 1).unwrap();
    assert_eq!(again.balance().confirmed, Amount::from_sat(100_000));
}

#[test]
fn a_reorganised_payment_is_pending_again_and_confirms_in_the_new_branch() {
    let log = MemoryLog::default();
    let wallet = open(&log);
    let coin = payment(wallet.new_script().unwrap(), 50_000, 0);
    let genesis = wallet.tip().1;
    wallet.block_connected(&next_block(genesis, 1, vec![coin.clone()]), 1).unwrap();
    let other = next_block(genesis, 2, vec![]);
    wallet.block_connected(&other, 1).unwrap();
    wallet.transaction_seen(coin.clone(), 10).unwrap();
    let balance = wallet.balance();
    assert_eq!((balance.confirmed, balance.unconfirmed), (Amount::ZERO, Amount::from_sat(50_000)));
    wallet.block_connected(&next_block(other.block_hash(), 3, vec![coin]), 2).unwrap();
    assert_eq!(wallet.balance().confirmed, Amount::from_sat(50_000));
}

#[test]
fn coins_of_a_pending_channel_are_not_spent_twice_and_come_back() {
    let log = MemoryLog::default();
    let wallet = open(&log);
    let coin = payment(wallet.new_script().unwrap(), 100_000, 0);
    wallet.block_connected(&next_block(wallet.tip().1, 1, vec![coin]), 1).unwrap();
    let target = [(ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros()), Amount::from_sat(60_000))];
    let rate = FeeRate::from_sat_per_vb(2).unwrap();
    let funding = wallet.pay(&target, rate, &Coins::default()).unwrap();
    assert!(matches!(wallet.pay(&target, rate, &Coins::default()), Err(WalletError::InsufficientFunds { .. })));
    wallet.release(&funding.compute_txid());
    let again = wallet.pay(&target, rate, &Coins::default()).unwrap();
    wallet.transaction_seen(again, 5).unwrap();
    assert!(wallet.balance().unconfirmed < Amount::from_sat(40_000));
    assert_eq!(wallet.balance().confirmed, Amount::ZERO);
}

#[test]
fn what_this_wallet_pays_is_told_from_what_others_send() {
    let wallet = open(&MemoryLog::default());
    let coin = |wallet: &OnchainWallet, salt| payment(wallet.new_script().unwrap(), 100_000, salt);
    let block = next_block(wallet.tip().1, 1, vec![coin(&wallet, 0), coin(&wallet, 1)]);
    wallet.block_connected(&block, 1).unwrap();
    let rate = FeeRate::from_sat_per_vb(2).unwrap();
    let channel = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
    let funding = wallet.pay(&[(channel, Amount::from_sat(60_000))], rate, &Coins::default()).unwrap();
    wallet.transaction_seen(funding.clone(), 5).unwrap();
    let coins = Coins { min_confirmations: 1, ..Coins::default() };
    let back = wallet.pay_all(&wallet.new_script().unwrap(), rate, &coins).unwrap();
    wallet.transaction_seen(back.clone(), 6).unwrap();
    let incoming = coin(&wallet, 2);
    wallet.transaction_seen(incoming.clone(), 7).unwrap();
    for ours in [funding, back] {
        assert!(wallet.has_paid(&ours.compute_txid()));
    }
    for other in [incoming, payment(ScriptBuf::new(), 1_000, 3)] {
        assert!(!wallet.has_paid(&other.compute_txid()));
    }
}

#[test]
fn everything_can_be_sent() {
    let log = MemoryLog::default();
    let wallet = open(&log);
    let coin = payment(wallet.new_script().unwrap(), 100_000, 0);
    wallet.block_connected(&next_block(wallet.tip().1, 1, vec![coin]), 1).unwrap();
    let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
    let sweep = wallet.pay_all(&script, FeeRate::from_sat_per_vb(1).unwrap(), &Coins::default()).unwrap();
    assert_eq!(sweep.output.len(), 1);
    assert_eq!(sweep.output[0].script_pubkey, script);
}
/// A wallet with these confirmed coins, and channels with anchors.
fn with(coins: &[u64], channels: u8) -> OnchainWallet {
    let wallet = open(&MemoryLog::default());
    let pay = |(salt, sat): (u32, &u64)| payment(wallet.new_script().unwrap(), *sat, salt);
    let coins: Vec<Transaction> = (0..).zip(coins).map(pay).collect();
    wallet.block_connected(&next_block(wallet.tip().1, 1, coins), 1).unwrap();
    (0..channels).for_each(|channel| wallet.keep_reserve_for(ChannelId([channel; 32])));
    wallet
}

fn elsewhere() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros())
}

fn to_others(transaction: &Transaction) -> u64 {
    let others = transaction.output.iter().filter(|output| output.script_pubkey == elsewhere());
    others.map(|output| output.value.to_sat()).sum()
}

const ONE: FeeRate = FeeRate::from_sat_per_kwu(250);

#[test]
fn a_sweep_leaves_the_reserve_of_channels_with_anchors() {
    let wallet = with(&[100_000, 50_000], 2);
    assert_eq!(wallet.reserve(), Amount::from_sat(20_000));
    let sweep = wallet.pay_all(&elsewhere(), ONE, &Coins::default()).unwrap();
    assert!((129_000..130_000).contains(&to_others(&sweep)), "{sweep:?}");
    assert_eq!(sweep.output.iter().map(|output| output.value.to_sat()).filter(|sat| *sat == 20_000).count(), 1);
    // A second one finds nothing that it may take.
    wallet.transaction_seen(sweep, 5).unwrap();
    let again = wallet.pay_all(&elsewhere(), ONE, &Coins::default());
    assert!(matches!(again, Err(WalletError::Reserve { channels: 2, .. })), "{again:?}");
}

#[test]
fn who_insists_may_spend_the_reserve() {
    let wallet = with(&[100_000], 1);
    let insists = Coins { reserve: Reserve::Spend, ..Coins::default() };
    let sweep = wallet.pay_all(&elsewhere(), ONE, &insists).unwrap();
    assert!(to_others(&sweep) > 99_000);
    wallet.transaction_seen(sweep, 5).unwrap();
    assert_eq!(wallet.reserve_missing(), Some(Amount::from_sat(10_000)));
}

#[test]
fn a_payment_leaves_the_reserve() {
    let wallet = with(&[100_000, 60_000], 3);
    let pay = |sat| wallet.pay(&[(elsewhere(), Amount::from_sat(sat))], ONE, &Coins::default());
    assert!(matches!(pay(135_000), Err(WalletError::Reserve { .. })));
    let paid = pay(129_000).unwrap();
    wallet.transaction_seen(paid, 5).unwrap();
    assert_eq!(wallet.reserve_missing(), None);
}

#[test]
fn opening_with_everything_leaves_the_reserve_of_the_new_channel_too() {
    let wallet = with(&[100_000, 60_000], 1);
    let most = wallet.spendable(ONE, &Coins::default(), 1).unwrap();
    assert!((139_000..140_000).contains(&most.to_sat()), "{most}");
    wallet.keep_reserve_for(ChannelId([99; 32]));
    let funding = wallet.pay(&[(elsewhere(), most)], ONE, &Coins::default()).unwrap();
    assert_eq!(to_others(&funding), most.to_sat());
}

#[test]
fn the_reserve_grows_no_further_than_its_limit_and_falls_when_channels_end() {
    let wallet = with(&[200_000], 30);
    assert_eq!(wallet.reserve(), Amount::from_sat(100_000));
    (0..29).for_each(|channel| wallet.keep_no_reserve_for(&ChannelId([channel; 32])));
    assert_eq!(wallet.reserve(), Amount::from_sat(10_000));
}

#[test]
fn a_claim_gets_what_there_is_the_reserve_and_our_own_change_too() {
    let wallet = with(&[30_000], 2);
    let purpose = |claim| (ChannelId([0; 32]), ClaimId(claim));
    let worth = |coins: Vec<FeeCoin>| coins.iter().map(|coin| coin.output.value.to_sat()).sum::<u64>();
    let paid = wallet.pay(&[(elsewhere(), Amount::from_sat(5_000))], ONE, &Coins::default()).unwrap();
    wallet.transaction_seen(paid, 5).unwrap();
    // Unconfirmed, but nobody else can take it back.
    let coins = wallet.set_aside(purpose(1), Amount::from_sat(90_000));
    assert!(worth(coins) > 24_000);
    assert_eq!(worth(wallet.set_aside(purpose(2), Amount::from_sat(1_000))), 0);
}

/// Three weeks.
const JUMP: u64 = 21 * 24 * 3600;

#[test]
fn a_payment_that_was_dropped_while_the_clock_was_ahead_counts_again_once_it_is_back() {
    let wallet = with(&[100_000], 0);
    let paid = wallet.pay(&[(elsewhere(), Amount::from_sat(60_000))], ONE, &Coins::default()).unwrap();
    wallet.transaction_seen(paid.clone(), 1_000).unwrap();
    wallet.transaction_dropped(paid.compute_txid(), 1_000 + JUMP).unwrap();
    assert!(wallet.pending().is_empty());
    wallet.transaction_seen(paid.clone(), 1_010).unwrap();
    assert_eq!(wallet.pending(), [paid], "its coin must not be spent a second time");
}

#[test]
fn a_replacement_counts_though_the_clock_went_back_since_the_old_one() {
    let wallet = with(&[100_000], 0);
    let old = wallet.pay(&[(elsewhere(), Amount::from_sat(60_000))], ONE, &Coins::default()).unwrap();
    wallet.transaction_seen(old.clone(), 1_000 + JUMP).unwrap();
    let rate = FeeRate::from_sat_per_vb(5).unwrap();
    let new = wallet.replacement(old.compute_txid(), rate, Reserve::Keep).unwrap();
    wallet.transaction_seen(new.clone(), 1_000).unwrap();
    assert_eq!(wallet.pending(), [new]);
}

#[test]
fn a_sweep_of_less_than_its_fee_is_refused() {
    let wallet = with(&[300], 0);
    let sweep = wallet.pay_all(&elsewhere(), FeeRate::from_sat_per_vb(3).unwrap(), &Coins::default());
    assert!(matches!(sweep, Err(WalletError::InsufficientFunds { .. })), "{sweep:?}");
}
