//! A node with one channel on the real chain: the channel core, its enforcement, a store, a wallet, and a driver that
//! does what `src/driver` does, one event after another, so that it can be cut off at any of them.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid, WPubkeyHash, constants::ChainHash, hashes::Hash as _};
use leyden::inside::rejection;
use leyden_channels::{
    channel::{
        AttemptId, Channel, ChannelPolicy, Ctx, Effect, Event, Feerates, FixedEnvironment, FundingDepth, FundingInput,
        FundingView, FundingWatch, HtlcKey, Key, Origin, Outbox, Persist, TowerPolicy, Write, decode_retired,
        revoked_htlcs,
    },
    keys::{
        Basepoints, ClaimKey, ClaimSecret, ClaimSigner, HtlcKey as HtlcKeyOfSigner, KeyError, KeysSigner,
        PerCommitmentSecret, Signer,
    },
    onchain::{self, Closer, FeeEstimates, Resolution, SpendUpdate, TrackedOutput, WatchedOutputs},
    types::{CltvExpiry, CommitmentNumber, FeeratePerKw, Height, HtlcId, TipTrust, UnixTime},
    wire::Message,
};
use leyden_node::MempoolError;

use secp256k1::{PublicKey, ecdsa::Signature};

use crate::{chain::Chain, wallet::Wallet};

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Rows(pub BTreeMap<Key, Vec<u8>>);

impl Persist for Rows {
    type Error = Infallible;

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Infallible> {
        for write in writes {
            match write {
                Write::Put { key, value } => drop(self.0.insert(key, value)),
                Write::Delete { key } => drop(self.0.remove(&key)),
            }
        }
        Ok(())
    }
}

/// When a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Never,
    /// After every event, once its effects are done.
    AfterEveryEvent,
    /// After every commit, before any of its effects: only what a restart asks for again is ever done.
    BeforeEveryEffect,
}

impl Crash {
    pub const ALL: [Self; 3] = [Self::Never, Self::AfterEveryEvent, Self::BeforeEveryEffect];
}

/// One moment at which a node dies, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Counted from the first commit of the node's life.
    pub commit: usize,
    /// Before the commit, or after it and before its effects.
    pub durable: bool,
}

/// What is handled next.
#[derive(Clone, Debug)]
pub enum Input {
    Channel(Event),
    /// News of the chain, or an answer.
    Onchain(onchain::Event),
}

pub struct Node {
    pub name: &'static str,
    pub store: Rows,
    pub channel: Option<Channel>,
    pub signer: Arc<KeysSigner>,
    pub destination: ScriptBuf,
    pub wallet: Wallet,
    pub channel_policy: ChannelPolicy,
    pub policy: onchain::EnforcementPolicy,
    pub feerates: Feerates,
    pub estimates: FeeEstimates,
    /// When the incoming HTLCs expire behind outgoing ones of this node.
    pub upstream: BTreeMap<HtlcId, CltvExpiry>,
    pub crash: Crash,
    /// Commits since the beginning: turns with something to write.
    pub commits: usize,
    pub crash_point: Option<CrashPoint>,
    /// What the store said of a close when the node came back from its crash point.
    pub found: Option<Option<Closer>>,
    /// Messages for the peer.
    pub outbox: VecDeque<Message>,
    /// All effects of the enforcement but watches and broadcasts, with the height at which they came.
    pub log: Vec<(Height, onchain::Effect)>,
    /// What this node has broadcast, successfully or not.
    pub sent: Vec<Txid>,
    pub refused: Vec<(Txid, String)>,
    /// The transaction that funds the channel, while it is asked for.
    pub to_fund: Option<(ScriptBuf, bitcoin::Amount)>,
    /// HTLCs offered to this node that wait for an answer.
    pub incoming: BTreeMap<HtlcId, leyden_channels::channel::IncomingHtlc>,
    pub restarts: usize,
    /// Outgoing HTLCs that the channel itself has told to have failed.
    pub failed_unfunded: BTreeMap<HtlcId, Height>,
    pub forgotten: bool,
    outputs: WatchedOutputs<()>,
    unseen: bool,
    funding: FundingWatch,
    tip: Height,
}

