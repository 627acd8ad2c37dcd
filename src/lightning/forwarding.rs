//! The calls about forwarding: terms, what was earned, events.

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use bitcoin::OutPoint;
use leyden_channels::{
    channel::{EstablishedSummary, FINAL_HTLCS_KEPT, FinalHtlc, Key, StateName},
    switch::{self, FailureDetail, ForwardPolicy, ForwardRecord, HtlcEventKind, Leg, Outgoing},
    types::{ChannelId, CltvExpiry, HtlcId, Msat, NodeId, ShortChannelId},
    wire::alias_text,
};

use super::{LightningNode, invoices::futures_unfold};
use crate::{
    api::{
        ApiError, ChannelFee, ChannelStatus, FeeReport, Forward, ForwardSide, Forwarding, ForwardsPage,
        ForwardsRequest, HtlcAmounts, HtlcEvent, HtlcName, HtlcNews, HtlcRole, PolicyChange, PolicyRefusal,
        PolicyRefused, Updates,
    },
    driver::{
        events::{HtlcActivity, OwnHtlc, OwnHtlcNews},
        gossip::GossipEvent,
        services::Services,
    },
    store::{ClosedChannel, StoreError},
};

const DAY: u64 = 24 * 3600;

#[async_trait]
impl Forwarding for LightningNode {
    async fn fee_report(&self) -> Result<FeeReport, ApiError> {
        let services = self.services();
        let mut report = FeeReport::default();
        for state in self.peer_states().await {
            for channel in state.channels.iter().filter(|channel| channel.state == StateName::Normal) {
                let Some(known) = &channel.established else { continue };
                let Some(policy) = services.forward_policy(&channel.channel_id) else { continue };
                report.channels.push(ChannelFee {
                    short_channel_id: known.short_channel_id.or(known.local_alias).unwrap_or(ShortChannelId(0)),
                    funding: known.funding,
                    base_fee: policy.base_fee,
                    fee_ppm: policy.fee_ppm,
                });
            }
        }
        report.channels.sort_by_key(|channel| channel.short_channel_id);
        self.read(move |services| add_fees(services, report)).await
    }

    async fn update_policy(&self, change: PolicyChange) -> Result<Vec<PolicyRefused>, ApiError> {
        let channels = match change.channel {
            Some(funding) => {
                let state = self.channel_state(funding).await.ok_or_else(|| {
                    ApiError::not_found(format!("this node has no channel {funding}: see `leyden listchannels`"))
                })?;
                vec![state.summary]
            }
            None => self.peer_states().await.into_iter().flat_map(|state| state.channels).collect(),
        };
        let mut refused = Vec::new();
        for channel in &channels {
            let Some(known) = &channel.established else { continue };
            let refusal = match channel.state {
                StateName::Normal => self.set_policy(&channel.channel_id, &change).await?,
                StateName::Opening | StateName::Funding | StateName::Ready => {
                    let text = "the channel is not open yet: set its terms when it is";
                    Some((PolicyRefusal::Pending, text.to_owned()))
                }
                // Nothing leaves through it any more.
                StateName::Shutdown
                | StateName::Negotiating
                | StateName::Lost
                | StateName::Restored
                | StateName::Closing
                | StateName::DoubleSpent
                | StateName::Closed => None,
            };
            refused.extend(refusal.map(|(reason, text)| PolicyRefused { funding: known.funding, reason, text }));
        }
        Ok(refused)
    }

    async fn forwards(&self, request: ForwardsRequest) -> Result<ForwardsPage, ApiError> {
        self.read(move |services| history(services, &request)).await
    }

    async fn set_channel_status(&self, funding: OutPoint, status: ChannelStatus) -> Result<(), ApiError> {
        let state = self.channel_state(funding).await.ok_or_else(|| {
            ApiError::not_found(format!(
                "channel not found: this node has none at {funding}, see `leyden listchannels`"
            ))
        })?;
        if status == ChannelStatus::Enabled && !state.summary.usable {
            let text = "unable to enable channel which is not currently active: its peer is away, or it is not open";
            return Err(ApiError::precondition(text));
        }
        let off = status == ChannelStatus::Disabled;
        self.services().gossip.tell(GossipEvent::TurnedOff { channel: state.summary.channel_id, off });
        Ok(())
    }

