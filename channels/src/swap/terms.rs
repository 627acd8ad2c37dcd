//! What two people agree on before anything is locked, and the two texts that travel between them.

use std::fmt;

use bitcoin::{
    Amount,
    constants::ChainHash,
    hashes::{Hash as _, sha256},
};
use secp256k1::PublicKey;

use super::{
    contract::{Contract, ContractError, Expiry},
    margins, span,
};
use crate::{
    types::{PaymentHash, UnixTime},
    wire::codec::{DecodeError, Field, Reader},
};

/// Who knows the secret from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Makes the secret, locks first and for longer, redeems first.
    Initiator,
    /// Locks second, for a shorter time, and redeems with the secret that the initiator shows.
    Participant,
}

/// One of the two contracts of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// The initiator's lock: with the later expiry.
    Outer,
    /// The participant's lock: with the earlier expiry.
    Inner,
}

impl Leg {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Outer, Self::Inner];

    /// The opposite one.
    pub fn other(self) -> Self {
        match self {
            Self::Outer => Self::Inner,
            Self::Inner => Self::Outer,
        }
    }
}

impl Role {
    /// Where this person locks coins.
    pub fn gives(self) -> Leg {
        match self {
            Self::Initiator => Leg::Outer,
            Self::Participant => Leg::Inner,
        }
    }

    /// Where this person takes the other's.
    pub fn gets(self) -> Leg {
        self.gives().other()
    }
}

/// A chain as its network's rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The hash of its genesis block.
    pub hash: ChainHash,
    /// Seconds between its blocks.
    pub spacing: u32,
}

impl Chain {
    /// With the spacing that was measured, if that is longer.
    #[must_use]
    pub fn no_faster_than(self, measured: u32) -> Self {
        Self { spacing: self.spacing.max(measured), ..self }
    }

    /// With the spacing that was measured, if that is shorter; 0: none was.
    #[must_use]
    pub fn no_slower_than(self, measured: u32) -> Self {
        if measured == 0 { self } else { Self { spacing: self.spacing.min(measured), ..self } }
    }
}

/// One half of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegTerms {
    /// Where.
    pub chain: Chain,
    /// What is locked, exactly.
    pub amount: Amount,
    /// When it goes back.
    pub expiry: UnixTime,
}

/// What the initiator offers. Its bytes are what travels; the hash of the secret names the swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// SHA-256 of the secret.
    pub hash: PaymentHash,
    /// What the initiator gives.
    pub outer: LegTerms,
    /// What the participant gives.
    pub inner: LegTerms,
    /// The initiator's key on the outer contract.
    pub refund_key: PublicKey,
    /// The initiator's key on the inner contract.
    pub redeem_key: PublicKey,
}

/// What the participant answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// Which offer: the hash of all that it says.
    pub offer: [u8; 32],
    /// The participant's key on the outer contract.
    pub redeem_key: PublicKey,
    /// The participant's key on the inner contract.
    pub refund_key: PublicKey,
}

