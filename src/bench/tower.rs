//! What a watchtower does with a real disk: how many backups become durable in a second, what a state takes up, how fast a block is
//! looked at and a restart is done with ten million hints, and how soon the penalties of a thousand breaches are handed over.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bitcoin::{Transaction, Txid, constants::ChainHash, hashes::Hash as _};
use clap::Args;
use leyden_channels::{
    channel::{Persist as _, Write},
    gossip::synthetic::SplitMix,
    onchain::{EnforcementPolicy, FeeEstimates},
    types::{CommitmentNumber, CommitmentType, FeeratePerKw, Height, Uptime},
};
use leyden_common::bench::{TowerBackups, TowerBreaches, TowerHints, TowerMeasured};
use leyden_watchtower::{
    appointment::ClientId,
    hint::Hint,
    kit::DEFAULT_SWEEP_FEERATE,
    lookout::Lookout,
    mark::Mark,
    message::{Backup, BackupBody, Hello, Mode, PROTOCOL_VERSION, Register, TowerFeatures, TowerMessage},
    record::{Key, Slot},
    session::{Admission, Limits},
    synthetic::{SyntheticChannel, SyntheticError},
    tower::{BlockSeen, Config, Ctx, Effect, Event, Outbox, ToSign, Tower, TowerError, newest_receipts},
};

use secp256k1::{SECP256K1, SecretKey};

use super::BenchError;
use crate::store::TowerStore;

/// Channels that back up in turns, each of a client of its own.
const BACKING_UP: u32 = 64;
/// Backups in one commit, as many as a tower takes.
const AT_ONCE: u64 = 1_024;
/// The sealed bytes of a state without HTLCs.
const SEALED: usize = 194;
/// Hints in one write while the database is filled.
const FILLED_AT_ONCE: u64 = 65_536;
/// A block's transactions, none of which is known.
const TRANSACTIONS: u64 = 3_000;
/// Blocks that are looked at.
const BLOCKS: u64 = 500;
const OPEN_FILES: u32 = 64;

/// How much is measured.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct TowerSize {
    /// States without HTLCs, in each mode
    #[arg(long)]
    pub states: u64,
    /// Hints at the restart and while blocks are looked at
    #[arg(long)]
    pub hints: u64,
    /// Channels that are breached in one block
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub channels: u32,
    /// HTLCs of each
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=40))]
    pub htlcs: u16,
}

fn failed(error: impl ToString) -> BenchError {
    BenchError::Tower(error.to_string())
}

impl From<TowerError> for BenchError {
    fn from(error: TowerError) -> Self {
        failed(error)
    }
}

impl From<SyntheticError> for BenchError {
    fn from(error: SyntheticError) -> Self {
        failed(error)
    }
}

/// Measures a tower whose databases are made in `folder`, an empty one.
pub(super) fn measure(folder: &Path, size: TowerSize) -> Result<TowerMeasured, BenchError> {
    let at = |name: &str| folder.join(name);
    Ok(TowerMeasured {
        states: size.states,
        blind: backups(&at("blind"), Mode::Blind, size.states)?,
        own: backups(&at("own"), Mode::Own, size.states)?,
        hints: hints(&at("hints"), size.hints)?,
        breached_blind: breached(&at("breached-blind"), Mode::Blind, size)?,
        breached_own: breached(&at("breached-own"), Mode::Own, size)?,
    })
}

/// A tower with its database, and the key that signs for it.
struct Measured {
    store: TowerStore,
    tower: Tower,
    config: Config,
    key: SecretKey,
    tip: Height,
}

impl Measured {
    fn open(folder: &Path) -> Result<Self, BenchError> {
        let key = SecretKey::from_slice(&[7; 32]).map_err(failed)?;
        let many = u64::MAX / 1_000_000;
        let limits = Limits {
            registrations_per_minute: many,
            states: u64::MAX,
            bytes: u64::MAX,
            strangers_bytes: u64::MAX,
            messages_per_second: many,
            messages_at_once: many,
            ..Limits::default()
        };
        let config = Config {
            chain: ChainHash::REGTEST,
            key: key.public_key(SECP256K1),
            features: TowerFeatures::BLIND.with(TowerFeatures::OWN),
            admission: Admission { open: true, listed: (0..u32::from(u16::MAX)).map(client).collect() },
            limits,
        };
        let store = TowerStore::open(folder, OPEN_FILES)?;
        let lookout = Lookout::load(store.hints()?);
        let tower = Tower::restore(config.clone(), lookout, &store).map_err(failed)?;
        let mut measured = Self { store, tower, config, key, tip: Height(1) };
        if measured.tower.tip().is_none() {
            // Who knows no block grants no term.
            measured.mine(&[])?;
        }
        Ok(measured)
    }

