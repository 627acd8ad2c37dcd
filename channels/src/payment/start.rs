//! What a start reads of invoices and payments: those that are not over, and the last numbers that were given.
//!
//! What is over piles up over a node's life, and a start must not take longer for it. So a record that is not over is
//! named by a row of its own, which the commit that ends it deletes ([`Key::OpenInvoice`], [`Key::OpenPayment`]).

use super::incoming::{Invoice, InvoiceState, Invoices};
use super::outgoing::{Numbers, Payment, PaymentState, Payments};
use super::record::{self, RecordError};
use crate::channel::{Key, Write};

/// A store, as a start reads it.
pub trait Rows {
    /// Why it cannot be read.
    type Error;

    /// What stands under a key.
    fn row(&self, key: &Key) -> Result<Option<Vec<u8>>, Self::Error>;
    /// The keys that begin with `prefix`, in their order; those that nobody knows are left out.
    fn keys(&self, prefix: &[u8]) -> Result<Vec<Key>, Self::Error>;
    /// The last of them.
    fn last_key(&self, prefix: &[u8]) -> Result<Option<Key>, Self::Error>;
    /// The error for content that makes no sense.
    fn damaged(&self, what: &str) -> Self::Error;
}

/// The invoices of a store whose numbers up to `forgotten` were given.
pub fn invoices<R: Rows>(rows: &R, forgotten: u64) -> Result<Invoices, R::Error> {
    let mut open = Vec::new();
    for name in rows.keys(&Key::all_open_invoices_prefix())? {
        let Key::OpenInvoice(number) = name else { continue };
        open.push(named(rows, &Key::Invoice(number), record::decode_invoice)?);
    }
    let last = rows.last_key(&Key::all_invoices_prefix())?;
    let last = if let Some(Key::Invoice(number)) = last { number } else { 0 };
    let settled = number(rows, &Key::LastSettled)?;
    Ok(Invoices::restore(open).numbered_after(forgotten.max(last)).settled_after(settled))
}

/// The payments of a store whose numbers up to `forgotten` were given.
pub fn payments<R: Rows>(rows: &R, forgotten: Numbers) -> Result<Payments, R::Error> {
    let mut open = Vec::new();
    for name in rows.keys(&Key::all_open_payments_prefix())? {
        let Key::OpenPayment(number) = name else { continue };
        open.push(named(rows, &Key::Payment(number), record::decode_payment)?);
    }
    let last = rows.last_key(&Key::all_payments_prefix())?;
    let index = if let Some(Key::Payment(number)) = last { number } else { 0 };
    let mut payments = Payments::restore(open);
    payments.begin_after(forgotten);
    payments.begin_after(Numbers { index, attempt: number(rows, &Key::LastAttempt)? });
    Ok(payments)
}

fn named<R: Rows, T>(rows: &R, key: &Key, decode: fn(&[u8]) -> Result<T, RecordError>) -> Result<T, R::Error> {
    let bytes = rows.row(key)?.ok_or_else(|| rows.damaged("what is not over has no record"))?;
    decode(&bytes).map_err(|error| rows.damaged(&error.to_string()))
}

fn number<R: Rows>(rows: &R, key: &Key) -> Result<u64, R::Error> {
    let Some(bytes) = rows.row(key)? else { return Ok(0) };
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| rows.damaged("a number"))
}

/// What a store of an earlier version lacks: it has the records alone.
#[derive(Debug, Default)]
pub struct Naming {
    names: Vec<Key>,
    last_attempt: u64,
    last_settled: u64,
}

impl Naming {
    /// An invoice of the store.
    pub fn invoice(&mut self, invoice: &Invoice) {
        match &invoice.state {
            InvoiceState::Open | InvoiceState::Accepted(_) => self.names.push(Key::OpenInvoice(invoice.index)),
            InvoiceState::Settled(settled) => self.last_settled = self.last_settled.max(settled.index),
            InvoiceState::Canceled => {}
        }
    }

    /// A payment of the store.
    pub fn payment(&mut self, payment: &Payment) {
        for attempt in &payment.attempts {
            self.last_attempt = self.last_attempt.max(attempt.id.0);
        }
        if payment.state == PaymentState::Pending {
            self.names.push(Key::OpenPayment(payment.index));
        }
    }

    /// What is to be written.
    pub fn writes(self) -> Vec<Write> {
        let names = self.names.into_iter().map(|key| Write::Put { key, value: Vec::new() });
        let numbers = [(Key::LastAttempt, self.last_attempt), (Key::LastSettled, self.last_settled)];
        let numbers = numbers.map(|(key, number)| Write::Put { key, value: number.to_be_bytes().to_vec() });
        names.chain(numbers).collect()
    }
}

#[cfg(test)]
impl Rows for std::collections::BTreeMap<Key, Vec<u8>> {
    type Error = String;

    fn row(&self, key: &Key) -> Result<Option<Vec<u8>>, String> {
        Ok(self.get(key).cloned())
    }

    fn keys(&self, prefix: &[u8]) -> Result<Vec<Key>, String> {
        let mut keys: Vec<_> = self.keys().copied().filter(|key| key.encode().starts_with(prefix)).collect();
        keys.sort_by_key(Key::encode);
        Ok(keys)
    }

    fn last_key(&self, prefix: &[u8]) -> Result<Option<Key>, String> {
        Ok(Rows::keys(self, prefix)?.pop())
    }

    fn damaged(&self, what: &str) -> String {
        what.to_owned()
    }
}
