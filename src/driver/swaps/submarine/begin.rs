//! How a submarine swap begins: what is quoted or accepted is checked against the chains as they are, and a held invoice is kept
//! before the swap that relies on it.

use leyden_channels::{
    payment::{
        Description, HintHop, InvoiceRequest,
        incoming::{self, InvoiceState},
    },
    swap::{
        Chain, Start, SwapKeys as _,
        submarine::{
            Bargain, Believed, Clock, Direction, Offer, PaymentChain, Request, Span, Submarine, SubmarineOutbox,
        },
    },
    types::{Msat, PaymentHash, PaymentSecret, UnixTime},
};

use super::{Made, SubmarineDesk};
use crate::driver::{
    services::Services,
    swaps::{
        AcceptSubmarine, CoinsPlace, LegStatus, QuoteSubmarine, SubmarineTerms, SwapRefused, leg::measured_pace,
        refused,
    },
};

/// What the payer reads in the invoice.
const MEMO: &str = "submarine swap";

/// The chains of a swap that is about to begin.
struct Places {
    /// Where coins are locked.
    coins: LegStatus,
    /// Where the payment is: this daemon's.
    payment: Chain,
}

impl SubmarineDesk {
    pub(super) async fn quote(&mut self, request: &QuoteSubmarine, hints: Vec<Vec<HintHop>>) -> Made {
        let QuoteSubmarine { direction, coins, payment, terms, ref place } = *request;
        let (places, span) = match place {
            CoinsPlace::Here { refund_blocks } => {
                (self.places(None).await?, Span::One { refund_blocks: *refund_blocks })
            }
            CoinsPlace::There { network, refund_seconds } => {
                let places = self.places(Some(network)).await?;
                let span = Span::Two { payment_chain: places.payment, refund_seconds: *refund_seconds };
                (places, span)
            }
        };
        let bargain = Bargain { direction, coins, payment, chain: places.coins.chain, span };
        let request = self.request(terms, &places).await?;
        let hash = self.book.services.keys.secret(&request.nonce).hash();
        let invoice = match direction {
            Direction::In => {
                let seconds = invoice_seconds(bargain.seconds(&request));
                Some(self.invoice(direction, hash, payment, bargain.final_cltv(&request), seconds, hints)?)
            }
            Direction::Out => None,
        };
        let text = invoice.as_ref().map(|invoice| invoice.bolt11.clone()).unwrap_or_default();
        let made = Submarine::quote(&bargain, text, request, self.book.services.now(), &self.book.services.keys);
        self.keep_invoice(made.map_err(refused)?, invoice).await
    }

    pub(super) async fn accept(&mut self, request: AcceptSubmarine, hints: Vec<Vec<HintHop>>) -> Made {
        let AcceptSubmarine { offer, direction, coins, payment, coins_on, terms, locked_for } = request;
        self.book.check_new(&offer.hash)?;
        if self.book.services.is_of_an_atomic_swap(&offer.hash).map_err(refused)? {
            return Err(SwapRefused::SameSecret);
        }
        if self.book.services.is_of_a_crossing(&offer.hash).map_err(refused)?
            || (offer.direction == Direction::In
                && self.book.services.payment_now(&offer.hash).map_err(refused)?.is_some())
        {
            return Err(SwapRefused::Refused(
                "a payment with this hash is known here already: ask for a new offer".into(),
            ));
        }
        if offer.direction == Direction::In {
            self.check_worth(offer.payment)?;
        }
        let places = self.places(coins_on.as_deref()).await?;
        self.check_places(&offer, &places).await?;
        let seconds = lasts(&offer, &places.coins, self.book.services.now());
        if offer.direction == Direction::Out {
            check_lock_time(&offer, &places.coins, seconds, locked_for)?;
        }
        let request = self.request(terms, &places).await?;
        let invoice = match offer.direction {
            Direction::In => None,
            Direction::Out => {
                let seconds = invoice_seconds(seconds);
                Some(self.invoice(offer.direction, offer.hash, offer.payment, offer.final_cltv, seconds, hints)?)
            }
        };
        let text = invoice.as_ref().map(|invoice| invoice.bolt11.clone()).unwrap_or_default();
        let (coins, payment) = ((places.coins.chain, coins), (places.payment, payment));
        let believed = Believed { direction, coins, payment };
        let made =
            Submarine::accept(offer, &believed, text, request, self.book.services.now(), &self.book.services.keys);
        self.keep_invoice(made.map_err(refused)?, invoice).await
    }

    /// Where coins are on the network of this name, if it is not this daemon's own, and the payment here.
    async fn places(&mut self, coins_on: Option<&str>) -> Result<Places, SwapRefused> {
        let own_name = self.book.services.node.params().name.clone();
        let Some(wanted) = coins_on.filter(|name| *name != own_name) else {
            let own = self.chains.ask_own().await?;
            return Ok(Places { payment: own.chain, coins: own });
        };
        let other = self.chains.ask_other().await?;
        if other.network != wanted {
            return Err(SwapRefused::NoSuchNetwork { wanted: wanted.to_owned(), own: own_name, other: other.network });
        }
        // A payment needs no blocks here but those that the channels look for: a light node can make it, and hold it.
        let hash = self.book.services.chain_hash();
        let payment = Chain { hash, spacing: self.book.services.node.params().spacing.get() };
        Ok(Places { coins: other, payment })
    }

    /// The person says where both are, never the offer.
    async fn check_places(&mut self, offer: &Offer, said: &Places) -> Result<(), SwapRefused> {
        let (coins, payment) = (offer.chain.hash, offer.payment_chain().hash);
        if (coins, payment) == (said.coins.chain.hash, said.payment.hash) {
            return Ok(());
        }
        // So that both are called by their names; what nobody here follows is named by its genesis block.
        let _ = self.chains.ask_other().await;
        Err(SwapRefused::OtherPlaces { coins_on: self.chains.name(coins), payment_on: self.chains.name(payment) })
    }

