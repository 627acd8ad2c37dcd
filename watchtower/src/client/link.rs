//! One tower, and the connection to it.
//!
//! ```text
//!   down ──Connected: hello──► greeting ──hello: register──► registering ──registered: ask all──► asking
//!                                                                                                   │ the last state
//!   a channel:  describe ► open_channel ► prepare ► backup ► acknowledged   ◄─────────────────── ready
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::ScriptBuf;
use leyden_channels::types::{ChannelId, CommitmentNumber, FeeratePerKw, Height};

use super::{
    Client,
    audit::AuditAsked,
    event::{ClientOutbox, Constants, Ctx, Effect, Notice, Session},
    keys::tag,
    place::{Cover, Opening, Prepared, Trouble},
    record::{ClientKey, CoverageRow, Round, TowerId, TowerRow, Use},
    rounds,
    sight::TowerChain,
};
use crate::{
    appointment::{ChannelName, ChannelTag, ClientId},
    mark::Mark,
    message::{
        Acknowledged, Ask, Backup, BackupBody, CloseChannel, Hello, Mode, OpenChannel, PROTOCOL_VERSION, Register,
        Registered, SignedHeld, TowerFeatures, TowerMessage,
    },
    receipt::Holding,
};

/// The longest term that towers of ours grant: a year of blocks.
const TERM: u32 = 52_560;

/// A term is prolonged when less than this is left: half a year.
const RENEW: u32 = TERM / 2;

/// A term that ends sooner is none: who is away for two weeks finds its backups. A tower whose chain is behind grants such ones.
const SHORTEST_TERM: u32 = 2_016;

/// When a term has grown by so much, the receipts are asked for again: what they bind to has grown with it.
const RECEIPTS_GROW: u32 = 2_016;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Down,
    Greeting,
    Registering,
    Asking,
    Ready,
}

pub(super) struct Tower {
    pub row: TowerRow,
    pub covers: BTreeMap<ChannelId, Cover>,
    /// What the tower is to forget.
    pub leaving: BTreeSet<(ChannelId, Round)>,
    /// It has said in this run what it holds.
    pub has_answered: bool,
    pub session: Session,
    pub stage: Stage,
    pub known: Option<Known>,
    /// Channels that may have something to send: those that keep up, and the others.
    pub turns: VecDeque<ChannelId>,
    pub late_turns: VecDeque<ChannelId>,
    /// Of which the first one has been sent: a tower reads for one at a time.
    pub audits: VecDeque<AuditAsked>,
    /// For how many ticks that one has not been answered.
    pub audit_waits: u32,
    /// At which rate new tags are described.
    pub sweep_feerate: FeeratePerKw,
    /// How far its chain was when it was asked last.
    pub chain: Option<TowerChain>,
    /// Until when the receipts bind that were asked for last.
    pub receipts_until: Height,
}

/// Of a tag of which nothing is known yet.
pub(super) fn undescribed() -> CoverageRow {
    CoverageRow {
        destination: ScriptBuf::new(),
        sweep_feerate: FeeratePerKw(0),
        receipt: None,
        samples: Vec::new(),
        not_shown: None,
        closing: false,
    }
}

/// Under which names this node is known to the tower.
pub(super) struct Known {
    pub client: ClientId,
    pub secret: [u8; 32],
    pub tags: BTreeMap<ChannelTag, (ChannelId, Round)>,
}

