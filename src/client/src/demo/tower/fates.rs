//! What becomes of the outputs of Bob's old commitment.
//!
//! ```text
//!   C1b ─┬─ to_local ────────────────────────── BR
//!        ├─ to_remote ───────────────────────── D
//!        ├─ Alice's HTLC ─┬──────────────────── HBR
//!        │                └─ HE1b: success ──── HTBR
//!        └─ Bob's HTLC ───┬──────────────────── HBR
//!                         └─ HT1b: timeout ──── HTBR
//! ```
//!
//! The outputs are told apart by their amounts, which all differ.

use std::collections::BTreeSet;

use leyden_proto::{
    leyden::{TowerPenalty, tower_claim::State},
    lnrpc::Channel,
};

use super::{super::ledger::ANCHOR, ALICES, BOBS, Ledger};
use crate::cluster::{ClusterError, DaemonProcess, wait_until};

/// The state that Bob publishes.
pub(super) struct OldState {
    /// What it gives him besides HTLCs.
    pub to_local: i64,
    /// The block after which every HTLC of his own can go back to him.
    pub expiry: u32,
    /// Blocks that he has to wait for what it gives him.
    pub delay: u32,
}

/// In the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ToLocal,
    AlicesHtlc,
    BobsHtlc,
    ToRemote,
}

/// One output.
pub(super) struct Fate {
    pub kind: Kind,
    pub amount: i64,
    /// Bob's HTLC transaction that has moved it on.
    pub stage: Option<Stage>,
    pub taken: Taken,
}

pub(super) struct Stage {
    pub txid: String,
    /// What it made.
    pub amount: i64,
}

/// The end of an output, or of what Bob's HTLC transaction made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Unspent,
    /// By this transaction for Alice.
    For(String),
    /// By one that is not hers.
    Against(String),
}

impl OldState {
    /// As Bob has it.
    pub(super) fn of(channel: &Channel) -> Self {
        let own = channel.pending_htlcs.iter().filter(|htlc| !htlc.incoming);
        Self {
            to_local: channel.local_balance,
            expiry: own.map(|htlc| htlc.expiration_height).max().unwrap_or_default(),
            delay: channel.local_constraints.as_ref().map_or(0, |constraints| constraints.csv_delay),
        }
    }

    /// Each output but the anchors; `alices` are the transactions that take something for her.
    pub(super) fn fates(&self, ledger: &Ledger, commitment: &str, alices: &BTreeSet<String>) -> Vec<Fate> {
        let outputs = ledger.outputs(commitment).into_iter().enumerate();
        let kinds = outputs.filter_map(|(index, amount)| Some((index, amount, self.kind(amount)?)));
        let fates = kinds.map(|(index, amount, kind)| fate(ledger, (commitment, index), amount, kind, alices));
        let mut fates: Vec<Fate> = fates.collect();
        fates.sort_by_key(|fate| (fate.kind, fate.amount));
        fates
    }

    fn kind(&self, amount: i64) -> Option<Kind> {
        let among = |payments: &[(u8, i64)]| payments.iter().any(|(_, one)| *one == amount);
        match amount {
            ANCHOR => None,
            amount if amount == self.to_local => Some(Kind::ToLocal),
            _ if among(&ALICES) => Some(Kind::AlicesHtlc),
            _ if among(&BOBS) => Some(Kind::BobsHtlc),
            _ => Some(Kind::ToRemote),
        }
    }

    /// Has Bob mine for himself until his transactions have moved every HTLC of this kind on.
    pub(super) async fn mine_until_moved(
        &self,
        bob: &DaemonProcess,
        before: u32,
        channel_point: &str,
        kind: Kind,
    ) -> Result<(), ClusterError> {
        loop {
            let ledger = Ledger::since(bob, before).await?;
            let fates = self.fates(&ledger, ledger.spender(channel_point).unwrap_or_default(), &BTreeSet::new());
            let mut htlcs = fates.iter().filter(|fate| fate.kind == kind).peekable();
            if htlcs.peek().is_some() && htlcs.all(|fate| fate.stage.is_some()) {
                return Ok(());
            }
            wait_until("an HTLC transaction of Bob's", || async { Ok(!bob.waiting_txids().await?.is_empty()) }).await?;
            bob.mine_alone(1).await?;
        }
    }
}

fn fate(ledger: &Ledger, outpoint: (&str, usize), amount: i64, kind: Kind, alices: &BTreeSet<String>) -> Fate {
    let end = |(txid, index): (&str, usize)| match ledger.spending_input(&format!("{txid}:{index}")) {
        None => (Taken::Unspent, None),
        Some((spender, _)) if alices.contains(spender) => (Taken::For(spender.to_owned()), None),
        Some((spender, input)) => (Taken::Against(spender.to_owned()), Some((spender, input))),
    };
    let (taken, against) = end(outpoint);
    match (kind, against) {
        // BOLT 3: the signature covers the output of the same index.
        (Kind::AlicesHtlc | Kind::BobsHtlc, Some(stage)) => {
            let (txid, index) = stage;
            let made = ledger.outputs(txid).get(index).copied().unwrap_or_default();
            let stage_tx = Stage { txid: txid.to_owned(), amount: made };
            Fate { kind, amount, stage: Some(stage_tx), taken: end(stage).0 }
        }
        (_, _) => Fate { kind, amount, stage: None, taken },
    }
}

impl Fate {
    pub(super) fn is_alices(&self) -> bool {
        matches!(self.taken, Taken::For(_))
    }

    /// What there is to take.
    pub(super) fn worth(&self) -> i64 {
        self.stage.as_ref().map_or(self.amount, |stage| stage.amount)
    }

    /// What the Lightning paper calls the transaction that takes it for Alice, and what that takes.
    pub(super) fn penalty(&self) -> (&'static str, &'static str) {
        match (self.kind, &self.stage) {
            (Kind::ToLocal, _) => ("BR", "to_local"),
            (Kind::ToRemote, _) => ("D", "to_remote"),
            (Kind::AlicesHtlc, None) => ("HBR", "Alice's HTLC"),
            (Kind::BobsHtlc, None) => ("HBR", "Bob's HTLC"),
            (Kind::AlicesHtlc, Some(_)) => ("HTBR", "what his HTLC-success made"),
            (Kind::BobsHtlc, Some(_)) => ("HTBR", "what his HTLC-timeout made"),
        }
    }
}

/// The transactions with which the tower took something.
pub(super) fn claimed(penalty: &TowerPenalty) -> BTreeSet<String> {
    let claimed = penalty.claims.iter().filter(|claim| claim.state() == State::Claimed);
    claimed.map(|claim| claim.txid.clone()).collect()
}
