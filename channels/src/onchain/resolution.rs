//! The state machine of a closing channel.
//!
//! ```text
//!   Spent (in a block) ──► a fact ──► outputs appear, are spent, give birth to second stages
//!   Reorganized        ──► facts above the fork are dropped, the rest is told again from the start
//!   Tip, Preimage, RevokedHtlcs, Coins, Rejected ──► claims are grouped, built, raised, repeated
//! ```
//!
//! Promises: what `handle` returns depends only on the record and the events since the start; an effect that a crash
//! swallowed comes again after [`Event::Restarted`] or at the next tip; a claim that was refused is tried again at every
//! block; nothing is pushed, claimed or paid for before the first tip, for what the chain did meanwhile may have settled it.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};

use super::{
    Claim, ClaimId, Closer, ClosingChannel, EnforcementPolicy, FeeEstimates, MutualScripts, Notice, Role,
    TrackedOutput, anchor, bump,
    claims::{self, Coins},
    closing_channel::RebuildError,
    history::{ChainSpend, Close, Facts},
    upstream::{self, outcome_effect},
};
use crate::{
    keys::{ClaimSigner, PerCommitmentSecrets},
    tx::{ClaimError, ClaimInput, ClaimPath, CommitmentHtlc, FeeCoin},
    types::{CommitmentNumber, FeeratePerKw, Height, HtlcId, PaymentHash, PaymentPreimage},
};

/// What can happen to a closing channel.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Event {
    /// After a restart, once. It leads to watches; the look at the chain that they ask for must end with an
    /// [`Event::Tip`], also if it shows nothing: until then claims wait.
    Restarted,
    /// We want our own commitment in the chain.
    ForceClose,
    /// `tx` spends the funding output or a watched one, in a block or (`None`) in the mempool. Told in the chain's
    /// order, and before the [`Event::Tip`] of its block.
    Spent { tx: Transaction, height: Option<Height> },
    /// All that the chain has up to `ctx.tip` has been told.
    Tip,
    /// The blocks above this height were disconnected.
    Reorganized { to: Height },
    /// The answer to [`Effect::LoadRevokedHtlcs`].
    RevokedHtlcs { number: CommitmentNumber, htlcs: Vec<CommitmentHtlc> },
    /// The preimage of an HTLC offered to us has become known elsewhere, and we may use it.
    Preimage(PaymentPreimage),
    /// The answer to [`Effect::NeedCoins`]: all coins that are now set aside for that claim, if need be fewer than asked
    /// for.
    Coins { claim: ClaimId, coins: Vec<FeeCoin> },
    /// The answer to [`Effect::CheckCoins`]: these can be spent no more.
    CoinsLost(Vec<OutPoint>),
    /// A broadcast was refused.
    Rejected { txid: Txid, cause: Rejection },
    /// A person wants the claim of this output to pay at least this.
    Bump { outpoint: OutPoint, feerate: FeeratePerKw },
}

/// Why a transaction could not be broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Another transaction in the mempool spends an input and cannot be replaced by this one.
    Conflict,
    /// Nobody would relay or mine it at this feerate.
    FeeTooLow,
    /// Anything else: it is tried again at the next block.
    Other,
}

