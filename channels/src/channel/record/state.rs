//! The state: what most commits write, so it is small.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::consensus::encode::{deserialize, serialize};

use super::closing::{self, StoredClosing};
use super::{damaged, get_count, get_option, open_up_to, put_number, put_option, read_commitment_number};
use crate::channel::Sides;
use crate::channel::commitment::changes::{LocalChanges, RemoteChanges, Update};
use crate::channel::commitment::local::LocalCommitment;
use crate::channel::commitment::remote::{Remote, RemoteCommitment, RemoteStage};
use crate::channel::commitment::spec::{CommitmentSpec, Htlc, HtlcKey};
use crate::channel::commitment::{Commitments, HtlcDetails, PointCache, PreparedKeys, Views};
use crate::channel::error::RestoreError;
use crate::channel::funding::FundingState;
use crate::channel::state::{Agreed, CloseFees, Established, LocalShutdown, Negotiating, Phase, Shutdown};
use crate::keys::{CommitmentSignatures, PerCommitmentSecrets};
use crate::types::{CommitmentNumber, FeeratePerKw, Height, HtlcId, Msat, PaymentPreimage, ShortChannelId, Side};
use crate::wire::codec::{DecodeError, Field, Reader};

/// The second format knows what was written off, the third one what becomes of the outputs of a channel that closes,
/// the fourth one what was queued for towers.
const FORMAT: u8 = 4;

const IN_LOCAL: u8 = 1;
const IN_CURRENT: u8 = 2;
const IN_NEXT: u8 = 4;
const REMOTE_OFFERED: u8 = 8;
const HAS_FIRST: u8 = 16;

/// Everything of an established channel that the other rows do not say.
pub(crate) struct StateRecord {
    pub phase: StoredPhase,
    pub short_channel_id: Option<ShortChannelId>,
    pub aliases: Sides<Option<ShortChannelId>>,
    pub opened_at: Height,
    pub funding_transaction: Option<Transaction>,
    pub funding_state: FundingState,
    pub commitments: Commitments,
    /// For the towers.
    pub queued: Option<CommitmentNumber>,
}

/// A phase as far as the state alone tells it.
pub(crate) enum StoredPhase {
    /// What becomes of its outputs depends on the other rows too.
    Closing(StoredClosing),
    Other(Phase),
}

impl StoredPhase {
    #[cfg(test)]
    pub(crate) fn name(&self) -> crate::channel::StateName {
        match self {
            Self::Closing(_) => crate::channel::StateName::Closing,
            Self::Other(phase) => phase.name(),
        }
    }
}

pub(crate) fn encode_state(channel: &Established) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(FORMAT);
    write_phase(&channel.phase, &mut out);
    put_option(channel.short_channel_id.as_ref(), &mut out);
    put_option(channel.aliases.local.as_ref(), &mut out);
    put_option(channel.aliases.remote.as_ref(), &mut out);
    put_number(u64::from(channel.opened_at.0), &mut out);
    write_transaction(channel.funding_transaction.as_ref(), &mut out);
    write_funding_state(channel.funding_state, &mut out);
    write_commitments(&channel.commitments, &mut out);
    put_option(channel.towers.queued.as_ref(), &mut out);
    out
}

/// The state, with the HTLCs, signatures and secrets of the other rows.
pub(crate) fn decode_state(
    bytes: &[u8],
    htlcs: BTreeMap<HtlcKey, HtlcDetails>,
    signatures: CommitmentSignatures,
    secrets: PerCommitmentSecrets,
) -> Result<StateRecord, RestoreError> {
    let what = "state";
    let (format, mut reader) = open_up_to(FORMAT, what, bytes)?;
    let read = || -> Result<StateRecord, DecodeError> {
        Ok(StateRecord {
            phase: read_phase(&mut reader)?,
            short_channel_id: get_option(&mut reader)?,
            aliases: Sides { local: get_option(&mut reader)?, remote: get_option(&mut reader)? },
            opened_at: read_height(&mut reader)?,
            funding_transaction: read_transaction(&mut reader)?,
            funding_state: read_funding_state(&mut reader)?,
            commitments: read_commitments(format, &mut reader, htlcs, signatures, secrets)?,
            queued: if format < 4 { None } else { get_option(&mut reader)? },
        })
    };
    let record = read().map_err(damaged(what))?;
    reader.finish().map_err(damaged(what))?;
    Ok(record)
}

const AWAITED: u8 = 0;
const CONFIRMED: u8 = 1;
const SHALLOW: u8 = 2;
const REORGED_OUT: u8 = 3;
const DOUBLE_SPENT: u8 = 4;

