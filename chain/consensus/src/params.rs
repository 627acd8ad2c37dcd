//! What sets one network apart from another.
//!
//! `regtest` is Bitcoin's, byte for byte, so that any tool in regtest mode works against it. `leyden` is the white
//! paper's economy on its own genesis. `mainnet`, `testnet3` and `signet` exist to check these rules against real
//! history; signet's block signatures (BIP 325) are not checked, so it serves for headers only. Private chains come
//! from a [`NetworkFile`](crate::NetworkFile).

use std::num::NonZeroU32;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, Sequence, Target, Transaction, TxIn, TxOut, Witness,
    Work, transaction,
};

use crate::merkle::merkle_root;

/// The rules and constants of one network.
#[derive(Clone, Debug)]
pub struct Params {
    /// What configuration files and people call it.
    pub name: String,
    /// The bytes before every P2P message.
    pub magic: [u8; 4],
    /// The first block.
    pub genesis: Block,
    /// Its hash: in Lightning messages it names the chain.
    pub genesis_hash: BlockHash,
    /// Whose address and invoice prefixes are used.
    pub address_network: Network,
    /// The easiest target that a block may have.
    pub pow_limit: Target,
    /// Seconds that blocks should be apart.
    pub spacing: NonZeroU32,
    /// How the next block's target follows from the chain.
    pub retarget: Retarget,
    /// How many seconds a block's time may lie before its parent's; without it only the median of eleven binds.
    pub max_step_back: Option<u32>,
    /// How many seconds a block's time may lie ahead of the clock.
    pub max_ahead: u32,
    /// Blocks between halvings of the subsidy.
    pub halving_interval: u32,
    /// What the first blocks create.
    pub initial_subsidy: Amount,
    /// The heights from which soft forks hold.
    pub activation: Activation,
    /// Blocks of the past that break a rule which otherwise holds from the genesis block on.
    pub exceptions: Vec<Exception>,
    /// Chains with less work than this are not followed: their headers are not kept, and their blocks not asked for. `regtest`
    /// and `leyden` ask for none: no chain of `leyden` is old enough to name one that everybody has, and a number above what the
    /// real chain has would shut its nodes out. Until a release names one, what a node has itself is the measure.
    pub minimum_chain_work: Work,
}

/// How the next block's target follows from the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retarget {
    /// The genesis block's target for ever (regtest).
    Never,
    /// Bitcoin's: every `interval` blocks, by the time that they took, at most by a factor of 4.
    Periodic {
        /// Blocks between two changes of the target.
        interval: NonZeroU32,
        /// Testnet's exception: a block more than two spacings after its parent may have the easiest target.
        easiest_after_gap: bool,
    },
    /// Every block, by an exponential moving average over about `window` blocks; see [`crate::difficulty`].
    MovingAverage {
        /// Blocks over which the average is taken.
        window: NonZeroU32,
    },
}

/// From which height on a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Height in the coinbase, block version 2.
    pub bip34: u32,
    /// CHECKLOCKTIMEVERIFY, block version 4.
    pub bip65: u32,
    /// Strict DER signatures, block version 3.
    pub bip66: u32,
    /// Relative locks and median time (BIP 68, 112, 113).
    pub csv: u32,
    /// Witness commitments and NULLDUMMY (BIP 141, 147). The script rules of P2SH, witness and taproot hold from the
    /// genesis block on, but for the exceptions.
    pub segwit: u32,
}

impl Activation {
    /// Everything from the first block on.
    pub const ALWAYS: Self = Self { bip34: 1, bip65: 1, bip66: 1, csv: 1, segwit: 0 };
}

/// A block that is valid although it breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The hash of the block that is excepted.
    pub block: BlockHash,
    /// The rule that is not checked for it.
    pub rule: ExceptedRule,
}

/// Which rule an [`Exception`] breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptedRule {
    /// BIP 16: none of P2SH, witness and taproot is checked.
    P2sh,
    /// BIP 341: P2SH and witness are checked, taproot is not.
    Taproot,
    /// BIP 30: the coinbase overwrites an older, unspent one.
    DuplicateCoinbase,
}

impl Params {
    /// Bitcoin's regtest: no retarget, every rule from the start, subsidy halving every 150 blocks.
    pub fn regtest() -> Self {
        Self {
            name: "regtest".into(),
            magic: [0xfa, 0xbf, 0xb5, 0xda],
            address_network: Network::Regtest,
            pow_limit: limit_from_high_bits(0x7fff_ffff_ffff_ffff, true),
            retarget: Retarget::Never,
            halving_interval: 150,
            ..Self::bitcoin_like(genesis_block(Network::Regtest))
        }
    }

