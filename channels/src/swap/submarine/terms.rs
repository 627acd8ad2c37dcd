//! What two people agree on before anything is locked or paid, and the two texts that travel between them.

use bitcoin::{
    Amount,
    hashes::{Hash as _, sha256},
};
use secp256k1::PublicKey;

use super::across::Paces;
use crate::{
    margins::MAX_HTLC_CLTV,
    payment::{Invoice, InvoiceNetwork, incoming::Holder},
    swap::{
        contract::{Contract, Expiry},
        margins,
        terms::{Chain, Leg, Role, TermsError, TextKind, check_amount, read_whole},
    },
    types::{Height, Msat, PaymentHash, UnixTime},
    wire::codec::{DecodeError, Field, Reader},
};

/// Where the initiator's coins go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the chain into a channel.
    In,
    /// From a channel to the chain.
    Out,
}

impl Direction {
    /// Which leg of the swap is on the chain; the other one is the payment.
    pub fn contract_leg(self) -> Leg {
        match self {
            Self::In => Leg::Outer,
            Self::Out => Leg::Inner,
        }
    }

    /// Who holds the payment that the invoice asks for. The participant of a swap out may have lost coins for it, and takes it
    /// as long as it can be had at all; the initiator of a swap in has the secret to give yet, and gives it only for what can
    /// be claimed.
    pub fn holder(self) -> Holder {
        match self {
            Self::In => Holder::SwapIn,
            Self::Out => Holder::SwapOut,
        }
    }

    /// Who locks coins, and is paid.
    pub fn locks(self) -> Role {
        match self {
            Self::In => Role::Initiator,
            Self::Out => Role::Participant,
        }
    }
}

/// Where the payment is, and by what it is told when the lock goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The payment is on the contract's chain; the lock goes back in a block above this height.
    Height(Height),
    /// The payment is on another chain; the lock goes back once the median time of its own is later than this.
    Time {
        /// The time.
        refund: UnixTime,
        /// Where the payment is.
        payment_chain: Chain,
    },
}

impl Clock {
    /// The height, if it is one.
    pub fn refund_height(&self) -> Option<Height> {
        match self {
            Self::Height(height) => Some(*height),
            Self::Time { .. } => None,
        }
    }

    /// What the contract's refund waits for.
    pub fn expiry(&self) -> Expiry {
        match self {
            Self::Height(height) => Expiry::Height(*height),
            Self::Time { refund, .. } => Expiry::Time(*refund),
        }
    }
}

/// What the initiator offers. Its bytes are what travels; the hash of the secret names the swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which way.
    pub direction: Direction,
    /// SHA-256 of the secret, and the hash of the payment.
    pub hash: PaymentHash,
    /// Where coins are locked.
    pub chain: Chain,
    /// What is locked, exactly.
    pub coins: Amount,
    /// Where the payment is, and when the lock goes back.
    pub clock: Clock,
    /// What is paid.
    pub payment: Msat,
    /// `min_final_cltv_expiry_delta` of the invoice.
    pub final_cltv: u32,
    /// The initiator's key on the contract.
    pub key: PublicKey,
    /// The initiator's invoice (BOLT 11) of a swap in; empty in a swap out, where the participant makes it.
    pub invoice: String,
}

/// What the participant answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// Which offer: the hash of all that it says.
    pub offer: [u8; 32],
    /// The participant's key on the contract.
    pub key: PublicKey,
    /// The participant's invoice of a swap out; empty in a swap in.
    pub invoice: String,
}

/// The format of an offer across two chains, and the highest that is read.
const FORMAT: u8 = 2;
/// The format of an offer on one chain, which older programs read.
const ONE_CHAIN: u8 = 1;

impl Offer {
    /// Whether these bytes want to be one.
    pub fn is_one(bytes: &[u8]) -> bool {
        TextKind::SubmarineOffer.begins(bytes)
    }

