//! Which announced transactions to ask of whom, and when.
//!
//! A transaction is asked of one peer at a time. Peers that we chose ourselves come first; the others, and
//! announcements by txid where a wtxid is more precise, wait a little, so that nobody can keep a transaction from us by
//! being the first to announce it and never answering.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::{MAX_TX_ANNOUNCEMENTS_PER_PEER, MAX_TX_IN_FLIGHT_PER_PEER, Timing};
use crate::event::PeerId;
use crate::view::TxName;

/// An announcement by one peer.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    peer: PeerId,
    preferred: bool,
    ready_at: Duration,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    candidates: Vec<Candidate>,
    /// Who was asked, and until when an answer counts as on its way.
    asked: Option<(PeerId, Duration)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    announced: usize,
    in_flight: usize,
}

/// All announcements that were not answered yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct TxRequests {
    entries: BTreeMap<TxName, Entry>,
    loads: BTreeMap<PeerId, Load>,
    /// When to look at an entry again. May name entries that are gone or need nothing.
    agenda: BTreeSet<(Duration, TxName)>,
}

impl TxRequests {
    /// A peer has a transaction. Ignored if it announced too many already.
    pub(crate) fn announced(&mut self, peer: PeerId, name: TxName, preferred: bool, now: Duration, timing: &Timing) {
        let load = self.loads.entry(peer).or_default();
        let entry = self.entries.entry(name).or_default();
        if load.announced >= MAX_TX_ANNOUNCEMENTS_PER_PEER || entry.candidates.iter().any(|known| known.peer == peer) {
            if entry.candidates.is_empty() {
                self.entries.remove(&name);
            }
            return;
        }
        load.announced += 1;
        let patience = u32::from(!preferred) + u32::from(matches!(name, TxName::Txid(_)));
        let ready_at = now.saturating_add(timing.transaction_delay.saturating_mul(patience));
        entry.candidates.push(Candidate { peer, preferred, ready_at });
        self.agenda.insert((ready_at, name));
    }

    /// A peer is to be asked at once, without having announced the transaction: the parent of one that it sent.
    pub(crate) fn wanted(&mut self, peer: PeerId, name: TxName, now: Duration) {
        let timing = Timing { transaction_delay: Duration::ZERO, ..Timing::default() };
        self.announced(peer, name, true, now, &timing);
    }

    /// The transaction is here, or is not wanted any more.
    pub(crate) fn forget(&mut self, name: &TxName) {
        let Some(entry) = self.entries.remove(name) else { return };
        for candidate in &entry.candidates {
            if let Some(load) = self.loads.get_mut(&candidate.peer) {
                load.announced = load.announced.saturating_sub(1);
            }
        }
        self.release(entry.asked);
    }

