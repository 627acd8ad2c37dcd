//! A private network from a file: the same rules under other constants.
//!
//! Every soft fork holds from the first block on. Whatever differs in the file gives another genesis block or another
//! magic, so two private chains do not mix, as long as their messages differ.

use std::num::NonZeroU32;

use bitcoin::{Amount, CompactTarget, Network, Target, Work};
use serde::{Deserialize, Serialize};

use crate::difficulty::target_from_bits;
use crate::params::{GenesisHeader, MAX_GENESIS_MESSAGE, Params, Retarget, SPACING, build_genesis};
use crate::subsidy::MAX_MONEY;

/// What describes a private network. Only a name, a magic and a genesis block are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// What people call the network, and its folder in the data directory. Must not be the name of a built-in one.
    pub name: String,
    /// Eight hexadecimal digits: the four bytes before every P2P message.
    pub magic: String,
    /// The first block.
    pub genesis: GenesisFile,
    /// Seconds between blocks.
    #[serde(default = "default_spacing")]
    pub spacing: NonZeroU32,
    /// Blocks between halvings of the subsidy.
    #[serde(default = "default_halving")]
    pub halving: NonZeroU32,
    /// What the first blocks create, in satoshis.
    #[serde(default = "default_subsidy")]
    pub subsidy: u64,
    /// How the target follows from the chain. Default: it stays as it is.
    #[serde(default)]
    pub retarget: RetargetFile,
    /// Up to 64 hexadecimal digits: the work of the chain at some time (`chainwork` of the JSON-RPC's `getblockchaininfo`). Headers of a chain with
    /// less are not kept and its blocks not asked for, so a flood of easy ones costs nothing. Default: none is needed.
    #[serde(default, rename = "minimum-chain-work")]
    pub minimum_chain_work: Option<String>,
}

/// The genesis block of a private network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisFile {
    /// Text in the coinbase, at most 75 bytes: what sets this chain apart from any other.
    pub message: String,
    /// Seconds since 1970.
    pub time: u32,
    /// Eight hexadecimal digits: the first target, which is also the easiest.
    #[serde(default = "default_bits")]
    pub bits: String,
    /// May be left out when the target is easy: the lowest nonce that meets it is then found at the start.
    #[serde(default)]
    pub nonce: Option<u32>,
}

/// How difficulty follows the hash rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RetargetFile {
    /// It does not: for tests and demonstrations.
    #[default]
    Never,
    /// Bitcoin's rule.
    Periodic {
        /// Blocks between two changes of the target.
        interval: NonZeroU32,
    },
    /// The rule of `leyden`.
    MovingAverage {
        /// Blocks over which the average is taken.
        window: NonZeroU32,
    },
}

/// Why a network file describes no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum NetworkFileError {
    #[error("magic must be eight hexadecimal digits, not {0:?}")]
    Magic(String),
    #[error("the genesis block's bits must be eight hexadecimal digits that encode a target, not {0:?}")]
    Bits(String),
    #[error("the genesis message has {length} bytes; at most {limit} fit")]
    MessageTooLong { length: usize, limit: usize },
    #[error("a subsidy of {0} satoshis is more than all money; leave it out for 50 coins")]
    Subsidy(u64),
    #[error("minimum-chain-work must be up to 64 hexadecimal digits, as `getblockchaininfo` shows them, not {0:?}")]
    MinimumWork(String),
    #[error("subsidies halving every {halving} blocks would add up to more than 21 million coins; lower one of them")]
    TooMuchMoney { halving: u32 },
    #[error("the name {0:?} is taken; choose one that is not built in")]
    NameTaken(String),
    #[error("nonce {0} does not give the genesis block its proof of work")]
    Nonce(u32),
    #[error("no nonce was found in {0} tries: give the genesis block's nonce or easier bits")]
    NonceNotFound(u32),
}

/// How many nonces are tried for a genesis block without one; a fraction of a second.
const NONCE_TRIES: u32 = 1 << 20;

const BUILT_IN: [&str; 5] = ["leyden", "regtest", "mainnet", "testnet3", "signet"];

impl TryFrom<&NetworkFile> for Params {
    type Error = NetworkFileError;

