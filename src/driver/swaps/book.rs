//! What the tasks of atomic and of submarine swaps have alike: the machines by their hash, what is kept of each of them, who is
//! told, and the loop.
//!
//! ```text
//!   event ──► machine ──► commit ──► the channel backup, if something new is at stake ──► effects
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bitcoin::{ScriptBuf, constants::ChainHash};
use leyden_channels::{
    channel::Outbox,
    swap::{Key, Leg, LegState, Outcome, RestoreError, Role, Swap, submarine, submarine::Submarine},
    types::{PaymentHash, PaymentPreimage},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use super::{
    LOOK, LegError, MAX_FOLLOWED, MAX_OPEN, REPEAT, SwapInfo, SwapLeg, SwapRefused, Trouble, leg::lowest_needed,
};
use crate::{
    driver::services::Services,
    store::{CoreKey, SUBMARINE, SWAP, StoreError},
    wallet::backup::SwapBackup,
};

/// A kind of swap.
pub(super) trait Machine: Clone + Debug + Send + Sync + 'static {
    /// The first byte of its rows.
    const PREFIX: u8;
    type Effect: Send + 'static;
    type Phase: Copy + Debug + PartialEq + Send + Sync;

    fn restore(row: &[u8]) -> Result<Self, RestoreError>;
    fn recover(row: &[u8]) -> Result<(Self, Outbox<Self::Effect, Key>), RestoreError>;
    fn key(&self) -> Key;
    fn id(&self) -> PaymentHash;
    fn role(&self) -> Role;
    fn row(&self) -> Vec<u8>;
    fn phase(&self) -> Self::Phase;
    fn outcome(&self) -> Option<Outcome>;
    fn is_followed(&self) -> bool;
    /// Both have named their keys.
    fn has_contract(&self) -> bool;
    fn shown_secret(&self) -> Option<PaymentPreimage>;
    /// What is known of each chain.
    fn legs(&self) -> Vec<(ChainHash, &LegState)>;
}

impl Machine for Swap {
    const PREFIX: u8 = SWAP;
    type Effect = leyden_channels::swap::Effect;
    type Phase = leyden_channels::swap::Phase;

    fn restore(row: &[u8]) -> Result<Self, RestoreError> {
        Self::restore(row)
    }

    fn recover(row: &[u8]) -> Result<(Self, Outbox<Self::Effect, Key>), RestoreError> {
        Self::recover(row)
    }

    fn key(&self) -> Key {
        Key::Swap(self.id())
    }

    fn id(&self) -> PaymentHash {
        self.id()
    }

    fn role(&self) -> Role {
        self.role()
    }

    fn row(&self) -> Vec<u8> {
        self.encode()
    }

    fn phase(&self) -> Self::Phase {
        self.phase()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.outcome()
    }

    fn is_followed(&self) -> bool {
        self.is_followed()
    }

    fn has_contract(&self) -> bool {
        self.acceptance().is_some()
    }

    fn shown_secret(&self) -> Option<PaymentPreimage> {
        self.shown_secret()
    }

    fn legs(&self) -> Vec<(ChainHash, &LegState)> {
        Leg::ALL.into_iter().map(|leg| (self.offer().leg(leg).chain.hash, self.leg(leg))).collect()
    }
}

impl Machine for Submarine {
    const PREFIX: u8 = SUBMARINE;
    type Effect = submarine::Effect;
    type Phase = submarine::Phase;

    fn restore(row: &[u8]) -> Result<Self, RestoreError> {
        Self::restore(row)
    }

    fn recover(row: &[u8]) -> Result<(Self, Outbox<Self::Effect, Key>), RestoreError> {
        Self::recover(row)
    }

    fn key(&self) -> Key {
        Key::Submarine(self.id())
    }

    fn id(&self) -> PaymentHash {
        self.id()
    }

    fn role(&self) -> Role {
        self.role()
    }

    fn row(&self) -> Vec<u8> {
        self.encode()
    }

    fn phase(&self) -> Self::Phase {
        self.phase()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.outcome()
    }

    fn is_followed(&self) -> bool {
        self.is_followed()
    }

    fn has_contract(&self) -> bool {
        self.acceptance().is_some()
    }

    fn shown_secret(&self) -> Option<PaymentPreimage> {
        self.shown_secret()
    }

