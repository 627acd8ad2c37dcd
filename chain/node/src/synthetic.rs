//! A chain that never was, for measuring: full blocks of payments, written to a file as they are made.
//!
//! ```text
//!   101 small blocks ─▶ a few that split their coins ─▶ full blocks: each payment spends two coins, one in two is taproot
//!                                                       (P2WPKH and P2TR key path), and makes two
//! ```
//!
//! It is a chain of regtest, valid to the last signature. `leyden bench chain` validates it, and so does the peer of
//! `make bench-peers WHAT=chain`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::key::TweakedPublicKey;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    Amount, Block, BlockHash, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    transaction,
};
use leyden_consensus::Params;
use leyden_consensus::subsidy::block_subsidy;
use leyden_mining::{Job, search};
use rayon::prelude::*;

use crate::backend::Backend;
use crate::config::NodeConfig;
use crate::core::Core;
use crate::error::{BlockRejected, HeadersRejected, NodeError};
use crate::node::open;
use crate::template::{TemplateContext, assemble};

/// Blocks until the first coinbase can be spent, and one for each that is then split.
const RIPENING: u32 = 100;
/// Blocks that split one coin each, into as many as a block holds.
const SPLITTING: u32 = 8;
/// Outputs of such a block: 27,000 of these two kinds fill one.
const SPLIT_OUTPUTS: usize = 25_000;
/// Weight of a payment with two inputs and two outputs, at most; and of what a block holds beside payments.
const PAYMENT_WEIGHT: u64 = 850;
const REST_WEIGHT: u64 = 1_500;
/// The limit of a block's weight.
const FULL: u64 = 4_000_000;
/// A block is as far behind the one before.
const SPACING: u32 = 600;
const HEADER_BYTES: usize = 80;
/// As many come in one message.
const MAX_HEADERS: usize = 2_000;