/// Why an offer or an answer is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum TermsError {
    #[error("this is no offer or acceptance of a swap, or a part of it is missing ({0}): copy all of it")]
    Unreadable(#[from] DecodeError),
    #[error("this was written by a newer Leyden (format {0}): use that one")]
    Newer(u8),
    #[error("both halves of the offer are on one chain: a swap needs two")]
    OneChain,
    #[error("this is {found}, and {wanted} is needed here: {next}", next = wanted.next())]
    OtherText { found: TextKind, wanted: TextKind },
    #[error(
        "the participant's coins come back {gap} before the initiator's, and {needed} are needed to take the others in \
         time after the secret is shown in the last moment: ask for a later outer expiry",
        gap = span::at_least(*gap),
        needed = span::at_most(*needed)
    )]
    GapTooSmall { gap: u64, needed: u64 },
    #[error(
        "{left} are left until the inner expiry, and {needed} are needed to lock, get deep and redeem: ask for a new \
         offer, or for one with more time",
        left = span::at_least(*left),
        needed = span::at_most(*needed)
    )]
    TooLate { left: u64, needed: u64 },
    #[error(
        "your coins could be locked for {seconds}, and at most {most} were meant: ask for an offer with an earlier inner \
         expiry, or say --inner-hours if you mean it",
        seconds = span::at_most(*seconds),
        most = span::at_least(*most)
    )]
    LockedTooLong { seconds: u64, most: u64 },
    #[error("the expiries lie more than two weeks ahead: ask for earlier ones")]
    TooFar,
    #[error(
        "{amount} sat are too little for a swap: it must be at least {least} sat",
        amount = amount.to_sat(),
        least = least.to_sat()
    )]
    TooSmall { amount: Amount, least: Amount },
    #[error("{amount} sat are more than there are coins", amount = amount.to_sat())]
    TooLarge { amount: Amount },
    #[error(
        "the offer is about {got} sat where you said {wanted}: nothing was accepted",
        got = got.to_sat(),
        wanted = wanted.to_sat()
    )]
    WrongAmount { wanted: Amount, got: Amount },
    #[error("the offer is about a chain that none of your two nodes follows (genesis block {0}): nothing was accepted")]
    WrongChain(ChainHash),
    #[error(
        "the offer has blocks of {hash} (its genesis block) {got} seconds apart, and your node has them {wanted} seconds apart: nothing \
         was accepted. Take the same network file, both of you",
        hash = chain.hash,
        got = got.spacing,
        wanted = chain.spacing
    )]
    WrongSpacing { chain: Chain, got: Chain },
    #[error("the acceptance belongs to another offer")]
    OtherOffer,
    #[error("the same key stands on both sides of a contract: somebody has altered it")]
    SameKey,
    #[error(transparent)]
    Contract(#[from] ContractError),
    #[error("the offer goes the other way than you said: nothing was accepted")]
    WrongDirection,
    #[error(
        "{left} blocks are left until the coins go back, and {needed} are needed for all that has to happen before: ask for a new \
         offer, or for one with more blocks"
    )]
    TooFewBlocks { left: u32, needed: u32 },
    #[error(
        "{left} are left until the coins go back, and {needed} are needed for all that has to happen before at the pace of \
         the two chains: ask for a new offer, or for one with more hours",
        left = span::at_least(*left),
        needed = span::at_most(*needed)
    )]
    TooFewSeconds { left: u64, needed: u64 },
    #[error(
        "the payment would have to be held for {blocks} blocks, its route included, so that it outlasts the lock at the pace of the two \
         chains, and nodes lock money for {most} at most: the two clocks leave too little time for this swap"
    )]
    ClocksApart { blocks: u32, most: u32 },
    #[error("coins would be locked for longer than two weeks' worth of blocks: ask for fewer")]
    TooManyBlocks,
    #[error(
        "the payment is held for {blocks} blocks, and {needed} are needed, so that it outlasts the lock: ask for a new offer"
    )]
    HeldTooShort { blocks: u32, needed: u32 },
    #[error("the invoice of the swap cannot be read: {0}")]
    Invoice(String),
    #[error("the invoice of the swap is not the one that was agreed on: {0}")]
    OtherInvoice(&'static str),
}

/// The least that is worth a lock, a claim and the fees of a bad day.
pub const LEAST_AMOUNT: Amount = Amount::from_sat(20_000);

/// The format that is written, and the highest that is read.
const FORMAT: u8 = 1;

impl Offer {
    /// The half of it on this leg.
    pub fn leg(&self, leg: Leg) -> &LegTerms {
        match leg {
            Leg::Outer => &self.outer,
            Leg::Inner => &self.inner,
        }
    }

    /// What holds for every offer, whoever looks at it.
    pub fn check(&self) -> Result<(), TermsError> {
        if self.outer.chain.hash == self.inner.chain.hash {
            return Err(TermsError::OneChain);
        }
        for leg in [&self.outer, &self.inner] {
            check_amount(leg.amount)?;
        }
        self.check_gap(&self.outer.chain, &self.inner.chain)
    }

    /// Whether there is time between the expiries on chains that find blocks as these do.
    pub fn check_gap(&self, outer: &Chain, inner: &Chain) -> Result<(), TermsError> {
        let gap = self.outer.expiry.0.saturating_sub(self.inner.expiry.0);
        let needed = margins::gap_seconds(outer, inner);
        if gap < needed { Err(TermsError::GapTooSmall { gap, needed }) } else { Ok(()) }
    }

    /// Whether `needed` seconds are left until the inner expiry, and not too many until the outer one.
    pub fn check_time(&self, now: UnixTime, needed: u64) -> Result<(), TermsError> {
        if self.outer.expiry.0 > now.0.saturating_add(margins::MAX_SECONDS) {
            return Err(TermsError::TooFar);
        }
        let left = self.inner.expiry.0.saturating_sub(now.0);
        if left < needed { Err(TermsError::TooLate { left, needed }) } else { Ok(()) }
    }

    /// The output of a leg, once both have named their keys.
    pub fn contract(&self, leg: Leg, acceptance: &Acceptance) -> Contract {
        let (redeem_key, refund_key) = match leg {
            Leg::Outer => (acceptance.redeem_key, self.refund_key),
            Leg::Inner => (self.redeem_key, acceptance.refund_key),
        };
        Contract { hash: self.hash, redeem_key, refund_key, expiry: Expiry::Time(self.leg(leg).expiry) }
    }

    /// What an acceptance repeats.
    pub fn digest(&self) -> [u8; 32] {
        sha256::Hash::hash(&self.encode()).to_byte_array()
    }

