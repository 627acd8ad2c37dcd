//! Under which keys channels, invoices, payments and what was forwarded are stored.
//!
//! ```text
//!   01 channel 00            terms        fixed at opening, written again only when a script or an alias is added
//!   01 channel 01            state        the small snapshot that most commits write
//!   01 channel 02            signatures   the peer's signatures on our latest commitment
//!   01 channel 03            secrets      the peer's revealed per-commitment secrets, in the shachain's buckets
//!   01 channel 05            inputs       what the funding transaction needs; written when it is first seen
//!   01 channel 04 side id    HTLC         amount, hash, onion and origin; written once, deleted when it is gone
//!   02 channel side id       retired HTLC what a penalty against an old state needs to know of it
//!   03 channel id            settlement   owed to an incoming HTLC of that channel; deleted once it is committed there
//!   04 attempt               outcome      of a payment attempt of this node; deleted by whoever keeps the payments
//!   05 number                invoice      of this node
//!   06 payment hash          number       of the invoice with this hash
//!   07 number                payment      of this node, with its attempts
//!   08 payment hash          number       of the payment with this hash
//!   09 channel 00            closing      a channel that was handed over to its enforcement; written once
//!   09 channel 01            resolution   what the chain has done to it since, and our claims
//!   10 channel               policy       under which the channel forwards; the default if there is none
//!   11 expiry fingerprint    seen onion   of a forwarded HTLC; deleted once the expiry has passed
//!   12 number                forward      that earned a fee
//!   13 channel number        backup       a revoked state of the peer's, until the towers have it
//!   14                       towers       everything else of the towers' client, which has keys of its own
//!   15 channel id            final HTLC   how it has ended, for people
//!   16 number                nothing      an invoice that is not over; its own row is there too
//!   17                       number       of the invoice that was settled last, among the settled ones
//!   18 number                nothing      a payment that is not over; its own row is there too
//!   19                       attempt      the last one that was made of any payment
//! ```
//!
//! Promises: all that a live channel is restored from lies under one prefix ([`Key::live_prefix`]), and what piles
//! up over its life under another.

use super::event::AttemptId;
use crate::types::{ChannelId, CltvExpiry, CommitmentNumber, HtlcId, PaymentHash, Side};

/// The name of one durable value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table above says what each holds")]
pub enum Key {
    Terms(ChannelId),
    State(ChannelId),
    Signatures(ChannelId),
    Secrets(ChannelId),
    FundingInputs(ChannelId),
    Htlc {
        channel: ChannelId,
        offered_by: Side,
        id: HtlcId,
    },
    RetiredHtlc {
        channel: ChannelId,
        offered_by: Side,
        id: HtlcId,
    },
    Settlement {
        channel: ChannelId,
        id: HtlcId,
    },
    Outcome(AttemptId),
    /// Of ours, by its number.
    Invoice(u64),
    InvoiceIndex(PaymentHash),
    /// Of ours, by its number.
    Payment(u64),
    PaymentIndex(PaymentHash),
    Closing(ChannelId),
    Resolution(ChannelId),
    ForwardPolicy(ChannelId),
    /// In the order of the expiries, so that those that have passed lie together.
    SeenOnion {
        expiry: CltvExpiry,
        fingerprint: u64,
    },
    /// By its number.
    Forward(u64),
    /// How an HTLC of the peer's has ended, for people: kept when the channel is over.
    FinalHtlc {
        channel: ChannelId,
        id: HtlcId,
    },
    TowerBackup {
        channel: ChannelId,
        number: CommitmentNumber,
    },
    /// Names an invoice that is not over, by its number.
    OpenInvoice(u64),
    LastSettled,
    /// Names a payment that is not over, by its number.
    OpenPayment(u64),
    LastAttempt,
}

const LIVE: u8 = 1;
const RETIRED: u8 = 2;
const SETTLEMENT: u8 = 3;
const OUTCOME: u8 = 4;
const INVOICE: u8 = 5;
const INVOICE_INDEX: u8 = 6;
const PAYMENT: u8 = 7;
const PAYMENT_INDEX: u8 = 8;
const ENFORCEMENT: u8 = 9;
const FORWARD_POLICY: u8 = 0x10;
const SEEN_ONION: u8 = 0x11;
const FORWARD: u8 = 0x12;
const TOWER_BACKUP: u8 = 0x13;
// 0x14 is the towers' client's.
const FINAL_HTLC: u8 = 0x15;
const OPEN_INVOICE: u8 = 0x16;
const LAST_SETTLED: u8 = 0x17;
const OPEN_PAYMENT: u8 = 0x18;
const LAST_ATTEMPT: u8 = 0x19;

