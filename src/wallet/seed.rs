//! The one secret of a node: 24 BIP 39 words, and the file that keeps them.
//!
//! ```text
//!   24 words ⇄ 32 bytes of entropy ──(argon2id of the password → ChaCha20-Poly1305)── wallet.seed
//! ```
//!
//! The file is written whole, and another seed never takes its place; another password puts a whole new file there. A wrong
//! password changes nothing. It says, too, by which [`KeyScheme`] keys follow from the words: a wallet keeps the keys that it
//! was made with.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use argon2::Argon2;
use bip39::{Language, Mnemonic};
use bitcoin::{BlockHash, NetworkKind, bip32::Xpriv};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
use leyden_common::files::write_new;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use super::key_scheme::{KeyScheme, UnknownScheme};

/// The smallest password that is accepted, in characters; LND's clients know the same bound.
pub const MIN_PASSWORD: usize = 8;

/// Files of wallets whose keys follow by coin types say the first version, as always: programs before the second read them.
const COIN_VERSION: u32 = 1;
const VERSION: u32 = 2;
const ENTROPY: usize = 32;

/// Why a seed cannot be made, read or stored.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum SeedError {
    #[error("the seed has 24 words, but {got} were given")]
    WordCount { got: usize },
    #[error("these are not 24 words of a BIP 39 seed: {0}. Check the spelling and the order")]
    BadWords(bip39::Error),
    #[error("the password needs at least {MIN_PASSWORD} characters")]
    PasswordTooShort,
    #[error("invalid passphrase for master public key: wrong password; nothing was changed, try again")]
    WrongPassword,
    #[error("this wallet is locked with a password: give one with --wallet-password-file or run `leyden unlock`")]
    PasswordNeeded,
    #[error("a wallet exists already at {0}; it is never overwritten")]
    Exists(PathBuf),
    #[error(
        "{path} was written by a newer version (format {found}, this program knows {VERSION}); use a newer leydend"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error("{path} is damaged ({what}); restore the wallet from its 24 words with `leyden create`")]
    Damaged { path: PathBuf, what: &'static str },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// The entropy behind the 24 words, the optional BIP 39 passphrase, and how keys follow from them.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    entropy: Zeroizing<[u8; ENTROPY]>,
    passphrase: Zeroizing<String>,
    scheme: KeyScheme,
}

impl Seed {
    /// The seed of this entropy, with keys by coin types.
    pub fn from_entropy(entropy: [u8; ENTROPY], passphrase: &str) -> Self {
        Self {
            entropy: Zeroizing::new(entropy),
            passphrase: Zeroizing::new(passphrase.to_owned()),
            scheme: KeyScheme::Coin,
        }
    }

    /// The same words, with keys that follow by this scheme.
    pub fn with_scheme(self, scheme: KeyScheme) -> Self {
        Self { scheme, ..self }
    }

    /// How keys follow from the words.
    pub fn scheme(&self) -> KeyScheme {
        self.scheme
    }

    /// Whether the words and the passphrase are the same, whatever follows from them.
    pub fn has_words_of(&self, other: &Self) -> bool {
        self.entropy == other.entropy && self.passphrase == other.passphrase
    }

    /// Fresh entropy from the operating system.
    pub fn generate(passphrase: &str) -> Self {
        Self::from_entropy(rand::random(), passphrase)
    }

    /// The seed of these 24 words.
    pub fn from_words(words: &[String], passphrase: &str) -> Result<Self, SeedError> {
        let words: Vec<&str> = words.iter().flat_map(|word| word.split_whitespace()).collect();
        if words.len() != 24 {
            return Err(SeedError::WordCount { got: words.len() });
        }
        let text = Zeroizing::new(words.join(" ").to_lowercase());
        let mnemonic = Mnemonic::parse_in(Language::English, text.as_str()).map_err(SeedError::BadWords)?;
        let (entropy, _) = mnemonic.to_entropy_array();
        let entropy = entropy[..ENTROPY].try_into().map_err(|_| SeedError::WordCount { got: words.len() })?;
        Ok(Self::from_entropy(entropy, passphrase))
    }

    /// The 24 words that it is written down as.
    pub fn words(&self) -> Vec<String> {
        self.mnemonic().words().map(str::to_owned).collect()
    }

    /// The BIP 32 root key of this wallet on the chain with this genesis block.
    pub fn root_key(&self, network: NetworkKind, genesis: &BlockHash) -> Xpriv {
        let seed = Zeroizing::new(self.mnemonic().to_seed(self.passphrase.as_str()));
        let seed = self.scheme.root(seed, genesis);
        // BIP 32 rejects a seed only with a probability below 2^-127.
        Xpriv::new_master(network, seed.as_slice()).unwrap_or_else(|_| unreachable!("a 64-byte seed has a root key"))
    }

