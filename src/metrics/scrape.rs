//! Reads everything for one page, all groups at a time, none longer than a moment.

use std::{future::Future, time::SystemTime};

use tokio::time::timeout;

use super::{chain, lightning, limits, page::Page, process, recorder::Recorded, towers};
use crate::{
    api::{ApiError, Daemon},
    limits::METRICS_READ_LIMIT,
};

/// The page as it is now.
pub(super) async fn scrape(daemon: &dyn Daemon, recorded: &Recorded, started: SystemTime) -> String {
    let page = Page::new();
    process::write(daemon, started, &page);
    limits::write(&daemon.limits(), &page);
    let chain = async {
        if let Some(chain) = daemon.chain() {
            // What is not written in time is left out.
            let _ = timeout(METRICS_READ_LIMIT, chain::write(chain.as_ref(), &page)).await;
        }
    };
    let lightning = async {
        let Some(one) = daemon.lightning() else { return };
        lightning::write(one.as_ref(), &page);
        let (wallet, channels, towers) =
            tokio::join!(read(one.wallet_balance(1)), read(one.channel_figures()), read(one.tower_figures()));
        wallet.iter().for_each(|balance| lightning::write_wallet(balance, &page));
        channels.iter().for_each(|figures| lightning::write_channels(figures, &page));
        towers.iter().for_each(|figures| towers::write_client(figures, &page));
    };
    let watchtower = async {
        let Some(tower) = daemon.watchtower() else { return };
        read(tower.stats()).await.iter().for_each(|stats| towers::write_server(stats, &page));
    };
    tokio::join!(chain, lightning, watchtower);
    page.text(&recorded.text())
}

/// `None` if it fails, or takes too long.
async fn read<T>(reading: impl Future<Output = Result<T, ApiError>>) -> Option<T> {
    timeout(METRICS_READ_LIMIT, reading).await.ok()?.ok()
}
