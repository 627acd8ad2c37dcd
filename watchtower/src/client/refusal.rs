//! What a tower does not take, and when it is tried again: one channel that is refused stops no other.

use super::{
    Client,
    event::{ClientOutbox, Ctx, Effect, Notice},
    link::Tower,
    place::Trouble,
    record::TowerId,
};
use crate::{
    appointment::ChannelName,
    message::{Ask, RefusalCode, Refused},
};

impl Client {
    pub(super) fn refused(&mut self, id: TowerId, refused: Refused, out: &mut ClientOutbox) {
        let Refused { code, text, channel, .. } = refused;
        let is_ready = self.towers.get(&id).is_some_and(Tower::is_ready);
        match channel.filter(|_| is_ready && code != RefusalCode::NotRegistered) {
            Some(name) => self.channel_refused(id, name, code, text, out),
            None => self.hang_up(id, Notice::Refused { tower: id, code, text }, out),
        }
    }

    /// One channel is refused: the others go on.
    fn channel_refused(
        &mut self,
        id: TowerId,
        name: ChannelName,
        code: RefusalCode,
        text: String,
        out: &mut ClientOutbox,
    ) {
        // Of a channel that is over, or of an earlier tag.
        let Some(channel) = self.current(id, name) else { return };
        let Some((tower, queue)) = self.at(id, channel) else { return };
        let Some(cover) = tower.covers.get_mut(&channel) else { return };
        // One word for all that was on its way.
        if cover.trouble.is_some() {
            return;
        }
        match code {
            // It remembers the tag from before this node forgot it, or does not know it, or not as it should.
            RefusalCode::ChannelExists | RefusalCode::NoSuchChannel => cover.lose_round(code),
            RefusalCode::ChannelEnded => {
                cover.refused(code);
                out.emit(Effect::Send(id, Ask::Channel(name).into()));
            }
            RefusalCode::NotOffered
            | RefusalCode::Full
            | RefusalCode::TooFast
            | RefusalCode::NotRegistered
            | RefusalCode::QuotaExceeded
            | RefusalCode::OutOfOrder
            | RefusalCode::Unreadable
            | RefusalCode::WrongSecret
            | RefusalCode::TermsDiffer
            | RefusalCode::NotReady
            | RefusalCode::Other(_) => cover.refused(code),
        }
        if cover.trouble.is_some() {
            out.emit(Effect::Notice(Notice::ChannelRefused { tower: id, channel, code, text }));
        }
        tower.take_turn(channel, queue);
        self.pump(id, out);
    }

    /// What time changes: pauses end, terms end, audits stay unanswered.
    pub(super) fn tick_towers(&mut self, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        for id in self.towers.keys().copied().collect::<Vec<_>>() {
            let Some(tower) = self.towers.get_mut(&id) else { continue };
            let (mut again, mut over, mut closed) = (Vec::new(), Vec::new(), Vec::new());
            for (channel, cover) in &mut tower.covers {
                if cover.tick() {
                    again.push(*channel);
                }
                match cover.trouble {
                    Some(Trouble::HoldsLess) => over.extend(cover.ended(ctx.tip).map(|until| (*channel, until))),
                    Some(Trouble::Closed(_)) => closed.push(*channel),
                    Some(_) | None => {}
                }
            }
            if !tower.is_ready() {
                continue;
            }
            out.emit(Effect::Send(id, Ask::Chain.into()));
            for (channel, until) in over {
                tower.end_term(id, channel, out);
                out.emit(Effect::Notice(Notice::TermOver { tower: id, channel, until }));
                again.push(channel);
            }
            for channel in again {
                self.settle(channel, false, out);
                if let Some((tower, queue)) = self.at(id, channel) {
                    tower.take_turn(channel, queue);
                }
            }
            for channel in closed {
                self.look_for_close(id, channel, ctx, out);
            }
            self.say_goodbye(id, ctx, out);
            self.pump(id, out);
            self.wait_for_audit(id, out);
        }
    }
}
