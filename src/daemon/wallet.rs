//! Making and opening the wallet: of the first network, and with it that of the second.
//!
//! ```text
//!   words, password ─► wallet.seed of the first ─► its node ─┐
//!                  └─► wallet.seed of the second, whose keys follow by the chain ─► its node
//! ```
//!
//! Promises: both networks have the same words and the same password, and no key in common; each can be opened alone, too, by a
//! daemon that is started on it alone. A wallet that lies there already and does not fit is refused by name, before anything is made.

use std::{net::IpAddr, path::PathBuf};

use tracing::info;

use super::{LeydenDaemon, Place};
use crate::{
    api::{ApiError, Backups as _, InitWallet, UnlockWallet, WalletState},
    driver::runtime::RestoreOnPruned,
    macaroon,
    wallet::{
        backup::BackupSeal,
        seed::{self, KeyScheme, Seed, SeedError},
    },
};

/// Whether macaroons are left in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MacaroonFiles {
    /// As the wallet was made, or opened last: they are, unless somebody has wanted none.
    AsBefore,
    /// Never from now on.
    None,
    /// Those of the first network open this one too.
    OfFirst,
}

impl MacaroonFiles {
    pub(super) fn of(stateless: bool) -> Self {
        if stateless { Self::None } else { Self::AsBefore }
    }
}

impl LeydenDaemon {
    pub(super) async fn make_wallet(&self, request: InitWallet) -> Result<Vec<u8>, ApiError> {
        self.refuse_without_wallet()?;
        self.refuse_on_second()?;
        let path = self.seed_path();
        // Where it lies is not for everybody who asks.
        let there_is_one = || ApiError::exists("a wallet exists already; it is never overwritten");
        if seed::exists(&path) {
            return Err(there_is_one());
        }
        let _opening = self.opening.lock().await;
        if seed::exists(&path) {
            return Err(there_is_one());
        }
        let scheme = request.keys.unwrap_or_else(|| KeyScheme::usual(self.node.params()));
        let seed = Seed::from_words(&request.words, &request.passphrase).map_err(seed_error)?.with_scheme(scheme);
        let pruned = |daemon: &Self| {
            RestoreOnPruned::check(&daemon.node).map_err(|error| ApiError::precondition(error.to_string()))
        };
        if request.recovery_window.is_some() || !request.backups.is_empty() {
            pruned(self)?;
        }
        if let Some(second) = self.second().filter(|_| request.recovery_window.is_some()) {
            pruned(second).map_err(|error| second.named(error))?;
        }
        let password = password_text(&request.password)?;
        self.check_backups(&seed, &request.backups)?;
        if let Some(second) = self.second() {
            second.beside(&seed, Some(password.clone())).await.map_err(|error| second.named(error))?;
        }
        save(path, seed.clone(), Some(password.clone())).await?;
        self.open(&seed, request.recovery_window, MacaroonFiles::of(request.stateless)).await?;
        if let Err(error) = self.open_second(&seed, Some(password), request.recovery_window).await {
            // Whoever asked has to be told the words, and they are told if this succeeds. The process ends.
            let _ = self.fatal.send(error.to_string());
        }
        self.take_back(request.backups).await?;
        Ok(self.root_key.bake(macaroon::ADMIN, rand::random()).to_bytes())
    }

    pub(super) async fn unlock(&self, request: UnlockWallet, from: Option<IpAddr>) -> Result<(), ApiError> {
        self.refuse_without_wallet()?;
        self.refuse_on_second()?;
        self.refuse_if_open()?;
        let path = self.seed_path();
        if !seed::exists(&path) {
            return Err(ApiError::precondition("there is no wallet yet: create one with `leyden create`"));
        }
        let password = password_text(&request.password)?;
        let attempt = self.passwords.begin(from)?;
        let _opening = self.opening.lock().await;
        self.refuse_if_open()?;
        let tried = password.clone();
        let loaded = tokio::task::spawn_blocking(move || seed::load(&path, Some(&tried)))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let seed = match loaded {
            Ok(seed) => {
                attempt.was_right();
                seed
            }
            Err(error) => {
                if matches!(error, SeedError::WrongPassword) {
                    attempt.was_wrong();
                }
                return Err(seed_error(error));
            }
        };
        // It may be the second's wallet alone that could not be opened before.
        if self.running().is_none() {
            self.open(&seed, request.recovery_window, MacaroonFiles::of(request.stateless)).await?;
        }
        self.take_back(request.backups).await?;
        self.open_second(&seed, Some(password), request.recovery_window).await
    }