    fn try_from(file: &NetworkFile) -> Result<Self, NetworkFileError> {
        if BUILT_IN.contains(&file.name.as_str()) {
            return Err(NetworkFileError::NameTaken(file.name.clone()));
        }
        let magic = hex_word(&file.magic).ok_or_else(|| NetworkFileError::Magic(file.magic.clone()))?;
        let length = file.genesis.message.len();
        if length > MAX_GENESIS_MESSAGE {
            return Err(NetworkFileError::MessageTooLong { length, limit: MAX_GENESIS_MESSAGE });
        }
        check_money(file)?;
        let bad_bits = || NetworkFileError::Bits(file.genesis.bits.clone());
        let bits = hex_word(&file.genesis.bits).map(u32::from_be_bytes).ok_or_else(bad_bits)?;
        let bits = CompactTarget::from_consensus(bits);
        let pow_limit = target_from_bits(bits).map_err(|_| bad_bits())?;
        // The bits must be the encoding of their target: the rule compares encodings.
        if pow_limit.to_compact_lossy() != bits {
            return Err(bad_bits());
        }
        let params = Params::bitcoin_like(build_genesis(&GenesisHeader {
            message: &file.genesis.message,
            subsidy: Amount::from_sat(file.subsidy),
            time: file.genesis.time,
            bits,
            nonce: file.genesis.nonce.unwrap_or(0),
        }));
        let mut params = Params {
            name: file.name.clone(),
            magic,
            address_network: Network::Regtest,
            pow_limit,
            spacing: file.spacing,
            retarget: match file.retarget {
                RetargetFile::Never => Retarget::Never,
                RetargetFile::Periodic { interval } => Retarget::Periodic { interval, easiest_after_gap: false },
                RetargetFile::MovingAverage { window } => Retarget::MovingAverage { window },
            },
            max_step_back: match file.retarget {
                RetargetFile::MovingAverage { .. } => Some(file.spacing.get()),
                RetargetFile::Never | RetargetFile::Periodic { .. } => None,
            },
            halving_interval: file.halving.get(),
            initial_subsidy: Amount::from_sat(file.subsidy),
            minimum_chain_work: minimum_work(file.minimum_chain_work.as_deref())?,
            ..params
        };
        params.genesis.header.nonce = genesis_nonce(&params, file.genesis.nonce, pow_limit)?;
        params.genesis_hash = params.genesis.block_hash();
        Ok(params)
    }
}

fn minimum_work(text: Option<&str>) -> Result<Work, NetworkFileError> {
    let digits = text.unwrap_or("0");
    let mut bytes = [0; 32];
    hex::decode_to_slice(format!("{digits:0>64}"), &mut bytes)
        .map_err(|_| NetworkFileError::MinimumWork(digits.to_owned()))?;
    Ok(Work::from_be_bytes(bytes))
}

fn genesis_nonce(params: &Params, given: Option<u32>, target: Target) -> Result<u32, NetworkFileError> {
    let mut header = params.genesis.header;
    let mut meets = |nonce| {
        header.nonce = nonce;
        target.is_met_by(header.block_hash())
    };
    match given {
        Some(nonce) if meets(nonce) => Ok(nonce),
        Some(nonce) => Err(NetworkFileError::Nonce(nonce)),
        None => (0..NONCE_TRIES).find(|nonce| meets(*nonce)).ok_or(NetworkFileError::NonceNotFound(NONCE_TRIES)),
    }
}

/// All subsidies together stay under the cap on money.
fn check_money(file: &NetworkFile) -> Result<(), NetworkFileError> {
    if file.subsidy > MAX_MONEY.to_sat() {
        return Err(NetworkFileError::Subsidy(file.subsidy));
    }
    let halving = file.halving.get();
    let mut total = 0u128;
    let mut subsidy = file.subsidy;
    while subsidy > 0 {
        total += u128::from(subsidy) * u128::from(halving);
        subsidy >>= 1;
    }
    if total > u128::from(MAX_MONEY.to_sat()) {
        return Err(NetworkFileError::TooMuchMoney { halving });
    }
    Ok(())
}

