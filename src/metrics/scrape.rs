//! Reads everything for one page, all groups at a time, none longer than a moment.

use std::{future::Future, sync::Arc, time::SystemTime};

use tokio::time::timeout;

use super::{
    chain, lightning, limits,
    page::{Page, recorder, text},
    process,
    recorder::Recorded,
    towers,
};
use crate::{
    api::{ApiError, Daemon},
    limits::METRICS_READ_LIMIT,
};

/// The page as it is now. `daemons`: of the first network, and of the second if there is one.
pub(super) async fn scrape(daemons: &[Arc<dyn Daemon>], recorded: &Recorded, started: SystemTime) -> String {
    let read = recorder();
    for (place, daemon) in daemons.iter().enumerate() {
        let name = daemon.network().name;
        let page = Page::new(&read, (place > 0).then_some(name.as_str()));
        write(daemon.as_ref(), &page, started).await;
    }
    text(&read, &recorded.text())
}

async fn write(daemon: &dyn Daemon, page: &Page<'_>, started: SystemTime) {
    process::write(daemon, started, page);
    limits::write(&daemon.limits(), page);
    let chain = async {
        if let Some(chain) = daemon.chain() {
            // What is not written in time is left out.
            let _ = timeout(METRICS_READ_LIMIT, chain::write(chain.as_ref(), page)).await;
        }
    };
    let lightning = async {
        let Some(one) = daemon.lightning() else { return };
        lightning::write(one.as_ref(), page);
        let (wallet, channels, towers) =
            tokio::join!(read(one.wallet_balance(1)), read(one.channel_figures()), read(one.tower_figures()));
        wallet.iter().for_each(|balance| lightning::write_wallet(balance, page));
        channels.iter().for_each(|figures| lightning::write_channels(figures, page));
        towers.iter().for_each(|figures| towers::write_client(figures, page));
    };
    let watchtower = async {
        let Some(tower) = daemon.watchtower() else { return };
        read(tower.stats()).await.iter().for_each(|stats| towers::write_server(stats, page));
    };
    tokio::join!(chain, lightning, watchtower);
}

/// `None` if it fails, or takes too long.
async fn read<T>(reading: impl Future<Output = Result<T, ApiError>>) -> Option<T> {
    timeout(METRICS_READ_LIMIT, reading).await.ok()?.ok()
}
