//! What a channel may lose because HTLCs are too small to be enforced on the chain, and how that is bounded.
//!
//! ```text
//!   amount
//!     │  enforced: the channel is closed for it, and its output claimed
//!     ├──────────────── threshold at the raised rate ─┐
//!     │  enforced today, not after a rise of the fee  │ these count
//!     ├──────────────── threshold at today's rate     │
//!     │  not worth its claim, or without an output    │
//!     └───────────────────────────────────────────────┘
//! ```
//!
//! **What counts.** An HTLC is not enforced if a commitment has no output for it (BOLT 3, Trimmed Outputs), if no channel
//! is closed for it ([`crate::onchain::must_close`]), or if its output is left because the claim costs more than the
//! share of it that may go to fees ([`crate::onchain::EnforcementPolicy`]). [`Pricing`] knows one threshold for all three, for
//! either commitment, whoever offered it. With `static_remotekey` the second stage on our own commitment pays the
//! commitment's feerate out of the HTLC: what that is above a claim's feerate counts as well, so that an opener cannot
//! burn our HTLCs by an absurd feerate. If the commitment itself would not confirm in time
//! ([`super::feerate::confirms_late`]), all that is in HTLCs counts.
//!
//! All HTLCs of the channel are taken together: those of our commitment, of the peer's current one and of its next one,
//! and those that are on their way into them; in both directions. Two kinds can cost nothing any more and are left out:
//! HTLCs offered to us that we are failing, and HTLCs of ours whose preimage the peer has told.
//!
//! **When.** HTLCs are counted at a [`raised`] feerate (BOLT 2 calls it a dust buffer) of the highest commitment's rate
//! and of the estimate for claims:
//! - before we offer one: over the limit it is refused;
//! - when one that the peer offers is final: over the limit it is failed ([`super::FailReason`]), never forwarded or paid;
//! - when the peer sends `update_fee`: if the new commitments alone, whatever claims cost, would put more than the limit at
//!   risk, the channel is closed at once with the commitment that still has the outputs;
//! - before we send `update_fee`: we keep a rate that stays within the limit, and raise by no more than the raise
//!   at which HTLCs are counted, so that a peer with our limit never has to close for it;
//! - at each block: once HTLCs are overdue that are not worth a close one by one, but together are over the limit, the
//!   channel is closed for their sum; for forwards that is due as soon as they are above what another channel costs
//!   ([`crate::onchain::must_close`]).
//!
//! **The bound.** So at no time is more than the limit ([`super::Policy::exposure_limit`]: 50,000 sat, or 500 millionths
//! of the capacity if that is more) in HTLCs that would not be enforced, while feerates rise by no more than the raise
//! between the moment at which an HTLC is added and its end. If they rise further, nothing can be done about HTLCs that are
//! in flight by then but to take no more, and to close when they are overdue: what they cost is at most their fee.
//!
//! Over time too: what was not enforced and is fulfilled after its expiry, when the HTLC behind it may have been failed,
//! is written off, and the limit is smaller by it for the rest of the channel's life. So a channel loses no more than the
//! limit in its whole life, and a node no more than the sum over its channels. A forward counts in both of its
//! channels, though it can be lost only once.
//!
//! And no peer earns by it. Who lets small forwards run out and fulfils them once upstream has been failed gets less than
//! opening the next channel costs, however many it opens: beyond that the channel is closed before upstream is failed,
//! and what has no output there goes to the miners. To burn our money so costs the peer the channel and, if the
//! forwards are its own, what they carry on the way back.
//!
//! **Beyond it.** Nobody can lift our commitment of a `static_remotekey` channel, nor its second stages: they pay what they
//! did when the peer left. If it stays away while blocks come to ask for more than that, and until the expiry, an HTLC whose
//! preimage we know goes back to it whole, whatever it is worth. No limit on amounts prevents that: an HTLC is taken on at a
//! rate that confirms in time, and counts in full if it does not ([`super::feerate`]), but what blocks ask for later
//! is not known then. With anchors the wallet's coins prevent it.
//!
//! **The limit** is Core Lightning's 50,000 sat, which lets fifty payments of 1,000 sat through at once at 50 sat/vB, where
//! HTLCs below some 36,000 sat count; a channel of ten coins carries ten times that.

use crate::onchain;
use crate::tx::fee;
use crate::types::{CommitmentType, FeeratePerKw, HtlcDirection, Msat, Side};