impl Tower {
    pub(super) fn new(row: TowerRow) -> Self {
        Self {
            row,
            covers: BTreeMap::new(),
            leaving: BTreeSet::new(),
            has_answered: false,
            session: Session::default(),
            stage: Stage::Down,
            known: None,
            turns: VecDeque::new(),
            late_turns: VecDeque::new(),
            audits: VecDeque::new(),
            audit_waits: 0,
            sweep_feerate: FeeratePerKw(0),
            chain: None,
            receipts_until: Height(0),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether it is in use and has kept its word.
    pub(super) fn counts(&self) -> bool {
        self.row.use_of_it == Use::Active && self.row.proof.is_none()
    }

    /// The newest state of a channel that it signed for.
    pub(super) fn held(&self, channel: &ChannelId) -> Option<CommitmentNumber> {
        self.covers.get(channel).and_then(Cover::held)
    }

    /// That, unless it says now that it has not.
    pub(super) fn held_in_order(&self, channel: &ChannelId) -> Option<CommitmentNumber> {
        let cover = self.covers.get(channel)?;
        if cover.trouble.is_some_and(Trouble::voids_receipts) { None } else { cover.held() }
    }

    /// Whether it can be expected to take what waits for it.
    pub(super) fn takes(&self, channel: &ChannelId) -> bool {
        self.counts() && self.covers.get(channel).is_none_or(|cover| cover.trouble.is_none())
    }

    /// Every coverage row of this tower.
    pub(super) fn rows(&self) -> Vec<(ChannelId, Round)> {
        let of = |(channel, cover): (&ChannelId, &Cover)| {
            let current = cover.row.as_ref().map(|_| cover.round);
            let rounds = cover.earlier.iter().map(|(round, _)| *round).chain(current);
            rounds.map(|round| (*channel, round)).collect::<Vec<_>>()
        };
        self.covers.iter().flat_map(of).chain(self.leaving.iter().copied()).collect()
    }

    /// What was on its way is not any more.
    pub(super) fn down(&mut self) {
        self.stage = Stage::Down;
        for cover in self.covers.values_mut() {
            cover.flow = Default::default();
            if cover.trouble == Some(Trouble::NotPrepared) {
                cover.trouble = None;
            }
        }
        self.turns.clear();
        self.late_turns.clear();
        self.audits.clear();
        self.audit_waits = 0;
    }

    pub(super) fn name(&self, channel: &ChannelId, round: Round) -> Option<ChannelName> {
        self.known.as_ref().map(|known| tag(&known.secret, channel, round))
    }

    pub(super) fn receipt_key(&self) -> Option<secp256k1::PublicKey> {
        self.row.granted.map(|granted| granted.receipt_key)
    }

    pub(super) fn holding(&self, ctx: &Ctx<'_>, channel: ChannelName, receipt: &SignedHeld) -> Option<Holding> {
        let (client, SignedHeld { held, until, .. }) = (self.known.as_ref()?.client, *receipt);
        Some(Holding { chain: ctx.chain, client, channel, held, until })
    }

    /// Whether the tower has signed this.
    pub(super) fn verifies(&self, ctx: &Ctx<'_>, channel: ChannelName, receipt: &SignedHeld) -> bool {
        let holding = self.holding(ctx, channel, receipt);
        holding.zip(self.receipt_key()).is_some_and(|(holding, key)| holding.verify(&receipt.signature, &key))
    }
}

impl Client {
    pub(super) fn connected(&mut self, id: TowerId, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        tower.down();
        if tower.row.use_of_it == Use::Deactivated {
            return out.emit(Effect::Disconnect { tower: id, again: false });
        }
        let secret = ctx.keys.secret(&tower.row.key);
        let channels = self.channels.keys().copied().chain(tower.leaving.iter().map(|(channel, _)| *channel));
        let tags = channels.flat_map(|channel| rounds().map(move |round| (channel, round)));
        let tags =
            tags.chain(tower.rows()).map(|(channel, round)| (tag(&secret, &channel, round).tag, (channel, round)));
        tower.known = Some(Known { client: ctx.keys.client(&tower.row.key), secret, tags: tags.collect() });
        tower.session.0 = tower.session.0.wrapping_add(1);
        tower.stage = Stage::Greeting;
        tower.sweep_feerate = ctx.sweep_feerate;
        let features = TowerFeatures::default();
        out.emit(Effect::Send(id, Hello { version: PROTOCOL_VERSION, chain: ctx.chain, features }.into()));
    }

    pub(super) fn disconnected(&mut self, id: TowerId) {
        if let Some(tower) = self.towers.get_mut(&id) {
            tower.down();
        }
    }

    /// The connection ends, and is tried again later.
    pub(super) fn hang_up(&mut self, id: TowerId, notice: Notice, out: &mut ClientOutbox) {
        out.emit(Effect::Notice(notice));
        out.emit(Effect::Disconnect { tower: id, again: true });
        self.disconnected(id);
    }

    pub(super) fn unusable(&mut self, id: TowerId, why: &str, out: &mut ClientOutbox) {
        self.hang_up(id, Notice::Unusable { tower: id, why: why.to_owned() }, out);
    }

    pub(super) fn message(&mut self, id: TowerId, message: TowerMessage, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get(&id) else { return };
        match (message, tower.stage) {
            // What was on its way when the connection ended.
            (_, Stage::Down) => {}
            (TowerMessage::Hello(hello), Stage::Greeting) => self.hello(id, &hello, ctx, out),
            (TowerMessage::Registered(granted), Stage::Registering | Stage::Asking | Stage::Ready) => {
                self.registered(id, granted, ctx, out);
            }
            (TowerMessage::State(state), Stage::Asking) => self.state(id, &state, ctx, out),
            (TowerMessage::State(state), Stage::Ready) => self.state_again(id, &state, ctx, out),
            (TowerMessage::ChannelOpened(opened), Stage::Ready) => self.opened(id, opened.channel, ctx, out),
            (TowerMessage::Acknowledged(receipt), Stage::Ready) => self.acknowledged(id, &receipt, ctx, out),
            (TowerMessage::ChannelClosed(closed), Stage::Ready) => self.closed(id, closed.tag, out),
            (TowerMessage::Audited(audited), Stage::Ready) => self.audited(id, &audited, ctx, out),
            (TowerMessage::Refused(refused), _) => self.refused(id, refused, out),
            (TowerMessage::Possession(shown), Stage::Ready) => self.shown(id, &shown, out),
            (TowerMessage::ChainSeen(seen), Stage::Ready) => self.chain_seen(id, seen, ctx),
            (message @ TowerMessage::Unknown { .. }, _) if !message.must_be_understood() => {}
            (message, _) => self.unusable(id, &format!("it sends {} out of turn", message.name()), out),
        }
    }

    fn hello(&mut self, id: TowerId, hello: &Hello, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        let mode = tower.row.mode;
        let why = if hello.chain != ctx.chain {
            "it is on another chain"
        } else if hello.version < PROTOCOL_VERSION {
            "it speaks an older protocol: it has to be updated"
        } else if !hello.features.offers(mode) {
            match mode {
                Mode::Blind => "it does not serve strangers: if it is yours, add it with --own",
                Mode::Own => "it does not offer own mode",
            }
        } else {
            tower.stage = Stage::Registering;
            return self.register(id, ctx, out);
        };
        self.unusable(id, why, out);
    }

    fn register(&self, id: TowerId, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get(&id) else { return };
        let register = Register { mode: tower.row.mode, sweep_feerate: ctx.sweep_feerate, term: TERM };
        out.emit(Effect::Send(id, register.into()));
    }

    fn registered(&mut self, id: TowerId, granted: Registered, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        if (granted.mode, granted.sweep_feerate) != (tower.row.mode, ctx.sweep_feerate) {
            return self.unusable(id, "it grants something else than was asked for", out);
        }
        if tower.receipt_key().is_some_and(|key| key != granted.receipt_key) {
            return self.unusable(id, "it signs with another key than before: remove it, and add it again", out);
        }
        let (until, tip) = (granted.until, ctx.tip);
        if until.0 < tip.0.saturating_add(SHORTEST_TERM) {
            return self.hang_up(id, Notice::TermTooShort { tower: id, until, tip }, out);
        }
        if tower.row.granted != Some(granted) {
            tower.row.granted = Some(granted);
            out.put(ClientKey::Tower(id), tower.row.encode());
        }
        if tower.stage == Stage::Registering {
            (tower.stage, tower.receipts_until) = (Stage::Asking, until);
            out.emit(Effect::Notice(Notice::Registered { tower: id, until }));
            out.emit(Effect::Send(id, Ask::All.into()));
        } else if tower.is_ready() && until.0 >= tower.receipts_until.0.saturating_add(RECEIPTS_GROW) {
            tower.receipts_until = until;
            out.emit(Effect::Send(id, Ask::All.into()));
        }
    }

    /// Tells a tower to forget channels that are over.
    pub(super) fn say_goodbye(&mut self, id: TowerId, _ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get(&id).filter(|tower| tower.is_ready()) else { return };
        for (channel, round) in &tower.leaving {
            if let Some(name) = tower.name(channel, *round) {
                out.emit(Effect::Send(id, CloseChannel { tag: name.tag }.into()));
            }
        }
    }

    fn closed(&mut self, id: TowerId, tag: ChannelTag, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        let known = tower.known.as_ref().and_then(|known| known.tags.get(&tag).copied());
        if let Some((channel, round)) = known.filter(|one| tower.leaving.remove(one)) {
            out.delete(ClientKey::Coverage { tower: id, channel, round });
        }
    }

    /// There may be something to send of this channel, to all towers.
    pub(super) fn work_for(&mut self, channel: ChannelId, _ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        for id in self.towers.keys().copied().collect::<Vec<_>>() {
            if let Some((tower, queue)) = self.at(id, channel)
                && tower.is_ready()
            {
                tower.take_turn(channel, queue);
                self.pump(id, out);
            }
        }
    }

    pub(super) fn described(
        &mut self,
        id: TowerId,
        channel: ChannelId,
        session: Session,
        destination: ScriptBuf,
        constants: Constants,
        out: &mut ClientOutbox,
    ) {
        let Some(tower) = self.towers.get_mut(&id).filter(|tower| tower.is_ready() && tower.session == session) else {
            return;
        };
        if constants.mode() != tower.row.mode {
            return self.unusable(id, "a channel was described in another mode than the tower's", out);
        }
        let Some(cover) = tower.covers.get_mut(&channel).filter(|cover| cover.flow.opening == Opening::Describing)
        else {
            return;
        };
        let row = cover.row.get_or_insert_with(undescribed);
        if row.destination.is_empty() {
            row.sweep_feerate = tower.sweep_feerate;
        }
        row.destination = destination;
        cover.flow.opening = Opening::Sent;
        let (round, row) = (cover.round, row.encode());
        // Durable before the tower has it: what was sealed once is sealed the same way again.
        out.put(ClientKey::Coverage { tower: id, channel, round }, row);
        let (Constants::Blind(constants) | Constants::Own(constants)) = constants;
        if let Some(name) = tower.name(&channel, round) {
            out.emit(Effect::Send(id, OpenChannel { channel: name, constants }.into()));
        }
    }

    fn opened(&mut self, id: TowerId, name: ChannelName, _ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(channel) = self.current(id, name) else { return };
        let Some((tower, queue)) = self.at(id, channel) else { return };
        if let Some(cover) = tower.covers.get_mut(&channel)
            && cover.flow.opening == Opening::Sent
        {
            cover.flow.opening = Opening::Open;
            tower.take_turn(channel, queue);
            self.pump(id, out);
        }
    }

    /// The channel that a name stands for now.
    pub(super) fn current(&self, id: TowerId, name: ChannelName) -> Option<ChannelId> {
        let tower = self.towers.get(&id)?;
        let (channel, round) = tower.known.as_ref()?.tags.get(&name.tag).copied()?;
        let cover = tower.covers.get(&channel)?;
        (cover.round == round && tower.name(&channel, round) == Some(name)).then_some(channel)
    }

    pub(super) fn prepared(
        &mut self,
        id: TowerId,
        channel: ChannelId,
        session: Session,
        backup: &Backup,
        _ctx: &Ctx<'_>,
        out: &mut ClientOutbox,
    ) {
        let Some(tower) = self.towers.get_mut(&id).filter(|tower| tower.is_ready() && tower.session == session) else {
            return;
        };
        // Whoever made it: what a blind tower must not have does not leave.
        if backup.body.mode() != tower.row.mode {
            return self.unusable(id, "a backup was made in another mode than the tower's", out);
        }
        let round = tower.covers.get(&channel).map(|cover| cover.round);
        if round.and_then(|round| tower.name(&channel, round)) != Some(backup.channel) {
            return;
        }
        let Some(cover) = tower.covers.get_mut(&channel) else { return };
        if let (BackupBody::OwnPast { .. }, Some(queue)) = (&backup.body, self.channels.get_mut(&channel)) {
            // The channel may be ahead of what it has told.
            queue.revoked = queue.revoked.max(Some(backup.number));
        }
        match cover.prepared(backup) {
            Prepared::Unasked | Prepared::Skip => {}
            sent @ (Prepared::Send | Prepared::SendPart) => {
                let Some(known) = &tower.known else { return };
                if sent == Prepared::Send {
                    cover.sample(&known.secret, backup);
                }
                for message in backup.to_messages(Mark::of(&known.secret, &backup.channel, backup.number)) {
                    out.emit(Effect::Send(id, message));
                }
            }
            Prepared::Confirmed(receipt) => {
                cover.acknowledged(receipt);
                self.covered(id, channel, out);
            }
            Prepared::Differs => {
                cover.begin_round();
                if let Some(queue) = self.channels.get(&channel) {
                    tower.take_turn(channel, queue);
                }
            }
        }
        self.pump(id, out);
    }

    pub(super) fn not_prepared(
        &mut self,
        id: TowerId,
        channel: ChannelId,
        session: Session,
        why: String,
        out: &mut ClientOutbox,
    ) {
        let Some(tower) = self.towers.get_mut(&id).filter(|tower| tower.session == session) else { return };
        if let Some(cover) = tower.covers.get_mut(&channel) {
            cover.trouble = Some(Trouble::NotPrepared);
            cover.flow = Default::default();
            out.emit(Effect::Notice(Notice::NotPrepared { tower: id, channel, why }));
        }
        self.pump(id, out);
    }

    fn acknowledged(&mut self, id: TowerId, receipt: &Acknowledged, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        // Of a channel that is over, or of an earlier tag: too late to matter.
        let Some(channel) = self.current(id, receipt.channel) else { return };
        let Some(tower) = self.towers.get_mut(&id) else { return };
        let signed = receipt.receipt;
        let is_signed = tower.verifies(ctx, receipt.channel, &signed);
        let Some(cover) = tower.covers.get_mut(&channel) else { return };
        match cover.matches(&signed.held) {
            None => {}
            Some(true) if is_signed => {
                cover.acknowledged(signed);
                self.covered(id, channel, out);
                self.pump(id, out);
            }
            Some(true) => self.unusable(id, "its receipt is not signed by it", out),
            Some(false) => self.unusable(id, "its receipt is for other backups than were sent", out),
        }
    }

    /// A receipt counts: it is written, and what it was waited for with it.
    fn covered(&mut self, id: TowerId, channel: ChannelId, out: &mut ClientOutbox) {
        let Some((tower, queue)) = self.at(id, channel) else { return };
        if let Some(cover) = tower.covers.get(&channel)
            && let Some(row) = &cover.row
        {
            out.put(ClientKey::Coverage { tower: id, channel, round: cover.round }, row.encode());
        }
        tower.take_turn(channel, queue);
        self.settle(channel, false, out);
    }

    /// Prolongs terms that end.
    pub(super) fn renew(&self, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let ends = |granted: Registered| granted.until < Height(ctx.tip.0.saturating_add(RENEW));
        for (id, tower) in &self.towers {
            if tower.is_ready() && tower.row.granted.is_some_and(ends) {
                self.register(*id, ctx, out);
            }
        }
    }
}
