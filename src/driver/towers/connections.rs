//! The connections to the towers: dialled, up, or given up for a while.
//!
//! ```text
//!   Connect ──► dialling ──► up ──ends by itself, or is silent──► pause ──► dialling …
//!                             └──the client wants it to end───► pause, if it is to be tried again
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use leyden_channels::types::Height;
use leyden_watchtower::{
    client::{Event, record::TowerId},
    message::TowerMessage,
};
use tokio::{sync::mpsc, task::AbortHandle};
use tracing::{debug, error};

use super::{
    ANSWER_LIMIT,
    link::{Dial, LineName, Link, keep_dialling},
    make::{self, Job},
    task::Running,
};
use crate::driver::{backoff::Backoff, connection};

/// The connection to a tower, or the attempts to have one.
#[derive(Default)]
pub(super) struct TowerConnection {
    pub(super) state: ConnectionState,
    /// Counts its connections.
    pub(super) number: u64,
    pub(super) is_wanted: bool,
    /// It answered when it was dialled last.
    pub(super) is_reached: bool,
    /// Until when it stores what it gets, as was logged last.
    pub(super) logged_until: Option<Height>,
    pub(super) backoff: Backoff,
    pub(super) trouble: Option<String>,
    pub(super) maker: Option<mpsc::UnboundedSender<Job>>,
}

#[derive(Default)]
pub(super) enum ConnectionState {
    #[default]
    Down,
    Dialling(AbortHandle),
    Up(Link),
}

impl Drop for TowerConnection {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl TowerConnection {
    /// No connection, and nobody who makes one.
    fn give_up(&mut self) {
        if let ConnectionState::Dialling(task) = std::mem::take(&mut self.state) {
            task.abort();
        }
    }
}

impl Running {
    /// Unless `line` names an earlier connection to this tower.
    pub(super) fn connection(&mut self, line: LineName) -> Option<&mut TowerConnection> {
        self.connections.get_mut(&line.tower).filter(|connection| connection.number == line.number)
    }

    /// There is to be a connection: soon, for somebody may have just given the address.
    pub(super) fn connect(&mut self, tower: TowerId) {
        let connection = self.connections.entry(tower).or_default();
        connection.is_wanted = true;
        match connection.state {
            ConnectionState::Up(_) => {}
            ConnectionState::Down | ConnectionState::Dialling(_) => self.dial(tower, Duration::ZERO),
        }
    }

    pub(super) fn dial(&mut self, tower: TowerId, first_pause: Duration) {
        let Some(row) = self.client.tower(tower) else { return };
        let Some(connection) = self.connections.get_mut(&tower) else { return };
        connection.give_up();
        connection.number += 1;
        let line = LineName { tower, number: connection.number };
        let secret = self.services.keys.tower_client_secret(&row.key);
        let dial = Dial { line, secret, tower: row.key, address: row.address.clone(), first_pause };
        connection.state = ConnectionState::Dialling(keep_dialling(dial, self.mailbox.clone()));
    }

    pub(super) fn dialled(&mut self, line: LineName, established: connection::Line) {
        let mailbox = self.mailbox.clone();
        let Some(connection) = self.connection(line) else { return };
        connection.trouble = None;
        connection.is_reached = true;
        connection.state = ConnectionState::Up(Link::start(established, line, mailbox));
        self.event(Event::Connected(line.tower));
    }

    pub(super) fn received(&mut self, line: LineName, message: TowerMessage) {
        let Some(connection) = self.connection(line) else { return };
        let ConnectionState::Up(link) = &mut connection.state else { return };
        link.received();
        self.event(Event::Message(line.tower, message));
    }

    /// The connection has ended by itself.
    pub(super) fn ended(&mut self, line: LineName, why: String) {
        let Some(connection) = self.connection(line) else { return };
        let ConnectionState::Up(link) = &connection.state else { return };
        connection.backoff.connection_ended(false, link.lasted(), Clock::now());
        debug!(tower = line.tower.0, why, "the connection to a tower has ended");
        (connection.is_reached, connection.trouble) = (false, Some(why));
        connection.give_up();
        self.event(Event::Disconnected(line.tower));
        self.after_connection(line.tower);
    }

    /// The client wants it to end.
    pub(super) fn disconnect(&mut self, tower: TowerId, again: bool) {
        let exists = self.client.tower(tower).is_some();
        let Some(connection) = self.connections.get_mut(&tower) else { return };
        if let ConnectionState::Up(link) = &mut connection.state {
            connection.backoff.connection_ended(true, link.lasted(), Clock::now());
        }
        connection.give_up();
        // What this connection still says is too late.
        connection.number += 1;
        connection.is_wanted = again;
        if !exists {
            self.connections.remove(&tower);
        }
        self.after_connection(tower);
    }

    pub(super) fn after_connection(&mut self, tower: TowerId) {
        // Whoever waits for an audit hears that there is no answer.
        self.audits.retain(|waiting| waiting.tower != tower);
        let Some(connection) = self.connections.get(&tower).filter(|connection| connection.is_wanted) else { return };
        let pause = connection.backoff.pause(Clock::now());
        self.dial(tower, pause);
    }

    pub(super) fn send(&mut self, tower: TowerId, message: &TowerMessage) {
        let Some(TowerConnection { state: ConnectionState::Up(link), .. }) = self.connections.get_mut(&tower) else {
            return;
        };
        if let Err(error) = link.queue(message) {
            error!(tower = tower.0, message = message.name(), %error, "a message for a tower cannot be sent");
        }
    }

    pub(super) fn job(&mut self, tower: TowerId, job: Job) {
        let Some(row) = self.client.tower(tower) else { return };
        let Some(connection) = self.connections.get_mut(&tower) else { return };
        let maker = connection.maker.get_or_insert_with(|| {
            let (maker, jobs) = mpsc::unbounded_channel();
            let (services, signed) = (Arc::clone(&self.services), Arc::clone(&self.signed));
            tokio::spawn(make::run(services, row.key, signed, jobs, self.mailbox.clone()));
            maker
        });
        // It ends with the daemon.
        let _ = maker.send(job);
    }

    pub(super) fn tick(&mut self) {
        let silent = |connection: &TowerConnection| match &connection.state {
            ConnectionState::Up(link) => link.owes_an_answer_for() > ANSWER_LIMIT,
            ConnectionState::Down | ConnectionState::Dialling(_) => false,
        };
        let silent: Vec<LineName> = self
            .connections
            .iter()
            .filter(|(_, connection)| silent(connection))
            .map(|(tower, connection)| LineName { tower: *tower, number: connection.number })
            .collect();
        for line in silent {
            self.ended(line, format!("it has not answered for {} seconds", ANSWER_LIMIT.as_secs()));
        }
        self.event(Event::Tick);
    }
}