use super::commitment::changes::Update;
use super::commitment::spec::{Htlc, HtlcKey};
use super::commitment::{Commitments, HtlcDetails};
use super::feerate;
use super::params::{ChannelPolicy, Feerates};
use super::terms::Terms;

/// The least that a feerate is thought to rise while an HTLC is in flight: ten satoshi a virtual byte.
const LEAST_RAISE: u32 = 2_530;

/// The weight of a transaction that claims one HTLC of the peer's commitment: 42 of frame, 164 of input, up to 246 of
/// witness (with the preimage), 172 of output.
const DIRECT_CLAIM: u64 = 625;
/// The weight of a transaction with the second stage of one HTLC of our commitment with anchors, a coin that pays for it
/// and its change: 42 + 164 + up to 330 of witness + 172 + 272 + 172.
const SECOND_STAGE_WITH_COIN: u64 = 1_155;
/// The weight of the claim of a second stage's output after our delay: 42 + 164 + 158 + 172.
const DELAYED_CLAIM: u64 = 540;

/// The feerate at which HTLCs are counted that are added at `rate`: a quarter above it, and at least
/// ten satoshi a virtual byte.
pub fn raised(rate: FeeratePerKw) -> FeeratePerKw {
    FeeratePerKw(rate.0.saturating_add((rate.0 / 4).max(LEAST_RAISE)))
}

/// The feerates that decide what an HTLC is worth on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimRates {
    /// Of a commitment: it decides which HTLCs have an output, and with `static_remotekey` what is left of one.
    pub commitment: FeeratePerKw,
    /// At which outputs would be claimed.
    pub claims: FeeratePerKw,
    /// What the second stages of our own commitment pay without anchors.
    pub second_stages: FeeratePerKw,
    /// What they may pay before more of it counts: an opener's estimate may well be twice ours.
    pub tolerated: FeeratePerKw,
}

impl ClaimRates {
    /// A commitment at this rate, and claims at the rate of the moment.
    pub fn of(commitment: FeeratePerKw, feerates: &Feerates) -> Self {
        let claims = feerates.closing;
        let tolerated = raised(claims).max(FeeratePerKw(claims.0.saturating_mul(2)));
        Self { commitment, claims, second_stages: commitment, tolerated }
    }

    /// The rates at which HTLCs are counted when they are added. What second stages pay above a claim is not raised: it
    /// changes with `update_fee` alone, which is looked at by itself.
    pub fn raised(self) -> Self {
        Self { commitment: raised(self.commitment), claims: raised(self.claims), ..self }
    }
}

/// What an HTLC of a channel would cost us if it had to be enforced at certain feerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pricing {
    offered: Price,
    received: Price,
    /// The commitment would not confirm in time: nothing is enforced.
    stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Price {
    enforced_from: Msat,
    /// What the second stage pays above a claim's feerate.
    excess: Msat,
}

impl Pricing {
    /// Prices for a channel whose commitment confirms in time, at these feerates.
    pub fn new(terms: &Terms, rates: ClaimRates) -> Self {
        let of = |offered_by| Price::new(terms, rates, offered_by);
        Self { offered: of(Side::Local), received: of(Side::Remote), stuck: false }
    }

    const fn price(&self, offered_by: Side) -> &Price {
        match offered_by {
            Side::Local => &self.offered,
            Side::Remote => &self.received,
        }
    }

    /// From which amount on an HTLC is enforced.
    pub const fn enforced_from(&self, offered_by: Side) -> Msat {
        self.price(offered_by).enforced_from
    }

    /// What this HTLC adds to the exposure: all of it if it would not be enforced.
    pub fn at_risk(&self, htlc: &Htlc) -> Msat {
        let price = self.price(htlc.offered_by);
        if self.stuck || htlc.amount < price.enforced_from { htlc.amount } else { price.excess.min(htlc.amount) }
    }

    /// What these HTLCs add to the exposure together.
    pub fn exposure<'a>(&self, htlcs: impl IntoIterator<Item = &'a Htlc>) -> Msat {
        htlcs.into_iter().fold(Msat::ZERO, |sum, htlc| Msat(sum.0.saturating_add(self.at_risk(htlc).0)))
    }
}

