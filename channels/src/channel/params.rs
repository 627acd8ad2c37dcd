//! What this node proposes and what it accepts when a channel is opened.
//!
//! Promises: a channel is opened only if every rule of BOLT 2 about `open_channel` and `accept_channel` holds, and with
//! the defaults of [`ChannelPolicy`] the values are inside what every known peer accepts. Each rule is one [`ParameterError`].

use bitcoin::{Amount, Script, ScriptBuf, constants::ChainHash};
use thiserror::Error;

use crate::keys::Basepoints;
use crate::tx::fee;
use crate::types::{CommitmentType, FeeratePerKw, Msat};
use crate::wire::{AcceptChannel, Feature, Features, OpenChannel};

use super::terms::SideTerms;

/// A dust limit below this would leave outputs that do not relay (BOLT 3, Dust Limits: P2WSH and taproot).
pub const MIN_DUST_LIMIT: Amount = Amount::from_sat(354);
/// The most HTLCs of one direction that fit into one penalty transaction (BOLT 2).
pub const MAX_ACCEPTED_HTLCS: u16 = 483;
/// Larger channels need `option_support_large_channel`.
pub const LARGE_CHANNEL: Amount = Amount::from_sat(1 << 24);
/// A fundee may forget a channel whose funding transaction is not confirmed after so many blocks.
pub(super) const FUNDING_TIMEOUT_BLOCKS: u32 = 2016;

/// What this node wants and bears. One for all channels; a channel keeps what it was opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPolicy {
    /// The smallest channel that we open or accept.
    pub min_capacity: Amount,
    /// The largest channel that we open or accept.
    pub max_capacity: Amount,
    /// The dust limit of our own commitments (BOLT 2, `dust_limit_satoshis`).
    pub dust_limit: Amount,
    /// The highest dust limit that we let a peer use on its own commitment.
    pub max_remote_dust_limit: Amount,
    /// Our share of a channel that the peer may not spend below, in parts per million.
    pub reserve_ppm: u32,
    /// The largest such share that we accept for ourselves.
    pub max_reserve_ppm: u32,
    /// The smallest HTLC that we take (BOLT 2, `htlc_minimum_msat`).
    pub htlc_minimum: Msat,
    /// The largest `htlc_minimum_msat` that we accept.
    pub max_htlc_minimum: Msat,
    /// How much of the capacity the peer may have in flight, in percent.
    pub max_in_flight_percent: u8,
    /// The smallest limit of that kind that we accept.
    pub min_in_flight: Msat,
    /// How many HTLCs the peer may offer at once (BOLT 2, `max_accepted_htlcs`).
    pub max_accepted_htlcs: u16,
    /// How many HTLCs we must be allowed to offer at once, or the channel is refused.
    pub min_accepted_htlcs: u16,
    /// What we ask of the peer: blocks that it waits for its own money after closing alone. The papers' 1000.
    pub to_self_delay: u16,
    /// The longest delay that we accept for ourselves.
    pub max_to_self_delay: u16,
    /// Confirmations that we want before a channel that somebody else funds is used: at least so many, and more for an
    /// amount that is worth a reorganisation (`AcceptRequest::minimum_depth`).
    pub minimum_depth: u32,
    /// The most that we want, and that we let a peer want.
    pub max_minimum_depth: u32,
    /// How much of a channel may be in HTLCs that would not be enforced on the chain, see [`super::exposure`].
    pub max_dust_exposure: Msat,
    /// `max_dust_exposure` in parts per million of the capacity: the larger of both counts.
    pub max_dust_exposure_ppm: u32,
    /// How each HTLC of the peer's has ended is stored.
    pub keeps_final_htlcs: bool,
}

impl Default for ChannelPolicy {
    fn default() -> Self {
        Self {
            min_capacity: Amount::from_sat(20_000),
            max_capacity: Amount::from_sat(1_000_000_000),
            dust_limit: MIN_DUST_LIMIT,
            max_remote_dust_limit: Amount::from_sat(1_000),
            reserve_ppm: 10_000,
            max_reserve_ppm: 100_000,
            htlc_minimum: Msat(1),
            max_htlc_minimum: Msat(100_000),
            max_in_flight_percent: 100,
            min_in_flight: Msat(1_000),
            max_accepted_htlcs: MAX_ACCEPTED_HTLCS,
            min_accepted_htlcs: 1,
            to_self_delay: 1000,
            max_to_self_delay: 2016,
            minimum_depth: 3,
            max_minimum_depth: 144,
            max_dust_exposure: Msat(50_000_000),
            max_dust_exposure_ppm: 500,
            keeps_final_htlcs: false,
        }
    }
}