    fn mnemonic(&self) -> Mnemonic {
        Mnemonic::from_entropy(self.entropy.as_slice())
            .unwrap_or_else(|_| unreachable!("32 bytes are 24 words by definition"))
    }
}

/// `wallet.seed`: what is in it says how it was made, so that parameters can grow later.
#[derive(Serialize, Deserialize)]
struct SeedFile {
    version: u32,
    /// As of version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<KeyScheme>,
    /// `None`: the wallet was made without a password.
    lock: Option<Lock>,
    /// Hex of entropy and passphrase, sealed if there is a lock.
    secret: String,
}

#[derive(Serialize, Deserialize)]
struct Lock {
    memory_kib: u32,
    passes: u32,
    salt: String,
}

/// Whether a wallet was made in this place.
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// Whether the wallet at `path` needs a password.
pub fn is_locked(path: &Path) -> Result<bool, SeedError> {
    Ok(read(path)?.lock.is_some())
}

/// Writes the seed; `password` of `None` leaves it readable to everybody who can read the file.
pub fn save(path: &Path, seed: &Seed, password: Option<&str>) -> Result<(), SeedError> {
    if password.is_some_and(|password| password.chars().count() < MIN_PASSWORD) {
        return Err(SeedError::PasswordTooShort);
    }
    if exists(path) {
        return Err(SeedError::Exists(path.to_owned()));
    }
    write(path, &sealed(path, seed, password)?)
}

/// Puts the seed under another password and gives it back. A crash leaves the file with the old password or with the new one.
pub fn change_password(path: &Path, old: &str, new: &str) -> Result<Seed, SeedError> {
    let (seed, file) = under_another(path, old, new)?;
    write(path, &file)?;
    Ok(seed)
}

/// Writes the seed under another password beside its file, which stays as it is: from now on [`load`] takes either password, until
/// [`settle`] leaves one.
pub fn prepare_password(path: &Path, old: &str, new: &str) -> Result<(), SeedError> {
    let (_, file) = under_another(path, old, new)?;
    write(&prepared(path), &file)
}

/// Leaves one file, the one that this password opens.
pub fn settle(path: &Path, password: Option<&str>) -> Result<(), SeedError> {
    let prepared = prepared(path);
    if !prepared.exists() {
        return Ok(());
    }
    let changed = match open(path, &read(path)?, password) {
        Ok(_) => fs::remove_file(&prepared),
        Err(SeedError::WrongPassword) => {
            open(&prepared, &read(&prepared)?, password)?;
            fs::rename(&prepared, path)
        }
        Err(error) => return Err(error),
    };
    changed.map_err(|source| SeedError::Io { path: prepared, source })
}

/// Where another password's file waits until the wallet of another network has that password, too.
fn prepared(path: &Path) -> PathBuf {
    path.with_extension("seed.next")
}

fn under_another(path: &Path, old: &str, new: &str) -> Result<(Seed, SeedFile), SeedError> {
    if new.chars().count() < MIN_PASSWORD {
        return Err(SeedError::PasswordTooShort);
    }
    let seed = load(path, Some(old))?;
    let file = sealed(path, &seed, Some(new))?;
    // What could not be opened again must not take the place of what can.
    if open(path, &file, Some(new))? != seed {
        return Err(SeedError::Damaged { path: path.to_owned(), what: "it does not come back under the new password" });
    }
    Ok((seed, file))
}

fn sealed(path: &Path, seed: &Seed, password: Option<&str>) -> Result<SeedFile, SeedError> {
    let mut secret = Zeroizing::new(seed.entropy.to_vec());
    secret.extend_from_slice(seed.passphrase.as_bytes());
    let (version, keys) = match seed.scheme {
        KeyScheme::Coin => (COIN_VERSION, None),
        KeyScheme::Chain => (VERSION, Some(seed.scheme)),
    };
    Ok(match password {
        None => SeedFile { version, keys, lock: None, secret: hex::encode(secret.as_slice()) },
        Some(password) => {
            let salt: [u8; 16] = rand::random();
            let lock = Lock { memory_kib: 64 * 1024, passes: 3, salt: hex::encode(salt) };
            let cipher = cipher(path, password, &lock)?;
            // The key is used once: its salt is fresh, so a constant nonce is safe.
            let sealed = cipher
                .encrypt(&[0; 12].into(), secret.as_slice())
                .map_err(|_| SeedError::Damaged { path: path.to_owned(), what: "it cannot be sealed" })?;
            SeedFile { version, keys, lock: Some(lock), secret: hex::encode(sealed) }
        }
    })
}

