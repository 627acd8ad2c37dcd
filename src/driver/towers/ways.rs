//! The ways to the towers: dialled, up, or given up for a while.
//!
//! ```text
//!   Connect ──► dialling ──► up ──ends by itself, or is silent──► pause ──► dialling …
//!                             └──the client wants it to end───► pause, if it is to be tried again
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use leyden_channels::types::FeeratePerKw;
use leyden_watchtower::{
    client::{
        Event,
        record::{TowerId, TowerRow},
    },
    message::TowerMessage,
};
use tokio::{sync::mpsc, task::AbortHandle};
use tracing::{debug, error};

use super::{
    ANSWER_LIMIT, SWEEP_FEERATE,
    link::{Dial, LineName, Link, keep_dialling},
    make::{self, Job},
    task::Running,
};
use crate::driver::{backoff::Backoff, connection};

/// The way to a tower.
#[derive(Default)]
pub(super) struct Way {
    pub(super) state: WayState,
    /// Counts its connections.
    pub(super) number: u64,
    pub(super) is_wanted: bool,
    pub(super) backoff: Backoff,
    pub(super) trouble: Option<String>,
    pub(super) maker: Option<mpsc::UnboundedSender<Job>>,
}

#[derive(Default)]
pub(super) enum WayState {
    #[default]
    Down,
    Dialling(AbortHandle),
    Up(Link),
}

impl Drop for Way {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Way {
    /// No connection, and nobody who makes one.
    fn give_up(&mut self) {
        if let WayState::Dialling(task) = std::mem::take(&mut self.state) {
            task.abort();
        }
    }
}

impl Running {
    pub(super) fn row(&self, tower: TowerId) -> Option<TowerRow> {
        self.client.towers().find(|(id, _)| *id == tower).map(|(_, row)| row.clone())
    }

    /// The way, if this is its present connection.
    pub(super) fn way(&mut self, line: LineName) -> Option<&mut Way> {
        self.ways.get_mut(&line.tower).filter(|way| way.number == line.number)
    }

    /// There is to be a connection: soon, for somebody may have just given the address.
    pub(super) fn connect(&mut self, tower: TowerId) {
        let way = self.ways.entry(tower).or_default();
        way.is_wanted = true;
        match way.state {
            WayState::Up(_) => {}
            WayState::Down | WayState::Dialling(_) => self.dial(tower, Duration::ZERO),
        }
    }

    pub(super) fn dial(&mut self, tower: TowerId, first_pause: Duration) {
        let Some(row) = self.row(tower) else { return };
        let Some(way) = self.ways.get_mut(&tower) else { return };
        way.give_up();
        way.number += 1;
        let line = LineName { tower, number: way.number };
        let secret = self.services.keys.tower_client_secret(&row.key);
        let dial = Dial { line, secret, tower: row.key, address: row.address, first_pause };
        way.state = WayState::Dialling(keep_dialling(dial, self.mailbox.clone()));
    }

    pub(super) fn dialled(&mut self, line: LineName, established: connection::Line) {
        let mailbox = self.mailbox.clone();
        let Some(way) = self.way(line) else { return };
        way.trouble = None;
        way.state = WayState::Up(Link::start(established, line, mailbox));
        self.event(Event::Connected(line.tower));
    }

    pub(super) fn received(&mut self, line: LineName, message: TowerMessage) {
        let Some(way) = self.way(line) else { return };
        let WayState::Up(link) = &mut way.state else { return };
        link.received();
        self.event(Event::Message(line.tower, message));
    }

    /// The connection has ended by itself.
    pub(super) fn ended(&mut self, line: LineName, why: String) {
        let Some(way) = self.way(line) else { return };
        let WayState::Up(link) = &way.state else { return };
        way.backoff.connection_ended(false, link.lasted(), Clock::now());
        debug!(tower = line.tower.0, why, "the connection to a tower has ended");
        way.trouble = Some(why);
        way.give_up();
        self.event(Event::Disconnected(line.tower));
        self.after_connection(line.tower);
    }

    /// The client wants it to end.
    pub(super) fn disconnect(&mut self, tower: TowerId, again: bool) {
        let exists = self.row(tower).is_some();
        let Some(way) = self.ways.get_mut(&tower) else { return };
        if let WayState::Up(link) = &mut way.state {
            way.backoff.connection_ended(true, link.lasted(), Clock::now());
        }
        way.give_up();
        // What this connection still says is too late.
        way.number += 1;
        way.is_wanted = again;
        if !exists {
            self.ways.remove(&tower);
        }
        self.after_connection(tower);
    }

    pub(super) fn after_connection(&mut self, tower: TowerId) {
        // Whoever waits for an audit hears that there is no answer.
        self.audits.retain(|waiting| waiting.tower != tower);
        let Some(way) = self.ways.get(&tower).filter(|way| way.is_wanted) else { return };
        let pause = way.backoff.pause(Clock::now());
        self.dial(tower, pause);
    }

    pub(super) fn send(&mut self, tower: TowerId, message: &TowerMessage) {
        let Some(Way { state: WayState::Up(link), .. }) = self.ways.get_mut(&tower) else { return };
        if let Err(error) = link.queue(message) {
            error!(tower = tower.0, message = message.name(), %error, "a message for a tower cannot be sent");
        }
    }

    pub(super) fn job(&mut self, tower: TowerId, job: impl FnOnce(FeeratePerKw) -> Job) {
        let Some(row) = self.row(tower) else { return };
        let Some(way) = self.ways.get_mut(&tower) else { return };
        let job = job(row.granted.map_or(SWEEP_FEERATE, |granted| granted.sweep_feerate));
        let maker = way.maker.get_or_insert_with(|| {
            let (maker, jobs) = mpsc::unbounded_channel();
            tokio::spawn(make::run(Arc::clone(&self.services), row.key, jobs, self.mailbox.clone()));
            maker
        });
        // It ends with the daemon.
        let _ = maker.send(job);
    }

    pub(super) fn tick(&mut self) {
        let silent = |way: &Way| match &way.state {
            WayState::Up(link) => link.owes_an_answer_for() > ANSWER_LIMIT,
            WayState::Down | WayState::Dialling(_) => false,
        };
        let silent: Vec<LineName> = self
            .ways
            .iter()
            .filter(|(_, way)| silent(way))
            .map(|(tower, way)| LineName { tower: *tower, number: way.number })
            .collect();
        for line in silent {
            self.ended(line, format!("it has not answered for {} seconds", ANSWER_LIMIT.as_secs()));
        }
        self.event(Event::Tick);
    }
}
