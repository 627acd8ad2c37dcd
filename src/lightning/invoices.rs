//! The invoices' calls.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use leyden_channels::{
    channel::StateName,
    margins::CLAIM_MARGIN,
    payment::{
        self, InvoiceRequest,
        incoming::{self, Holder, InvoiceState as Stored},
    },
    types::{Msat, PaymentHash, PaymentPreimage, PaymentSecret, ShortChannelId, UnixTime},
};
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::StreamExt as _;

use super::{LightningNode, internal};
use crate::{
    api::{
        AddInvoice, ApiError, DecodedInvoice, Description, Invoice, InvoiceHtlc, InvoiceHtlcState, InvoiceState,
        Invoices, Page, PageRequest, RouteHintHop, Updates,
    },
    driver::services::Services,
};

const DEFAULT_EXPIRY_SECONDS: u64 = 86_400;

/// Blocks that must remain when the last HTLC arrives; BOLT 11's own default.
const DEFAULT_FINAL_CLTV: u16 = 18;
/// Blocks that must remain where HTLCs are to be held: LND's default.
const DEFAULT_HELD_CLTV: u16 = 80;

#[async_trait]
impl Invoices for LightningNode {
    async fn add_invoice(&self, request: AddInvoice) -> Result<Invoice, ApiError> {
        self.make_invoice(request, None, Holder::Person).await
    }

    async fn invoice(&self, hash: PaymentHash) -> Result<Invoice, ApiError> {
        let services = self.services();
        let invoice = services.invoice_record(&hash)?;
        invoice.map(|invoice| to_api(services, &invoice)).ok_or_else(|| no_invoice(&hash))
    }

    async fn invoices(&self, page: PageRequest) -> Result<Page<Invoice>, ApiError> {
        self.read(move |services| list(services, &page)).await
    }

    async fn subscribe_invoices(
        &self,
        add_index: Option<u64>,
        settle_index: Option<u64>,
    ) -> Result<Updates<Invoice>, ApiError> {
        let services = Arc::clone(self.services());
        // The listener first, then the backlog: what happens in between comes twice rather than never.
        let news = services.events.invoices();
        let missed = self.read(move |services| backlog(services, add_index, settle_index)).await?;
        let missed = in_pieces(Arc::clone(&services), missed);
        let live = futures_unfold(news, move |invoice: Arc<incoming::Invoice>| to_api(&services, &invoice));
        Ok(Box::pin(missed.chain(live)))
    }

    async fn decode_invoice(&self, request: &str) -> Result<DecodedInvoice, ApiError> {
        let invoice = payment::Invoice::parse(request, self.services().invoice_network)
            .map_err(|error| ApiError::invalid(error.to_string()))?;
        Ok(DecodedInvoice {
            payee: invoice.payee,
            payment_hash: invoice.payment_hash,
            secret: invoice.payment_secret,
            amount: invoice.amount,
            description: match invoice.description {
                payment::Description::Text(text) => Description::Text(text),
                payment::Description::Hash(hash) => Description::Hash { hash, memo: String::new() },
            },
            created: invoice.timestamp,
            expiry: Duration::from_secs(invoice.expiry_seconds),
            min_final_cltv: u16::try_from(invoice.min_final_cltv_expiry_delta).unwrap_or(u16::MAX),
            fallback: address(self.services(), invoice.fallbacks.first()),
            route_hints: invoice.route_hints.iter().map(|route| route.iter().map(to_api_hint).collect()).collect(),
            features: invoice.features,
        })
    }
}