    /// What needs no person: a wallet without a password, or one whose password lies in a file.
    pub(super) async fn open_unattended(&self) -> Result<(), ApiError> {
        if self.is_alone_tower() {
            self.state.send_replace(WalletState::ServerActive);
            return Ok(());
        }
        let path = self.seed_path();
        let password = match &self.config.wallet_password_file {
            Some(file) => Some(read_password(file)?),
            None => None,
        };
        if !seed::exists(&path) {
            if !self.config.no_wallet_password && password.is_none() {
                info!("there is no wallet yet: create one with `leyden create`");
                return Ok(());
            }
            let (new, password) = (self.new_seed(), password.clone().filter(|_| !self.config.no_wallet_password));
            if password.is_none() {
                tracing::warn!(
                    "making a wallet without a password: its seed lies readable on the disk. Use it for demonstrations only"
                );
            } else {
                tracing::warn!(
                    wallet = %path.display(),
                    "making a wallet whose 24 words nobody has seen: if this disk is lost, its money is lost. To have the \
                     words, begin with an empty data directory, without --wallet-password-file, and run `leyden create`"
                );
            }
            if let Some(second) = self.second() {
                second.beside(&new, password.clone()).await.map_err(|error| second.named(error))?;
            }
            save(path.clone(), new, password).await?;
        }
        if password.is_none() && seed::is_locked(&path).map_err(seed_error)? {
            info!("the wallet is locked: unlock it with `leyden unlock`");
            return Ok(());
        }
        let _opening = self.opening.lock().await;
        let seed = load(path.clone(), password.clone()).await?;
        self.open(&seed, None, MacaroonFiles::AsBefore).await?;
        let password = password.filter(|_| seed::is_locked(&path).unwrap_or(true));
        self.open_second(&seed, password, None).await
    }

    /// Opens the wallet of the second network, which is made if there is none, beside that of the first.
    pub(super) async fn open_second(
        &self,
        first: &Seed,
        password: Option<String>,
        window: Option<u32>,
    ) -> Result<(), ApiError> {
        let Some(second) = self.second().filter(|second| second.running().is_none()) else { return Ok(()) };
        let opened = async {
            let path = second.seed_path();
            let is_new = !seed::exists(&path);
            let seed = second.beside(first, password.clone()).await?;
            if is_new {
                save(path, seed.clone(), password).await?;
            } else {
                settle(path, password).await?;
            }
            second.open(&seed, window, MacaroonFiles::OfFirst).await
        };
        opened.await.map_err(|error| second.named(error))
    }

    /// The words of this network's wallet beside those of the first: as they lie there, if they fit, or as they would be.
    async fn beside(&self, first: &Seed, password: Option<String>) -> Result<Seed, ApiError> {
        let path = self.seed_path();
        if !seed::exists(&path) {
            return Ok(first.clone().with_scheme(KeyScheme::Chain));
        }
        let own = load_beside(path, password).await?;
        if !own.has_words_of(first) {
            return Err(ApiError::precondition(
                "there is a wallet of other words in this data directory, and --also opens both networks with the same: run this \
                 network with a data directory of its own, and --swap-with between the two",
            ));
        }
        match (first.scheme(), own.scheme()) {
            (KeyScheme::Coin, KeyScheme::Coin) => Err(ApiError::precondition(
                "this wallet and that of the first network are of the same words, and were made when all chains had the same keys \
                 of them: with --also they would share their node id, channel keys and addresses. Move what it holds to a new \
                 wallet (another data directory), or run this network with a data directory of its own, and --swap-with between \
                 the two",
            )),
            (KeyScheme::Coin | KeyScheme::Chain, KeyScheme::Chain) | (KeyScheme::Chain, KeyScheme::Coin) => Ok(own),
        }
    }

    fn new_seed(&self) -> Seed {
        Seed::generate("").with_scheme(KeyScheme::usual(self.node.params()))
    }

