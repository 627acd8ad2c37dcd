//! What a client keeps of its towers, and under which keys.
//!
//! ```text
//!   13 channel number             queued     a revoked state, as its channel wrote it; only deleted here
//!   14 00 tower                   tower      where it is, its mode, what it has granted, the proof that it broke its word
//!   14 01 tower channel round     coverage   the newest receipt of a channel there, and where its money goes
//! ```
//!
//! Rows begin with a format number, and one of a newer version is refused. Both tables lie beside those of
//! [`leyden_channels::channel::Key`] in one database: what a tower has signed for and the deletion of a queued row are one
//! commit.

use bitcoin::ScriptBuf;
use leyden_channels::{
    channel,
    types::{ChannelId, CommitmentNumber, FeeratePerKw},
    wire::codec::Reader,
};
use secp256k1::{PublicKey, ecdsa::Signature};

use crate::{
    codec::{Part, ReadError, by_field, by_inner, by_tag, decode_format, encode_format},
    message::{Mode, Registered, SignedHeld},
    receipt::{Audit, Holding},
};

const FORMAT: u8 = 1;

/// One of this node's towers, by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TowerId(pub u16);

/// Counts the tags that a channel has had at a tower: see [`super::keys::tag`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u8);

/// The name of one durable row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum ClientKey {
    /// A state that some tower does not have yet.
    Queued { channel: ChannelId, number: CommitmentNumber },
    /// A tower.
    Tower(TowerId),
    /// What a tower covers of a channel under one tag.
    Coverage { tower: TowerId, channel: ChannelId, round: Round },
}

const TOWER: u8 = 0;
const COVERAGE: u8 = 1;

impl ClientKey {
    /// What all keys begin with, but for those of [`ClientKey::Queued`].
    pub const PREFIX: [u8; 1] = [channel::Key::TOWER_CLIENT];

    /// The bytes that it is stored under.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Self::PREFIX.to_vec();
        match self {
            Self::Queued { channel, number } => {
                return channel::Key::TowerBackup { channel: *channel, number: *number }.encode();
            }
            Self::Tower(tower) => {
                out.push(TOWER);
                tower.put(&mut out);
            }
            Self::Coverage { tower, channel, round } => {
                out.push(COVERAGE);
                tower.put(&mut out);
                out.extend_from_slice(&channel.0);
                round.put(&mut out);
            }
        }
        out
    }

    /// An error for bytes that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        if let Some(channel::Key::TowerBackup { channel, number }) = channel::Key::decode(bytes) {
            return Ok(Self::Queued { channel, number });
        }
        let mut reader = Reader::new(bytes);
        let table = (reader.field::<u8>()?, reader.field::<u8>()?);
        let key = match table {
            (channel::Key::TOWER_CLIENT, TOWER) => Self::Tower(Part::take(&mut reader)?),
            (channel::Key::TOWER_CLIENT, COVERAGE) => {
                let tower = Part::take(&mut reader)?;
                let channel = ChannelId(reader.array()?);
                Self::Coverage { tower, channel, round: Part::take(&mut reader)? }
            }
            (_, value) => return Err(ReadError::Unknown { what: "table", value: u64::from(value) }),
        };
        reader.finish()?;
        Ok(key)
    }
}

/// A tower as its user added it, and what it has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerRow {
    /// Its key on the network.
    pub key: PublicKey,
    /// host:port.
    pub address: String,
    /// What it is given.
    pub mode: Mode,
    /// Whether it gets backups.
    pub use_of_it: Use,
    /// The place that it has granted, if it has.
    pub granted: Option<Registered>,
    /// It has signed two things that cannot both be true.
    pub proof: Option<Proof>,
}

/// Whether backups go to a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Backups go to it.
    Active,
    /// Its receipts are kept, and nothing is queued for it.
    Deactivated,
}

/// What shows to anybody that a tower broke its word: see [`crate::receipt::convicts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// With which both are signed.
    pub receipt_key: PublicKey,
    /// What it signed for.
    pub receipt: Holding,
    /// And its signature.
    pub receipt_signature: Signature,
    /// What it said later.
    pub audit: Audit,
    /// And its signature.
    pub audit_signature: Signature,
}

/// What a tower has of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverageRow {
    /// Where penalties pay to: the same for all states under one tag, as it was sealed.
    pub destination: ScriptBuf,
    /// And at which rate they pay for themselves, in blind mode.
    pub sweep_feerate: FeeratePerKw,
    /// The newest one.
    pub receipt: Option<SignedHeld>,
    /// What the tower may be asked to show.
    pub samples: Vec<Sample>,
    /// A state that it signed for and could not show.
    pub not_shown: Option<CommitmentNumber>,
    /// The tower is to forget it.
    pub closing: bool,
}

/// A backup that the tower may be asked to show, and the right answer: see [`super::sample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Of which state.
    pub number: CommitmentNumber,
    /// What the tower has to answer to the nonce that was chosen for it.
    pub proof: [u8; 32],
}

by_inner!(TowerId, Round);
by_tag! { Use { 0 Active, 1 Deactivated } "use of a tower" }
by_field! {
    TowerRow { key, address, mode, use_of_it, granted, proof }
    Proof { receipt_key, receipt, receipt_signature, audit, audit_signature }
    CoverageRow { destination, sweep_feerate, receipt, samples, not_shown, closing }
    Sample { number, proof }
}

impl TowerRow {
    /// The format's number, then the value.
    pub fn encode(&self) -> Vec<u8> {
        encode_format(FORMAT, self)
    }

    /// The row again.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        decode_format("a tower", FORMAT, bytes)
    }
}

impl CoverageRow {
    /// The format's number, then the value.
    pub fn encode(&self) -> Vec<u8> {
        encode_format(FORMAT, self)
    }

    /// The row again.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        decode_format("what a tower covers", FORMAT, bytes)
    }
}

#[cfg(test)]
mod tests {
    use leyden_channels::keys::secp;
    use proptest::prelude::*;
    use secp256k1::SecretKey;

    use super::*;

    proptest! {
        #[test]
        fn every_key_is_read_again(channel: [u8; 32], number in 0_u64..1 << 48, tower: u16, round: u8) {
            let (channel, tower, round) = (ChannelId(channel), TowerId(tower), Round(round));
            let number = CommitmentNumber(number);
            for key in [
                ClientKey::Queued { channel, number },
                ClientKey::Tower(tower),
                ClientKey::Coverage { tower, channel, round },
            ] {
                prop_assert_eq!(ClientKey::decode(&key.encode()), Ok(key));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = (ClientKey::decode(&bytes), TowerRow::decode(&bytes), CoverageRow::decode(&bytes));
        }
    }

    #[test]
    fn a_tower_of_a_newer_version_is_refused_by_name() {
        let key = SecretKey::from_slice(&[5; 32]).unwrap().public_key(secp());
        let address = "[::1]:9911".to_owned();
        let row = TowerRow { key, address, mode: Mode::Own, use_of_it: Use::Active, granted: None, proof: None };
        let mut bytes = row.encode();
        assert_eq!(TowerRow::decode(&bytes), Ok(row));
        bytes[0] = 2;
        assert_eq!(TowerRow::decode(&bytes), Err(ReadError::Newer { what: "a tower", found: 2, newest: 1 }));
    }
}