    /// Handles some events in one commit; what follows from them.
    fn commit<'a>(&mut self, events: impl IntoIterator<Item = Event<'a>>) -> Result<Vec<Effect>, BenchError> {
        let (estimates, policy) = (FeeEstimates::flat(FeeratePerKw(1_000)), EnforcementPolicy::default());
        let mut outboxes = Vec::new();
        for event in events {
            let archive = &self.store;
            let (newest, now, tip_is_sure) = (self.tip, Uptime(1), true);
            let ctx = Ctx { newest, tip_is_sure, now, estimates: &estimates, policy: &policy, archive };
            outboxes.push(self.tower.handle(event, &ctx)?);
        }
        let effects = Outbox::commit_all(outboxes, &mut self.store)?;
        self.tower.settled();
        Ok(newest_receipts(effects.into_iter().flatten().collect()))
    }

    fn register(&mut self, number: u32, mode: Mode, channel: &SyntheticChannel) -> Result<(), BenchError> {
        let features = TowerFeatures::default();
        let hello = Hello { version: PROTOCOL_VERSION, chain: self.config.chain, features };
        let register = Register { mode, sweep_feerate: DEFAULT_SWEEP_FEERATE, term: 10_000 };
        let messages: [TowerMessage; 3] = [hello.into(), register.into(), channel.open(mode)?.into()];
        let events = messages.map(|message| Event::Message(client(number), message));
        self.commit(std::iter::once(Event::Connected(client(number))).chain(events))?;
        Ok(())
    }

    /// Backs states up, one of each of these clients, and signs the receipts.
    fn back_up(&mut self, backups: Vec<(u32, Backup)>) -> Result<(), BenchError> {
        let messages = backups.into_iter().flat_map(|(number, backup)| {
            backup.to_messages(Mark::default()).into_iter().map(move |message| Event::Message(client(number), message))
        });
        for effect in self.commit(messages)? {
            match effect {
                Effect::Sign(_, ToSign::Acknowledged(holding)) => {
                    drop(ToSign::Acknowledged(holding).sign(&self.key));
                }
                other => return Err(failed(format!("a backup was not acknowledged: {other:?}"))),
            }
        }
        Ok(())
    }

    fn mine(&mut self, transactions: &[Transaction]) -> Result<Vec<Effect>, BenchError> {
        self.tip = Height(self.tip.0.saturating_add(1));
        let mut hash = [0; 32];
        hash.iter_mut().zip(self.tip.0.to_be_bytes()).for_each(|(byte, from)| *byte = from);
        let block = BlockSeen { height: self.tip, hash, transactions };
        self.commit([Event::Block(block)])
    }
}

fn backups(folder: &Path, mode: Mode, states: u64) -> Result<TowerBackups, BenchError> {
    let mut measured = Measured::open(folder)?;
    let channel = |number| SyntheticChannel::new(number, CommitmentType::Anchors, 0, DEFAULT_SWEEP_FEERATE);
    let channels = (0..BACKING_UP).map(channel).collect::<Result<Vec<_>, _>>()?;
    for (number, channel) in (0..).zip(&channels) {
        measured.register(number, mode, channel)?;
    }
    let mut spent = Duration::ZERO;
    let mut done = 0;
    while done < states {
        let batch = AT_ONCE.min(states - done);
        let mut backups = Vec::new();
        for at in done..done + batch {
            let (number, state) = (at % u64::from(BACKING_UP), CommitmentNumber(at / u64::from(BACKING_UP)));
            let number = u32::try_from(number).unwrap_or_default();
            let Some(channel) = channels.get(number as usize) else { continue };
            // Whoever signs them is not who is measured, and random bytes are as hard to compress as sealed ones.
            let backup = match mode {
                Mode::Blind => {
                    let sealed = rand::random_iter().take(SEALED).collect();
                    let body = BackupBody::Blind { hint: hint(at), sealed };
                    Backup { channel: channel.name(), number: state, body }
                }
                Mode::Own => channel.backup(mode, state)?,
            };
            backups.push((number, backup));
        }
        let begun = Instant::now();
        measured.back_up(backups)?;
        spent = spent.saturating_add(begun.elapsed());
        done += batch;
    }
    measured.store.reclaim()?;
    drop(measured);
    // What was in the log of a store that ended is in its tables, and the log is gone.
    let measured = Measured::open(folder)?;
    let stats = measured.tower.stats();
    if stats.states != states {
        return Err(failed(format!("{states} states were stored, and {} came back", stats.states)));
    }
    let bytes: u64 = std::fs::read_dir(folder)
        .and_then(|files| files.map(|file| Ok(file?.metadata()?.len())).sum())
        .map_err(failed)?;
    Ok(TowerBackups {
        durable_per_second: states as f64 / spent.as_secs_f64(),
        bytes_per_state: bytes as f64 / states as f64,
    })
}