fn hex_word(text: &str) -> Option<[u8; 4]> {
    let mut bytes = [0; 4];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

fn default_spacing() -> NonZeroU32 {
    SPACING
}

fn default_halving() -> NonZeroU32 {
    const HALVING: NonZeroU32 = NonZeroU32::new(210_000).unwrap();
    HALVING
}

fn default_subsidy() -> u64 {
    50 * 100_000_000
}

fn default_bits() -> String {
    "207fffff".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> Result<Params, String> {
        let file: NetworkFile = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Params::try_from(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_short_file_makes_a_chain_of_its_own() {
        let left =
            file(r#"{"name":"left","magic":"01020304","genesis":{"message":"left","time":1700000000}}"#).unwrap();
        let right =
            file(r#"{"name":"right","magic":"01020304","genesis":{"message":"right","time":1700000000}}"#).unwrap();
        assert_eq!(left.magic, [1, 2, 3, 4]);
        assert_ne!(left.genesis_hash, right.genesis_hash);
        assert_eq!(left.retarget, Retarget::Never);
        assert_eq!(left.halving_interval, 210_000);
        assert!(crate::header::check_proof_of_work(&left.genesis.header, &left).is_ok());
        assert!(crate::block::check_block(&left.genesis, &left).is_ok());
    }

    #[test]
    fn a_full_file_sets_every_constant() {
        let params = file(
            r#"{"name":"fast","magic":"fabc0102","spacing":60,"halving":1000,"subsidy":100000000,"minimum-chain-work":"1ff",
                "retarget":{"rule":"moving-average","window":20},
                "genesis":{"message":"fast","time":1700000000,"bits":"1f7fffff"}}"#,
        )
        .unwrap();
        assert_eq!(params.spacing.get(), 60);
        assert_eq!(params.retarget, Retarget::MovingAverage { window: NonZeroU32::new(20).unwrap() });
        assert_eq!(params.max_step_back, Some(60));
        let mut work = [0; 32];
        work[30..].copy_from_slice(&[1, 0xff]);
        assert_eq!(params.minimum_chain_work, Work::from_be_bytes(work));
        assert_eq!(crate::subsidy::block_subsidy(1000, &params), Amount::from_sat(50_000_000));
    }

    #[test]
    fn wrong_files_are_refused_with_what_to_do() {
        for (json, words) in [
            (r#"{"name":"x","magic":"123","genesis":{"message":"m","time":1}}"#, "eight hexadecimal"),
            (r#"{"name":"leyden","magic":"01020304","genesis":{"message":"m","time":1}}"#, "is taken"),
            (r#"{"name":"x","magic":"01020304","genesis":{"message":"m","time":1,"bits":"00000000"}}"#, "bits"),
            (r#"{"name":"x","magic":"01020304","genesis":{"message":"m","time":1,"bits":"ff7fffff"}}"#, "bits"),
            (r#"{"name":"x","magic":"01020304","genesis":{"message":"m","time":1,"bits":"20007fff"}}"#, "bits"),
            (r#"{"name":"x","magic":"01020304","genesis":{"message":"m","time":1,"bits":"1d00ffff"}}"#, "no nonce"),
            (
                r#"{"name":"x","magic":"01020304","genesis":{"message":"m","time":1,"nonce":7,"bits":"1d00ffff"}}"#,
                "nonce 7",
            ),
            (r#"{"name":"x","magic":"01020304","halving":210001,"genesis":{"message":"m","time":1}}"#, "21 million"),
            (
                r#"{"name":"x","magic":"01020304","minimum-chain-work":"0x10","genesis":{"message":"m","time":1}}"#,
                "up to 64",
            ),
            (r#"{"name":"x","magic":"01020304","spacing":0,"genesis":{"message":"m","time":1}}"#, "nonzero"),
            (r#"{"name":"x","magic":"01020304","colour":1,"genesis":{"message":"m","time":1}}"#, "colour"),
        ] {
            let error = file(json).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let long =
            format!(r#"{{"name":"x","magic":"01020304","genesis":{{"message":"{}","time":1}}}}"#, "m".repeat(76));
        assert!(file(&long).unwrap_err().contains("75"));
    }
}