    /// Leyden's own chain: ten-minute blocks, 50 coins halving every 210,000 blocks, a moving-average difficulty that
    /// starts at some 2^30 hashes a block and may fall to 2^22.
    pub fn leyden() -> Self {
        Self {
            name: "leyden".into(),
            magic: [0xb1, 0x1e, 0xd7, 0x45],
            address_network: Network::Signet,
            pow_limit: Target::from_compact(CompactTarget::from_consensus(0x1e03_ffff)),
            retarget: Retarget::MovingAverage { window: LEYDEN_WINDOW },
            max_step_back: Some(SPACING.get()),
            ..Self::bitcoin_like(leyden_genesis())
        }
    }

    /// Bitcoin's main network, to check these rules against real blocks.
    pub fn mainnet() -> Self {
        Self {
            name: "mainnet".into(),
            magic: [0xf9, 0xbe, 0xb4, 0xd9],
            address_network: Network::Bitcoin,
            pow_limit: limit_from_high_bits(0x0000_0000_ffff_ffff, true),
            activation: Activation { bip34: 227_931, bip65: 388_381, bip66: 363_725, csv: 419_328, segwit: 481_824 },
            exceptions: vec![
                exception("00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22", ExceptedRule::P2sh),
                exception("0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad", ExceptedRule::Taproot),
                // Heights 91842 and 91880.
                exception(
                    "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec",
                    ExceptedRule::DuplicateCoinbase,
                ),
                exception(
                    "00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721",
                    ExceptedRule::DuplicateCoinbase,
                ),
            ],
            ..Self::bitcoin_like(genesis_block(Network::Bitcoin))
        }
    }

    /// Bitcoin's third test network, for its headers.
    pub fn testnet3() -> Self {
        Self {
            name: "testnet3".into(),
            magic: [0x0b, 0x11, 0x09, 0x07],
            address_network: Network::Testnet,
            retarget: Retarget::Periodic { interval: TWO_WEEKS_OF_BLOCKS, easiest_after_gap: true },
            activation: Activation { bip34: 21_111, bip65: 581_885, bip66: 330_776, csv: 770_112, segwit: 834_624 },
            exceptions: vec![exception(
                "00000000dd30457c001f4095d208cc1296b0eed002427aa599874af7a432b105",
                ExceptedRule::P2sh,
            )],
            genesis_hash: genesis_block(Network::Testnet).block_hash(),
            genesis: genesis_block(Network::Testnet),
            ..Self::mainnet()
        }
    }

    /// Bitcoin's default signet, for its headers.
    pub fn signet() -> Self {
        Self {
            name: "signet".into(),
            magic: [0x0a, 0x03, 0xcf, 0x40],
            address_network: Network::Signet,
            pow_limit: limit_from_high_bits(0x0000_0377_ae00_0000, false),
            activation: Activation { segwit: 1, ..Activation::ALWAYS },
            ..Self::bitcoin_like(genesis_block(Network::Signet))
        }
    }

    /// The target of the easiest block as headers encode it.
    pub fn easiest_bits(&self) -> CompactTarget {
        self.pow_limit.to_compact_lossy()
    }

    /// Whether a named block breaks a rule lawfully.
    pub(crate) fn is_excepted(&self, block: BlockHash, rule: ExceptedRule) -> bool {
        self.exceptions.iter().any(|exception| exception.block == block && exception.rule == rule)
    }

    /// Bitcoin's numbers with every rule from the start.
    pub(crate) fn bitcoin_like(genesis: Block) -> Self {
        Self {
            name: String::new(),
            magic: [0; 4],
            genesis_hash: genesis.block_hash(),
            pow_limit: genesis.header.target(),
            genesis,
            address_network: Network::Regtest,
            spacing: SPACING,
            retarget: Retarget::Periodic { interval: TWO_WEEKS_OF_BLOCKS, easiest_after_gap: false },
            max_step_back: None,
            max_ahead: 2 * 60 * 60,
            halving_interval: 210_000,
            initial_subsidy: Amount::from_sat(50 * 100_000_000),
            activation: Activation::ALWAYS,
            exceptions: Vec::new(),
            minimum_chain_work: Work::from_be_bytes([0; 32]),
        }
    }
}

/// Ten minutes.
pub(crate) const SPACING: NonZeroU32 = NonZeroU32::new(600).unwrap();
const TWO_WEEKS_OF_BLOCKS: NonZeroU32 = NonZeroU32::new(2016).unwrap();
/// A day of blocks.
const LEYDEN_WINDOW: NonZeroU32 = NonZeroU32::new(144).unwrap();

