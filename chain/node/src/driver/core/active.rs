//! Whether the node has connections at all, as its user says.
//!
//! Without them nothing is accepted and nothing dialled; who is to be connected stays known, and is dialled again as soon as
//! connections are wanted. It holds until the node stops.

use leyden_net::{Event, PeerId};

use super::Core;
use crate::error::NodeError;
use crate::sync::lock;

/// Why nobody is connected to.
pub(super) fn switched_off() -> NodeError {
    NodeError::Network("it is switched off (setnetworkactive)".into())
}

impl Core {
    pub(super) fn set_active(&mut self, active: bool) {
        if std::mem::replace(&mut self.is_active, active) == active {
            return;
        }
        lock(&self.shared).is_switched_off = !active;
        if active {
            self.dial_all();
            return;
        }
        for stop in self.dialers.values() {
            stop.cancel();
        }
        for (address, answer) in std::mem::take(&mut self.waiting) {
            self.dialers.remove(&address);
            let _ = answer.send(Err(switched_off()));
        }
        let peers: Vec<PeerId> = self.remotes.keys().copied().collect();
        for peer in peers {
            self.let_go(peer, "the network was switched off");
            self.handle(Event::Disconnected { peer });
        }
    }

    fn dial_all(&mut self) {
        let addresses: Vec<_> = self.dialers.keys().copied().collect();
        for address in addresses {
            let stop = self.stop.child_token();
            self.dialers.insert(address, stop.clone());
            self.dial(address, stop);
        }
    }
}