/// What the driver has to do. All of it is harmless to repeat.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Effect {
    /// Tell every [`Event::Spent`] of this output, from this height on.
    Watch { outpoint: OutPoint, script_pubkey: ScriptBuf, from: Height },
    /// Broadcast, with unconfirmed `parents` in one package. Where `coins` are given, the wallet first signs the
    /// inputs that spend them; the others are signed.
    Broadcast { tx: Transaction, parents: Vec<Transaction>, coins: Vec<FeeCoin> },
    /// Look up the HTLCs of a revoked commitment of the peer's and answer with [`Event::RevokedHtlcs`].
    LoadRevokedHtlcs { number: CommitmentNumber },
    /// Set wallet coins aside for a claim, worth at least `amount` in all, or as many as there are, and answer with
    /// [`Event::Coins`].
    NeedCoins { claim: ClaimId, amount: Amount },
    /// Look whether these coins, which claims have, are still there, and answer with [`Event::CoinsLost`] if not: the
    /// transaction that paid them is in no block and not in the mempool any more, or another one spends them. One that
    /// spends an output of `ours` too is a version of a claim.
    CheckCoins { coins: Vec<OutPoint>, ours: Vec<OutPoint> },
    /// These coins are not needed any more.
    ReleaseCoins(Vec<FeeCoin>),
    /// An HTLC that we offered was taken with its preimage. At least once.
    Fulfilled { htlc: HtlcId, payment_hash: PaymentHash, preimage: PaymentPreimage },
    /// An HTLC that we offered will never be taken. At least once.
    Failed { htlc: HtlcId, payment_hash: PaymentHash },
    /// An HTLC that was offered to us brought us nothing, although we had shown its preimage: the peer has taken it back,
    /// or the close has no output for it that is worth its fee. At least once.
    TakenBack { htlc: HtlcId, payment_hash: PaymentHash },
    /// Show it to people.
    Notice(Notice),
    /// Everything is settled and deep enough: the channel can be forgotten.
    Resolved,
}

/// What an event led to.
#[derive(Debug)]
#[must_use = "what has changed must be durable before the effects happen"]
pub struct Turn {
    /// What the driver has to do once the record is durable.
    pub effects: Vec<Effect>,
    /// The record has to be written before any of the effects happens.
    pub changed: bool,
}

/// What an event is handled with.
pub struct Ctx<'a> {
    /// How far this resolution has seen the chain.
    pub tip: Height,
    /// The highest block that is known, if only by its header.
    pub newest: Height,
    /// What the chain asks for now.
    pub estimates: &'a FeeEstimates,
    /// What may be paid, and how deep is final.
    pub policy: &'a EnforcementPolicy,
    /// The channel's keys.
    pub signer: &'a dyn ClaimSigner,
}

impl Ctx<'_> {
    /// From which block on the fee of a claim that is made now may climb.
    pub(super) fn ramp_begin(&self) -> Height {
        if bump::is_catching_up(self.tip, self.newest) { self.newest } else { self.tip }
    }
}

/// What calls for a look at the claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimTrigger {
    Tip,
    /// The wallet has said which coins this claim can have.
    Coins(ClaimId),
    Other,
}

/// A bug of ours or a damaged record: the channel must be looked at by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ResolutionError {
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error("a claim cannot be built: {0}")]
    Claim(#[from] ClaimError),
}

/// A channel on its way to the wallet.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    pub(super) channel: ClosingChannel,
    pub(super) facts: Facts,
    /// Computed from the facts.
    pub(super) close: Option<Close>,
    /// Computed from the facts.
    pub(super) outputs: BTreeMap<OutPoint, TrackedOutput>,
    /// Our outgoing HTLCs, in any state that may be in the chain.
    pub(super) outgoing: BTreeMap<HtlcId, CommitmentHtlc>,
    /// Nothing but penalties is claimed: whoever enforces this channel holds no other key.
    pub(super) penalties_only: bool,
    /// There was a tip since we began, or began again.
    knows_chain: bool,
    /// What was last seen to spend the funding output in the mempool; told again after a restart.
    in_mempool: Option<Transaction>,
    /// The child of a commitment was refused since the last tip.
    child_refused: bool,
    /// Which claims the wallet had too few coins for when it was asked last, and what it should have set aside.
    lacking: BTreeMap<ClaimId, Amount>,
    /// Outputs that could be claimed when the claims were looked at last.
    pub(super) decided: BTreeSet<OutPoint>,
}