impl Node {
    pub fn new(name: &'static str, seed: u8) -> Self {
        let signer = KeysSigner::from_channel_seed(&[seed; 32]).expect("keys");
        Self {
            name,
            store: Rows::default(),
            channel: None,
            signer: Arc::new(signer),
            destination: ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([seed; 20])),
            wallet: Wallet::new(seed),
            channel_policy: ChannelPolicy::default(),
            policy: onchain::EnforcementPolicy::default(),
            feerates: Feerates::default(),
            estimates: FeeEstimates::flat(FeeratePerKw(1_000)),
            upstream: BTreeMap::new(),
            crash: Crash::Never,
            commits: 0,
            crash_point: None,
            found: None,
            outbox: VecDeque::new(),
            log: Vec::new(),
            sent: Vec::new(),
            refused: Vec::new(),
            to_fund: None,
            incoming: BTreeMap::new(),
            restarts: 0,
            failed_unfunded: BTreeMap::new(),
            forgotten: false,
            outputs: WatchedOutputs::default(),
            unseen: false,
            funding: FundingWatch::new(Vec::new()),
            tip: Height(0),
        }
    }

    /// The channel's core, which every test but those of the opening has.
    pub fn core(&self) -> &Channel {
        self.channel.as_ref().expect("a channel")
    }

    pub fn closing(&self) -> &Resolution {
        self.core().resolution().expect("a closed channel")
    }

    /// Handles an input and all that follows from it.
    pub fn handle(&mut self, input: Input, chain: &Chain) {
        self.handle_all(vec![input], chain);
        // What has been asked for is looked at in the same turn, as in the daemon.
        while std::mem::take(&mut self.unseen) {
            let events = self.due_look(chain);
            self.handle_all(events, chain);
        }
    }

    fn handle_all(&mut self, inputs: Vec<Input>, chain: &Chain) {
        let mut inputs = VecDeque::from(inputs);
        // The first tip after each restart asks the wallet again for what a claim lacks: a process that dies of its answer
        // would be given the same one for ever.
        let mut answers = Vec::new();
        while let Some(input) = inputs.pop_front() {
            if let Input::Onchain(answer @ onchain::Event::Coins { .. }) = &input
                && self.crash != Crash::Never
            {
                if answers.contains(answer) {
                    continue;
                }
                answers.push(answer.clone());
            }
            let was_refusal = is_refusal(&input);
            let outbox = self.turn(input, chain);
            if outbox.needs_commit() {
                self.commits += 1;
                let here = |point: &mut CrashPoint| point.commit == self.commits;
                if let Some(CrashPoint { durable, .. }) = self.crash_point.take_if(here) {
                    if durable {
                        Outbox::commit_all(vec![outbox], &mut self.store).expect("never fails");
                    }
                    inputs.clear();
                    self.reload();
                    self.found = Some(self.closer().cloned());
                    inputs.extend(self.restart(chain));
                    continue;
                }
            }
            let mut following = match self.crash {
                Crash::Never => self.finish(outbox, chain),
                Crash::AfterEveryEvent => {
                    let mut following = self.finish(outbox, chain);
                    // What the wallet said to the dead process nobody hears, and its coins are not set aside any more.
                    following.retain(|next| !is_answer(next));
                    following
                }
                Crash::BeforeEveryEffect => {
                    Outbox::commit_all(vec![outbox], &mut self.store).expect("never fails");
                    Vec::new()
                }
            };
            if self.crash != Crash::Never {
                // What the dead process had in its mailbox is gone; the look after the restart tells it anew.
                inputs.retain(|next| !is_answer(next) && !is_news(next));
                following.extend(self.restart(chain));
                // A process that dies of every refusal is not told of all of them.
                following.retain(|next| !was_refusal || !is_refusal(next));
            }
            inputs.extend(following);
        }
    }

    fn turn(&mut self, input: Input, chain: &Chain) -> Outbox {
        let tip = chain.tip();
        let event = match input {
            Input::Channel(event) => event,
            Input::Onchain(event) if is_chain(&event) => Event::Chain { event, tip },
            Input::Onchain(event) => Event::Onchain(event),
        };
        let environment = self.environment();
        let ctx = Ctx {
            chain: ChainHash::REGTEST,
            now: UnixTime(1_800_000_000),
            tip,
            trust: TipTrust::Current,
            feerates: self.feerates,
            policy: &self.channel_policy,
            towers: TowerPolicy::None,
            environment: &environment,
        };
        let Some(channel) = &mut self.channel else { return Outbox::default() };
        channel.handle(event, &ctx).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What the channel asks when it closes. Nobody catches up here: claims begin where their channel is.
    fn environment(&self) -> FixedEnvironment {
        let upstream = self.upstream.iter().map(|(id, expiry)| (Origin::Payment(AttemptId(id.0)), *expiry)).collect();
        FixedEnvironment {
            policy: self.policy.clone(),
            estimates: self.estimates.clone(),
            newest: Height(0),
            destination: Some(self.destination.clone()),
            upstream,
        }
    }

    fn finish(&mut self, outbox: Outbox, chain: &Chain) -> Vec<Input> {
        let effects = Outbox::commit_all(vec![outbox], &mut self.store).expect("never fails");
        effects.into_iter().flatten().flat_map(|effect| self.effect(effect, chain)).collect()
    }

    fn effect(&mut self, effect: Effect, chain: &Chain) -> Vec<Input> {
        match effect {
            Effect::Send(message) => self.outbox.push_back(message),
            Effect::Fund { script, amount } => self.to_fund = Some((script, amount)),
            Effect::Broadcast(tx) => {
                // What others have published before is not this node's.
                if !chain.knows(tx.compute_txid()) {
                    self.sent.push(tx.compute_txid());
                }
                // As in the daemon: the watch on the funding output sees what the chain made of it.
                let _ = chain.submit(&tx);
            }
            Effect::Onchain(effect) => return self.onchain_effect(*effect, chain),
            Effect::Incoming(htlc) => drop(self.incoming.insert(htlc.id, *htlc)),
            Effect::WatchFunding { inputs, .. } => self.funding = FundingWatch::new(inputs),
            Effect::Failed { htlc, payment_hash, .. } if self.core().resolution().is_some() => {
                self.log.push((chain.tip(), onchain::Effect::Failed { htlc, payment_hash }));
            }
            Effect::Fulfilled { htlc, payment_hash, preimage, .. } if self.core().resolution().is_some() => {
                self.log.push((chain.tip(), onchain::Effect::Fulfilled { htlc, payment_hash, preimage }));
            }
            Effect::Failed { htlc, .. } => drop(self.failed_unfunded.entry(htlc).or_insert(chain.tip())),
            Effect::Watch { outpoint, .. } => {
                let known = self.core().known_spend(&outpoint);
                let closing = self.core().resolution().is_some();
                self.outputs.watch(self.core().id(), &(), outpoint, known, closing);
                self.unseen = true;
            }
            Effect::Forget => self.forgotten = true,
            Effect::Final { .. }
            | Effect::Closing { .. }
            | Effect::Disconnect
            | Effect::ReleaseFunding { .. }
            | Effect::Fulfilled { .. }
            | Effect::Refused { .. }
            | Effect::CloseRefused(_)
            | Effect::FeeRefused { .. }
            | Effect::BumpClosingFee { .. }
            | Effect::TowerBackup { .. }
            | Effect::Notice(_) => {}
        }
        Vec::new()
    }

    fn onchain_effect(&mut self, effect: onchain::Effect, chain: &Chain) -> Vec<Input> {
        use onchain::Effect as E;
        match &effect {
            E::Broadcast { tx, parents, coins } => {
                let tx = self.wallet.sign(tx.clone(), coins);
                let txid = tx.compute_txid();
                self.sent.push(txid);
                self.sent.extend(parents.iter().map(Transaction::compute_txid));
                if let Err(error) = broadcast(chain, parents, &tx) {
                    self.refused.push((txid, error.to_string()));
                    return vec![Input::Onchain(onchain::Event::Rejected { txid, cause: rejection(&error) })];
                }
            }
            E::LoadRevokedHtlcs { number } => {
                let htlcs = self.load_revoked(*number);
                return vec![Input::Onchain(onchain::Event::RevokedHtlcs { number: *number, htlcs })];
            }
            E::NeedCoins { claim, amount } => {
                let coins = self.wallet.set_aside(*claim, *amount, chain);
                return vec![Input::Onchain(onchain::Event::Coins { claim: *claim, coins })];
            }
            E::CheckCoins { coins, ours } => {
                let lost: Vec<OutPoint> = coins.iter().filter(|coin| chain.is_lost(coin, ours)).copied().collect();
                return if lost.is_empty() { vec![] } else { vec![Input::Onchain(onchain::Event::CoinsLost(lost))] };
            }
            E::ReleaseCoins(coins) => self.wallet.put_back(coins),
            E::TakenBack { .. } | E::Notice(_) | E::Resolved => self.log.push((chain.tip(), effect)),
            E::Watch { .. } | E::Fulfilled { .. } | E::Failed { .. } => panic!("the channel's own: {effect:?}"),
        }
        Vec::new()
    }

    fn load_revoked(&self, number: CommitmentNumber) -> Vec<leyden_channels::tx::CommitmentHtlc> {
        let retired = self.store.0.iter().filter_map(|(key, bytes)| match *key {
            Key::RetiredHtlc { offered_by, id, .. } => {
                Some(decode_retired(HtlcKey { offered_by, id }, bytes).expect("readable"))
            }
            _ => None,
        });
        revoked_htlcs(number, retired)
    }

    /// Dies, comes back with what it has committed, and does what a restart asks for.
    pub fn restart(&mut self, chain: &Chain) -> Vec<Input> {
        self.restarts += 1;
        self.reload();
        let outbox = self.turn(Input::Channel(Event::Restarted), chain);
        let mut following = self.finish(outbox, chain);
        self.unseen = false;
        let events = self.due_look(chain);
        let is_open = self.core().resolution().is_none();
        if is_open && !events.iter().any(is_spend) {
            // The tip alone says nothing to a channel in use.
            return following;
        }
        if is_open || events.iter().any(is_block_news) {
            following.extend(events);
            return following;
        }
        // What the mempool has is in memory only: a process that died of it would never get any further.
        for event in events {
            let outbox = self.turn(event, chain);
            following.extend(self.finish(outbox, chain));
        }
        following
    }

    /// Meets a bug, as the daemon answers one: the channel is read from the store and hears of the chain alone.
    pub fn meet_a_bug(&mut self, chain: &Chain) {
        let broken: Arc<dyn Signer + Send + Sync> = Arc::new(Broken(Arc::clone(&self.signer)));
        let mut channel = Channel::restore(self.live_rows(), |_| Some(broken)).expect("a whole record");
        let environment = self.environment();
        let ctx = Ctx { environment: &environment, ..crate::world::context(self, chain.tip()) };
        let stopped = channel.handle(Event::ForceClose, &ctx);
        assert!(stopped.is_err(), "a key that cannot be made stops the channel");
        self.reload();
        self.channel = self.channel.take().map(Channel::stopped);
        for outpoint in self.core().watched().collect::<Vec<_>>() {
            let known = self.core().known_spend(&outpoint);
            let closing = self.core().resolution().is_some();
            self.outputs.watch(self.core().id(), &(), outpoint, known, closing);
        }
        let events = self.due_look(chain);
        self.handle_all(events, chain);
    }

    fn live_rows(&self) -> Vec<(Key, Vec<u8>)> {
        let prefixes = [Key::all_live_prefix(), Key::all_enforcement_prefix()];
        let live = self.store.0.iter().filter(|(key, _)| prefixes.iter().any(|one| key.encode().starts_with(one)));
        live.map(|(key, value)| (*key, value.clone())).collect()
    }

    /// The look at what has not been looked at yet: it ends with a tip, whatever it shows.
    fn due_look(&mut self, chain: &Chain) -> Vec<Input> {
        let mut events = self.news_of_outputs(chain);
        if !events.contains(&onchain::Event::Tip) {
            events.push(onchain::Event::Tip);
        }
        events.into_iter().map(Input::Onchain).collect()
    }

    /// What a process has in memory after it has read its store.
    fn reload(&mut self) {
        let signer = Arc::clone(&self.signer);
        let channel = Channel::restore(self.live_rows(), |_| Some(signer)).expect("a whole record");
        self.wallet.set_aside_again(channel.resolution().into_iter().flat_map(Resolution::coins));
        self.channel = Some(channel);
        self.outputs = WatchedOutputs::default();
        self.incoming.clear();
        self.funding = FundingWatch::new(Vec::new());
    }

    /// A node that was made of a copy of another one's store.
    pub fn from_copy(name: &'static str, seed: u8, store: Rows, wallet: Wallet) -> Self {
        let mut node = Self { store, wallet, ..Self::new(name, seed) };
        node.reload();
        node
    }

    /// Looks at the chain and the mempool, and handles all that is new to this node.
    pub fn look(&mut self, chain: &Chain) {
        let mut new_tip = std::mem::replace(&mut self.tip, chain.tip()) != chain.tip();
        if new_tip && self.channel.as_ref().is_some_and(|channel| channel.terms().is_some()) {
            self.handle(Input::Channel(Event::NewTip(chain.tip())), chain);
        }
        // What is born of a spend is watched, and may be spent already, twice in a row at most. Each restart looks at
        // everything again.
        for _ in 0..4 {
            self.unseen = false;
            self.look_at_funding(chain);
            new_tip &= !self.look_at_outputs(chain);
            if !self.unseen {
                break;
            }
        }
        if new_tip {
            self.handle(Input::Onchain(onchain::Event::Tip), chain);
        }
    }

    /// As `ChainWatch::look` of the daemon.
    fn look_at_funding(&mut self, chain: &Chain) {
        let Some(funding) = self.channel.as_ref().and_then(Channel::terms).map(|terms| terms.funding) else { return };
        let tip = chain.tip();
        let depth = chain.position(funding.txid).map(|(height, index)| FundingDepth {
            height,
            index,
            confirmations: tip.0 - height.0 + 1,
            output: chain.output(&funding),
        });
        let transaction = chain.transaction(funding.txid);
        let needs = |tx: &Transaction| -> Vec<FundingInput> {
            tx.input.iter().map(|input| FundingInput { coin: input.previous_output, by: funding.txid }).collect()
        };
        let inputs = transaction.as_ref().map(needs).unwrap_or_default();
        let conflict = self.funding.inputs().iter().chain(&inputs).find_map(|need| {
            let found = chain.spender(&need.coin).filter(|found| found.transaction.compute_txid() != need.by)?;
            found.place.map(|(height, _)| (found.transaction.compute_txid(), height))
        });
        for event in self.funding.news(FundingView { tip, depth, inputs, conflict }) {
            self.handle(Input::Channel(event), chain);
        }
    }

    /// True if the tip was told on the way.
    fn look_at_outputs(&mut self, chain: &Chain) -> bool {
        let events = self.news_of_outputs(chain);
        let told_tip = events.contains(&onchain::Event::Tip);
        for event in events {
            self.handle(Input::Onchain(event), chain);
        }
        told_tip
    }

    /// As `ChainWatch::look_at_outputs` of the daemon.
    fn news_of_outputs(&mut self, chain: &Chain) -> Vec<onchain::Event> {
        let Some(id) = self.channel.as_ref().map(Channel::id) else { return Vec::new() };
        let found = self.outputs.of(&id).into_iter().map(|outpoint| (outpoint, chain.spender(&outpoint))).collect();
        let SpendUpdate::Events(events) = self.outputs.update(&id, found) else { panic!("all were looked at") };
        events
    }

    pub fn force_close(&mut self, chain: &Chain) {
        self.handle(Input::Channel(Event::ForceClose), chain);
    }

    pub fn outputs(&self) -> impl Iterator<Item = &TrackedOutput> {
        self.closing().outputs()
    }

    pub fn closer(&self) -> Option<&Closer> {
        self.channel.as_ref()?.resolution()?.closer()
    }

    pub fn is_resolved(&self) -> bool {
        self.log.iter().any(|(_, effect)| *effect == onchain::Effect::Resolved)
    }

    /// When the owner of an outgoing HTLC was first told its preimage.
    pub fn fulfilled(&self, id: u64) -> Option<Height> {
        let told = |effect: &onchain::Effect| matches!(effect, onchain::Effect::Fulfilled { htlc, .. } if htlc.0 == id);
        self.log.iter().find(|(_, effect)| told(effect)).map(|(height, _)| *height)
    }

    /// When it was told that an HTLC offered to this node brought it nothing.
    pub fn taken_back(&self, id: u64) -> Option<Height> {
        let told = |effect: &onchain::Effect| matches!(effect, onchain::Effect::TakenBack { htlc, .. } if htlc.0 == id);
        self.log.iter().find(|(_, effect)| told(effect)).map(|(height, _)| *height)
    }

    /// When the owner of an outgoing HTLC was first told that it has failed.
    pub fn failed(&self, id: u64) -> Option<Height> {
        let told = |effect: &onchain::Effect| matches!(effect, onchain::Effect::Failed { htlc, .. } if htlc.0 == id);
        self.log.iter().find(|(_, effect)| told(effect)).map(|(height, _)| *height)
    }
}

