//! Feature bits: what a node, a channel or an invoice offers and demands (BOLT 9).
//!
//! Bits come in pairs: the even one demands a feature, the odd one offers it. A peer that demands what we do not
//! know, or sets a feature without those that it depends on, cannot be talked to.
//!
//! | context              | required       | optional                                           |
//! |----------------------|----------------|----------------------------------------------------|
//! | `init`               | 0, 8, 12, 14   | 5, 7, 11, 17, 19, 23, 27, 43, 45, 47               |
//! | `node_announcement`  | 0, 8, 12, 14   | 5, 7, 11, 17, 19, 23, 27, 43, 45, 47               |
//! | BOLT 11 invoice      | 8, 14          | 17                                                 |
//! | `channel_type`       | 12, or 12 + 22 | none: with 46 when the channel stays private       |
//!
//! Anchors are 23 and `option_channel_type` is 45, never the even ones: Electrum 4.3.4 hangs up on 22, and
//! nobody needs to be refused for either.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::codec::{DecodeError, Field, Reader, Record};

/// A feature that this code knows by name; the discriminant is its even bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of BOLT 9")]
pub enum Feature {
    DataLossProtect = 0,
    UpfrontShutdownScript = 4,
    GossipQueries = 6,
    VarOnionOptin = 8,
    GossipQueriesEx = 10,
    StaticRemotekey = 12,
    PaymentSecret = 14,
    BasicMpp = 16,
    SupportLargeChannel = 18,
    Anchors = 22,
    RouteBlinding = 24,
    ShutdownAnysegwit = 26,
    DualFund = 28,
    Quiesce = 34,
    AttributionData = 36,
    OnionMessages = 38,
    ProvideStorage = 42,
    ChannelType = 44,
    ScidAlias = 46,
    PaymentMetadata = 48,
    Zeroconf = 50,
    SimpleClose = 60,
    Splice = 62,
}

impl Feature {
    /// All of them, by their bits.
    pub const ALL: [Self; 23] = [
        Self::DataLossProtect,
        Self::UpfrontShutdownScript,
        Self::GossipQueries,
        Self::VarOnionOptin,
        Self::GossipQueriesEx,
        Self::StaticRemotekey,
        Self::PaymentSecret,
        Self::BasicMpp,
        Self::SupportLargeChannel,
        Self::Anchors,
        Self::RouteBlinding,
        Self::ShutdownAnysegwit,
        Self::DualFund,
        Self::Quiesce,
        Self::AttributionData,
        Self::OnionMessages,
        Self::ProvideStorage,
        Self::ChannelType,
        Self::ScidAlias,
        Self::PaymentMetadata,
        Self::Zeroconf,
        Self::SimpleClose,
        Self::Splice,
    ];

    /// The bit that demands this feature; the one above it offers it.
    pub const fn required_bit(self) -> usize {
        self as usize
    }

    /// The odd bit, which others may ignore.
    pub const fn optional_bit(self) -> usize {
        self as usize + 1
    }

