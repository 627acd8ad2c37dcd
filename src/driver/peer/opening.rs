//! Channels that are being opened, by us or by the peer.

use std::sync::Arc;

use bitcoin::{Amount, ScriptBuf, TxOut};
use leyden_channels::{
    channel::{AcceptRequest, Backing, Channel, ChannelType, Event, Publisher},
    types::{ChannelId, ShortChannelId},
    wire::{ErrorMessage, OpenChannel, features::Feature},
};
use tokio::sync::mpsc;

use tracing::{debug, info, warn};

use super::{Command, FundingSource, OpenPlan, OpenProgress, Peer, Slot};
use crate::{
    driver::{
        acceptors::{ChannelQuestion, ChannelTerms, ChannelVerdict, REJECTED},
        committer::ConnectionId,
        peers::{ChannelRefused, Refused},
    },
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
        // The user may have chosen it.
        let id = request.temporary_channel_id;
        if id == ChannelId::ALL || self.slots.contains_key(&id) || self.services.peers.owner(&id).is_some() {
            return fail(format!("duplicate pending channel ID: {id} is in use; take 32 random bytes"));
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

    /// Whether an opening of the peer has a place here; if not it is told so.
    fn has_place(&mut self, id: ChannelId) -> bool {
        if self.slots.contains_key(&id) || self.services.peers.owner(&id).is_some() {
            self.send(ErrorMessage::new(id, "this temporary_channel_id is in use"));
            return false;
        }
        // However it ends, one that no block has funded counts until it is forgotten.
        let is_unfunded = |slot: &&Slot| slot.channel.backing() != Backing::Funded;
        if self.slots.values().filter(is_unfunded).count() >= MAX_UNFUNDED_PER_PEER {
            self.services.peers.note_refused(Refused::Opening);
            self.send(ErrorMessage::new(id, "confirm the channels that you are opening first"));
            return false;
        }
        true
    }

    pub(super) fn accept(&mut self, open: OpenChannel) {
        if !self.has_place(open.temporary_channel_id) {
            return;
        }
        match self.services.acceptors.is_empty() {
            true => self.accept_with(open, ChannelTerms::default()),
            false => self.ask_about(open),
        }
    }

    /// Programs decide, if the channel is one that this node would open with what they may say.
    fn ask_about(&mut self, open: OpenChannel) {
        let id = open.temporary_channel_id;
        if self.asked.len() >= MAX_UNFUNDED_PER_PEER || self.asked.contains_key(&id) {
            self.services.peers.note_refused(Refused::Opening);
            return self.send(ErrorMessage::new(id, REJECTED));
        }
        let request = self.accept_request(&open, &ChannelTerms { zero_conf: true, ..ChannelTerms::default() });
        let signer = request.ok().and_then(|request| Some((self.services.signer(&request.keys_id)?, request)));
        let Some((signer, request)) = signer else {
            return self.send(ErrorMessage::new(id, "no channels are accepted at the moment"));
        };
        let channel_type = open.channel_type.as_ref().and_then(|features| ChannelType::from_features(features).ok());
        let checked = Channel::accept(open.clone(), request, signer, &self.services.ctx());
        let channel_type = match (checked, channel_type) {
            (Ok(_), Some(channel_type)) => channel_type,
            (Ok(_), None) => return self.send(ErrorMessage::new(id, REJECTED)),
            (Err(error), _) => return self.send(Channel::refusal(id, &error)),
        };
        let question = ChannelQuestion {
            node_id: self.node_id,
            chain: open.chain_hash,
            id,
            capacity: open.funding_satoshis,
            push: open.push_msat,
            dust_limit: open.dust_limit_satoshis,
            max_in_flight: open.max_htlc_value_in_flight_msat,
            reserve: open.channel_reserve_satoshis,
            htlc_minimum: open.htlc_minimum_msat,
            feerate: open.feerate_per_kw,
            delay: open.to_self_delay,
            max_htlcs: open.max_accepted_htlcs,
            flags: open.channel_flags,
            channel_type,
        };
        self.asked.insert(id, open);
        let (acceptors, mailbox) = (Arc::clone(&self.services.acceptors), self.mailbox.clone());
        let connection = self.connection_id();
        tokio::spawn(async move {
            let verdict = acceptors.decide(question).await;
            let _ = mailbox.send(Command::Decided { channel: id, connection, verdict });
        });
    }

    /// The programs have decided about a channel that the peer wants to open.
    pub(super) fn decided(&mut self, id: ChannelId, connection: ConnectionId, verdict: ChannelVerdict) {
        // Of an earlier connection nothing is asked any more.
        if connection != self.connection_id() {
            return;
        }
        let Some(open) = self.asked.remove(&id) else { return };
        match verdict {
            ChannelVerdict::Refuse(words) => self.send(ErrorMessage::new(id, words)),
            ChannelVerdict::Accept(_) if !self.has_place(id) => {}
            ChannelVerdict::Accept(terms) => self.accept_with(open, *terms),
        }
    }

    fn accept_with(&mut self, open: OpenChannel, terms: ChannelTerms) {
        let id = open.temporary_channel_id;
        let request = match self.accept_request(&open, &terms) {
            Ok(request) => request,
            Err(words) => return self.send(ErrorMessage::new(id, words)),
        };
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
    fn accept_request(&self, open: &OpenChannel, terms: &ChannelTerms) -> Result<AcceptRequest, &'static str> {
        let keys_id = rand::random();
        let commits = terms.shutdown_script.clone();
        let features = self.connection.as_ref().map(|connected| &connected.connection.features);
        if commits.is_some() && !features.is_some_and(|all| all.supports(Feature::UpfrontShutdownScript)) {
            return Err("this channel needs option_upfront_shutdown_script");
        }
        Ok(AcceptRequest {
            remote_node: self.node_id.into(),
            keys_id,
            overrides: terms.overrides.clone(),
            commit_to_script: commits.is_some(),
            shutdown_script: commits.unwrap_or_else(|| self.services.wallet.channel_script(&keys_id)),
            alias: ShortChannelId(rand::random()),
            large_channels: self.large_channels(),
            minimum_depth: self.services.depth_for(open.funding_satoshis),
            trusts_funder: terms.zero_conf || self.services.zero_conf_peers.contains(&self.node_id),
        })
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
        let Some((slot, choices)) = self.slots.get(&id).and_then(|slot| Some((slot, slot.choices.as_ref()?))) else {
            return self.event(id, Event::FundingRefused { reason: "what was to fund it is not known".to_owned() });
        };
        let (feerate, coins) = match &choices.source {
            FundingSource::Wallet { feerate, coins } => (*feerate, coins),
            FundingSource::Psbt(funding) => {
                let output = TxOut { value: amount, script_pubkey: script };
                funding.output_known(output.clone());
                return slot.tell_opening(OpenProgress::Awaited { output });
            }
        };
        let event = match self.services.wallet.pay(&[(script.clone(), amount)], feerate, coins) {
            Ok(transaction) => {
                let output = transaction.output.iter().position(|output| output.script_pubkey == script);
                let output = output.and_then(|output| u32::try_from(output).ok()).unwrap_or_default();
                Event::Funded { transaction, output, publisher: Publisher::Channel }
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
