//! Openings whose funding transaction the user makes, as a PSBT.
//!
//! ```text
//!   proposed ──accept_channel──► awaited ──verify──► verified ──finalize──► funded ──funding_signed──► signed
//!                                   │                               └─► held ─┘
//!                                   └───────── verify, skip_finalize ─► funded
//!   from any of them but the last: ended (cancelled, the peer's refusal, a lost connection, too late)
//! ```
//!
//! One transaction may fund several channels. What it pays to a channel that has no commitment yet would be lost, so:
//! of all its channels that are to publish it only the one that is finalized last does, and that one is held back, before
//! `funding_created`, until the others are durable. If one of them ends, the transaction is published by nobody here.
//!
//! All of it is in memory: after a restart, channels that were not signed are gone, and nothing of theirs was published.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bitcoin::{Psbt, Transaction, TxOut, Txid};
use leyden_channels::{channel::Publisher, types::ChannelId};
use secp256k1::PublicKey;
use tokio::time::Instant;

use super::{peer::Command, peers::Peers};
use crate::wallet::funding_psbt::{FundingDraft, FundingPsbtError};

/// For how long the user may take to fund a channel: peers give up after as long (LND's number).
pub(crate) const FUNDING_TIME: Duration = Duration::from_secs(10 * 60);
/// For how long one that has ended is remembered: as long as another one of the same transaction may be under way.
const REMEMBERED: Duration = Duration::from_secs(2 * 10 * 60);

/// Why a step is refused. The texts begin with LND's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FundingStepError {
    #[error(
        "no funding intent found for pendingChannelID({0}): it was never begun, has been cancelled, took too long, or the \
         daemon was restarted; open the channel again"
    )]
    Unknown(ChannelId),
    #[error("duplicate pending channel ID: already has intent registered: {0}; take 32 random bytes for each channel")]
    Duplicate(ChannelId),
    #[error(
        "cannot set skip_finalize for channel that did not set no_publish: open it with no_publish, or finalize it"
    )]
    SkipsAndPublishes,
    #[error("{step}invalid state. got {got} expected {expected}")]
    State { step: &'static str, got: &'static str, expected: &'static str },
    #[error("error verifying PSBT: {0}")]
    Verify(FundingPsbtError),
    #[error("error finalizing PSBT: {0}")]
    Finalize(FundingPsbtError),
    #[error(
        "the transaction also pays the output of pending channel {channel}, which has no commitment ({reason}): what it pays \
         there would be lost. Do not broadcast it; open the channels again"
    )]
    OtherEnded { channel: ChannelId, reason: String },
    #[error("the transaction pays the output of channel {channel}, which was funded by another transaction, {txid}")]
    OtherTransaction { channel: ChannelId, txid: Txid },
}

/// A signed funding transaction, as it is given.
pub(crate) enum SignedFunding {
    Psbt(Box<Psbt>),
    Raw(Transaction),
}

/// All openings that the user funds; shared by all tasks.
pub(crate) struct PsbtFundings {
    peers: Peers,
    entries: Mutex<HashMap<ChannelId, Entry>>,
}

struct Entry {
    peer: PublicKey,
    /// Whether the user wants the transaction published here.
    publishes: bool,
    begun: Instant,
    /// What the transaction must pay, once the peer has accepted.
    output: Option<TxOut>,
    stage: Stage,
}

enum Stage {
    Proposed,
    Awaited,
    Verified(Box<FundingDraft>),
    /// Finalized, and other channels of the same transaction are not signed yet.
    Held(Box<Transaction>),
    /// The channel has it.
    Funded {
        txid: Txid,
        publisher: Publisher,
    },
    Signed(Txid),
    Ended(String),
}

impl Stage {
    /// LND's name for it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Proposed => "shim_registered",
            Self::Awaited => "output_known",
            Self::Verified(_) => "verified",
            Self::Held(_) => "finalized",
            Self::Funded { .. } | Self::Signed(_) => "funding_tx_compiled",
            Self::Ended(_) => "user_canceled",
        }
    }

    /// Whether the user still has to do something.
    const fn waits_for_user(&self) -> bool {
        match self {
            Self::Proposed | Self::Awaited | Self::Verified(_) => true,
            Self::Held(_) | Self::Funded { .. } | Self::Signed(_) | Self::Ended(_) => false,
        }
    }
}

