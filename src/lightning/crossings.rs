//! The calls about payments that cross between two networks, and this node as one of the two.

use std::time::Duration;

use async_trait::async_trait;
use leyden_channels::{
    crossing::{HoldOrder, Incoming, NodeNow, Outgoing, PayOrder, PaymentRecords, Rate},
    payment::{
        incoming::{Holder, Invoice as StoredInvoice, InvoiceState as Stored},
        outgoing::{Payment, PaymentState},
    },
    swap::Chain,
    types::{DirectoryId, PaymentHash, PaymentPreimage},
};

use super::{LightningNode, internal, payments::to_request, tip_error};
use crate::{
    api::{
        AddInvoice, ApiError, Cross, CrossingInfo, CrossingRate, CrossingStatus, Crossings, Description, Networks,
        PaymentTarget, SendPayment,
    },
    driver::{
        crossing::{CrossInvoice, CrossingRefused, CrossingView, RateView},
        services::{OnceError, Services},
        swaps::measured_pace,
    },
};

#[async_trait]
impl Crossings for LightningNode {
    async fn set_crossing_rate(&self, networks: Networks, rate: Option<Rate>) -> Result<Vec<CrossingRate>, ApiError> {
        let Networks { incoming, outgoing } = networks;
        let rates = self.crossings.set_rate(incoming, outgoing, rate).await.map_err(refused)?;
        Ok(rates.into_iter().map(to_rate).collect())
    }

    async fn crossing_rates(&self) -> Result<Vec<CrossingRate>, ApiError> {
        Ok(self.crossings.rates().await.map_err(refused)?.into_iter().map(to_rate).collect())
    }

    async fn cross(&self, request: Cross) -> Result<CrossingInfo, ApiError> {
        let Cross { invoice, amount, to_own } = request;
        self.crossings.cross(CrossInvoice { invoice, amount, to_own }).await.map(to_info).map_err(refused)
    }

    async fn crossing(&self, hash: PaymentHash) -> Result<CrossingInfo, ApiError> {
        self.crossings.look(hash).await.map(to_info).map_err(refused)
    }

    async fn crossings(&self) -> Result<Vec<CrossingInfo>, ApiError> {
        Ok(self.crossings.list().await.map_err(refused)?.into_iter().map(to_info).collect())
    }

    async fn crossing_status(&self) -> Result<CrossingStatus, ApiError> {
        let services = self.services();
        let params = services.node.params();
        let is_current = services.node.check_tip().is_ok();
        let chain = Chain { hash: services.chain_hash(), spacing: params.spacing.get() };
        let now = NodeNow {
            chain,
            measured: measured_pace(&services.node),
            tip: services.tip(),
            is_current,
            node_id: services.node_id(),
            least_claim: services.least_claim(),
            records: records(services),
        };
        Ok(CrossingStatus { network: params.name.clone(), invoices: services.invoice_network, now })
    }

    async fn hold_crossing(&self, book: DirectoryId, order: HoldOrder) -> Result<String, ApiError> {
        let HoldOrder { hash, amount, expires, blocks } = order;
        let is_open = |known: &StoredInvoice| matches!(known.state, Stored::Open | Stored::Accepted(_));
        match self.services().invoice_record(&hash)? {
            Some(known) if is_of(book, &known) && known.amount == Some(amount) && is_open(&known) => {
                return Ok(known.bolt11);
            }
            Some(_) => return Err(ApiError::exists("there is another invoice with this hash")),
            None if self.services().is_of_a_swap(&hash)? => return Err(ApiError::exists(OF_A_SWAP)),
            None => {}
        }
        let seconds = expires.0.saturating_sub(self.services().now().0);
        let Ok(blocks) = u16::try_from(blocks) else { return Err(ApiError::invalid("too many blocks")) };
        let request = AddInvoice {
            preimage: None,
            amount: Some(amount),
            description: Description::Text("a payment to another network".to_owned()),
            expiry: Some(Duration::from_secs(seconds.max(1))),
            min_final_cltv: Some(blocks),
            fallback: None,
            route_hints: Vec::new(),
            hint_private_channels: true,
        };
        Ok(self.make_invoice(request, Some(hash), Holder::Crossing(Some(book))).await?.request)
    }

    async fn held_crossing(&self, book: DirectoryId, hash: PaymentHash) -> Result<Incoming, ApiError> {
        let found = self.services().invoice_record(&hash)?.filter(|invoice| is_of(book, invoice));
        Ok(match found.map(|invoice| invoice.state) {
            None => Incoming::Missing,
            Some(Stored::Open) => Incoming::Open,
            Some(Stored::Accepted(held)) => {
                Incoming::Held { amount: held.amount, expiry: held.expiry(), since: held.at }
            }
            Some(Stored::Settled(_)) => Incoming::Settled,
            Some(Stored::Canceled) => Incoming::Canceled,
        })
    }