    async fn final_htlc(&self, channel: ShortChannelId, id: HtlcId) -> Result<FinalHtlc, ApiError> {
        if !self.services().policy.keeps_final_htlcs {
            return Err(ApiError::unavailable("cannot lookup with flag --store-final-htlc-resolutions=false"));
        }
        let named = |known: &EstablishedSummary| [known.short_channel_id, known.local_alias].contains(&Some(channel));
        let states = self.peer_states().await;
        let open = states.iter().flat_map(|state| &state.channels);
        let open = open.filter(|one| one.established.as_ref().is_some_and(named)).map(|one| one.channel_id).next();
        let end = self.read(move |services| final_htlc(services, channel, open, id)).await?;
        end.ok_or_else(|| {
            let kept = "so much is kept of each channel's HTLCs since leydend runs with --store-final-htlc-resolutions";
            ApiError::not_found(format!(
                "htlc unknown: it has not ended, or is not among the last {FINAL_HTLCS_KEPT}; {kept}"
            ))
        })
    }

    async fn htlc_events(&self) -> Result<Updates<HtlcEvent>, ApiError> {
        let services = Arc::clone(self.services());
        let news = services.events.htlcs();
        Ok(Box::pin(futures_unfold(news, move |news| match news {
            HtlcActivity::Forward(event) => forward_event(&services, &event),
            HtlcActivity::Own(event) => own_event(&services, &event),
        })))
    }
}

impl LightningNode {
    async fn set_policy(
        &self,
        channel: &ChannelId,
        change: &PolicyChange,
    ) -> Result<Option<(PolicyRefusal, String)>, ApiError> {
        let services = self.services();
        let present = services.forward_policy(channel).unwrap_or(services.forwarding);
        let policy = ForwardPolicy {
            base_fee: change.base_fee,
            fee_ppm: change.fee_ppm,
            cltv_expiry_delta: change.cltv_expiry_delta,
            htlc_minimum: change.htlc_minimum.unwrap_or(present.htlc_minimum),
            htlc_maximum: change.htlc_maximum.or(present.htlc_maximum),
            enabled: present.enabled,
        };
        match services.try_change(&services.switch, |switch| switch.set_policy(*channel, policy, services.now())) {
            Ok(underway) => self.carry_out(underway).await.map(|()| None),
            Err(error) => Ok(Some((PolicyRefusal::Invalid, error.to_string()))),
        }
    }
}

/// The end of an HTLC of a channel that is open under this name, or was under it when it ended.
fn final_htlc(
    services: &Services,
    name: ShortChannelId,
    open: Option<ChannelId>,
    id: HtlcId,
) -> Result<Option<FinalHtlc>, ApiError> {
    let was_named = |closed: &ClosedChannel| closed.short_channel_id == Some(name);
    let channel = match open {
        Some(channel) => Some(channel),
        None => services
            .store
            .closed_channels()?
            .iter()
            .find(|one| was_named(one))
            .map(|one| ChannelId::from_funding(one.funding)),
    };
    let Some(channel) = channel else { return Ok(None) };
    let Some(bytes) = services.store.core_record(&Key::FinalHtlc { channel, id }.encode())? else { return Ok(None) };
    let end = FinalHtlc::decode(&bytes).ok_or_else(|| services.store.damaged("the end of an HTLC"))?;
    Ok(Some(end))
}

