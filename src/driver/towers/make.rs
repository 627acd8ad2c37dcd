//! What makes the backups of one tower, in the order in which they are asked for, on threads that may take their time.

use std::{collections::BTreeMap, sync::Arc};

use bitcoin::ScriptBuf;
use leyden_channels::{
    channel::{Channel, Environment as _, Key, RevokedPast, Terms, decode_revoked},
    keys::{ClaimSigner, PerCommitmentSecret, Signer},
    types::{ChannelId, CommitmentNumber},
};
use leyden_watchtower::{
    client::{
        Event, Place, Work,
        build::{BuildError, Maker, MakerKeys},
        keys::TowerKeys as _,
    },
    message::{Backup, Mode},
    own::RevocationSecret,
};
use secp256k1::PublicKey;
use tokio::sync::mpsc;

use super::{
    signed::{SignedFor, SignedStates},
    task::Command,
};
use crate::driver::services::Services;

/// What is to be made.
pub(super) struct Job {
    pub place: Place,
    pub what: What,
}

pub(super) enum What {
    /// What is the same in all states; `destination` if it was chosen before.
    Constants { destination: Option<ScriptBuf> },
    /// `secrets` are those that are known; others are read from the store.
    Backups { destination: ScriptBuf, work: Work, secrets: Secrets },
}

/// With what the peer has revoked states.
pub(super) type Secrets = BTreeMap<CommitmentNumber, PerCommitmentSecret>;

/// Jobs that are taken at a time.
const TURN: usize = 256;

/// Channels whose terms are remembered, some 2 kB each.
const KNOWN_CHANNELS: usize = 10_000;

/// Makes what comes until nothing can come any more.
pub(super) async fn run(
    services: Arc<Services>,
    tower: PublicKey,
    signed: Arc<SignedStates>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    mailbox: mpsc::UnboundedSender<Command>,
) {
    let mut workshop = Workshop { services, tower, signed, known: BTreeMap::new() };
    let mut some = Vec::new();
    while jobs.recv_many(&mut some, TURN).await > 0 {
        let (mailbox, batch) = (mailbox.clone(), std::mem::take(&mut some));
        let made = tokio::task::spawn_blocking(move || {
            for job in batch {
                workshop.make(job, &mut |event| drop(mailbox.send(Command::Event(event))));
            }
            workshop
        });
        workshop = match made.await {
            Ok(workshop) => workshop,
            Err(_) => return,
        };
    }
}

struct Workshop {
    services: Arc<Services>,
    tower: PublicKey,
    signed: Arc<SignedStates>,
    known: BTreeMap<ChannelId, Arc<Known>>,
}

/// What never changes of a channel.
struct Known {
    terms: Terms,
    signer: Arc<dyn Signer + Send + Sync>,
}

impl Workshop {
    fn make(&mut self, job: Job, give: &mut dyn FnMut(Event)) {
        let Place { tower, channel, session, .. } = job.place;
        if let Err(why) = self.try_make(job, give) {
            give(Event::NotPrepared { tower, channel, session, why });
        }
    }