    /// What holds for every offer, whoever looks at it.
    pub fn check(&self) -> Result<(), TermsError> {
        let paid = self.payment.floor_sat();
        for amount in [self.coins, paid] {
            check_amount(amount)?;
        }
        let blocks = self.final_cltv.saturating_add(self.route_blocks());
        let paces = match &self.clock {
            Clock::Height(_) if blocks > MAX_HTLC_CLTV => return Err(TermsError::TooManyBlocks),
            Clock::Height(_) => None,
            Clock::Time { payment_chain, .. } if payment_chain.hash == self.chain.hash => {
                return Err(TermsError::OneChain);
            }
            Clock::Time { .. } if blocks > MAX_HTLC_CLTV => {
                return Err(TermsError::ClocksApart { blocks, most: MAX_HTLC_CLTV });
            }
            Clock::Time { payment_chain, .. } => Some(Paces::new(&self.chain, 0, payment_chain, 0)),
        };
        let least = match (self.direction, paces) {
            (Direction::In, _) => margins::IN_FINAL_CLTV,
            (Direction::Out, None) => margins::hold_gap(&self.chain),
            (Direction::Out, Some(paces)) => paces.hold_blocks(0),
        };
        if self.final_cltv < least {
            return Err(TermsError::HeldTooShort { blocks: self.final_cltv, needed: least });
        }
        Ok(())
    }

    /// Where the payment is.
    pub fn payment_chain(&self) -> Chain {
        match self.clock {
            Clock::Height(_) => self.chain,
            Clock::Time { payment_chain, .. } => payment_chain,
        }
    }

    /// Blocks that the route of the payment may take, beside those of its end.
    pub fn route_blocks(&self) -> u32 {
        match self.clock {
            Clock::Height(_) => margins::ROUTE_BLOCKS,
            Clock::Time { .. } => margins::ACROSS_ROUTE_BLOCKS,
        }
    }

    /// On one chain: blocks that must be left until the refund height when the first coins are locked or paid.
    pub fn blocks_to_begin(&self, depth: u32) -> u32 {
        match self.direction {
            Direction::In => margins::pay_blocks(&self.chain).saturating_add(depth.saturating_mul(2)),
            Direction::Out => margins::lock_blocks(&self.chain, depth),
        }
    }

    /// On one chain: whether as many of so many blocks are left as a swap needs that begins now, and not too many.
    pub(super) fn check_blocks(&self, left: u32, depth: u32) -> Result<(), TermsError> {
        let needed = self.blocks_to_begin(depth);
        if left < needed {
            return Err(TermsError::TooFewBlocks { left, needed });
        }
        if left > MAX_HTLC_CLTV { Err(TermsError::TooManyBlocks) } else { Ok(()) }
    }

    /// Whether an invoice is the one that was agreed on.
    pub fn check_invoice(&self, text: &str, network: InvoiceNetwork) -> Result<Invoice, TermsError> {
        let invoice = Invoice::parse(text, network).map_err(|error| TermsError::Invoice(error.to_string()))?;
        let wrong = |what| Err(TermsError::OtherInvoice(what));
        if invoice.payment_hash != self.hash {
            return wrong("its hash is not the contract's, so the coins could not be taken with what it pays for");
        }
        if invoice.amount != Some(self.payment) {
            return wrong("its amount is another one than was offered");
        }
        if invoice.min_final_cltv_expiry_delta != self.final_cltv {
            return wrong("it holds the payment for another time than was offered");
        }
        Ok(invoice)
    }

    /// The invoice of the swap.
    pub fn invoice<'a>(&'a self, acceptance: &'a Acceptance) -> &'a str {
        match self.direction {
            Direction::In => &self.invoice,
            Direction::Out => &acceptance.invoice,
        }
    }

    /// The output, once both have named their keys.
    pub fn contract(&self, acceptance: &Acceptance) -> Contract {
        let (redeem_key, refund_key) = match self.direction {
            Direction::In => (acceptance.key, self.key),
            Direction::Out => (self.key, acceptance.key),
        };
        Contract { hash: self.hash, redeem_key, refund_key, expiry: self.clock.expiry() }
    }