/// The highest rate of a commitment that we accept however quiet the chain is: a thousand satoshi a virtual byte. What it
/// costs is the opener's; what it may cost us is bounded by the exposure (see [`super::feerate`]).
pub const MAX_FEERATE: FeeratePerKw = FeeratePerKw(250_000);

/// Fee rates of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feerates {
    /// The lowest rate of a commitment that we accept.
    pub minimum: FeeratePerKw,
    /// The highest: no honest estimate is there.
    pub maximum: FeeratePerKw,
    /// What gets a transaction confirmed within some blocks: for closing, and for claims.
    pub closing: FeeratePerKw,
    /// What gets one confirmed within a day.
    pub slow: FeeratePerKw,
    /// What mempools take at least.
    pub mempool_minimum: FeeratePerKw,
}

impl Default for Feerates {
    fn default() -> Self {
        Self {
            minimum: FeeratePerKw::FLOOR,
            maximum: MAX_FEERATE,
            closing: FeeratePerKw(1_000),
            slow: FeeratePerKw::FLOOR,
            mempool_minimum: FeeratePerKw::FLOOR,
        }
    }
}

/// A rule about opening that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ParameterError {
    #[error("the channel is for another chain: {0}")]
    WrongChain(ChainHash),
    #[error("this node does not know how far the chain is: it opens and accepts channels once it does")]
    TipInDoubt,
    #[error("a capacity of {got} is not between {minimum} and {maximum}")]
    Capacity { minimum: Amount, maximum: Amount, got: Amount },
    #[error("a channel of {0} needs option_support_large_channel of both nodes")]
    LargeChannel(Amount),
    #[error("push_msat of {push} is more than the capacity of {capacity}")]
    PushTooLarge { push: Msat, capacity: Amount },
    #[error("a to_self_delay of {got} blocks is above {maximum}")]
    ToSelfDelay { maximum: u16, got: u16 },
    #[error("max_accepted_htlcs of {got} is not between {minimum} and {maximum}")]
    MaxAcceptedHtlcs { minimum: u16, maximum: u16, got: u16 },
    #[error("a fee rate of {} per kw is not between {} and {}", got.0, minimum.0, maximum.0)]
    Feerate { minimum: FeeratePerKw, maximum: FeeratePerKw, got: FeeratePerKw },
    #[error("a dust limit of {got} is not between {minimum} and {maximum}")]
    DustLimit { minimum: Amount, maximum: Amount, got: Amount },
    #[error("the reserve of {reserve} is below a dust limit of {dust_limit}")]
    ReserveBelowDust { reserve: Amount, dust_limit: Amount },
    #[error("a reserve of {got} is above {maximum}")]
    Reserve { maximum: Amount, got: Amount },
    #[error("htlc_minimum_msat of {got} is above {maximum}")]
    HtlcMinimum { maximum: Msat, got: Msat },
    #[error("max_htlc_value_in_flight_msat of {got} is below {minimum}")]
    MaxInFlight { minimum: Msat, got: Msat },
    #[error("a minimum_depth of {got} is above {maximum}")]
    MinimumDepth { maximum: u32, got: u32 },
    #[error("the peer waits for {0} confirmations of the funding transaction: it does not trust this node with zero")]
    NotZeroConf(u32),
    #[error("channels without confirmations are accepted from trusted nodes only, and this is none of them")]
    Untrusted,
    #[error("the funder's balance of {balance} does not pay the fee of the first commitment, {needed}")]
    FunderCannotPay { balance: Msat, needed: Msat },
    #[error("both balances of the first commitment are within the reserve")]
    NothingAboveReserve,
    #[error("channel_type is missing")]
    ChannelTypeMissing,
    #[error(
        "channel_type {0:?} is not one that this node opens: static_remotekey or anchors, with or without scid_alias and zeroconf"
    )]
    ChannelTypeUnknown(Features),
    #[error("accept_channel names another channel_type than open_channel")]
    ChannelTypeChanged,
    #[error("an announced channel cannot have the channel_type scid_alias")]
    AnnouncedAlias,
    #[error("the upfront shutdown script is not one of the forms that BOLT 2 allows")]
    UpfrontScript,
    #[error("a key of the peer's is one of ours")]
    OurKey,
    #[error("the funding transaction's output {0} is not there or has another script or amount")]
    FundingOutput(u32),
    #[error("a key cannot be used: {0}")]
    Key(#[from] crate::keys::KeyError),
    #[error("the first commitment cannot be built: {0}")]
    FirstCommitment(crate::tx::CommitmentTxError),
}

