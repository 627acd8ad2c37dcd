//! What outlives a restart: owed settlements, outgoing HTLCs with their origins, and onions that were seen.
//!
//! ```text
//!   after a restart, for each incoming HTLC that nobody is removing (its channel tells it again):
//!     a settlement is owed          ──► settle it
//!     an outgoing HTLC forwards it  ──► a circuit again, wait for its outcome
//!     neither                       ──► it never left: decide anew (its next channel is offline, so it is mostly failed)
//! ```
//!
//! Why the third is safe: an HTLC is stored before `commitment_signed` leaves, a settlement in the commit that removes
//! the outgoing HTLC, and a settlement is deleted in the commit that signs the incoming one's removal. So an incoming
//! HTLC with neither has no outgoing one that any peer could claim.
//!
//! **Onions.** A packet that has been forwarded must not be forwarded again before its HTLC has expired (BOLT 4, Onion
//! Decryption), or whoever repeats it could watch where it goes. What is kept is 64 bits of a hash of the shared
//! secret: the wrong match of two honest onions takes billions of them alive at once, and who makes two of his own
//! match hurts himself. The row names the HTLC that brought the onion, so that this HTLC is not taken for its own
//! repetition after a restart. An onion that ends here is not kept: an invoice is paid once, whoever repeats what.

use std::collections::{HashMap, HashSet, VecDeque};

use bitcoin::hashes::{Hash as _, sha256};

use crate::channel::{Channel, Htlc, Key, OwedSettlement, RestoreError};
use crate::margins::MAX_HTLC_CLTV;
use crate::onion::SharedSecret;
use crate::types::{CltvExpiry, Height, Side};
use crate::wire::codec::Field as _;

use super::circuit::{HtlcRef, Leg};
use super::policy::{FORMAT, decode};

/// Under which an onion is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnionKey {
    pub expiry: CltvExpiry,
    pub fingerprint: u64,
}

impl OnionKey {
    /// The expiry counts only as far as an HTLC may live, so that nobody makes us remember for years.
    pub(super) fn new(secret: &SharedSecret, expiry: CltvExpiry, tip: Height) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = sha256::Hash::hash(&secret.0).to_byte_array();
        let longest = CltvExpiry(tip.0.saturating_add(MAX_HTLC_CLTV));
        Self { expiry: expiry.min(longest), fingerprint: u64::from_be_bytes([a, b, c, d, e, f, g, h]) }
    }

    pub(super) const fn key(self) -> Key {
        Key::SeenOnion { expiry: self.expiry, fingerprint: self.fingerprint }
    }
}

/// What is stored with an onion's fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenOnion {
    /// The HTLC that brought it.
    pub owner: HtlcRef,
    /// Whether the forwarding history has it: history and settlement are separate commits, and the second one may be
    /// repeated after a crash.
    pub recorded: bool,
}

impl SeenOnion {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        self.owner.channel.write(&mut out);
        self.owner.id.write(&mut out);
        out.push(u8::from(self.recorded));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, RestoreError> {
        decode("seen onion", bytes, FORMAT, |reader, _| {
            let owner = HtlcRef { channel: reader.field()?, id: reader.field()? };
            Ok(Self { owner, recorded: reader.field::<u8>()? != 0 })
        })
    }
}

/// Onions that are remembered: some thirty bytes each, and a row on the disk. At two hundred forwards a second they are
/// those of the last hour and a half. Who wants one forgotten has to have a million forwarded after it, and wins that he
/// may watch where it goes once more.
const REMEMBERED: usize = 1 << 20;

/// The latest onions whose HTLCs have not expired.
#[derive(Debug, Default)]
pub(super) struct Onions {
    fingerprints: HashSet<u64>,
    /// In the order in which they came; after a restart, in that of their expiries.
    order: VecDeque<OnionKey>,
}

impl Onions {
    /// Remembers an onion; `false` if it was remembered before.
    pub(super) fn insert(&mut self, onion: OnionKey) -> bool {
        let new = self.fingerprints.insert(onion.fingerprint);
        if new {
            self.order.push_back(onion);
        }
        new
    }

    pub(super) fn contains(&self, onion: &OnionKey) -> bool {
        self.fingerprints.contains(&onion.fingerprint)
    }

    /// Forgets those that came first, if there are too many.
    pub(super) fn shrink(&mut self) -> Vec<OnionKey> {
        let too_many = self.order.len().saturating_sub(REMEMBERED);
        let gone: Vec<OnionKey> = self.order.drain(..too_many).collect();
        self.forget(&gone);
        gone
    }

    /// Forgets those whose expiry has passed: no HTLC that repeats them would be forwarded now.
    pub(super) fn expire(&mut self, tip: Height) -> Vec<OnionKey> {
        let mut gone = Vec::new();
        self.order.retain(|onion| {
            let lives = onion.expiry.0 >= tip.0;
            if !lives {
                gone.push(*onion);
            }
            lives
        });
        self.forget(&gone);
        gone
    }

    fn forget(&mut self, gone: &[OnionKey]) {
        gone.iter().for_each(|onion| {
            self.fingerprints.remove(&onion.fingerprint);
        });
        // A set does not give its room back by itself.
        if self.fingerprints.capacity() > 4 * self.fingerprints.len().max(1_024) {
            self.fingerprints.shrink_to_fit();
            self.order.shrink_to_fit();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fingerprints.len()
    }
}

/// What a restart found for an incoming HTLC.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub expiry: Option<CltvExpiry>,
    pub owed: Option<OwedSettlement>,
    /// The outgoing HTLC that forwards it.
    pub outgoing: Option<(HtlcRef, Leg)>,
    pub onion: Option<(OnionKey, SeenOnion)>,
}