/// What the last day, week and month have brought.
fn add_fees(services: &Services, mut report: FeeReport) -> Result<FeeReport, ApiError> {
    let now = services.now().0;
    let mut number = first_since(services, now.saturating_sub(30 * DAY))?;
    while let Some(record) = forward_at(services, number)? {
        for (sum, days) in [(&mut report.day, 1), (&mut report.week, 7), (&mut report.month, 30)] {
            if record.at.0 >= now.saturating_sub(days * DAY) {
                sum.0 = sum.0.saturating_add(record.fee().0);
            }
        }
        number += 1;
    }
    Ok(report)
}

fn history(services: &Services, request: &ForwardsRequest) -> Result<ForwardsPage, ApiError> {
    let passes = |name: Option<ShortChannelId>, wanted: &[ShortChannelId]| {
        wanted.is_empty() || name.is_some_and(|name| wanted.contains(&name))
    };
    let mut number = first_since(services, request.from)?.saturating_add(request.skip);
    let mut page = ForwardsPage { forwards: Vec::new(), next: request.skip };
    let mut aliases = Aliases { services, known: HashMap::new(), wanted: request.aliases };
    while (page.forwards.len() as u64) < request.limit
        && let Some(record) = forward_at(services, number)?
        && request.until.is_none_or(|until| record.at.0 <= until)
    {
        number += 1;
        page.next += 1;
        if passes(record.incoming_channel, &request.incoming) && passes(record.outgoing_channel, &request.outgoing) {
            page.forwards.push(to_forward(&record, &mut aliases));
        }
    }
    Ok(page)
}

/// The numbers of all forwards up to a time, but for the very last one, which says which number comes next; an empty range if there
/// are none.
pub(super) fn numbers_until(services: &Services, until: u64) -> Result<RangeInclusive<u64>, ApiError> {
    let (first, last) = kept_numbers(services)?;
    let next = first_since(services, until.saturating_add(1))?;
    Ok(first..=next.saturating_sub(1).min(last.saturating_sub(1)))
}

/// The first and the last number in the history: 1 and 0 if it is empty.
fn kept_numbers(services: &Services) -> Result<(u64, u64), ApiError> {
    let number = |row: Option<(Vec<u8>, Vec<u8>)>| match row.and_then(|(key, _)| Key::decode(&key)) {
        Some(Key::Forward(number)) => Some(number),
        _ => None,
    };
    let prefix = Key::all_forwards_prefix();
    let first = number(services.store.first_core_record(&prefix)?).unwrap_or(1);
    let last = number(services.store.last_core_record(&prefix)?).unwrap_or(0);
    Ok((first, last))
}

pub(super) fn forward_at(services: &Services, number: u64) -> Result<Option<ForwardRecord>, StoreError> {
    let Some(bytes) = services.store.core_record(&Key::Forward(number).encode())? else { return Ok(None) };
    ForwardRecord::decode(number, &bytes).map(Some).map_err(|error| services.store.damaged(&error.to_string()))
}

/// The number of the first forward at or after `time`. Numbers rise with time and only the oldest are forgotten, so halving finds it
/// in a history of any length.
fn first_since(services: &Services, time: u64) -> Result<u64, ApiError> {
    let (first, last) = kept_numbers(services)?;
    let (mut low, mut high) = (first, last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        // What has been forgotten since was older.
        if forward_at(services, middle)?.is_none_or(|record| record.at.0 < time) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// What the nodes at the other ends of our channels call themselves.
struct Aliases<'a> {
    services: &'a Services,
    known: HashMap<ChannelId, String>,
    wanted: bool,
}

impl Aliases<'_> {
    fn of(&mut self, channel: ChannelId) -> String {
        if !self.wanted {
            return String::new();
        }
        let services = self.services;
        let look_up = || {
            let peer = NodeId::from(services.peers.owner(&channel)?);
            let intake = services.gossip.intake();
            intake.graph().info_of(&peer).map(|info| alias_text(&info.alias))
        };
        self.known.entry(channel).or_insert_with(|| look_up().unwrap_or_default()).clone()
    }
}