    fn legs(&self) -> Vec<(ChainHash, &LegState)> {
        vec![(self.offer().chain.hash, self.leg())]
    }
}

/// What the channel backup has of a swap: its row, as long as something of it may be on a chain.
pub(super) fn backup<M: Machine>(swap: &M) -> Option<SwapBackup> {
    (swap.is_followed() && swap.has_contract()).then(|| SwapBackup { key: swap.key(), row: swap.row() })
}

/// The lowest block of a chain that a swap may still ask for. Nothing is known, and so every block needed, until the
/// swaps are loaded.
#[derive(Clone, Default)]
pub(super) struct Needs(Arc<AtomicU32>);

impl Needs {
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

/// The ways out of a task.
#[derive(Clone)]
pub(super) struct Ways {
    pub news: broadcast::Sender<SwapInfo>,
    pub trouble: Trouble,
    pub needs: Needs,
    /// Of the other chain.
    pub needs_of_other: Needs,
}

/// What is worth writing the channel backup for: blocks alone change nothing of it, and an older row does.
type AtStake<M> = (<M as Machine>::Phase, bool, Option<PaymentPreimage>);

/// All swaps of a kind.
pub(super) struct Book<M: Machine> {
    pub services: Arc<Services>,
    pub swaps: BTreeMap<PaymentHash, M>,
    pub ways: Ways,
    /// The phase that was told last.
    told: BTreeMap<PaymentHash, M::Phase>,
    /// What the channel backup was written for last.
    backed: BTreeMap<PaymentHash, AtStake<M>>,
    /// The script of each wallet that was taken last. Not kept: at most one is lost with each start.
    spare: BTreeMap<ChainHash, ScriptBuf>,
}

fn check_room(open: usize, followed: usize) -> Result<(), SwapRefused> {
    if open >= MAX_OPEN {
        return Err(SwapRefused::TooMany);
    }
    if followed >= MAX_FOLLOWED { Err(SwapRefused::TooManyFollowed) } else { Ok(()) }
}

/// Whether anything may come to the script of a leg: the swap is under way, or something was locked there.
fn may_be_paid<M: Machine>(swap: &M, leg: &LegState) -> bool {
    swap.outcome().is_none() || leg.funding.is_some() || leg.lock.is_some() || leg.claim.is_some()
}

/// One of the scripts to which nothing may come, by whichever swap.
fn unpaid<'a>(places: impl Iterator<Item = (&'a ScriptBuf, bool)>, spare: Option<&'a ScriptBuf>) -> Option<ScriptBuf> {
    let (mut in_use, mut left) = (BTreeSet::new(), Vec::new());
    for (script, may_be_paid) in places {
        if may_be_paid {
            in_use.insert(script);
        } else {
            left.push(script);
        }
    }
    left.into_iter().chain(spare).find(|script| !in_use.contains(script)).cloned()
}

impl<M: Machine> Book<M> {
    /// Reads the swaps back. A row that cannot be read is an error: coins may depend on it.
    pub(super) fn load(services: &Services) -> Result<BTreeMap<PaymentHash, M>, StoreError> {
        let rows = services.store.core_records(&[M::PREFIX])?;
        let restore = |(_, row): (Vec<u8>, Vec<u8>)| M::restore(&row).map(|swap| (swap.id(), swap));
        rows.into_iter()
            .map(restore)
            .collect::<Result<_, _>>()
            .map_err(|error| services.store.damaged(&error.to_string()))
    }

    pub(super) fn new(services: Arc<Services>, swaps: BTreeMap<PaymentHash, M>, ways: Ways) -> Self {
        let book =
            Self { services, swaps, ways, told: BTreeMap::new(), backed: BTreeMap::new(), spare: BTreeMap::new() };
        book.note_needs();
        book
    }

    /// Those that have to be told what happens.
    pub(super) fn followed(&self) -> Vec<PaymentHash> {
        self.swaps.values().filter(|swap| swap.is_followed()).map(M::id).collect()
    }

    pub(super) fn check_room(&self) -> Result<(), SwapRefused> {
        let open = self.swaps.values().filter(|swap| swap.outcome().is_none()).count();
        check_room(open, self.followed().len())
    }

