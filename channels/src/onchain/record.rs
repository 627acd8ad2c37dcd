//! The durable form of a resolution, a part of the channel's state; and the two records in which earlier versions kept it.
//!
//! Each begins with a format number. Integers are big-endian, as in the messages; lists have a `u32` count, transactions
//! and long bytes a `u32` length.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Weight, consensus};

use super::{
    Claim, ClaimId, ClosingChannel, LocalState, MutualScripts, RebuildError, RemoteState, Resolution, Sent,
    history::{ChainSpend, Facts, HtlcOutcome},
};
use crate::{
    keys::{Basepoints, CommitmentSignatures, PerCommitmentSecrets, ShachainError},
    tx::{CommitmentHtlc, FeeCoin},
    types::{CltvExpiry, CommitmentType, Height, HtlcDirection, HtlcId, PaymentPreimage, Side},
    wire::codec::{DecodeError, Field, Reader},
};

const FORMAT: u8 = 2;

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RecordError {
    #[error("the record of a closing channel has format {found}; this version reads {FORMAT}: use a newer Leyden")]
    Format { found: u8 },
    #[error("the record of a closing channel is damaged: {0}")]
    Decode(#[from] DecodeError),
    #[error("the record of a closing channel is damaged: {0}")]
    Secrets(#[from] ShachainError),
    #[error("the record of a closing channel is damaged: {value} is no {what}")]
    Tag { what: &'static str, value: u8 },
    #[error("the record of a closing channel is damaged: a transaction in it cannot be read")]
    Transaction,
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
}

/// What is stored of a resolution: what the channel's own record does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredResolution {
    destination: ScriptBuf,
    upstream_expiries: BTreeMap<HtlcId, CltvExpiry>,
    facts: Facts,
}

impl StoredResolution {
    /// Reads exactly one record, of this version or an earlier one.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = checked_format(bytes)?;
        let stored = Self::take(&mut reader)?;
        reader.finish()?;
        Ok(stored)
    }

    /// From the two records of a version that kept the enforcement beside the channel: what the channel was, and what
    /// the chain had done since, if anything.
    pub fn decode_separate(channel: &[u8], facts: Option<&[u8]>) -> Result<Self, RecordError> {
        let ClosingChannel { destination, upstream_expiries, preimages, .. } = ClosingChannel::decode(channel)?;
        let mut facts = match facts {
            Some(bytes) => {
                let mut reader = checked_format(bytes)?;
                let facts = Facts::take(&mut reader)?;
                reader.finish()?;
                facts
            }
            None => Facts::default(),
        };
        facts.preimages.extend(preimages);
        Ok(Self { destination, upstream_expiries, facts })
    }

    /// Of a version that had begun nothing yet when it ended.
    pub fn not_begun(destination: ScriptBuf) -> Self {
        Self { destination, ..Self::default() }
    }

    /// With our commitment wanted in the chain, if it was not before.
    #[must_use]
    pub fn forced(mut self, forced: bool) -> Self {
        self.facts.force_close |= forced;
        self
    }

    /// With the channel that the other records tell.
    pub fn restore(self, channel: ClosingChannel) -> Result<Resolution, RebuildError> {
        let Self { destination, upstream_expiries, facts } = self;
        Resolution::from_facts(ClosingChannel { destination, upstream_expiries, ..channel }, facts, false)
    }

    /// Of one that was begun by [`Resolution::begin_penalties`]; `channel` may have come to know more secrets since.
    pub fn restore_penalties(self, channel: ClosingChannel) -> Result<Resolution, RebuildError> {
        let Self { destination, facts, .. } = self;
        Resolution::from_facts(ClosingChannel { destination, ..channel }, facts, true)
    }
}

impl Resolution {
    /// A [`StoredResolution`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        self.channel.destination.put(&mut out);
        self.channel.upstream_expiries.put(&mut out);
        self.facts.put(&mut out);
        out
    }
}

impl ClosingChannel {
    /// As versions wrote it that kept the enforcement beside the channel.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = checked_format(bytes)?;
        let channel = Self::take(&mut reader)?;
        reader.finish()?;
        Ok(channel)
    }

    /// As those versions wrote it, which kept no commitment that may be revoked: for tests of [`Self::decode`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        self.put(&mut out);
        out
    }
}

fn checked_format(bytes: &[u8]) -> Result<Reader<'_>, RecordError> {
    let mut reader = Reader::new(bytes);
    match reader.field::<u8>()? {
        FORMAT => Ok(reader),
        found => Err(RecordError::Format { found }),
    }
}

/// A part of a record.
trait Part: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError>;
}

/// Parts that are written as the messages write them.
macro_rules! as_in_messages {
    ($($name:ty),* $(,)?) => {$(
        impl Part for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.write(out);
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                Ok(reader.field()?)
            }
        }
    )*};
}

as_in_messages!(
    u16,
    u32,
    u64,
    Amount,
    ScriptBuf,
    bitcoin::Txid,
    secp256k1::PublicKey,
    secp256k1::ecdsa::Signature,
    crate::types::ChannelId,
    crate::types::PaymentHash,
    PaymentPreimage,
    crate::types::Msat,
    crate::types::HtlcId,
    crate::types::FeeratePerKw,
    crate::types::CltvExpiry,
    crate::types::CommitmentNumber,
);

