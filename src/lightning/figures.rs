//! Sums and counts for dashboards.

use async_trait::async_trait;
use leyden_channels::{channel::StateName, types::Side};
use leyden_watchtower::client::record::Use;

use super::{LightningNode, channels::balance, towers::is_covered};
use crate::api::{ApiError, ChannelFigures, Figures, NetworkFigures, PaymentFigures, TowerFigures};

#[async_trait]
impl Figures for LightningNode {
    async fn channel_figures(&self) -> Result<ChannelFigures, ApiError> {
        let channels = self.summaries().await;
        let count = |state| channels.iter().filter(|channel| channel.state == state).count() as u64;
        let htlcs = |side| {
            let all = channels.iter().filter_map(|channel| channel.established.as_ref()).flat_map(|known| &known.htlcs);
            all.filter(|htlc| htlc.offered_by == side).count() as u64
        };
        Ok(ChannelFigures {
            states: StateName::ALL.map(|state| (state, count(state))).to_vec(),
            usable: channels.iter().filter(|channel| channel.usable).count() as u64,
            balance: balance(&channels),
            offered_htlcs: htlcs(Side::Local),
            received_htlcs: htlcs(Side::Remote),
        })
    }

    async fn tower_figures(&self) -> Result<TowerFigures, ApiError> {
        let view = self.services().towers.view().await?;
        let mut figures =
            TowerFigures { required: u64::from(view.required), failed: view.failed, ..TowerFigures::default() };
        for tower in &view.towers {
            let kind = match tower.row.use_of_it {
                _ if tower.row.proof.is_some() => &mut figures.convicted,
                Use::Active if tower.is_ready => &mut figures.connected,
                Use::Active => &mut figures.away,
                Use::Deactivated => &mut figures.deactivated,
            };
            *kind += 1;
            figures.held = figures.held.saturating_add(tower.held);
            figures.waiting = figures.waiting.saturating_add(tower.waiting);
        }
        for channel in &view.channels {
            *(if is_covered(&view, channel) { &mut figures.covered } else { &mut figures.uncovered }) += 1;
        }
        Ok(figures)
    }

    fn network_figures(&self) -> NetworkFigures {
        let services = self.services();
        let (peers, strangers) = services.peers.counts();
        let (channels, nodes) = {
            let intake = services.gossip.intake();
            (intake.graph().channel_count(), intake.graph().node_count())
        };
        NetworkFigures {
            peers: peers as u64,
            strangers: strangers as u64,
            channels: channels as u64,
            nodes: nodes as u64,
        }
    }

    fn payment_figures(&self) -> PaymentFigures {
        let services = self.services();
        PaymentFigures {
            payments: services.payments().pending_count() as u64,
            forwards: services.pending_forwards() as u64,
            invoices: services.invoices().open_count() as u64,
        }
    }
}
