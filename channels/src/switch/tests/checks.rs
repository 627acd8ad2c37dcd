//! What must hold when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use super::deals::Deal;
use super::ledger::{Ledger, uneconomic};
use super::schedule::Schedule;
use super::truth::Paid;
use crate::channel::*;
use crate::payment::incoming::InvoiceState;
use crate::payment::outgoing::{AttemptState, PaymentState};
use crate::switch::*;
use crate::types::PaymentHash;

impl Schedule {
    pub fn check(&mut self) {
        self.check_nothing_is_left();
        let mut ledger = Ledger::new(&self.net, self.climate.policy);
        ledger.check_wealth(&self.initial);
        ledger.check_forwards();
        ledger.check_invoices(self);
        ledger.check_exposure();
        let (small, stuck, breached) = (ledger.small, ledger.stuck, ledger.breach.is_some());
        let forgone = ledger.forgone_hashes();
        assert!(small == 0 || self.weather.closes.is_some(), "HTLCs are lost in open channels");
        self.check_payments(breached, |hash| forgone.contains(hash));
        self.check_history();
        (self.net.truth.small, self.net.truth.stuck) = (small, stuck);
    }

    fn check_nothing_is_left(&self) {
        for (index, node) in self.net.nodes.iter().enumerate() {
            for (id, channel) in &node.channels {
                let summary = channel.summary().unwrap().established.unwrap();
                assert_eq!(summary.htlcs, [], "{index} has HTLCs left on {id}");
                assert_eq!(channel.offered().count() + channel.unsettled().count(), 0);
                assert_eq!(channel.state_name(), StateName::Normal, "{index} has {id} half closed");
                let far = &self.net.nodes[self.net.other(index, id)].channels[id];
                let far = far.summary().unwrap().established.unwrap();
                assert_eq!((summary.local_balance, summary.remote_balance), (far.remote_balance, far.local_balance));
            }
            assert!(!node.channels.values().any(Channel::needs_enforcement), "{index} still enforces");
            assert_eq!(node.switch.pending(), 0, "{index} has circuits left");
            for key in node.store.0.keys() {
                let left = matches!(
                    key,
                    Key::Settlement { .. } | Key::Outcome(_) | Key::Htlc { .. } | Key::Closing(_) | Key::Resolution(_)
                );
                let is_gone = key.channel().is_some_and(|channel| !node.channels.contains_key(&channel));
                assert!(!left && !is_gone, "{index} has a row left: {key:?}");
            }
        }
    }

    fn check_payments(&self, breached: bool, was_forgone: impl Fn(&PaymentHash) -> bool) {
        for Deal { sender, receiver, hash } in &self.deals {
            let invoice = self.net.nodes[*receiver].stored_invoice(hash).unwrap();
            let Some(payment) = self.net.nodes[*sender].stored_payment(hash) else { continue };
            let is_paid = |id: AttemptId| self.net.truth.fulfilled.contains(&(*sender, id));
            let paid = payment.attempts.iter().any(|one| is_paid(one.id));
            // Nobody waits for ever for what is not worth its claim; its recipient may find it worth one much later.
            let highest = uneconomic(self.net.nodes[*sender].outlook.highest_later);
            let is_given_up =
                |id: AttemptId| self.net.truth.given_up.get(&(*sender, id)).is_some_and(|amount| *amount <= highest);
            let unknown = payment.attempts.iter().any(|one| is_paid(one.id) && !is_given_up(one.id));
            let settled = matches!(invoice.state, InvoiceState::Settled(_));
            for attempt in &payment.attempts {
                let read = !matches!(&attempt.state, AttemptState::Failed(failure) if failure.source.is_none());
                assert!(read, "the sender cannot read a failure: {attempt:?}");
            }
            match payment.state {
                PaymentState::Succeeded { preimage, .. } => {
                    assert!(paid && settled);
                    assert_eq!(preimage.hash(), *hash);
                }
                PaymentState::Failed { .. } => assert!(!unknown, "paid, but the sender does not know"),
                PaymentState::Pending => panic!("a payment is stuck: {payment:?}"),
            }
            // With a repeated onion somebody else may have paid.
            let repeated = self.net.truth.lately.iter().any(|(_, _, htlc)| htlc.payment_hash == *hash)
                && !self.net.truth.repeated.is_empty();
            assert!(!settled || paid || repeated || was_forgone(hash) || breached, "settled, but nobody paid");
        }
    }

    /// Every forward that was fulfilled at both ends is in the history once, with its fee.
    fn check_history(&self) {
        let paid = &self.net.truth.paid;
        let mut expected: BTreeMap<usize, BTreeSet<(HtlcRef, u64)>> = BTreeMap::new();
        for ((node, _), Paid { amount, origin, .. }) in paid {
            let Some(incoming) = HtlcRef::of_origin(*origin) else { continue };
            let from = self.net.other(*node, &incoming.channel);
            if let Some(got) = paid.get(&(from, incoming)) {
                expected.entry(*node).or_default().insert((incoming, got.amount.0 - amount.0));
            }
        }
        for (index, node) in self.net.nodes.iter().enumerate() {
            let records = node.forwards();
            assert!((1..).zip(&records).all(|(number, record)| record.number == number));
            let is_paid = |record: &&ForwardRecord| {
                let from = self.net.other(index, &record.incoming.channel);
                paid.contains_key(&(from, record.incoming))
            };
            let kept = records.iter().filter(is_paid).count();
            let earned: BTreeSet<(HtlcRef, u64)> =
                records.iter().filter(is_paid).map(|record| (record.incoming, record.fee().0)).collect();
            assert_eq!(earned.len(), kept, "{index} has a forward twice");
            assert_eq!(earned, expected.remove(&index).unwrap_or_default(), "history of {index}");
        }
    }
}
