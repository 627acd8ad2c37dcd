//! The door: who is let in.
//!
//! ```text
//!   TCP ──a slot──► handshake ──► a client's key ──► connection
//!                     └── full: whoever of the largest crowd has been there longest and is not registered goes
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use leyden_node::TimeBudget;
use leyden_watchtower::{appointment::ClientId, session::Limits};
use secp256k1::SecretKey;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::sleep,
};
use tracing::{debug, error, info};

use super::{
    connection::{End, Link, Pace, handshake, serve},
    worker::Job,
};
use crate::{
    admission::{ConnectionSlot, ConnectionSlots},
    words::{Line, LogBudget},
};

/// After an error of the system, before the next connection is taken.
const PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Door {
    pub secret: SecretKey,
    pub limits: Limits,
    pub slots: ConnectionSlots,
    pub strangers_time: Arc<TimeBudget>,
    pub handshakes_time: Arc<TimeBudget>,
    pub log: LogBudget,
    /// The number of the next connection.
    pub next: AtomicU64,
}

pub(super) async fn listen(listener: TcpListener, door: Arc<Door>, jobs: mpsc::Sender<Job>) {
    loop {
        door.slots.settle().await;
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, for example: it passes, but may last.
                if door.log.line(&error.to_string()) != Line::Skip {
                    error!(%error, "a watchtower's connection could not be accepted");
                }
                door.slots.give_way();
                sleep(PAUSE).await;
                continue;
            }
        };
        let slot = door.slots.enter(address.ip(), false);
        let (door, jobs) = (Arc::clone(&door), jobs.clone());
        tokio::spawn(async move { connected(&door, &jobs, stream, address, slot).await });
    }
}

async fn connected(
    door: &Door,
    jobs: &mpsc::Sender<Job>,
    mut stream: TcpStream,
    address: SocketAddr,
    slot: ConnectionSlot,
) {
    let shaken = tokio::select! {
        shaken = door.handshakes_time.meter(|| false, handshake(door.secret, &mut stream)) => shaken,
        () = slot.leave().cancelled() => Err(End::GivesWay),
    };
    let session = match shaken {
        Ok(session) => session,
        Err(end) => return debug!(%address, %end, "a connection to the watchtower failed"),
    };
    let client = ClientId::from(session.remote);
    let (link, outgoing) = Link::new(client, door.next.fetch_add(1, Ordering::Relaxed), slot);
    if jobs.send(Job::Connected(Arc::clone(&link))).await.is_err() {
        return;
    }
    let serving = serve(&link, session, stream, outgoing, door.secret, Pace::new(&door.limits), jobs);
    let end = door.strangers_time.meter(|| link.is_registered(), serving).await;
    match end {
        // What a person may have to know: a client that does not do what it should.
        End::HungUp(_) | End::Read(_) | End::NotReading => {
            let words = format!("{address}: {end}");
            if door.log.line(&words) != Line::Skip {
                info!(%client, %address, %end, "the watchtower hung up on a client");
            }
        }
        end => debug!(%client, %address, %end, "a watchtower's connection has ended"),
    }
    // The worker may have ended.
    let _ = jobs.send(Job::Disconnected(link)).await;
}