fn write_funding_state(state: FundingState, out: &mut Vec<u8>) {
    match state {
        FundingState::Awaited => out.push(AWAITED),
        FundingState::Confirmed => out.push(CONFIRMED),
        FundingState::Shallow => out.push(SHALLOW),
        FundingState::ReorgedOut => out.push(REORGED_OUT),
        FundingState::DoubleSpent { by, height } => {
            out.push(DOUBLE_SPENT);
            by.write(out);
            put_number(u64::from(height.0), out);
        }
    }
}

fn read_funding_state(reader: &mut Reader<'_>) -> Result<FundingState, DecodeError> {
    Ok(match reader.field::<u8>()? {
        AWAITED => FundingState::Awaited,
        CONFIRMED => FundingState::Confirmed,
        SHALLOW => FundingState::Shallow,
        REORGED_OUT => FundingState::ReorgedOut,
        _ => FundingState::DoubleSpent { by: reader.field()?, height: read_height(reader)? },
    })
}

fn write_commitments(commitments: &Commitments, out: &mut Vec<u8>) {
    let Commitments { local, remote, local_changes, remote_changes, next_id, paid, written_off, details, .. } =
        commitments;
    put_number(local.number.0, out);
    write_spec(&local.spec, out);
    write_remote(&remote.current, out);
    match &remote.stage {
        RemoteStage::Unready => out.push(0),
        RemoteStage::Settled { next_point } => {
            out.push(1);
            next_point.write(out);
        }
        RemoteStage::AwaitingRevocation { next, signed_at } => {
            out.push(2);
            write_remote(next, out);
            put_number(signed_at.0, out);
        }
    }

    // Ids and HTLCs that are only proposed are forgotten with the connection.
    let first_proposed = |proposed: &[Update]| proposed.iter().find_map(|update| update.adds().map(|htlc| htlc.id));
    let proposed =
        Sides { local: first_proposed(&local_changes.proposed), remote: first_proposed(&remote_changes.proposed) };
    put_number(proposed.local.unwrap_or(next_id.local).0, out);
    put_number(proposed.remote.unwrap_or(next_id.remote).0, out);
    put_number(paid.local.0, out);
    put_number(paid.remote.0, out);
    put_number(written_off.0, out);
    let durable = |key: &HtlcKey| proposed.of(key.offered_by).is_none_or(|first| key.id < first);
    put_number(details.keys().filter(|key| durable(key)).count() as u64, out);
    for (key, details) in details.iter().filter(|(key, _)| durable(key)) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.push(
            flag(local.spec.htlc(*key).is_some(), IN_LOCAL)
                | flag(remote.current.spec.htlc(*key).is_some(), IN_CURRENT)
                | flag(remote.next().is_some_and(|next| next.spec.htlc(*key).is_some()), IN_NEXT)
                | flag(key.offered_by == Side::Remote, REMOTE_OFFERED)
                | flag(details.first_remote.is_some(), HAS_FIRST),
        );
        put_number(key.id.0, out);
        if let Some(first) = details.first_remote {
            put_number(first.0, out);
        }
    }
    for updates in [&local_changes.signed, &local_changes.acked, &remote_changes.acked, &remote_changes.signed] {
        put_number(updates.len() as u64, out);
        for update in updates {
            write_update(update, out);
        }
    }
}