    /// BOLT 9's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DataLossProtect => "option_data_loss_protect",
            Self::UpfrontShutdownScript => "option_upfront_shutdown_script",
            Self::GossipQueries => "gossip_queries",
            Self::VarOnionOptin => "var_onion_optin",
            Self::GossipQueriesEx => "gossip_queries_ex",
            Self::StaticRemotekey => "option_static_remotekey",
            Self::PaymentSecret => "payment_secret",
            Self::BasicMpp => "basic_mpp",
            Self::SupportLargeChannel => "option_support_large_channel",
            Self::Anchors => "option_anchors",
            Self::RouteBlinding => "option_route_blinding",
            Self::ShutdownAnysegwit => "option_shutdown_anysegwit",
            Self::DualFund => "option_dual_fund",
            Self::Quiesce => "option_quiesce",
            Self::AttributionData => "option_attribution_data",
            Self::OnionMessages => "option_onion_messages",
            Self::ProvideStorage => "option_provide_storage",
            Self::ChannelType => "option_channel_type",
            Self::ScidAlias => "option_scid_alias",
            Self::PaymentMetadata => "option_payment_metadata",
            Self::Zeroconf => "option_zeroconf",
            Self::SimpleClose => "option_simple_close",
            Self::Splice => "option_splice",
        }
    }

    /// What has to be set wherever this feature is set (BOLT 9, the dependency column). Features that the column
    /// calls ASSUMED count as set.
    pub const fn dependency(self) -> Option<Self> {
        match self {
            Self::Zeroconf => Some(Self::ScidAlias),
            Self::SimpleClose => Some(Self::ShutdownAnysegwit),
            // `basic_mpp` depends on `payment_secret`; kept although ASSUMED, because peers do check it.
            Self::BasicMpp => Some(Self::PaymentSecret),
            Self::DataLossProtect
            | Self::UpfrontShutdownScript
            | Self::GossipQueries
            | Self::VarOnionOptin
            | Self::GossipQueriesEx
            | Self::StaticRemotekey
            | Self::PaymentSecret
            | Self::SupportLargeChannel
            | Self::Anchors
            | Self::RouteBlinding
            | Self::ShutdownAnysegwit
            | Self::DualFund
            | Self::Quiesce
            | Self::AttributionData
            | Self::OnionMessages
            | Self::ProvideStorage
            | Self::ChannelType
            | Self::ScidAlias
            | Self::PaymentMetadata
            | Self::Splice => None,
        }
    }

    /// Whether this code can live with a peer, node, channel or invoice that demands the feature.
    pub const fn is_understood(self) -> bool {
        match self {
            Self::DataLossProtect
            | Self::UpfrontShutdownScript
            | Self::GossipQueries
            | Self::VarOnionOptin
            | Self::GossipQueriesEx
            | Self::StaticRemotekey
            | Self::PaymentSecret
            | Self::BasicMpp
            | Self::SupportLargeChannel
            | Self::Anchors
            | Self::ShutdownAnysegwit
            | Self::ProvideStorage
            | Self::ChannelType
            | Self::ScidAlias
            | Self::Zeroconf
            | Self::PaymentMetadata => true,
            Self::RouteBlinding
            | Self::DualFund
            | Self::Quiesce
            | Self::AttributionData
            | Self::OnionMessages
            | Self::SimpleClose
            | Self::Splice => false,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a feature vector cannot be lived with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum FeatureError {
    #[error("feature bit {0} is demanded, which this node does not have")]
    UnknownRequired(usize),
    #[error("{feature} is set without {missing}, on which it depends")]
    MissingDependency { feature: Feature, missing: Feature },
}

/// A vector of feature bits. Two vectors with the same bits are equal, however many zero bytes pad them; the
/// padding itself is kept, because announcements are signed over it.
#[derive(Clone, Default)]
pub struct Features {
    /// Bit n is bit n % 8 of byte n / 8: the reverse of the order on the wire.
    little_endian: Vec<u8>,
}

impl Features {
    /// No feature.
    pub const fn empty() -> Self {
        Self { little_endian: Vec::new() }
    }

    /// What this node says in `init` and in its `node_announcement`.
    pub fn init() -> Self {
        Self::empty()
            .require(Feature::DataLossProtect)
            .require(Feature::VarOnionOptin)
            .require(Feature::StaticRemotekey)
            .require(Feature::PaymentSecret)
            .offer(Feature::UpfrontShutdownScript)
            .offer(Feature::GossipQueries)
            .offer(Feature::GossipQueriesEx)
            .offer(Feature::BasicMpp)
            .offer(Feature::SupportLargeChannel)
            .offer(Feature::Anchors)
            .offer(Feature::ShutdownAnysegwit)
            .offer(Feature::ProvideStorage)
            .offer(Feature::ChannelType)
            .offer(Feature::ScidAlias)
    }

    /// What this node puts into its invoices.
    pub fn invoice() -> Self {
        Self::empty().require(Feature::VarOnionOptin).require(Feature::PaymentSecret).offer(Feature::BasicMpp)
    }

    /// The `channel_type` of commitments with `option_static_remotekey` alone (BOLT 2, Defined Channel Types).
    pub fn static_remotekey_channel() -> Self {
        Self::empty().require(Feature::StaticRemotekey)
    }

    /// The `channel_type` of commitments with anchors and HTLC transactions that pay no fee.
    pub fn anchors_channel() -> Self {
        Self::static_remotekey_channel().require(Feature::Anchors)
    }

    /// Bits from their order on the wire: the last byte holds bits 0 to 7.
    pub fn from_be_bytes(bytes: &[u8]) -> Self {
        Self { little_endian: bytes.iter().rev().copied().collect() }
    }

    /// Bits in their order on the wire, with the padding that they came with.
    pub fn to_be_bytes(&self) -> Vec<u8> {
        self.little_endian.iter().rev().copied().collect()
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.little_endian.iter().all(|byte| *byte == 0)
    }

    /// Whether this bit is set.
    pub fn has_bit(&self, bit: usize) -> bool {
        self.little_endian.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }

    /// Sets this bit.
    pub fn set_bit(&mut self, bit: usize) {
        if self.little_endian.len() <= bit / 8 {
            self.little_endian.resize(bit / 8 + 1, 0);
        }
        if let Some(byte) = self.little_endian.get_mut(bit / 8) {
            *byte |= 1 << (bit % 8);
        }
    }

    /// With `feature` demanded.
    pub fn require(mut self, feature: Feature) -> Self {
        self.set_bit(feature.required_bit());
        self
    }

    /// With `feature` offered.
    pub fn offer(mut self, feature: Feature) -> Self {
        self.set_bit(feature.optional_bit());
        self
    }

    /// Demanded or offered.
    pub fn supports(&self, feature: Feature) -> bool {
        self.has_bit(feature.required_bit()) || self.has_bit(feature.optional_bit())
    }

    /// Demanded.
    pub fn requires(&self, feature: Feature) -> bool {
        self.has_bit(feature.required_bit())
    }

    /// Both vectors in one: `init` splits its bits over two for historical reasons.
    pub fn union(mut self, other: &Self) -> Self {
        if self.little_endian.len() < other.little_endian.len() {
            self.little_endian.resize(other.little_endian.len(), 0);
        }
        for (byte, more) in self.little_endian.iter_mut().zip(&other.little_endian) {
            *byte |= more;
        }
        self
    }

    /// The bits that are set, in increasing order.
    pub fn bits(&self) -> impl Iterator<Item = usize> + '_ {
        self.little_endian
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte != 0)
            .flat_map(|(index, byte)| (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| index * 8 + bit))
    }

    /// Whether this code can talk to somebody who sets these bits (BOLT 1, The `init` Message).
    pub fn check(&self) -> Result<(), FeatureError> {
        self.check_required()?;
        for feature in Feature::ALL.into_iter().filter(|feature| self.supports(*feature)) {
            if let Some(missing) = feature.dependency()
                && !self.supports(missing)
            {
                return Err(FeatureError::MissingDependency { feature, missing });
            }
        }
        Ok(())
    }

    /// Whether every bit that is demanded is one that this code understands.
    pub fn check_required(&self) -> Result<(), FeatureError> {
        let understood =
            |bit| Feature::ALL.iter().any(|feature| feature.required_bit() == bit && feature.is_understood());
        match self.bits().find(|bit| bit % 2 == 0 && !understood(*bit)) {
            Some(bit) => Err(FeatureError::UnknownRequired(bit)),
            None => Ok(()),
        }
    }

    fn significant(&self) -> &[u8] {
        let len = self.little_endian.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.little_endian.get(..len).unwrap_or_default()
    }
}