/// What a peer's task is told once the lock is free.
type Orders = Vec<(PublicKey, Command)>;

type Entries = HashMap<ChannelId, Entry>;

impl PsbtFundings {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, orders: Orders) {
        for (peer, command) in orders {
            // A task that has ended has ended its openings.
            self.peers.to_peer(&peer, command);
        }
    }

    /// An opening begins.
    pub(crate) fn begin(&self, id: ChannelId, peer: PublicKey, publishes: bool) -> Result<(), FundingStepError> {
        let mut entries = self.lock();
        let now = Instant::now();
        entries.retain(|_, entry| now.duration_since(entry.begun) < REMEMBERED);
        // Of one that ended before its peer had accepted, nobody has an output to pay.
        let is_free = |entry: &Entry| matches!(entry.stage, Stage::Ended(_)) && entry.output.is_none();
        if entries.get(&id).is_some_and(|entry| !is_free(entry)) {
            return Err(FundingStepError::Duplicate(id));
        }
        entries.insert(id, Entry { peer, publishes, begun: now, output: None, stage: Stage::Proposed });
        Ok(())
    }

    /// The peer has accepted: this is what the transaction must pay.
    pub(crate) fn output_known(&self, id: &ChannelId, output: TxOut) {
        if let Some(entry) = self.lock().get_mut(id)
            && matches!(entry.stage, Stage::Proposed)
        {
            entry.output = Some(output);
            entry.stage = Stage::Awaited;
        }
    }

    /// The user shows the transaction.
    pub(crate) fn verify(&self, id: &ChannelId, psbt: &Psbt, skip_finalize: bool) -> Result<(), FundingStepError> {
        let mut entries = self.lock();
        let entry = known(&entries, id)?;
        if skip_finalize && entry.publishes {
            return Err(FundingStepError::SkipsAndPublishes);
        }
        let output = entry.output.as_ref().filter(|_| matches!(entry.stage, Stage::Awaited));
        let output = output.ok_or_else(|| {
            let (step, got) = ("error verifying PSBT: ", entry.stage.name());
            FundingStepError::State { step, got, expected: Stage::Awaited.name() }
        })?;
        let draft = FundingDraft::verify(psbt, output).map_err(FundingStepError::Verify)?;
        check_others(&entries, id, draft.transaction())?;
        if !skip_finalize {
            if let Some(entry) = entries.get_mut(id) {
                entry.stage = Stage::Verified(Box::new(draft));
            }
            return Ok(());
        }
        let order = fund(&mut entries, id, draft.transaction().clone(), Publisher::Maker);
        drop(entries);
        self.send(order.into_iter().collect());
        Ok(())
    }

    /// The signed transaction, and whether it is to be published here; nothing has changed yet.
    pub(crate) fn check_signed(
        &self,
        id: &ChannelId,
        signed: SignedFunding,
    ) -> Result<(Transaction, bool), FundingStepError> {
        let entries = self.lock();
        let entry = known(&entries, id)?;
        let Stage::Verified(draft) = &entry.stage else {
            let (step, got) = ("error finalizing PSBT: ", entry.stage.name());
            return Err(FundingStepError::State { step, got, expected: "verified" });
        };
        let transaction = match signed {
            SignedFunding::Psbt(psbt) => draft.finalize(*psbt),
            SignedFunding::Raw(transaction) => draft.finalize_raw(transaction),
        };
        let transaction = transaction.map_err(FundingStepError::Finalize)?;
        check_others(&entries, id, &transaction)?;
        Ok((transaction, entry.publishes))
    }

    /// The channel is funded by what [`Self::check_signed`] has given.
    pub(crate) fn finalize(&self, id: &ChannelId, transaction: Transaction) -> Result<(), FundingStepError> {
        let mut entries = self.lock();
        let entry = known(&entries, id)?;
        let is_meant = matches!(&entry.stage, Stage::Verified(draft)
            if draft.transaction().compute_txid() == transaction.compute_txid());
        if !is_meant {
            let (step, got) = ("error finalizing PSBT: ", entry.stage.name());
            return Err(FundingStepError::State { step, got, expected: "verified" });
        }
        check_others(&entries, id, &transaction)?;
        let publishes_later = others(&entries, id, &transaction)
            .any(|(_, other)| other.publishes && matches!(other.stage, Stage::Awaited | Stage::Verified(_)));
        let publisher = if entry.publishes && !publishes_later { Publisher::Channel } else { Publisher::Maker };
        let order = match publisher {
            Publisher::Channel if !all_signed(&entries, id, &transaction) => {
                if let Some(entry) = entries.get_mut(id) {
                    entry.stage = Stage::Held(Box::new(transaction));
                }
                None
            }
            Publisher::Channel | Publisher::Maker => fund(&mut entries, id, transaction, publisher),
        };
        drop(entries);
        self.send(order.into_iter().collect());
        Ok(())
    }

    /// Funds several openings, which all wait for it, by a transaction that the last one publishes.
    pub(crate) fn fund_all(&self, ids: &[ChannelId], transaction: &Transaction) -> Result<(), FundingStepError> {
        let mut entries = self.lock();
        for id in ids {
            let entry = known(&entries, id)?;
            if !matches!(entry.stage, Stage::Awaited) {
                let got = entry.stage.name();
                return Err(FundingStepError::State { step: "", got, expected: Stage::Awaited.name() });
            }
            check_others(&entries, id, transaction)?;
        }
        let mut orders = Orders::new();
        if let Some((last, first)) = ids.split_last() {
            for id in first {
                orders.extend(fund(&mut entries, id, transaction.clone(), Publisher::Maker));
            }
            if first.is_empty() {
                orders.extend(fund(&mut entries, last, transaction.clone(), Publisher::Channel));
            } else if let Some(entry) = entries.get_mut(last) {
                entry.stage = Stage::Held(Box::new(transaction.clone()));
            }
        }
        drop(entries);
        self.send(orders);
        Ok(())
    }

    /// Whether the channel is durable.
    pub(crate) fn is_signed(&self, id: &ChannelId) -> bool {
        self.lock().get(id).is_some_and(|entry| matches!(entry.stage, Stage::Signed(_)))
    }

    /// The channel is durable, under the id that it had at first; says who publishes its transaction.
    pub(crate) fn signed(&self, id: &ChannelId) -> Option<Publisher> {
        let mut entries = self.lock();
        let entry = entries.get_mut(id)?;
        let Stage::Funded { txid, publisher } = entry.stage else { return None };
        entry.stage = Stage::Signed(txid);
        let held: Vec<(ChannelId, Transaction)> = held(&entries);
        let mut orders = Orders::new();
        for (id, transaction) in held {
            if all_signed(&entries, &id, &transaction) {
                orders.extend(fund(&mut entries, &id, transaction, Publisher::Channel));
            }
        }
        drop(entries);
        self.send(orders);
        Some(publisher)
    }

    /// The opening is over without a channel. What other channels were to be funded by the same transaction, and wait for
    /// this one, end too.
    pub(crate) fn ended(&self, id: &ChannelId, reason: &str) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(id) else { return };
        if matches!(entry.stage, Stage::Signed(_) | Stage::Ended(_)) {
            return;
        }
        entry.stage = Stage::Ended(reason.to_owned());
        let mut orders = Orders::new();
        for (held, transaction) in held(&entries) {
            if let Err(error) = check_others(&entries, &held, &transaction)
                && let Some(entry) = entries.get(&held)
            {
                orders.push(cancelling(entry, held, error.to_string()));
            }
        }
        drop(entries);
        self.send(orders);
    }

    /// The user wants it no more.
    pub(crate) fn cancel(&self, id: &ChannelId, reason: &str) -> Result<(), FundingStepError> {
        let order = cancelling(known(&self.lock(), id)?, *id, reason.to_owned());
        self.send(vec![order]);
        Ok(())
    }

    /// Ends one for which the user has had his time; `false` if it needs nothing of him.
    pub(crate) fn expire(&self, id: &ChannelId, reason: &str) -> bool {
        let waits = self
            .lock()
            .get(id)
            .is_some_and(|entry| entry.stage.waits_for_user() || matches!(entry.stage, Stage::Held(_)));
        waits && self.cancel(id, reason).is_ok()
    }

    /// Whether the user has shown no transaction yet.
    pub(crate) fn awaits_transaction(&self, id: &ChannelId) -> bool {
        self.lock().get(id).is_some_and(|entry| matches!(entry.stage, Stage::Proposed | Stage::Awaited))
    }
}

