//! Channels that are being opened, by us or by the peer.

use bitcoin::{Amount, ScriptBuf};
use leyden_channels::{
    channel::{AcceptRequest, Backing, Channel, Event},
    types::{ChannelId, ShortChannelId},
    wire::{ErrorMessage, OpenChannel, features::Feature},
};
use tokio::sync::mpsc;

use tracing::{debug, info, warn};

use super::{OpenChoices, OpenPlan, OpenProgress, Peer, Slot};
use crate::{
    driver::peers::{ChannelRefused, Refused},
    limits::MAX_UNFUNDED_PER_PEER,
    words::Line,
};

impl Peer {
    pub(super) fn open(&mut self, plan: OpenPlan, progress: mpsc::UnboundedSender<OpenProgress>) {
        let OpenPlan { request, choices } = plan;
        let fail = |reason: String| {
            let _ = progress.send(OpenProgress::Failed { reason });
        };
        if self.connection.is_none() {
            return fail("the peer is not connected: `leyden connect` it first".into());
        }
        let Some(signer) = self.services.signer(&request.keys_id) else {
            return fail("no keys could be made for this channel: try again".into());
        };
        match Channel::open(request, signer, &self.services.ctx()) {
            Ok((channel, outbox)) => {
                let id = channel.id();
                let slot = Slot { opening: Some(progress), choices: Some(choices), ..Slot::new(channel) };
                self.slots.insert(id, slot);
                self.push(id, self.connection_id(), outbox);
            }
            Err(error) => fail(error.to_string()),
        }
    }

    pub(super) fn accept(&mut self, open: OpenChannel) {
        let id = open.temporary_channel_id;
        if self.slots.contains_key(&id) || self.services.peers.owner(&id).is_some() {
            return self.send(ErrorMessage::new(id, "this temporary_channel_id is in use"));
        }
        // However it ends, one that no block has funded counts until it is forgotten.
        let is_unfunded = |slot: &&Slot| slot.channel.backing() != Backing::Funded;
        if self.slots.values().filter(is_unfunded).count() >= MAX_UNFUNDED_PER_PEER {
            self.services.peers.note_refused(Refused::Opening);
            return self.send(ErrorMessage::new(id, "confirm the channels that you are opening first"));
        }
        let request = self.accept_request(open.funding_satoshis);
        let Some(signer) = self.services.signer(&request.keys_id) else {
            return self.send(ErrorMessage::new(id, "no channels are accepted at the moment"));
        };
        match Channel::accept(open, request, signer, &self.services.ctx()) {
            Ok((channel, outbox)) => {
                self.slots.insert(channel.id(), Slot::new(channel));
                self.services.peers.note_opening(&self.node_id);
                self.push(id, self.connection_id(), outbox);
            }
            Err(error) => self.send(Channel::refusal(id, &error)),
        }
    }

    /// Costs nothing that outlives a refusal: a stranger may ask as often as it likes.
    fn accept_request(&self, capacity: Amount) -> AcceptRequest {
        let keys_id = rand::random();
        AcceptRequest {
            remote_node: self.node_id.into(),
            keys_id,
            to_self_delay: None,
            shutdown_script: self.services.wallet.channel_script(&keys_id),
            commit_to_script: false,
            alias: ShortChannelId(rand::random()),
            large_channels: self.large_channels(),
            minimum_depth: self.services.depth_for(capacity),
            trusts_funder: self.services.zero_conf_peers.contains(&self.node_id),
        }
    }

    /// An opening cannot go on: the peer is told, whose other openings wait for its end.
    pub(super) fn opening_ended(&mut self, id: ChannelId, reason: &str) {
        if let Some(slot) = self.slots.remove(&id) {
            slot.tell_opening(OpenProgress::Failed { reason: reason.to_owned() });
        }
        self.send(ErrorMessage::new(id, "this opening failed"));
    }

    /// An opening gets its permanent id on the way. If there is no place for it, it is dropped; gives the words for the peer.
    pub(super) fn rename(&mut self, id: ChannelId, new: ChannelId) -> Result<(), &'static str> {
        let Some(slot) = self.slots.remove(&id) else { return Err("there is no such opening") };
        self.services.wallet.keep_no_reserve_for(&id);
        let place = if self.slots.contains_key(&new) {
            Err(ChannelRefused::Taken)
        } else {
            self.services.peers.add_new_channel(new, self.node_id, slot.channel.backing(), self.services.tip())
        };
        match place {
            Ok(()) => {
                self.slots.insert(new, slot);
                self.renamed.insert(id, new);
                self.keep_reserve(new);
                Ok(())
            }
            Err(ChannelRefused::Taken) => {
                // The peer names the funding output of another channel, which would be written over.
                let words = "an opening with the funding output of another channel";
                if self.log.line(words) != Line::Skip {
                    warn!(channel = %new, peer = %self.node_id, "{words}");
                }
                slot.tell_opening(OpenProgress::Failed {
                    reason: "its funding output is that of another channel".into(),
                });
                Err("this funding output is in use")
            }
            Err(ChannelRefused::Full) => {
                debug!(peer = %self.node_id, "an opening is refused: too many wait for their funding transactions");
                Err("too many channels wait for their funding transactions here: try again after some blocks")
            }
        }
    }

    /// What stands behind a channel may have changed.
    pub(super) fn note_backing(&self, id: ChannelId) {
        if let Some(slot) = self.slots.get(&id) {
            self.services.peers.set_backing(&id, slot.channel.backing());
        }
    }

    /// The register has chosen a channel to give way; what its task knows may be newer.
    pub(super) fn give_up_unfunded(&mut self, id: ChannelId) {
        let backing = self.slots.get(&id).map(|slot| slot.channel.backing());
        if !matches!(backing, Some(Backing::Promised { seen: false, .. })) {
            return self.note_backing(id);
        }
        info!(channel = %self.point(&id), peer = %self.node_id, "forgotten: its funding transaction was never seen, and others wait");
        self.send(ErrorMessage::new(id, "its funding transaction was not seen in time"));
        self.event(id, Event::Abandon);
    }

    pub(super) fn fund(&mut self, id: ChannelId, script: ScriptBuf, amount: Amount) {
        // What pays for it must leave what it will need itself.
        self.keep_reserve(id);
        let Some(OpenChoices { funding_feerate, coins, .. }) =
            self.slots.get(&id).and_then(|slot| slot.choices.as_ref())
        else {
            return self.event(id, Event::FundingRefused { reason: "what was to fund it is not known".to_owned() });
        };
        let event = match self.services.wallet.pay(&[(script.clone(), amount)], *funding_feerate, coins) {
            Ok(transaction) => {
                let output = transaction.output.iter().position(|output| output.script_pubkey == script);
                let output = output.and_then(|output| u32::try_from(output).ok()).unwrap_or_default();
                Event::Funded { transaction, output }
            }
            Err(error) => Event::FundingRefused { reason: error.to_string() },
        };
        self.event(id, event);
    }

    pub(crate) fn large_channels(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connected| connected.connection.features.supports(Feature::SupportLargeChannel))
    }
}