/// Why a chain was not made or not validated.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// The file.
    #[error("the blocks cannot be written or read: {0}")]
    Io(#[from] io::Error),
    /// A coin or signature that cannot be: a bug of this module.
    #[error("the chain cannot be made: {0}")]
    Made(String),
    /// The validating node.
    #[error("the node failed: {0}")]
    Node(#[from] NodeError),
    /// The validating node says no.
    #[error("a block was refused: {0}")]
    Refused(#[from] BlockRejected),
    /// It says so of a header.
    #[error("a header was refused: {0}")]
    Header(#[from] HeadersRejected),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticChain {
    /// All blocks but the genesis block.
    pub blocks: u32,
    /// Inputs, coinbases' apart.
    pub inputs: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// The last block.
    pub tip: BlockHash,
}

/// What validating it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidatedChain {
    /// The tip afterwards.
    pub tip: BlockHash,
    /// From the first block's bytes to the last block's commit.
    pub seconds: f64,
}

#[derive(Clone, Copy)]
struct Coin {
    outpoint: OutPoint,
    value: Amount,
    taproot: bool,
}

/// Makes the chain.
struct Forge {
    params: Params,
    secp: Secp256k1<All>,
    keys: Keypair,
    witness: ScriptBuf,
    taproot: ScriptBuf,
    coins: Vec<Coin>,
    /// Choices, always the same.
    random: u64,
    parent: BlockHash,
    time: u32,
    height: u32,
}

/// Writes a chain with so many full blocks to a file.
pub fn write_chain(path: &Path, full_blocks: u32) -> Result<SyntheticChain, SyntheticError> {
    let mut forge = Forge::new()?;
    let mut file = BufWriter::new(File::create(path)?);
    let (mut made, mut ripe) = (SyntheticChain { blocks: 0, inputs: 0, bytes: 0, tip: forge.parent }, Vec::new());
    let mut keep = |block: &Block| -> io::Result<()> {
        let bytes = serialize(block);
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&bytes)?;
        made.blocks += 1;
        made.bytes += u64::from(length);
        made.inputs += block.txdata.iter().skip(1).map(|tx| tx.input.len() as u64).sum::<u64>();
        made.tip = block.block_hash();
        Ok(())
    };
    for _ in 0..RIPENING + SPLITTING {
        let block = forge.block(Vec::new())?;
        ripe.extend(block.txdata.first().map(|coinbase| (coinbase.compute_txid(), coinbase.output.first().cloned())));
        keep(&block)?;
    }
    for (txid, output) in ripe.into_iter().take(SPLITTING as usize) {
        let value = output.map_or(Amount::ZERO, |output| output.value);
        let coin = Coin { outpoint: OutPoint { txid, vout: 0 }, value, taproot: false };
        let split = forge.pay(&[coin], SPLIT_OUTPUTS)?;
        keep(&forge.block(vec![split])?)?;
    }
    for _ in 0..full_blocks {
        let chosen: Vec<[Coin; 2]> = (0..(FULL - REST_WEIGHT) / PAYMENT_WEIGHT)
            .map(|_| Some([forge.take_coin()?, forge.take_coin()?]))
            .collect::<Option<_>>()
            .ok_or_else(|| SyntheticError::Made("too few coins".to_owned()))?;
        let payments: Result<Vec<Transaction>, SyntheticError> =
            chosen.par_iter().map(|coins| forge.pay(coins, coins.len())).collect();
        keep(&forge.block(payments?)?)?;
    }
    file.flush()?;
    Ok(made)
}

/// The blocks of the file as bytes, in the order of the chain.
pub fn read_chain(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + Send> {
    let mut file = BufReader::new(File::open(path)?);
    Ok(std::iter::from_fn(move || {
        let mut length = [0; 4];
        match file.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
            Err(error) => return Some(Err(error)),
            Ok(()) => {}
        }
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        Some(file.read_exact(&mut bytes).map(|()| bytes))
    }))
}

/// Validates the blocks of the file with a node's own settings, from an empty database in `folder`. As in a node, where
/// they come from peers, the headers come first, the next block is decoded and prepared while one is connected, and at the end
/// all is on the disk.
pub fn validate_chain(path: &Path, folder: &Path) -> Result<ValidatedChain, SyntheticError> {
    let config = NodeConfig::new(Params::regtest(), folder);
    let core = open(config)?;
    let begun = Instant::now();
    accept_headers(&core, path)?;
    let blocks = read_chain(path)?;
    std::thread::scope(|scope| -> Result<(), SyntheticError> {
        let (prepared, next) = sync_channel(1);
        let reader = scope.spawn({
            let core = &core;
            move || -> io::Result<()> {
                for bytes in blocks {
                    let block: Block = deserialize(&bytes?).map_err(io::Error::other)?;
                    if prepared.send(core.prepare_block(block)).is_err() {
                        // The chain has refused one.
                        break;
                    }
                }
                Ok(())
            }
        });
        for block in next {
            core.submit_prepared(block)?;
        }
        Ok(reader.join().map_err(|_| SyntheticError::Made("the reader panicked".to_owned()))??)
    })?;
    core.store.flush_coins()?;
    Ok(ValidatedChain { tip: core.tip().hash, seconds: begun.elapsed().as_secs_f64() })
}

fn accept_headers(core: &Core, path: &Path) -> Result<(), SyntheticError> {
    let mut file = BufReader::new(File::open(path)?);
    let mut headers = Vec::new();
    let mut prefix = [0; 4 + HEADER_BYTES];
    while !file.fill_buf()?.is_empty() {
        file.read_exact(&mut prefix)?;
        let (length, header) = prefix.split_at(4);
        let length = length.try_into().map_or(0, u32::from_le_bytes);
        headers.push(deserialize::<Header>(header).map_err(io::Error::other)?);
        file.seek_relative(i64::from(length).saturating_sub(HEADER_BYTES as i64))?;
    }
    for some in headers.chunks(MAX_HEADERS) {
        core.accept_headers(some)?;
    }
    Ok(())
}

/// The most memory that this process has had at once, in bytes; 0 where the system does not tell.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default().saturating_mul(1024)
}

impl Forge {
    fn new() -> Result<Self, SyntheticError> {
        let secp = Secp256k1::new();
        let secret = SecretKey::from_slice(&[0x4c; 32]).map_err(made)?;
        let keys = Keypair::from_secret_key(&secp, &secret);
        let witness = ScriptBuf::new_p2wpkh(&CompressedPublicKey(keys.public_key()).wpubkey_hash());
        let taproot =
            ScriptBuf::new_p2tr_tweaked(TweakedPublicKey::dangerous_assume_tweaked(keys.x_only_public_key().0));
        let params = Params::regtest();
        let (parent, time) = (params.genesis_hash, params.genesis.header.time);
        Ok(Self { params, secp, keys, witness, taproot, coins: Vec::new(), random: 1, parent, time, height: 0 })
    }

