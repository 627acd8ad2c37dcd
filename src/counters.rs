//! What is counted and timed where it happens, for `leydend --metrics`.
//!
//! ```text
//!   store, driver, tower ──► a function here ──► the recorder of the process, if there is one ──► crate::metrics
//! ```
//!
//! Promises: without a recorder a call costs some nanoseconds; every series stands there from the start, at zero; no label
//! has a value that others choose. Everything counts since the start of the process. What happens on the second network of a daemon
//! stands in series of its own, with the label `network`.

use std::{sync::Arc, time::Duration};

use leyden_channels::{
    onchain::{self, ClosedBy},
    payment::{
        incoming::{Invoice, InvoiceState},
        outgoing::{Payment, PaymentFailure, PaymentState},
    },
    switch::{HtlcEvent, HtlcEventKind},
};
use leyden_watchtower::{message::Mode, tower};
use metrics::{Label as MetricLabel, SharedString, counter, describe_counter, describe_histogram, histogram};

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
const MESSAGES: &str = "leyden_messages_total";
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
const DIRECTION: &str = "direction";
const SENT: &str = "sent";
const RECEIVED: &str = "received";

/// A label and all values that it can have.
type Label = (&'static str, &'static [&'static str]);

struct Counter {
    name: &'static str,
    help: &'static str,
    label: Option<Label>,
}

/// A family of histograms, and the upper bounds of its buckets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Histogram {
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
        Counter {
            name: MESSAGES,
            help: "Messages of Lightning peers, towers' clients included.",
            label: Some((DIRECTION, &[SENT, RECEIVED])),
        },
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
pub(crate) fn histograms() -> [Histogram; 4] {
    let [payments, ..] = LIGHTNING.histograms else { unreachable!("the payments' come first") };
    [*payments, SECONDS_OF_COMMIT, ROWS_OF_COMMIT, BYTES_OF_COMMIT]
}

/// Whose happenings are counted: the first network's, or those of the second by its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Option<Arc<str>>);

/// The label of what happens on the second network.
pub(crate) const NETWORK: &str = "network";

impl Counters {
    /// Of the second network of a daemon.
    pub(crate) fn of_second(network: &str) -> Self {
        Self(Some(network.into()))
    }

    /// Has the series of a node with channels stand there, at zero.
    pub(crate) fn begin_lightning(&self) {
        LIGHTNING.begin(self);
    }

    /// Has the series of a watchtower stand there, at zero.
    pub(crate) fn begin_tower(&self) {
        TOWER.begin(self);
    }

    fn count(&self, name: &'static str, by: u64) {
        match &self.0 {
            None => counter!(name).increment(by),
            Some(network) => counter!(name, vec![of_network(network)]).increment(by),
        }
    }

    fn count_of(&self, name: &'static str, (label, value): (&'static str, &'static str), by: u64) {
        match &self.0 {
            None => counter!(name, label => value).increment(by),
            Some(network) => {
                let labels = vec![MetricLabel::from_static_parts(label, value), of_network(network)];
                counter!(name, labels).increment(by);
            }
        }
    }

    fn histogram(&self, name: &'static str, (label, value): (&'static str, &'static str)) -> metrics::Histogram {
        match &self.0 {
            None => histogram!(name, label => value),
            Some(network) => {
                histogram!(name, vec![MetricLabel::from_static_parts(label, value), of_network(network)])
            }
        }
    }

    /// A payment has ended. `took` is known of one that was begun in this run.
    pub(crate) fn payment_ended(&self, payment: &Payment, took: Option<Duration>) {
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
        self.count_of(PAYMENTS, (OUTCOME, outcome), 1);
        let has_succeeded = outcome == SUCCEEDED;
        if has_succeeded {
            self.count(PAYMENTS_SENT, payment.request.amount.0);
            self.count(PAYMENTS_FEES, payment.fee().0);
        }
        if let Some(took) = took {
            let outcome = if has_succeeded { SUCCEEDED } else { FAILED };
            self.histogram(PAYMENT_SECONDS, (OUTCOME, outcome)).record(took);
        }
    }

    /// Something has happened to an HTLC that passes through.
    pub(crate) fn forward(&self, event: &HtlcEvent) {
        match &event.kind {
            HtlcEventKind::Forward { .. } => self.count(FORWARDS_OFFERED, 1),
            HtlcEventKind::ForwardFail => self.count_of(FORWARDS, (OUTCOME, FAILED), 1),
            HtlcEventKind::LinkFail { .. } => self.count_of(FORWARDS, (OUTCOME, "refused"), 1),
            HtlcEventKind::Settle { fee, .. } => {
                self.count_of(FORWARDS, (OUTCOME, "settled"), 1);
                self.count(FORWARDS_FEES, fee.0);
            }
        }
    }

    /// An invoice is new, or has changed.
    pub(crate) fn invoice(&self, invoice: &Invoice) {
        match &invoice.state {
            InvoiceState::Open => self.count(INVOICES_ADDED, 1),
            InvoiceState::Accepted(_) => self.count(INVOICES_HELD, 1),
            // It was settled before, and the chain has taken a part back.
            InvoiceState::Settled(settled) if !settled.is_whole() => {}
            InvoiceState::Settled(settled) => {
                self.count_of(INVOICES, (OUTCOME, "settled"), 1);
                self.count(INVOICES_RECEIVED, settled.amount.0);
            }
            InvoiceState::Canceled => self.count_of(INVOICES, (OUTCOME, "canceled"), 1),
        }
    }

    /// A channel has become usable for the first time.
    pub(crate) fn channel_opened(&self) {
        self.count(CHANNELS_OPENED, 1);
    }

    /// The chain says something of a channel's end.
    pub(crate) fn closing(&self, notice: &onchain::Notice) {
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
        self.count_of(CHANNELS_CLOSED, ("by", by), 1);
    }

    /// A peer broke a rule of the protocol.
    pub(crate) fn protocol_violation(&self) {
        self.count(VIOLATIONS, 1);
    }

    /// A message is encrypted for a Lightning peer.
    pub(crate) fn message_sent(&self) {
        self.count_of(MESSAGES, (DIRECTION, SENT), 1);
    }

    /// A message of a Lightning peer is decrypted.
    pub(crate) fn message_received(&self) {
        self.count_of(MESSAGES, (DIRECTION, RECEIVED), 1);
    }

    /// A synced write is done.
    pub(crate) fn commit(&self, Commit { database, rows, bytes, took }: Commit) {
        let database = (DATABASE, database.name());
        self.histogram(COMMIT_SECONDS, database).record(took);
        self.histogram(COMMIT_ROWS, database).record(rows as f64);
        self.histogram(COMMIT_BYTES, database).record(bytes as f64);
    }
}

fn of_network(network: &Arc<str>) -> MetricLabel {
    MetricLabel::new(NETWORK, SharedString::from_shared(Arc::clone(network)))
}

impl Group {
    fn begin(&self, counters: &Counters) {
        for Counter { name, help, label } in self.counters {
            describe_counter!(*name, *help);
            match label {
                Some((label, values)) => values.iter().for_each(|value| counters.count_of(name, (label, value), 0)),
                None => counters.count(name, 0),
            }
        }
        for Histogram { name, help, label: (label, values), .. } in self.histograms {
            describe_histogram!(*name, *help);
            for value in *values {
                // To name it is to register it.
                let _ = counters.histogram(name, (label, value));
            }
        }
    }
}

/// Whose rows are committed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Database {
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

/// A synced write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub database: Database,
    pub rows: usize,
    pub bytes: usize,
    pub took: Duration,
}

/// The watchtower signs for a backup.
pub(crate) fn tower_receipt() {
    counter!(TOWER_RECEIPTS).increment(1);
}

/// The watchtower broadcasts a penalty.
pub(crate) fn tower_broadcast() {
    counter!(TOWER_BROADCASTS).increment(1);
}

/// The watchtower has news.
pub(crate) fn tower_notice(notice: &tower::Notice) {
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
        | Notice::Damaged { .. }
        | Notice::TermEnded { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use leyden_channels::{
        payment::outgoing::{PaymentLimits, PaymentRequest},
        switch::{FailureDetail, HtlcRef, Leg},
        types::{
            ChannelId, CltvExpiry, CommitmentNumber, Height, HtlcId, Msat, PaymentHash, PaymentPreimage, PaymentSecret,
            UnixTime,
        },
    };
    use leyden_watchtower::appointment::{ChannelName, ChannelTag, ClientId, FundingIndex};
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

    use super::*;

    /// The series that there are, without their values.
    fn series(recorder: &PrometheusRecorder) -> BTreeSet<String> {
        let page = recorder.handle().render();
        let samples = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let names = samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
        // Summaries tell quantiles of what has come in; the process has buckets instead.
        names.filter(|name| !name.contains("quantile=")).collect()
    }

    fn payment(state: PaymentState) -> Payment {
        let key = secp256k1::SecretKey::from_slice(&[7; 32]).unwrap();
        let request = PaymentRequest {
            payment_hash: PaymentHash([1; 32]),
            destination: key.public_key(secp256k1::SECP256K1),
            amount: Msat(5_000),
            payment_secret: None,
            payment_metadata: None,
            final_cltv_delta: 18,
            max_fee: Msat(100),
            deadline: UnixTime(0),
            bolt11: String::new(),
            hints: Vec::new(),
            limits: PaymentLimits::default(),
            keysend: None,
            custom_records: Vec::new(),
        };
        Payment { index: 1, request, created: UnixTime(0), attempts: Vec::new(), state }
    }

    fn payments() -> Vec<Payment> {
        let at = UnixTime(1);
        let reasons = [
            PaymentFailure::Timeout,
            PaymentFailure::NoRoute,
            PaymentFailure::IncorrectPaymentDetails,
            PaymentFailure::RecipientBusy,
            PaymentFailure::InsufficientBalance,
            PaymentFailure::TipInDoubt,
            PaymentFailure::Error,
        ];
        let failed = reasons.map(|reason| payment(PaymentState::Failed { reason, at }));
        let paid = payment(PaymentState::Succeeded { preimage: PaymentPreimage([2; 32]), at });
        failed.into_iter().chain([paid, payment(PaymentState::Pending)]).collect()
    }

    fn invoices() -> [Invoice; 4] {
        use leyden_channels::payment::incoming::{Accepted, Settled};
        let (at, amount, htlcs) = (UnixTime(1), Msat(7), Vec::new());
        let states = [
            InvoiceState::Open,
            InvoiceState::Accepted(Accepted { at, amount, htlcs: Vec::new() }),
            InvoiceState::Settled(Settled { index: 1, at, amount, htlcs }),
            InvoiceState::Canceled,
        ];
        states.map(|state| Invoice {
            index: 1,
            payment_hash: PaymentHash([1; 32]),
            preimage: None,
            payment_secret: PaymentSecret([3; 32]),
            amount: None,
            memo: String::new(),
            bolt11: String::new(),
            created: UnixTime(0),
            expiry_seconds: 1,
            min_final_cltv_expiry_delta: 18,
            keysend: false,
            holder: leyden_channels::payment::incoming::Holder::Person,
            state,
        })
    }

    fn forwards() -> [HtlcEvent; 4] {
        let leg = Leg { channel: ChannelId([1; 32]), amount: Msat(1), cltv_expiry: CltvExpiry(1) };
        let kinds = [
            HtlcEventKind::Forward { incoming: leg, outgoing: leg },
            HtlcEventKind::ForwardFail,
            HtlcEventKind::Settle { preimage: PaymentPreimage([2; 32]), fee: Msat(3) },
            HtlcEventKind::LinkFail { incoming: leg, failure_code: 7, detail: FailureDetail::None },
        ];
        let incoming = HtlcRef { channel: leg.channel, id: HtlcId(0) };
        kinds.map(|kind| HtlcEvent { at: UnixTime(0), incoming, outgoing: None, kind })
    }

    fn closings() -> Vec<onchain::Notice> {
        use bitcoin::hashes::Hash as _;
        let (txid, height, number) = (bitcoin::Txid::all_zeros(), Height(1), CommitmentNumber(1));
        let agreed = [ClosedBy::Both, ClosedBy::Local, ClosedBy::Remote];
        let others = [
            onchain::Notice::Reopened,
            onchain::Notice::Breach { number, txid },
            onchain::Notice::UnknownSpend { txid },
            onchain::Notice::OldLocalState { number },
            onchain::Notice::DataLoss { number },
        ];
        agreed.map(|by| onchain::Notice::Closed { by, txid, height }).into_iter().chain(others).collect()
    }

    fn tower_notices() -> Vec<tower::Notice> {
        use bitcoin::hashes::Hash as _;
        let (client, txid) = (ClientId([2; 33]), bitcoin::Txid::all_zeros());
        let channel = ChannelName { tag: ChannelTag([1; 16]), funding: FundingIndex(0) };
        let breach = |mode| tower::Notice::Breach {
            client,
            channel,
            mode,
            number: CommitmentNumber(1),
            txid,
            height: Height(1),
        };
        vec![
            breach(Mode::Blind),
            breach(Mode::Own),
            tower::Notice::BreachInMempool { txid },
            tower::Notice::BreachTakenBack { client, channel, txid },
            tower::Notice::Punished { client, channel },
        ]
    }

    /// All that can happen to a node.
    fn happen(counters: &Counters) {
        let took = Duration::from_millis(3);
        payments().iter().for_each(|payment| counters.payment_ended(payment, Some(took)));
        forwards().iter().for_each(|event| counters.forward(event));
        invoices().iter().for_each(|one| counters.invoice(one));
        closings().iter().for_each(|notice| counters.closing(notice));
        counters.channel_opened();
        counters.protocol_violation();
        counters.message_sent();
        counters.message_received();
        counters.commit(Commit { database: Database::Node, rows: 2, bytes: 100, took });
    }

    #[test]
    fn what_happens_on_the_second_network_has_series_of_its_own() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let (first, second) = (Counters::default(), Counters::of_second("south"));
            first.begin_lightning();
            second.begin_lightning();
            let before = series(&recorder);
            happen(&second);
            assert_eq!(series(&recorder), before, "they stood there before");
        });
        let page = recorder.handle().render();
        for line in [
            "leyden_payments_total{outcome=\"succeeded\"} 0",
            "leyden_payments_total{outcome=\"succeeded\",network=\"south\"} 1",
            "leyden_payments_sent_msat_total 0",
            "leyden_payments_sent_msat_total{network=\"south\"} 5000",
            "leyden_commit_rows_sum{database=\"node\",network=\"south\"} 2",
            "leyden_commit_rows_sum{database=\"node\"} 0",
        ] {
            assert!(page.lines().any(|one| one == line), "{line}:\n{page}");
        }
    }

    /// What happens for the first time raises a series that a collector has seen at zero: else its first rise is lost.
    #[test]
    fn every_series_stands_there_before_anything_happens() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let counters = Counters::default();
            counters.begin_lightning();
            counters.begin_tower();
            let before = series(&recorder);
            assert!(before.contains("leyden_payments_total{outcome=\"no_route\"}"), "{before:?}");
            let took = Duration::from_millis(3);
            happen(&counters);
            tower_notices().iter().for_each(tower_notice);
            tower_receipt();
            tower_broadcast();
            counters.commit(Commit { database: Database::Tower, rows: 2, bytes: 100, took });
            assert_eq!(series(&recorder), before);
        });
        let page = recorder.handle().render();
        for line in [
            "leyden_payments_total{outcome=\"succeeded\"} 1",
            "leyden_payments_total{outcome=\"tip_in_doubt\"} 1",
            "leyden_payments_sent_msat_total 5000",
            "leyden_payment_seconds_count{outcome=\"failed\"} 7",
            "leyden_forwards_total{outcome=\"refused\"} 1",
            "leyden_forwards_fees_msat_total 3",
            "leyden_invoices_received_msat_total 7",
            "leyden_channels_closed_total{by=\"revoked\"} 1",
            "leyden_tower_breaches_total{mode=\"own\"} 1",
            "leyden_commit_rows_sum{database=\"node\"} 2",
        ] {
            assert!(page.lines().any(|one| one == line), "{line}:\n{page}");
        }
        for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, _) = name.split_once(' ').unwrap();
            assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
    }
}