impl LightningNode {
    /// For `held`, HTLCs are held for this holder until the preimage is told.
    pub(super) async fn make_invoice(
        &self,
        request: AddInvoice,
        held: Option<PaymentHash>,
        holder: Holder,
    ) -> Result<Invoice, ApiError> {
        let services = self.services();
        let (payment_hash, preimage) = match held {
            Some(hash) => (hash, None),
            None => {
                let preimage = request.preimage.unwrap_or_else(|| PaymentPreimage(rand::random()));
                (preimage.hash(), Some(preimage))
            }
        };
        let payment_secret = PaymentSecret(rand::random());
        let expiry_seconds = request.expiry.map_or(DEFAULT_EXPIRY_SECONDS, |expiry| expiry.as_secs());
        let default = if held.is_some() { DEFAULT_HELD_CLTV } else { DEFAULT_FINAL_CLTV };
        let min_final_cltv_expiry_delta = u32::from(request.min_final_cltv.unwrap_or(default));
        if min_final_cltv_expiry_delta <= CLAIM_MARGIN {
            return Err(ApiError::invalid(format!(
                "cltv_expiry must be above {CLAIM_MARGIN}: so many blocks are needed to claim a payment on the chain"
            )));
        }
        if services.invoice_record(&payment_hash)?.is_some() {
            return Err(ApiError::exists("invoice with payment hash already exists: use another preimage"));
        }
        let created = services.now();
        let memo = match &request.description {
            Description::Text(text) | Description::Hash { memo: text, .. } => text.clone(),
        };
        let mut route_hints: Vec<Vec<payment::HintHop>> =
            request.route_hints.iter().map(|route| route.iter().map(to_core_hint).collect()).collect();
        if request.hint_private_channels {
            route_hints.extend(self.private_hints(request.amount).await);
        }
        let asked = InvoiceRequest {
            network: services.invoice_network,
            payment_hash,
            payment_secret,
            amount: request.amount,
            description: match request.description {
                Description::Text(text) => payment::Description::Text(text),
                Description::Hash { hash, .. } => payment::Description::Hash(hash),
            },
            timestamp: created,
            expiry_seconds,
            min_final_cltv_expiry_delta,
            route_hints,
            fallback: request.fallback.map(|address| address.script_pubkey()),
        };
        let bolt11 = asked.sign(&services.keys.node_secret()).map_err(|error| ApiError::invalid(error.to_string()))?;

        let mut invoice = incoming::Invoice {
            index: 0,
            payment_hash,
            preimage,
            payment_secret,
            amount: request.amount,
            memo,
            bolt11,
            created,
            expiry_seconds,
            min_final_cltv_expiry_delta,
            keysend: false,
            holder,
            state: Stored::Open,
        };
        let added = services.try_change(&services.invoices, |invoices| {
            invoice.index = invoices.next_index();
            invoices.add(invoice.clone())
        });
        self.carry_out(added.map_err(|error| ApiError::exists(error.to_string()))?).await?;
        Ok(to_api(services, &invoice))
    }
}

/// LND's words first.
pub(super) fn no_invoice(hash: &PaymentHash) -> ApiError {
    ApiError::not_found(format!("unable to locate invoice: there is none with payment hash {hash}"))
}

fn list(services: &Services, page: &PageRequest) -> Result<Page<Invoice>, ApiError> {
    let last = services.invoices().next_index() - 1;
    let items = super::payments::page(page, last, |index| {
        let Some(invoice) = services.invoice_at(index)? else { return Ok(None) };
        let created = invoice.created.0;
        let open = matches!(invoice.state, Stored::Open | Stored::Accepted(_));
        let wanted = (open || !page.only_open)
            && page.created_from.is_none_or(|from| created >= from)
            && page.created_until.is_none_or(|until| created <= until);
        Ok(wanted.then(|| to_api(services, &invoice)))
    })?;
    Ok(Page { items, total: last })
}

/// The numbers of what was added after one, in that order, and then of what was settled after the other, in the order in which it
/// was: a client goes on after the last number that it has heard. What was both comes twice, as with LND.
fn backlog(services: &Services, added: Option<u64>, settled: Option<u64>) -> Result<Vec<u64>, ApiError> {
    let last = services.invoices().next_index() - 1;
    let mut missed: Vec<u64> = added.map(|after| after.saturating_add(1)..=last).into_iter().flatten().collect();
    let Some(after) = settled else { return Ok(missed) };
    // An invoice that was settled late may be an old one.
    let mut settled = Vec::new();
    for index in 1..=last {
        match services.invoice_at(index)?.map(|invoice| invoice.state) {
            Some(Stored::Settled(paid)) if paid.is_whole() && paid.index > after => settled.push((paid.index, index)),
            Some(Stored::Settled(_) | Stored::Open | Stored::Accepted(_) | Stored::Canceled) | None => {}
        }
    }
    settled.sort_unstable();
    missed.extend(settled.into_iter().map(|(_, index)| index));
    Ok(missed)
}

/// Invoices that are read at once, however many a subscriber has missed.
const PIECE: usize = 100;

/// The invoices of these numbers, read as they are wanted.
fn in_pieces(
    services: Arc<Services>,
    numbers: Vec<u64>,
) -> impl tokio_stream::Stream<Item = Result<Invoice, ApiError>> + Send {
    let pieces: Vec<Vec<u64>> = numbers.chunks(PIECE).map(<[u64]>::to_vec).collect();
    let read = move |piece: Vec<u64>| {
        let services = Arc::clone(&services);
        async move {
            let read = tokio::task::spawn_blocking(move || {
                let read = |index| services.invoice_at(index).map(|found| found.map(|one| to_api(&services, &one)));
                // One that was deleted meanwhile is left out.
                let found = piece.into_iter().filter_map(|index| read(index).transpose());
                found.map(|one| one.map_err(ApiError::from)).collect::<Vec<_>>()
            });
            read.await.unwrap_or_else(|error| vec![Err(internal(error))])
        }
    };
    futures_util::StreamExt::flat_map(tokio_stream::iter(pieces).then(read), tokio_stream::iter)
}