fn read_commitments(
    format: u8,
    reader: &mut Reader<'_>,
    mut rows: BTreeMap<HtlcKey, HtlcDetails>,
    signatures: CommitmentSignatures,
    secrets: PerCommitmentSecrets,
) -> Result<Commitments, DecodeError> {
    let number = read_commitment_number(reader)?;
    let mut local = LocalCommitment { number, spec: read_spec(reader)?, signatures };
    let mut current = read_remote(reader)?;
    let mut stage = match reader.field::<u8>()? {
        0 => RemoteStage::Unready,
        1 => RemoteStage::Settled { next_point: reader.field()? },
        _ => RemoteStage::AwaitingRevocation { next: read_remote(reader)?, signed_at: read_commitment_number(reader)? },
    };
    let next_id = Sides { local: HtlcId(reader.bigsize()?), remote: HtlcId(reader.bigsize()?) };
    let paid = Sides { local: Msat(reader.bigsize()?), remote: Msat(reader.bigsize()?) };
    let written_off = if format < 2 { Msat::ZERO } else { Msat(reader.bigsize()?) };

    let mut details = BTreeMap::new();
    let (mut in_local, mut in_current, mut in_next) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..get_count(reader)? {
        let flags: u8 = reader.field()?;
        let offered_by = if flags & REMOTE_OFFERED != 0 { Side::Remote } else { Side::Local };
        let key = HtlcKey { offered_by, id: HtlcId(reader.bigsize()?) };
        let mut one = rows.remove(&key).ok_or_else(missing_row)?;
        if flags & HAS_FIRST != 0 {
            one.first_remote = Some(read_commitment_number(reader)?);
        }
        for (bit, list) in [(IN_LOCAL, &mut in_local), (IN_CURRENT, &mut in_current), (IN_NEXT, &mut in_next)] {
            if flags & bit != 0 {
                list.push(one.htlc);
            }
        }
        details.insert(key, one);
    }
    let fill = |spec: &mut CommitmentSpec, htlcs: Vec<Htlc>| -> Result<(), DecodeError> {
        *spec = CommitmentSpec::with_htlcs(spec.balance, spec.feerate, htlcs).ok_or_else(missing_row)?;
        Ok(())
    };
    fill(&mut local.spec, in_local)?;
    fill(&mut current.spec, in_current)?;
    if let RemoteStage::AwaitingRevocation { next, .. } = &mut stage {
        fill(&mut next.spec, in_next)?;
    }

    let mut updates = |by: Side| -> Result<Vec<Update>, DecodeError> {
        (0..get_count(reader)?).map(|_| read_update(reader, by, &details)).collect()
    };
    let local_changes =
        LocalChanges { signed: updates(Side::Local)?, acked: updates(Side::Local)?, proposed: Vec::new() };
    let remote_changes =
        RemoteChanges { acked: updates(Side::Remote)?, signed: updates(Side::Remote)?, proposed: Vec::new() };

    // The onions of our HTLCs are needed only while they may have to be sent again.
    let unacked: Vec<HtlcKey> = local_changes.signed.iter().filter_map(Update::adds).map(Htlc::key).collect();
    for (key, one) in &mut details {
        if key.offered_by == Side::Local && !unacked.contains(key) {
            one.onion = None;
        }
    }
    let remote = Remote { current, stage };
    let points = PointCache::default();
    Ok(Commitments {
        local,
        remote,
        local_changes,
        remote_changes,
        next_id,
        paid,
        written_off,
        details,
        secrets,
        points,
        prepared: PreparedKeys::default(),
        views: Views::default(),
    })
}

const fn missing_row() -> DecodeError {
    DecodeError::CountMismatch { expected: 1, got: 0 }
}

fn write_spec(spec: &CommitmentSpec, out: &mut Vec<u8>) {
    put_number(spec.balance.local.0, out);
    put_number(spec.balance.remote.0, out);
    put_number(u64::from(spec.feerate.0), out);
}

fn read_spec(reader: &mut Reader<'_>) -> Result<CommitmentSpec, DecodeError> {
    let balance = Sides { local: Msat(reader.bigsize()?), remote: Msat(reader.bigsize()?) };
    Ok(CommitmentSpec::new(balance, read_feerate(reader)?))
}

fn write_remote(remote: &RemoteCommitment, out: &mut Vec<u8>) {
    put_number(remote.number.0, out);
    write_spec(&remote.spec, out);
    remote.per_commitment_point.write(out);
}

fn read_remote(reader: &mut Reader<'_>) -> Result<RemoteCommitment, DecodeError> {
    Ok(RemoteCommitment {
        number: read_commitment_number(reader)?,
        spec: read_spec(reader)?,
        per_commitment_point: reader.field()?,
    })
}

fn write_update(update: &Update, out: &mut Vec<u8>) {
    let mut head = |kind: u8, id: HtlcId| {
        out.push(kind);
        put_number(id.0, out);
    };
    match update {
        Update::Add(htlc) => head(0, htlc.id),
        Update::Fulfill { id, preimage } => {
            head(1, *id);
            preimage.write(out);
        }
        Update::Fail { id, reason } => {
            head(2, *id);
            reason.write(out);
        }
        Update::FailMalformed { id, sha256_of_onion, failure_code } => {
            head(3, *id);
            sha256_of_onion.write(out);
            failure_code.write(out);
        }
        Update::Fee(feerate) => {
            out.push(4);
            put_number(u64::from(feerate.0), out);
        }
    }
}

fn read_update(
    reader: &mut Reader<'_>,
    by: Side,
    details: &BTreeMap<HtlcKey, HtlcDetails>,
) -> Result<Update, DecodeError> {
    let kind: u8 = reader.field()?;
    if kind > 3 {
        return Ok(Update::Fee(read_feerate(reader)?));
    }
    let id = HtlcId(reader.bigsize()?);
    Ok(match kind {
        0 => Update::Add(details.get(&HtlcKey { offered_by: by, id }).ok_or_else(missing_row)?.htlc),
        1 => Update::Fulfill { id, preimage: PaymentPreimage(reader.field()?) },
        2 => Update::Fail { id, reason: reader.field()? },
        _ => Update::FailMalformed { id, sha256_of_onion: reader.field()?, failure_code: reader.field()? },
    })
}