/// One that can go on.
fn known<'a>(entries: &'a Entries, id: &ChannelId) -> Result<&'a Entry, FundingStepError> {
    let entry = entries.get(id).filter(|entry| !matches!(entry.stage, Stage::Ended(_) | Stage::Signed(_)));
    entry.ok_or(FundingStepError::Unknown(*id))
}

/// The other channels that a transaction pays for.
fn others<'a>(
    entries: &'a Entries,
    id: &'a ChannelId,
    transaction: &'a Transaction,
) -> impl Iterator<Item = (&'a ChannelId, &'a Entry)> {
    let is_paid = |entry: &Entry| entry.output.as_ref().is_some_and(|output| transaction.output.contains(output));
    entries.iter().filter(move |(other, entry)| *other != id && is_paid(entry))
}

/// No channel that the transaction pays for is without a commitment for good.
fn check_others(entries: &Entries, id: &ChannelId, transaction: &Transaction) -> Result<(), FundingStepError> {
    let meant = transaction.compute_txid();
    for (other, entry) in others(entries, id, transaction) {
        match &entry.stage {
            Stage::Ended(reason) => {
                return Err(FundingStepError::OtherEnded { channel: *other, reason: reason.clone() });
            }
            Stage::Funded { txid, .. } | Stage::Signed(txid) if *txid != meant => {
                return Err(FundingStepError::OtherTransaction { channel: *other, txid: *txid });
            }
            Stage::Proposed
            | Stage::Awaited
            | Stage::Verified(_)
            | Stage::Held(_)
            | Stage::Funded { .. }
            | Stage::Signed(_) => {}
        }
    }
    Ok(())
}

