//! A closing channel: what has spent its funding output, what was agreed on before, and what becomes of the outputs.

use bitcoin::{Transaction, Txid};

use super::state::{read_negotiating, read_transaction, write_negotiating, write_transaction};
use super::{get_count, get_option, put_number, put_option, read_commitment_number};
use crate::channel::commitment::{Commitments, Factory};
use crate::channel::error::RestoreError;
use crate::channel::onchain::mutual_scripts;
use crate::channel::state::{Closing, FundingSpend, Knowledge, Negotiating, SpendKind};
use crate::channel::terms::Terms;
use crate::onchain::{ClosingChannel, RecordError, StoredResolution};
use crate::types::{CommitmentNumber, Height};
use crate::wire::codec::{DecodeError, Field, Reader};

/// Of versions that kept the resolution elsewhere: our commitment is wanted in the chain.
const FORCED: u8 = 1;
const KNOWLEDGE_OLD: u8 = 2;
const KNOWLEDGE_NOTHING: u8 = 4;

/// What the state tells of a closing channel.
pub(crate) struct StoredClosing {
    knowledge: Knowledge,
    spend: Option<FundingSpend>,
    transaction: Option<Transaction>,
    negotiated: Option<Box<Negotiating>>,
    resolution: Kept,
}

/// Where the resolution is kept.
enum Kept {
    Here(Vec<u8>),
    /// In rows of its own, if there are any; and whether our commitment is wanted.
    Elsewhere {
        forced: bool,
    },
}

impl StoredClosing {
    /// With the other rows; `separate` are those in which earlier versions kept the resolution.
    pub(crate) fn restore(
        self,
        terms: &Terms,
        factory: &Factory,
        commitments: &Commitments,
        separate: Option<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<Closing, RestoreError> {
        let Self { knowledge, spend, transaction, negotiated, resolution } = self;
        let is_mutual = matches!(&spend, Some(FundingSpend { kind: SpendKind::Mutual, .. }));
        let scripts = mutual_scripts(knowledge, negotiated.as_deref(), is_mutual);
        let broken = |why: String| RestoreError::Damaged { what: "state", why };
        let channel = ClosingChannel::of(terms, factory, commitments, knowledge, scripts);
        let channel = channel.map_err(|error| broken(error.to_string()))?;
        let unreadable = |error: RecordError| broken(error.to_string());
        let stored = match (resolution, separate) {
            (Kept::Here(bytes), _) => StoredResolution::decode(&bytes).map_err(unreadable)?,
            (Kept::Elsewhere { forced }, Some((closing, facts))) => {
                let stored = StoredResolution::decode_separate(&closing, facts.as_deref());
                stored.map_err(unreadable)?.forced(forced)
            }
            (Kept::Elsewhere { forced }, None) => {
                StoredResolution::not_begun(terms.shutdown_script.clone()).forced(forced)
            }
        };
        let resolution = stored.restore(channel).map_err(|error| broken(error.to_string()))?;
        Ok(Closing { knowledge, spend, transaction, negotiated, resolution, tip: Height(0), begun: None })
    }
}

pub(super) fn write(closing: &Closing, out: &mut Vec<u8>) {
    out.push(match closing.knowledge {
        Knowledge::Current => 0,
        Knowledge::Old => KNOWLEDGE_OLD,
        Knowledge::Nothing => KNOWLEDGE_NOTHING,
    });
    write_spend(closing.spend.as_ref(), out);
    write_transaction(closing.transaction.as_ref(), out);
    out.push(u8::from(closing.negotiated.is_some()));
    if let Some(negotiated) = &closing.negotiated {
        write_negotiating(negotiated, out);
    }
    let resolution = closing.resolution.encode();
    put_number(resolution.len() as u64, out);
    out.extend_from_slice(&resolution);
}

/// Of the sixth format of a phase, which did not keep what had been agreed on, of the tenth, or of the eleventh, which
/// keeps the resolution too.
pub(super) fn read(format: u8, reader: &mut Reader<'_>) -> Result<StoredClosing, DecodeError> {
    let flags: u8 = reader.field()?;
    let knowledge = match flags & (KNOWLEDGE_OLD | KNOWLEDGE_NOTHING) {
        0 => Knowledge::Current,
        KNOWLEDGE_OLD => Knowledge::Old,
        _ => Knowledge::Nothing,
    };
    let (spend, transaction) = (read_spend(reader)?, read_transaction(reader)?);
    let negotiated = match format >= 10 && reader.field::<u8>()? != 0 {
        true => Some(Box::new(read_negotiating(reader)?)),
        false => None,
    };
    let resolution = match format >= 11 {
        true => {
            let len = get_count(reader)?;
            Kept::Here(reader.bytes(len)?.to_vec())
        }
        false => Kept::Elsewhere { forced: flags & FORCED != 0 },
    };
    Ok(StoredClosing { knowledge, spend, transaction, negotiated, resolution })
}

fn write_spend(spend: Option<&FundingSpend>, out: &mut Vec<u8>) {
    let Some(FundingSpend { txid, height, kind }) = spend else {
        out.push(0);
        return;
    };
    let (kind, number) = match kind {
        SpendKind::Mutual => (1, CommitmentNumber(0)),
        SpendKind::Local => (2, CommitmentNumber(0)),
        SpendKind::Remote(number) => (3, *number),
        SpendKind::Revoked(number) => (4, *number),
        SpendKind::Future(number) => (5, *number),
        SpendKind::LocalOld(number) => (6, *number),
        SpendKind::Unknown => (7, CommitmentNumber(0)),
    };
    out.push(kind);
    txid.write(out);
    put_number(number.0, out);
    put_option(height.map(|height| height.0).as_ref(), out);
}

fn read_spend(reader: &mut Reader<'_>) -> Result<Option<FundingSpend>, DecodeError> {
    let kind: u8 = reader.field()?;
    if kind == 0 {
        return Ok(None);
    }
    let txid: Txid = reader.field()?;
    let number = read_commitment_number(reader)?;
    let kind = match kind {
        1 => SpendKind::Mutual,
        2 => SpendKind::Local,
        3 => SpendKind::Remote(number),
        4 => SpendKind::Revoked(number),
        5 => SpendKind::Future(number),
        6 => SpendKind::LocalOld(number),
        7 => SpendKind::Unknown,
        unknown => return Err(DecodeError::CountMismatch { expected: 7, got: usize::from(unknown) }),
    };
    Ok(Some(FundingSpend { txid, kind, height: get_option(reader)?.map(Height) }))
}
