//! How each message and each part of one is laid out.

use leyden_channels::{tx::CommitmentHtlc, wire::codec::Reader};

use super::{
    Acknowledged, Ask, Audited, BackupBody, BackupPart, BackupRest, ChainSeen, ChannelClosed, ChannelOpened,
    CloseChannel, Has, Hello, Mode, OpenChannel, PastHtlc, Possession, RefusalCode, Refused, Register, Registered,
    SignedClosed, SignedHeld, State, StateHtlc, TowerFeatures,
};
use crate::{
    codec::{Part, ReadError, by_field, by_inner, by_tag},
    hint::Hint,
};

by_inner!(TowerFeatures, Hint);
by_tag! { Mode { 1 Blind, 2 Own } "mode" }
by_field! {
    Hello { version, chain, features }
    Register { mode, sweep_feerate, term }
    Registered { mode, sweep_feerate, states, bytes, until, receipt_key }
    OpenChannel { channel, constants }
    ChannelOpened { channel }
    BackupPart { channel, number, mark, total, bytes }
    BackupRest { bytes }
    Acknowledged { channel, receipt }
    CloseChannel { tag }
    ChannelClosed { tag }
    State { remaining, channel, has }
    SignedHeld { held, until, signature }
    SignedClosed { closed, signature }
    Audited { channel, nonce, at, says, signature }
    Possession { channel, number, proof }
    ChainSeen { height, is_sure }
    Refused { what, code, channel, number, text }
    PastHtlc { htlc, first, last }
    CommitmentHtlc { direction, id, amount, payment_hash, cltv_expiry }
}

impl Part for BackupBody {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Blind { hint, sealed } => {
                out.push(BLIND);
                hint.put(out);
                out.extend_from_slice(sealed);
            }
            Self::Own { secret, htlcs } => {
                out.push(OWN);
                secret.put(out);
                htlcs.iter().for_each(|htlc| htlc.put(out));
            }
            Self::OwnPast { secrets, htlcs, more } => {
                out.push(OWN_PAST);
                secrets.put(out);
                more.put(out);
                htlcs.iter().for_each(|htlc| htlc.put(out));
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(match reader.field::<u8>()? {
            BLIND => Self::Blind { hint: Part::take(reader)?, sealed: reader.take_rest().to_vec() },
            OWN => Self::Own { secret: Part::take(reader)?, htlcs: take_all(reader)? },
            OWN_PAST => {
                Self::OwnPast { secrets: Part::take(reader)?, more: Part::take(reader)?, htlcs: take_all(reader)? }
            }
            value => return Err(ReadError::Unknown { what: "kind of backup", value: u64::from(value) }),
        })
    }
}

/// As many as there are.
fn take_all<T: Part>(reader: &mut Reader<'_>) -> Result<Vec<T>, ReadError> {
    let mut all = Vec::new();
    while !reader.is_empty() {
        all.push(T::take(reader)?);
    }
    Ok(all)
}

const BLIND: u8 = 1;
const OWN: u8 = 2;
const OWN_PAST: u8 = 3;

const KNOWN: u8 = 0;
const NEW: u8 = 1;

impl Part for StateHtlc {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Known { direction, id } => {
                out.push(KNOWN);
                direction.put(out);
                id.put(out);
            }
            Self::New(htlc) => {
                out.push(NEW);
                htlc.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        match reader.field::<u8>()? {
            KNOWN => Ok(Self::Known { direction: Part::take(reader)?, id: Part::take(reader)? }),
            NEW => Ok(Self::New(Part::take(reader)?)),
            value => Err(ReadError::Unknown { what: "way to name an HTLC", value: u64::from(value) }),
        }
    }
}

const HAS_NOTHING: u8 = 0;
const HAS_BACKUPS: u8 = 1;
const HAS_CLOSED: u8 = 2;

impl Part for Has {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => out.push(HAS_NOTHING),
            Self::Backups { receipt, mark } => {
                out.push(HAS_BACKUPS);
                receipt.put(out);
                mark.put(out);
            }
            Self::Closed(closed) => {
                out.push(HAS_CLOSED);
                closed.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        match reader.field::<u8>()? {
            HAS_NOTHING => Ok(Self::Nothing),
            HAS_BACKUPS => Ok(Self::Backups { receipt: Part::take(reader)?, mark: Part::take(reader)? }),
            HAS_CLOSED => Part::take(reader).map(Self::Closed),
            value => Err(ReadError::Unknown { what: "state of a channel", value: u64::from(value) }),
        }
    }
}

const ASK_ALL: u8 = 0;
const ASK_CHANNEL: u8 = 1;
const ASK_AUDIT: u8 = 2;
const ASK_POSSESSION: u8 = 3;
const ASK_CHAIN: u8 = 4;

impl Part for Ask {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::All => out.push(ASK_ALL),
            Self::Chain => out.push(ASK_CHAIN),
            Self::Channel(channel) => {
                out.push(ASK_CHANNEL);
                channel.put(out);
            }
            Self::Audit { channel, up_to: number, nonce } | Self::Possession { channel, number, nonce } => {
                out.push(if matches!(self, Self::Audit { .. }) { ASK_AUDIT } else { ASK_POSSESSION });
                channel.put(out);
                number.put(out);
                nonce.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(match reader.field::<u8>()? {
            ASK_ALL => Self::All,
            ASK_CHAIN => Self::Chain,
            ASK_CHANNEL => Self::Channel(Part::take(reader)?),
            ASK_AUDIT => {
                Self::Audit { channel: Part::take(reader)?, up_to: Part::take(reader)?, nonce: Part::take(reader)? }
            }
            ASK_POSSESSION => Self::Possession {
                channel: Part::take(reader)?,
                number: Part::take(reader)?,
                nonce: Part::take(reader)?,
            },
            value => return Err(ReadError::Unknown { what: "question", value: u64::from(value) }),
        })
    }
}

impl Part for RefusalCode {
    fn put(&self, out: &mut Vec<u8>) {
        let code: u16 = match self {
            Self::NotOffered => 1,
            Self::Full => 2,
            Self::TooFast => 3,
            Self::NotRegistered => 4,
            Self::QuotaExceeded => 5,
            Self::NoSuchChannel => 6,
            Self::ChannelExists => 7,
            Self::OutOfOrder => 8,
            Self::Unreadable => 9,
            Self::WrongSecret => 10,
            Self::TermsDiffer => 11,
            Self::ChannelEnded => 12,
            Self::NotReady => 13,
            Self::Other(code) => *code,
        };
        code.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(match reader.field::<u16>()? {
            1 => Self::NotOffered,
            2 => Self::Full,
            3 => Self::TooFast,
            4 => Self::NotRegistered,
            5 => Self::QuotaExceeded,
            6 => Self::NoSuchChannel,
            7 => Self::ChannelExists,
            8 => Self::OutOfOrder,
            9 => Self::Unreadable,
            10 => Self::WrongSecret,
            11 => Self::TermsDiffer,
            12 => Self::ChannelEnded,
            13 => Self::NotReady,
            code => Self::Other(code),
        })
    }
}

/// A byte string; what is not UTF-8 is replaced: it is only shown.
impl Part for String {
    fn put(&self, out: &mut Vec<u8>) {
        // A text longer than 65,535 bytes is nobody's.
        self.bytes().take(usize::from(u16::MAX)).collect::<Vec<u8>>().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(String::from_utf8_lossy(&<Vec<u8> as Part>::take(reader)?).into_owned())
    }
}
