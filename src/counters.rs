//! What is counted and timed where it happens, for `leydend --metrics`.
//!
//! ```text
//!   store, driver, tower ──► a function here ──► the recorder of the process, if there is one ──► crate::metrics
//! ```
//!
//! Promises: without a recorder a call costs some nanoseconds; every series stands there from the start, at zero; no label
//! has a value that others choose. Everything counts since the start of the process.

use std::time::Duration;

use leyden_channels::{
    onchain::{self, ClosedBy},
    payment::{
        incoming::{Invoice, InvoiceState},
        outgoing::{Payment, PaymentFailure, PaymentState},
    },
    switch::{HtlcEvent, HtlcEventKind},
};
use leyden_watchtower::{message::Mode, tower};
use metrics::{counter, describe_counter, describe_histogram, histogram};

const PAYMENTS: &str = "leyden_payments_total";
const PAYMENT_SECONDS: &str = "leyden_payment_seconds";
const PAYMENTS_SENT: &str = "leyden_payments_sent_msat_total";
const PAYMENTS_FEES: &str = "leyden_payments_fees_msat_total";
const FORWARDS_OFFERED: &str = "leyden_forwards_offered_total";
const FORWARDS: &str = "leyden_forwards_total";
const FORWARDS_FEES: &str = "leyden_forwards_fees_msat_total";
const INVOICES_ADDED: &str = "leyden_invoices_added_total";
const INVOICES_HELD: &str = "leyden_invoices_held_total";
const INVOICES: &str = "leyden_invoices_total";
const INVOICES_RECEIVED: &str = "leyden_invoices_received_msat_total";
const CHANNELS_OPENED: &str = "leyden_channels_opened_total";
const CHANNELS_CLOSED: &str = "leyden_channels_closed_total";
const VIOLATIONS: &str = "leyden_protocol_violations_total";
const COMMIT_SECONDS: &str = "leyden_commit_seconds";
const COMMIT_ROWS: &str = "leyden_commit_rows";
const COMMIT_BYTES: &str = "leyden_commit_bytes";
const TOWER_RECEIPTS: &str = "leyden_tower_receipts_total";
const TOWER_BREACHES: &str = "leyden_tower_breaches_total";
const TOWER_MEMPOOL_BREACHES: &str = "leyden_tower_mempool_breaches_total";
const TOWER_BROADCASTS: &str = "leyden_tower_broadcasts_total";
const TOWER_PUNISHED: &str = "leyden_tower_breaches_punished_total";

const OUTCOME: &str = "outcome";
const SUCCEEDED: &str = "succeeded";
const FAILED: &str = "failed";
const DATABASE: &str = "database";