impl Resolution {
    /// Nothing is spent yet. The first [`Event::Tip`] sets it going.
    pub(super) fn new(channel: ClosingChannel) -> Self {
        let outgoing = channel.outgoing();
        let (facts, outputs) = (Facts::default(), BTreeMap::new());
        let (lacking, decided) = (BTreeMap::new(), BTreeSet::new());
        Self {
            channel,
            facts,
            close: None,
            outputs,
            outgoing,
            penalties_only: false,
            knows_chain: false,
            in_mempool: None,
            child_refused: false,
            lacking,
            decided,
        }
    }

    /// Begins: send [`Event::Restarted`] to have the funding output watched, and [`Event::ForceClose`] if the close is ours.
    pub fn begin(channel: ClosingChannel) -> Self {
        let mut resolution = Self::new(channel);
        // What the channel was about to tell the peer is in no commitment that a restart could read it from.
        resolution.facts.preimages = resolution.channel.preimages.clone();
        resolution
    }

    /// For a watchtower that holds the revocation secrets and no other: the channel has no states, only the secrets of the
    /// peer's. What else is in a close is not its to claim; the cheater cannot take it.
    pub fn begin_penalties(channel: ClosingChannel) -> Self {
        Self { penalties_only: true, ..Self::new(channel) }
    }

    /// The peer's secrets that have become known: a close may turn out to be a revoked state.
    pub fn learn_secrets(&mut self, secrets: PerCommitmentSecrets) -> Result<(), RebuildError> {
        self.channel.secrets = secrets;
        self.rebuild()
    }

    /// Whether the HTLCs of a revoked state have been told ([`Event::RevokedHtlcs`]).
    pub fn knows_revoked_htlcs(&self, number: CommitmentNumber) -> bool {
        self.facts.revoked_htlcs.contains_key(&number)
    }

    /// Ours has turned out to be a state of the past, which must not be broadcast; and what else was agreed on since is
    /// forgotten.
    pub(crate) fn distrust_local_state(&mut self) {
        self.channel.local_may_be_revoked = true;
        self.channel.mutual_scripts = MutualScripts::Forgotten;
    }

    pub(super) fn from_facts(
        channel: ClosingChannel,
        facts: Facts,
        penalties_only: bool,
    ) -> Result<Self, RebuildError> {
        let mut resolution = Self { facts, penalties_only, ..Self::new(channel) };
        resolution.rebuild()?;
        Ok(resolution)
    }

    /// The channel that is resolved.
    pub fn channel(&self) -> &ClosingChannel {
        &self.channel
    }

    /// Who closed, once that is in the chain.
    pub fn closer(&self) -> Option<&Closer> {
        self.close.as_ref().map(|close| &close.closer)
    }

    /// The transaction that closed the channel, once it is in the chain, and where.
    pub fn close(&self) -> Option<(Txid, Height)> {
        self.close.as_ref().map(|close| (close.txid, close.height))
    }

    /// The confirmed transactions that spent the funding output or a tracked one, in the chain's order.
    pub fn spends(&self) -> impl Iterator<Item = (&Transaction, Height)> {
        self.facts.spends.iter().map(|spend| (&spend.tx, spend.height))
    }

    /// What was last seen to spend the funding output, while that is only in the mempool.
    pub fn closing_in_mempool(&self) -> Option<&Transaction> {
        self.in_mempool.as_ref()
    }

    /// Whether our own commitment is being pushed into the chain.
    pub fn is_forced(&self) -> bool {
        self.facts.force_close
    }

    /// The coins that the wallet has to keep for claims: after a restart it does not know of them any more.
    pub fn coins(&self) -> impl Iterator<Item = (ClaimId, &[FeeCoin])> {
        let child = self.facts.child.as_ref().map(|child| (anchor::CHILD, child.coins.as_slice()));
        self.facts.claims.iter().map(|(id, claim)| (*id, claim.coins.as_slice())).chain(child)
    }