impl PartialEq for Features {
    fn eq(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for Features {}

impl Hash for Features {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.significant().hash(state);
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Features")?;
        f.debug_set().entries(self.bits()).finish()
    }
}

impl Field for Features {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = reader.field::<u16>()?;
        Ok(Self::from_be_bytes(reader.bytes(usize::from(len))?))
    }

    fn write(&self, out: &mut Vec<u8>) {
        (self.little_endian.len() as u16).write(out);
        out.extend(self.little_endian.iter().rev());
    }
}

impl Record for Features {
    fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_be_bytes(value.take_rest()))
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        out.extend(self.little_endian.iter().rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_vectors_are_well_formed_and_set_the_documented_bits() {
        let bits = |features: &Features| features.bits().collect::<Vec<_>>();
        assert_eq!(bits(&Features::init()), [0, 5, 7, 8, 11, 12, 14, 17, 19, 23, 27, 43, 45, 47]);
        assert_eq!(bits(&Features::invoice()), [8, 14, 17]);
        assert_eq!(bits(&Features::anchors_channel()), [12, 22]);
        for features in [Features::init(), Features::invoice()] {
            assert_eq!(features.check(), Ok(()));
        }
    }

    #[test]
    fn an_unknown_required_bit_or_a_missing_dependency_is_refused() {
        let mut unknown = Features::init();
        unknown.set_bit(100);
        assert_eq!(unknown.check(), Err(FeatureError::UnknownRequired(100)));
        let mut odd = Features::init();
        odd.set_bit(101);
        assert_eq!(odd.check(), Ok(()));
        let alone = Features::empty().offer(Feature::Zeroconf);
        let error = FeatureError::MissingDependency { feature: Feature::Zeroconf, missing: Feature::ScidAlias };
        assert_eq!(alone.check(), Err(error));
        let splice = Features::init().require(Feature::Splice);
        assert_eq!(splice.check(), Err(FeatureError::UnknownRequired(62)));
    }

    #[test]
    fn padding_is_kept_but_does_not_count() {
        let padded = Features::from_be_bytes(&[0, 0, 0x10, 0x00]);
        assert_eq!(padded, Features::static_remotekey_channel());
        assert_eq!(padded.to_be_bytes(), [0, 0, 0x10, 0x00]);
        assert!(padded.requires(Feature::StaticRemotekey));
    }
}