impl Price {
    fn new(terms: &Terms, rates: ClaimRates, offered_by: Side) -> Self {
        let kind = terms.commitment_type();
        let ClaimRates { commitment, claims, second_stages, tolerated } = rates;
        let (in_local, in_remote) = match offered_by {
            Side::Local => (HtlcDirection::Offered, HtlcDirection::Received),
            Side::Remote => (HtlcDirection::Received, HtlcDirection::Offered),
        };
        let trimmed = |direction, owner: Side| {
            fee::trim_threshold(kind, direction, commitment, terms.sides.of(owner).dust_limit).to_sat()
        };
        let second_stage = fee::htlc_tx_fee(kind, in_local, commitment).to_sat();
        let own = match kind {
            CommitmentType::StaticRemoteKey => second_stage.saturating_add(worth_claiming(DELAYED_CLAIM, claims)),
            CommitmentType::Anchors => worth_claiming(SECOND_STAGE_WITH_COIN, claims),
        };
        let thresholds = [
            trimmed(in_local, Side::Local),
            trimmed(in_remote, Side::Remote),
            worth_closing(terms, in_local, claims),
            worth_claiming(DIRECT_CLAIM, claims),
            own,
        ];
        let enforced_from = thresholds.into_iter().fold(0, u64::max);
        let [paid, usual] = [second_stages, tolerated].map(|rate| fee::htlc_tx_fee(kind, in_local, rate).to_sat());
        Self { enforced_from: msat(enforced_from), excess: msat(paid.saturating_sub(usual)) }
    }
}

/// The least HTLC that a channel is closed for, see [`crate::onchain::must_close`].
fn worth_closing(terms: &Terms, direction: HtlcDirection, claims: FeeratePerKw) -> u64 {
    let fee = fee::fee_for_weight(claims, fee::htlc_tx_weight(terms.commitment_type(), direction)).to_sat();
    terms.sides.local.dust_limit.to_sat().saturating_add(fee)
}

/// The least output that pays for a claim of this weight out of the share that may go to fees.
fn worth_claiming(weight: u64, claims: FeeratePerKw) -> u64 {
    let share = onchain::EnforcementPolicy::default().budget_percent.clamp(1, 100);
    weight.saturating_mul(u64::from(claims.0)).div_ceil(1_000).saturating_mul(100).div_ceil(share)
}

const fn msat(sat: u64) -> Msat {
    Msat(sat.saturating_mul(1_000))
}

/// What a channel has at risk, and may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// What may be lost now.
    pub now: Msat,
    /// What may be lost at most.
    pub limit: Msat,
}

impl Exposure {
    /// Whether more may be lost than is allowed.
    pub fn is_over(&self) -> bool {
        self.now > self.limit
    }
}

/// Adds HTLCs one by one for as long as they fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pricing: Pricing,
    exposure: Exposure,
}

impl Admission {
    /// Takes the HTLC in, unless it would bring the exposure over the limit. One that would be enforced always fits.
    pub(crate) fn admit(&mut self, htlc: &Htlc) -> Result<(), Exposure> {
        let at_risk = self.pricing.at_risk(htlc);
        let with = Exposure { now: Msat(self.exposure.now.0.saturating_add(at_risk.0)), ..self.exposure };
        if at_risk > Msat::ZERO && with.is_over() {
            return Err(with);
        }
        self.exposure = with;
        Ok(())
    }
}

impl Commitments {
    /// The HTLCs that could still cost us something.
    fn at_stake(&self) -> impl Iterator<Item = &Htlc> {
        let mut failing: Vec<u64> = self.local_changes.all().filter_map(fails).collect();
        failing.sort_unstable();
        let live = move |key: &HtlcKey, details: &HtlcDetails| match key.offered_by {
            Side::Local => !details.preimage_told,
            Side::Remote => !details.must_fail && failing.binary_search(&key.id.0).is_err(),
        };
        let all = self.details.iter().filter(move |(key, details)| live(key, details));
        all.map(|(_, details)| &details.htlc)
    }

    /// Whether the HTLC is in both commitments for good.
    fn is_final(&self, htlc: &Htlc) -> bool {
        self.local.spec.htlc(htlc.key()).is_some() && self.remote.current.spec.htlc(htlc.key()).is_some()
    }

    /// The feerates of all commitments that may be published, and of those to come.
    fn feerates(&self) -> impl Iterator<Item = FeeratePerKw> {
        let next = self.remote.next().map(|next| next.spec.feerate);
        let coming = self.local_changes.all().chain(self.remote_changes.all()).filter_map(Update::feerate);
        [self.local.spec.feerate, self.remote.current.spec.feerate].into_iter().chain(next).chain(coming)
    }

