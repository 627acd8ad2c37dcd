//! The task that owns all crossings.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bitcoin::constants::ChainHash;
use leyden_channels::{
    channel::Outbox,
    crossing::{Ask, Crossing, CrossingOutbox, Crossings, Ctx, Effect, Order, Outcome, Pair, Rate, State},
    payment::Invoice,
    types::{Msat, PaymentHash},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, info, warn};

use super::{
    Call, CrossInvoice, CrossingNode, CrossingRefused, CrossingView, NodeError, NodeStatus, RateView, Trouble,
};
use crate::{
    driver::services::Services,
    store::{CROSSING, CROSSING_RATE, CoreKey, StoreError},
};

/// How often what is open is looked at: what a payer waits for beside the payments themselves.
const LOOK: Duration = Duration::from_millis(250);

const RECORDS_LOST: &str =
    "the payee's daemon has another data directory, or an older copy, than when it was told to pay";

pub(crate) struct CrossingTask {
    mailbox: mpsc::Receiver<Call>,
    trouble: Trouble,
    own: Arc<dyn CrossingNode>,
    other: Option<Arc<dyn CrossingNode>>,
}

impl CrossingTask {
    pub(super) fn new(
        mailbox: mpsc::Receiver<Call>,
        trouble: Trouble,
        own: Arc<dyn CrossingNode>,
        other: Option<Arc<dyn CrossingNode>>,
    ) -> Self {
        Self { mailbox, trouble, own, other }
    }

    /// Reads rates and crossings back. A row that cannot be read is an error: money may depend on it.
    pub(crate) fn load(services: &Services) -> Result<Crossings, StoreError> {
        let rates = services.store.core_records(&[CROSSING_RATE])?;
        let crossings = services.store.core_records(&[CROSSING])?;
        // The first byte of a key says what it is of.
        let rates = rates.iter().map(|(key, row)| (key.get(1..).unwrap_or_default(), row.as_slice()));
        Crossings::restore(rates, crossings.iter().map(|(_, row)| row.as_slice()))
            .map_err(|error| services.store.damaged(&error.to_string()))
    }

    /// Runs until the daemon ends. `fatal` ends it when the disk does not take what must be kept.
    pub(crate) async fn run(self, services: Arc<Services>, crossings: Crossings, fatal: mpsc::UnboundedSender<String>) {
        let Self { mut mailbox, trouble, own, other } = self;
        let mut desk = Desk {
            services,
            crossings,
            own: Side { node: own, status: None },
            other: other.map(|node| Side { node, status: None }),
            names: BTreeMap::new(),
            trouble,
        };
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                call = mailbox.recv() => match call {
                    Some(call) => desk.answer(call).await,
                    None => return,
                },
                _ = look.tick() => desk.look().await,
            };
            if let Err(error) = done {
                let _ = fatal.send(error.to_string());
                return;
            }
        }
    }
}

/// One of the two nodes.
struct Side {
    node: Arc<dyn CrossingNode>,
    /// As it was when it was asked last; `None` if it could not be.
    status: Option<NodeStatus>,
}

impl Side {
    async fn ask(&mut self) -> Result<NodeStatus, NodeError> {
        let asked = self.node.status().await;
        self.status = asked.as_ref().ok().cloned();
        asked
    }

    fn chain(&self) -> Option<ChainHash> {
        self.status.as_ref().map(|status| status.now.chain.hash)
    }
}

/// All crossings, and what is known of the two nodes.
struct Desk {
    services: Arc<Services>,
    crossings: Crossings,
    own: Side,
    other: Option<Side>,
    /// What networks are called.
    names: BTreeMap<ChainHash, String>,
    /// What a node is in trouble with: it is written once.
    trouble: Trouble,
}

