//! Who closed the channel, and how: told from the transaction that spends the funding output, and nothing else of the
//! chain.
//!
//! ```text
//!  not in a commitment's form:  pays only to the closing scripts? ─► Mutual, else Unknown
//!  txid of our commitment?           ─► Local
//!  txid of theirs, or of their next? ─► Remote
//!  number above what we know, pays our to_remote key              ─► RemoteFuture (we have lost data)
//!  number below, and its keys are those of a revoked state        ─► Revoked
//!  number below, and pays the peer's to_remote key                ─► LocalOld (we were restored from an old copy)
//! ```

use bitcoin::Transaction;

use super::{ClosingChannel, RemoteState, closing_channel::RebuildError};
use crate::{
    keys::PerCommitmentSecret,
    tx::{CommitmentParams, CommitmentTx, OutputKind, recognise_outputs},
    types::{CommitmentNumber, Side},
};

/// Who closed the channel.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Closer {
    /// Both, together.
    Mutual,
    /// We, with our latest commitment.
    Local(Box<CommitmentTx>),
    /// The peer, with a commitment that is not revoked.
    Remote { state: Box<RemoteState>, commitment: Box<CommitmentTx> },
    /// The peer, with a commitment newer than any that we know: we have lost data. Only `to_remote` can be claimed.
    RemoteFuture { number: CommitmentNumber },
    /// The peer, with a commitment that it has revoked.
    Revoked { number: CommitmentNumber, secret: PerCommitmentSecret },
    /// We, with a commitment that is not our latest one: an old copy of our data was used. The peer may take it all.
    LocalOld { number: CommitmentNumber },
    /// Nobody that we know: a key of the channel may have leaked.
    Unknown,
}

/// Tells who made `tx`, which spends the funding output. Its number says which commitments it can be: only those are
/// built again.
pub fn classify(channel: &ClosingChannel, tx: &Transaction) -> Result<Closer, RebuildError> {
    let txid = tx.compute_txid();
    let remote_params = channel.params(Side::Remote);
    let Some(number) = remote_params.obscuring.reveal(tx) else {
        let mutual = channel.mutual_scripts.may_pay(&tx.output);
        return Ok(if mutual { Closer::Mutual } else { Closer::Unknown });
    };

    if channel.local_state.as_ref().is_some_and(|state| state.number == number)
        && let Some(commitment) = channel.local_commitment()?.filter(|commitment| commitment.txid == txid)
    {
        return Ok(Closer::Local(Box::new(commitment)));
    }
    for state in channel.remote_state.iter().chain(&channel.remote_next).filter(|state| state.number == number) {
        let commitment = channel.remote_commitment(state)?;
        if commitment.txid == txid {
            return Ok(Closer::Remote { state: Box::new(state.clone()), commitment: Box::new(commitment) });
        }
    }

    let local = pays_to_remote(&channel.params(Side::Local), tx);
    if let Some(secret) = channel.secrets.get(number) {
        let has_to_local = || -> Result<bool, RebuildError> {
            let keys = channel.keys(Side::Remote, secret.point()?)?;
            let found = recognise_outputs(tx, &remote_params, &keys, &[]);
            Ok(found.iter().any(|found| found.info.kind == OutputKind::ToLocal))
        };
        // Its HTLCs would first have to be loaded, but a state that has nothing else is not one of ours either: ours of
        // that number would pay the peer's key. What pays both keys has a key that is ours and the peer's.
        if !local || pays_to_remote(&remote_params, tx) || has_to_local()? {
            return Ok(Closer::Revoked { number, secret });
        }
    }
    if local {
        return Ok(Closer::LocalOld { number });
    }
    let newest = channel.remote_next.as_ref().or(channel.remote_state.as_ref()).map(|state| state.number);
    Ok(if newest.is_none_or(|newest| number >= newest) { Closer::RemoteFuture { number } } else { Closer::Unknown })
}

/// Whether `tx` pays the `to_remote` output of these commitments: the one output that is the same in all of them.
fn pays_to_remote(params: &CommitmentParams, tx: &Transaction) -> bool {
    let (script, _) = params.to_remote_output();
    tx.output.iter().any(|output| output.script_pubkey == *script)
}