/// The hints alone are written: nothing else is read at the start in proportion to them, nor when a block is looked at.
fn hints(folder: &Path, count: u64) -> Result<TowerHints, BenchError> {
    let mut store = TowerStore::open(folder, OPEN_FILES)?;
    let mut done = 0;
    while done < count {
        let batch = FILLED_AT_ONCE.min(count - done);
        let row = |at: u64| {
            let key = Key::Hint { hint: hint(at), slot: Slot(1), number: CommitmentNumber(at) };
            Write::Put { key, value: Vec::new() }
        };
        store.commit((done..done + batch).map(row).collect())?;
        done += batch;
    }
    store.reclaim()?;
    drop(store);

    let begun = Instant::now();
    let measured = Measured::open(folder)?;
    let restart_seconds = begun.elapsed().as_secs_f64();
    let loaded = measured.tower.stats().hints as u64;
    if loaded != count {
        return Err(failed(format!("{count} hints were stored, and {loaded} came back")));
    }
    // The tower has them; a second look-out of the same costs less than a way to reach into it.
    drop(measured);
    let lookout = Lookout::load((0..count).map(hint));
    let mut times: Vec<Duration> = (0..BLOCKS)
        .map(|block| {
            let first = count.saturating_add(block * TRANSACTIONS);
            let txids: Vec<Txid> = (first..first.saturating_add(TRANSACTIONS)).map(txid).collect();
            let begun = Instant::now();
            std::hint::black_box(lookout.known(txids));
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let percentile = |of: usize| {
        let at = times.len().saturating_sub(1) * of / 100;
        times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Ok(TowerHints { count, restart_seconds, block_p50_micros: percentile(50), block_p99_micros: percentile(99) })
}

fn breached(folder: &Path, mode: Mode, size: TowerSize) -> Result<TowerBreaches, BenchError> {
    let TowerSize { channels, htlcs, .. } = size;
    let mut measured = Measured::open(folder)?;
    measured.mine(&[])?;
    let mut breaches = Vec::new();
    for number in 0..channels {
        let kind = if number.is_multiple_of(2) { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey };
        let channel = SyntheticChannel::new(number, kind, htlcs, DEFAULT_SWEEP_FEERATE)?;
        measured.register(number, mode, &channel)?;
        for state in [0, 1] {
            measured.back_up(vec![(number, channel.backup(mode, CommitmentNumber(state))?)])?;
        }
        breaches.push(channel.breach(CommitmentNumber(0))?);
    }
    let begun = Instant::now();
    let effects = measured.mine(&breaches)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (mut penalties, mut outputs) = (0, 0);
    for effect in effects {
        if let Effect::Broadcast(tx) = effect {
            penalties += 1;
            outputs += tx.input.len() as u64;
        }
    }
    // The balance and each HTLC.
    let expected = u64::from(channels) * (u64::from(htlcs) + 1);
    if outputs != expected {
        return Err(failed(format!("{outputs} of {expected} outputs of the cheaters were taken")));
    }
    Ok(TowerBreaches { channels, htlcs, penalties, outputs, seconds })
}

fn client(number: u32) -> ClientId {
    let mut id = [2; 33];
    id.iter_mut().skip(1).zip(number.to_be_bytes()).for_each(|(byte, from)| *byte = from);
    ClientId(id)
}

/// As evenly spread as those of real transactions.
fn hint(number: u64) -> Hint {
    Hint(SplitMix::new(number).draw().to_be_bytes())
}

/// The id of a transaction whose hint this is.
fn txid(number: u64) -> Txid {
    let mut bytes = [0x55; 32];
    bytes.iter_mut().zip(hint(number).0).for_each(|(byte, from)| *byte = from);
    Txid::from_byte_array(bytes)
}
