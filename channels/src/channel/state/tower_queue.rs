//! What a state does with the towers' queue: see [`crate::channel::towers`].

use super::{ConnectionState, Established, Knowledge, Phase};
use crate::channel::effect::{Effect, Notice};
use crate::channel::key::Key;
use crate::channel::record;
use crate::channel::towers::{RevokedState, TowerPolicy};
use crate::channel::turn::Turn;
use crate::types::CommitmentNumber;

impl Established {
    /// Whether we may sign the peer's next commitment now, and there is something to sign.
    pub(super) fn may_sign(&self) -> bool {
        self.commitments.can_sign() && self.towers.awaited().is_none()
    }

    /// The state that the peer is about to revoke, for the towers' queue.
    pub(super) fn to_queue(&self, turn: &Turn<'_>) -> Option<RevokedState> {
        let state = || RevokedState::of(&self.commitments.remote.current, &self.commitments.details);
        match turn.ctx.towers {
            TowerPolicy::None => None,
            TowerPolicy::BackUp | TowerPolicy::Require => Some(state()),
        }
    }

    /// It has revoked it.
    pub(super) fn queue_for_towers(&mut self, state: &RevokedState, turn: &mut Turn<'_>) {
        let (channel, number) = (self.terms.channel_id, state.number);
        turn.out.put(Key::TowerBackup { channel, number }, record::encode_revoked(state));
        self.towers.queued = Some(number);
        turn.touched.state = true;
        turn.emit(Effect::TowerBackup { number });
    }

    /// After a restart: what was queued may not have been passed on.
    pub(super) fn queued_again(&self, turn: &mut Turn<'_>) {
        if let (Some(number), TowerPolicy::BackUp | TowerPolicy::Require) = (self.towers.queued, turn.ctx.towers) {
            turn.emit(Effect::TowerBackup { number });
        }
    }

    /// A tower has signed for a state of the peer's as revoked. If we know of no such revocation, our data is older than
    /// the tower's, and our commitment may be a revoked one.
    pub(super) fn tower_knows_revoked(&mut self, number: CommitmentNumber, turn: &mut Turn<'_>) {
        if number < self.commitments.remote.current.number || self.is_settled_together() {
            return;
        }
        match &mut self.phase {
            Phase::Funding | Phase::Ready | Phase::Normal | Phase::Shutdown(_) | Phase::Negotiating(_) => {
                self.give_up_proposals(turn);
                if self.connection == ConnectionState::Offline {
                    self.set_phase(Phase::Lost, turn);
                    turn.notice(Notice::DataLoss);
                } else {
                    self.lose(turn);
                }
            }
            Phase::Closing(closing) if closing.knowledge == Knowledge::Current => {
                closing.knowledge = Knowledge::Old;
                closing.resolution.distrust_local_state();
                turn.touched.state = true;
                turn.notice(Notice::DataLoss);
            }
            Phase::Lost | Phase::Restored | Phase::Closing(_) | Phase::Closed => {}
        }
    }
}