    /// Whether an offer with this hash is new here.
    pub(super) fn check_new(&self, hash: &PaymentHash) -> Result<(), SwapRefused> {
        match self.swaps.get(hash) {
            None => Ok(()),
            Some(swap) if swap.role() == Role::Initiator => Err(SwapRefused::Own),
            Some(swap) if swap.outcome().is_some() => Err(SwapRefused::KnownEnded),
            Some(_) => Err(SwapRefused::Known),
        }
    }

    /// A script of the wallet on a chain, for what comes from a swap. One that was taken for a swap of which nothing came is taken
    /// again: a wallet that is made again from its words looks past so many addresses in a row that nobody has paid, and no
    /// further, and offers that come to nothing must not lead it astray.
    pub(super) async fn destination(&mut self, hash: ChainHash, chain: &dyn SwapLeg) -> Result<ScriptBuf, LegError> {
        let legs = || self.swaps.values().flat_map(move |swap| swap.legs().into_iter().map(move |leg| (swap, leg)));
        let places = legs().filter(|(_, (chain, _))| *chain == hash);
        let places = places.map(|(swap, (_, state))| (&state.destination, may_be_paid(swap, state)));
        // Another daemon may have got another wallet since, and whose the script is now is not known.
        let is_of_this_process = chain.keeps_blocks();
        if let Some(unpaid) = unpaid(places, self.spare.get(&hash)).filter(|_| is_of_this_process) {
            return Ok(unpaid);
        }
        let script = chain.new_script().await?;
        self.spare.insert(hash, script.clone());
        Ok(script)
    }

    /// Keeps a new swap, unless it was refused.
    pub(super) async fn begin(
        &mut self,
        made: Result<(M, Outbox<M::Effect, Key>), SwapRefused>,
    ) -> Result<Result<M, SwapRefused>, StoreError> {
        let (swap, outbox) = match made {
            Ok(made) => made,
            Err(refused) => return Ok(Err(refused)),
        };
        self.keep(swap.clone(), outbox).await?;
        Ok(Ok(swap))
    }

    /// Takes a swap back from a backup. Whether it was not here.
    pub(super) async fn recover(&mut self, row: &[u8]) -> Result<Result<bool, SwapRefused>, StoreError> {
        let (swap, outbox) = match M::recover(row) {
            Ok(recovered) => recovered,
            Err(error) => return Ok(Err(SwapRefused::Refused(error.to_string()))),
        };
        if self.swaps.contains_key(&swap.id()) {
            return Ok(Ok(false));
        }
        info!(swap = %swap.id(), "restored from a backup: it goes on");
        self.keep(swap, outbox).await?;
        Ok(Ok(true))
    }

    async fn keep(&mut self, swap: M, outbox: Outbox<M::Effect, Key>) -> Result<(), StoreError> {
        let id = swap.id();
        // It has no effects: nothing was asked of anybody.
        self.write(outbox).await?;
        self.swaps.insert(id, swap);
        self.note_needs();
        self.back_up(&id).await;
        Ok(())
    }

    /// On the disk when this returns, and in the channel backup; only then the effects are known.
    pub(super) async fn commit(
        &mut self,
        id: &PaymentHash,
        outbox: Outbox<M::Effect, Key>,
    ) -> Result<Vec<M::Effect>, StoreError> {
        let effects = self.write(outbox).await?;
        self.back_up(id).await;
        Ok(effects)
    }

    async fn write(&self, outbox: Outbox<M::Effect, Key>) -> Result<Vec<M::Effect>, StoreError> {
        let mut store = self.services.store.clone();
        let commit = move || Outbox::commit_all(vec![outbox.with_keys::<CoreKey>()], &mut store);
        let done = tokio::task::spawn_blocking(commit).await;
        let effects = done.map_err(|error| self.services.store.damaged(&error.to_string()))??;
        Ok(effects.into_iter().flatten().collect())
    }

    async fn back_up(&mut self, id: &PaymentHash) {
        let Some(swap) = self.swaps.get(id) else { return };
        let has_lock = swap.legs().iter().any(|(_, state)| state.funding.is_some());
        let at_stake = (swap.phase(), has_lock, swap.shown_secret());
        if self.backed.insert(*id, at_stake) == Some(at_stake) {
            return;
        }
        let (services, key, backup) = (Arc::clone(&self.services), swap.key(), backup(swap));
        let put = move || services.backups.put_swap(key, backup);
        if tokio::task::spawn_blocking(put).await.is_err() {
            error!(swap = %id, "the channel backup was not written");
        }
    }