/// What kind of channel it is, as `channel_type` says it (BOLT 2, Defined Channel Types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelType {
    /// The shape of its commitment transactions.
    pub commitment: CommitmentType,
    /// HTLCs come under an alias only.
    pub scid_alias: bool,
    /// It is used before its funding transaction is confirmed.
    pub zero_conf: bool,
}

impl ChannelType {
    /// As it stands in `open_channel`: the feature bits of exactly this type (BOLT 2, channel_type).
    pub fn to_features(self) -> Features {
        let features = match self.commitment {
            CommitmentType::StaticRemoteKey => Features::static_remotekey_channel(),
            CommitmentType::Anchors => Features::anchors_channel(),
        };
        let features = if self.scid_alias { features.require(Feature::ScidAlias) } else { features };
        if self.zero_conf { features.require(Feature::Zeroconf) } else { features }
    }

    /// Reads the `channel_type` of a message. A type that is not known here is an error.
    pub fn from_features(features: &Features) -> Result<Self, ParameterError> {
        [CommitmentType::StaticRemoteKey, CommitmentType::Anchors]
            .into_iter()
            .flat_map(|commitment| [false, true].map(|scid_alias| (commitment, scid_alias)))
            .flat_map(|(commitment, scid_alias)| {
                [false, true].map(|zero_conf| Self { commitment, scid_alias, zero_conf })
            })
            .find(|channel_type| channel_type.to_features() == *features)
            .ok_or_else(|| ParameterError::ChannelTypeUnknown(features.clone()))
    }
}

impl ChannelPolicy {
    /// The reserve that we ask the peer to keep.
    pub fn reserve(&self, capacity: Amount, remote_dust_limit: Amount) -> Amount {
        let share = u128::from(capacity.to_sat()) * u128::from(self.reserve_ppm) / 1_000_000;
        Amount::from_sat(u64::try_from(share).unwrap_or(u64::MAX)).max(self.dust_limit).max(remote_dust_limit)
    }

    /// What may be lost in a channel of this capacity because HTLCs are not enforced.
    pub fn exposure_limit(&self, capacity: Amount) -> Msat {
        let share = u128::from(capacity.to_sat()) * u128::from(self.max_dust_exposure_ppm) / 1_000;
        self.max_dust_exposure.max(Msat(u64::try_from(share).unwrap_or(u64::MAX)))
    }

    /// The confirmations to wait for where the amount wants so many.
    pub fn depth_for(&self, wanted: u32) -> u32 {
        wanted.min(self.max_minimum_depth).max(self.minimum_depth).max(1)
    }

