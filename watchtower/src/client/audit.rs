//! Holding a tower to what it signed: see [`crate::receipt`].
//!
//! The tower reads again what it stores up to the newest receipt of each tag, and signs for that and for a nonce. If both cannot
//! be true it is convicted: the two signatures are kept with the tower's row, and it counts as none from then on. Then it is
//! asked to show one backup of each tag ([`super::sample`]): one that it cannot show counts as all of the channel's lost, from
//! then on. One that says
//! that the channel is closed is believed as long as the chain does not say otherwise: the funding output's state decides, when
//! the block that it names is buried deep enough.

use leyden_channels::types::{ChannelId, Height};

use super::{
    Client,
    event::{ClientOutbox, Ctx, Effect, Notice},
    keys::tag,
    link::Tower,
    place::Trouble,
    record::{ClientKey, Proof, Round, Sample, TowerId},
    sample::challenge,
};
use crate::{
    appointment::ChannelName,
    message::{Ask, Audited, Possession, SignedHeld},
    receipt::{Audit, Says, convicts},
};

/// Audits that have not been answered: as many tags as channels can have, and some channels.
const AUDITS: usize = 1_024;

/// For how many ticks a tower may read before it is said that it does not answer.
const PATIENCE: u32 = 10;

/// So deep the block must be buried in which a tower says that a channel was closed: no reorganisation is expected to be longer.
const BURIED: u32 = 100;

/// What was asked, or will be, and the receipt that it is about.
pub(super) struct AuditAsked {
    channel: ChannelId,
    round: Round,
    name: ChannelName,
    /// Of the whole audit.
    nonce: [u8; 32],
    question: Question,
}

enum Question {
    /// What it has, against this receipt.
    Has(SignedHeld),
    /// To show this backup. What is closed meanwhile has nothing to show: `again` after it was asked once more what it has.
    Show { sample: Sample, challenge: [u8; 32], again: bool },
}

impl Tower {
    /// Sends the first one.
    fn ask_for_audit(&mut self, id: TowerId, out: &mut ClientOutbox) {
        self.audit_waits = 0;
        if let Some(AuditAsked { name, nonce, question, .. }) = self.audits.front() {
            let (channel, nonce) = (*name, *nonce);
            out.emit(Effect::Send(
                id,
                match question {
                    Question::Has(receipt) => Ask::Audit { channel, up_to: receipt.held.up_to, nonce }.into(),
                    Question::Show { sample, challenge: nonce, .. } => {
                        Ask::Possession { channel, number: sample.number, nonce: *nonce }.into()
                    }
                },
            ));
        }
    }

    /// Nothing more is asked of one audit.
    fn end_audit(&mut self, id: TowerId, channel: ChannelId, nonce: [u8; 32], out: &mut ClientOutbox) {
        self.audits.retain(|one| (one.channel, one.nonce) != (channel, nonce));
        self.ask_for_audit(id, out);
    }

    /// One answer was as it should be.
    fn go_on(&mut self, id: TowerId, channel: ChannelId, nonce: [u8; 32], says: Says, out: &mut ClientOutbox) {
        let is_last = self.audits.front().is_none_or(|next| (next.channel, next.nonce) != (channel, nonce));
        self.ask_for_audit(id, out);
        if is_last {
            out.emit(Effect::Notice(Notice::AuditPassed { tower: id, channel, says }));
        }
    }
}