    /// What an acceptance repeats.
    pub fn digest(&self) -> [u8; 32] {
        sha256::Hash::hash(&self.encode()).to_byte_array()
    }

    /// What travels.
    pub fn encode(&self) -> Vec<u8> {
        let format = match self.clock {
            Clock::Height(_) => ONE_CHAIN,
            Clock::Time { .. } => FORMAT,
        };
        let mut out = vec![TextKind::SubmarineOffer.byte(), format];
        self.write(&mut out);
        out
    }

    /// Reads what [`Offer::encode`] has written, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, TermsError> {
        read_whole(bytes, TextKind::SubmarineOffer, FORMAT)
    }
}

impl Acceptance {
    /// Whether these bytes want to be one.
    pub fn is_one(bytes: &[u8]) -> bool {
        TextKind::SubmarineAcceptance.begins(bytes)
    }

    /// Whether it answers this offer, with a key of somebody else and the invoice that was agreed on.
    pub fn check(&self, offer: &Offer, network: InvoiceNetwork) -> Result<(), TermsError> {
        if self.offer != offer.digest() {
            return Err(TermsError::OtherOffer);
        }
        if self.key == offer.key {
            return Err(TermsError::SameKey);
        }
        offer.check_invoice(offer.invoice(self), network).map(|_| ())
    }

    /// What travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![TextKind::SubmarineAcceptance.byte(), ONE_CHAIN];
        self.write(&mut out);
        out
    }

    /// Reads what [`Acceptance::encode`] has written, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, TermsError> {
        read_whole(bytes, TextKind::SubmarineAcceptance, ONE_CHAIN)
    }
}

/// The first byte of an offer's fields: which way, and on one chain or across two.
const IN: u8 = 0;
const OUT: u8 = 1;
const IN_ACROSS: u8 = 2;
const OUT_ACROSS: u8 = 3;

impl Field for Offer {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (direction, is_across) = match reader.field::<u8>()? {
            IN => (Direction::In, false),
            OUT => (Direction::Out, false),
            IN_ACROSS => (Direction::In, true),
            OUT_ACROSS => (Direction::Out, true),
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        Ok(Self {
            direction,
            hash: reader.field()?,
            chain: reader.field()?,
            coins: reader.field()?,
            clock: if is_across {
                Clock::Time { refund: UnixTime(reader.field()?), payment_chain: reader.field()? }
            } else {
                Clock::Height(Height(reader.field()?))
            },
            payment: Msat(reader.field()?),
            final_cltv: reader.field()?,
            key: reader.field()?,
            invoice: text(reader)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(match (self.direction, self.clock) {
            (Direction::In, Clock::Height(_)) => IN,
            (Direction::Out, Clock::Height(_)) => OUT,
            (Direction::In, Clock::Time { .. }) => IN_ACROSS,
            (Direction::Out, Clock::Time { .. }) => OUT_ACROSS,
        });
        self.hash.write(out);
        self.chain.write(out);
        self.coins.write(out);
        match self.clock {
            Clock::Height(height) => height.0.write(out),
            Clock::Time { refund, payment_chain } => {
                refund.0.write(out);
                payment_chain.write(out);
            }
        }
        self.payment.0.write(out);
        self.final_cltv.write(out);
        self.key.write(out);
        self.invoice.as_bytes().to_vec().write(out);
    }
}

impl Field for Acceptance {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { offer: reader.field()?, key: reader.field()?, invoice: text(reader)? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.offer.write(out);
        self.key.write(out);
        self.invoice.as_bytes().to_vec().write(out);
    }
}

/// A BOLT 11 text has letters and digits alone: what is none is no invoice, and its check says so.
fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    Ok(String::from_utf8_lossy(&reader.field::<Vec<u8>>()?).into_owned())
}
