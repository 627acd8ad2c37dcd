//! One channel in own mode: its secrets and HTLCs while it lives, its resolution once the funding output is spent.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction};
use leyden_channels::{
    keys::{PerCommitmentSecret, PerCommitmentSecrets, ShachainError},
    onchain::{self, EnforcementPolicy, FeeEstimates, Resolution, ResolutionError, StoredResolution},
    tx::CommitmentHtlc,
    types::{CommitmentNumber, Height, HtlcDirection, HtlcId},
};

use super::{OwnChannel, RevocationSigner};
use crate::{
    message::{PastHtlc, StateHtlc},
    record::{OwnHtlcRow, OwnStateRow},
};

/// One of a channel's HTLCs, named as the cheater sees it.
pub(super) type HtlcName = (HtlcDirection, HtlcId);

/// Why a backup is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum OwnError {
    #[error(transparent)]
    Secret(#[from] ShachainError),
    #[error("HTLC {} of state {} was never told whole", id.0, number.0)]
    UnknownHtlc { number: CommitmentNumber, id: HtlcId },
    #[error("a state has two HTLCs of the same name, {}", id.0)]
    Twice { id: HtlcId },
    #[error("the secrets of the past are for {known} states, which ends before state {}", number.0)]
    PastTooShort { known: u64, number: CommitmentNumber },
}

/// A channel that an own tower guards.
pub struct Guard {
    channel: OwnChannel,
    secrets: PerCommitmentSecrets,
    /// What the newest state has, and the first state that had it.
    live: BTreeMap<HtlcName, OwnHtlcRow>,
    resolution: Option<Resolution>,
}

impl PastHtlc {
    fn name(&self) -> HtlcName {
        (self.htlc.direction, self.htlc.id)
    }

    fn row(&self) -> OwnHtlcRow {
        let CommitmentHtlc { amount, payment_hash, cltv_expiry, .. } = self.htlc;
        OwnHtlcRow { amount, payment_hash, cltv_expiry, first: self.first, last: self.last }
    }
}

/// The rows that a backup changes.
#[derive(Debug)]
pub struct OwnWrites {
    pub htlcs: Vec<(HtlcName, OwnHtlcRow)>,
    /// `None` while more of the past is to come.
    pub state: Option<OwnStateRow>,
}

/// What a look at the chain is handled with.
#[derive(Clone, Copy)]
pub struct GuardCtx<'a> {
    /// The block that is looked at.
    pub tip: Height,
    /// The newest block that the chain has: later than `tip` while the tower catches up.
    pub newest: Height,
    /// What the next blocks cost.
    pub estimates: &'a FeeEstimates,
    /// How much of a claim may go to fees.
    pub policy: &'a EnforcementPolicy,
}

impl Guard {
    /// A channel of which no state is revoked yet.
    pub fn new(channel: OwnChannel) -> Self {
        Self { channel, secrets: PerCommitmentSecrets::default(), live: BTreeMap::new(), resolution: None }
    }

    /// From its rows; `live` are those of the HTLCs that the state names.
    pub fn restore(
        channel: OwnChannel,
        state: Option<(OwnStateRow, BTreeMap<HtlcName, OwnHtlcRow>)>,
        resolution: Option<StoredResolution>,
    ) -> Result<Self, ResolutionError> {
        let (secrets, live) = state.map(|(state, live)| (state.secrets, live)).unwrap_or_default();
        let resolution =
            resolution.map(|stored| stored.restore_penalties(channel.closing(secrets.clone()))).transpose()?;
        Ok(Self { channel, secrets, live, resolution })
    }

    /// The channel that is guarded.
    pub fn channel(&self) -> &OwnChannel {
        &self.channel
    }

    /// What is done about its close, once there is one.
    pub fn resolution(&self) -> Option<&Resolution> {
        self.resolution.as_ref()
    }

    /// The secret of a revoked state.
    pub fn secret(&self, number: CommitmentNumber) -> Option<PerCommitmentSecret> {
        self.secrets.get(number)
    }

    /// The commitment number of a transaction that spends the funding output, if it has the form of one.
    pub fn number_of(&self, tx: &Transaction) -> Option<CommitmentNumber> {
        self.channel
            .closing(PerCommitmentSecrets::default())
            .params(leyden_channels::types::Side::Remote)
            .obscuring
            .reveal(tx)
    }