/// A label and all values that it can have.
type Label = (&'static str, &'static [&'static str]);

struct Counter {
    name: &'static str,
    help: &'static str,
    label: Option<Label>,
}

/// A family of histograms, and the upper bounds of its buckets.
#[derive(Clone, Copy, Debug)]
pub struct Histogram {
    pub name: &'static str,
    pub bounds: &'static [f64],
    help: &'static str,
    label: Label,
}

/// What a part of the daemon counts.
struct Group {
    counters: &'static [Counter],
    histograms: &'static [Histogram],
}

const LIGHTNING: Group = Group {
    counters: &[
        Counter {
            name: PAYMENTS,
            help: "Payments that have ended, by their outcome.",
            label: Some((
                OUTCOME,
                &[
                    SUCCEEDED,
                    "timeout",
                    "no_route",
                    "incorrect_payment_details",
                    "recipient_busy",
                    "insufficient_balance",
                    "tip_in_doubt",
                    "error",
                ],
            )),
        },
        Counter { name: PAYMENTS_SENT, help: "What payments have brought to their recipients.", label: None },
        Counter { name: PAYMENTS_FEES, help: "What payments have cost beside.", label: None },
        Counter { name: FORWARDS_OFFERED, help: "HTLCs of others that were handed on.", label: None },
        Counter {
            name: FORWARDS,
            help: "HTLCs of others that have ended: settled, failed further on, or refused here.",
            label: Some((OUTCOME, &["settled", FAILED, "refused"])),
        },
        Counter { name: FORWARDS_FEES, help: "Fees earned by forwarding.", label: None },
        Counter { name: INVOICES_ADDED, help: "Invoices that were made.", label: None },
        Counter { name: INVOICES_HELD, help: "Payments that were held for a hold invoice.", label: None },
        Counter {
            name: INVOICES,
            help: "Invoices that have ended; those that expire are canceled.",
            label: Some((OUTCOME, &["settled", "canceled"])),
        },
        Counter { name: INVOICES_RECEIVED, help: "What settled invoices have brought.", label: None },
        Counter { name: CHANNELS_OPENED, help: "Channels that have become usable.", label: None },
        Counter {
            name: CHANNELS_CLOSED,
            help: "Funding outputs spent in a block, by whom: together, or by force. revoked: the peer published a revoked \
                   state; newer_than_known: this node has lost data; old_local: by an old copy of this node's data.",
            label: Some(("by", &["both", "local", "remote", "revoked", "newer_than_known", "old_local", "unknown"])),
        },
        Counter { name: VIOLATIONS, help: "Rules of the protocol that peers broke in channels.", label: None },
    ],
    histograms: &[
        Histogram {
            name: PAYMENT_SECONDS,
            help: "From a payment's request to its end.",
            bounds: &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0],
            label: (OUTCOME, &[SUCCEEDED, FAILED]),
        },
        Histogram { label: (DATABASE, &[Database::Node.name()]), ..SECONDS_OF_COMMIT },
        Histogram { label: (DATABASE, &[Database::Node.name()]), ..ROWS_OF_COMMIT },
        Histogram { label: (DATABASE, &[Database::Node.name()]), ..BYTES_OF_COMMIT },
    ],
};

const TOWER: Group = Group {
    counters: &[
        Counter {
            name: TOWER_RECEIPTS,
            help: "Receipts signed for backups; one stands for all of a channel that were made durable together.",
            label: None,
        },
        Counter {
            name: TOWER_BREACHES,
            help: "Revoked states seen in blocks, by the mode of their backup.",
            label: Some(("mode", &["blind", "own"])),
        },
        Counter { name: TOWER_MEMPOOL_BREACHES, help: "Revoked states seen in the mempool.", label: None },
        Counter { name: TOWER_BROADCASTS, help: "Penalties broadcast, repetitions included.", label: None },
        Counter { name: TOWER_PUNISHED, help: "Breaches whose penalties are final.", label: None },
    ],
    histograms: &[
        Histogram { label: (DATABASE, &[Database::Tower.name()]), ..SECONDS_OF_COMMIT },
        Histogram { label: (DATABASE, &[Database::Tower.name()]), ..ROWS_OF_COMMIT },
        Histogram { label: (DATABASE, &[Database::Tower.name()]), ..BYTES_OF_COMMIT },
    ],
};

// A disk with a cache that survives a power cut syncs in some tens of microseconds, a spinning one in tens of milliseconds.
const SECONDS_OF_COMMIT: Histogram = Histogram {
    name: COMMIT_SECONDS,
    help: "What one synced write of the cores' rows took. The count is that of commits.",
    bounds: &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0],
    label: (DATABASE, &[]),
};
const ROWS_OF_COMMIT: Histogram = Histogram {
    name: COMMIT_ROWS,
    help: "Rows put or deleted by one commit.",
    bounds: &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0, 10_000.0],
    label: (DATABASE, &[]),
};
const BYTES_OF_COMMIT: Histogram = Histogram {
    name: COMMIT_BYTES,
    help: "Bytes of one commit, keys included.",
    bounds: &[256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 16_777_216.0],
    label: (DATABASE, &[]),
};

/// Every family of histograms.
pub fn histograms() -> [Histogram; 4] {
    let [payments, ..] = LIGHTNING.histograms else { unreachable!("the payments' come first") };
    [*payments, SECONDS_OF_COMMIT, ROWS_OF_COMMIT, BYTES_OF_COMMIT]
}

/// Has the series of a node with channels stand there, at zero.
pub fn begin_lightning() {
    LIGHTNING.begin();
}

/// Has the series of a watchtower stand there, at zero.
pub fn begin_tower() {
    TOWER.begin();
}

impl Group {
    fn begin(&self) {
        for Counter { name, help, label } in self.counters {
            describe_counter!(*name, *help);
            match label {
                Some((label, values)) => values.iter().for_each(|value| counter!(*name, *label => *value).increment(0)),
                None => counter!(*name).increment(0),
            }
        }
        for Histogram { name, help, label: (label, values), .. } in self.histograms {
            describe_histogram!(*name, *help);
            for value in *values {
                // To name it is to register it.
                let _ = histogram!(*name, *label => *value);
            }
        }
    }
}

/// A payment has ended. `took` is known of one that was begun in this run.
pub fn payment_ended(payment: &Payment, took: Option<Duration>) {
    let outcome = match &payment.state {
        PaymentState::Pending => return,
        PaymentState::Succeeded { .. } => SUCCEEDED,
        PaymentState::Failed { reason, .. } => match reason {
            PaymentFailure::Timeout => "timeout",
            PaymentFailure::NoRoute => "no_route",
            PaymentFailure::IncorrectPaymentDetails => "incorrect_payment_details",
            PaymentFailure::RecipientBusy => "recipient_busy",
            PaymentFailure::InsufficientBalance => "insufficient_balance",
            PaymentFailure::TipInDoubt => "tip_in_doubt",
            PaymentFailure::Error => "error",
        },
    };
    counter!(PAYMENTS, OUTCOME => outcome).increment(1);
    let has_succeeded = outcome == SUCCEEDED;
    if has_succeeded {
        counter!(PAYMENTS_SENT).increment(payment.request.amount.0);
        counter!(PAYMENTS_FEES).increment(payment.fee().0);
    }
    if let Some(took) = took {
        histogram!(PAYMENT_SECONDS, OUTCOME => if has_succeeded { SUCCEEDED } else { FAILED }).record(took);
    }
}

