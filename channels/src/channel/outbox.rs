//! The commit gate: what must be durable, and what may happen only then.
//!
//! ```text
//!   Channel::handle ──► Outbox { writes, effects }      both out of reach
//!                          │
//!         many outboxes ───┤
//!                          ▼
//!   Outbox::commit_all(batch, store) ── one commit of every write ──► the effects, an outbox each, in order
//! ```
//!
//! Promises: an effect that leaves the node is reached through [`Outbox::commit_all`] alone, and that returns effects only
//! after the store has said that every write of the batch is durable. Of several writes to one key only the last is
//! handed over. A batch without writes does not touch the store.
//!
//! What stays inside the node may be decided earlier ([`Outbox::take_inner`]): another state machine hears of it, and its
//! outbox is handed to the same store behind this one. A store that makes what it is given durable in that order, and
//! never a later outbox without an earlier one, keeps the promise: whatever leaves the node in the end waits for all that
//! led to it.
//!
//! The effects of an outbox that was not committed cannot be had:
//!
//! ```compile_fail,E0616
//! fn skip_the_commit(outbox: leyden_channels::channel::Outbox) -> Vec<leyden_channels::channel::Effect> {
//!     outbox.effects // private
//! }
//! ```
//!
//! ```compile_fail,E0451
//! fn take_it_apart(outbox: leyden_channels::channel::Outbox) {
//!     let leyden_channels::channel::Outbox { effects, .. } = outbox; // private
//! }
//! ```
//!
//! ```compile_fail,E0599
//! fn iterate(outbox: leyden_channels::channel::Outbox) {
//!     outbox.into_iter(); // no such method, nor any other that gives an effect away
//! }
//! ```

use std::collections::HashSet;
use std::hash::Hash;

use super::effect::Effect;
use super::key::Key;

/// One change to the durable store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Write<K = Key> {
    /// Set the value, whatever was there.
    Put { key: K, value: Vec<u8> },
    /// Remove the value, if there is one.
    Delete { key: K },
}

