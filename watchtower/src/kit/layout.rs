//! A kit as bytes.

use leyden_channels::{
    types::{CltvExpiry, CommitmentNumber, CommitmentType, HtlcDirection},
    wire::codec::{DecodeError, Reader},
};
use secp256k1::{Parity, PublicKey, XOnlyPublicKey, ecdsa::Signature};

use bitcoin::Txid;

use super::ConstantsKey;
use crate::{
    appointment::ChannelName,
    codec::{Part, ReadError, count},
    hint::Hint,
    message::{Backup, BackupBody},
    seal::{SealError, seal},
};

/// Everything that a blind tower gets of one revoked commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JusticeKit {
    /// Which commitments the channel has.
    pub kind: CommitmentType,
    /// Opens the channel's constants.
    pub key: ConstantsKey,
    /// Of the revoked commitment.
    pub per_commitment_point: PublicKey,
    /// For the penalty on `to_local`; `None` if there is no such output.
    pub to_local: Option<Signature>,
    /// For our own output; `None` if there is none, or it is not covered.
    pub to_remote: Option<Signature>,
    /// In the order of their outputs.
    pub htlcs: Vec<HtlcKit>,
}

/// One HTLC output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HtlcKit {
    /// Its place among the outputs.
    pub vout: u16,
    /// Who offered it, as the client sees it.
    pub direction: HtlcDirection,
    /// The block from which it may be taken back.
    pub cltv_expiry: CltvExpiry,
    /// RIPEMD160 of the payment hash.
    pub payment_hash160: [u8; 20],
    /// For the penalty on the output.
    pub signature: Signature,
    /// Of the output of the cheater's second stage, where its txid is known; `None` also where that output is not worth it.
    pub second_stage: Option<Signature>,
}

const STATIC_REMOTE_KEY: u8 = 1;
const ANCHORS: u8 = 2;

const ODD_POINT: u8 = 1;
const TO_LOCAL: u8 = 2;
const TO_REMOTE: u8 = 4;
const HTLCS: u8 = 8;

/// The most outputs that a commitment has: 966 HTLCs, both balances and both anchors.
const MAX_OUTPUTS: u16 = 970;
const OFFERED: u16 = 1 << 15;

/// Where there is no signature, its place is taken by zeros: no signature is that.
const NO_SIGNATURE: [u8; 64] = [0; 64];

impl JusticeKit {
    /// The layout above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![match self.kind {
            CommitmentType::StaticRemoteKey => STATIC_REMOTE_KEY,
            CommitmentType::Anchors => ANCHORS,
        }];
        let (x, parity) = self.per_commitment_point.x_only_public_key();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            flag(parity == Parity::Odd, ODD_POINT)
                | flag(self.to_local.is_some(), TO_LOCAL)
                | flag(self.to_remote.is_some(), TO_REMOTE)
                | flag(!self.htlcs.is_empty(), HTLCS),
        );
        self.key.0.put(&mut out);
        x.serialize().put(&mut out);
        self.to_local.iter().chain(&self.to_remote).for_each(|signature| signature.put(&mut out));
        if !self.htlcs.is_empty() {
            (count(self.htlcs.len()) as u16).put(&mut out);
            self.htlcs.iter().for_each(|htlc| htlc.put(self.kind, &mut out));
        }
        out
    }

    /// A kit again. Fails on anything that the layout does not allow.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        let kind = match reader.field::<u8>()? {
            STATIC_REMOTE_KEY => CommitmentType::StaticRemoteKey,
            ANCHORS => CommitmentType::Anchors,
            found if found > ANCHORS => return Err(ReadError::Newer { what: "a justice kit", found, newest: ANCHORS }),
            found => return Err(ReadError::Unknown { what: "layout of a justice kit", value: u64::from(found) }),
        };
        let flags = reader.field::<u8>()?;
        if flags > ODD_POINT | TO_LOCAL | TO_REMOTE | HTLCS {
            return Err(ReadError::Unknown { what: "part of a justice kit", value: u64::from(flags) });
        }
        let has = |bit: u8| flags & bit != 0;
        let key = ConstantsKey(reader.field()?);
        let parity = if has(ODD_POINT) { Parity::Odd } else { Parity::Even };
        let x = XOnlyPublicKey::from_slice(&reader.array::<32>()?).map_err(|_| DecodeError::InvalidPoint)?;
        let to_local = has(TO_LOCAL).then(|| reader.field()).transpose()?;
        let to_remote = has(TO_REMOTE).then(|| reader.field()).transpose()?;
        let count = if has(HTLCS) { reader.field::<u16>()? } else { 0 };
        let htlcs = (0..count).map(|_| HtlcKit::take(kind, &mut reader)).collect::<Result<Vec<_>, _>>()?;
        if !htlcs.is_sorted_by(|one: &HtlcKit, next| one.vout < next.vout) {
            return Err(ReadError::Order { what: "the HTLCs of a justice kit" });
        }
        reader.finish()?;
        let per_commitment_point = PublicKey::from_x_only_public_key(x, parity);
        Ok(Self { kind, key, per_commitment_point, to_local, to_remote, htlcs })
    }

    /// The backup of state `number`, whose commitment transaction is `breach`.
    pub fn to_backup(
        &self,
        channel: ChannelName,
        number: CommitmentNumber,
        breach: &Txid,
    ) -> Result<Backup, SealError> {
        let sealed = seal(breach, &channel, &self.encode())?;
        Ok(Backup { channel, number, body: BackupBody::Blind { hint: Hint::from(breach), sealed } })
    }
}

impl HtlcKit {
    fn put(&self, kind: CommitmentType, out: &mut Vec<u8>) {
        let offered = match self.direction {
            HtlcDirection::Offered => OFFERED,
            HtlcDirection::Received => 0,
        };
        (self.vout | offered).put(out);
        out.extend_from_slice(&self.payment_hash160);
        self.cltv_expiry.put(out);
        self.signature.put(out);
        match kind {
            CommitmentType::StaticRemoteKey => match &self.second_stage {
                Some(signature) => signature.put(out),
                None => out.extend_from_slice(&NO_SIGNATURE),
            },
            CommitmentType::Anchors => {}
        }
    }

    fn take(kind: CommitmentType, reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let place = reader.field::<u16>()?;
        let vout = place & !OFFERED;
        if vout >= MAX_OUTPUTS {
            return Err(ReadError::Unknown { what: "output of a commitment", value: u64::from(vout) });
        }
        let payment_hash160 = reader.array()?;
        let direction = if place & OFFERED != 0 { HtlcDirection::Offered } else { HtlcDirection::Received };
        let cltv_expiry = reader.field()?;
        let signature = reader.field()?;
        let second_stage = match kind {
            CommitmentType::StaticRemoteKey => match reader.array::<64>()? {
                NO_SIGNATURE => None,
                bytes => Some(Signature::from_compact(&bytes).map_err(|_| DecodeError::InvalidSignature)?),
            },
            CommitmentType::Anchors => None,
        };
        Ok(Self { vout, direction, cltv_expiry, payment_hash160, signature, second_stage })
    }
}