/// Something has happened to an HTLC that passes through.
pub fn forward(event: &HtlcEvent) {
    match &event.kind {
        HtlcEventKind::Forward { .. } => counter!(FORWARDS_OFFERED).increment(1),
        HtlcEventKind::ForwardFail => counter!(FORWARDS, OUTCOME => FAILED).increment(1),
        HtlcEventKind::LinkFail { .. } => counter!(FORWARDS, OUTCOME => "refused").increment(1),
        HtlcEventKind::Settle { fee, .. } => {
            counter!(FORWARDS, OUTCOME => "settled").increment(1);
            counter!(FORWARDS_FEES).increment(fee.0);
        }
    }
}

/// An invoice is new, or has changed.
pub fn invoice(invoice: &Invoice) {
    match &invoice.state {
        InvoiceState::Open => counter!(INVOICES_ADDED).increment(1),
        InvoiceState::Accepted(_) => counter!(INVOICES_HELD).increment(1),
        // It was settled before, and the chain has taken a part back.
        InvoiceState::Settled(settled) if !settled.is_whole() => {}
        InvoiceState::Settled(settled) => {
            counter!(INVOICES, OUTCOME => "settled").increment(1);
            counter!(INVOICES_RECEIVED).increment(settled.amount.0);
        }
        InvoiceState::Canceled => counter!(INVOICES, OUTCOME => "canceled").increment(1),
    }
}

/// A channel has become usable for the first time.
pub fn channel_opened() {
    counter!(CHANNELS_OPENED).increment(1);
}

/// The chain says something of a channel's end.
pub fn closing(notice: &onchain::Notice) {
    use onchain::Notice;
    let by = match notice {
        Notice::Closed { by: ClosedBy::Both, .. } => "both",
        Notice::Closed { by: ClosedBy::Local, .. } => "local",
        Notice::Closed { by: ClosedBy::Remote, .. } => "remote",
        Notice::Breach { .. } => "revoked",
        Notice::DataLoss { .. } => "newer_than_known",
        Notice::OldLocalState { .. } => "old_local",
        Notice::UnknownSpend { .. } => "unknown",
        Notice::Reopened => return,
    };
    counter!(CHANNELS_CLOSED, "by" => by).increment(1);
}

/// A peer broke a rule of the protocol.
pub fn protocol_violation() {
    counter!(VIOLATIONS).increment(1);
}

/// Whose rows are committed.
#[derive(Clone, Copy, Debug)]
pub enum Database {
    Node,
    Tower,
}

impl Database {
    const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Tower => "tower",
        }
    }
}

/// A synced write is done.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub database: Database,
    pub rows: usize,
    pub bytes: usize,
    pub took: Duration,
}

impl Commit {
    pub fn note(self) {
        let database = self.database.name();
        histogram!(COMMIT_SECONDS, DATABASE => database).record(self.took);
        histogram!(COMMIT_ROWS, DATABASE => database).record(self.rows as f64);
        histogram!(COMMIT_BYTES, DATABASE => database).record(self.bytes as f64);
    }
}

/// The watchtower signs for a backup.
pub fn tower_receipt() {
    counter!(TOWER_RECEIPTS).increment(1);
}

/// The watchtower broadcasts a penalty.
pub fn tower_broadcast() {
    counter!(TOWER_BROADCASTS).increment(1);
}

/// The watchtower has news.
pub fn tower_notice(notice: &tower::Notice) {
    use tower::Notice;
    match notice {
        Notice::Breach { mode: Mode::Blind, .. } => counter!(TOWER_BREACHES, "mode" => "blind").increment(1),
        Notice::Breach { mode: Mode::Own, .. } => counter!(TOWER_BREACHES, "mode" => "own").increment(1),
        Notice::BreachInMempool { .. } => counter!(TOWER_MEMPOOL_BREACHES).increment(1),
        Notice::Punished { .. } => counter!(TOWER_PUNISHED).increment(1),
        Notice::BreachTakenBack { .. }
        | Notice::Useless { .. }
        | Notice::Closed { .. }
        | Notice::Broken { .. }
        | Notice::TermEnded { .. } => {}
    }
}