    /// Whether a coin of the wallet may be needed to bring something home: before the close for a commitment's child, after
    /// it for second stages on our own.
    pub fn needs_coins(&self) -> bool {
        match self.closer() {
            None => true,
            Some(Closer::Local(_)) => self.outputs.values().any(|output| {
                let stage = matches!(&output.claim, Some(ClaimInput { path: ClaimPath::SecondStage(_), .. }));
                output.is_unspent() && (stage || output.role.incoming().is_some())
            }),
            Some(
                Closer::Mutual
                | Closer::Remote { .. }
                | Closer::RemoteFuture { .. }
                | Closer::Revoked { .. }
                | Closer::LocalOld { .. }
                | Closer::Unknown,
            ) => false,
        }
    }

    /// What the wallet should have had for claims that cannot pay for themselves, and had not; `None` if nothing lacks.
    pub fn lacking(&self) -> Option<Amount> {
        let wanted = |(id, wanted): (&ClaimId, &Amount)| {
            let claim = if *id == anchor::CHILD { self.facts.child.as_ref() } else { self.facts.claims.get(id) };
            let have: Amount = claim?.coins.iter().map(|coin| coin.output.value).sum();
            wanted.checked_sub(have).filter(|missing| *missing > Amount::ZERO)
        };
        let missing: Vec<Amount> = self.lacking.iter().filter_map(wanted).collect();
        (!missing.is_empty()).then(|| missing.into_iter().sum())
    }

    /// The outputs that may be ours, spent ones included.
    pub fn outputs(&self) -> impl Iterator<Item = &TrackedOutput> {
        self.outputs.values()
    }

    /// The output by which [`Event::Bump`] names the claim that a person means by `outpoint`: an output that it claims, an
    /// output of its own, or, while nothing has closed the channel, any output of our commitment or of the funding.
    pub fn bumped_by(&self, outpoint: &OutPoint) -> Option<OutPoint> {
        let is_meant = |claim: &Claim| {
            let sent = claim.sent.as_ref().is_some_and(|sent| sent.tx.compute_txid() == outpoint.txid);
            let mut spent = claim.inputs.iter().filter_map(|one| self.outputs.get(one)?.claim.as_ref());
            let presigned = spent.any(ClaimInput::is_presigned);
            (sent || claim.inputs.contains(outpoint)) && !presigned
        };
        let child = self.facts.child.as_ref().filter(|child| {
            let of_commitment = child.inputs.iter().any(|anchor| anchor.txid == outpoint.txid);
            self.close.is_none() && (is_meant(child) || of_commitment || *outpoint == self.channel.funding)
        });
        let claim = child.or_else(|| self.facts.claims.values().find(|claim| is_meant(claim)))?;
        claim.inputs.first().copied()
    }

    /// The claims that are not final.
    pub fn claims(&self) -> &BTreeMap<ClaimId, Claim> {
        &self.facts.claims
    }