    /// One more revoked state. On an error nothing has changed.
    pub fn back_up(
        &mut self,
        number: CommitmentNumber,
        secret: PerCommitmentSecret,
        htlcs: &[StateHtlc],
    ) -> Result<OwnWrites, OwnError> {
        let mut live = BTreeMap::new();
        for htlc in htlcs {
            let name = htlc.key();
            let row = match (self.live.get(&name), htlc) {
                (Some(known), _) => *known,
                (None, StateHtlc::New(htlc)) => OwnHtlcRow {
                    amount: htlc.amount,
                    payment_hash: htlc.payment_hash,
                    cltv_expiry: htlc.cltv_expiry,
                    first: number,
                    last: None,
                },
                (None, StateHtlc::Known { id, .. }) => return Err(OwnError::UnknownHtlc { number, id: *id }),
            };
            if live.insert(name, row).is_some() {
                return Err(OwnError::Twice { id: name.1 });
            }
        }
        self.secrets.insert(number, secret)?;
        let added = live.iter().filter(|(name, _)| !self.live.contains_key(*name)).map(|(name, row)| (*name, *row));
        let last = number.0.checked_sub(1).map(CommitmentNumber);
        let gone = self.live.iter().filter(|(name, _)| !live.contains_key(*name));
        let gone = gone.map(|(name, row)| (*name, OwnHtlcRow { last, ..*row }));
        let htlcs = added.chain(gone).collect();
        self.live = live;
        Ok(OwnWrites { htlcs, state: Some(self.state_row()) })
    }

    /// The states up to `number`, all at once, of a channel that is older than its tower. They may come in several parts, of
    /// which the last one is not followed by `more`.
    pub fn back_up_past(
        &mut self,
        number: CommitmentNumber,
        secrets: &PerCommitmentSecrets,
        htlcs: &[PastHtlc],
        more: bool,
    ) -> Result<OwnWrites, OwnError> {
        if secrets.next() <= number {
            return Err(OwnError::PastTooShort { known: secrets.next().0, number });
        }
        let rows: Vec<(HtlcName, OwnHtlcRow)> = htlcs.iter().map(|past| (past.name(), past.row())).collect();
        self.live.extend(rows.iter().filter(|(_, row)| row.last.is_none()).copied());
        let state = (!more).then(|| {
            self.secrets = secrets.clone();
            self.state_row()
        });
        Ok(OwnWrites { htlcs: rows, state })
    }

    fn state_row(&self) -> OwnStateRow {
        OwnStateRow { secrets: self.secrets.clone(), live: self.live.keys().copied().collect() }
    }

    /// Whether more secrets could change what a close is taken for.
    pub fn is_closed(&self) -> bool {
        self.resolution.as_ref().is_some_and(|resolution| resolution.close().is_some())
    }

    /// Whether a revoked state is in a block, and its penalties are not final.
    pub fn is_breached(&self) -> bool {
        let closer = self.resolution.as_ref().and_then(Resolution::closer);
        matches!(closer, Some(onchain::Closer::Revoked { .. }))
    }

    /// Looks at a close again with the secrets that have come since.
    pub fn relearn(&mut self) -> Result<(), ResolutionError> {
        match &mut self.resolution {
            Some(resolution) => Ok(resolution.learn_secrets(self.secrets.clone())?),
            None => Ok(()),
        }
    }

    /// Hands an event to the resolution, which begins with the first one. `htlcs` gives those of a revoked state; `None` if
    /// they cannot be read now: they are asked for again at the next tip.
    pub fn handle(
        &mut self,
        event: onchain::Event,
        ctx: GuardCtx<'_>,
        htlcs: &dyn Fn(CommitmentNumber) -> Option<Vec<CommitmentHtlc>>,
    ) -> Result<onchain::Turn, ResolutionError> {
        let GuardCtx { tip, newest, estimates, policy } = ctx;
        let signer = RevocationSigner(&self.channel);
        let ctx = onchain::Ctx { tip, newest, estimates, policy, signer: &signer };
        let begins = self.resolution.is_none();
        let resolution = self
            .resolution
            .get_or_insert_with(|| Resolution::begin_penalties(self.channel.closing(self.secrets.clone())));
        let mut turn = resolution.handle(event, &ctx)?;
        turn.changed |= begins;
        // A spend that is a breach is told at once: what it gives birth to may be spent in the same block.
        let breach = match resolution.closer() {
            Some(onchain::Closer::Revoked { number, .. }) if !resolution.knows_revoked_htlcs(*number) => Some(*number),
            _ => None,
        };
        if let Some(number) = breach
            && let Some(htlcs) = htlcs(number)
        {
            let more = resolution.handle(onchain::Event::RevokedHtlcs { number, htlcs }, &ctx)?;
            turn.effects.extend(more.effects);
            turn.changed |= more.changed;
        }
        turn.effects.retain(|effect| !matches!(effect, onchain::Effect::LoadRevokedHtlcs { .. }));
        Ok(turn)
    }

    /// Every output that is to be watched.
    pub fn outpoints(&self) -> impl Iterator<Item = OutPoint> {
        let outputs = self.resolution.iter().flat_map(Resolution::outputs).map(|output| output.outpoint);
        std::iter::once(self.channel.funding).chain(outputs)
    }
}
