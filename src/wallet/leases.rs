//! Coins that somebody else is about to spend: no payment of ours takes them until the lease ends.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bitcoin::{OutPoint, TxOut};

use super::onchain::{OnchainWallet, State};

/// Who has leased a coin, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub id: [u8; 32],
    /// Seconds since 1970, for people.
    pub until: u64,
}

/// Why a coin is not leased or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("unknown output: the wallet has no such coin; see `leyden listunspent`")]
    Unknown,
    #[error("output already locked: something else is about to spend it")]
    Locked,
    #[error("output unlock not allowed: it is leased under another id")]
    OtherId,
}

/// The leases of a wallet, by their coins.
#[derive(Debug, Default)]
pub(super) struct Leases(HashMap<OutPoint, (Lease, Instant)>);

impl Leases {
    /// Those that hold now.
    pub(super) fn coins(&self) -> impl Iterator<Item = &OutPoint> {
        let now = Instant::now();
        self.0.iter().filter(move |(_, (_, ends))| *ends > now).map(|(coin, _)| coin)
    }

    fn of(&self, coin: &OutPoint) -> Option<&Lease> {
        self.0.get(coin).filter(|(_, ends)| *ends > Instant::now()).map(|(lease, _)| lease)
    }
}

impl OnchainWallet {
    /// Keeps payments from a coin for `time`, which ends at `lease.until` by the clock on the wall.
    pub(crate) fn lease(&self, coin: OutPoint, lease: Lease, time: Duration) -> Result<(), LeaseError> {
        let mut state = self.lock();
        if state.ledger.coin(&coin).is_none() {
            return Err(LeaseError::Unknown);
        }
        let is_own = state.leases.of(&coin).is_some_and(|known| known.id == lease.id);
        if !is_own && state.reserved_coins().contains(&coin) {
            return Err(LeaseError::Locked);
        }
        state.lease_now(coin, lease, time);
        Ok(())
    }

    /// Gives a coin back; whether it was leased.
    pub(crate) fn end_lease(&self, coin: &OutPoint, id: &[u8; 32]) -> Result<bool, LeaseError> {
        let mut state = self.lock();
        match state.leases.of(coin) {
            Some(lease) if lease.id != *id => Err(LeaseError::OtherId),
            Some(_) => Ok(state.leases.0.remove(coin).is_some()),
            None => Ok(false),
        }
    }

    /// Those that hold now.
    pub(crate) fn leases(&self) -> Vec<(OutPoint, TxOut, Lease)> {
        let state = self.lock();
        let held = state
            .leases
            .coins()
            .filter_map(|coin| Some((*coin, state.ledger.coin(coin)?.output.clone(), state.leases.of(coin)?.clone())));
        let mut list: Vec<_> = held.collect();
        list.sort_unstable_by_key(|(coin, ..)| *coin);
        list
    }
}

impl State {
    /// Leases a coin of the wallet that is free, or its own already.
    pub(super) fn lease_now(&mut self, coin: OutPoint, lease: Lease, time: Duration) {
        // What is over is forgotten, so there are never more than coins.
        let now = Instant::now();
        let Self { leases, ledger, .. } = self;
        leases.0.retain(|coin, (_, ends)| *ends > now && ledger.coin(coin).is_some());
        leases.0.insert(coin, (lease, now.checked_add(time).unwrap_or(now)));
    }
}
