//! What can go wrong, by whose fault it is: ours or the disk's ([`NodeError`], [`StoreError`]), a block's
//! ([`BlockRejected`], [`HeadersRejected`]), or a transaction's ([`MempoolError`]).

use std::path::PathBuf;

use bitcoin::{Amount, BlockHash, FeeRate, OutPoint, Txid};
use leyden_consensus::{BlockError, HeaderError, ScriptFailure, TransactionError};

/// The database could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum StoreError {
    #[error(
        "the chain database {path} is in use by another process; stop that process or choose another data directory"
    )]
    Locked { path: PathBuf },
    #[error(
        "the chain database {path} was written by a newer version (format {found}; this program knows up to {supported}); \
         install the newer version or choose another data directory"
    )]
    Newer { path: PathBuf, found: u32, supported: u32 },
    #[error("the chain database {path} belongs to another network (genesis block {found}, wanted {wanted})")]
    OtherNetwork { path: PathBuf, found: BlockHash, wanted: BlockHash },
    #[error("the chain database {path} is corrupt: {detail}; move it away to download the chain again")]
    Corrupt { path: PathBuf, detail: String },
    #[error(
        "there are too few file descriptors for the chain database {path}, which is not damaged: allow this process more \
         (`ulimit -n 1024`) and start it again"
    )]
    TooManyFiles { path: PathBuf },
    #[error("the disk has no room for the chain database {path}, which is not damaged: make room and start it again")]
    Full { path: PathBuf },
    #[error("the chain database {path} cannot be read or written: {detail}")]
    Io { path: PathBuf, detail: String },
}

/// The node could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum NodeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A commit failed: memory and disk may differ, so nothing more is done until the process is started again.
    #[error("the node stopped after a failed write: {0}; start it again")]
    Halted(StoreError),
    #[error("the node is shutting down")]
    ShuttingDown,
    #[error("block {0} is not known")]
    UnknownBlock(BlockHash),
    #[error("the stored block or undo data of {0} is missing")]
    MissingData(BlockHash),
    #[error(
        "the block at height {height} is pruned: this node keeps the blocks from height {below} on; ask a node that keeps all, or \
         start this one without --prune and with an empty chain database"
    )]
    Pruned { height: u32, below: u32 },
    /// A reorganisation would have to take off blocks that are pruned.
    #[error(
        "block {hash} is of a chain that parts from this node's after height {fork}, and this node keeps its blocks from \
         height {below} on only: it cannot go over to that chain; a node with an empty chain database can"
    )]
    OutOfReach { hash: BlockHash, fork: u32, below: u32 },
    #[error("the network cannot be used: {0}")]
    Network(String),
    #[error("no connection to {address}: {reason}; check the address and that the node there runs the same network")]
    Unreachable { address: std::net::SocketAddr, reason: String },
    #[error("the block that was built here is invalid: {0}")]
    InvalidTemplate(Box<BlockRejected>),
    #[error(
        "this machine's clock is {} hours behind the chain: a block with its time would be refused; set the clock",
        seconds.saturating_add(1_800) / 3_600
    )]
    ClockBehindChain { seconds: u64 },
    #[error("the proof of work was not found: the search was stopped")]
    SearchStopped,
    /// What only a full node has.
    #[error("this is a light node, which does not have {0}: ask a full node (leydend without --light)")]
    LightNode(&'static str),
    /// A bug in the node's own logic.
    #[error("internal error: {0}")]
    Invariant(String),
}