    /// Handles one event. On an error nothing must be carried out and this resolution not be used any more.
    pub fn handle(&mut self, event: Event, ctx: &Ctx<'_>) -> Result<Turn, ResolutionError> {
        let before = self.facts.clone();
        let mut effects = Vec::new();
        let other = ClaimTrigger::Other;
        match event {
            Event::Restarted => {
                self.knows_chain = false;
                self.restart(&mut effects);
            }
            Event::ForceClose => {
                self.facts.force_close = true;
                self.advance(other, ctx, &mut effects)?;
            }
            Event::Spent { tx, height: Some(height) } => self.confirmed(tx, height, &mut effects)?,
            Event::Spent { tx, height: None } => self.seen_in_mempool(&tx, &mut effects),
            Event::Tip => {
                self.knows_chain = true;
                // Only now: whatever the chain has up to this tip is known.
                self.tell_lost(ctx, &mut effects);
                self.tell_taken_back(ctx, &mut effects);
                self.check_coins(&mut effects);
                if ctx.ramp_begin() > ctx.tip {
                    self.facts.claims_begin_at(ctx.ramp_begin());
                }
                self.advance(ClaimTrigger::Tip, ctx, &mut effects)?;
            }
            Event::Reorganized { to } => self.reorganized(to, &mut effects)?,
            Event::RevokedHtlcs { number, htlcs } => {
                self.facts.revoked_htlcs.insert(number, htlcs);
                self.relearn(&mut effects)?;
                self.advance(other, ctx, &mut effects)?;
            }
            Event::Preimage(preimage) => {
                self.facts.preimages.insert(preimage.hash(), preimage);
                self.relearn(&mut effects)?;
                self.advance(other, ctx, &mut effects)?;
            }
            Event::Coins { claim, coins } => {
                let child = (claim == anchor::CHILD).then_some(self.facts.child.as_mut()).flatten();
                match child.or_else(|| self.facts.claims.get_mut(&claim)) {
                    Some(waiting) => waiting.coins = coins,
                    None => effects.push(Effect::ReleaseCoins(coins)),
                }
                self.advance(ClaimTrigger::Coins(claim), ctx, &mut effects)?;
            }
            Event::CoinsLost(lost) => {
                let children = self.facts.child.iter_mut().chain(&mut self.facts.rival);
                let claims = children.chain(self.facts.claims.values_mut());
                let released: Vec<FeeCoin> = claims.flat_map(|claim| claim.lose_coins(&lost)).collect();
                if !released.is_empty() {
                    effects.push(Effect::ReleaseCoins(released));
                    self.advance(other, ctx, &mut effects)?;
                }
            }
            Event::Rejected { txid, cause } => {
                // A group that somebody contests is taken apart now; everything else is tried again at the next block,
                // so that no refusal leads to another one at once.
                let is_child = |child: &Claim| child.sent.as_ref().is_some_and(|sent| sent.tx.compute_txid() == txid);
                self.child_refused |= self.facts.child.as_ref().is_some_and(is_child);
                if self.rejected(txid, cause) {
                    self.advance(other, ctx, &mut effects)?;
                }
            }
            Event::Bump { outpoint, feerate } => {
                let claims = self.facts.claims.values_mut().chain(self.facts.child.as_mut());
                for claim in claims.filter(|claim| claim.inputs.contains(&outpoint)) {
                    claim.floor = Some(feerate);
                }
                self.advance(other, ctx, &mut effects)?;
            }
        }
        Ok(Turn { effects, changed: self.facts != before })
    }

    /// Everything that a crash may have swallowed.
    fn restart(&self, effects: &mut Vec<Effect>) {
        let script_pubkey = self.channel.funding().script_pubkey();
        effects.push(Effect::Watch { outpoint: self.channel.funding, script_pubkey, from: Height(0) });
        effects.extend(self.outputs.values().map(watch));
        for (id, outcome) in &self.facts.reported {
            if let Some(htlc) = self.outgoing.get(id) {
                effects.push(outcome_effect(htlc, *outcome));
            }
        }
        let taken_back = self.taken_back();
        effects.extend(taken_back.map(|(htlc, payment_hash)| Effect::TakenBack { htlc, payment_hash }));
    }

    /// A transaction has been confirmed.
    fn confirmed(&mut self, tx: Transaction, height: Height, effects: &mut Vec<Effect>) -> Result<(), RebuildError> {
        let txid = tx.compute_txid();
        let known = self.facts.spends.iter().any(|known| known.height == height && known.tx.compute_txid() == txid);
        if known {
            return Ok(());
        }
        self.take_preimages(&tx, effects);
        let spend = ChainSpend { tx, height };
        let before: BTreeSet<OutPoint> = self.outputs.keys().copied().collect();
        let was_open = self.close.is_none();
        if !self.apply(&spend)? {
            return Ok(());
        }
        self.facts.spends.push(spend);
        effects.extend(self.outputs.values().filter(|output| !before.contains(&output.outpoint)).map(watch));
        if was_open && let Some(close) = &self.close {
            effects.push(Effect::Notice(Notice::of_close(close)));
            self.in_mempool = None;
            // A child of this commitment is on its way with its coins; of another one it can never be.
            let (child, rival) = (self.facts.child.take(), self.facts.rival.take());
            let children = [child.as_ref(), rival.as_ref()].into_iter().flatten();
            let mut sent = children.filter_map(|child| child.sent.as_ref()).flat_map(|sent| &sent.tx.input);
            let on_its_way = sent.clone().any(|input| input.previous_output.txid == close.txid);
            let mut free: Vec<FeeCoin> = child.as_ref().map(|child| child.coins.clone()).unwrap_or_default();
            free.retain(|coin| !on_its_way || sent.all(|input| input.previous_output != coin.outpoint));
            if !free.is_empty() {
                effects.push(Effect::ReleaseCoins(free));
            }
        }
        Ok(())
    }

