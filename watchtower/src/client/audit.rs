//! Holding a tower to what it signed: see [`crate::receipt`].
//!
//! The tower reads again what it stores up to the newest receipt, and signs for that and for a nonce. If both cannot be true it
//! is convicted: the two signatures are kept with the tower's row, and it counts as none from then on.

use leyden_channels::types::ChannelId;

use super::{
    Client,
    event::{ClientOutbox, Ctx, Effect, Notice},
    record::{ClientKey, Proof, TowerId},
};
use crate::{
    appointment::ChannelName,
    message::{Ask, Audited, SignedHeld},
    receipt::{Audit, Holding, convicts},
};

/// Audits that have not been answered.
const AUDITS: usize = 16;

/// What was asked, and the receipt that it is about.
pub(super) struct AuditAsked {
    channel: ChannelId,
    nonce: [u8; 32],
    receipt: SignedHeld,
    name: ChannelName,
}

impl Client {
    pub(super) fn audit(&mut self, id: TowerId, channel: ChannelId, nonce: [u8; 32], out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id).filter(|tower| tower.is_ready()) else { return };
        let Some(cover) = tower.covers.get(&channel) else { return };
        let Some((receipt, name)) = cover.receipt().zip(tower.name(&channel, cover.round)) else { return };
        if tower.audits.len() >= AUDITS {
            tower.audits.pop_front();
        }
        tower.audits.push_back(AuditAsked { channel, nonce, receipt, name });
        out.emit(Effect::Send(id, Ask::Audit { channel: name, up_to: receipt.held.up_to, nonce }.into()));
    }

    pub(super) fn audited(&mut self, id: TowerId, audited: &Audited, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        let asked = |one: &AuditAsked| one.nonce == audited.nonce && one.name == audited.channel;
        let Some(asked) = tower.audits.iter().position(asked).and_then(|at| tower.audits.remove(at)) else { return };
        let AuditAsked { channel, receipt, name, nonce } = asked;
        let (Some(receipt_key), Some(holding)) = (tower.receipt_key(), tower.holding(ctx, name, receipt.held)) else {
            return;
        };
        let Holding { chain, client, channel: of, .. } = holding;
        let audit = Audit { chain, client, channel: of, nonce, held: audited.held };
        if !audit.verify(&audited.signature, &receipt_key) {
            return self.unusable(id, "its answer to an audit is not signed by it", out);
        }
        let Some(contradiction) = convicts(&holding, &audit) else {
            return out.emit(Effect::Notice(Notice::AuditPassed { tower: id, channel }));
        };
        let proof = Proof {
            receipt_key,
            receipt: holding,
            receipt_signature: receipt.signature,
            audit,
            audit_signature: audited.signature,
        };
        tower.row.proof = Some(proof);
        out.put(ClientKey::Tower(id), tower.row.encode());
        out.emit(Effect::Notice(Notice::AuditFailed { tower: id, channel, contradiction, proof: Box::new(proof) }));
        self.settle_all(out);
    }
}