fn to_forward(record: &ForwardRecord, aliases: &mut Aliases<'_>) -> Forward {
    Forward {
        at: record.at,
        incoming: ForwardSide {
            short_channel_id: record.incoming_channel,
            htlc: Some(record.incoming.id),
            amount: record.incoming_amount,
            alias: aliases.of(record.incoming.channel),
        },
        outgoing: ForwardSide {
            short_channel_id: record.outgoing_channel,
            htlc: record.outgoing.id,
            amount: record.outgoing_amount,
            alias: aliases.of(record.outgoing.channel),
        },
    }
}

fn name(services: &Services, channel: ChannelId, id: Option<HtlcId>) -> HtlcName {
    // A channel that is over has no name any more.
    let short_channel_id = services.channel_name(&channel).unwrap_or(ShortChannelId(0));
    HtlcName { short_channel_id, id: id.unwrap_or_default() }
}

const NONE: HtlcAmounts = HtlcAmounts {
    incoming: Msat::ZERO,
    incoming_expiry: CltvExpiry(0),
    outgoing: Msat::ZERO,
    outgoing_expiry: CltvExpiry(0),
};

fn incoming(leg: &Leg) -> HtlcAmounts {
    HtlcAmounts { incoming: leg.amount, incoming_expiry: leg.cltv_expiry, ..NONE }
}

fn forward_event(services: &Services, event: &switch::HtlcEvent) -> HtlcEvent {
    let what = match &event.kind {
        HtlcEventKind::Forward { incoming: came, outgoing } => HtlcNews::Forwarded(HtlcAmounts {
            outgoing: outgoing.amount,
            outgoing_expiry: outgoing.cltv_expiry,
            ..incoming(came)
        }),
        HtlcEventKind::ForwardFail => HtlcNews::FailedFurtherOn,
        HtlcEventKind::Settle { preimage, fee: _ } => HtlcNews::Settled { preimage: *preimage },
        HtlcEventKind::LinkFail { incoming: came, failure_code, detail } => {
            HtlcNews::FailedHere { amounts: incoming(came), code: Some(*failure_code), detail: *detail }
        }
    };
    let outgoing = event.outgoing.map(|Outgoing { channel, id }| name(services, channel, id));
    HtlcEvent {
        at: event.at,
        role: HtlcRole::Forward,
        incoming: Some(name(services, event.incoming.channel, Some(event.incoming.id))),
        outgoing,
        what,
    }
}

fn own_event(services: &Services, event: &OwnHtlc) -> HtlcEvent {
    let htlc = match event.news {
        OwnHtlcNews::Ended { name, .. } => HtlcName { short_channel_id: name, id: event.id.unwrap_or_default() },
        OwnHtlcNews::Offered { .. }
        | OwnHtlcNews::Paid { .. }
        | OwnHtlcNews::Failed
        | OwnHtlcNews::Taken { .. }
        | OwnHtlcNews::Rejected => name(services, event.channel, event.id),
    };
    let sent = |what| HtlcEvent { at: event.at, role: HtlcRole::Send, incoming: None, outgoing: Some(htlc), what };
    let received =
        |what| HtlcEvent { at: event.at, role: HtlcRole::Receive, incoming: Some(htlc), outgoing: None, what };
    match &event.news {
        OwnHtlcNews::Offered { amount, expiry } => {
            sent(HtlcNews::Forwarded(HtlcAmounts { outgoing: *amount, outgoing_expiry: *expiry, ..NONE }))
        }
        OwnHtlcNews::Paid { preimage } => sent(HtlcNews::Settled { preimage: *preimage }),
        OwnHtlcNews::Failed => sent(HtlcNews::FailedFurtherOn),
        OwnHtlcNews::Taken { preimage } => received(HtlcNews::Settled { preimage: *preimage }),
        OwnHtlcNews::Ended { end, .. } => received(HtlcNews::Ended(*end)),
        OwnHtlcNews::Rejected => {
            received(HtlcNews::FailedHere { amounts: NONE, code: None, detail: FailureDetail::None })
        }
    }
}