    fn take_coin(&mut self) -> Option<Coin> {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let count = u64::try_from(self.coins.len()).ok().filter(|count| *count > 0)?;
        let index = usize::try_from((self.random >> 20) % count).ok()?;
        Some(self.coins.swap_remove(index))
    }

    /// Spends the coins, for no fee, into outputs of equal value and alternating kind.
    fn pay(&self, coins: &[Coin], outputs: usize) -> Result<Transaction, SyntheticError> {
        let total: Amount = coins.iter().map(|coin| coin.value).sum();
        let value = total / u64::try_from(outputs).map_err(made)?;
        let script = |taproot: bool| if taproot { &self.taproot } else { &self.witness }.clone();
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let mut payment = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: (0..outputs).map(|index| TxOut { value, script_pubkey: script(index % 2 == 1) }).collect(),
        };
        let spent: Vec<TxOut> =
            coins.iter().map(|coin| TxOut { value: coin.value, script_pubkey: script(coin.taproot) }).collect();
        let mut cache = SighashCache::new(&payment);
        let mut witnesses = Vec::with_capacity(coins.len());
        for (index, coin) in coins.iter().enumerate() {
            witnesses.push(if coin.taproot {
                let hash = cache
                    .taproot_key_spend_signature_hash(index, &Prevouts::All(&spent), TapSighashType::Default)
                    .map_err(made)?;
                let signature = self.secp.sign_schnorr_no_aux_rand(&Message::from(hash), &self.keys);
                Witness::from_slice(&[signature.as_ref()])
            } else {
                let hash = cache
                    .p2wpkh_signature_hash(index, &self.witness, coin.value, EcdsaSighashType::All)
                    .map_err(made)?;
                let signature = self.secp.sign_ecdsa(&Message::from(hash), &self.keys.secret_key());
                let signature = bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
                Witness::p2wpkh(&signature, &self.keys.public_key())
            });
        }
        for (input, witness) in payment.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
        Ok(payment)
    }

    /// The next block; its payments' outputs are coins from now on.
    fn block(&mut self, payments: Vec<Transaction>) -> Result<Block, SyntheticError> {
        for payment in &payments {
            let txid = payment.compute_txid();
            self.coins.extend((0u32..).zip(&payment.output).map(|(vout, output)| Coin {
                outpoint: OutPoint { txid, vout },
                value: output.value,
                taproot: vout % 2 == 1,
            }));
        }
        self.height += 1;
        self.time += SPACING;
        let context = TemplateContext {
            parent: self.parent,
            height: self.height,
            time: self.time,
            bits: self.params.genesis.header.bits,
            subsidy: block_subsidy(self.height, &self.params),
            segwit: true,
        };
        let mut block = assemble(payments, Amount::ZERO, &context, self.witness.clone(), 0).block;
        let found = search(&Job::new(&block.header), 1, &Default::default(), &Default::default())
            .ok_or_else(|| SyntheticError::Made("no nonce solves a block of regtest".to_owned()))?;
        block.header.nonce = found.nonce;
        self.parent = block.block_hash();
        Ok(block)
    }
}

fn made(error: impl std::fmt::Display) -> SyntheticError {
    SyntheticError::Made(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_valid_and_its_blocks_are_full() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("blocks");
        let made = write_chain(&path, 1).expect("a chain");
        let last: Block = read_chain(&path)
            .expect("a file")
            .last()
            .map(|bytes| deserialize(&bytes.expect("bytes")).expect("a block"))
            .expect("blocks");
        // A payment weighs a little less than its most: a taproot input needs 41 units less than one of P2WPKH.
        let least = FULL - REST_WEIGHT - FULL / 50;
        assert!((least..=FULL).contains(&last.weight().to_wu()), "{}", last.weight());
        let validated = validate_chain(&path, folder.path()).expect("a valid chain");
        assert_eq!((validated.tip, made.blocks), (made.tip, RIPENING + 2 * SPLITTING + 1));
    }
}
