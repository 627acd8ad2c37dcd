//! One connection to one tower.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use leyden_channels::{transport::Encryptor, wire::EncodeError};
use leyden_watchtower::{client::record::TowerId, message::TowerMessage};
use secp256k1::{PublicKey, SecretKey};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{FIRST_PAUSE, LAST_PAUSE, task::Command};
use crate::{
    driver::connection::{self, ConnectionError, MessageReader, MessageWriter},
    limits::WRITE_TIMEOUT,
};

/// Bytes of a tower's messages that were read and not handled yet: four of the longest fit.
const UNHANDLED: u32 = 4 * 65_536;

/// A message with its share of what may wait: more is read once it is dropped.
pub(super) struct Received {
    pub message: TowerMessage,
    _share: OwnedSemaphorePermit,
}

/// The sending side, in the towers' task. Dropping it ends the connection.
pub(super) struct Link {
    encryptor: Encryptor,
    buffer: Vec<u8>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    /// What the client may have on its way bounds it.
    unsent: Arc<AtomicU64>,
    task: AbortHandle,
    since: Instant,
    /// Since when the tower owes an answer.
    unanswered: Option<Instant>,
}

impl Link {
    /// Starts what carries both ways.
    pub(super) fn start(line: connection::Line, name: LineName, mailbox: mpsc::UnboundedSender<Command>) -> Self {
        let connection::Line { encryptor, mut reader, writer } = line;
        let (outgoing, queue) = mpsc::unbounded_channel();
        let unsent = Arc::new(AtomicU64::new(0));
        let mut writer = MessageWriter::new(Arc::new(writer), queue, Arc::clone(&unsent), WRITE_TIMEOUT);
        let task = tokio::spawn(async move {
            let end = tokio::select! {
                end = read_all(&mut reader, name, &mailbox) => end,
                end = writer.run() => end.err().unwrap_or(ConnectionError::Closed),
            };
            let _ = mailbox.send(Command::Ended { line: name, why: end.to_string() });
        });
        let task = task.abort_handle();
        Self { encryptor, buffer: Vec::new(), outgoing, unsent, task, since: Instant::now(), unanswered: None }
    }

    pub(super) fn queue(&mut self, message: &TowerMessage) -> Result<(), EncodeError> {
        self.unanswered.get_or_insert_with(Instant::now);
        self.encryptor.encrypt(&message.encode(), &mut self.buffer)
    }

    pub(super) fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.unsent.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
            // If its task has ended, that is told.
            let _ = self.outgoing.send(std::mem::take(&mut self.buffer));
        }
    }

    pub(super) fn received(&mut self) {
        self.unanswered = None;
    }

    pub(super) fn owes_an_answer_for(&self) -> Duration {
        self.unanswered.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn lasted(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_all(
    reader: &mut MessageReader,
    line: LineName,
    mailbox: &mpsc::UnboundedSender<Command>,
) -> ConnectionError {
    let unhandled = Arc::new(Semaphore::new(UNHANDLED as usize));
    loop {
        let (message, length) = match reader.next_with(TowerMessage::decode).await {
            Ok((Ok(message), length)) => (message, length),
            Ok((Err(error), _)) => return ConnectionError::Tower(error),
            Err(end) => return end,
        };
        let share = Arc::clone(&unhandled).acquire_many_owned(length.min(UNHANDLED)).await;
        let Ok(share) = share else { return ConnectionError::Closed };
        let _ = mailbox.send(Command::Received { line, received: Received { message, _share: share } });
    }
}

/// Where a tower is dialled, and as whom.
pub(super) struct Dial {
    pub line: LineName,
    pub secret: SecretKey,
    pub tower: PublicKey,
    pub address: String,
    pub first_pause: Duration,
}

/// Dials until the tower answers. Dropping what it gives does not end it: [`AbortHandle::abort`] does.
pub(super) fn keep_dialling(dial: Dial, mailbox: mpsc::UnboundedSender<Command>) -> AbortHandle {
    let Dial { line, secret, tower, address, first_pause } = dial;
    let task = tokio::spawn(async move {
        sleep(first_pause).await;
        let mut pause = FIRST_PAUSE;
        loop {
            match connection::dial_line(secret, tower, &address).await {
                Ok(established) => {
                    let _ = mailbox.send(Command::Dialled { line, established: Box::new(established) });
                    return;
                }
                Err(error) => {
                    let _ = mailbox.send(Command::NotReached { line, why: error.to_string() });
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    });
    task.abort_handle()
}

/// Which tower's which connection: news of an earlier one are old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineName {
    pub tower: TowerId,
    pub number: u64,
}