    /// Whether backups can be opened with these words: what cannot must not come to light when the wallet is there.
    fn check_backups(&self, seed: &Seed, backups: &[Vec<u8>]) -> Result<(), ApiError> {
        let genesis = self.node.params().genesis_hash;
        let opens = |seed: &Seed, sealed: &Vec<u8>| BackupSeal::new(&self.keys(seed), genesis).open(sealed).map(drop);
        for sealed in backups {
            let Err(error) = opens(seed, sealed) else { continue };
            let other = seed.scheme().other();
            if opens(&seed.clone().with_scheme(other), sealed).is_ok() {
                return Err(ApiError::precondition(format!(
                    "this channel backup is of the same words, but of a wallet whose keys follow otherwise: restore it with \
                     `leyden create --restore --keys {}`",
                    other.name()
                )));
            }
            if let Some(second) = self.second()
                && second.opens_beside(seed, sealed)
            {
                let name = &second.config.params.name;
                return Err(ApiError::precondition(format!(
                    "this is the channel backup of {name}: make the wallet without it, and give it to `leyden --network {name} \
                     restorechanbackup` then"
                )));
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Whether a backup is of this network's wallet, as it would be beside that of the first.
    fn opens_beside(&self, first: &Seed, sealed: &[u8]) -> bool {
        let keys = self.keys(&first.clone().with_scheme(KeyScheme::Chain));
        BackupSeal::new(&keys, self.node.params().genesis_hash).open(sealed).is_ok()
    }

    /// Channels of which only a backup is left.
    async fn take_back(&self, backups: Vec<Vec<u8>>) -> Result<(), ApiError> {
        match self.running() {
            Some(lightning) if !backups.is_empty() => lightning.restore_backups(backups).await.map(drop),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn refuse_if_open(&self) -> Result<(), ApiError> {
        let second_is_open = self.second().is_none_or(|second| second.running().is_some());
        if self.running().is_none() || !second_is_open {
            return Ok(());
        }
        Err(ApiError::exists(
            "wallet already unlocked, WalletUnlocker service is no longer available: there is nothing to do",
        ))
    }

    pub(super) fn refuse_on_second(&self) -> Result<(), ApiError> {
        match self.place {
            Place::First(_) => Ok(()),
            Place::Second => Err(ApiError::precondition(format!(
                "the wallet of {} is made and opened with that of the first network: leave --network {} (the metadata `network`) out",
                self.config.params.name, self.config.params.name
            ))),
        }
    }

    pub(super) fn refuse_without_wallet(&self) -> Result<(), ApiError> {
        if self.is_alone_tower() {
            return Err(ApiError::precondition(
                "this leydend is a watchtower alone and opens no wallet: start it without --tower-only, or with --tower",
            ));
        }
        Ok(())
    }

    /// What went wrong, with the name of this network.
    fn named(&self, error: ApiError) -> ApiError {
        let name = &self.config.params.name;
        let named = |text: String| format!("network {name}: {text}");
        match error {
            ApiError::InvalidArgument(text) => ApiError::InvalidArgument(named(text)),
            ApiError::FailedPrecondition(text) => ApiError::FailedPrecondition(named(text)),
            ApiError::NotFound(text) => ApiError::NotFound(named(text)),
            ApiError::AlreadyExists(text) => ApiError::AlreadyExists(named(text)),
            ApiError::Unavailable(text) => ApiError::Unavailable(named(text)),
            ApiError::NoRoute(text) => ApiError::NoRoute(named(text)),
            ApiError::Internal(text) => ApiError::Internal(named(text)),
        }
    }
}

/// Deriving the key takes a second on purpose, so not on an async thread.
async fn load_here(path: PathBuf, password: Option<String>) -> Result<Result<Seed, SeedError>, ApiError> {
    tokio::task::spawn_blocking(move || seed::load(&path, password.as_deref()))
        .await
        .map_err(|error| ApiError::internal(error.to_string()))
}

async fn load(path: PathBuf, password: Option<String>) -> Result<Seed, ApiError> {
    load_here(path, password).await?.map_err(seed_error)
}

/// Of a change of passwords that a crash has cut short one password is left.
async fn settle(path: PathBuf, password: Option<String>) -> Result<(), ApiError> {
    tokio::task::spawn_blocking(move || seed::settle(&path, password.as_deref()))
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
        .map_err(seed_error)
}

/// A wallet that should open with the password of another one.
async fn load_beside(path: PathBuf, password: Option<String>) -> Result<Seed, ApiError> {
    load_here(path, password).await?.map_err(|error| match error {
        SeedError::WrongPassword => ApiError::precondition(
            "its wallet has another password than that of the first network, and stays closed: one of them was changed while it \
             was opened alone. `leyden changepassword`, from the password of the first to that of this one, gives both the same \
             and opens both; if leydend has ended, start it without --wallet-password-file for that",
        ),
        error => seed_error(error),
    })
}

async fn save(path: PathBuf, seed: Seed, password: Option<String>) -> Result<(), ApiError> {
    tokio::task::spawn_blocking(move || seed::save(&path, &seed, password.as_deref()))
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
        .map_err(seed_error)
}

fn read_password(file: &PathBuf) -> Result<String, ApiError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| ApiError::precondition(format!("the password file {}: {error}", file.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

pub(super) fn seed_error(error: SeedError) -> ApiError {
    match error {
        SeedError::WordCount { .. }
        | SeedError::BadWords(_)
        | SeedError::PasswordTooShort
        | SeedError::WrongPassword => ApiError::invalid(error.to_string()),
        SeedError::PasswordNeeded => ApiError::precondition(error.to_string()),
        SeedError::Exists(_) => ApiError::exists(error.to_string()),
        SeedError::Newer { .. } | SeedError::Damaged { .. } | SeedError::Io { .. } => {
            ApiError::internal(error.to_string())
        }
    }
}

pub(super) fn password_text(password: &[u8]) -> Result<String, ApiError> {
    String::from_utf8(password.to_vec()).map_err(|_| ApiError::invalid("the password is not text"))
}