    /// The peer does not have it after all; the next one is asked.
    pub(crate) fn not_found(&mut self, peer: PeerId, name: &TxName, now: Duration) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let before = entry.candidates.len();
        entry.candidates.retain(|candidate| candidate.peer != peer);
        let removed = before - entry.candidates.len();
        let asked = entry.asked.filter(|(asked, _)| *asked == peer);
        if asked.is_some() {
            entry.asked = None;
        }
        if entry.candidates.is_empty() {
            self.entries.remove(name);
        } else {
            self.agenda.insert((now, *name));
        }
        if let Some(load) = self.loads.get_mut(&peer) {
            load.announced = load.announced.saturating_sub(removed);
        }
        self.release(asked);
    }

    pub(crate) fn disconnected(&mut self, peer: PeerId, now: Duration) {
        if self.loads.get(&peer).is_some_and(|load| load.announced > 0) {
            let names: Vec<TxName> = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.candidates.iter().any(|candidate| candidate.peer == peer))
                .map(|(name, _)| *name)
                .collect();
            for name in names {
                self.not_found(peer, &name, now);
            }
        }
        self.loads.remove(&peer);
    }

    /// Was this asked of this peer?
    pub(crate) fn is_asked(&self, peer: PeerId, name: &TxName) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.asked.is_some_and(|(asked, _)| asked == peer))
    }

    /// What to ask for now. `unwanted` names what came by another way in the meantime.
    pub(crate) fn due(
        &mut self,
        now: Duration,
        timing: &Timing,
        unwanted: impl Fn(&TxName) -> bool,
    ) -> Vec<(PeerId, TxName)> {
        let mut requests = Vec::new();
        while let Some((at, name)) = self.agenda.first().copied() {
            if at > now {
                break;
            }
            self.agenda.remove(&(at, name));
            if unwanted(&name) {
                self.forget(&name);
            } else if let Some(peer) = self.consider(&name, now, timing) {
                requests.push((peer, name));
            }
        }
        requests
    }

    fn consider(&mut self, name: &TxName, now: Duration, timing: &Timing) -> Option<PeerId> {
        let asked = self.entries.get(name)?.asked;
        match asked {
            Some((_, deadline)) if deadline > now => return None,
            // It took too long: this announcement is spent.
            Some((peer, _)) => {
                self.not_found(peer, name, now);
                self.agenda.remove(&(now, *name));
            }
            None => {}
        }
        let entry = self.entries.get_mut(name)?;
        let loads = &self.loads;
        let has_room = |peer: &PeerId| loads.get(peer).is_none_or(|load| load.in_flight < MAX_TX_IN_FLIGHT_PER_PEER);
        let best = entry
            .candidates
            .iter()
            .filter(|candidate| candidate.ready_at <= now && has_room(&candidate.peer))
            .min_by_key(|candidate| (!candidate.preferred, candidate.ready_at, candidate.peer))
            .map(|candidate| candidate.peer);
        let Some(peer) = best else {
            // All who could be asked are busy, or none is ready.
            let next = entry.candidates.iter().map(|candidate| candidate.ready_at).min()?;
            let soon = now.saturating_add(Duration::from_millis(250));
            self.agenda.insert((next.max(soon), *name));
            return None;
        };
        let deadline = now.saturating_add(timing.transaction);
        entry.asked = Some((peer, deadline));
        self.agenda.insert((deadline, *name));
        self.loads.entry(peer).or_default().in_flight += 1;
        Some(peer)
    }

    fn release(&mut self, asked: Option<(PeerId, Duration)>) {
        if let Some(load) = asked.and_then(|(peer, _)| self.loads.get_mut(&peer)) {
            load.in_flight = load.in_flight.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Wtxid;
    use bitcoin::hashes::Hash;

    const ANN: PeerId = PeerId(1);
    const BEN: PeerId = PeerId(2);

    fn name(byte: u8) -> TxName {
        TxName::Wtxid(Wtxid::from_byte_array([byte; 32]))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn due(requests: &mut TxRequests, at: u64) -> Vec<(PeerId, TxName)> {
        requests.due(seconds(at), &Timing::default(), |_| false)
    }

    #[test]
    fn a_transaction_is_asked_of_one_peer_and_after_a_timeout_of_the_next() {
        let (mut requests, timing) = (TxRequests::default(), Timing::default());
        requests.announced(ANN, name(1), true, seconds(0), &timing);
        requests.announced(BEN, name(1), true, seconds(0), &timing);
        assert_eq!(due(&mut requests, 0), [(ANN, name(1))]);
        assert_eq!(due(&mut requests, 59), []);
        assert_eq!(due(&mut requests, 60), [(BEN, name(1))]);
        assert_eq!(due(&mut requests, 120), []);
        assert!(requests.entries.is_empty());
    }

    #[test]
    fn peers_that_connected_to_us_wait_and_not_found_moves_on_at_once() {
        let (mut requests, timing) = (TxRequests::default(), Timing::default());
        requests.announced(ANN, name(1), false, seconds(0), &timing);
        requests.announced(BEN, name(1), true, seconds(1), &timing);
        assert_eq!(due(&mut requests, 1), [(BEN, name(1))]);
        requests.not_found(BEN, &name(1), seconds(2));
        assert_eq!(due(&mut requests, 2), [(ANN, name(1))]);
        requests.disconnected(ANN, seconds(3));
        assert!(requests.entries.is_empty() && !requests.is_asked(ANN, &name(1)));
    }

    #[test]
    fn a_flood_of_announcements_is_cut_off() {
        let (mut requests, timing) = (TxRequests::default(), Timing::default());
        for number in 0..6_000u32 {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            requests.announced(ANN, TxName::Wtxid(Wtxid::from_byte_array(bytes)), true, seconds(0), &timing);
        }
        assert_eq!(requests.entries.len(), MAX_TX_ANNOUNCEMENTS_PER_PEER);
        assert_eq!(due(&mut requests, 0).len(), MAX_TX_IN_FLIGHT_PER_PEER);
    }
}