/// Structs that are their fields, one after the other. What is unwritten is read as its default.
macro_rules! by_field {
    ($($name:ident { $($field:ident),* $(,)? $(; unwritten $unwritten:ident)? })*) => {$(
        impl Part for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                Ok(Self { $($field: Part::take(reader)?,)* $($unwritten: Default::default())? })
            }
        }
    )*};
}

by_field! {
    ClosingChannel {
        channel_id, kind, opener, funding, capacity, local, remote, local_dust_limit, remote_dust_limit, local_delay,
        remote_delay, local_state, remote_state, remote_next, secrets, mutual_scripts, preimages, upstream_expiries,
        destination; unwritten local_may_be_revoked
    }
    LocalState { number, per_commitment_point, feerate, to_local, to_remote, htlcs, signatures }
    RemoteState { number, per_commitment_point, feerate, to_local, to_remote, htlcs }
    Basepoints { funding, revocation, payment, delayed_payment, htlc }
    CommitmentHtlc { direction, id, amount, payment_hash, cltv_expiry }
    CommitmentSignatures { commitment, htlcs }
    OutPoint { txid, vout }
    TxOut { value, script_pubkey }
    FeeCoin { outpoint, output, witness_weight }
    StoredResolution { destination, upstream_expiries, facts }
    Facts { force_close, spends, preimages, revoked_htlcs, reported, claims, child, rival, taken_back, next_claim }
    ChainSpend { tx, height }
    Claim { inputs, since, start, coins, sent, floor }
    Sent { tx, fee, weight, rate }
}

impl Part for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        tag(reader, "yes or no", &[(0, false), (1, true)])
    }
}

fn tag<T: Copy>(reader: &mut Reader<'_>, what: &'static str, known: &[(u8, T)]) -> Result<T, RecordError> {
    let value = reader.field::<u8>()?;
    let found = known.iter().find(|(byte, _)| *byte == value);
    found.map(|(_, meaning)| *meaning).ok_or(RecordError::Tag { what, value })
}

macro_rules! by_tag {
    ($($name:ident { $($byte:literal $variant:ident),* } $what:literal)*) => {$(
        impl Part for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $byte),* });
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                tag(reader, $what, &[$(($byte, Self::$variant)),*])
            }
        }
    )*};
}

by_tag! {
    Side { 0 Local, 1 Remote } "side"
    CommitmentType { 0 StaticRemoteKey, 1 Anchors } "commitment type"
    HtlcDirection { 0 Offered, 1 Received } "HTLC direction"
}

impl Part for HtlcOutcome {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Failed => None,
            Self::Fulfilled(preimage) => Some(*preimage),
        }
        .put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(<Option<PaymentPreimage> as Part>::take(reader)?.map_or(Self::Failed, Self::Fulfilled))
    }
}

/// As the list of scripts, which is empty for [`MutualScripts::Forgotten`]. None at all is one empty script: no shutdown
/// script is that.
impl Part for MutualScripts {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Forgotten => Vec::new(),
            Self::Agreed(scripts) if scripts.is_empty() => vec![ScriptBuf::new()],
            Self::Agreed(scripts) => scripts.clone(),
        }
        .put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let mut scripts = <Vec<ScriptBuf> as Part>::take(reader)?;
        if scripts.is_empty() {
            return Ok(Self::Forgotten);
        }
        scripts.retain(|script| !script.is_empty());
        Ok(Self::Agreed(scripts))
    }
}

impl Part for Height {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Part::take(reader).map(Self)
    }
}

impl Part for ClaimId {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Part::take(reader).map(Self)
    }
}

impl Part for Weight {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_wu().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Part::take(reader).map(Self::from_wu)
    }
}

impl Part for PerCommitmentSecrets {
    fn put(&self, out: &mut Vec<u8>) {
        self.encode().write(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self::decode(&reader.field::<Vec<u8>>()?)?)
    }
}

impl Part for Transaction {
    fn put(&self, out: &mut Vec<u8>) {
        let bytes = consensus::serialize(self);
        count(bytes.len()).put(out);
        out.extend_from_slice(&bytes);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let len = u32::take(reader)?;
        let bytes = reader.bytes(usize::try_from(len).unwrap_or(usize::MAX))?;
        consensus::deserialize(bytes).map_err(|_| RecordError::Transaction)
    }
}

/// Nothing that is stored here comes near 2^32 items or bytes.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl<T: Part> Part for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        bool::take(reader)?.then(|| T::take(reader)).transpose()
    }
}

impl<T: Part> Part for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        count(self.len()).put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        (0..u32::take(reader)?).map(|_| T::take(reader)).collect()
    }
}

impl<T: Part + Ord> Part for BTreeSet<T> {
    fn put(&self, out: &mut Vec<u8>) {
        count(self.len()).put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        (0..u32::take(reader)?).map(|_| T::take(reader)).collect()
    }
}

impl<K: Part + Ord, V: Part> Part for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        count(self.len()).put(out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        (0..u32::take(reader)?).map(|_| Ok((K::take(reader)?, V::take(reader)?))).collect()
    }
}
