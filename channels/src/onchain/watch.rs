//! Which outputs of channels are watched, and what their owners know of each: of a channel in use its funding output, of one
//! that is closed all that concerns us.
//!
//! ```text
//!   the chain says            the owner was told           so it is told
//!   spent, here               nothing, or in the mempool   Spent, here
//!   spent elsewhere, or not   spent in this block          Reorganized to below it, then every spend above again
//! ```
//!
//! Promises: news come in the chain's order, and what a block changed ends with its tip. A watch looks at the state of
//! the chain, so a missed notice, a restart and a reorganisation need no care of their own; blocks and transactions only
//! say where to look.

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry};

use bitcoin::{OutPoint, Transaction, Txid};

use super::Event;
use crate::types::{ChannelId, Height};

/// The watched outputs of all channels. `O` is how a driver reaches the owner of a channel.
pub struct WatchedOutputs<O> {
    channels: BTreeMap<ChannelId, Watched<O>>,
    owners: HashMap<OutPoint, ChannelId>,
}

struct Watched<O> {
    owner: O,
    /// The channel closes, if only by a commitment that no mempool has: it hears of every tip.
    closing: bool,
    known: BTreeMap<OutPoint, Option<KnownSpend>>,
    /// Those that have not been looked at yet.
    new: BTreeSet<OutPoint>,
}

/// A spend as the owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSpend {
    /// The spending transaction.
    pub txid: Txid,
    /// `None` in the mempool.
    pub height: Option<Height>,
}

/// A spend as the chain has it.
#[derive(Clone, Debug)]
pub struct FoundSpend {
    /// The spending transaction.
    pub transaction: Transaction,
    /// The block and the place in it; `None` in the mempool.
    pub place: Option<(Height, u32)>,
}

impl FoundSpend {
    fn known(&self) -> KnownSpend {
        KnownSpend { txid: self.transaction.compute_txid(), height: self.place.map(|(height, _)| height) }
    }
}

/// What a look at some outputs of a channel showed.
pub enum SpendUpdate {
    /// A spend has left its block: all outputs of the channel have to be looked at.
    LookAtAll,
    /// To be told in this order; may be nothing.
    Events(Vec<Event>),
}

impl<O> Default for WatchedOutputs<O> {
    fn default() -> Self {
        Self { channels: BTreeMap::new(), owners: HashMap::new() }
    }
}

impl<O: Clone> WatchedOutputs<O> {
    /// Watches an output, of which the owner knows `known`, of a channel that is in use, or is closing.
    pub fn watch(
        &mut self,
        channel: ChannelId,
        owner: &O,
        outpoint: OutPoint,
        known: Option<KnownSpend>,
        closing: bool,
    ) {
        let watched = self.channels.entry(channel).or_insert_with(|| Watched {
            owner: owner.clone(),
            closing,
            known: BTreeMap::new(),
            new: BTreeSet::new(),
        });
        watched.closing |= closing;
        if let Entry::Vacant(entry) = watched.known.entry(outpoint) {
            entry.insert(known);
            watched.new.insert(outpoint);
        }
        self.owners.insert(outpoint, channel);
    }

    /// Watches no output of this channel any more.
    pub fn forget(&mut self, channel: &ChannelId) {
        self.channels.remove(channel);
        self.owners.retain(|_, owner| owner != channel);
    }

    /// The channels of whose outputs nothing is spent, as far as the last looks showed, with their owners: nothing has closed
    /// them, in a block or in the mempool.
    pub fn open(&self) -> impl Iterator<Item = (ChannelId, &O)> {
        let open =
            self.channels.iter().filter(|(_, one)| one.new.is_empty() && one.known.values().all(Option::is_none));
        open.map(|(channel, one)| (*channel, &one.owner))
    }

    /// The channels in use whose funding outputs are not known to be spent: a spend is news for them before the tip, and a
    /// tip is none.
    pub fn in_use(&self) -> Vec<ChannelId> {
        let in_use = |one: &&Watched<O>| !one.closing && one.known.values().all(Option::is_none);
        self.channels.iter().filter(|(_, one)| in_use(one)).map(|(channel, _)| *channel).collect()
    }

    /// The channels with watched outputs.
    pub fn channels(&self) -> Vec<ChannelId> {
        self.channels.keys().copied().collect()
    }

