//! Channels that are over, kept for people: what they were, how they ended and what came of it.

use bitcoin::{Amount, OutPoint, Txid};
use leyden_channels::types::{Height, NodeId, ShortChannelId, Side};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Store, StoreError};
use crate::parallel;

/// A channel whose end is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedChannel {
    pub node_id: NodeId,
    pub funding: OutPoint,
    pub short_channel_id: Option<ShortChannelId>,
    pub capacity: Amount,
    /// `None` if the channel was never funded.
    pub closing_txid: Option<Txid>,
    /// Where the closing transaction is confirmed.
    pub height: Height,
    /// What we got, if that is known: of a channel of which a backup was all that we had, it may not be.
    pub settled: Option<Amount>,
    /// The part of it that had to wait for `to_self_delay`.
    pub time_locked: Amount,
    pub closure: ClosureType,
    pub opener: Side,
    /// Who closed alone, or asked the other to close together.
    pub closer: Option<Side>,
    /// Why, in words.
    pub reason: String,
    /// What our claims paid to miners.
    pub fees: Amount,
    /// Of a channel that one side closed alone.
    pub outputs: Vec<ResolvedOutput>,
}

/// How a channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosureType {
    Cooperative,
    LocalForce,
    RemoteForce,
    /// A revoked commitment was broadcast and punished.
    Breach,
    /// The funding transaction never came.
    FundingCanceled,
    Abandoned,
}

/// What became of an output of a closed channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedOutput {
    pub outpoint: OutPoint,
    pub amount: Amount,
    /// In BOLT 3's words and with the paper's name.
    pub what: String,
    pub kind: ResolvedKind,
    /// The transaction that spent it, and whether it was ours; `None`: nobody found it worth its fee, or it is not ours.
    pub spent: Option<(Txid, bool)>,
    /// A first stage: its own output follows.
    pub first_stage: bool,
}

/// What an output of a commitment carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedKind {
    Commitment,
    IncomingHtlc,
    OutgoingHtlc,
}

/// The form on disk: JSON, so that a field can be added and a person can read it.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(serialize_with = "write_node_id", deserialize_with = "read_node_id")]
    node_id: NodeId,
    funding: OutPoint,
    short_channel_id: Option<u64>,
    capacity_sat: u64,
    closing_txid: Option<Txid>,
    height: u32,
    settled_sat: Option<u64>,
    time_locked_sat: u64,
    closure: ClosureType,
    opened_by_us: bool,
    closed_by_us: Option<bool>,
    /// What follows was not kept from the beginning.
    #[serde(default)]
    reason: String,
    #[serde(default)]
    fees_sat: u64,
    #[serde(default)]
    outputs: Vec<OutputRecord>,
}

#[derive(Serialize, Deserialize)]
struct OutputRecord {
    outpoint: OutPoint,
    amount_sat: u64,
    what: String,
    kind: ResolvedKind,
    spent_by: Option<Txid>,
    ours: bool,
    first_stage: bool,
}

impl Store {
    /// Keeps or replaces the record of a closed channel.
    pub fn put_closed_channel(&self, channel: &ClosedChannel) -> Result<(), StoreError> {
        let record = Record {
            node_id: channel.node_id,
            funding: channel.funding,
            short_channel_id: channel.short_channel_id.map(|id| id.0),
            capacity_sat: channel.capacity.to_sat(),
            closing_txid: channel.closing_txid,
            height: channel.height.0,
            settled_sat: channel.settled.map(Amount::to_sat),
            time_locked_sat: channel.time_locked.to_sat(),
            closure: channel.closure,
            opened_by_us: channel.opener == Side::Local,
            closed_by_us: channel.closer.map(|closer| closer == Side::Local),
            reason: channel.reason.clone(),
            fees_sat: channel.fees.to_sat(),
            outputs: channel.outputs.iter().map(OutputRecord::from).collect(),
        };
        let bytes = serde_json::to_vec(&record).map_err(|error| self.damaged(&error.to_string()))?;
        self.put_history(&closed_key(&channel.funding), &bytes)
    }