fn write_phase(phase: &Phase, out: &mut Vec<u8>) {
    match phase {
        Phase::Funding => out.push(0),
        Phase::Ready => out.push(1),
        Phase::Normal => out.push(2),
        Phase::Shutdown(Shutdown { local, remote, fees, signature_lost: _ }) => {
            out.push(3);
            out.push(u8::from(matches!(local, LocalShutdown::Sent(_))));
            local.script().write(out);
            put_option(remote.as_ref(), out);
            write_fees(*fees, out);
        }
        Phase::Negotiating(negotiating) => {
            out.push(9);
            write_negotiating(negotiating, out);
        }
        Phase::Lost => out.push(5),
        Phase::Closing(closing) => {
            out.push(11);
            closing::write(closing, out);
        }
        Phase::Closed => out.push(7),
        Phase::Restored => out.push(8),
    }
}

fn read_phase(reader: &mut Reader<'_>) -> Result<StoredPhase, DecodeError> {
    Ok(StoredPhase::Other(match reader.field::<u8>()? {
        0 => Phase::Funding,
        1 => Phase::Ready,
        2 => Phase::Normal,
        3 => {
            let sent: u8 = reader.field()?;
            let script = reader.field()?;
            let local = if sent == 0 { LocalShutdown::Wanted(script) } else { LocalShutdown::Sent(script) };
            Phase::Shutdown(Shutdown::new(local, get_option(reader)?, read_fees(reader)?))
        }
        // As versions before the block counts wrote it.
        4 => Phase::Negotiating(Box::new(read_agreement(reader)?)),
        9 => Phase::Negotiating(Box::new(read_negotiating(reader)?)),
        5 => Phase::Lost,
        format @ (6 | 10 | 11) => return Ok(StoredPhase::Closing(closing::read(format, reader)?)),
        7 => Phase::Closed,
        8 => Phase::Restored,
        unknown => return Err(DecodeError::CountMismatch { expected: 11, got: usize::from(unknown) }),
    }))
}

pub(super) fn write_negotiating(negotiating: &Negotiating, out: &mut Vec<u8>) {
    negotiating.local_script.write(out);
    negotiating.remote_script.write(out);
    write_fees(negotiating.fees, out);
    put_option(negotiating.agreed.as_ref().map(|agreed| &agreed.fee), out);
    write_transaction(negotiating.agreed.as_ref().map(|agreed| &agreed.transaction), out);
    put_option(negotiating.since.map(|height| height.0).as_ref(), out);
    out.push(u8::from(negotiating.disagreed));
}

pub(super) fn read_negotiating(reader: &mut Reader<'_>) -> Result<Negotiating, DecodeError> {
    let mut negotiating = read_agreement(reader)?;
    negotiating.since = get_option(reader)?.map(Height);
    negotiating.disagreed = reader.field::<u8>()? != 0;
    Ok(negotiating)
}

fn read_agreement(reader: &mut Reader<'_>) -> Result<Negotiating, DecodeError> {
    let mut negotiating = Negotiating::new(reader.field()?, reader.field()?, read_fees(reader)?);
    let fee = get_option(reader)?;
    let transaction = read_transaction(reader)?;
    negotiating.agreed = fee.zip(transaction).map(|(fee, transaction)| Agreed { fee, transaction });
    Ok(negotiating)
}

fn write_fees(fees: Option<CloseFees>, out: &mut Vec<u8>) {
    match fees {
        None => out.push(0),
        Some(CloseFees { wanted, minimum, maximum }) => {
            out.push(1);
            for feerate in [wanted, minimum, maximum] {
                feerate.write(out);
            }
        }
    }
}

fn read_fees(reader: &mut Reader<'_>) -> Result<Option<CloseFees>, DecodeError> {
    Ok(match reader.field::<u8>()? {
        0 => None,
        _ => Some(CloseFees { wanted: reader.field()?, minimum: reader.field()?, maximum: reader.field()? }),
    })
}

pub(super) fn write_transaction(transaction: Option<&Transaction>, out: &mut Vec<u8>) {
    let bytes = transaction.map(serialize).unwrap_or_default();
    put_number(bytes.len() as u64, out);
    out.extend_from_slice(&bytes);
}

pub(super) fn read_transaction(reader: &mut Reader<'_>) -> Result<Option<Transaction>, DecodeError> {
    let len = get_count(reader)?;
    if len == 0 {
        return Ok(None);
    }
    deserialize(reader.bytes(len)?).map(Some).map_err(|_| DecodeError::Truncated { missing: 0 })
}

fn read_feerate(reader: &mut Reader<'_>) -> Result<FeeratePerKw, DecodeError> {
    narrow(reader.bigsize()?).map(FeeratePerKw)
}

fn read_height(reader: &mut Reader<'_>) -> Result<Height, DecodeError> {
    narrow(reader.bigsize()?).map(Height)
}

fn narrow(value: u64) -> Result<u32, DecodeError> {
    u32::try_from(value).map_err(|_| DecodeError::TrailingBytes { extra: 4 })
}