    async fn settle_crossing(&self, book: DirectoryId, preimage: PaymentPreimage) -> Result<(), ApiError> {
        let services = self.services();
        if self.held_crossing(book, preimage.hash()).await? == Incoming::Missing {
            return Ok(());
        }
        let ctx = services.invoice_ctx();
        // If it is not held any more, whoever looks at it sees that.
        match services.try_change(&services.invoices, |invoices| invoices.settle_held(preimage, &ctx)) {
            Ok(underway) => self.carry_out(underway).await,
            Err(_) => Ok(()),
        }
    }

    async fn give_up_crossing(&self, book: DirectoryId, hash: PaymentHash) -> Result<(), ApiError> {
        let services = self.services();
        if self.held_crossing(book, hash).await? == Incoming::Missing {
            return Ok(());
        }
        match services.try_change(&services.invoices, |invoices| invoices.cancel(&hash, services.tip())) {
            Ok(underway) => self.carry_out(underway).await,
            Err(_) => Ok(()),
        }
    }

    async fn pay_crossing(&self, order: PayOrder) -> Result<(), ApiError> {
        let services = self.services();
        services.wait_for_tip().await.map_err(|doubt| tip_error("nothing is paid", &doubt))?;
        let PayOrder { invoice, amount, most_fee, most_parts, last_expiry, deadline } = order;
        let blocks = last_expiry.0.saturating_sub(services.tip().0);
        let request = SendPayment {
            target: PaymentTarget::Invoice { request: invoice, amount: Some(amount) },
            timeout: Duration::ZERO,
            max_fee: most_fee,
            max_cltv: Some(blocks),
            max_parts: Some(u32::from(most_parts)),
            max_part: None,
            outgoing: Vec::new(),
            last_hop: None,
            time_pref: 0,
            allow_self_payment: false,
            custom_records: Vec::new(),
            cancel_on_hangup: false,
        };
        let mut request = to_request(services, request)?;
        request.deadline = deadline;
        if services.is_of_a_swap(&request.payment_hash)? {
            return Err(ApiError::exists(OF_A_SWAP));
        }
        services.store.put_crossing_payment(&request.payment_hash)?;
        match services.start_payment_once(request) {
            Ok(underway) => self.carry_out(underway).await,
            // Asked before: whoever looks at it sees what has become of it.
            Err(OnceError::Known) => Ok(()),
            Err(error @ OnceError::TooLate) => Err(ApiError::precondition(error.to_string())),
            Err(OnceError::Store(error)) => Err(internal(error)),
        }
    }

    async fn crossing_payment(&self, hash: PaymentHash) -> Result<Outgoing, ApiError> {
        // The records first: they have no payment that the look after them does not see.
        let records = records(self.services());
        Ok(match self.services().payment_now(&hash)? {
            None => Outgoing::NeverBegun(records),
            Some(payment) => fate(&payment),
        })
    }
}

fn fate(payment: &Payment) -> Outgoing {
    match &payment.state {
        PaymentState::Pending => Outgoing::UnderWay,
        PaymentState::Succeeded { preimage, .. } => Outgoing::Paid { preimage: *preimage, fee: payment.fee() },
        PaymentState::Failed { reason, .. } => Outgoing::Failed { reason: reason.to_string() },
    }
}

const OF_A_SWAP: &str = "a submarine swap of this node has this hash: ask the payee for another invoice";

/// Whether an invoice is held for a crossing of this book. All others are none of its business.
fn is_of(book: DirectoryId, invoice: &StoredInvoice) -> bool {
    match invoice.holder {
        Holder::Crossing(of) => of.is_none_or(|of| of == book),
        Holder::Person | Holder::SwapIn | Holder::SwapOut => false,
    }
}

fn records(services: &Services) -> PaymentRecords {
    PaymentRecords { directory: services.directory, count: services.payments().numbers().index }
}

fn to_rate(view: RateView) -> CrossingRate {
    let RateView { incoming, outgoing, rate, held } = view;
    CrossingRate { networks: Networks { incoming, outgoing }, rate, held }
}

fn to_info(view: CrossingView) -> CrossingInfo {
    let CrossingView { crossing, incoming, outgoing } = view;
    CrossingInfo { crossing, networks: Networks { incoming, outgoing } }
}

fn refused(error: CrossingRefused) -> ApiError {
    let text = error.to_string();
    match error {
        CrossingRefused::Unknown | CrossingRefused::OtherNetworks(..) => ApiError::not_found(text),
        CrossingRefused::HashTaken => ApiError::exists(text),
        CrossingRefused::Away(_) | CrossingRefused::Stopping => ApiError::unavailable(text),
        CrossingRefused::Rate(_) | CrossingRefused::Invoice(_) => ApiError::invalid(text),
        CrossingRefused::NoOther | CrossingRefused::Refused(_) => ApiError::precondition(text),
    }
}
