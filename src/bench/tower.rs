//! What a watchtower does with a real disk: how many backups become durable in a second, what a state takes up, and how long a
//! restart takes.

use std::{path::Path, time::Instant};

use bitcoin::constants::ChainHash;
use leyden_channels::{
    onchain::{EnforcementPolicy, FeeEstimates},
    types::{CommitmentNumber, FeeratePerKw, Height, Uptime},
};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, ClientId, FundingIndex},
    hint::Hint,
    lookout::Lookout,
    message::{Backup, BackupBody, Hello, Mode, OpenChannel, PROTOCOL_VERSION, Register, TowerFeatures, TowerMessage},
    session::{Admission, Limits},
    tower::{Config, Ctx, Effect, Event, Outbox, ToSign, Tower, newest_receipts},
};
use secp256k1::{SECP256K1, SecretKey};
use serde::Serialize;

use super::BenchError;
use crate::store::TowerStore;

/// Clients with a channel each that back up in turns.
const CLIENTS: u32 = 64;
/// Backups in one commit, as many as a tower takes.
const AT_ONCE: u64 = 1_024;
/// The sealed bytes of a state without HTLCs.
const SEALED: usize = 194;

#[derive(Debug, Serialize)]
pub(super) struct TowerMeasured {
    pub states: u64,
    /// Backups that were acknowledged after their commit; the receipts were signed too.
    pub durable_per_second: f64,
    pub bytes_per_state: f64,
    /// From opening the database to a tower that guards.
    pub restart_seconds: f64,
}

/// Makes a tower in `folder`, an empty one, hold so many blind states without HTLCs.
pub(super) fn measure(folder: &Path, states: u64) -> Result<TowerMeasured, BenchError> {
    let key = SecretKey::from_slice(&[7; 32]).map_err(|error| BenchError::Tower(error.to_string()))?;
    let config = Config {
        chain: ChainHash::REGTEST,
        key: key.public_key(SECP256K1),
        features: TowerFeatures::BLIND,
        admission: Admission { open: true, ..Admission::default() },
        limits: Limits {
            registrations_per_minute: u64::MAX / 1_000_000,
            states: u64::MAX,
            bytes: u64::MAX,
            strangers_bytes: u64::MAX,
            messages_per_second: u64::MAX / 1_000_000,
            messages_at_once: u64::MAX / 1_000_000,
            ..Limits::default()
        },
    };
    let failed = |error: &dyn ToString| BenchError::Tower(error.to_string());
    let mut store = TowerStore::open(folder, 64)?;
    let mut tower = Tower::restore(config.clone(), Lookout::default(), &store).map_err(|error| failed(&error))?;
    let (estimates, policy) = (FeeEstimates::default(), EnforcementPolicy::default());
    let mut commit = |events: Vec<Event<'_>>, store: &mut TowerStore| {
        let mut outboxes = Vec::with_capacity(events.len());
        for event in events {
            let (newest, now) = (Height(1), Uptime(1));
            let ctx = Ctx { newest, now, estimates: &estimates, policy: &policy, archive: &*store };
            outboxes.push(tower.handle(event, &ctx).map_err(|error| failed(&error))?);
        }
        let effects = Outbox::commit_all(outboxes, store)?;
        tower.settled();
        Ok::<_, BenchError>(newest_receipts(effects.into_iter().flatten().collect()))
    };
    for number in 0..CLIENTS {
        let features = TowerFeatures::default();
        let hello = Hello { version: PROTOCOL_VERSION, chain: config.chain, features };
        let register = Register { mode: Mode::Blind, sweep_feerate: FeeratePerKw(2_500), term: 10_000 };
        let open = OpenChannel { channel: channel(number), constants: vec![1; 240] };
        let messages: [TowerMessage; 3] = [hello.into(), register.into(), open.into()];
        let events = messages.map(|message| Event::Message(client(number), message));
        commit(std::iter::once(Event::Connected(client(number))).chain(events).collect(), &mut store)?;
    }
    let begun = Instant::now();
    let mut done = 0;
    while done < states {
        let batch = AT_ONCE.min(states - done);
        let backups = (done..done + batch).flat_map(|at| {
            let number = u32::try_from(at % u64::from(CLIENTS)).unwrap_or_default();
            let backup = backup(channel(number), at / u64::from(CLIENTS), at);
            backup.to_messages().into_iter().map(move |message| Event::Message(client(number), message))
        });
        for effect in commit(backups.collect(), &mut store)? {
            match effect {
                Effect::Sign(_, ToSign::Acknowledged(holding)) => drop(ToSign::Acknowledged(holding).sign(&key)),
                other => return Err(BenchError::Tower(format!("a backup was not acknowledged: {other:?}"))),
            }
        }
        done += batch;
    }
    let seconds = begun.elapsed().as_secs_f64();
    store.reclaim()?;
    drop((tower, store));

    let begun = Instant::now();
    let store = TowerStore::open(folder, 64)?;
    let lookout = Lookout::load(store.hints()?);
    let tower = Tower::restore(config, lookout, &store).map_err(|error| failed(&error))?;
    let restart_seconds = begun.elapsed().as_secs_f64();
    let stats = tower.stats();
    if stats.states != states || stats.hints as u64 != states {
        return Err(BenchError::Tower(format!("{states} states were stored, and {} came back", stats.states)));
    }
    let bytes: u64 = std::fs::read_dir(folder)
        .and_then(|files| files.map(|file| Ok(file?.metadata()?.len())).sum())
        .map_err(|error| failed(&error))?;
    Ok(TowerMeasured {
        states,
        durable_per_second: states as f64 / seconds,
        bytes_per_state: bytes as f64 / states as f64,
        restart_seconds,
    })
}

fn client(number: u32) -> ClientId {
    let mut id = [2; 33];
    id.iter_mut().skip(1).zip(number.to_be_bytes()).for_each(|(byte, from)| *byte = from);
    ClientId(id)
}

fn channel(number: u32) -> ChannelName {
    let [a, b, c, d] = number.to_be_bytes();
    ChannelName { tag: ChannelTag([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), funding: FundingIndex(0) }
}

/// As random as a real one: nothing of it can be compressed.
fn backup(channel: ChannelName, number: u64, at: u64) -> Backup {
    let hint = Hint(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let body = BackupBody::Blind { hint, sealed: rand::random_iter().take(SEALED).collect() };
    Backup { channel, number: CommitmentNumber(number), body }
}