const TERMS: u8 = 0;
const STATE: u8 = 1;
const SIGNATURES: u8 = 2;
const SECRETS: u8 = 3;
const HTLC: u8 = 4;
const FUNDING_INPUTS: u8 = 5;

const CLOSING: u8 = 0;
const RESOLUTION: u8 = 1;

impl Key {
    /// The bytes of the key; in their order, what is numbered follows one another by number.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(43);
        let mut put = |table: u8, name: &[u8], rest: &[u8]| {
            out.push(table);
            out.extend_from_slice(name);
            out.extend_from_slice(rest);
        };
        match self {
            Self::Terms(channel) => put(LIVE, &channel.0, &[TERMS]),
            Self::State(channel) => put(LIVE, &channel.0, &[STATE]),
            Self::Signatures(channel) => put(LIVE, &channel.0, &[SIGNATURES]),
            Self::Secrets(channel) => put(LIVE, &channel.0, &[SECRETS]),
            Self::FundingInputs(channel) => put(LIVE, &channel.0, &[FUNDING_INPUTS]),
            Self::Htlc { channel, offered_by, id } => {
                put(LIVE, &channel.0, &[HTLC, side_byte(*offered_by)]);
                out.extend_from_slice(&id.0.to_be_bytes());
            }
            Self::RetiredHtlc { channel, offered_by, id } => {
                put(RETIRED, &channel.0, &[side_byte(*offered_by)]);
                out.extend_from_slice(&id.0.to_be_bytes());
            }
            Self::Settlement { channel, id } => put(SETTLEMENT, &channel.0, &id.0.to_be_bytes()),
            Self::Outcome(attempt) => put(OUTCOME, &attempt.0.to_be_bytes(), &[]),
            Self::Invoice(number) => put(INVOICE, &number.to_be_bytes(), &[]),
            Self::InvoiceIndex(hash) => put(INVOICE_INDEX, &hash.0, &[]),
            Self::Payment(number) => put(PAYMENT, &number.to_be_bytes(), &[]),
            Self::PaymentIndex(hash) => put(PAYMENT_INDEX, &hash.0, &[]),
            Self::Closing(channel) => put(ENFORCEMENT, &channel.0, &[CLOSING]),
            Self::Resolution(channel) => put(ENFORCEMENT, &channel.0, &[RESOLUTION]),
            Self::ForwardPolicy(channel) => put(FORWARD_POLICY, &channel.0, &[]),
            Self::SeenOnion { expiry, fingerprint } => {
                put(SEEN_ONION, &expiry.0.to_be_bytes(), &fingerprint.to_be_bytes());
            }
            Self::Forward(number) => put(FORWARD, &number.to_be_bytes(), &[]),
            Self::FinalHtlc { channel, id } => put(FINAL_HTLC, &channel.0, &id.0.to_be_bytes()),
            Self::TowerBackup { channel, number } => put(TOWER_BACKUP, &channel.0, &number.0.to_be_bytes()),
            Self::OpenInvoice(number) => put(OPEN_INVOICE, &number.to_be_bytes(), &[]),
            Self::LastSettled => put(LAST_SETTLED, &[], &[]),
            Self::OpenPayment(number) => put(OPEN_PAYMENT, &number.to_be_bytes(), &[]),
            Self::LastAttempt => put(LAST_ATTEMPT, &[], &[]),
        }
        out
    }

    /// `None` for bytes that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&table, rest) = bytes.split_first()?;
        let number = |rest: &[u8]| Some(u64::from_be_bytes(rest.try_into().ok()?));
        let hash = |rest: &[u8]| Some(PaymentHash(rest.try_into().ok()?));
        let side_and_id = |rest: &[u8]| {
            let (&side, id) = rest.split_first()?;
            Some((side_of(side)?, HtlcId(number(id)?)))
        };
        match table {
            LIVE => {
                let (channel, rest) = of_channel(rest)?;
                match rest {
                    [TERMS] => Some(Self::Terms(channel)),
                    [STATE] => Some(Self::State(channel)),
                    [SIGNATURES] => Some(Self::Signatures(channel)),
                    [SECRETS] => Some(Self::Secrets(channel)),
                    [FUNDING_INPUTS] => Some(Self::FundingInputs(channel)),
                    [HTLC, rest @ ..] => {
                        side_and_id(rest).map(|(offered_by, id)| Self::Htlc { channel, offered_by, id })
                    }
                    _ => None,
                }
            }
            RETIRED => {
                let (channel, rest) = of_channel(rest)?;
                side_and_id(rest).map(|(offered_by, id)| Self::RetiredHtlc { channel, offered_by, id })
            }
            SETTLEMENT => {
                let (channel, rest) = of_channel(rest)?;
                Some(Self::Settlement { channel, id: HtlcId(number(rest)?) })
            }
            OUTCOME => number(rest).map(|attempt| Self::Outcome(AttemptId(attempt))),
            INVOICE => number(rest).map(Self::Invoice),
            INVOICE_INDEX => hash(rest).map(Self::InvoiceIndex),
            PAYMENT => number(rest).map(Self::Payment),
            PAYMENT_INDEX => hash(rest).map(Self::PaymentIndex),
            ENFORCEMENT => {
                let (channel, rest) = of_channel(rest)?;
                match rest {
                    [CLOSING] => Some(Self::Closing(channel)),
                    [RESOLUTION] => Some(Self::Resolution(channel)),
                    _ => None,
                }
            }
            FORWARD_POLICY => Some(Self::ForwardPolicy(ChannelId(rest.try_into().ok()?))),
            SEEN_ONION => {
                let (expiry, rest) = rest.split_first_chunk::<4>()?;
                Some(Self::SeenOnion { expiry: CltvExpiry(u32::from_be_bytes(*expiry)), fingerprint: number(rest)? })
            }
            FORWARD => number(rest).map(Self::Forward),
            FINAL_HTLC => {
                let (channel, rest) = of_channel(rest)?;
                Some(Self::FinalHtlc { channel, id: HtlcId(number(rest)?) })
            }
            TOWER_BACKUP => {
                let (channel, rest) = of_channel(rest)?;
                Some(Self::TowerBackup { channel, number: CommitmentNumber(number(rest)?) })
            }
            OPEN_INVOICE => number(rest).map(Self::OpenInvoice),
            LAST_SETTLED => rest.is_empty().then_some(Self::LastSettled),
            OPEN_PAYMENT => number(rest).map(Self::OpenPayment),
            LAST_ATTEMPT => rest.is_empty().then_some(Self::LastAttempt),
            _ => None,
        }
    }

    /// What every key of every live channel begins with.
    pub const fn all_live_prefix() -> [u8; 1] {
        [LIVE]
    }

    /// What every key of every owed settlement begins with.
    pub const fn all_settlements_prefix() -> [u8; 1] {
        [SETTLEMENT]
    }

    /// What every key of the settlements that `channel` is owed begins with.
    pub fn settlements_prefix(channel: &ChannelId) -> Vec<u8> {
        prefix(SETTLEMENT, channel)
    }

    /// What every key that `channel` is restored from begins with.
    pub fn live_prefix(channel: &ChannelId) -> Vec<u8> {
        prefix(LIVE, channel)
    }

    /// What every key of the retired HTLCs of `channel` begins with.
    pub fn retired_prefix(channel: &ChannelId) -> Vec<u8> {
        prefix(RETIRED, channel)
    }

    /// What every key of every outcome begins with.
    pub const fn all_outcomes_prefix() -> [u8; 1] {
        [OUTCOME]
    }

    /// What every key of every invoice begins with.
    pub const fn all_invoices_prefix() -> [u8; 1] {
        [INVOICE]
    }

    /// What every key of every payment begins with.
    pub const fn all_payments_prefix() -> [u8; 1] {
        [PAYMENT]
    }

    /// What every name of an invoice that is not over begins with.
    pub const fn all_open_invoices_prefix() -> [u8; 1] {
        [OPEN_INVOICE]
    }

    /// What every name of a payment that is not over begins with.
    pub const fn all_open_payments_prefix() -> [u8; 1] {
        [OPEN_PAYMENT]
    }

    /// What every key begins with under which earlier versions kept the enforcement of closing channels.
    pub const fn all_enforcement_prefix() -> [u8; 1] {
        [ENFORCEMENT]
    }

    /// What every such key of `channel` begins with.
    pub fn enforcement_prefix(channel: &ChannelId) -> Vec<u8> {
        prefix(ENFORCEMENT, channel)
    }

    /// What every key of every forwarding policy begins with.
    pub const fn all_forward_policies_prefix() -> [u8; 1] {
        [FORWARD_POLICY]
    }

    /// What every key of every seen onion begins with.
    pub const fn all_seen_onions_prefix() -> [u8; 1] {
        [SEEN_ONION]
    }

    /// What every key of every state begins with that is queued for the towers.
    pub const fn all_tower_backups_prefix() -> [u8; 1] {
        [TOWER_BACKUP]
    }

    /// What every such key of `channel` begins with.
    pub fn tower_backups_prefix(channel: &ChannelId) -> Vec<u8> {
        prefix(TOWER_BACKUP, channel)
    }

    /// The first byte of every key of the towers' client, in which this crate has no part.
    pub const TOWER_CLIENT: u8 = 0x14;

    /// What every key of every forward begins with.
    pub const fn all_forwards_prefix() -> [u8; 1] {
        [FORWARD]
    }

    /// The channel that this key belongs to, if it belongs to one.
    pub const fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::Outcome(_)
            | Self::Invoice(_)
            | Self::InvoiceIndex(_)
            | Self::Payment(_)
            | Self::PaymentIndex(_)
            | Self::SeenOnion { .. }
            | Self::Forward(_)
            | Self::OpenInvoice(_)
            | Self::LastSettled
            | Self::OpenPayment(_)
            | Self::LastAttempt => None,
            Self::Terms(channel)
            | Self::State(channel)
            | Self::Signatures(channel)
            | Self::Secrets(channel)
            | Self::FundingInputs(channel)
            | Self::Htlc { channel, .. }
            | Self::RetiredHtlc { channel, .. }
            | Self::Settlement { channel, .. }
            | Self::FinalHtlc { channel, .. }
            | Self::Closing(channel)
            | Self::Resolution(channel)
            | Self::TowerBackup { channel, .. }
            | Self::ForwardPolicy(channel) => Some(*channel),
        }
    }
}