    /// The record of a channel that has ended.
    pub fn closed_channel(&self, funding: &OutPoint) -> Result<Option<ClosedChannel>, StoreError> {
        let Some(bytes) = self.history_entry(&closed_key(funding))? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| self.damaged(&error.to_string()))?;
        Ok(Some(record.into()))
    }

    /// In the order of their ends.
    pub fn closed_channels(&self) -> Result<Vec<ClosedChannel>, StoreError> {
        self.closed_channels_as()
    }

    /// The same, each made into what it is wanted as where it is read: a list can be long, and is read on all processors.
    pub(crate) fn closed_channels_as<T: From<ClosedChannel> + Send>(&self) -> Result<Vec<T>, StoreError> {
        let read = |bytes: Vec<u8>| {
            let record: Record = serde_json::from_slice(&bytes).map_err(|error| self.damaged(&error.to_string()))?;
            Ok(((record.height, record.funding), T::from(record.into())))
        };
        let prefixes = FIRST_DIGITS.map(|digit| [CLOSED, &[digit]].concat());
        let read_part = |prefix: &Vec<u8>| self.history(prefix)?.into_iter().map(read).collect::<Result<Vec<_>, _>>();
        let parts: Result<Vec<_>, StoreError> = parallel::map_few(&prefixes, read_part).into_iter().collect();
        let mut list: Vec<_> = parts?.into_iter().flatten().collect();
        list.sort_by_cached_key(|(end, _)| *end);
        Ok(list.into_iter().map(|(_, channel)| channel).collect())
    }

    /// A reorganisation brought the channel back.
    pub fn remove_closed_channel(&self, funding: &OutPoint) -> Result<(), StoreError> {
        self.remove_history(&closed_key(funding))
    }

    /// The user's words about a transaction.
    pub fn put_label(&self, txid: &Txid, label: &str) -> Result<(), StoreError> {
        self.put_history(&label_key(txid), label.as_bytes())
    }

    /// What the user wrote about a channel at its opening.
    pub fn put_memo(&self, funding: &OutPoint, memo: &str) -> Result<(), StoreError> {
        self.put_history(&memo_key(funding), memo.as_bytes())
    }

    /// What the user noted of a channel when it was opened.
    pub fn memo(&self, funding: &OutPoint) -> Result<Option<String>, StoreError> {
        let bytes = self.history_entry(&memo_key(funding))?;
        bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| self.damaged("a memo"))).transpose()
    }

    /// What the user called a transaction.
    pub fn label(&self, txid: &Txid) -> Result<Option<String>, StoreError> {
        let bytes = self.history_entry(&label_key(txid))?;
        bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| self.damaged("a label"))).transpose()
    }
}

/// As hex. Whether it is a point of the curve is not asked again of each of ten thousand peers.
fn write_node_id<S: Serializer>(node_id: &NodeId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&node_id.to_string())
}

fn read_node_id<'a, D: Deserializer<'a>>(from: D) -> Result<NodeId, D::Error> {
    let text = <&str>::deserialize(from)?;
    let mut node_id = NodeId([0; 33]);
    hex::decode_to_slice(text, &mut node_id.0).map_err(D::Error::custom)?;
    Ok(node_id)
}

const CLOSED: &[u8] = b"closed ";
/// What follows in a key: funding transactions are named in hexadecimal digits.
const FIRST_DIGITS: [u8; 16] = *b"0123456789abcdef";

fn closed_key(funding: &OutPoint) -> Vec<u8> {
    [CLOSED, funding.to_string().as_bytes()].concat()
}

fn memo_key(funding: &OutPoint) -> Vec<u8> {
    format!("memo {funding}").into_bytes()
}

fn label_key(txid: &Txid) -> Vec<u8> {
    format!("label {txid}").into_bytes()
}