/// The most private channels that an invoice names: each makes it some fifty letters longer.
const MOST_HINTS: usize = 20;

/// Names the channels that let the most in, until payers have twice the amount to choose from: balances move.
fn choose_hints(mut channels: Vec<PrivateChannel>, amount: Option<Msat>) -> Vec<Vec<payment::HintHop>> {
    // A peer that is away may be back when somebody pays, but where others are there it is not worth a payer's attempt.
    if channels.iter().any(|channel| channel.usable) {
        channels.retain(|channel| channel.usable);
    }
    channels.retain(|channel| channel.inbound > Msat::ZERO);
    channels.sort_by_key(|channel| (std::cmp::Reverse(channel.inbound), channel.hop.short_channel_id));
    let wanted = amount.map_or(u64::MAX, |amount| amount.0.saturating_mul(2));
    let mut reached: u64 = 0;
    let mut hints = Vec::new();
    for channel in channels.into_iter().take(MOST_HINTS) {
        if reached >= wanted {
            break;
        }
        reached = reached.saturating_add(channel.inbound.0);
        hints.push(vec![channel.hop]);
    }
    hints
}

/// A channel to us that the network does not know.
struct PrivateChannel {
    hop: payment::HintHop,
    /// What the peer could send.
    inbound: Msat,
    usable: bool,
}

impl LightningNode {
    pub(super) async fn private_hints(&self, amount: Option<Msat>) -> Vec<Vec<payment::HintHop>> {
        let hints = self.services().gossip.hints();
        let mut channels = Vec::new();
        for channel in self.peer_states().await.iter().flat_map(|state| &state.channels) {
            let Some(known) = channel.established.as_ref().filter(|_| channel.state == StateName::Normal) else {
                continue;
            };
            let kept = Msat::from_sat(known.remote_reserve).unwrap_or_default();
            let inbound = known.remote_balance.saturating_sub(kept);
            let hop = hints.get(&channel.channel_id).copied();
            channels.extend(hop.map(|hop| PrivateChannel { hop, inbound, usable: channel.usable }));
        }
        choose_hints(channels, amount)
    }
}