    /// Somebody wants to spend one of our outputs. A preimage counts at once; ours are no news.
    fn seen_in_mempool(&mut self, tx: &Transaction, effects: &mut Vec<Effect>) {
        self.take_preimages(tx, effects);
        if tx.input.iter().any(|input| input.previous_output == self.channel.funding) {
            self.in_mempool = Some(tx.clone());
        }
        for input in &tx.input {
            if let Some(output) = self.outputs.get_mut(&input.previous_output)
                && !output.is_our_way(&input.witness)
            {
                output.contested = true;
            }
        }
    }

    fn reorganized(&mut self, to: Height, effects: &mut Vec<Effect>) -> Result<(), RebuildError> {
        let was_closed = self.close.is_some();
        self.facts.spends.retain(|spend| spend.height <= to);
        self.rebuild()?;
        if was_closed && self.close.is_none() {
            effects.push(Effect::Notice(Notice::Reopened));
        }
        effects.push(Effect::Watch {
            outpoint: self.channel.funding,
            script_pubkey: self.channel.funding().script_pubkey(),
            from: to,
        });
        effects.extend(self.outputs.values().map(watch));
        Ok(())
    }

    /// Groups, builds, raises and repeats claims; notices the end. Not before the chain is known: a child of a commitment
    /// that has confirmed meanwhile would take the coins that the claims on it need.
    fn advance(
        &mut self,
        trigger: ClaimTrigger,
        ctx: &Ctx<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ResolutionError> {
        if !self.knows_chain {
            return Ok(());
        }
        let answered = match trigger {
            ClaimTrigger::Coins(claim) => Some(claim),
            ClaimTrigger::Tip | ClaimTrigger::Other => None,
        };
        let mut lacking = std::mem::take(&mut self.lacking);
        let mut note = |id: ClaimId, wanted: Option<Amount>| match (wanted, answered) {
            (Some(amount), Some(_)) => drop(lacking.insert(id, amount)),
            (None, _) => drop(lacking.remove(&id)),
            // What the wallet answers decides.
            (Some(_), None) => {}
        };
        let push = match trigger {
            ClaimTrigger::Tip => Some(anchor::AnchorTrigger::Tip { refused: std::mem::take(&mut self.child_refused) }),
            ClaimTrigger::Coins(anchor::CHILD) => Some(anchor::AnchorTrigger::Coins),
            ClaimTrigger::Coins(_) => None,
            ClaimTrigger::Other => Some(anchor::AnchorTrigger::Other),
        };
        if let Some(push) = push.filter(|_| self.close.is_none()) {
            let in_mempool = self.in_mempool.as_ref();
            let wanted = anchor::push_commitment(&self.channel, &mut self.facts, in_mempool, push, ctx, effects)?;
            note(anchor::CHILD, wanted);
        }
        self.ask_for_revoked_htlcs(effects);
        self.tend_claims(ctx, effects);
        self.group_outputs(ctx);
        let destination = &self.channel.destination;
        // An answer is for one claim: others that wait for coins must not ask again because of it, or two that lack some
        // would ask in turn for ever.
        let due = self.facts.claims.iter_mut().filter(|(id, _)| answered.is_none_or(|answered| answered == **id));
        for (id, claim) in due {
            let coins = if answered.is_some() { Coins::All } else { Coins::Asked };
            let step = claim.step(&self.outputs, destination, ctx, coins)?;
            if step.broadcast {
                effects.extend(claim.broadcast(Vec::new()));
            }
            if let (Some(amount), Coins::Asked) = (step.wanted, coins) {
                effects.push(Effect::NeedCoins { claim: *id, amount });
            }
            note(*id, step.wanted);
        }
        self.lacking = lacking;
        let claimable = self.outputs.values().filter(|output| output.is_claimable(ctx.tip));
        self.decided = claimable.map(|output| output.outpoint).collect();
        if self.is_resolved(ctx) {
            effects.push(Effect::Resolved);
        }
        Ok(())
    }

    /// Coins that claims count on may have gone: to a wallet with the same words, or with a block that was taken back.
    fn check_coins(&self, effects: &mut Vec<Effect>) {
        let claims = || self.facts.claims.values().chain(&self.facts.child);
        let coins: Vec<OutPoint> = claims().flat_map(|claim| &claim.coins).map(|coin| coin.outpoint).collect();
        if !coins.is_empty() {
            let ours = claims().chain(&self.facts.rival).flat_map(|claim| &claim.inputs).copied().collect();
            effects.push(Effect::CheckCoins { coins, ours });
        }
    }

    /// Whether an output of ours has not been worth its claim for so long that it never will be.
    pub(super) fn is_given_up(&self, output: &TrackedOutput, ctx: &Ctx<'_>) -> bool {
        output.is_unspent()
            && output.claimable_from().is_some_and(|from| {
                let waited = ctx.tip.0.saturating_sub(from.0);
                let worth_it = claims::can_be_alone(output, ctx.estimates, ctx.policy, &self.channel.destination);
                waited >= ctx.policy.give_up_after && !worth_it
            })
    }

    /// Whether a version of our claim of an output has been broadcast. It is in mempools that we do not see, so it may
    /// confirm at any block, however little it pays: the wallet's coin is spent then, and a second stage pays out what only
    /// we know of.
    pub(super) fn is_on_its_way(&self, output: &TrackedOutput) -> bool {
        let mut claims = self.facts.claims.values();
        claims.any(|claim| claim.sent.is_some() && claim.inputs.contains(&output.outpoint))
    }

    fn ask_for_revoked_htlcs(&self, effects: &mut Vec<Effect>) {
        if let Some(Closer::Revoked { number, .. }) = self.closer()
            && !self.facts.revoked_htlcs.contains_key(number)
        {
            effects.push(Effect::LoadRevokedHtlcs { number: *number });
        }
    }

    fn is_resolved(&self, ctx: &Ctx<'_>) -> bool {
        let deep = |height: Height| upstream::depth(height, ctx.tip) >= ctx.policy.finality;
        let Some(close) = &self.close else { return false };
        let settled = |output: &TrackedOutput| match (&output.spend, output.role.htlc(), &output.claim) {
            (Some(spend), _, _) => deep(spend.height),
            // Whoever wants it may have it.
            (None, _, _) if output.role == Role::Anchor => true,
            // Never ours: the peer may take it back whenever it likes.
            (None, Some((_, htlc)), None) => deep(Height(htlc.cltv_expiry.0)),
            (None, _, _) => self.is_given_up(output, ctx) && !self.is_on_its_way(output),
        };
        let all_reported = self.outgoing.keys().all(|id| self.facts.reported.contains_key(id));
        deep(close.height) && all_reported && self.outputs.values().all(settled)
    }
}

pub(super) fn watch(output: &TrackedOutput) -> Effect {
    Effect::Watch {
        outpoint: output.outpoint,
        script_pubkey: output.output.script_pubkey.clone(),
        from: output.confirmed,
    }
}