    /// The watched outputs of a channel.
    pub fn of(&self, channel: &ChannelId) -> Vec<OutPoint> {
        self.channels.get(channel).map(|watched| watched.known.keys().copied().collect()).unwrap_or_default()
    }

    /// These outputs of a channel, and those that have not been looked at yet.
    pub fn and_new(&self, channel: &ChannelId, mut some: BTreeSet<OutPoint>) -> Vec<OutPoint> {
        some.extend(self.channels.get(channel).into_iter().flat_map(|watched| &watched.new));
        some.into_iter().collect()
    }

    /// Whether all of these are watched, and were looked at since.
    pub fn have_looked_at(&self, channel: &ChannelId, outpoints: impl IntoIterator<Item = OutPoint>) -> bool {
        let Some(watched) = self.channels.get(channel) else { return false };
        outpoints.into_iter().all(|one| watched.known.contains_key(&one) && !watched.new.contains(&one))
    }

    /// Adds the watched outputs that these transactions spend.
    pub fn spent_by<'a>(
        &self,
        transactions: impl IntoIterator<Item = &'a Transaction>,
        spent: &mut BTreeMap<ChannelId, BTreeSet<OutPoint>>,
    ) {
        if self.owners.is_empty() {
            return;
        }
        for input in transactions.into_iter().flat_map(|transaction| &transaction.input) {
            if let Some(channel) = self.owners.get(&input.previous_output) {
                spent.entry(*channel).or_default().insert(input.previous_output);
            }
        }
    }

    /// Compares what was found with what the owner knows, and takes note that it knows it now.
    pub fn update(&mut self, channel: &ChannelId, found: Vec<(OutPoint, Option<FoundSpend>)>) -> SpendUpdate {
        let Some(watched) = self.channels.get_mut(channel) else { return SpendUpdate::Events(Vec::new()) };
        let whole = found.len() == watched.known.len();
        let lost = found.iter().filter_map(|(outpoint, found)| {
            let known = watched.known.get(outpoint).copied().flatten()?;
            let stays = found.as_ref().map(FoundSpend::known) == Some(known);
            known.height.filter(|_| !stays)
        });
        let mut events = Vec::new();
        if let Some(lowest) = lost.min() {
            if !whole {
                return SpendUpdate::LookAtAll;
            }
            let to = Height(lowest.0.saturating_sub(1));
            events.push(Event::Reorganized { to });
            for known in watched.known.values_mut() {
                if known.is_some_and(|known| known.height.is_some_and(|height| height > to)) {
                    *known = None;
                }
            }
        }
        let mut spends: BTreeMap<(Option<Height>, u32, Txid), Transaction> = BTreeMap::new();
        for (outpoint, found) in found {
            let new = found.as_ref().map(FoundSpend::known);
            let Some(known) = watched.known.get_mut(&outpoint) else { continue };
            watched.new.remove(&outpoint);
            if *known == new {
                continue;
            }
            *known = new;
            if let Some(FoundSpend { transaction, place }) = found {
                let key = (place.map(|(height, _)| height), place.map_or(0, |(_, index)| index));
                spends.insert((key.0, key.1, transaction.compute_txid()), transaction);
            }
        }
        // `None` sorts before any block; the mempool comes last.
        let (in_mempool, in_blocks): (Vec<_>, Vec<_>) =
            spends.into_iter().partition(|((height, ..), _)| height.is_none());
        let spent = |((height, ..), tx): ((Option<Height>, u32, Txid), Transaction)| Event::Spent { tx, height };
        events.extend(in_blocks.into_iter().map(spent));
        if !events.is_empty() {
            events.push(Event::Tip);
        }
        events.extend(in_mempool.into_iter().map(spent));
        SpendUpdate::Events(events)
    }

    /// Who has to hear of a channel.
    pub fn owner(&self, channel: &ChannelId) -> Option<&O> {
        self.channels.get(channel).map(|watched| &watched.owner)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{ScriptBuf, Sequence, TxIn, Witness, absolute::LockTime, hashes::Hash as _, transaction::Version};

    use super::*;

    const CHANNEL: ChannelId = ChannelId([7; 32]);

    fn outpoint(number: u8) -> OutPoint {
        OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 0 }
    }

    fn spend(number: u8, place: Option<(u32, u32)>) -> (OutPoint, Option<FoundSpend>) {
        let input = TxIn {
            previous_output: outpoint(number),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let transaction =
            Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: Vec::new() };
        (
            outpoint(number),
            Some(FoundSpend { transaction, place: place.map(|(height, index)| (Height(height), index)) }),
        )
    }

    fn outputs(count: u8) -> WatchedOutputs<()> {
        let mut outputs = WatchedOutputs::default();
        for number in 1..=count {
            outputs.watch(CHANNEL, &(), outpoint(number), None, true);
        }
        outputs
    }

    fn events_of(outputs: &mut WatchedOutputs<()>, found: Vec<(OutPoint, Option<FoundSpend>)>) -> Vec<String> {
        let SpendUpdate::Events(events) = outputs.update(&CHANNEL, found) else { return vec!["all".into()] };
        let name = |event| match event {
            Event::Spent { tx, height } => {
                let number = tx.input[0].previous_output.txid.to_byte_array()[0];
                format!("{number}@{}", height.map_or("pool".into(), |height| height.0.to_string()))
            }
            Event::Reorganized { to } => format!("back to {}", to.0),
            Event::Tip => "tip".into(),
            other => format!("{other:?}"),
        };
        events.into_iter().map(name).collect()
    }

    #[test]
    fn spends_are_told_once_in_the_chains_order() {
        let mut outputs = outputs(3);
        let found = vec![spend(1, None), spend(2, Some((9, 4))), spend(3, Some((9, 1)))];
        assert_eq!(events_of(&mut outputs, found.clone()), ["3@9", "2@9", "tip", "1@pool"]);
        assert!(events_of(&mut outputs, found).is_empty());
        assert_eq!(events_of(&mut outputs, vec![spend(1, Some((10, 1)))]), ["1@10", "tip"]);
    }

    #[test]
    fn a_channel_is_in_use_until_its_funding_output_is_spent_or_it_wants_it_spent() {
        let mut outputs = WatchedOutputs::default();
        outputs.watch(CHANNEL, &(), outpoint(1), None, false);
        assert_eq!(outputs.in_use(), [CHANNEL]);
        // Its own commitment is on its way, and no mempool takes it.
        outputs.watch(CHANNEL, &(), outpoint(1), None, true);
        assert!(outputs.in_use().is_empty());
        outputs.forget(&CHANNEL);
        outputs.watch(CHANNEL, &(), outpoint(1), None, false);
        events_of(&mut outputs, vec![spend(1, None)]);
        assert!(outputs.in_use().is_empty());
    }

    #[test]
    fn a_new_output_is_looked_at_along_with_the_next_ones() {
        let mut outputs = outputs(2);
        let both = [outpoint(1), outpoint(2)];
        events_of(&mut outputs, vec![spend(1, Some((9, 1)))]);
        assert!(outputs.have_looked_at(&CHANNEL, [outpoint(1)]) && !outputs.have_looked_at(&CHANNEL, both));
        assert!(!outputs.have_looked_at(&CHANNEL, [outpoint(3)]));
        assert_eq!(outputs.and_new(&CHANNEL, BTreeSet::new()), [outpoint(2)]);
        events_of(&mut outputs, vec![(outpoint(2), None)]);
        assert!(outputs.have_looked_at(&CHANNEL, both) && outputs.and_new(&CHANNEL, BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_lost_spend_takes_all_above_it_back_and_tells_what_remains() {
        let mut outputs = outputs(3);
        let before = vec![spend(1, Some((5, 1))), spend(2, Some((7, 1))), spend(3, Some((8, 1)))];
        events_of(&mut outputs, before);
        assert_eq!(events_of(&mut outputs, vec![(outpoint(2), None)]), ["all"]);
        let after = vec![spend(1, Some((5, 1))), (outpoint(2), None), spend(3, Some((8, 1)))];
        assert_eq!(events_of(&mut outputs, after), ["back to 6", "3@8", "tip"]);
    }

    #[test]
    fn what_an_owner_knows_from_before_a_restart_is_compared_too() {
        let mut outputs = WatchedOutputs::default();
        let (point, found) = spend(1, Some((5, 1)));
        outputs.watch(CHANNEL, &(), point, found.map(|found| found.known()), true);
        assert_eq!(events_of(&mut outputs, vec![spend(1, Some((6, 1)))]), ["back to 4", "1@6", "tip"]);
        outputs.forget(&CHANNEL);
        assert!(outputs.channels().is_empty() && outputs.of(&CHANNEL).is_empty());
    }
}