impl Client {
    pub(super) fn audit(&mut self, id: TowerId, channel: ChannelId, nonce: [u8; 32], out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id).filter(|tower| tower.is_ready()) else { return };
        let Some(secret) = tower.known.as_ref().map(|known| known.secret) else { return };
        let Some(cover) = tower.covers.get_mut(&channel) else { return };
        let is_first = tower.audits.is_empty();
        let mut questions: Vec<_> =
            cover.receipts().map(|(round, receipt)| (round, Question::Has(receipt))).take(AUDITS).collect();
        if tower.audits.len().saturating_add(questions.len()) > AUDITS {
            return;
        }
        for (round, sample, row) in cover.take_samples() {
            // A challenge that was seen is none any more.
            out.put(ClientKey::Coverage { tower: id, channel, round }, row.encode());
            let challenge = challenge(&secret, &tag(&secret, &channel, round), sample.number);
            questions.push((round, Question::Show { sample, challenge, again: false }));
        }
        let asked = questions.into_iter().map(|(round, question)| {
            let name = tag(&secret, &channel, round);
            AuditAsked { channel, round, name, nonce, question }
        });
        tower.audits.extend(asked);
        if is_first {
            tower.ask_for_audit(id, out);
        }
    }

    pub(super) fn audited(&mut self, id: TowerId, audited: &Audited, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        let asked = |one: &mut AuditAsked| {
            matches!(one.question, Question::Has(_)) && one.nonce == audited.nonce && one.name == audited.channel
        };
        let Some(AuditAsked { channel, name, nonce, question, .. }) = tower.audits.pop_front_if(asked) else { return };
        let Question::Has(receipt) = question else { return };
        let (Some(receipt_key), Some(holding)) = (tower.receipt_key(), tower.holding(ctx, name, &receipt)) else {
            return;
        };
        let Audited { at, says, signature, .. } = *audited;
        let audit = Audit { chain: holding.chain, client: holding.client, channel: name, nonce, at, says };
        if !audit.verify(&signature, &receipt_key) {
            return self.unusable(id, "its answer to an audit is not signed by it", out);
        }
        let unspent_at = tower.covers.get(&channel).and_then(|cover| cover.unspent_at);
        let Some(contradiction) = convicts(&holding, &audit, unspent_at) else {
            if !matches!(says, Says::Holds(_)) {
                // It has nothing to show.
                let is_same = |one: &AuditAsked| (one.channel, one.nonce, one.name) == (channel, nonce, name);
                tower.audits.retain(|one| !(is_same(one) && matches!(one.question, Question::Show { .. })));
            }
            tower.go_on(id, channel, nonce, says, out);
            if let (Says::Closed(closed), Some(cover)) = (says, tower.covers.get_mut(&channel)) {
                cover.trouble = Some(Trouble::Closed(closed));
                self.look_for_close(id, channel, ctx, out);
            }
            return;
        };
        tower.end_audit(id, channel, nonce, out);
        let proof = Proof {
            receipt_key,
            receipt: holding,
            receipt_signature: receipt.signature,
            audit,
            audit_signature: signature,
        };
        tower.row.proof = Some(proof);
        out.put(ClientKey::Tower(id), tower.row.encode());
        out.emit(Effect::Notice(Notice::AuditFailed { tower: id, channel, contradiction, proof: Box::new(proof) }));
        self.settle_all(out);
    }

    /// The answer to a challenge.
    pub(super) fn shown(&mut self, id: TowerId, shown: &Possession, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        let asked = |one: &mut AuditAsked| match one.question {
            Question::Show { sample, .. } => (one.name, sample.number) == (shown.channel, shown.number),
            Question::Has(_) => false,
        };
        let Some(asked) = tower.audits.pop_front_if(asked) else { return };
        let AuditAsked { channel, round, name, nonce, question } = asked;
        let Question::Show { sample, challenge, again } = question else { return };
        let Some(cover) = tower.covers.get_mut(&channel) else { return };
        if shown.proof == Some(sample.proof) {
            if let Some((_, receipt)) = cover.receipts().last() {
                tower.go_on(id, channel, nonce, Says::Holds(receipt.held), out);
            }
            return;
        }
        let receipt = cover.receipts().find(|(of, _)| *of == round).map(|(_, receipt)| receipt);
        if let (false, None, Some(receipt)) = (again, shown.proof, receipt) {
            let show = Question::Show { sample, challenge, again: true };
            for question in [show, Question::Has(receipt)] {
                tower.audits.push_front(AuditAsked { channel, round, name, nonce, question });
            }
            return tower.ask_for_audit(id, out);
        }
        let number = sample.number;
        if let Some(row) = cover.not_shown(round, number) {
            out.put(ClientKey::Coverage { tower: id, channel, round }, row.encode());
        }
        tower.end_audit(id, channel, nonce, out);
        out.emit(Effect::Notice(Notice::NotShown { tower: id, channel, number }));
        self.settle(channel, true, out);
    }

    /// A tick has passed.
    pub(super) fn wait_for_audit(&mut self, id: TowerId, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        let Some(channel) = tower.audits.front().map(|asked| asked.channel) else { return };
        tower.audit_waits = tower.audit_waits.saturating_add(1);
        if tower.audit_waits == PATIENCE {
            out.emit(Effect::Notice(Notice::AuditUnanswered { tower: id, channel }));
        }
    }

    /// A tower says that a channel is closed: is it, as far as can be said by now?
    pub(super) fn look_for_close(&self, id: TowerId, channel: ChannelId, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let cover = self.towers.get(&id).and_then(|tower| tower.covers.get(&channel));
        if let Some(Trouble::Closed(closed)) = cover.and_then(|cover| cover.trouble)
            && ctx.tip.0 >= closed.height.0.saturating_add(BURIED)
        {
            out.emit(Effect::LookForClose { tower: id, channel });
        }
    }

    pub(super) fn looked_for_close(
        &mut self,
        id: TowerId,
        channel: ChannelId,
        unspent_at: Option<Height>,
        out: &mut ClientOutbox,
    ) {
        let Some(cover) = self.towers.get_mut(&id).and_then(|tower| tower.covers.get_mut(&channel)) else { return };
        let Some(Trouble::Closed(closed)) = cover.trouble else { return };
        let unspent_at = unspent_at.filter(|at| at.0 >= closed.height.0.saturating_add(BURIED));
        if unspent_at.is_some() {
            // What follows is between it and its receipt.
            (cover.unspent_at, cover.trouble) = (unspent_at, Some(Trouble::HoldsLess));
            out.emit(Effect::Notice(Notice::HoldsLess { tower: id, channel }));
        }
    }
}
