//! What whoever runs the tower reads in the log.

use leyden_watchtower::{
    appointment::ClientId,
    session::Admission,
    tower::{Notice, Tower},
};
use tracing::{error, info, warn};

use crate::words::{Line, LogBudget};

/// Lines a minute of backups that are of no use, and of clients that leave: any stranger makes them.
const STRANGERS_LINES: u32 = 30;
/// Lines a minute of breaches: each is a transaction that somebody paid for, but many backups may be for one.
const BREACH_LINES: u32 = 300;

/// The tower's lines in the log, and how many there may be.
pub(super) struct Notices {
    strangers: LogBudget,
    breaches: LogBudget,
}

impl Default for Notices {
    fn default() -> Self {
        Self { strangers: LogBudget::new(STRANGERS_LINES), breaches: LogBudget::new(BREACH_LINES) }
    }
}

impl Notices {
    pub(super) fn log(&self, notice: &Notice) {
        let budget = match notice {
            Notice::Useless { .. } | Notice::TermEnded { .. } => Some(&self.strangers),
            Notice::Breach { .. }
            | Notice::BreachInMempool { .. }
            | Notice::BreachTakenBack { .. }
            | Notice::Punished { .. }
            | Notice::Closed { .. } => Some(&self.breaches),
            Notice::Broken { .. } | Notice::Damaged { .. } => None,
        };
        match budget.map_or(Line::Write, |budget| budget.line(&format!("{notice:?}"))) {
            Line::Skip => {}
            Line::Write => write(notice),
            Line::WriteAndSaySo => {
                write(notice);
                warn!("more of this kind is not written for a minute: `leyden tower stats` shows what there is");
            }
        }
    }
}

/// At the start: clients that are known from before, and that the settings of now do not let in.
pub(super) fn log_turned_away(tower: &Tower, admission: &Admission) {
    /// The rest are counted.
    const NAMED: usize = 5;
    let refused = tower.clients().filter(|(client, row, _)| !admission.admits(client, row.mode));
    let refused: Vec<&ClientId> = refused.map(|(client, _, _)| client).collect();
    if refused.is_empty() {
        return;
    }
    let named: Vec<String> = refused.iter().take(NAMED).map(ToString::to_string).collect();
    warn!(
        clients = refused.len(),
        keys = named.join(" "),
        "known clients are not served any more: --tower-allow KEY names one, --tower-strangers N lets in others. What is stored \
         for them is still guarded until its term ends, but they can add nothing"
    );
}

fn write(notice: &Notice) {
    match notice {
        Notice::Breach { client, channel, mode, number, txid, height } => warn!(
            %client, channel = %channel.tag, ?mode, state = number.0, %txid, block = height.0,
            "a revoked state was published: the penalties go out"
        ),
        Notice::BreachInMempool { txid } => warn!(
            %txid,
            "a revoked state is in the mempool: its penalties go out"
        ),
        Notice::BreachTakenBack { client, channel, txid } => warn!(
            %client, channel = %channel.tag, %txid,
            "a reorganisation has taken a revoked state back: it is watched for again"
        ),
        Notice::Punished { client, channel } => {
            info!(%client, channel = %channel.tag, "the penalties of a channel are final");
        }
        Notice::Useless { client, channel, number, cause } => warn!(
            %client, channel = %channel.tag, state = number.0, %cause,
            "a backup matches the hint of a transaction, and cannot punish it"
        ),
        Notice::Closed { client, channel, txid } => {
            info!(%client, channel = %channel.tag, %txid, "a channel was closed by a state that is not revoked");
        }
        Notice::Broken { client, channel, cause } => error!(
            %client, channel = %channel.tag, %cause,
            "a channel cannot be guarded any more, and takes no more backups: report this; its rows are left as they are"
        ),
        Notice::Damaged { row, damage } => error!(
            ?row, %damage,
            "a row of the watchtower's database is damaged: what it is about is not guarded, all else is; it is left as it is"
        ),
        Notice::TermEnded { client } => info!(%client, "a client's term has ended: what was kept for it is deleted"),
    }
}
