//! What a tower says that it has, against what it signed for and what this node knows.
//!
//! ```text
//!   all that it has ──► per channel:  later than ours ──► with our mark: our data is old; without: not believed
//!                                     as signed ────────► backups go on after it
//!                                     closed ───────────► believed until the chain says otherwise
//!                                     less ─────────────► its term is over, or an audit is due
//! ```

use leyden_channels::types::ChannelId;

use super::{
    Client,
    event::{ClientOutbox, Ctx, Effect, Notice},
    link::{Stage, Tower, undescribed},
    place::{Resumption, Trouble},
    record::{ClientKey, CoverageRow, Round, TowerId},
};
use crate::{
    appointment::ChannelName,
    mark::Mark,
    message::{Ask, Has, Mode, SignedClosed, SignedHeld, State},
    receipt::Closing,
};

impl Tower {
    /// A blind tower knows a tag of which this node has no row: it was removed, and added again. Nothing is sealed under that tag
    /// another time.
    pub(super) fn leave_unknown_tag(&mut self, name: &ChannelName) {
        let known = self.known.as_ref().and_then(|known| known.tags.get(&name.tag).copied());
        if let Some((channel, round)) = known.filter(|one| self.row.mode == Mode::Blind && !self.leaving.contains(one))
        {
            let cover = self.covers.entry(channel).or_default();
            if cover.row.is_none() && round >= cover.round {
                cover.round = Round(round.0.saturating_add(1));
            }
        }
    }

    /// Everything that it signed for of a channel is behind us: it is to forget that, and the next state begins under another
    /// tag.
    pub(super) fn end_term(&mut self, id: TowerId, channel: ChannelId, out: &mut ClientOutbox) {
        let Some(cover) = self.covers.get_mut(&channel) else { return };
        cover.begin_round();
        cover.trouble = None;
        for (round, row) in std::mem::take(&mut cover.earlier) {
            let row = CoverageRow { receipt: None, closing: true, ..row };
            out.put(ClientKey::Coverage { tower: id, channel, round }, row.encode());
            self.leaving.insert((channel, round));
        }
    }

    fn has_signed(&self, ctx: &Ctx<'_>, channel: ChannelName, has: &Has) -> bool {
        match has {
            Has::Nothing => true,
            Has::Backups { receipt, .. } => self.verifies(ctx, channel, receipt),
            Has::Closed(closed) => self.verifies_closed(ctx, channel, closed),
        }
    }

    fn verifies_closed(&self, ctx: &Ctx<'_>, channel: ChannelName, signed: &SignedClosed) -> bool {
        let (Some(known), Some(key)) = (&self.known, self.receipt_key()) else { return false };
        let closing = Closing { chain: ctx.chain, client: known.client, channel, closed: signed.closed };
        closing.verify(&signed.signature, &key)
    }
}

impl Client {
    /// What the tower has of one channel.
    pub(super) fn state(&mut self, id: TowerId, state: &State, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        if let Some(name) = state.channel {
            tower.leave_unknown_tag(&name);
            if !tower.has_signed(ctx, name, &state.has) {
                return self.unusable(id, "its receipt is not signed by it", out);
            }
            let known = tower.known.as_ref().and_then(|known| known.tags.get(&name.tag).copied());
            if let Some((channel, round)) = known.filter(|(channel, _)| self.channels.contains_key(channel)) {
                match state.has {
                    Has::Nothing => {}
                    Has::Backups { receipt, mark } => self.claims(id, (channel, round, name), receipt, mark, out),
                    Has::Closed(signed) => {
                        tower.covers.entry(channel).or_default().flow.closed = Some(signed.closed);
                    }
                }
            }
        }
        if state.remaining == 0 {
            self.ready(id, ctx, out);
        }
    }

    /// The tower says that it has these backups of a channel.
    fn claims(
        &mut self,
        id: TowerId,
        (channel, round, name): (ChannelId, Round, ChannelName),
        receipt: SignedHeld,
        mark: Mark,
        out: &mut ClientOutbox,
    ) {
        let Some((tower, queue)) = self.at(id, channel) else { return };
        let (number, revoked) = (receipt.held.up_to, queue.revoked);
        let sent = tower.known.as_ref().is_some_and(|known| mark.is_of(&known.secret, &name, number));
        let cover = tower.covers.entry(channel).or_default();
        if Some(number) <= revoked {
            if let Some(row) = cover.prolong(round, &receipt) {
                out.put(ClientKey::Coverage { tower: id, channel, round }, row.encode());
            }
            if round == cover.round {
                cover.flow.claimed = Some(receipt);
            } else {
                cover.flow.earlier.push((round, receipt.held));
            }
            return;
        }
        let (trouble, notice) = match sent {
            true => {
                out.emit(Effect::TowerKnowsRevoked { channel, number });
                (Trouble::DataIsOld, Notice::DataIsOld { tower: id, channel, number })
            }
            // Anybody could say so.
            false => (Trouble::ClaimsMore, Notice::ClaimsMore { tower: id, channel, number }),
        };
        // However often it says so: a line of the log costs more than what it sends.
        if cover.trouble.replace(trouble) != Some(trouble) {
            out.emit(Effect::Notice(notice));
        }
    }