    /// What travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![TextKind::Offer.byte(), FORMAT];
        self.write(&mut out);
        out
    }

    /// Reads what [`Offer::encode`] has written, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, TermsError> {
        read_whole(bytes, TextKind::Offer, FORMAT)
    }
}

impl Acceptance {
    /// Whether it answers this offer, with keys of somebody else.
    pub fn check(&self, offer: &Offer) -> Result<(), TermsError> {
        if self.offer != offer.digest() {
            return Err(TermsError::OtherOffer);
        }
        if self.redeem_key == offer.refund_key || self.refund_key == offer.redeem_key {
            return Err(TermsError::SameKey);
        }
        Ok(())
    }

    /// What travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![TextKind::Acceptance.byte(), FORMAT];
        self.write(&mut out);
        out
    }

    /// Reads what [`Acceptance::encode`] has written, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, TermsError> {
        read_whole(bytes, TextKind::Acceptance, FORMAT)
    }
}

/// One of the texts that travel between two people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Of coins for coins.
    Offer,
    /// The answer to it.
    Acceptance,
    /// Of coins for a Lightning payment.
    SubmarineOffer,
    /// The answer to it.
    SubmarineAcceptance,
}

impl TextKind {
    const ALL: [Self; 4] = [Self::Offer, Self::Acceptance, Self::SubmarineOffer, Self::SubmarineAcceptance];

    /// The first byte, so that none is taken for another.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Offer => b'O',
            Self::Acceptance => b'A',
            Self::SubmarineOffer => b'o',
            Self::SubmarineAcceptance => b'a',
        }
    }

    /// Whether bytes begin like it.
    pub(super) fn begins(self, bytes: &[u8]) -> bool {
        bytes.first() == Some(&self.byte())
    }

    /// What to do about another one in its place.
    fn next(self) -> &'static str {
        match self {
            Self::Offer | Self::SubmarineOffer => "the initiator sends it, and `leyden swap accept` answers it",
            Self::Acceptance | Self::SubmarineAcceptance => {
                "`leyden swap accept` prints it at the other's, who sends it back, and `leyden swap initiate` takes it"
            }
        }
    }
}

impl fmt::Display for TextKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Offer => "the offer of a swap",
            Self::Acceptance => "the acceptance of a swap",
            Self::SubmarineOffer => "the offer of a submarine swap",
            Self::SubmarineAcceptance => "the acceptance of a submarine swap",
        })
    }
}

/// What may be locked or paid.
pub(super) fn check_amount(amount: Amount) -> Result<(), TermsError> {
    if amount < LEAST_AMOUNT {
        return Err(TermsError::TooSmall { amount, least: LEAST_AMOUNT });
    }
    if amount > Amount::MAX_MONEY { Err(TermsError::TooLarge { amount }) } else { Ok(()) }
}

/// Whether an offer has a chain as this person's node has it. Another spacing would make the margins shorter than they are.
pub(super) fn check_chain(got: Chain, wanted: Chain) -> Result<(), TermsError> {
    if got.hash != wanted.hash {
        return Err(TermsError::WrongChain(got.hash));
    }
    if got == wanted { Ok(()) } else { Err(TermsError::WrongSpacing { chain: wanted, got }) }
}

/// Reads a text of this kind, up to this format, to its end.
pub(super) fn read_whole<T: Field>(bytes: &[u8], wanted: TextKind, known: u8) -> Result<T, TermsError> {
    let mut reader = Reader::new(bytes);
    let (found, format) = (reader.field::<u8>()?, reader.field::<u8>()?);
    if found != wanted.byte() {
        return Err(match TextKind::ALL.into_iter().find(|kind| kind.byte() == found) {
            Some(found) => TermsError::OtherText { found, wanted },
            None => TermsError::Unreadable(DecodeError::UnknownKind(found)),
        });
    }
    if format > known {
        return Err(TermsError::Newer(format));
    }
    let read = reader.field()?;
    reader.finish()?;
    Ok(read)
}

impl Field for Chain {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { hash: reader.field()?, spacing: reader.field()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.hash.write(out);
        self.spacing.write(out);
    }
}

impl Field for LegTerms {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { chain: reader.field()?, amount: reader.field()?, expiry: UnixTime(reader.field()?) })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.chain.write(out);
        self.amount.write(out);
        self.expiry.0.write(out);
    }
}

impl Field for Offer {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            hash: reader.field()?,
            outer: reader.field()?,
            inner: reader.field()?,
            refund_key: reader.field()?,
            redeem_key: reader.field()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.hash.write(out);
        self.outer.write(out);
        self.inner.write(out);
        self.refund_key.write(out);
        self.redeem_key.write(out);
    }
}

impl Field for Acceptance {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { offer: reader.field()?, redeem_key: reader.field()?, refund_key: reader.field()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.offer.write(out);
        self.redeem_key.write(out);
        self.refund_key.write(out);
    }
}