/// As the daemon's broadcast: what is there already is no error.
fn broadcast(chain: &Chain, parents: &[Transaction], tx: &Transaction) -> Result<(), MempoolError> {
    let result = if parents.is_empty() {
        chain.submit(tx)
    } else {
        chain.submit_package(parents.iter().chain([tx]).cloned().collect())
    };
    match result {
        Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => Ok(()),
        Err(_) if chain.knows(tx.compute_txid()) => Ok(()),
        other => other,
    }
}

/// A signer that cannot make the points of our commitments: a bug of ours.
struct Broken(Arc<KeysSigner>);

impl Signer for Broken {
    fn basepoints(&self) -> &Basepoints {
        self.0.basepoints()
    }

    fn per_commitment_point(&self, _: CommitmentNumber) -> Result<PublicKey, KeyError> {
        Err(KeyError::InvalidSecret)
    }

    fn release_commitment_secret(&self, number: CommitmentNumber) -> PerCommitmentSecret {
        self.0.release_commitment_secret(number)
    }

    fn release_revocation_secret(&self) -> secp256k1::SecretKey {
        self.0.release_revocation_secret()
    }

    fn sign_funding_input(&self, sighash: &secp256k1::Message) -> Signature {
        self.0.sign_funding_input(sighash)
    }