/// Why a block was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum BlockRejected {
    /// The block is invalid: whoever serves it misbehaves. The hash is remembered as that of an invalid block, unless the block
    /// shows its fault by itself.
    #[error("block {hash} is invalid: {cause}")]
    Invalid { hash: BlockHash, cause: BlockError },
    /// These bytes are not the block that the hash names, but the hash may name a valid one (CVE-2012-2459 and
    /// altered witnesses). Whoever sent them misbehaves; ask somebody else for the block.
    #[error("the copy of block {hash} is damaged: {cause}")]
    Mutated { hash: BlockHash, cause: BlockError },
    /// Its header is refused. [`HeaderError::may_pass_later`] says whether that is for good.
    #[error("block {hash} has a header that is refused: {cause}")]
    Header { hash: BlockHash, cause: HeaderError },
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Why headers were not taken. Those before `hash` were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum HeadersRejected {
    /// [`HeaderError::may_pass_later`] says whether that is for good.
    #[error("header {hash} is refused: {cause}")]
    Header { hash: BlockHash, cause: HeaderError },
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Why a transaction or a package was not taken into the mempool. [`MempoolError::reason`] gives the short reason
/// that Bitcoin Core's interfaces use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum MempoolError {
    #[error("transaction {0} is already in the mempool")]
    AlreadyInMempool(Txid),
    #[error("transaction {0} is in the mempool with another witness")]
    SameTransactionOtherWitness(Txid),
    #[error("transaction {0} is already confirmed")]
    AlreadyConfirmed(Txid),
    #[error("a coinbase transaction is valid only as a block's first")]
    Coinbase,
    /// It breaks a consensus rule in itself; nothing that happens later can make it valid.
    #[error("the transaction is invalid: {0}")]
    Invalid(TransactionError),
    /// The outputs that it spends do not exist or are spent.
    #[error("input {0} is missing or spent")]
    MissingInputs(OutPoint),
    #[error("coinbase output {outpoint} has {depth} of the {required} confirmations that it needs")]
    PrematureCoinbaseSpend { outpoint: OutPoint, depth: u32, required: u32 },
    #[error("its lock time is not reached yet")]
    NonFinal,
    #[error("a relative lock (BIP 68) of its inputs is not reached yet")]
    NonBip68Final,
    #[error("its inputs are worth {inputs}, less than its outputs' {outputs}")]
    InputsBelowOutputs { inputs: Amount, outputs: Amount },
    /// A script fails by the rules of consensus.
    #[error("{0}")]
    Script(ScriptFailure),
    /// A script fails for want of a witness in a transaction that has none at all: it may have been taken off on the way.
    #[error("{0}; the transaction comes without its witnesses")]
    WitnessStripped(ScriptFailure),
    /// A script is valid in a block, but fails by the stricter rules of the mempool.
    #[error("{0}")]
    ScriptPolicy(ScriptFailure),
    #[error("the transaction is not standard: {0}")]
    NonStandard(#[from] NonStandard),
    #[error("its fee of {fee} is below the relay minimum of {required}")]
    FeeBelowMinimumRelay { fee: Amount, required: Amount },
    #[error("the mempool is full: its fee of {fee} is below the {required} that is asked now")]
    FeeBelowMempoolMinimum { fee: Amount, required: Amount },
    #[error("the mempool is full, and it pays less than what is there")]
    MempoolFull,
    #[error(
        "with all unconfirmed transactions that it is related to it would be {count} ({virtual_bytes} vB or more); at most {limit_count} ({limit_bytes} vB) are kept: wait for a block"
    )]
    ClusterTooLarge { count: usize, virtual_bytes: u64, limit_count: usize, limit_bytes: u64 },
    #[error("it spends an output of {0}, which it replaces")]
    SpendsConflicting(Txid),
    #[error("as a replacement it may not spend the new unconfirmed output {0}")]
    ReplacementAddsUnconfirmed(OutPoint),
    #[error("it replaces {replaced}, which pays a fee rate of at least {conflicting}; it pays {offered}")]
    ReplacementFeeRateTooLow { replaced: Txid, conflicting: FeeRate, offered: FeeRate },
    #[error("its fee of {fee} is below the {required} that replaces the transactions in its way")]
    ReplacementFeeTooLow { fee: Amount, required: Amount },
    #[error("it would replace {count} transactions; at most {limit} are allowed")]
    TooManyReplacements { count: usize, limit: usize },
    #[error("it breaks a rule of version-3 transactions (BIP 431): {0}")]
    Truc(TrucViolation),
    #[error("it spends {parent} but leaves that transaction's dust output unspent")]
    UnspentEphemeralDust { parent: Txid },
    #[error("the package is not acceptable: {0}")]
    Package(#[from] PackageError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// A rule of what is relayed, not of what is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum NonStandard {
    #[error("version {0} is not 1, 2 or 3")]
    Version(i32),
    #[error("it weighs {weight}; at most {limit} is relayed")]
    Weight { weight: u64, limit: u64 },
    #[error("it is only {bytes} bytes long without witness; at least {minimum} are needed")]
    TooSmall { bytes: usize, minimum: usize },
    #[error("input {input} has a signature script of {bytes} bytes")]
    ScriptSigSize { input: usize, bytes: usize },
    #[error("input {input} has a signature script that does more than push data")]
    ScriptSigNotPushOnly { input: usize },
    #[error("output {output} has an unknown kind of script")]
    OutputScript { output: usize },
    #[error("output {output} holds {amount}, less than it costs to spend; at least {minimum} is needed")]
    Dust { output: usize, amount: Amount, minimum: Amount },
    #[error("only a transaction without fee may have a dust output, which its child then spends")]
    DustWithFee,
    #[error("its data outputs are {bytes} bytes long; at most {limit} are relayed")]
    DataCarrier { bytes: usize, limit: usize },
    #[error("input {input} spends an output of an unknown kind")]
    InputScript { input: usize },
    #[error("input {input} has a witness beyond the limits")]
    Witness { input: usize },
    #[error("it has a signature-operation cost of {cost}; at most {limit} is relayed")]
    SigopCost { cost: u64, limit: u64 },
    #[error("it executes {count} legacy signature operations; at most {limit} are relayed")]
    LegacySigops { count: u64, limit: u64 },
}

