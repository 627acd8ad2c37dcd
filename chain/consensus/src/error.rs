//! Why something is refused: one typed cause each, with the values that show it and Bitcoin Core's reject reason.
//!
//! The reason strings travel over RPC and in test vectors, so [`reject_reason`](BlockError::reject_reason) keeps Core's
//! words where Core has the rule. The `Display` text is for people.

use std::borrow::Cow;

use bitcoin::{Amount, BlockHash, CompactTarget, OutPoint, Txid};

use crate::script::ScriptError;

/// Why a header does not join the tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum HeaderError {
    #[error("block {hash} does not meet the proof of work that its bits {bits:x} claim")]
    ProofOfWork { hash: BlockHash, bits: CompactTarget },
    #[error("bits {bits:x} encode no target between one and this network's easiest")]
    ImpossibleBits { bits: CompactTarget },
    #[error("bits are {got:x}, but the chain so far asks for {expected:x}")]
    WrongBits { expected: CompactTarget, got: CompactTarget },
    #[error("time {time} is not after {median}, the median of the eleven blocks before")]
    TimeNotAfterMedian { median: u32, time: u32 },
    #[error("time {time} is before {earliest}, the earliest that may follow the block before")]
    TimeStepsBack { earliest: u32, time: u32 },
    #[error("time {time} is after {latest}, two hours from now; try again later")]
    TimeTooFarAhead { latest: u64, time: u32 },
    #[error("version {version} is outdated: blocks at this height need at least {minimum}")]
    OutdatedVersion { version: i32, minimum: i32 },
    #[error("the block before, {0}, is not known")]
    UnknownParent(BlockHash),
    #[error("block {hash} builds on {parent}, which is invalid")]
    InvalidParent { hash: BlockHash, parent: BlockHash },
    #[error("block {0} is already known to be invalid")]
    KnownInvalid(BlockHash),
    #[error("the chain is as long as heights can count")]
    HeightOverflow,
    #[error("the difficulty rule asks for a header that is not on this chain")]
    MissingAncestor,
}

impl HeaderError {
    /// Bitcoin Core's reject reason.
    pub fn reject_reason(&self) -> Cow<'static, str> {
        match self {
            Self::ProofOfWork { .. } | Self::ImpossibleBits { .. } => "high-hash".into(),
            Self::WrongBits { .. } => "bad-diffbits".into(),
            Self::TimeNotAfterMedian { .. } => "time-too-old".into(),
            Self::TimeStepsBack { .. } => "time-timewarp-attack".into(),
            Self::TimeTooFarAhead { .. } => "time-too-new".into(),
            Self::OutdatedVersion { version, .. } => format!("bad-version(0x{version:08x})").into(),
            Self::UnknownParent(_) => "prev-blk-not-found".into(),
            Self::InvalidParent { .. } => "bad-prevblk".into(),
            Self::KnownInvalid(_) => "duplicate-invalid".into(),
            Self::HeightOverflow => "height-overflow".into(),
            Self::MissingAncestor => "missing-ancestor".into(),
        }
    }

    /// Whether the same header may be accepted later, when time has passed or its parent has come.
    pub fn may_pass_later(&self) -> bool {
        match self {
            Self::TimeTooFarAhead { .. } | Self::UnknownParent(_) => true,
            Self::ProofOfWork { .. }
            | Self::ImpossibleBits { .. }
            | Self::WrongBits { .. }
            | Self::TimeNotAfterMedian { .. }
            | Self::TimeStepsBack { .. }
            | Self::OutdatedVersion { .. }
            | Self::InvalidParent { .. }
            | Self::KnownInvalid(_)
            | Self::HeightOverflow
            | Self::MissingAncestor => false,
        }
    }
}