    fn try_make(&mut self, job: Job, give: &mut dyn FnMut(Event)) -> Result<(), String> {
        let Job { place, what } = job;
        let Place { tower, channel, session, sweep_feerate, .. } = place;
        let known = self.known(&channel)?;
        let services = &self.services;
        let secret = services.keys.secret(&self.tower);
        let signer: &dyn ClaimSigner = known.signer.as_ref();
        let revocation = match place.mode {
            Mode::Blind => None,
            Mode::Own => Some(RevocationSecret(known.signer.release_revocation_secret())),
        };
        let keys = match &revocation {
            None => MakerKeys::Blind { secret: &secret, signer },
            Some(revocation) => MakerKeys::Own { revocation },
        };
        let words = |error: &dyn std::fmt::Display| error.to_string();
        match what {
            What::Constants { destination } => {
                let destination = destination.unwrap_or_else(|| services.destination(&known.terms));
                let maker = Maker { place, terms: &known.terms, destination: &destination, sweep_feerate, keys };
                let constants = maker.constants().map_err(|error| words(&error))?;
                give(Event::Described { tower, channel, session, destination, constants });
            }
            What::Backups { destination, work: Work::States { numbers, first }, secrets } => {
                let maker = Maker { place, terms: &known.terms, destination: &destination, sweep_feerate, keys };
                let mut past = None;
                for number in numbers.start().0..=numbers.end().0 {
                    let number = CommitmentNumber(number);
                    let revealed = match secrets.get(&number) {
                        Some(secret) => Some(*secret),
                        None if past.is_some() => past.as_ref().and_then(|past: &RevokedPast| past.secrets.get(number)),
                        None => {
                            past = read(services, &channel)?.revoked_past();
                            past.as_ref().and_then(|past| past.secrets.get(number))
                        }
                    };
                    let backup = state(services, &self.signed, &maker, number, revealed, first)?;
                    give(Event::Prepared { tower, channel, session, backup: Box::new(backup) });
                }
            }
            What::Backups { destination, work: Work::Past, secrets: _ } => {
                let maker = Maker { place, terms: &known.terms, destination: &destination, sweep_feerate, keys };
                let past = read(services, &channel)?.revoked_past().ok_or("the peer has revoked nothing yet")?;
                let retired = services.retired_htlcs(&channel).map_err(|error| words(&error))?;
                for backup in maker.past(&past, retired).map_err(|error| words(&error))? {
                    give(Event::Prepared { tower, channel, session, backup: Box::new(backup) });
                }
            }
        }
        Ok(())
    }

    fn known(&mut self, id: &ChannelId) -> Result<Arc<Known>, String> {
        if let Some(known) = self.known.get(id) {
            return Ok(Arc::clone(known));
        }
        let channel = read(&self.services, id)?;
        let terms = channel.terms().cloned().ok_or("the channel is not established yet")?;
        let signer = self.services.signer(&terms.keys_id).ok_or("the channel's keys cannot be made")?;
        if self.known.len() >= KNOWN_CHANNELS {
            self.known.clear();
        }
        let known = Arc::new(Known { terms, signer });
        self.known.insert(*id, Arc::clone(&known));
        Ok(known)
    }
}

/// The channel as it is stored: at least what was committed before the job was handed over.
fn read(services: &Services, id: &ChannelId) -> Result<Channel, String> {
    let channel = services.stored_channel(id).map_err(|error| error.to_string())?;
    channel.ok_or_else(|| "the channel is not stored any more".to_owned())
}

fn state(
    services: &Services,
    signed: &SignedStates,
    maker: &Maker<'_>,
    number: CommitmentNumber,
    secret: Option<PerCommitmentSecret>,
    first: CommitmentNumber,
) -> Result<Backup, String> {
    let channel = maker.place.channel;
    let lacks = |what: &str| format!("{what} of state {} is not stored", number.0);
    let words = |error: BuildError| error.to_string();
    let row = services.store.core_record(&Key::TowerBackup { channel, number }.encode());
    let row = row.map_err(|error| error.to_string())?.ok_or_else(|| lacks("the content"))?;
    let state = decode_revoked(&row).map_err(|error| error.to_string())?;
    let secret = secret.ok_or_else(|| lacks("the peer's secret"))?;
    match maker.place.mode {
        Mode::Blind => {
            let (sweep_feerate, destination) = (maker.sweep_feerate, maker.destination.clone());
            let wanted = SignedFor { channel, number, sweep_feerate, destination };
            let signed = signed.get_or_sign(wanted, state.htlcs.len(), || maker.sign(&state, secret).map_err(words))?;
            maker.seal(&signed).map_err(words)
        }
        Mode::Own => maker.state(&state, secret, first).map_err(words),
    }
}