fn write(path: &Path, file: &SeedFile) -> Result<(), SeedError> {
    let text = serde_json::to_vec_pretty(file)
        .map_err(|_| SeedError::Damaged { path: path.to_owned(), what: "it cannot be encoded" })?;
    write_new(path, &text).map_err(|source| SeedError::Io { path: path.to_owned(), source })
}

/// Reads the seed back.
pub fn load(path: &Path, password: Option<&str>) -> Result<Seed, SeedError> {
    let prepared = prepared(path);
    match open(path, &read(path)?, password) {
        Err(SeedError::WrongPassword) if prepared.exists() => open(&prepared, &read(&prepared)?, password),
        opened => opened,
    }
}

fn open(path: &Path, file: &SeedFile, password: Option<&str>) -> Result<Seed, SeedError> {
    let damaged = |what| SeedError::Damaged { path: path.to_owned(), what };
    let scheme = match (file.version, file.keys) {
        (..=COIN_VERSION, None) => KeyScheme::Coin,
        (VERSION.., Some(scheme)) => scheme,
        (_, None | Some(_)) => return Err(damaged("it does not say how its keys follow from the words")),
    };
    let secret = hex::decode(&file.secret).map_err(|_| damaged("the secret is not hex"))?;
    let secret = Zeroizing::new(match (&file.lock, password) {
        (None, _) => secret,
        (Some(_), None) => return Err(SeedError::PasswordNeeded),
        (Some(lock), Some(password)) => cipher(path, password, lock)?
            .decrypt(&[0; 12].into(), secret.as_slice())
            .map_err(|_| SeedError::WrongPassword)?,
    });
    let (entropy, passphrase) = secret.split_first_chunk().ok_or_else(|| damaged("the secret is too short"))?;
    let passphrase = std::str::from_utf8(passphrase).map_err(|_| damaged("the passphrase is not text"))?;
    Ok(Seed::from_entropy(*entropy, passphrase).with_scheme(scheme))
}

fn read(path: &Path) -> Result<SeedFile, SeedError> {
    let text = fs::read(path).map_err(|source| SeedError::Io { path: path.to_owned(), source })?;
    let file: SeedFile = serde_json::from_slice(&text)
        .map_err(|_| SeedError::Damaged { path: path.to_owned(), what: "it is not a wallet file" })?;
    if file.version > VERSION {
        return Err(SeedError::Newer { path: path.to_owned(), found: file.version });
    }
    Ok(file)
}

