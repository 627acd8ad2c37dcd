//! The moment at which a channel comes into being: both first commitments are signed.

use bitcoin::Transaction;
use secp256k1::PublicKey;

use super::Sides;
use super::commitment::changes::{LocalChanges, RemoteChanges};
use super::commitment::local::LocalCommitment;
use super::commitment::remote::{Remote, RemoteCommitment, RemoteStage};
use super::commitment::spec::CommitmentSpec;
use super::commitment::{Commitments, Factory};
use super::effect::{Effect, Notice};
use super::error::Fault;
use super::event::Publisher;
use super::funding::{FundingInput, FundingState};
use super::state::{ConnectionState, Established, Phase};
use super::terms::Terms;
use super::towers::TowerQueue;
use super::turn::{Touched, Turn};
use crate::keys::{CommitmentSignatures, PerCommitmentSecrets};
use crate::types::{CommitmentNumber, HtlcId, ShortChannelId, Side};
use crate::workers::OneThread;

/// Checks the peer's signature on our first commitment.
pub(crate) fn verify_first(
    terms: &Terms,
    factory: &Factory,
    spec: &CommitmentSpec,
    signatures: &CommitmentSignatures,
) -> Result<(), Fault> {
    let number = CommitmentNumber(0);
    let point = factory.signer.per_commitment_point(number).map_err(super::error::Invariant::from)?;
    let built = factory.build(terms, Side::Local, number, spec, point).map_err(|error| error.fault())?;
    // It has no HTLCs.
    factory.verify(&built, signatures, &OneThread)
}

impl Commitments {
    pub(crate) fn first(spec: CommitmentSpec, signatures: CommitmentSignatures, remote_point: PublicKey) -> Self {
        let number = CommitmentNumber(0);
        let current = RemoteCommitment { number, spec: spec.clone(), per_commitment_point: remote_point };
        Self {
            local: LocalCommitment { number, spec, signatures },
            remote: Remote { current, stage: RemoteStage::Unready },
            local_changes: LocalChanges::default(),
            remote_changes: RemoteChanges::default(),
            next_id: Sides { local: HtlcId(0), remote: HtlcId(0) },
            paid: Sides::default(),
            written_off: crate::types::Msat::ZERO,
            details: std::collections::BTreeMap::new(),
            secrets: PerCommitmentSecrets::default(),
            points: super::commitment::PointCache::default(),
            prepared: super::commitment::PreparedKeys::default(),
            views: super::commitment::Views::default(),
        }
    }
}

/// Where the funding transaction comes from.
pub(crate) enum FundedBy {
    /// Only its output is known.
    Peer,
    /// From this node, or from whoever opens the channel with it.
    Us { transaction: Transaction, publisher: Publisher },
}

/// The channel, to be written as a whole, and the watch on its funding output. Without confirmations to wait for it is
/// ready at once.
pub(crate) fn begin(
    terms: Terms,
    factory: Factory,
    commitments: Commitments,
    alias: ShortChannelId,
    funded_by: FundedBy,
    turn: &mut Turn<'_>,
) -> Result<Established, Fault> {
    let (inputs, funding_transaction) = match funded_by {
        FundedBy::Peer => (Vec::new(), None),
        FundedBy::Us { transaction, publisher: Publisher::Maker } => (inputs_of(&transaction), None),
        FundedBy::Us { transaction, publisher: Publisher::Channel } => (inputs_of(&transaction), Some(transaction)),
    };
    turn.touched = Touched { terms: true, state: true, signatures: true, secrets: true, inputs: !inputs.is_empty() };
    let (funding, script, depth) = (terms.funding, factory.funding.script_pubkey(), terms.minimum_depth);
    turn.emit(Effect::WatchFunding { funding, script: script.clone(), depth, inputs: inputs.clone() });
    turn.emit(Effect::Watch { outpoint: funding, script });
    turn.notice(Notice::Established { channel: terms.channel_id, funding });
    let mut channel = Established {
        terms,
        factory,
        commitments,
        phase: Phase::Funding,
        connection: ConnectionState::Online,
        short_channel_id: None,
        aliases: Sides { local: Some(alias), remote: None },
        opened_at: turn.ctx.tip,
        low_since: None,
        falling_since: None,
        funding_transaction,
        violations: 0,
        funding_state: FundingState::Awaited,
        funding_inputs: inputs,
        towers: TowerQueue::default(),
        separate_rows: false,
    };
    if channel.terms.minimum_depth == 0 {
        channel.deep_enough(turn)?;
    }
    Ok(channel)
}

/// What a transaction of our own needs, as far as it says itself.
fn inputs_of(transaction: &Transaction) -> Vec<FundingInput> {
    let by = transaction.compute_txid();
    transaction.input.iter().map(|input| FundingInput { coin: input.previous_output, by }).collect()
}