    async fn request(&mut self, terms: SubmarineTerms, places: &Places) -> Result<Request, SwapRefused> {
        self.book.check_room()?;
        let status = &places.coins;
        if status.chain.hash != places.payment.hash {
            self.chains.check_pruning([status])?;
        }
        let hash = status.chain.hash;
        let chain = self.chains.at(hash).ok_or(SwapRefused::NoOther)?;
        let destination = self.book.destination(hash, chain.as_ref()).await.map_err(SwapRefused::Away)?;
        Ok(Request {
            nonce: rand::random(),
            depth: terms.depth,
            max_lock_fee: terms.max_lock_fee,
            max_route_fee: terms.max_route_fee,
            start: Start { destination, tip: status.tip, spacing: status.spacing },
            network: self.book.services.invoice_network,
            payment: payment_chain(&self.book.services),
        })
    }

    /// A held invoice, signed and not kept yet.
    fn invoice(
        &self,
        direction: Direction,
        hash: PaymentHash,
        amount: Msat,
        final_cltv: u32,
        expiry_seconds: u64,
        route_hints: Vec<Vec<HintHop>>,
    ) -> Result<incoming::Invoice, SwapRefused> {
        if self.book.services.invoice_record(&hash).map_err(refused)?.is_some() {
            return Err(SwapRefused::Refused("there is an invoice with this hash already: ask for a new offer".into()));
        }
        let (payment_secret, created) = (PaymentSecret(rand::random()), self.book.services.now());
        let asked = InvoiceRequest {
            network: self.book.services.invoice_network,
            payment_hash: hash,
            payment_secret,
            amount: Some(amount),
            description: Description::Text(MEMO.to_owned()),
            timestamp: created,
            expiry_seconds,
            min_final_cltv_expiry_delta: final_cltv,
            route_hints,
            fallback: None,
        };
        let bolt11 = asked.sign(&self.book.services.keys.node_secret()).map_err(refused)?;
        Ok(incoming::Invoice {
            index: 0,
            payment_hash: hash,
            preimage: None,
            payment_secret,
            amount: Some(amount),
            memo: MEMO.to_owned(),
            bolt11,
            created,
            expiry_seconds,
            min_final_cltv_expiry_delta: final_cltv,
            keysend: false,
            holder: direction.holder(),
            state: InvoiceState::Open,
        })
    }

    /// What is not worth its claim on the chain may be taken long after its expiry, when the coins are back.
    pub(super) fn check_worth(&self, payment: Msat) -> Result<(), SwapRefused> {
        let least = self.book.services.least_claim();
        if payment >= least {
            return Ok(());
        }
        Err(SwapRefused::Refused(format!(
            "{payment} are too little to be claimed on the chain if they have to be, at today's fees: at least {least} are paid for \
             coins"
        )))
    }

    /// The invoice is durable before the swap that relies on it.
    async fn keep_invoice(&self, made: (Submarine, SubmarineOutbox), invoice: Option<incoming::Invoice>) -> Made {
        if let Some(mut invoice) = invoice {
            let services = &self.book.services;
            let added = services.try_change(&services.invoices, |invoices| {
                invoice.index = invoices.next_index();
                invoices.add(invoice)
            });
            services.run(added.map_err(refused)?).await.map_err(|_| SwapRefused::Stopping)?;
        }
        Ok(made)
    }
}

/// This daemon's chain, as the one that payments are on.
pub(super) fn payment_chain(services: &Services) -> PaymentChain {
    let is_current = services.node.check_tip().is_ok();
    PaymentChain { tip: services.tip(), measured: measured_pace(&services.node), is_current }
}

/// Seconds until the coins go back, as far as the chain's rules tell.
fn lasts(offer: &Offer, coins: &LegStatus, now: UnixTime) -> u64 {
    match &offer.clock {
        Clock::Height(refund) => {
            let blocks = refund.0.saturating_sub(coins.tip.height.0);
            u64::from(blocks).saturating_mul(u64::from(coins.chain.spacing))
        }
        Clock::Time { refund, .. } => refund.0.saturating_sub(now.0),
    }
}

/// Whether the coins come back within so many seconds, at the slower of the spacing that the chain should have and the one that it has.
fn check_lock_time(offer: &Offer, status: &LegStatus, seconds: u64, locked_for: u64) -> Result<(), SwapRefused> {
    let Some(refund) = offer.clock.refund_height() else {
        if seconds <= locked_for {
            return Ok(());
        }
        return Err(SwapRefused::Refused(format!(
            "the offer locks your coins for some {} hours, and {} is what you allow: ask for an offer of fewer hours, or allow more \
             with --inner-hours",
            seconds.div_ceil(3_600),
            locked_for / 3_600
        )));
    };
    let blocks = refund.0.saturating_sub(status.tip.height.0);
    let seconds = u64::from(blocks).saturating_mul(u64::from(status.chain.spacing.max(status.spacing)));
    if seconds <= locked_for {
        return Ok(());
    }
    Err(SwapRefused::Refused(format!(
        "the offer locks your coins for {blocks} blocks, some {} hours, and {} is what you allow: ask for an offer of fewer blocks, or \
         allow more with --inner-hours",
        seconds.div_ceil(3_600),
        locked_for / 3_600
    )))
}

/// For how long the invoice can be paid: twice the time until the coins go back, so that slow blocks do not end it.
fn invoice_seconds(seconds: u64) -> u64 {
    seconds.saturating_mul(2)
}