    fn htlc_key(&self, per_commitment_point: &PublicKey) -> Result<HtlcKeyOfSigner, KeyError> {
        self.0.htlc_key(per_commitment_point)
    }
}

impl ClaimSigner for Broken {
    fn claim_secret(&self, key: &ClaimKey) -> Result<ClaimSecret, KeyError> {
        self.0.claim_secret(key)
    }

    fn owner(&self) -> Option<&dyn Signer> {
        Some(self)
    }
}

/// Whether it is what a look at the chain tells.
fn is_chain(event: &onchain::Event) -> bool {
    matches!(event, onchain::Event::Spent { .. } | onchain::Event::Tip | onchain::Event::Reorganized { .. })
}

fn is_answer(input: &Input) -> bool {
    matches!(input, Input::Onchain(onchain::Event::Coins { .. }))
}

/// Whether it tells what a block did to a watched output.
fn is_block_news(input: &Input) -> bool {
    use onchain::Event as E;
    matches!(input, Input::Onchain(E::Spent { height: Some(_), .. } | E::Reorganized { .. }))
}

fn is_spend(input: &Input) -> bool {
    matches!(input, Input::Onchain(onchain::Event::Spent { .. }))
}

/// Whether a look at the chain tells it again.
fn is_news(input: &Input) -> bool {
    matches!(input, Input::Onchain(onchain::Event::Spent { .. } | onchain::Event::Tip)) || is_block_news(input)
}

fn is_refusal(input: &Input) -> bool {
    matches!(input, Input::Onchain(onchain::Event::Rejected { .. }))
}