fn of_channel(rest: &[u8]) -> Option<(ChannelId, &[u8])> {
    let (channel, rest) = rest.split_first_chunk::<32>()?;
    Some((ChannelId(*channel), rest))
}

const fn side_byte(side: Side) -> u8 {
    match side {
        Side::Local => 0,
        Side::Remote => 1,
    }
}

const fn side_of(byte: u8) -> Option<Side> {
    match byte {
        0 => Some(Side::Local),
        1 => Some(Side::Remote),
        _ => None,
    }
}

fn prefix(table: u8, channel: &ChannelId) -> Vec<u8> {
    let mut out = Vec::with_capacity(33);
    out.push(table);
    out.extend_from_slice(&channel.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_live_ones_share_a_prefix() {
        let channel = ChannelId([7; 32]);
        let id = HtlcId(258);
        let keys = [
            Key::Terms(channel),
            Key::State(channel),
            Key::Signatures(channel),
            Key::Secrets(channel),
            Key::FundingInputs(channel),
            Key::Htlc { channel, offered_by: Side::Local, id },
            Key::Htlc { channel, offered_by: Side::Remote, id },
            Key::RetiredHtlc { channel, offered_by: Side::Remote, id },
            Key::Settlement { channel, id },
            Key::FinalHtlc { channel, id },
            Key::Closing(channel),
            Key::Resolution(channel),
            Key::TowerBackup { channel, number: CommitmentNumber(258) },
        ];
        for key in keys {
            assert_eq!(Key::decode(&key.encode()), Some(key));
            assert_eq!(key.channel(), Some(channel));
        }
        assert!(keys[..7].iter().all(|key| key.encode().starts_with(&Key::live_prefix(&channel))));
        assert!(!keys[7..].iter().any(|key| key.encode().starts_with(&Key::live_prefix(&channel))));
        let hash = PaymentHash([6; 32]);
        for key in [
            Key::Outcome(AttemptId(9)),
            Key::Invoice(1),
            Key::InvoiceIndex(hash),
            Key::Payment(1),
            Key::PaymentIndex(hash),
            Key::ForwardPolicy(channel),
            Key::SeenOnion { expiry: CltvExpiry(700), fingerprint: u64::MAX },
            Key::Forward(3),
            Key::OpenInvoice(4),
            Key::LastSettled,
            Key::OpenPayment(5),
            Key::LastAttempt,
        ] {
            assert_eq!(Key::decode(&key.encode()), Some(key));
        }
        assert_eq!(Key::decode(&[1, 2, 3]), None);
    }
}