impl Desk {
    async fn answer(&mut self, call: Call) -> Result<(), StoreError> {
        match call {
            Call::SetRate { incoming, outgoing, rate, answer } => {
                let _ = answer.send(self.set_rate(&incoming, &outgoing, rate).await?);
            }
            Call::Rates(answer) => {
                let rates = match self.ask_both().await {
                    Err(CrossingRefused::NoOther) => Err(CrossingRefused::NoOther),
                    // Rates are there whether or not the other daemon is.
                    Ok(_) | Err(_) => Ok(self.rates()),
                };
                let _ = answer.send(rates);
            }
            Call::Cross(invoice, answer) => {
                let _ = answer.send(self.cross(invoice).await?);
            }
            Call::Look(hash, answer) => {
                let found = self.crossings.get(&hash).map(|crossing| self.view(crossing));
                let _ = answer.send(found.ok_or(CrossingRefused::Unknown));
            }
            Call::List(answer) => {
                let mut all: Vec<CrossingView> = self.crossings.all().map(|crossing| self.view(crossing)).collect();
                all.sort_by_key(|view| view.crossing.created);
                let _ = answer.send(Ok(all));
            }
        }
        Ok(())
    }

    async fn set_rate(
        &mut self,
        incoming: &str,
        outgoing: &str,
        rate: Option<Rate>,
    ) -> Result<Result<Vec<RateView>, CrossingRefused>, StoreError> {
        let (own, other) = match self.ask_both().await {
            Ok(both) => both,
            Err(refused) => return Ok(Err(refused)),
        };
        let is_named = |one: &NodeStatus, two: &NodeStatus| one.network == incoming && two.network == outgoing;
        let pair = if is_named(&own, &other) {
            pair_of(&own, &other)
        } else if is_named(&other, &own) {
            pair_of(&other, &own)
        } else {
            return Ok(Err(CrossingRefused::OtherNetworks(own.network, other.network)));
        };
        match self.crossings.set_rate(pair, rate) {
            Ok(outbox) => {
                self.carry_out(outbox).await?;
                Ok(Ok(self.rates()))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn rates(&self) -> Vec<RateView> {
        let view = |(pair, rate): (&Pair, &Rate)| RateView {
            incoming: self.name(pair.incoming),
            outgoing: self.name(pair.outgoing),
            rate: *rate,
            held: Msat(self.crossings.held(pair).0.saturating_add(self.swapped(pair).0)),
        };
        self.crossings.rates().map(view).collect()
    }

    async fn cross(&mut self, asked: CrossInvoice) -> Result<Result<CrossingView, CrossingRefused>, StoreError> {
        let ask = match self.ask_for(asked).await {
            Ok(ask) => ask,
            Err(refused) => return Ok(Err(refused)),
        };
        let hash = ask.invoice.payment_hash;
        let ctx = self.ctx(&ask.pair);
        let outbox = match self.crossings.ask(ask, &ctx) {
            Ok(outbox) => outbox,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        self.carry_out(outbox).await?;
        Ok(match self.crossings.get(&hash) {
            Some(crossing) if crossing.request.is_some() => Ok(self.view(crossing)),
            Some(_) => Err(CrossingRefused::Away(
                "the node on the payer's network did not answer: ask again in a moment".to_owned(),
            )),
            None => Err(CrossingRefused::HashTaken),
        })
    }

    /// Both nodes are asked, and the invoice is read.
    async fn ask_for(&mut self, asked: CrossInvoice) -> Result<Ask, CrossingRefused> {
        let CrossInvoice { invoice: text, amount, to_own } = asked;
        let (own, other) = self.ask_both().await?;
        let (incoming, outgoing) = if to_own { (other, own) } else { (own, other) };
        let text = text.trim().to_owned();
        let invoice =
            Invoice::parse(&text, outgoing.invoices).map_err(|error| CrossingRefused::Invoice(error.to_string()))?;
        let pair = pair_of(&incoming, &outgoing);
        let node = self.node_at(pair.outgoing).ok_or(CrossingRefused::NoOther)?;
        let known = node.payment(invoice.payment_hash).await;
        let known = known.map_err(|error| CrossingRefused::Away(error.to_string()))?;
        Ok(Ask { pair, text, invoice, amount, known })
    }

    /// Both nodes as they are at this moment.
    async fn ask_both(&mut self) -> Result<(NodeStatus, NodeStatus), CrossingRefused> {
        let other = self.other.as_mut().ok_or(CrossingRefused::NoOther)?;
        let away = |error: NodeError| CrossingRefused::Away(error.to_string());
        let (own, other) = (self.own.ask().await.map_err(away)?, other.ask().await.map_err(away)?);
        for status in [&own, &other] {
            self.names.insert(status.now.chain.hash, status.network.clone());
        }
        Ok((own, other))
    }

    fn side(&self, chain: ChainHash) -> Option<&Side> {
        [Some(&self.own), self.other.as_ref()].into_iter().flatten().find(|side| side.chain() == Some(chain))
    }

    fn node_at(&self, chain: ChainHash) -> Option<Arc<dyn CrossingNode>> {
        self.side(chain).map(|side| Arc::clone(&side.node))
    }

    /// A node that does not answer is not asked again before the next look: each call would wait for it.
    fn leave_out(&mut self, chain: ChainHash) {
        let sides = [Some(&mut self.own), self.other.as_mut()];
        if let Some(side) = sides.into_iter().flatten().find(|side| side.chain() == Some(chain)) {
            side.status = None;
        }
    }

    fn ctx(&self, pair: &Pair) -> Ctx {
        let now = |chain| self.side(chain).and_then(|side| side.status.as_ref()).map(|status| status.now);
        Ctx {
            now: self.services.now(),
            incoming: now(pair.incoming),
            outgoing: now(pair.outgoing),
            swapped: self.swapped(pair),
        }
    }

    fn swapped(&self, pair: &Pair) -> Msat {
        self.services.swaps.exchanged(pair.incoming, pair.outgoing)
    }

    fn name(&self, chain: ChainHash) -> String {
        self.names.get(&chain).cloned().unwrap_or_else(|| chain.to_string())
    }

    fn view(&self, crossing: &Crossing) -> CrossingView {
        let pair = &crossing.pair;
        CrossingView {
            incoming: self.name(pair.incoming),
            outgoing: self.name(pair.outgoing),
            crossing: crossing.clone(),
        }
    }

    /// Asks for what every open crossing waits for.
    async fn look(&mut self) -> Result<(), StoreError> {
        let open: Vec<PaymentHash> =
            self.crossings.all().filter(|crossing| !crossing.is_over()).map(|crossing| crossing.hash).collect();
        if open.is_empty() {
            self.trouble.set(None);
            return Ok(());
        }
        let trouble = self.ask_both().await.err().map(|refused| refused.to_string());
        for hash in open {
            let Some(pair) = self.crossings.get(&hash).map(|crossing| crossing.pair) else { continue };
            let ctx = self.ctx(&pair);
            let outbox = self.crossings.tick(&hash, &ctx);
            self.carry_out(outbox).await?;
        }
        let is_at_risk = self.crossings.all().any(|crossing| !crossing.is_over() && !crossing.is_waiting());
        let is_in_doubt = self.crossings.all().any(|crossing| crossing.state == State::InDoubt);
        let trouble = trouble.filter(|_| is_at_risk).or_else(|| is_in_doubt.then(|| RECORDS_LOST.to_owned()));
        if self.trouble.set(trouble.clone())
            && let Some(trouble) = trouble
        {
            warn!(%trouble, "a payment is crossing, and cannot be followed on one of its networks; it is tried until it can");
        }
        Ok(())
    }

    /// One change, its commit, its effects, and what they lead to.
    async fn carry_out(&mut self, outbox: CrossingOutbox) -> Result<(), StoreError> {
        let mut waiting = VecDeque::from([outbox]);
        while let Some(outbox) = waiting.pop_front() {
            for effect in self.commit(outbox).await? {
                let hash = effect.hash;
                let before = self.crossings.get(&hash).map(|crossing| crossing.state.clone());
                waiting.extend(self.call(effect).await);
                let after = self.crossings.get(&hash).map(|crossing| &crossing.state);
                if before.as_ref() != after {
                    tell(&hash, after);
                }
            }
        }
        Ok(())
    }

    /// On the disk when this returns; only then its effects are known.
    async fn commit(&self, outbox: CrossingOutbox) -> Result<Vec<Effect>, StoreError> {
        let mut store = self.services.store.clone();
        let outbox = outbox.with_keys::<CoreKey>();
        let effects = if outbox.needs_commit() {
            let commit = move || Outbox::commit_all(vec![outbox], &mut store);
            let done = tokio::task::spawn_blocking(commit).await;
            done.map_err(|error| self.services.store.damaged(&error.to_string()))??
        } else {
            Outbox::commit_all(vec![outbox], &mut store)?
        };
        Ok(effects.into_iter().flatten().collect())
    }

    /// Asks a node, and tells the crossing what it has answered. What is not answered is asked again at the next look.
    async fn call(&mut self, effect: Effect) -> Option<CrossingOutbox> {
        let Effect { hash, pair, order } = effect;
        let at = match order {
            Order::Hold(_) | Order::LookAtIncoming | Order::Settle(_) | Order::GiveUp => pair.incoming,
            Order::LookAtOutgoing | Order::Pay(_) => pair.outgoing,
        };
        let (node, book) = (self.node_at(at)?, self.services.directory);
        let failed = match order {
            Order::Hold(order) => match node.hold(book, order).await {
                Ok(request) => return Some(self.crossings.opened(&hash, request)),
                Err(NodeError::Refused(_)) => return Some(self.crossings.not_opened(&hash)),
                Err(error @ NodeError::Away(_)) => error,
            },
            Order::LookAtIncoming => match node.held(book, hash).await {
                Ok(said) => {
                    let ctx = self.ctx(&pair);
                    return Some(self.crossings.incoming(&hash, said, &ctx));
                }
                Err(error) => error,
            },
            Order::LookAtOutgoing => match node.payment(hash).await {
                Ok(said) => {
                    let ctx = self.ctx(&pair);
                    return Some(self.crossings.outgoing(&hash, said, &ctx));
                }
                Err(error) => error,
            },
            Order::Settle(preimage) => node.settle(book, preimage).await.err()?,
            Order::GiveUp => node.give_up(book, hash).await.err()?,
            Order::Pay(order) => node.pay(order).await.err()?,
        };
        if matches!(failed, NodeError::Away(_)) {
            self.leave_out(at);
        }
        debug!(crossing = %hash, error = %failed, "a node did not do what a crossing needs; it is asked again");
        None
    }
}

fn pair_of(incoming: &NodeStatus, outgoing: &NodeStatus) -> Pair {
    Pair { incoming: incoming.now.chain.hash, outgoing: outgoing.now.chain.hash }
}

/// What has changed for a person.
fn tell(hash: &PaymentHash, state: Option<&State>) {
    match state {
        None | Some(State::Opening | State::Waiting) => {}
        Some(State::Paying { .. }) => {
            info!(crossing = %hash, "a payment has come in, and goes out on the other network")
        }
        Some(State::InDoubt) => warn!(
            crossing = %hash,
            "the payee's network does not know the payment that it was told to make: its data directory is another one, or an older \
             copy. The payee may be paid; what was held is held until it runs out. Give that daemon the directory that it had"
        ),
        Some(State::Settling { .. }) => info!(crossing = %hash, "the payee is paid; what was held is taken"),
        Some(State::GivingUp { reason }) => info!(crossing = %hash, %reason, "what was held goes back"),
        Some(State::Ended(outcome @ Outcome::Lost { .. })) => {
            error!(crossing = %hash, "{outcome}: this node or its other network was away for too long");
        }
        Some(State::Ended(outcome)) => info!(crossing = %hash, "a crossing has ended: {outcome}"),
    }
}