/// News as a stream that ends with the daemon, and with an error for a listener that is too slow.
pub(super) fn futures_unfold<T, U>(
    news: tokio::sync::broadcast::Receiver<T>,
    mut convert: impl FnMut(T) -> U + Send + 'static,
) -> impl tokio_stream::Stream<Item = Result<U, ApiError>> + Send
where
    T: Clone + Send + 'static,
    U: Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let mut news = news;
    tokio::spawn(async move {
        loop {
            let news = tokio::select! {
                // Whoever asked has gone: nothing is kept for them until the next event.
                () = sender.closed() => return,
                news = news.recv() => news,
            };
            let item = match news {
                Ok(item) => Ok(convert(item)),
                Err(RecvError::Lagged(missed)) => Err(ApiError::unavailable(format!(
                    "this stream was read too slowly and missed {missed} events: subscribe again from the last index"
                ))),
                Err(RecvError::Closed) => return,
            };
            let ended = item.is_err();
            if sender.send(item).await.is_err() || ended {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

pub(super) fn to_api(services: &Services, invoice: &incoming::Invoice) -> Invoice {
    let own = payment::OwnFields::of(&invoice.bolt11);
    let (state, htlcs) = match &invoice.state {
        Stored::Open => (InvoiceState::Open, Vec::new()),
        Stored::Canceled => (InvoiceState::Canceled, Vec::new()),
        Stored::Settled(settled) if !settled.is_whole() => {
            (InvoiceState::TakenBack { amount: settled.kept() }, htlcs(services, &settled.htlcs, Some(settled.at)))
        }
        Stored::Settled(settled) => {
            let state = InvoiceState::Settled { at: settled.at, settle_index: settled.index, amount: settled.amount };
            (state, htlcs(services, &settled.htlcs, Some(settled.at)))
        }
        Stored::Accepted(accepted) => {
            (InvoiceState::Accepted { amount: accepted.amount }, htlcs(services, &accepted.htlcs, None))
        }
    };
    Invoice {
        add_index: invoice.index,
        payment_hash: invoice.payment_hash,
        preimage: invoice.preimage,
        secret: invoice.payment_secret,
        request: invoice.bolt11.clone(),
        amount: invoice.amount,
        description: match own.description_hash {
            Some(hash) => Description::Hash { hash, memo: invoice.memo.clone() },
            None => Description::Text(invoice.memo.clone()),
        },
        created: invoice.created,
        expiry: Duration::from_secs(invoice.expiry_seconds),
        min_final_cltv: u16::try_from(invoice.min_final_cltv_expiry_delta).unwrap_or(u16::MAX),
        fallback: address(services, own.fallback.as_ref()),
        hint_private_channels: !own.route_hints.is_empty(),
        route_hints: own.route_hints.iter().map(|route| route.iter().map(to_api_hint).collect()).collect(),
        features: own.features,
        keysend: invoice.keysend,
        state,
        htlcs,
    }
}

fn htlcs(services: &Services, paid: &[incoming::PaidBy], settled: Option<UnixTime>) -> Vec<InvoiceHtlc> {
    let total = Msat(paid.iter().fold(0, |sum: u64, paid| sum.saturating_add(paid.amount.0)));
    let htlc = |paid: &incoming::PaidBy| InvoiceHtlc {
        // A channel that is over has no name any more.
        short_channel_id: services.channel_name(&paid.channel).unwrap_or(ShortChannelId(0)),
        id: paid.htlc,
        amount: paid.amount,
        total,
        expiry: paid.cltv_expiry,
        accepted_height: paid.height,
        accepted: paid.at,
        resolved: settled,
        state: match settled {
            Some(_) if paid.taken_back => InvoiceHtlcState::Canceled,
            Some(_) => InvoiceHtlcState::Settled,
            None => InvoiceHtlcState::Accepted,
        },
        custom_records: paid.custom_records.clone(),
    };
    paid.iter().map(htlc).collect()
}

fn address(services: &Services, script: Option<&bitcoin::ScriptBuf>) -> Option<bitcoin::Address> {
    bitcoin::Address::from_script(script?, services.node.params().address_network).ok()
}

pub(super) fn to_core_hint(hop: &RouteHintHop) -> payment::HintHop {
    payment::HintHop {
        node_id: hop.node_id,
        short_channel_id: hop.short_channel_id,
        fee_base_msat: u32::try_from(hop.base_fee.0).unwrap_or(u32::MAX),
        fee_proportional_millionths: hop.fee_ppm,
        cltv_expiry_delta: hop.cltv_delta,
    }
}

fn to_api_hint(hop: &payment::HintHop) -> RouteHintHop {
    RouteHintHop {
        node_id: hop.node_id,
        short_channel_id: hop.short_channel_id,
        base_fee: Msat(u64::from(hop.fee_base_msat)),
        fee_ppm: hop.fee_proportional_millionths,
        cltv_delta: hop.cltv_expiry_delta,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[test]
    fn an_invoice_names_the_private_channels_that_let_money_in() {
        let node_id = secp256k1::SecretKey::from_slice(&[1; 32]).unwrap().public_key(secp256k1::SECP256K1);
        let channel = |id, inbound, usable| PrivateChannel {
            hop: payment::HintHop {
                node_id,
                short_channel_id: ShortChannelId(id),
                fee_base_msat: 0,
                fee_proportional_millionths: 0,
                cltv_expiry_delta: 40,
            },
            inbound: Msat(inbound),
            usable,
        };
        let chosen = |channels: Vec<PrivateChannel>, amount: Option<u64>| -> Vec<u64> {
            choose_hints(channels, amount.map(Msat)).iter().map(|hops| hops[0].short_channel_id.0).collect()
        };
        let channels =
            || vec![channel(1, 100, true), channel(2, 0, true), channel(3, 500, true), channel(4, 900, false)];
        assert_eq!(chosen(channels(), None), [3, 1], "nothing comes in over an empty one, or from who is away");
        assert_eq!(chosen(channels(), Some(200)), [3], "twice the amount is enough");
        assert_eq!(chosen(channels(), Some(300)), [3, 1]);
        assert_eq!(chosen(vec![channel(4, 900, false)], None), [4], "better than none");
        assert_eq!(chosen((0..50).map(|id| channel(id, 5, true)).collect(), None).len(), MOST_HINTS);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_nobody_up_and_is_told_that_it_missed_something() {
        let (sender, news) = broadcast::channel(16);
        let mut stream = Box::pin(futures_unfold(news, |number: u32| number));
        // Nobody waits for the reader, however much there is to tell.
        for number in 0..1_000 {
            sender.send(number).unwrap();
            tokio::task::yield_now().await;
        }
        let mut read = 0;
        let end = loop {
            match stream.next().await.unwrap() {
                Ok(number) => assert_eq!(number, read, "in order, and none left out"),
                Err(error) => break error,
            }
            read += 1;
        };
        assert!((16..1_000).contains(&read), "{read}");
        assert!(end.to_string().contains("subscribe again"), "{end}");
        assert!(stream.next().await.is_none());
        // Who keeps up misses nothing.
        let mut stream = Box::pin(futures_unfold(sender.subscribe(), |number: u32| number));
        for number in 0..1_000 {
            sender.send(number).unwrap();
            assert_eq!(stream.next().await.unwrap().unwrap(), number);
        }
    }
}