impl<K> Write<K> {
    /// What is written.
    pub fn key(&self) -> &K {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Where a state machine becomes durable. A driver implements it over its database, a test over a map.
pub trait Persist<K = Key> {
    /// Why a commit fails; nothing of the batch is durable then.
    type Error;

    /// Makes all of `writes` durable, all or nothing, and returns only then. Every key occurs once. After an error the
    /// process must stop: what the channels in memory believe is no longer what a restart would find.
    fn commit(&mut self, writes: Vec<Write<K>>) -> Result<(), Self::Error>;
}

/// Tells which effects stay inside the node.
pub trait Inner {
    /// Whether nothing but another state machine of this node, with an outbox of its own, hears of it: no peer, no user, no
    /// chain, no file.
    fn is_inner(&self) -> bool;
}

/// What one event led to: writes that must be durable and effects that must wait for them.
///
/// `E` is what the state machine that filled it asks for, `K` how it names what it keeps.
#[derive(Debug)]
#[must_use = "an outbox that is dropped loses writes and messages; hand it to Outbox::commit_all"]
pub struct Outbox<E = Effect, K = Key> {
    writes: Vec<Write<K>>,
    effects: Vec<E>,
}

impl<E, K> Default for Outbox<E, K> {
    fn default() -> Self {
        Self { writes: Vec::new(), effects: Vec::new() }
    }
}

impl<E, K: Copy + Eq + Hash> Outbox<E, K> {
    /// Makes everything in `batch` durable in one commit, then gives each outbox's effects, in the batch's order.
    pub fn commit_all<S: Persist<K>>(batch: Vec<Self>, store: &mut S) -> Result<Vec<Vec<E>>, S::Error> {
        let mut writes = Vec::new();
        let mut effects = Vec::with_capacity(batch.len());
        for outbox in batch {
            writes.extend(outbox.writes);
            effects.push(outbox.effects);
        }
        if !writes.is_empty() {
            store.commit(last_of_each_key(writes))?;
        }
        Ok(effects)
    }
}

impl<E, K> Outbox<E, K> {
    /// Whether anything here must be durable before the effects.
    pub fn needs_commit(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Whether there is nothing to write and nothing to do.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.effects.is_empty()
    }

    /// Takes out the effects that stay inside the node, in their order. They may be carried out once this outbox is handed
    /// to a store that keeps the order of what it is given.
    pub fn take_inner(&mut self) -> Vec<E>
    where
        E: Inner,
    {
        self.effects.extract_if(.., |effect| effect.is_inner()).collect()
    }

    /// Puts a note on each effect, such as whose it is.
    pub fn tag<T: Clone>(self, tag: &T) -> Outbox<(T, E), K> {
        let effects = self.effects.into_iter().map(|effect| (tag.clone(), effect)).collect();
        Outbox { writes: self.writes, effects }
    }

    /// Puts the effects into a driver's own type, so that outboxes of several state machines share a commit. The conversion runs before the commit, so it takes no closure that could carry an effect away.
    pub fn convert<F: From<E>>(self) -> Outbox<F, K> {
        Outbox { writes: self.writes, effects: self.effects.into_iter().map(F::from).collect() }
    }

    /// Names its writes by a driver's own keys, so that outboxes of state machines with keys of their own share a commit.
    pub fn with_keys<L: From<K>>(self) -> Outbox<E, L> {
        let write = |write| match write {
            Write::Put { key, value } => Write::Put { key: L::from(key), value },
            Write::Delete { key } => Write::Delete { key: L::from(key) },
        };
        Outbox { writes: self.writes.into_iter().map(write).collect(), effects: self.effects }
    }

    /// For the state machine that fills it.
    pub fn put(&mut self, key: K, value: Vec<u8>) {
        self.writes.push(Write::Put { key, value });
    }

    /// For the state machine that fills it.
    pub fn delete(&mut self, key: K) {
        self.writes.push(Write::Delete { key });
    }

    /// For the state machine that fills it.
    pub fn emit(&mut self, effect: E) {
        self.effects.push(effect);
    }
}

/// Several events of one batch may have written one key: the last value is the one to keep.
fn last_of_each_key<K: Copy + Eq + Hash>(mut writes: Vec<Write<K>>) -> Vec<Write<K>> {
    if writes.len() > 1 {
        let mut seen = HashSet::with_capacity(writes.len());
        writes.reverse();
        writes.retain(|write| seen.insert(*write.key()));
        writes.reverse();
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ChannelId;

    #[derive(Default)]
    struct Store {
        commits: Vec<Vec<Write>>,
        broken: bool,
    }

    impl Persist for Store {
        type Error = &'static str;

        fn commit(&mut self, writes: Vec<Write>) -> Result<(), Self::Error> {
            if self.broken {
                return Err("disk full");
            }
            self.commits.push(writes);
            Ok(())
        }
    }

    fn outbox(value: u8) -> Outbox {
        let mut outbox = Outbox::<Effect>::default();
        outbox.put(Key::State(ChannelId([1; 32])), vec![value]);
        outbox.emit(Effect::Disconnect);
        outbox
    }

    #[test]
    fn a_batch_is_one_commit_with_the_last_value_of_each_key() {
        let mut store = Store::default();
        let effects = Outbox::commit_all(vec![outbox(1), Outbox::default(), outbox(2)], &mut store).unwrap();
        assert_eq!(effects.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 1]);
        let key = Key::State(ChannelId([1; 32]));
        assert_eq!(store.commits, [vec![Write::Put { key, value: vec![2] }]]);
    }

    #[test]
    fn effects_without_writes_do_not_wait_for_the_disk() {
        let mut store = Store { broken: true, ..Store::default() };
        let mut outbox = Outbox::<Effect>::default();
        outbox.emit(Effect::Disconnect);
        assert!(!outbox.needs_commit());
        assert_eq!(Outbox::commit_all(vec![outbox], &mut store).unwrap().len(), 1);
    }

    impl Inner for Effect {
        fn is_inner(&self) -> bool {
            matches!(self, Self::Forget)
        }
    }

    #[test]
    fn what_stays_inside_is_taken_out_before_the_commit_and_nothing_else() {
        let mut outbox = outbox(1);
        outbox.emit(Effect::Forget);
        outbox.emit(Effect::Disconnect);
        assert!(matches!(outbox.take_inner()[..], [Effect::Forget]));
        assert!(outbox.take_inner().is_empty());
        let effects = Outbox::commit_all(vec![outbox], &mut Store::default()).unwrap();
        assert!(matches!(effects[0][..], [Effect::Disconnect, Effect::Disconnect]));
    }

    #[test]
    fn a_failed_commit_releases_nothing() {
        let mut store = Store { broken: true, ..Store::default() };
        assert_eq!(Outbox::commit_all(vec![outbox(1)], &mut store).unwrap_err(), "disk full");
    }
}
