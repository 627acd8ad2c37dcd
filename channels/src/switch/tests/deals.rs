//! Invoices, and payments of them over random routes.

use secp256k1::SecretKey;

use super::items::*;
use super::network::*;
use super::opening::Edge;
use super::schedule::Schedule;
use crate::channel::*;
use crate::payment::incoming::{Holder, Invoice, InvoiceState};
use crate::payment::outgoing::{PaymentFailure, PaymentLimits, PaymentRequest};
use crate::payment::route::{Hop, Route};
use crate::types::*;

/// An invoice and who pays it.
pub(super) struct Deal {
    pub sender: usize,
    pub receiver: usize,
    pub hash: PaymentHash,
}

impl Schedule {
    /// An invoice, and a payment of it.
    pub fn pay(&mut self) {
        let most = if self.climate.change_percent > 0 { 40 } else { 20 };
        if self.deals.len() >= most {
            return;
        }
        self.pay_anyhow();
    }

    /// A payment, whatever others there have been.
    pub fn pay_anyhow(&mut self) {
        let sender = self.random.below(NODES);
        let receiver = (sender + 1 + self.random.below(NODES - 1)) % NODES;
        self.pay_from(sender, receiver, None);
    }

    /// Anything, or this amount, for an invoice that is held.
    pub fn pay_from(&mut self, sender: usize, receiver: usize, held: Option<Msat>) {
        if self.net.is_off(sender) || self.net.is_off(receiver) {
            return;
        }
        let mut preimage = PaymentPreimage([7; 32]);
        preimage.0[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let (hash, now) = (preimage.hash(), self.net.now);
        let amount = held.unwrap_or_else(|| self.amount());
        let secret = PaymentSecret([self.random.next() as u8; 32]);
        let is_right = held.is_some();
        let held = is_right || self.random.chance(self.weather.hold_percent);
        if held {
            self.held.insert(hash, (receiver, preimage));
        }
        let node = &mut self.net.nodes[receiver];
        let invoice = Invoice {
            index: node.invoices.next_index(),
            payment_hash: hash,
            preimage: (!held).then_some(preimage),
            payment_secret: secret,
            amount: Some(amount),
            memo: String::new(),
            bolt11: String::new(),
            created: now,
            expiry_seconds: 3600,
            min_final_cltv_expiry_delta: 20,
            keysend: false,
            holder: Holder::Person,
            state: InvoiceState::Open,
        };
        let out = node.invoices.add(invoice).unwrap().convert();
        self.net.commit(receiver, vec![out], Crash::Never);
        let wrong_secret = !is_right && self.random.chance(8);
        let request = PaymentRequest {
            payment_hash: hash,
            destination: node_key(receiver),
            amount,
            payment_secret: Some(if wrong_secret { PaymentSecret([0; 32]) } else { secret }),
            payment_metadata: None,
            final_cltv_delta: 30,
            max_fee: Msat(u64::MAX / 4),
            deadline: UnixTime(now.0 + 20),
            bolt11: String::new(),
            hints: Vec::new(),
            limits: PaymentLimits::default(),
            keysend: None,
            custom_records: Vec::new(),
        };
        let out = self.net.nodes[sender].payments.start(request, None, now).unwrap().convert();
        self.deals.push(Deal { sender, receiver, hash });
        let crash = self.crash();
        self.net.commit(sender, vec![out], crash);
    }

    fn amount(&mut self) -> Msat {
        let change = self.climate.random.chance(self.climate.change_percent);
        Msat(match self.random.below(5) {
            _ if change => self.climate.random.between(400_000, 1_500_000),
            0 => self.random.between(2_000, 300_000),
            1 => self.random.between(50_000_000, 200_000_000),
            2 => self.random.between(300_000, 3_000_000),
            _ => self.random.between(1_000_000, 50_000_000),
        })
    }

    pub fn tell_something(&mut self) {
        let held = self.holding();
        if let Some((hash, _, _)) = self.random.pick(&held) {
            self.tell(hash);
        }
    }

    /// Invoices for which HTLCs are held: who holds them, and on which channels.
    pub fn holding(&self) -> Vec<(PaymentHash, usize, Vec<ChannelId>)> {
        let of_invoice = |(hash, (node, _)): (&PaymentHash, &(usize, PaymentPreimage))| {
            let InvoiceState::Accepted(accepted) = &self.net.nodes[*node].invoices.open(hash)?.state else {
                return None;
            };
            Some((*hash, *node, accepted.htlcs.iter().map(|paid| paid.channel).collect()))
        };
        self.held.iter().filter_map(of_invoice).collect()
    }

    /// The keeper of an invoice takes the HTLCs that are held for it.
    pub fn tell(&mut self, hash: PaymentHash) {
        let (node, preimage) = self.held[&hash];
        if self.net.is_off(node) {
            return;
        }
        let ctx = self.net.nodes[node].invoice_ctx(self.net.now);
        if let Ok(out) = self.net.nodes[node].invoices.settle_held(preimage, &ctx) {
            let crash = self.crash();
            self.net.commit(node, vec![out.convert()], crash);
        }
    }

    /// Sends an onion that has been sent before, as a peer might that wants to see where it goes.
    pub fn repeat(&mut self) {
        let Some((node, route, mut htlc)) = self.random.pick(&self.net.truth.lately) else { return };
        if route.hops().len() < 2 || self.net.truth.repeated.len() > 10 {
            return;
        }
        let attempt = AttemptId(1 << 40 | self.net.truth.repeated.len() as u64);
        htlc.origin = Origin::Payment(attempt);
        self.net.truth.repeated.insert((node, attempt));
        self.net.offer(node, route, htlc);
    }

    pub fn find_routes(&mut self, node: usize, request: &PaymentRequest, amount: Msat) {
        let receiver = (0..NODES).find(|index| node_key(*index) == request.destination).unwrap();
        let parts = if self.random.chance(20) && amount.0 > 10_000 { 2 } else { 1 };
        let mut left = amount.0;
        let mut routes = Vec::new();
        for part in 0..parts {
            let part_amount = if part + 1 == parts { left } else { self.random.between(1_000, left - 1_000) };
            left -= part_amount;
            routes.extend(self.route(node, receiver, Msat(part_amount), request.final_cltv_delta));
        }
        let now = self.net.now;
        let crash = self.crash();
        let keys: Vec<SecretKey> = routes.iter().map(|_| self.random.secret()).collect();
        let payments = &mut self.net.nodes[node].payments;
        let out = if routes.len() == parts {
            let mut keys = keys.into_iter();
            payments.routes_found(&request.payment_hash, routes, || keys.next().unwrap(), now).unwrap_or_default()
        } else {
            payments.no_route(&request.payment_hash, PaymentFailure::NoRoute, now)
        };
        self.net.commit(node, vec![out.convert()], crash);
    }

    /// A random way without a loop, at the price that the nodes on it ask, or sometimes a little less.
    fn route(&mut self, from: usize, to: usize, amount: Msat, final_delta: u32) -> Option<Route> {
        let mut path: Vec<Edge> = Vec::new();
        let crowded = self.climate.crowd.is_some_and(|crowd| crowd.goes(from, to));
        let mut at = from;
        let mut seen = vec![from];
        while at != to {
            let all = &self.net.base.edges;
            let any = self.random.chance(self.weather.bad_route_percent);
            let edges =
                all.iter().filter(|edge| (edge.ends.0 == at || edge.ends.1 == at) && (any || self.is_open(edge)));
            let next = |edge: &Edge| if edge.ends.0 == at { edge.ends.1 } else { edge.ends.0 };
            let open: Vec<Edge> = edges.filter(|edge| !seen.contains(&next(edge))).copied().collect();
            let direct =
                open.iter().find(|edge| next(edge) == to).copied().filter(|_| crowded || self.random.chance(40));
            let edge = direct.or_else(|| self.random.pick(&open))?;
            at = next(&edge);
            seen.push(at);
            path.push(edge);
        }
        let mut amount = amount.0;
        let mut expiry = self.net.nodes[from].view.tip.0 + final_delta;
        let mut hops = Vec::new();
        for (index, edge) in path.iter().enumerate().rev() {
            let node = seen[index + 1];
            let (to, channel) = (node_key(node), Some(edge.name));
            hops.push(Hop { node_id: to, channel, amount: Msat(amount), cltv_expiry: CltvExpiry(expiry) });
            if index > 0 {
                let policy = &self.policies[&(seen[index], edge.channel)];
                let bad = self.random.chance(self.weather.bad_route_percent);
                let fee = policy.fee(Msat(amount)).unwrap().0;
                amount += if bad { fee.saturating_sub(1) } else { fee };
                let short = u32::from(self.random.chance(self.weather.bad_route_percent / 2));
                expiry += u32::from(policy.cltv_expiry_delta) - short;
            }
        }
        hops.reverse();
        Route::new(hops)
    }

    /// Whether both ends would have payments pass.
    fn is_open(&self, edge: &Edge) -> bool {
        let is_open = |node: usize| {
            self.net.nodes[node].channels.get(&edge.channel).is_some_and(|one| one.state_name() == StateName::Normal)
        };
        is_open(edge.ends.0) && is_open(edge.ends.1)
    }
}