    /// The rates of the moment, the highest of all commitments included.
    pub(crate) fn claim_rates(&self, feerates: &Feerates) -> ClaimRates {
        ClaimRates::of(self.feerates().max().unwrap_or(FeeratePerKw::FLOOR), feerates)
    }

    fn pricing(&self, rates: ClaimRates, terms: &Terms, feerates: &Feerates) -> Pricing {
        let lowest = self.feerates().min().unwrap_or(FeeratePerKw::FLOOR);
        let stuck = feerate::confirms_late(terms.commitment_type(), lowest, feerates);
        Pricing { stuck, ..Pricing::new(terms, rates) }
    }

    /// What may be lost, by our policy: less than at the beginning if something was.
    pub(crate) fn exposure_limit(&self, terms: &Terms, policy: &ChannelPolicy) -> Msat {
        policy.exposure_limit(terms.capacity).saturating_sub(self.written_off)
    }

    /// Everything at stake, at raised rates.
    pub(crate) fn exposure(&self, terms: &Terms, feerates: &Feerates, policy: &ChannelPolicy) -> Exposure {
        let pricing = self.pricing(self.claim_rates(feerates).raised(), terms, feerates);
        Exposure { now: pricing.exposure(self.at_stake()), limit: self.exposure_limit(terms, policy) }
    }

    /// What can be offered on top of everything at stake.
    pub(crate) fn admission(&self, terms: &Terms, feerates: &Feerates, policy: &ChannelPolicy) -> Admission {
        self.admission_beside(terms, feerates, policy, |_| true)
    }

    /// What of the HTLCs that the peer offers can be accepted: all others that are final count, and all that we offer.
    /// `news` are those that are not accepted yet.
    pub(crate) fn admission_of(
        &self,
        news: &[HtlcKey],
        terms: &Terms,
        feerates: &Feerates,
        policy: &ChannelPolicy,
    ) -> Admission {
        self.admission_beside(terms, feerates, policy, |htlc| match htlc.offered_by {
            Side::Local => true,
            Side::Remote => self.is_final(htlc) && !news.contains(&htlc.key()),
        })
    }

    fn admission_beside(
        &self,
        terms: &Terms,
        feerates: &Feerates,
        policy: &ChannelPolicy,
        counts: impl Fn(&Htlc) -> bool,
    ) -> Admission {
        let pricing = self.pricing(self.claim_rates(feerates).raised(), terms, feerates);
        let now = pricing.exposure(self.at_stake().filter(|htlc| counts(htlc)));
        Admission { pricing, exposure: Exposure { now, limit: self.exposure_limit(terms, policy) } }
    }

    /// What a commitment at `feerate` would itself leave in HTLCs that could not be enforced, whatever claims cost, if that is
    /// more than before and above the limit. HTLCs that we have not accepted yet are looked at later.
    pub(crate) fn overexposed_by_fee(
        &self,
        feerate: FeeratePerKw,
        terms: &Terms,
        feerates: &Feerates,
        policy: &ChannelPolicy,
    ) -> Option<Exposure> {
        let at = |commitment: FeeratePerKw, lowest: FeeratePerKw| {
            let stuck = feerate::is_hopeless(terms.commitment_type(), lowest, feerates);
            let rates = ClaimRates { claims: FeeratePerKw(0), ..ClaimRates::of(commitment, feerates) };
            let pricing = Pricing { stuck, ..Pricing::new(terms, rates) };
            let accepted = |htlc: &&Htlc| htlc.offered_by == Side::Local || self.is_final(htlc);
            pricing.exposure(self.at_stake().filter(accepted))
        };
        let all = || self.feerates();
        let (lowest, highest) = (all().min().unwrap_or(feerate), all().max().unwrap_or(feerate));
        let exposure = Exposure { now: at(feerate, feerate), limit: self.exposure_limit(terms, policy) };
        (exposure.is_over() && exposure.now > at(highest, lowest)).then_some(exposure)
    }
}

/// The HTLC of the peer's that an update of ours fails.
const fn fails(update: &Update) -> Option<u64> {
    match update {
        Update::Fail { id, .. } | Update::FailMalformed { id, .. } => Some(id.0),
        Update::Add(_) | Update::Fulfill { .. } | Update::Fee(_) => None,
    }
}
