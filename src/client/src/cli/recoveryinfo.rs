//! `leyden recoveryinfo`: what a restore has found, and what else to do.

use std::time::Duration;

use clap::Args;
use leyden_proto::leyden::{GetRecoveryRequest, Recovery};

use super::{CliError, Context, table};

/// How often a rescan is asked how far it is.
const POLL: Duration = Duration::from_millis(200);

/// Show how far the wallet has scanned the chain, how close its coins came to the recovery window, and which channels
/// only a backup has.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden recoveryinfo\n\n\
    After a restore from words: wait until all blocks are looked at, then connect the peers of old\n\
    (`leyden connect`), which may have kept the channels' backup, and ask again.")]
pub struct RecoveryInfo {}

impl RecoveryInfo {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let recovery = client.wallet().get_recovery(GetRecoveryRequest {}).await?.into_inner();
        context.show(&recovery, || for_people(&recovery))
    }
}

/// Waits, with a bar, until the wallet has looked at every block that there is.
pub(super) async fn finished(context: &Context) -> Result<Recovery, CliError> {
    let client = context.client().await?;
    let progress = context.progress(0);
    loop {
        let recovery = client.wallet().get_recovery(GetRecoveryRequest {}).await?.into_inner();
        progress.set_length(u64::from(recovery.block_height));
        progress.set_position(u64::from(recovery.scanned_height));
        progress.set_message("blocks");
        if recovery.finished {
            progress.finish_and_clear();
            return Ok(recovery);
        }
        tokio::time::sleep(POLL).await;
    }
}

pub(super) fn for_people(recovery: &Recovery) -> String {
    let facts = table::facts([
        ("blocks looked at", format!("{} of {}", recovery.scanned_height, recovery.block_height)),
        ("window", format!("{} unpaid addresses in a row", recovery.recovery_window)),
        ("widest gap found", format!("{} unpaid addresses before a paid one", recovery.widest_gap)),
        ("known addresses", recovery.known_addresses.to_string()),
    ]);
    std::iter::once(facts).chain(advice(recovery)).collect::<Vec<_>>().join("\n\n")
}

/// What else to do, each as a paragraph.
fn advice(recovery: &Recovery) -> Vec<String> {
    let mut texts = Vec::new();
    if !recovery.finished {
        texts.push("The wallet is still looking; coins may be missing until it has seen every block.".to_owned());
    }
    // From here on another gap of the kind that was found could have been too wide.
    if recovery.widest_gap > recovery.recovery_window / 2 {
        let wider = recovery.recovery_window.saturating_mul(4).min(100_000);
        texts.push(format!(
            "The last coins lay near the edge of the window. Look further: leyden rescan --recovery-window {wider}"
        ));
    }
    texts.extend(lost_channels(recovery));
    texts
}

/// Channels that wait for the user to take them back.
pub(super) fn lost_channels(recovery: &Recovery) -> Option<String> {
    if recovery.lost_channels.is_empty() {
        return None;
    }
    let channels = recovery.lost_channels.iter();
    let list: Vec<_> = channels
        .map(|channel| {
            format!("  {} of {} sat with {}", channel.channel_point, channel.capacity, channel.remote_pubkey)
        })
        .collect();
    Some(format!(
        "{} channels are in a backup alone (a peer's copy, or this node's own file). Take them back:\n  \
         leyden restorechanbackup {}\n{}",
        list.len(),
        recovery.backup_file,
        list.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use leyden_proto::leyden::LostChannel;

    use super::*;

    #[test]
    fn a_coin_near_the_edge_and_a_lost_channel_say_what_to_do() {
        let calm = Recovery { finished: true, recovery_window: 1_000, widest_gap: 20, ..Default::default() };
        assert!(advice(&calm).is_empty());
        let channel = LostChannel { channel_point: "ab:0".into(), capacity: 5, remote_pubkey: "02".into() };
        let edge =
            Recovery { widest_gap: 900, lost_channels: vec![channel], backup_file: "/x/channel.backup".into(), ..calm };
        let text = for_people(&edge);
        assert!(text.contains("leyden rescan --recovery-window 4000"), "{text}");
        assert!(text.contains("leyden restorechanbackup /x/channel.backup") && text.contains("ab:0"), "{text}");
    }
}
