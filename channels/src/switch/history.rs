//! What was forwarded, for the record and for whoever watches.

use crate::channel::RestoreError;
use crate::types::{ChannelId, HtlcId, Msat, PaymentPreimage, ShortChannelId, UnixTime};
use crate::wire::bigsize;
use crate::wire::codec::Field as _;

use super::circuit::{HtlcRef, Leg};
use super::policy::{FORMAT, decode};

/// A forward that was fulfilled: stored once, under [`Key::Forward`](crate::channel::Key::Forward).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardRecord {
    /// Counts forwards, from 1; they rise with time.
    pub number: u64,
    /// When it was fulfilled.
    pub at: UnixTime,
    /// The HTLC that came in.
    pub incoming: HtlcRef,
    /// Its channel, as the network named it then.
    pub incoming_channel: Option<ShortChannelId>,
    /// What came in.
    pub incoming_amount: Msat,
    /// The HTLC that went out.
    pub outgoing: Outgoing,
    /// Its channel, as the network named it then.
    pub outgoing_channel: Option<ShortChannelId>,
    /// What went out; the rest was earned.
    pub outgoing_amount: Msat,
}

impl ForwardRecord {
    /// What we earned.
    pub fn fee(&self) -> Msat {
        self.incoming_amount.saturating_sub(self.outgoing_amount)
    }

    /// The bytes that are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.push(FORMAT);
        bigsize::write(self.at.0, &mut out);
        let sides = [
            (Outgoing::from(self.incoming), self.incoming_channel, self.incoming_amount),
            (self.outgoing, self.outgoing_channel, self.outgoing_amount),
        ];
        for (htlc, name, amount) in sides {
            htlc.channel.write(&mut out);
            bigsize::write(htlc.id.map_or(0, |id| id.0.saturating_add(1)), &mut out);
            // No funding output is output 0 of transaction 0 of block 0.
            bigsize::write(name.map_or(0, |name| name.0), &mut out);
            bigsize::write(amount.0, &mut out);
        }
        out
    }

    /// Reads what is stored under number `number`.
    pub fn decode(number: u64, bytes: &[u8]) -> Result<Self, RestoreError> {
        decode("forward", bytes, FORMAT, |reader, _| {
            let at = UnixTime(reader.bigsize()?);
            let mut side = || {
                let channel = reader.field()?;
                let htlc = Outgoing { channel, id: reader.bigsize()?.checked_sub(1).map(HtlcId) };
                let name = Some(ShortChannelId(reader.bigsize()?)).filter(|name| name.0 != 0);
                Ok((htlc, name, Msat(reader.bigsize()?)))
            };
            let (incoming, incoming_channel, incoming_amount) = side()?;
            let (outgoing, outgoing_channel, outgoing_amount) = side()?;
            Ok(Self {
                number,
                at,
                incoming: HtlcRef { channel: incoming.channel, id: incoming.id.unwrap_or_default() },
                incoming_channel,
                incoming_amount,
                outgoing,
                outgoing_channel,
                outgoing_amount,
            })
        })
    }
}

/// News of one forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcEvent {
    /// When it happened.
    pub at: UnixTime,
    /// The HTLC that came in.
    pub incoming: HtlcRef,
    /// `None` if it got nowhere.
    pub outgoing: Option<Outgoing>,
    /// What happened.
    pub kind: HtlcEventKind,
}

/// The other end of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The channel that it went out over.
    pub channel: ChannelId,
    /// Known once the channel tells the HTLC's fate; lost if a restart comes between that and its settlement.
    pub id: Option<HtlcId>,
}

impl From<HtlcRef> for Outgoing {
    fn from(htlc: HtlcRef) -> Self {
        Self { channel: htlc.channel, id: Some(htlc.id) }
    }
}

/// What happened to a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum HtlcEventKind {
    /// It has been handed to a channel.
    Forward { incoming: Leg, outgoing: Leg },
    /// It failed further on.
    ForwardFail,
    /// It was fulfilled, and this was earned. The last one of a forward; at least once.
    Settle { preimage: PaymentPreimage, fee: Msat },
    /// It failed here, with this code of BOLT 4.
    LinkFail { incoming: Leg, failure_code: u16, detail: FailureDetail },
}

/// What the code of BOLT 4 leaves open. Its sender is told no more than the code; whoever runs the node is told this too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureDetail {
    /// The code says it all.
    None,
    /// The onion, or our layer of it, could not be read, or is one that was here before.
    OnionDecode,
    /// The next node is not there, or its channel takes nothing now.
    LinkNotEligible,
    /// It is more than may be forwarded at once, by our terms or by what the peer allows in flight.
    ExceedsMaximum,
    /// The outgoing channel has not that much.
    InsufficientBalance,
    /// It was to leave by the channel that it came by.
    CircularRoute,
    /// The outgoing channel did not take it.
    AddFailed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let record = ForwardRecord {
            number: 7,
            at: UnixTime(1_700_000_000),
            incoming: HtlcRef { channel: ChannelId([1; 32]), id: HtlcId(3) },
            incoming_channel: Some(ShortChannelId(99)),
            incoming_amount: Msat(1_010),
            outgoing: Outgoing { channel: ChannelId([2; 32]), id: Some(HtlcId(0)) },
            outgoing_channel: None,
            outgoing_amount: Msat(1_000),
        };
        assert_eq!(ForwardRecord::decode(7, &record.encode()), Ok(record));
        let unknown = ForwardRecord { outgoing: Outgoing { id: None, ..record.outgoing }, ..record };
        assert_eq!(ForwardRecord::decode(7, &unknown.encode()), Ok(unknown));
        assert_eq!(record.fee(), Msat(10));
        assert!(ForwardRecord::decode(7, &[1, 2, 3]).is_err());
    }
}