/// Why a transaction is refused, scripts apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum TransactionError {
    #[error("the transaction has no inputs")]
    NoInputs,
    #[error("the transaction has no outputs")]
    NoOutputs,
    #[error("the transaction has {size} bytes without witnesses, more than a block holds")]
    Oversize { size: usize },
    #[error("output {index} has a negative value")]
    NegativeOutput { index: usize },
    #[error("output {index} is worth {value}, more than all money")]
    OutputTooLarge { index: usize, value: Amount },
    #[error("the outputs together are worth more than all money")]
    OutputSumTooLarge,
    #[error("output {0} is spent twice by the same transaction")]
    DuplicateInput(OutPoint),
    #[error("the coinbase script has {length} bytes, not 2 to 100")]
    CoinbaseScriptLength { length: usize },
    #[error("an input other than a coinbase's refers to no output")]
    NullInput,
    #[error("output {0} does not exist or is spent already")]
    MissingInput(OutPoint),
    #[error("coinbase output {outpoint} has {depth} confirmations of the {required} that it needs")]
    ImmatureCoinbase { outpoint: OutPoint, depth: u32, required: u32 },
    #[error("the inputs together are worth more than all money")]
    InputSumTooLarge,
    #[error("the inputs are worth {inputs}, less than the outputs' {outputs}")]
    OutputsExceedInputs { inputs: Amount, outputs: Amount },
    #[error("the transaction's lock time has not come")]
    NotFinal,
    #[error("a relative lock of the transaction has not run out")]
    SequenceLocked,
}

impl TransactionError {
    /// Bitcoin Core's reject reason.
    pub fn reject_reason(&self) -> &'static str {
        match self {
            Self::NoInputs => "bad-txns-vin-empty",
            Self::NoOutputs => "bad-txns-vout-empty",
            Self::Oversize { .. } => "bad-txns-oversize",
            Self::NegativeOutput { .. } => "bad-txns-vout-negative",
            Self::OutputTooLarge { .. } => "bad-txns-vout-toolarge",
            Self::OutputSumTooLarge => "bad-txns-txouttotal-toolarge",
            Self::DuplicateInput(_) => "bad-txns-inputs-duplicate",
            Self::CoinbaseScriptLength { .. } => "bad-cb-length",
            Self::NullInput => "bad-txns-prevout-null",
            Self::MissingInput(_) => "bad-txns-inputs-missingorspent",
            Self::ImmatureCoinbase { .. } => "bad-txns-premature-spend-of-coinbase",
            Self::InputSumTooLarge => "bad-txns-inputvalues-outofrange",
            Self::OutputsExceedInputs { .. } => "bad-txns-in-belowout",
            Self::NotFinal | Self::SequenceLocked => "bad-txns-nonfinal",
        }
    }
}