    /// What the chain must not give up: after each look.
    pub(super) fn note_needs(&self) {
        let own = self.services.chain_hash();
        let followed = || self.swaps.values().filter(|swap| swap.is_followed()).flat_map(M::legs);
        let lowest = |is_own: bool| {
            let legs = followed().filter(|(chain, _)| (*chain == own) == is_own);
            legs.map(|(_, state)| lowest_needed(state)).min().unwrap_or(u32::MAX)
        };
        self.ways.needs.0.store(lowest(true), Ordering::Release);
        self.ways.needs_of_other.0.store(lowest(false), Ordering::Release);
    }

    /// Notes why a chain cannot be followed. An ended swap is followed for the sake of an older data directory alone: then
    /// nothing is known to be at stake.
    pub(super) fn note_trouble(&self, trouble: Option<String>) {
        let trouble = trouble.filter(|_| self.swaps.values().any(|swap| swap.outcome().is_none()));
        if self.ways.trouble.set(trouble.clone())
            && let Some(trouble) = trouble
        {
            warn!(%trouble, "a chain of a swap that is under way cannot be followed; it is tried until it can");
        }
    }

    /// The swap, if a person was not told of its phase yet.
    pub(super) fn is_news(&mut self, id: &PaymentHash) -> Option<&M> {
        let swap = self.swaps.get(id)?;
        let phase = swap.phase();
        if self.told.insert(*id, phase) == Some(phase) {
            return None;
        }
        info!(swap = %id, ?phase, "a swap goes on");
        Some(swap)
    }
}

/// A task's part that differs from kind to kind.
pub(super) trait Desk: Send {
    type Call: Send;

    fn answer(&mut self, call: Self::Call) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Feeds every swap what has happened; `repeats`: whatever waits is broadcast again.
    fn look(&mut self, repeats: bool) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Runs until the daemon ends. `fatal` ends it when the disk does not take what must be kept.
pub(super) async fn run<D: Desk>(
    mut desk: D,
    mut mailbox: mpsc::Receiver<D::Call>,
    fatal: mpsc::UnboundedSender<String>,
) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut repeat_at = Instant::now();
    loop {
        let done = tokio::select! {
            call = mailbox.recv() => match call {
                Some(call) => desk.answer(call).await,
                None => return,
            },
            _ = look.tick() => {
                let repeats = Instant::now() >= repeat_at;
                if repeats {
                    repeat_at = Instant::now() + REPEAT;
                }
                desk.look(repeats).await
            }
        };
        if let Err(error) = done {
            let _ = fatal.send(error.to_string());
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(byte: u8) -> ScriptBuf {
        ScriptBuf::from_bytes(vec![byte])
    }

    #[test]
    fn a_script_is_taken_again_only_if_nothing_can_come_to_it() {
        let [first, second, spare] = [1, 2, 3].map(script);
        let chosen = |places: &[(&ScriptBuf, bool)], spare: Option<&ScriptBuf>| unpaid(places.iter().copied(), spare);
        assert_eq!(chosen(&[], None), None);
        assert_eq!(chosen(&[(&first, true)], None), None);
        assert_eq!(chosen(&[(&first, true), (&second, false)], None), Some(second.clone()));
        // Two swaps have had it, and one of them goes on.
        assert_eq!(chosen(&[(&first, false), (&first, true)], None), None);
        // Of a request that was refused.
        assert_eq!(chosen(&[(&first, true)], Some(&spare)), Some(spare.clone()));
        assert_eq!(chosen(&[(&spare, true)], Some(&spare)), None);
    }

    #[test]
    fn swaps_that_were_given_up_have_no_end_of_room_either() {
        assert!(check_room(MAX_OPEN - 1, MAX_FOLLOWED - 1).is_ok());
        assert!(matches!(check_room(MAX_OPEN, MAX_OPEN), Err(SwapRefused::TooMany)));
        assert!(matches!(check_room(0, MAX_FOLLOWED), Err(SwapRefused::TooManyFollowed)));
    }
}
