//! Lines of the log that a peer causes.

use std::{collections::HashMap, sync::Arc};

use leyden_channels::types::ChannelId;

use super::{Peer, Slot};
use crate::{
    driver::strangers::PeerStanding,
    words::{Line, LogBudget},
};

/// Lines in a minute: more than any that means well has to say.
const LINES_PER_MINUTE: u32 = 20;

/// [`LINES_PER_MINUTE`]; a stranger's also come out of what all strangers together may cause, or each new key would
/// bring new lines.
pub(super) struct PeerLog {
    own: LogBudget,
    strangers: Arc<LogBudget>,
    standing: PeerStanding,
}

impl PeerLog {
    pub(super) fn new(strangers: &Arc<LogBudget>, standing: &PeerStanding) -> Self {
        Self { own: LogBudget::new(LINES_PER_MINUTE), strangers: Arc::clone(strangers), standing: standing.clone() }
    }

    /// Asks for a line with these words.
    pub(super) fn line(&self, words: &str) -> Line {
        match self.own.line(words) {
            Line::Skip => Line::Skip,
            Line::Write | Line::WriteAndSaySo
                if self.standing.is_stranger() && self.strangers.line(words) == Line::Skip =>
            {
                Line::Skip
            }
            line @ (Line::Write | Line::WriteAndSaySo) => line,
        }
    }
}

/// A channel as commands name it: TXID:INDEX of its funding output. Before there is one, its BOLT 2 channel_id.
pub(super) fn point(slots: &HashMap<ChannelId, Slot>, id: &ChannelId) -> String {
    slots.get(id).map_or_else(|| id.to_string(), |slot| slot.point(id))
}

impl Slot {
    pub(super) fn point(&self, id: &ChannelId) -> String {
        self.channel.terms().map_or_else(|| id.to_string(), |terms| terms.funding.to_string())
    }
}

impl Peer {
    /// See [`point`].
    pub(in crate::driver) fn point(&self, id: &ChannelId) -> String {
        point(&self.slots, id)
    }
}

#[cfg(test)]
mod tests {
    use leyden_node::TimeBudget;

    use super::*;
    use crate::limits::STRANGERS_TIME;

    #[test]
    fn strangers_share_their_lines_however_many_they_are() {
        let (time, shared) = (TimeBudget::new(STRANGERS_TIME), Arc::new(LogBudget::new(30)));
        let written = |is_stranger| {
            let standing = PeerStanding::new(&time);
            standing.set_stranger(is_stranger);
            let log = PeerLog::new(&shared, &standing);
            (0..100).filter(|number| log.line(&format!("{is_stranger} {number}")) != Line::Skip).count()
        };
        assert_eq!([(); 3].map(|()| written(true)), [20, 10, 0]);
        assert_eq!(written(false), 20, "a peer with a channel has its own");
    }
}