/// Why a block is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum BlockError {
    #[error("header refused: {0}")]
    Header(#[from] HeaderError),
    #[error("the merkle root is not that of the block's transactions")]
    MerkleRoot,
    #[error("the transactions repeat in a way that keeps the merkle root")]
    RepeatedTransactions,
    #[error("a 64-byte transaction could stand for an inner node of the merkle tree")]
    AmbiguousTransaction,
    #[error("the coinbase must carry exactly one witness item of 32 bytes")]
    WitnessReservedValue,
    #[error("the witness commitment is not that of the block's witnesses")]
    WitnessCommitment,
    #[error("transaction {0} carries a witness that the block does not commit to")]
    UnexpectedWitness(Txid),
    #[error("the block is empty or larger without witnesses than a block may be")]
    Length,
    #[error("the block weighs {weight}, more than {limit}")]
    Weight { weight: u64, limit: u64 },
    #[error("the first transaction is not a coinbase")]
    NoCoinbase,
    #[error("transaction number {index} is a second coinbase")]
    SecondCoinbase { index: usize },
    #[error("the coinbase does not start with the height {height}")]
    CoinbaseHeight { height: u32 },
    #[error("transaction {txid}: {cause}")]
    Transaction { txid: Txid, cause: TransactionError },
    #[error("the signature operations cost {cost} or more, over the limit of {limit}")]
    SigopCost { cost: u64, limit: u64 },
    #[error("the fees of the block add up to more than all money")]
    FeeSum,
    #[error("the coinbase pays {paid}, more than the {allowed} of subsidy and fees")]
    CoinbaseOverpays { paid: Amount, allowed: Amount },
    #[error("output {0} would overwrite one that is still unspent")]
    OverwritesCoin(OutPoint),
    #[error(transparent)]
    Script(#[from] ScriptFailure),
}

impl BlockError {
    /// Bitcoin Core's reject reason.
    pub fn reject_reason(&self) -> Cow<'static, str> {
        match self {
            Self::Header(cause) => cause.reject_reason(),
            Self::MerkleRoot => "bad-txnmrklroot".into(),
            Self::RepeatedTransactions => "bad-txns-duplicate".into(),
            Self::AmbiguousTransaction => "bad-txns-64-bytes".into(),
            Self::WitnessReservedValue => "bad-witness-nonce-size".into(),
            Self::WitnessCommitment => "bad-witness-merkle-match".into(),
            Self::UnexpectedWitness(_) => "unexpected-witness".into(),
            Self::Length => "bad-blk-length".into(),
            Self::Weight { .. } => "bad-blk-weight".into(),
            Self::NoCoinbase => "bad-cb-missing".into(),
            Self::SecondCoinbase { .. } => "bad-cb-multiple".into(),
            Self::CoinbaseHeight { .. } => "bad-cb-height".into(),
            Self::Transaction { cause, .. } => cause.reject_reason().into(),
            Self::SigopCost { .. } => "bad-blk-sigops".into(),
            Self::FeeSum => "bad-txns-accumulated-fee-outofrange".into(),
            Self::CoinbaseOverpays { .. } => "bad-cb-amount".into(),
            Self::OverwritesCoin(_) => "bad-txns-BIP30".into(),
            Self::Script(cause) => format!("block-script-verify-flag-failed ({})", cause.cause.core_name()).into(),
        }
    }

    /// Whether the fault is in this copy of the block only: its header may belong to an honest block, so the hash must
    /// not be remembered as invalid; ask another peer for the block instead.
    pub fn is_mutation(&self) -> bool {
        match self {
            Self::MerkleRoot
            | Self::RepeatedTransactions
            | Self::AmbiguousTransaction
            | Self::WitnessReservedValue
            | Self::WitnessCommitment
            | Self::UnexpectedWitness(_) => true,
            Self::Header(_)
            | Self::Length
            | Self::Weight { .. }
            | Self::NoCoinbase
            | Self::SecondCoinbase { .. }
            | Self::CoinbaseHeight { .. }
            | Self::Transaction { .. }
            | Self::SigopCost { .. }
            | Self::FeeSum
            | Self::CoinbaseOverpays { .. }
            | Self::OverwritesCoin(_)
            | Self::Script(_) => false,
        }
    }
}

/// A script that does not allow its output to be spent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input {input} of transaction {txid}: {cause}")]
pub struct ScriptFailure {
    /// The transaction that spends.
    pub txid: Txid,
    /// The index of its input.
    pub input: usize,
    /// What the script interpreter found.
    pub cause: ScriptError,
}

/// Why a block was not connected: its own fault, or coins could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ConnectError<E> {
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The coin database failed; says nothing about the block.
    #[error("coins could not be read: {0}")]
    Source(E),
    /// The chain before this block cannot answer a question that the rules ask; the caller's context is wrong.
    #[error("the median time past at height {height} is not known")]
    UnknownMedianTime {
        /// The height at which the median time is asked for.
        height: u32,
    },
}

/// Why a block cannot be taken off: the coins, the block and its undo data do not belong together.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum DisconnectError<E> {
    #[error("coins could not be read: {0}")]
    Source(E),
    #[error("undo data covers {undo} transactions, the block has {block} besides the coinbase")]
    TransactionCount { undo: usize, block: usize },
    #[error("undo data of transaction {txid} has {undo} coins for {inputs} inputs")]
    InputCount { txid: Txid, undo: usize, inputs: usize },
    #[error("output {0} that the block created is missing or differs: the coin database is damaged")]
    CreatedCoinDiffers(OutPoint),
    #[error("output {0} that the block spent is unspent: the coin database is damaged")]
    SpentCoinExists(OutPoint),
}
