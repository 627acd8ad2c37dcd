//! The terms: what was agreed at opening.

use bitcoin::OutPoint;

use super::{FORMAT, damaged, get_option, open, put_option};
use crate::channel::Sides;
use crate::channel::error::RestoreError;
use crate::channel::params::ChannelType;
use crate::channel::terms::{SideTerms, Terms};
use crate::keys::Basepoints;
use crate::types::{CommitmentType, Side};
use crate::wire::codec::{DecodeError, Field, Reader};

const OPENER: u8 = 1;
const ANCHORS: u8 = 2;
const SCID_ALIAS: u8 = 4;
const ANNOUNCE: u8 = 8;
const ZERO_CONF: u8 = 16;
/// The last field is what was pushed.
const PUSHED: u8 = 32;
/// All that this version knows. A bit more says something of the channel that it would get wrong, such as a commitment
/// type of a later version.
const KNOWN: u8 = OPENER | ANCHORS | SCID_ALIAS | ANNOUNCE | ZERO_CONF | PUSHED;

pub(crate) fn encode_terms(terms: &Terms) -> Vec<u8> {
    let mut out = Vec::with_capacity(700);
    out.push(FORMAT);
    terms.channel_id.write(&mut out);
    terms.remote_node.write(&mut out);
    terms.keys_id.write(&mut out);
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    out.push(
        flag(terms.opener == Side::Local, OPENER)
            | commitment_flag(terms.channel_type.commitment)
            | flag(terms.channel_type.scid_alias, SCID_ALIAS)
            | flag(terms.channel_type.zero_conf, ZERO_CONF)
            | flag(terms.announce, ANNOUNCE)
            | flag(terms.push.is_some(), PUSHED),
    );
    terms.funding.txid.write(&mut out);
    terms.funding.vout.write(&mut out);
    terms.capacity.write(&mut out);
    terms.minimum_depth.write(&mut out);
    for side in [&terms.sides.local, &terms.sides.remote] {
        write_side(side, &mut out);
    }
    terms.shutdown_script.write(&mut out);
    if let Some(push) = terms.push {
        push.write(&mut out);
    }
    out
}

pub(crate) fn decode_terms(bytes: &[u8]) -> Result<Terms, RestoreError> {
    let what = "terms";
    let mut reader = open(what, bytes)?;
    read_terms(&mut reader).and_then(|terms| reader.finish().map(|()| terms)).map_err(damaged(what))
}

fn read_terms(reader: &mut Reader<'_>) -> Result<Terms, DecodeError> {
    let (channel_id, remote_node, keys_id) = (reader.field()?, reader.field()?, reader.field()?);
    let flags: u8 = reader.field()?;
    if flags & !KNOWN != 0 {
        return Err(DecodeError::CountMismatch { expected: usize::from(KNOWN), got: usize::from(flags) });
    }
    Ok(Terms {
        channel_id,
        remote_node,
        keys_id,
        opener: if flags & OPENER != 0 { Side::Local } else { Side::Remote },
        channel_type: ChannelType {
            commitment: commitment_of(flags),
            scid_alias: flags & SCID_ALIAS != 0,
            zero_conf: flags & ZERO_CONF != 0,
        },
        announce: flags & ANNOUNCE != 0,
        funding: OutPoint { txid: reader.field()?, vout: reader.field()? },
        capacity: reader.field()?,
        minimum_depth: reader.field()?,
        sides: Sides { local: read_side(reader)?, remote: read_side(reader)? },
        shutdown_script: reader.field()?,
        push: if flags & PUSHED != 0 { Some(reader.field()?) } else { None },
    })
}

fn commitment_flag(kind: CommitmentType) -> u8 {
    match kind {
        CommitmentType::StaticRemoteKey => 0,
        CommitmentType::Anchors => ANCHORS,
    }
}

/// Of flags that are all known.
fn commitment_of(flags: u8) -> CommitmentType {
    if flags & ANCHORS != 0 { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey }
}

fn write_side(side: &SideTerms, out: &mut Vec<u8>) {
    side.dust_limit.write(out);
    side.max_htlc_value_in_flight.write(out);
    side.channel_reserve.write(out);
    side.htlc_minimum.write(out);
    side.to_self_delay.write(out);
    side.max_accepted_htlcs.write(out);
    let Basepoints { funding, revocation, payment, delayed_payment, htlc } = &side.basepoints;
    for point in [funding, revocation, payment, delayed_payment, htlc] {
        point.write(out);
    }
    put_option(side.upfront_shutdown_script.as_ref(), out);
}

fn read_side(reader: &mut Reader<'_>) -> Result<SideTerms, DecodeError> {
    Ok(SideTerms {
        dust_limit: reader.field()?,
        max_htlc_value_in_flight: reader.field()?,
        channel_reserve: reader.field()?,
        htlc_minimum: reader.field()?,
        to_self_delay: reader.field()?,
        max_accepted_htlcs: reader.field()?,
        basepoints: Basepoints {
            funding: reader.field()?,
            revocation: reader.field()?,
            payment: reader.field()?,
            delayed_payment: reader.field()?,
            htlc: reader.field()?,
        },
        upfront_shutdown_script: get_option(reader)?,
    })
}