/// A rule of version-3 transactions (BIP 431).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum TrucViolation {
    #[error(
        "a version-3 transaction may spend unconfirmed outputs of version-3 transactions only ({parent} is not one)"
    )]
    ParentNotTruc { parent: Txid },
    #[error("only a version-3 transaction may spend unconfirmed outputs of the version-3 transaction {parent}")]
    ChildNotTruc { parent: Txid },
    #[error("{virtual_bytes} vB is too large; at most {limit} vB are allowed")]
    TooLarge { virtual_bytes: u64, limit: u64 },
    #[error("as a child it has {virtual_bytes} vB; at most {limit} vB are allowed")]
    ChildTooLarge { virtual_bytes: u64, limit: u64 },
    #[error("it may have one unconfirmed ancestor")]
    TooManyAncestors,
    #[error("its parent {parent} already has an unconfirmed child")]
    TooManyDescendants { parent: Txid },
}

/// What is wrong with a package as such.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum PackageError {
    #[error("it is empty")]
    Empty,
    #[error("it holds {count} transactions; at most {limit} are allowed")]
    TooMany { count: usize, limit: usize },
    #[error("it weighs {weight}; at most {limit} is allowed")]
    TooHeavy { weight: u64, limit: u64 },
    #[error("two of its transactions are the same or spend the same output")]
    Conflicting,
    #[error("a child comes before its parent")]
    NotSorted,
    #[error("it is not a child with its unconfirmed parents")]
    NotChildWithParents,
    #[error("together they pay {fee} of fee; {required} is required")]
    FeeTooLow { fee: Amount, required: Amount },
    #[error(
        "a package that replaces others must be one parent with one child, both without other unconfirmed relatives"
    )]
    ReplacementShape,
    #[error("the child pays no higher rate than its parent: a package that replaces others is lifted by its child")]
    ReplacementByParent,
    #[error("a miner would earn less at some size of block: pay a higher rate than what is replaced is mined at")]
    ReplacementWorse,
    #[error("transaction {txid}: {error}")]
    Transaction { txid: Txid, error: Box<MempoolError> },
}

impl MempoolError {
    /// The short reason under Bitcoin Core's names, for callers of its interfaces.
    pub fn reason(&self) -> String {
        match self {
            Self::AlreadyInMempool(_) => "txn-already-in-mempool".into(),
            Self::SameTransactionOtherWitness(_) => "txn-same-nonwitness-data-in-mempool".into(),
            Self::AlreadyConfirmed(_) => "txn-already-known".into(),
            Self::Coinbase => "coinbase".into(),
            Self::Invalid(cause) => cause.reject_reason().into(),
            Self::MissingInputs(_) => "bad-txns-inputs-missingorspent".into(),
            Self::PrematureCoinbaseSpend { .. } => "bad-txns-premature-spend-of-coinbase".into(),
            Self::NonFinal => "non-final".into(),
            Self::NonBip68Final => "non-BIP68-final".into(),
            Self::InputsBelowOutputs { .. } => "bad-txns-in-belowout".into(),
            Self::Script(failure) | Self::ScriptPolicy(failure) | Self::WitnessStripped(failure) => {
                format!("mempool-script-verify-flag-failed ({})", failure.cause)
            }
            Self::NonStandard(rule) => rule.reason().into(),
            Self::FeeBelowMinimumRelay { .. } => "min relay fee not met".into(),
            Self::FeeBelowMempoolMinimum { .. } => "mempool min fee not met".into(),
            Self::MempoolFull => "mempool full".into(),
            Self::ClusterTooLarge { .. } => "too-large-cluster".into(),
            Self::SpendsConflicting(_) => "bad-txns-spends-conflicting-tx".into(),
            Self::ReplacementAddsUnconfirmed(_) => "replacement-adds-unconfirmed".into(),
            Self::ReplacementFeeRateTooLow { .. } | Self::ReplacementFeeTooLow { .. } => "insufficient fee".into(),
            Self::TooManyReplacements { .. } => "too many potential replacements".into(),
            Self::Truc(_) => "TRUC-violation".into(),
            Self::UnspentEphemeralDust { .. } => "missing-ephemeral-spends".into(),
            Self::Package(error) => error.reason(),
            Self::Node(_) => "node-error".into(),
        }
    }

