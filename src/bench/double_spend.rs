//! Races of a double spend on real chain code: `leyden lab double-spend` asks for them.
//!
//! ```text
//!   tip ──▶ payment ──▶ ▪ ──▶ ▪          each found block goes to the chainstate
//!    └────▶ double spend ┄▶ ▫ ┄▶ ▫       the attacker keeps its blocks until it has more than the others
//! ```
//!
//! The attacker has found one block in secret before it pays: as a chain is replaced only by one with more work, this makes
//! "one block more" what the white paper's section 11 calls drawing level. Only time is simulated, and who finds the next
//! block; blocks have their proof of work by regtest's rules, and the chainstate decides which payment stands.

use std::{path::Path, sync::Arc};

use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    absolute::LockTime,
    opcodes::{
        Opcode,
        all::{OP_PUSHNUM_1, OP_PUSHNUM_2},
    },
    transaction,
};
use clap::Args;
use leyden_common::bench::DoubleSpends;
use leyden_consensus::{Params, subsidy::block_subsidy};
use leyden_mining::{Job, search};
use leyden_node::{
    Backend as _, Clock, MempoolPolicy,
    core::Core,
    store::{Store, StoreOptions},
    template::{TemplateContext, assemble},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::BenchError;

/// What is raced.
#[derive(Debug, Args)]
pub(super) struct Races {
    /// The attacker's share of the hash rate
    #[arg(long)]
    attacker: f64,
    /// Blocks that the merchant waits for
    #[arg(long)]
    confirmations: u32,
    /// How many races
    #[arg(long)]
    races: u32,
    #[arg(long)]
    seed: u64,
}

/// Seconds between two blocks, on average.
const SPACING: f64 = 600.0;
/// The attacker gives up when its chance to catch up is below this: far less than races can show.
const HOPELESS: f64 = 1e-6;
/// Blocks after which a reward can be spent, and the one with it.
const RIPENING: u32 = 101;
/// Outpoints in memory.
const COINS: usize = 1_000;

/// Runs the races on a chain in `folder`.
pub(super) fn run(folder: &Path, races: &Races) -> Result<DoubleSpends, BenchError> {
    let mut world = World::new(folder, races.seed)?;
    let mut won = 0;
    for _ in 0..races.races {
        won += u32::from(world.race(races)?);
    }
    let World { blocks, .. } = world;
    Ok(DoubleSpends { races: races.races, won, blocks, height: world.core.tip().height })
}

/// Where a block stands, for building on it.
#[derive(Clone, Copy)]
struct Place {
    hash: BlockHash,
    height: u32,
}

/// An output that anybody can spend.
#[derive(Clone, Copy)]
struct OpenCoin {
    outpoint: OutPoint,
    value: Amount,
}

struct World {
    params: Arc<Params>,
    store: Arc<Store>,
    core: Core,
    clock: Clock,
    dice: StdRng,
    /// What the next payment spends.
    coin: OpenCoin,
    /// Blocks found so far, published or not.
    blocks: u64,
}

impl World {
    fn new(folder: &Path, seed: u64) -> Result<Self, BenchError> {
        let params = Arc::new(Params::regtest());
        // Nobody needs this chain after a crash.
        let options = StoreOptions { sync: false, ..StoreOptions::new(folder) };
        let store = Arc::new(Store::open(options, &params.genesis).map_err(failed)?);
        let clock = Clock::manual(u64::from(params.genesis.header.time));
        let core =
            Core::open(Arc::clone(&params), MempoolPolicy::default(), clock.clone(), Arc::clone(&store), COINS, None)
                .map_err(failed)?;
        let coin = OpenCoin { outpoint: OutPoint::null(), value: Amount::ZERO };
        let mut world = Self { params, store, core, clock, dice: StdRng::seed_from_u64(seed), coin, blocks: 0 };
        for _ in 0..RIPENING {
            let block = world.find(world.tip(), Vec::new())?;
            let first = block.txdata.first().filter(|_| world.coin.value == Amount::ZERO);
            if let Some(output) =
                first.and_then(|coinbase| Some((coinbase.compute_txid(), coinbase.output.first()?.value)))
            {
                world.coin = OpenCoin { outpoint: OutPoint::new(output.0, 0), value: output.1 };
            }
            world.publish(block)?;
        }
        Ok(world)
    }

    fn tip(&self) -> Place {
        let tip = self.core.tip();
        Place { hash: tip.hash, height: tip.height }
    }

    /// Whether the double spend stands in the end.
    fn race(&mut self, races: &Races) -> Result<bool, BenchError> {
        let (payment, double_spend) = (self.spend(OP_PUSHNUM_1), self.spend(OP_PUSHNUM_2));
        let give_up = gives_up_at(races.attacker);
        let mut honest = self.tip();
        let mut secret = vec![self.find(honest, vec![double_spend.clone()])?];
        let mut secret_tip =
            Place { hash: secret.last().map_or(honest.hash, Block::block_hash), height: honest.height + 1 };
        let start = honest.height;
        loop {
            let waited = honest.height - start >= races.confirmations;
            if waited && secret_tip.height > honest.height {
                for block in std::mem::take(&mut secret) {
                    self.publish(block)?;
                }
                break;
            }
            // One block behind is level, with the one before the payment.
            if waited && honest.height + 1 - secret_tip.height >= give_up {
                break;
            }
            if self.dice.next_u64() < attackers_throws(races.attacker) {
                let block = self.find(secret_tip, Vec::new())?;
                secret_tip = Place { hash: block.block_hash(), height: secret_tip.height + 1 };
                secret.push(block);
            } else {
                let paid = if honest.height == start { vec![payment.clone()] } else { Vec::new() };
                let block = self.find(honest, paid)?;
                honest = Place { hash: block.block_hash(), height: honest.height + 1 };
                self.publish(block)?;
            }
        }
        let coin_of = |transaction: &Transaction| OutPoint::new(transaction.compute_txid(), 0);
        let (paid, stolen) = (coin_of(&payment), coin_of(&double_spend));
        let unspent = |outpoint: &OutPoint| self.store.coin(outpoint).map(|coin| coin.is_some());
        let success = unspent(&stolen).map_err(failed)?;
        if success == unspent(&paid).map_err(failed)? {
            return Err(BenchError::DoubleSpend("both payments stand, or none".to_owned()));
        }
        self.coin.outpoint = if success { stolen } else { paid };
        Ok(success)
    }

    /// Pays the coin to a script that is this opcode alone.
    fn spend(&self, script: Opcode) -> Transaction {
        let input = TxIn {
            previous_output: self.coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let output = TxOut { value: self.coin.value, script_pubkey: open_script(script) };
        Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input],
            output: vec![output],
        }
    }

    /// Mines a block there, at a time that is as long after the one before as chance will have it.
    fn find(&mut self, parent: Place, transactions: Vec<Transaction>) -> Result<Block, BenchError> {
        let uniform = (self.dice.next_u64() >> 11) as f64 / 2_f64.powi(53);
        let waited = (-(1.0 - uniform).ln() * SPACING).ceil();
        self.clock.set(self.clock.now() + waited as u64);
        let height = parent.height + 1;
        let context = TemplateContext {
            parent: parent.hash,
            height,
            time: u32::try_from(self.clock.now()).map_err(failed)?,
            bits: self.params.genesis.header.bits,
            subsidy: block_subsidy(height, &self.params),
            segwit: true,
        };
        self.blocks += 1;
        let template = assemble(transactions, Amount::ZERO, &context, open_script(OP_PUSHNUM_1), self.blocks);
        let mut block = template.block;
        let found = search(&Job::new(&block.header), 1, &Default::default(), &Default::default());
        block.header.nonce = found.ok_or_else(|| failed("no nonce solves a block"))?.nonce;
        Ok(block)
    }

    fn publish(&self, block: Block) -> Result<(), BenchError> {
        self.core.submit_block(block).map(drop).map_err(failed)
    }
}

fn open_script(opcode: Opcode) -> ScriptBuf {
    bitcoin::script::Builder::new().push_opcode(opcode).into_script()
}

/// A throw of 64 bits below this is the attacker's block.
fn attackers_throws(share: f64) -> u64 {
    (share * 2_f64.powi(64)) as u64
}

/// So many blocks behind, the attacker gives up.
fn gives_up_at(share: f64) -> u32 {
    (HOPELESS.ln() / (share / (1.0 - share)).ln()).ceil() as u32
}

fn failed(error: impl std::fmt::Display) -> BenchError {
    BenchError::DoubleSpend(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raced(attacker: f64, confirmations: u32, races: u32) -> DoubleSpends {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &Races { attacker, confirmations, races, seed: 7 }).unwrap()
    }

    #[test]
    fn an_unconfirmed_payment_is_always_replaced_and_one_without_rivals_never() {
        assert_eq!(raced(0.1, 0, 20).won, 20);
        assert_eq!(raced(0.0, 1, 20).won, 0);
    }

    #[test]
    fn the_same_seed_gives_the_same_races() {
        assert_eq!(raced(0.4, 1, 30), raced(0.4, 1, 30));
    }
}