fn cipher(path: &Path, password: &str, lock: &Lock) -> Result<ChaCha20Poly1305, SeedError> {
    let damaged = |what| SeedError::Damaged { path: path.to_owned(), what };
    let salt = hex::decode(&lock.salt).map_err(|_| damaged("the salt is not hex"))?;
    let params = argon2::Params::new(lock.memory_kib, lock.passes, 1, Some(32))
        .map_err(|_| damaged("the lock's parameters are out of range"))?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(password.as_bytes(), &salt, key.as_mut_slice())
        .map_err(|_| damaged("the salt is too short"))?;
    Ok(ChaCha20Poly1305::new((&*key).into()))
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn seed() -> Seed {
        Seed::from_entropy([7; 32], "extra words")
    }

    fn root(seed: &Seed) -> Xpriv {
        seed.root_key(NetworkKind::Test, &BlockHash::all_zeros())
    }

    #[test]
    fn words_restore_the_same_seed() {
        let restored = Seed::from_words(&seed().words(), "extra words").unwrap();
        assert!(restored == seed());
        assert_eq!(root(&restored), root(&seed()));
    }

    #[test]
    fn a_passphrase_gives_other_keys() {
        let other = Seed::from_entropy([7; 32], "");
        assert_ne!(root(&other), root(&seed()));
    }

    #[test]
    fn a_mistyped_word_is_refused() {
        let mut words = seed().words();
        words[3] = "leyden".into();
        assert!(matches!(Seed::from_words(&words, ""), Err(SeedError::BadWords(_))));
        assert!(matches!(Seed::from_words(&words[..23], ""), Err(SeedError::WordCount { got: 23 })));
    }

    #[test]
    fn wrong_password_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.seed");
        save(&path, &seed(), Some("correct horse")).unwrap();
        assert!(is_locked(&path).unwrap());
        assert!(matches!(load(&path, Some("battery staple")), Err(SeedError::WrongPassword)));
        assert!(matches!(load(&path, None), Err(SeedError::PasswordNeeded)));
        assert!(load(&path, Some("correct horse")).unwrap() == seed());
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex::encode([7; 32])), "the seed is not readable in the file");
    }

    #[test]
    fn another_password_opens_the_same_seed_and_the_old_one_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.seed");
        save(&path, &seed(), Some("correct horse")).unwrap();
        let before = fs::read(&path).unwrap();
        let wrong = change_password(&path, "battery staple", "a new password");
        assert!(matches!(wrong, Err(SeedError::WrongPassword)));
        let short = change_password(&path, "correct horse", "1234567");
        assert!(matches!(short, Err(SeedError::PasswordTooShort)));
        assert_eq!(fs::read(&path).unwrap(), before, "neither has changed anything");
        // What a crash has left of an earlier change is in nobody's way.
        fs::write(folder.path().join("wallet.seed.new"), "half of a f").unwrap();
        assert!(change_password(&path, "correct horse", "a new password").unwrap() == seed());
        assert!(load(&path, Some("a new password")).unwrap() == seed());
        assert!(matches!(load(&path, Some("correct horse")), Err(SeedError::WrongPassword)));
    }

    #[test]
    fn until_it_is_settled_a_prepared_password_opens_the_seed_as_the_old_one_does() {
        for (kept, other) in [("correct horse", "a new password"), ("a new password", "correct horse")] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("wallet.seed");
            save(&path, &seed(), Some("correct horse")).unwrap();
            prepare_password(&path, "correct horse", "a new password").unwrap();
            for password in ["correct horse", "a new password"] {
                assert!(load(&path, Some(password)).unwrap() == seed());
            }
            assert!(matches!(settle(&path, Some("battery staple")), Err(SeedError::WrongPassword)));
            for _ in 0..2 {
                settle(&path, Some(kept)).unwrap();
                assert!(load(&path, Some(kept)).unwrap() == seed());
                assert!(matches!(load(&path, Some(other)), Err(SeedError::WrongPassword)));
            }
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing lies about");
        }
    }

    #[test]
    fn a_seed_without_a_password_can_be_given_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.seed");
        save(&path, &seed(), None).unwrap();
        assert!(change_password(&path, "", "a new password").unwrap() == seed());
        assert!(matches!(load(&path, None), Err(SeedError::PasswordNeeded)));
    }

    #[test]
    fn a_wallet_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.seed");
        save(&path, &seed(), None).unwrap();
        let other = Seed::from_entropy([9; 32], "");
        assert!(matches!(save(&path, &other, None), Err(SeedError::Exists(_))));
        assert!(load(&path, None).unwrap() == seed());
    }

    #[test]
    fn an_old_file_keeps_its_keys_and_a_new_one_says_how_they_follow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.seed");
        // As every version wrote it before there were two schemes.
        let secret = hex::encode([vec![7; 32], b"extra words".to_vec()].concat());
        fs::write(&path, format!(r#"{{"version":1,"lock":null,"secret":"{secret}"}}"#)).unwrap();
        let old = load(&path, None).unwrap();
        assert!(old == seed() && old.scheme() == KeyScheme::Coin);

        for (name, password) in [("open", None), ("locked", Some("correct horse"))] {
            let path = folder.path().join(name);
            let new = seed().with_scheme(KeyScheme::Chain);
            save(&path, &new, password).unwrap();
            let loaded = load(&path, password).unwrap();
            assert!(loaded == new && loaded != old && loaded.has_words_of(&old));
            assert_eq!(read(&path).unwrap().version, 2, "a program that knows one scheme alone must not open it");
        }
    }

    #[test]
    fn what_keys_a_file_has_is_never_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.seed");
        let secret = hex::encode([7; 32]);
        for wrong in [r#""version":2"#, r#""version":1,"keys":"chain""#, r#""version":2,"keys":"moon""#] {
            fs::write(&path, format!(r#"{{{wrong},"lock":null,"secret":"{secret}"}}"#)).unwrap();
            assert!(matches!(load(&path, None), Err(SeedError::Damaged { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_newer_or_damaged_file_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.seed");
        fs::write(&path, r#"{"version":9,"lock":null,"secret":""}"#).unwrap();
        assert!(matches!(load(&path, None), Err(SeedError::Newer { found: 9, .. })));
        fs::write(&path, "not json").unwrap();
        assert!(matches!(load(&path, None), Err(SeedError::Damaged { .. })));
    }

    #[test]
    fn short_passwords_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.seed");
        assert!(matches!(save(&path, &seed(), Some("1234567")), Err(SeedError::PasswordTooShort)));
        assert!(!exists(&path));
    }
}