    /// The transaction of a package that breaks the rules of consensus by itself.
    pub fn invalid_of_package(&self) -> Option<Txid> {
        match self {
            Self::Package(PackageError::Transaction { txid, error }) if error.breaks_consensus() => Some(*txid),
            Self::Script(failure) => Some(failure.txid),
            _ => None,
        }
    }

    /// Does it break a rule that every honest node has checked before it relays a transaction?
    pub fn breaks_consensus(&self) -> bool {
        matches!(self, Self::Coinbase | Self::Invalid(_) | Self::InputsBelowOutputs { .. } | Self::Script(_))
    }

    /// Could the same transaction be accepted later, or together with others? If not, whoever relays it misbehaves or
    /// runs other rules, and it need not be asked for again.
    pub fn may_be_accepted_later(&self) -> bool {
        match self {
            Self::Coinbase
            | Self::Invalid(_)
            | Self::InputsBelowOutputs { .. }
            | Self::Script(_)
            | Self::ScriptPolicy(_)
            | Self::NonStandard(_)
            | Self::SameTransactionOtherWitness(_)
            | Self::SpendsConflicting(_) => false,
            Self::AlreadyInMempool(_)
            | Self::AlreadyConfirmed(_)
            | Self::MissingInputs(_)
            | Self::WitnessStripped(_)
            | Self::PrematureCoinbaseSpend { .. }
            | Self::NonFinal
            | Self::NonBip68Final
            | Self::FeeBelowMinimumRelay { .. }
            | Self::FeeBelowMempoolMinimum { .. }
            | Self::MempoolFull
            | Self::ClusterTooLarge { .. }
            | Self::ReplacementAddsUnconfirmed(_)
            | Self::ReplacementFeeRateTooLow { .. }
            | Self::ReplacementFeeTooLow { .. }
            | Self::TooManyReplacements { .. }
            | Self::Truc(_)
            | Self::UnspentEphemeralDust { .. }
            | Self::Package(_)
            | Self::Node(_) => true,
        }
    }

    /// Is it only the fee that is missing? Then a child that pays for it can help.
    pub fn is_fee_too_low(&self) -> bool {
        matches!(
            self,
            Self::FeeBelowMinimumRelay { .. }
                | Self::FeeBelowMempoolMinimum { .. }
                | Self::ReplacementFeeRateTooLow { .. }
                | Self::ReplacementFeeTooLow { .. }
        )
    }
}

impl NonStandard {
    /// The short reason under Bitcoin Core's names.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Weight { .. } => "tx-size",
            Self::TooSmall { .. } => "tx-size-small",
            Self::ScriptSigSize { .. } => "scriptsig-size",
            Self::ScriptSigNotPushOnly { .. } => "scriptsig-not-pushonly",
            Self::OutputScript { .. } => "scriptpubkey",
            Self::Dust { .. } | Self::DustWithFee => "dust",
            Self::DataCarrier { .. } => "datacarrier",
            Self::InputScript { .. } | Self::LegacySigops { .. } => "bad-txns-nonstandard-inputs",
            Self::Witness { .. } => "bad-witness-nonstandard",
            Self::SigopCost { .. } => "bad-txns-too-many-sigops",
        }
    }
}

impl PackageError {
    /// Is it wrong as a list, so that none of its transactions was looked at?
    pub fn is_of_list(&self) -> bool {
        match self {
            Self::Empty
            | Self::TooMany { .. }
            | Self::TooHeavy { .. }
            | Self::Conflicting
            | Self::NotSorted
            | Self::NotChildWithParents => true,
            Self::FeeTooLow { .. }
            | Self::ReplacementShape
            | Self::ReplacementByParent
            | Self::ReplacementWorse
            | Self::Transaction { .. } => false,
        }
    }

    /// The short reason under Bitcoin Core's names.
    pub fn reason(&self) -> String {
        match self {
            Self::Empty => "package-empty".into(),
            Self::TooMany { .. } => "package-too-many-transactions".into(),
            Self::TooHeavy { .. } => "package-too-large".into(),
            Self::Conflicting => "conflict-in-package".into(),
            Self::NotSorted => "package-not-sorted".into(),
            Self::NotChildWithParents => "package-not-child-with-parents".into(),
            Self::FeeTooLow { .. } => "package-fee-too-low".into(),
            Self::ReplacementShape => "package RBF failed: package must be 1-parent-1-child".into(),
            Self::ReplacementByParent => {
                "package RBF failed: package feerate is less than or equal to parent feerate".into()
            }
            Self::ReplacementWorse => {
                "package RBF failed: insufficient feerate: does not improve feerate diagram".into()
            }
            Self::Transaction { error, .. } => error.reason(),
        }
    }
}
