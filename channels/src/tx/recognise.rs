//! What the outputs of a commitment transaction on the chain are, when all that we have of its content is its keys and
//! its HTLCs: a revoked state's balances are stored nowhere, and need not be.

use std::collections::HashMap;

use bitcoin::{ScriptBuf, Transaction, TxOut};

use super::{CommitmentHtlc, CommitmentOutput, CommitmentParams, OutputKind, scripts};
use crate::keys::CommitmentKeys;

/// An output with its place in the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecognisedOutput {
    /// Its index.
    pub vout: u32,
    /// Its value and script.
    pub output: TxOut,
    /// What it is.
    pub info: CommitmentOutput,
}

/// Recognises outputs by their scripts, HTLCs by their amount as well. An output that is none of the channel's is left
/// out, an HTLC that was trimmed is not found. HTLCs with equal outputs are told apart by their expiry, in whose order
/// BOLT 3 sorts them.
pub fn recognise_outputs(
    tx: &Transaction,
    params: &CommitmentParams,
    keys: &CommitmentKeys,
    htlcs: &[CommitmentHtlc],
) -> Vec<RecognisedOutput> {
    let mut known: HashMap<ScriptBuf, CommitmentOutput> = params.fixed_outputs(keys).collect();
    let mut by_script: HashMap<TxOut, Vec<CommitmentOutput>> = HashMap::with_capacity(htlcs.len());
    let mut sorted: Vec<&CommitmentHtlc> = htlcs.iter().collect();
    sorted.sort_by_key(|htlc| std::cmp::Reverse((htlc.cltv_expiry, htlc.id)));
    for htlc in sorted {
        // Keys of a commitment that was ever signed are keys.
        let Ok(script) = scripts::htlc(htlc, params.kind, keys) else { continue };
        let output = TxOut { value: htlc.amount.floor_sat(), script_pubkey: scripts::p2wsh(&script) };
        let info = CommitmentOutput { kind: OutputKind::Htlc(*htlc), witness_script: Some(script) };
        by_script.entry(output).or_default().push(info);
    }
    (0..)
        .zip(&tx.output)
        .filter_map(|(vout, output)| {
            let info = match by_script.get_mut(output).and_then(Vec::pop) {
                Some(info) => info,
                None => known.remove(&output.script_pubkey)?,
            };
            Some(RecognisedOutput { vout, output: output.clone(), info })
        })
        .collect()
}