fn all_signed(entries: &Entries, id: &ChannelId, transaction: &Transaction) -> bool {
    let txid = transaction.compute_txid();
    others(entries, id, transaction).all(|(_, other)| matches!(&other.stage, Stage::Signed(by) if *by == txid))
}

fn held(entries: &Entries) -> Vec<(ChannelId, Transaction)> {
    let held = entries.iter().filter_map(|(id, entry)| match &entry.stage {
        Stage::Held(transaction) => Some((*id, transaction.as_ref().clone())),
        Stage::Proposed
        | Stage::Awaited
        | Stage::Verified(_)
        | Stage::Funded { .. }
        | Stage::Signed(_)
        | Stage::Ended(_) => None,
    });
    held.collect()
}

/// Gives the transaction to the channel.
fn fund(
    entries: &mut Entries,
    id: &ChannelId,
    transaction: Transaction,
    publisher: Publisher,
) -> Option<(PublicKey, Command)> {
    let entry = entries.get_mut(id)?;
    let output = transaction.output.iter().position(|output| entry.output.as_ref() == Some(output))?;
    let output = u32::try_from(output).ok()?;
    entry.stage = Stage::Funded { txid: transaction.compute_txid(), publisher };
    let transaction = Box::new(transaction);
    Some((entry.peer, Command::Fund { channel: *id, transaction, output, publisher }))
}

fn cancelling(entry: &Entry, channel: ChannelId, reason: String) -> (PublicKey, Command) {
    (entry.peer, Command::CancelOpening { channel, reason })
}

/// Kept with the opening: however that ends, the others hear of it.
pub(crate) struct PsbtFunding {
    fundings: Arc<PsbtFundings>,
    id: ChannelId,
}

impl PsbtFunding {
    /// Of an opening that [`PsbtFundings::begin`] knows.
    pub(crate) fn new(fundings: Arc<PsbtFundings>, id: ChannelId) -> Self {
        Self { fundings, id }
    }

    pub(crate) fn output_known(&self, output: TxOut) {
        self.fundings.output_known(&self.id, output);
    }

    /// The opening is over without a channel.
    pub(crate) fn ended(&self, reason: &str) {
        self.fundings.ended(&self.id, reason);
    }

    /// The channel is durable: who publishes the transaction?
    pub(crate) fn signed(self) -> Option<Publisher> {
        self.fundings.signed(&self.id)
    }
}

impl Drop for PsbtFunding {
    fn drop(&mut self) {
        self.fundings.ended(&self.id, "its opening has failed");
    }
}

#[cfg(test)]
mod tests;