    /// An answer while backups go on: receipts that bind for longer, or how a channel ended of which it takes no more.
    pub(super) fn state_again(&mut self, id: TowerId, state: &State, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        let Some(name) = state.channel else { return };
        if !tower.has_signed(ctx, name, &state.has) {
            return self.unusable(id, "its receipt is not signed by it", out);
        }
        let known = tower.known.as_ref().and_then(|known| known.tags.get(&name.tag).copied());
        let Some((channel, round)) = known else { return };
        let Some(cover) = tower.covers.get_mut(&channel) else { return };
        match state.has {
            Has::Nothing => {}
            Has::Backups { receipt, .. } => {
                if let Some(row) = cover.prolong(round, &receipt) {
                    out.put(ClientKey::Coverage { tower: id, channel, round }, row.encode());
                }
            }
            Has::Closed(signed) => {
                let trouble = Trouble::Closed(signed.closed);
                if cover.trouble.replace(trouble) != Some(trouble) {
                    out.emit(Effect::Notice(Notice::Closed { tower: id, channel, closed: signed.closed }));
                    self.look_for_close(id, channel, ctx, out);
                    self.settle(channel, false, out);
                }
            }
        }
    }

    /// All is known: every channel goes on where the tower ends.
    fn ready(&mut self, id: TowerId, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        (tower.stage, tower.has_answered) = (Stage::Ready, true);
        let trusted = tower.row.mode == Mode::Own;
        let (mut changed, mut over, mut closed) = (Vec::new(), Vec::new(), Vec::new());
        for (channel, cover) in &mut tower.covers {
            // What it has shown once is not taken back.
            if let Some(Trouble::DataIsOld | Trouble::ClaimsMore | Trouble::NoRoundLeft) = cover.trouble {
                continue;
            }
            let before = cover.trouble;
            if !cover.is_paused() {
                cover.trouble = None;
            }
            let from = cover.resumption(trusted, ctx.tip);
            cover.resume(from);
            match from {
                Resumption::Anew | Resumption::After(_) => {
                    let rate =
                        cover.row.as_ref().filter(|row| !row.destination.is_empty()).map(|row| row.sweep_feerate);
                    if !trusted && rate.is_some_and(|rate| rate != tower.sweep_feerate) {
                        // What is sealed under this tag names its rate.
                        cover.begin_round();
                    }
                }
                Resumption::Check(_) => {}
                Resumption::NotShown(number) => cover.trouble = Some(Trouble::NotShown(number)),
                Resumption::TermOver(until) => over.push((*channel, until)),
                Resumption::Closed(by) => {
                    cover.trouble = Some(Trouble::Closed(by));
                    closed.push(*channel);
                    if before != cover.trouble {
                        out.emit(Effect::Notice(Notice::Closed { tower: id, channel: *channel, closed: by }));
                    }
                }
                Resumption::HoldsLess => {
                    cover.trouble = Some(Trouble::HoldsLess);
                    out.emit(Effect::Notice(Notice::HoldsLess { tower: id, channel: *channel }));
                }
                // Its row is written once the destination is known again.
                Resumption::Adopt(receipt) => {
                    let row = cover.row.get_or_insert_with(undescribed);
                    row.receipt = Some(receipt);
                    let key = ClientKey::Coverage { tower: id, channel: *channel, round: cover.round };
                    out.put(key, row.encode());
                    changed.push(*channel);
                }
            }
            if before != cover.trouble {
                changed.push(*channel);
            }
        }
        for (channel, until) in over {
            tower.end_term(id, channel, out);
            out.emit(Effect::Notice(Notice::TermOver { tower: id, channel, until }));
            changed.push(channel);
        }
        for channel in closed {
            self.look_for_close(id, channel, ctx, out);
        }
        for channel in changed {
            self.settle(channel, false, out);
        }
        for channel in self.channels.keys().copied().collect::<Vec<_>>() {
            if let Some((tower, queue)) = self.at(id, channel) {
                tower.take_turn(channel, queue);
            }
        }
        out.emit(Effect::Send(id, Ask::Chain.into()));
        self.say_goodbye(id, ctx, out);
        self.pump(id, out);
    }
}
