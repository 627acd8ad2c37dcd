//! Witness scripts of a channel's outputs, opcode for opcode (BOLT 3).

use bitcoin::{
    Script, ScriptBuf,
    hashes::{Hash as _, hash160, ripemd160},
    opcodes::all::{
        OP_CHECKMULTISIG, OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CLTV, OP_CSV, OP_DROP, OP_DUP, OP_ELSE, OP_ENDIF,
        OP_EQUAL, OP_EQUALVERIFY, OP_HASH160, OP_IF, OP_IFDUP, OP_NOTIF, OP_SIZE, OP_SWAP,
    },
    script::Builder,
};
use secp256k1::PublicKey;

use super::CommitmentHtlc;
use crate::{
    keys::{CommitmentKeys, KeyError},
    types::{CltvExpiry, CommitmentType, HtlcDirection, PaymentHash},
};

/// The 2-of-2 of the funding output, keys in lexicographic order.
pub fn funding(one: &PublicKey, another: &PublicKey) -> ScriptBuf {
    let (one, another) = (one.serialize(), another.serialize());
    let (first, second) = if one <= another { (one, another) } else { (another, one) };
    Builder::new()
        .push_int(2)
        .push_slice(first)
        .push_slice(second)
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script()
}

/// `to_local`, and the output of a second-stage HTLC transaction: the owner after `to_self_delay` blocks, or at once
/// whoever holds the revocation key.
pub fn delayed(revocation: &PublicKey, to_self_delay: u16, owner_delayed: &PublicKey) -> ScriptBuf {
    Builder::new()
        .push_opcode(OP_IF)
        .push_slice(revocation.serialize())
        .push_opcode(OP_ELSE)
        .push_int(i64::from(to_self_delay))
        .push_opcode(OP_CSV)
        .push_opcode(OP_DROP)
        .push_slice(owner_delayed.serialize())
        .push_opcode(OP_ENDIF)
        .push_opcode(OP_CHECKSIG)
        .into_script()
}

/// `to_remote` with `option_anchors`: locked for one block, so that it cannot carry a child in the mempool.
pub fn to_remote_anchors(payment: &PublicKey) -> ScriptBuf {
    Builder::new()
        .push_slice(payment.serialize())
        .push_opcode(OP_CHECKSIGVERIFY)
        .push_int(1)
        .push_opcode(OP_CSV)
        .into_script()
}

/// `to_remote` without anchors: a plain P2WPKH output script.
pub fn to_remote_p2wpkh(payment: &PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::CompressedPublicKey(*payment).wpubkey_hash())
}

/// An anchor: its node at once, anybody after 16 blocks.
pub fn anchor(funding: &PublicKey) -> ScriptBuf {
    Builder::new()
        .push_slice(funding.serialize())
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_IFDUP)
        .push_opcode(OP_NOTIF)
        .push_int(16)
        .push_opcode(OP_CSV)
        .push_opcode(OP_ENDIF)
        .into_script()
}

/// The script of an HTLC's output, by who offered it.
///
/// An error for keys with which an HTLC key would be none ([`CommitmentKeys::htlc`]); so in the two functions below.
pub fn htlc(htlc: &CommitmentHtlc, kind: CommitmentType, keys: &CommitmentKeys) -> Result<ScriptBuf, KeyError> {
    match htlc.direction {
        HtlcDirection::Offered => offered_htlc(&payment_hash160(&htlc.payment_hash), kind, keys),
        HtlcDirection::Received => received_htlc(&payment_hash160(&htlc.payment_hash), htlc.cltv_expiry, kind, keys),
    }
}

/// What an HTLC's script has of its payment hash: the RIPEMD-160 of it.
pub fn payment_hash160(payment_hash: &PaymentHash) -> [u8; 20] {
    ripemd160::Hash::hash(&payment_hash.0).to_byte_array()
}

/// An HTLC offered by the commitment's owner: revocation key, HTLC-timeout (two signatures), or the other node with
/// the preimage. The hash is [`payment_hash160`].
pub fn offered_htlc(
    payment_hash160: &[u8; 20],
    kind: CommitmentType,
    keys: &CommitmentKeys,
) -> Result<ScriptBuf, KeyError> {
    let htlc_keys = keys.htlc()?;
    let builder = htlc_head(&keys.revocation, &htlc_keys.other)
        .push_opcode(OP_NOTIF)
        .push_opcode(OP_DROP)
        .push_int(2)
        .push_opcode(OP_SWAP)
        .push_slice(htlc_keys.owner.serialize())
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .push_opcode(OP_ELSE)
        .push_opcode(OP_HASH160)
        .push_slice(payment_hash160)
        .push_opcode(OP_EQUALVERIFY)
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_ENDIF);
    Ok(htlc_tail(builder, kind))
}

/// An HTLC offered by the other node: revocation key, HTLC-success (two signatures and the preimage), or the other
/// node after the expiry. The hash is [`payment_hash160`].
pub fn received_htlc(
    payment_hash160: &[u8; 20],
    cltv_expiry: CltvExpiry,
    kind: CommitmentType,
    keys: &CommitmentKeys,
) -> Result<ScriptBuf, KeyError> {
    let htlc_keys = keys.htlc()?;
    let builder = htlc_head(&keys.revocation, &htlc_keys.other)
        .push_opcode(OP_IF)
        .push_opcode(OP_HASH160)
        .push_slice(payment_hash160)
        .push_opcode(OP_EQUALVERIFY)
        .push_int(2)
        .push_opcode(OP_SWAP)
        .push_slice(htlc_keys.owner.serialize())
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .push_opcode(OP_ELSE)
        .push_opcode(OP_DROP)
        .push_int(i64::from(cltv_expiry.0))
        .push_opcode(OP_CLTV)
        .push_opcode(OP_DROP)
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_ENDIF);
    Ok(htlc_tail(builder, kind))
}

fn htlc_head(revocation: &PublicKey, other_htlc: &PublicKey) -> Builder {
    Builder::from(Vec::with_capacity(144))
        .push_opcode(OP_DUP)
        .push_opcode(OP_HASH160)
        .push_slice(hash160::Hash::hash(&revocation.serialize()).to_byte_array())
        .push_opcode(OP_EQUAL)
        .push_opcode(OP_IF)
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_ELSE)
        .push_slice(other_htlc.serialize())
        .push_opcode(OP_SWAP)
        .push_opcode(OP_SIZE)
        .push_int(32)
        .push_opcode(OP_EQUAL)
}

fn htlc_tail(builder: Builder, kind: CommitmentType) -> ScriptBuf {
    let builder = match kind {
        CommitmentType::StaticRemoteKey => builder,
        // Nobody but the owner, whose second stage needs two signatures, can attach a child in the mempool.
        CommitmentType::Anchors => builder.push_int(1).push_opcode(OP_CSV).push_opcode(OP_DROP),
    };
    builder.push_opcode(OP_ENDIF).into_script()
}

/// The P2WSH output script of a witness script.
pub fn p2wsh(witness_script: &Script) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&witness_script.wscript_hash())
}