/// What a restart found, until the channels have told their incoming HTLCs again.
#[derive(Debug, Default)]
pub(super) struct Restored {
    found: HashMap<HtlcRef, Found>,
}

impl Restored {
    pub(super) fn take(&mut self, incoming: &HtlcRef) -> Option<Found> {
        self.found.remove(incoming)
    }

    /// What is known of an HTLC that its channel has not told again yet.
    pub(super) fn get_mut(&mut self, incoming: &HtlcRef) -> Option<&mut Found> {
        self.found.get_mut(incoming)
    }

    /// When such an HTLC expires.
    pub(super) fn expiry(&self, incoming: &HtlcRef) -> Option<CltvExpiry> {
        self.found.get(incoming).and_then(|found| found.expiry)
    }

    pub(super) fn len(&self) -> usize {
        self.found.len()
    }
}

/// What [`collect`] makes of the stored rows.
pub(super) struct Collected {
    pub restored: Restored,
    pub onions: Onions,
    /// Onions beyond those that are remembered, and settlements of HTLCs that are settled already: a peer that repeats itself makes its channel write them again, and
    /// an outcome may come when the channel that waited for it is over.
    pub stale: Vec<Key>,
}

/// Sorts settlements, seen onions and the channels' HTLCs by the incoming HTLC that each is about.
pub(super) fn collect<'a>(
    rows: impl IntoIterator<Item = (Key, Vec<u8>)>,
    channels: impl IntoIterator<Item = &'a Channel>,
) -> Result<Collected, RestoreError> {
    let mut found: HashMap<HtlcRef, Found> = HashMap::new();
    let mut offered: Vec<(HtlcRef, HtlcRef, Htlc)> = Vec::new();
    for channel in channels {
        let id = channel.id();
        found.extend(channel.unsettled().map(|htlc| {
            let expiry = channel.expiry_of_incoming(htlc);
            (HtlcRef { channel: id, id: htlc }, Found { expiry, ..Found::default() })
        }));
        offered.extend(channel.offered().filter(|(htlc, _)| htlc.offered_by == Side::Local).filter_map(
            |(htlc, origin)| Some((HtlcRef::of_origin(origin)?, HtlcRef { channel: id, id: htlc.id }, htlc)),
        ));
    }
    for (incoming, outgoing, htlc) in offered {
        if let Some(found) = found.get_mut(&incoming) {
            let leg = Leg { channel: outgoing.channel, amount: htlc.amount, cltv_expiry: htlc.cltv_expiry };
            found.outgoing = Some((outgoing, leg));
        }
    }
    let mut onions = Onions::default();
    let mut stale = Vec::new();
    for (key, value) in rows {
        match key {
            Key::Settlement { channel, id } => match found.get_mut(&HtlcRef { channel, id }) {
                Some(found) => {
                    let why = || "its outcome has no meaning".to_owned();
                    let owed = OwedSettlement::decode(&value);
                    found.owed = Some(owed.ok_or_else(|| RestoreError::Damaged { what: "settlement", why: why() })?);
                }
                None => stale.push(key),
            },
            Key::SeenOnion { expiry, fingerprint } => {
                let onion = OnionKey { expiry, fingerprint };
                onions.insert(onion);
                let seen = SeenOnion::decode(&value)?;
                if let Some(found) = found.get_mut(&seen.owner) {
                    found.onion = Some((onion, seen));
                }
            }
            // Rows of others.
            _ => {}
        }
    }
    stale.extend(onions.shrink().into_iter().map(OnionKey::key));
    Ok(Collected { restored: Restored { found }, onions, stale })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ChannelId, HtlcId};

    #[test]
    fn an_onion_is_known_until_its_htlc_has_expired() {
        let mut onions = Onions::default();
        let secret = SharedSecret([1; 32]);
        let onion = OnionKey::new(&secret, CltvExpiry(500), Height(100));
        assert!(onions.insert(onion));
        assert!(!onions.insert(OnionKey::new(&secret, CltvExpiry(600), Height(100))), "whatever its expiry");
        assert_eq!(onions.expire(Height(500)), []);
        assert_eq!(onions.expire(Height(501)), [onion]);
        assert!(onions.insert(onion));
        assert_eq!(onions.len(), 1);
    }

    #[test]
    fn nobody_makes_us_remember_for_longer_than_an_htlc_may_live() {
        let onion = OnionKey::new(&SharedSecret([1; 32]), CltvExpiry(u32::MAX), Height(100));
        assert_eq!(onion.expiry, CltvExpiry(100 + MAX_HTLC_CLTV));
    }

    #[test]
    fn no_more_onions_are_remembered_than_have_room() {
        let mut onions = Onions::default();
        let onion = |number: u64| OnionKey { expiry: CltvExpiry(2_000), fingerprint: number };
        let mut gone = Vec::new();
        for number in 0..REMEMBERED as u64 + 1_000 {
            assert!(onions.insert(onion(number)));
            gone.extend(onions.shrink());
        }
        assert_eq!((onions.len(), onions.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(gone, (0..1_000).map(onion).collect::<Vec<_>>(), "their rows go, too");
        assert!(!onions.contains(&onion(999)) && onions.contains(&onion(1_000)));
        assert_eq!(onions.expire(Height(2_001)).len(), REMEMBERED);
        assert!(onions.fingerprints.capacity() < 10_000, "the room is given back");
    }

    #[test]
    fn seen_onions_round_trip() {
        let owner = HtlcRef { channel: ChannelId([3; 32]), id: HtlcId(9) };
        for recorded in [false, true] {
            let seen = SeenOnion { owner, recorded };
            assert_eq!(SeenOnion::decode(&seen.encode()), Ok(seen));
        }
        assert!(SeenOnion::decode(&[1, 2]).is_err());
    }
}