impl From<&ResolvedOutput> for OutputRecord {
    fn from(output: &ResolvedOutput) -> Self {
        Self {
            outpoint: output.outpoint,
            amount_sat: output.amount.to_sat(),
            what: output.what.clone(),
            kind: output.kind,
            spent_by: output.spent.map(|(txid, _)| txid),
            ours: output.spent.is_some_and(|(_, ours)| ours),
            first_stage: output.first_stage,
        }
    }
}

impl From<OutputRecord> for ResolvedOutput {
    fn from(record: OutputRecord) -> Self {
        Self {
            outpoint: record.outpoint,
            amount: Amount::from_sat(record.amount_sat),
            what: record.what,
            kind: record.kind,
            spent: record.spent_by.map(|txid| (txid, record.ours)),
            first_stage: record.first_stage,
        }
    }
}

impl From<Record> for ClosedChannel {
    fn from(record: Record) -> Self {
        let side = |ours| if ours { Side::Local } else { Side::Remote };
        Self {
            node_id: record.node_id,
            funding: record.funding,
            short_channel_id: record.short_channel_id.map(ShortChannelId),
            capacity: Amount::from_sat(record.capacity_sat),
            closing_txid: record.closing_txid,
            height: Height(record.height),
            settled: record.settled_sat.map(Amount::from_sat),
            time_locked: Amount::from_sat(record.time_locked_sat),
            closure: record.closure,
            opener: side(record.opened_by_us),
            closer: record.closed_by_us.map(side),
            reason: record.reason,
            fees: Amount::from_sat(record.fees_sat),
            outputs: record.outputs.into_iter().map(ResolvedOutput::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    #[test]
    fn closed_channels_and_labels_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let node_id = secp256k1::SecretKey::from_slice(&[2; 32]).unwrap().public_key(secp256k1::SECP256K1).into();
        let txid: Txid = "1111111111111111111111111111111111111111111111111111111111111111".parse().unwrap();
        let channel = ClosedChannel {
            node_id,
            funding: OutPoint { txid, vout: 1 },
            short_channel_id: Some(ShortChannelId(5)),
            capacity: Amount::from_sat(100_000),
            closing_txid: Some(txid),
            height: Height(120),
            settled: Some(Amount::from_sat(60_000)),
            time_locked: Amount::ZERO,
            closure: ClosureType::Cooperative,
            opener: Side::Remote,
            closer: Some(Side::Remote),
            reason: "the peer asked".to_owned(),
            fees: Amount::from_sat(700),
            outputs: vec![ResolvedOutput {
                outpoint: OutPoint { txid, vout: 0 },
                amount: Amount::from_sat(5_000),
                what: "to_remote (D): ours".to_owned(),
                kind: ResolvedKind::Commitment,
                spent: Some((txid, true)),
                first_stage: false,
            }],
        };
        {
            let store = Store::open(folder.path()).unwrap();
            store.put_closed_channel(&channel).unwrap();
            store.put_closed_channel(&ClosedChannel { height: Height(121), ..channel.clone() }).unwrap();
            store.put_label(&txid, "rent").unwrap();
        }
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.closed_channels().unwrap(), [ClosedChannel { height: Height(121), ..channel.clone() }]);
        assert_eq!(store.label(&txid).unwrap().as_deref(), Some("rent"));
        let at = |digit: u8, height| {
            let funding = OutPoint { txid: Txid::from_byte_array([digit << 4; 32]), vout: 0 };
            ClosedChannel { funding, height: Height(height), ..channel.clone() }
        };
        let others = (0..16).map(|digit| at(digit, 100 - u32::from(digit))).collect::<Vec<_>>();
        others.iter().for_each(|other| store.put_closed_channel(other).unwrap());
        let heights: Vec<u32> = store.closed_channels().unwrap().iter().map(|channel| channel.height.0).collect();
        assert_eq!(heights, (85..=100).chain([121]).collect::<Vec<_>>(), "in the order of their ends");
        others.iter().for_each(|other| store.remove_closed_channel(&other.funding).unwrap());
        store.remove_closed_channel(&channel.funding).unwrap();
        assert!(store.closed_channels().unwrap().is_empty());
    }
}