/// The first block of the `leyden` network, 21 November 2026 at midnight UTC.
fn leyden_genesis() -> Block {
    build_genesis(&GenesisHeader {
        message: "Leyden, 21 November 2026: what two hold together, each can release",
        subsidy: Amount::from_sat(50 * 100_000_000),
        time: 1_795_219_200,
        bits: CompactTarget::from_consensus(0x1d03_ffff),
        nonce: LEYDEN_GENESIS_NONCE,
    })
}

/// Found once by search; `the_genesis_block_of_leyden_meets_its_own_target` checks it.
const LEYDEN_GENESIS_NONCE: u32 = 1_505_743_078;

/// What a genesis block is made of.
pub(crate) struct GenesisHeader<'a> {
    /// Shown in the coinbase, as proof that the chain is not older.
    pub(crate) message: &'a str,
    pub(crate) subsidy: Amount,
    pub(crate) time: u32,
    pub(crate) bits: CompactTarget,
    pub(crate) nonce: u32,
}

/// A genesis block whose coinbase carries a message and pays nobody: it could not be spent anyway, because the genesis
/// block's outputs never become coins.
pub(crate) fn build_genesis(genesis: &GenesisHeader) -> Block {
    let mut message = PushBytesBuf::new();
    for byte in genesis.message.bytes().take(MAX_GENESIS_MESSAGE) {
        // Cannot fail below four gigabytes; a shorter message would only change the genesis hash.
        if message.push(byte).is_err() {
            break;
        }
    }
    let coinbase = Transaction {
        version: transaction::Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new().push_int(0).push_slice(message).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: genesis.subsidy,
            script_pubkey: Builder::new().push_opcode(OP_RETURN).into_script(),
        }],
    };
    Block {
        header: Header {
            version: Version::ONE,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: merkle_root(&[coinbase.compute_txid()]).root,
            time: genesis.time,
            bits: genesis.bits,
            nonce: genesis.nonce,
        },
        txdata: vec![coinbase],
    }
}

/// What a single push opcode carries. A coinbase script may have 100 bytes, so it fits.
pub(crate) const MAX_GENESIS_MESSAGE: usize = 75;

/// A target that starts with these 64 bits and goes on with all ones, or all zeros.
fn limit_from_high_bits(high: u64, ones_below: bool) -> Target {
    let mut bytes = [if ones_below { 0xff } else { 0x00 }; 32];
    for (byte, value) in bytes.iter_mut().zip(high.to_be_bytes()) {
        *byte = value;
    }
    Target::from_be_bytes(bytes)
}

fn exception(display_hash: &str, rule: ExceptedRule) -> Exception {
    // A hash that does not parse would except no block; `named_exceptions_are_the_known_blocks` checks them.
    Exception { block: display_hash.parse().unwrap_or_else(|_| BlockHash::all_zeros()), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genesis_blocks_are_those_of_bitcoin() {
        for (params, hash) in [
            (Params::mainnet(), "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
            (Params::testnet3(), "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
            (Params::signet(), "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"),
            (Params::regtest(), "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
        ] {
            assert_eq!(params.genesis_hash.to_string(), hash, "{}", params.name);
            assert_eq!(params.genesis.block_hash(), params.genesis_hash);
            assert!(crate::header::check_proof_of_work(&params.genesis.header, &params).is_ok(), "{}", params.name);
        }
    }

    #[test]
    fn easiest_bits_are_those_of_the_genesis_blocks_of_bitcoin() {
        for params in [Params::mainnet(), Params::testnet3(), Params::signet(), Params::regtest()] {
            assert_eq!(params.easiest_bits(), params.genesis.header.bits, "{}", params.name);
        }
    }

    #[test]
    fn magics_are_those_of_bitcoin() {
        for params in [Params::mainnet(), Params::testnet3(), Params::signet(), Params::regtest()] {
            assert_eq!(params.magic, params.address_network.magic().to_bytes(), "{}", params.name);
        }
        let leyden = Params::leyden();
        assert!(std::str::from_utf8(&leyden.magic).is_err(), "magic must not look like text");
    }

    #[test]
    fn named_exceptions_are_the_known_blocks() {
        for params in [Params::mainnet(), Params::testnet3()] {
            assert!(params.exceptions.iter().all(|exception| exception.block != BlockHash::all_zeros()));
        }
        assert_eq!(Params::mainnet().exceptions.len(), 4);
    }

    #[test]
    fn the_genesis_block_of_leyden_meets_its_own_target() {
        let params = Params::leyden();
        let header = params.genesis.header;
        assert_eq!(crate::header::check_proof_of_work(&header, &params), Ok(()));
        assert_eq!(params.genesis_hash.to_string(), "00000003628dbdeddfc9f20d19e5f4b62a1c4c2c13664b52824c09369be85172");
        assert!(params.genesis.check_merkle_root());
        assert!(crate::transaction::check_transaction(&params.genesis.txdata[0]).is_ok());
    }
}