    /// What the peer may have in flight in a channel of this capacity.
    pub fn max_in_flight(&self, capacity: Amount) -> Msat {
        let share = u128::from(capacity.to_sat()) * u128::from(self.max_in_flight_percent.min(100)) * 10;
        Msat(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// Checks what holds for an `open_channel` whoever sent it.
    pub fn check_open(&self, open: &OpenChannel, context: &OpenContext<'_>) -> Result<ChannelType, ParameterError> {
        if open.chain_hash != context.chain {
            return Err(ParameterError::WrongChain(open.chain_hash));
        }
        let channel_type = open.channel_type.as_ref().ok_or(ParameterError::ChannelTypeMissing)?;
        let channel_type = ChannelType::from_features(channel_type)?;
        if channel_type.scid_alias && open.announces() {
            return Err(ParameterError::AnnouncedAlias);
        }
        let capacity = open.funding_satoshis;
        if capacity < self.min_capacity || capacity > self.max_capacity {
            let (minimum, maximum) = (self.min_capacity, self.max_capacity);
            return Err(ParameterError::Capacity { minimum, maximum, got: capacity });
        }
        if capacity >= LARGE_CHANNEL && !context.large_channels {
            return Err(ParameterError::LargeChannel(capacity));
        }
        let too_large = ParameterError::PushTooLarge { push: open.push_msat, capacity };
        let total = Msat::from_sat(capacity).ok_or(too_large.clone())?;
        let funder = total.checked_sub(open.push_msat).ok_or(too_large)?;
        let (minimum, maximum) = (context.feerates.minimum, context.feerates.maximum);
        if open.feerate_per_kw < minimum || open.feerate_per_kw > maximum {
            return Err(ParameterError::Feerate { minimum, maximum, got: open.feerate_per_kw });
        }
        let cost = fee::commitment_fee(channel_type.commitment, open.feerate_per_kw, 0)
            + fee::anchors_cost(channel_type.commitment);
        let needed = Msat::from_sat(cost).unwrap_or(Msat(u64::MAX));
        let Some(left) = funder.checked_sub(needed) else {
            return Err(ParameterError::FunderCannotPay { balance: funder, needed });
        };
        let reserve = Msat::from_sat(open.channel_reserve_satoshis).unwrap_or(Msat(u64::MAX));
        if left <= reserve && open.push_msat <= reserve {
            return Err(ParameterError::NothingAboveReserve);
        }
        check_upfront_script(open.upfront_shutdown_script.as_deref())?;
        Ok(channel_type)
    }

    /// Checks what the peer asks of us, in `open_channel` or `accept_channel`.
    pub fn check_remote(&self, remote: &SideTerms, capacity: Amount) -> Result<(), ParameterError> {
        if remote.to_self_delay > self.max_to_self_delay {
            return Err(ParameterError::ToSelfDelay { maximum: self.max_to_self_delay, got: remote.to_self_delay });
        }
        if remote.max_accepted_htlcs > MAX_ACCEPTED_HTLCS || remote.max_accepted_htlcs < self.min_accepted_htlcs {
            let (minimum, maximum) = (self.min_accepted_htlcs, MAX_ACCEPTED_HTLCS);
            return Err(ParameterError::MaxAcceptedHtlcs { minimum, maximum, got: remote.max_accepted_htlcs });
        }
        if remote.dust_limit < MIN_DUST_LIMIT || remote.dust_limit > self.max_remote_dust_limit {
            let (minimum, maximum) = (MIN_DUST_LIMIT, self.max_remote_dust_limit);
            return Err(ParameterError::DustLimit { minimum, maximum, got: remote.dust_limit });
        }
        if remote.htlc_minimum > self.max_htlc_minimum {
            return Err(ParameterError::HtlcMinimum { maximum: self.max_htlc_minimum, got: remote.htlc_minimum });
        }
        if remote.max_htlc_value_in_flight < self.min_in_flight {
            let (minimum, got) = (self.min_in_flight, remote.max_htlc_value_in_flight);
            return Err(ParameterError::MaxInFlight { minimum, got });
        }
        let maximum = u128::from(capacity.to_sat()) * u128::from(self.max_reserve_ppm) / 1_000_000;
        let maximum = Amount::from_sat(u64::try_from(maximum).unwrap_or(u64::MAX)).max(self.max_remote_dust_limit);
        if remote.channel_reserve > maximum {
            return Err(ParameterError::Reserve { maximum, got: remote.channel_reserve });
        }
        Ok(())
    }

    /// Checks an `accept_channel`. With `zero_conf` the peer must not wait for confirmations.
    pub fn check_accept(
        &self,
        accept: &AcceptChannel,
        open: &OpenChannel,
        remote: &SideTerms,
        zero_conf: bool,
    ) -> Result<(), ParameterError> {
        match (&accept.channel_type, &open.channel_type) {
            (None, _) => return Err(ParameterError::ChannelTypeMissing),
            (accepted, opened) if accepted != opened => return Err(ParameterError::ChannelTypeChanged),
            (Some(_), _) => {}
        }
        if accept.minimum_depth > self.max_minimum_depth {
            return Err(ParameterError::MinimumDepth { maximum: self.max_minimum_depth, got: accept.minimum_depth });
        }
        if zero_conf && accept.minimum_depth > 0 {
            return Err(ParameterError::NotZeroConf(accept.minimum_depth));
        }
        check_upfront_script(accept.upfront_shutdown_script.as_deref())?;
        self.check_remote(remote, open.funding_satoshis)
    }
}

/// Both reserves must be above both dust limits, and no key of the peer's is one of ours: from whose key an output pays, we tell
/// who published what.
pub(super) fn check_both(local: &SideTerms, remote: &SideTerms) -> Result<(), ParameterError> {
    for reserve in [local.channel_reserve, remote.channel_reserve] {
        for dust_limit in [local.dust_limit, remote.dust_limit] {
            if reserve < dust_limit {
                return Err(ParameterError::ReserveBelowDust { reserve, dust_limit });
            }
        }
    }
    if remote.basepoints.all().iter().any(|key| local.basepoints.all().contains(key)) {
        return Err(ParameterError::OurKey);
    }
    Ok(())
}

/// What the check of `open_channel` needs beside the message.
#[derive(Clone, Copy, Debug)]
pub struct OpenContext<'a> {
    pub chain: ChainHash,
    pub feerates: &'a Feerates,
    /// Whether both nodes offered `option_support_large_channel`.
    pub large_channels: bool,
}

fn check_upfront_script(script: Option<&Script>) -> Result<(), ParameterError> {
    match script {
        Some(script) if !script.is_empty() && !is_shutdown_script(script) => Err(ParameterError::UpfrontScript),
        Some(_) | None => Ok(()),
    }
}

/// Whether BOLT 2 allows `script` in `shutdown` when `option_shutdown_anysegwit` is on: version 0 of 20 or 32 bytes,
/// or versions 1 to 16 of 2 to 40 bytes.
pub fn is_shutdown_script(script: &Script) -> bool {
    script.is_p2wpkh() || script.is_p2wsh() || matches!(script.witness_version(), Some(version) if version.to_num() > 0)
}

/// The side of the channel that an `open_channel` describes.
pub(super) fn opener_terms(open: &OpenChannel) -> SideTerms {
    SideTerms {
        dust_limit: open.dust_limit_satoshis,
        max_htlc_value_in_flight: open.max_htlc_value_in_flight_msat,
        channel_reserve: open.channel_reserve_satoshis,
        htlc_minimum: open.htlc_minimum_msat,
        to_self_delay: open.to_self_delay,
        max_accepted_htlcs: open.max_accepted_htlcs,
        basepoints: Basepoints {
            funding: open.funding_pubkey,
            revocation: open.revocation_basepoint,
            payment: open.payment_basepoint,
            delayed_payment: open.delayed_payment_basepoint,
            htlc: open.htlc_basepoint,
        },
        upfront_shutdown_script: not_empty(open.upfront_shutdown_script.as_ref()),
    }
}

/// The side of the channel that an `accept_channel` describes.
pub(super) fn accepter_terms(accept: &AcceptChannel) -> SideTerms {
    SideTerms {
        dust_limit: accept.dust_limit_satoshis,
        max_htlc_value_in_flight: accept.max_htlc_value_in_flight_msat,
        channel_reserve: accept.channel_reserve_satoshis,
        htlc_minimum: accept.htlc_minimum_msat,
        to_self_delay: accept.to_self_delay,
        max_accepted_htlcs: accept.max_accepted_htlcs,
        basepoints: Basepoints {
            funding: accept.funding_pubkey,
            revocation: accept.revocation_basepoint,
            payment: accept.payment_basepoint,
            delayed_payment: accept.delayed_payment_basepoint,
            htlc: accept.htlc_basepoint,
        },
        upfront_shutdown_script: not_empty(accept.upfront_shutdown_script.as_ref()),
    }
}

fn not_empty(script: Option<&ScriptBuf>) -> Option<ScriptBuf> {
    script.filter(|script| !script.is_empty()).cloned()
}
