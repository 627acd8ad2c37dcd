//! Macaroons, the bearer tokens of LND's API: who shows one may do what it says.
//!
//! ```text
//!   identifier: 3 │ protobuf { nonce = 1, storageId = 2, ops = 3 { entity = 1, actions = 2 } }
//! ```
//!
//! The token's form is [`Macaroon`]'s; the identifier is LND's, so that its clients can print what a token allows.

mod dates;
mod keys;

use std::{
    collections::HashMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};

use leyden_common::{
    files::write_new,
    macaroon::{Macaroon, Malformed},
};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

pub(crate) use self::dates::time_before;
use self::{dates::rfc3339_seconds, keys::MoreKeys};
use crate::admission::TokenHolder;

const IDENTIFIER_VERSION: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MacaroonError {
    #[error(
        "no macaroon was sent. `leyden` reads it from the data directory (--data-dir, --network), where it lies once the \
         wallet is made: make it with `leyden create`. A watchtower alone (`leydend --tower-only`) needs no wallet. Other \
         clients send the macaroon's hex in the metadata key `macaroon`"
    )]
    Missing,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("this macaroon was not made by this node, or was changed; use the files in its data directory")]
    WrongSignature,
    #[error("this macaroon has a restriction that is not understood: {0}")]
    UnknownCaveat(String),
    #[error("this macaroon expired")]
    Expired,
    #[error("this macaroon may be used from {allowed} only")]
    OtherAddress { allowed: String },
    #[error("the key that this macaroon was made with was deleted; ask for a new one")]
    UnknownKey,
    #[error(
        "permission denied: this macaroon does not allow {entity}:{action}; use one that does, such as admin.macaroon"
    )]
    NotAllowed { entity: String, action: String },
}

/// What a call needs, or a token allows: an action (`read`, `write`, `generate`) on an entity (`offchain`, …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permission {
    pub entity: &'static str,
    pub action: &'static str,
}

const fn permission(entity: &'static str, action: &'static str) -> Permission {
    Permission { entity, action }
}

/// Everything; what `admin.macaroon` allows.
pub(crate) const ADMIN: &[Permission] = &[
    permission("onchain", "read"),
    permission("onchain", "write"),
    permission("offchain", "read"),
    permission("offchain", "write"),
    permission("address", "read"),
    permission("address", "write"),
    permission("message", "read"),
    permission("message", "write"),
    permission("peers", "read"),
    permission("peers", "write"),
    permission("info", "read"),
    permission("info", "write"),
    permission("invoices", "read"),
    permission("invoices", "write"),
    permission("signer", "generate"),
    permission("signer", "read"),
    permission("macaroon", "generate"),
    permission("macaroon", "read"),
    permission("macaroon", "write"),
];

/// Looking without touching; `readonly.macaroon`.
pub(crate) const READONLY: &[Permission] = &[
    permission("onchain", "read"),
    permission("offchain", "read"),
    permission("address", "read"),
    permission("message", "read"),
    permission("peers", "read"),
    permission("info", "read"),
    permission("invoices", "read"),
    permission("signer", "read"),
    permission("macaroon", "read"),
];

/// What a shop needs; `invoice.macaroon`.
pub(crate) const INVOICE: &[Permission] = &[
    permission("invoices", "read"),
    permission("invoices", "write"),
    permission("address", "read"),
    permission("address", "write"),
    permission("onchain", "read"),
];

/// What LND's subservers have files for, so that their clients find one: name, and what it allows.
pub(crate) const SUBSERVERS: &[(&str, &[Permission])] = &[
    ("router", &[permission("offchain", "read"), permission("offchain", "write")]),
    ("invoices", &[permission("invoices", "read"), permission("invoices", "write")]),
    (
        "walletkit",
        &[
            permission("onchain", "read"),
            permission("onchain", "write"),
            permission("address", "read"),
            permission("address", "write"),
        ],
    ),
    ("chainnotifier", &[permission("onchain", "read")]),
    ("signer", &[permission("signer", "generate"), permission("signer", "read")]),
];

/// The entity under which a token may name single calls, by their paths.
pub(crate) const URI: &str = "uri";

/// The secrets from which a node's tokens are made.
pub(crate) struct RootKey {
    first: RwLock<[u8; 32]>,
    more: RwLock<MoreKeys>,
    /// Of the keys whose tokens were shown: cancelled when the key is deleted.
    deleted: Mutex<HashMap<u64, CancellationToken>>,
    /// Where the first one and `more` lie; `None`: in memory alone, for tests.
    paths: Option<KeyPaths>,
}

#[derive(Debug)]
struct KeyPaths {
    first: PathBuf,
    more: PathBuf,
}

/// The call that a token is shown for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// `/lnrpc.Lightning/GetInfo`
    pub path: &'a str,
    pub needed: &'a [Permission],
    /// Seconds since 1970.
    pub now: u64,
    /// Where the caller is; `None` if it is not known.
    pub from: Option<IpAddr>,
}

impl RootKey {
    #[cfg(test)]
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { first: RwLock::new(key), more: RwLock::default(), deleted: Mutex::default(), paths: None }
    }

    /// The keys of this data directory; the first is made on first use.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let first = match fs::read(path) {
            Ok(bytes) => bytes.try_into().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is damaged: delete it, and the macaroons, to make new ones", path.display()),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key: [u8; 32] = rand::random();
                write_new(path, &key)?;
                key
            }
            Err(error) => return Err(error),
        };
        let paths = KeyPaths { first: path.to_owned(), more: path.with_extension("keys.json") };
        let more = RwLock::new(MoreKeys::open(&paths.more)?);
        Ok(Self { first: RwLock::new(first), more, deleted: Mutex::default(), paths: Some(paths) })
    }

    /// A token that allows `permissions`, made with the first key.
    pub(crate) fn bake(&self, permissions: &[Permission], nonce: [u8; 16]) -> Macaroon {
        let pairs = permissions.iter().map(|permission| (permission.entity.to_owned(), permission.action.to_owned()));
        bake(&self.first(), 0, pairs, nonce)
    }

    /// A token that allows pairs of entity and action, made with the key of this id, which is made if there is none.
    pub(crate) fn bake_with(
        &self,
        id: u64,
        permissions: impl IntoIterator<Item = (String, String)>,
        nonce: [u8; 16],
    ) -> io::Result<Macaroon> {
        if id == 0 {
            return Ok(bake(&self.first(), 0, permissions, nonce));
        }
        let mut more = self.more.write().unwrap_or_else(PoisonError::into_inner);
        let key = match more.get(id) {
            Some(key) => key,
            None => {
                let key = rand::random();
                more.insert(id, key);
                if let Err(error) = self.save(&more) {
                    more.remove(id);
                    return Err(error);
                }
                key
            }
        };
        Ok(bake(&key, id, permissions, nonce))
    }

    /// The pairs of entity and action that `token` allows, whoever has made it.
    pub(crate) fn permissions_of(token: &[u8]) -> Result<Vec<(String, String)>, MacaroonError> {
        let (id, _) = parse(token)?;
        let pairs = id
            .ops
            .into_iter()
            .flat_map(|Op { entity, actions }| actions.into_iter().map(move |action| (entity.clone(), action)));
        Ok(pairs.collect())
    }

    fn first(&self) -> [u8; 32] {
        *self.first.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another first key: every token that was made with the one before is taken back.
    pub(crate) fn replace_first(&self) -> io::Result<()> {
        let key: [u8; 32] = rand::random();
        let mut first = self.first.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(paths) = &self.paths {
            write_new(&paths.first, &key)?;
        }
        *first = key;
        if let Some(shown) = self.deleted().remove(&0) {
            shown.cancel();
        }
        Ok(())
    }

    /// The ids of all keys.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let more = self.more.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(0).chain(more.ids()).collect()
    }

    /// Takes back every token that was made with this key; `false` if there is none. The first key stays.
    pub(crate) fn delete(&self, id: u64) -> io::Result<bool> {
        let mut more = self.more.write().unwrap_or_else(PoisonError::into_inner);
        // Gone from memory first: if the disk refuses, the key is at least not taken any more in this run.
        let deleted = more.remove(id);
        if let Some(shown) = self.deleted().remove(&id) {
            shown.cancel();
        }
        if deleted {
            self.save(&more)?;
        }
        Ok(deleted)
    }

    fn deleted(&self) -> std::sync::MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, more: &MoreKeys) -> io::Result<()> {
        match &self.paths {
            Some(paths) => write_new(&paths.more, &more.to_bytes()?),
            None => Ok(()),
        }
    }

    /// Whether `token` (binary v2) was made with one of these keys, holds now and here, and allows the call: all that it
    /// needs, or the call itself by its path.
    pub(crate) fn check(&self, token: &[u8], call: &Call<'_>) -> Result<Shown, MacaroonError> {
        let (id, macaroon) = parse(token)?;
        // Which key it names is not to be believed before that key's signature is checked.
        let named = id.key();
        let more = self.more.read().unwrap_or_else(PoisonError::into_inner);
        let key = match named {
            Some(0) => Some(self.first()),
            Some(id) => more.get(id),
            None => None,
        };
        if !macaroon.is_signed_by(&key.ok_or(MacaroonError::UnknownKey)?) {
            return Err(MacaroonError::WrongSignature);
        }
        let key_deleted = match named {
            Some(id) => self.deleted().entry(id).or_default().clone(),
            None => CancellationToken::new(),
        };
        drop(more);
        let mut until = None;
        for caveat in macaroon.caveats() {
            let deadline = check_caveat(caveat, call)?;
            until = until.into_iter().chain(deadline).min();
        }
        let allows = |entity: &str, action: &str| {
            id.ops.iter().any(|op| op.entity == entity && op.actions.iter().any(|allowed| allowed == action))
        };
        if !allows(URI, call.path)
            && let Some(Permission { entity, action }) =
                call.needed.iter().find(|needed| !allows(needed.entity, needed.action))
        {
            return Err(MacaroonError::NotAllowed { entity: (*entity).to_owned(), action: (*action).to_owned() });
        }
        let mut nonce = [0; 16];
        nonce.iter_mut().zip(&id.nonce).for_each(|(to, from)| *to = *from);
        // Whoever may make tokens may make any.
        let holder = TokenHolder { id: nonce, has_all_rights: allows("macaroon", "generate") };
        Ok(Shown { holder, term: TokenTerm { until, key_deleted } })
    }

    /// The id of the key that a token says it was made with, whoever has made it.
    pub(crate) fn key_of(token: &[u8]) -> Option<u64> {
        parse(token).ok()?.0.key()
    }
}

/// A token that was shown, and is taken.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub holder: TokenHolder,
    pub term: TokenTerm,
}

/// How long a token is taken.
#[derive(Clone, Debug)]
pub(crate) struct TokenTerm {
    /// Seconds since 1970: of all times that are written in it the earliest.
    pub until: Option<u64>,
    /// Cancelled when the key is deleted that it was made with.
    pub key_deleted: CancellationToken,
}

/// What a token says of itself, not believed yet.
fn parse(token: &[u8]) -> Result<(MacaroonId, Macaroon), MacaroonError> {
    let macaroon = Macaroon::parse(token)?;
    let (version, id) = macaroon.identifier().split_first().ok_or(Malformed("its identifier is empty"))?;
    if *version != IDENTIFIER_VERSION {
        return Err(Malformed("its identifier has an unknown version").into());
    }
    let id = MacaroonId::decode(id).map_err(|_| Malformed("its identifier is not LND's"))?;
    Ok((id, macaroon))
}

fn bake(key: &[u8; 32], id: u64, permissions: impl IntoIterator<Item = (String, String)>, nonce: [u8; 16]) -> Macaroon {
    let mut ops: Vec<Op> = Vec::new();
    for (entity, action) in permissions {
        match ops.iter_mut().find(|op| op.entity == entity) {
            Some(op) => op.actions.push(action),
            None => ops.push(Op { entity, actions: vec![action] }),
        }
    }
    let id = MacaroonId { nonce: nonce.to_vec(), storage_id: id.to_string().into_bytes(), ops };
    let mut identifier = vec![IDENTIFIER_VERSION];
    identifier.extend_from_slice(&id.encode_to_vec());
    Macaroon::new(key, identifier)
}

/// LND writes `time-before 2026-01-31T12:00:00Z` and `ipaddr 10.0.0.1`; a caveat that is not understood denies. The answer: until
/// when it holds, if it names a time.
fn check_caveat(caveat: &[u8], call: &Call<'_>) -> Result<Option<u64>, MacaroonError> {
    let now = call.now;
    let text = String::from_utf8_lossy(caveat);
    let unknown = || MacaroonError::UnknownCaveat(text.clone().into_owned());
    if let Some(address) = text.strip_prefix("ipaddr ") {
        let allowed: IpAddr = address.trim().parse().map_err(|_| unknown())?;
        let here = call.from.is_some_and(|from| from.to_canonical() == allowed.to_canonical());
        return if here { Ok(None) } else { Err(MacaroonError::OtherAddress { allowed: allowed.to_string() }) };
    }
    if let Some(range) = text.strip_prefix("iprange ") {
        let allowed = IpRange::parse(range.trim()).ok_or_else(unknown)?;
        let here = call.from.is_some_and(|from| allowed.holds(from));
        return if here { Ok(None) } else { Err(MacaroonError::OtherAddress { allowed: range.trim().to_owned() }) };
    }
    let deadline = text.strip_prefix("time-before ").and_then(rfc3339_seconds).ok_or_else(unknown)?;
    if now < deadline { Ok(Some(deadline)) } else { Err(MacaroonError::Expired) }
}

/// Addresses that begin with the same bits, as `192.0.2.0/24`.
struct IpRange {
    first: IpAddr,
    bits: u32,
}

impl IpRange {
    fn parse(text: &str) -> Option<Self> {
        let (first, bits) = text.split_once('/')?;
        let (first, bits) = (first.parse::<IpAddr>().ok()?, bits.parse().ok()?);
        let most = if first.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { first, bits })
    }

    fn holds(&self, address: IpAddr) -> bool {
        let same = |one: u128, other: u128, of: u32| {
            let rest = of - self.bits;
            one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
        };
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => same(first.to_bits().into(), address.to_bits().into(), 32),
            (IpAddr::V6(first), IpAddr::V6(address)) => same(first.to_bits(), address.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct MacaroonId {
    #[prost(bytes = "vec", tag = "1")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    storage_id: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    ops: Vec<Op>,
}

impl MacaroonId {
    fn key(&self) -> Option<u64> {
        std::str::from_utf8(&self.storage_id).ok()?.parse().ok()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Op {
    #[prost(string, tag = "1")]
    entity: String,
    #[prost(string, repeated, tag = "2")]
    actions: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    impl RootKey {
        fn check_one(&self, token: &[u8], needed: &Permission, now: u64) -> Result<(), MacaroonError> {
            let needed = std::slice::from_ref(needed);
            self.check(token, &Call { path: "/a.B/C", needed, now, from: None }).map(drop)
        }
    }

    #[test]
    fn addresses_of_a_range_and_times_of_other_places_are_understood() {
        let call = |from: &str, now| Call { path: "/a.B/C", needed: &[], now, from: Some(from.parse().unwrap()) };
        let holds = |caveat: &str, from| check_caveat(caveat.as_bytes(), &call(from, NOW)).is_ok();
        assert!(holds("iprange 192.0.2.0/24", "192.0.2.77") && !holds("iprange 192.0.2.0/24", "192.0.3.1"));
        assert!(holds("iprange 0.0.0.0/0", "8.8.8.8") && !holds("iprange 0.0.0.0/0", "2001:db8::1"));
        assert!(holds("iprange 2001:db8::/32", "2001:db8:1::1") && holds("iprange 192.0.2.7/32", "::ffff:192.0.2.7"));
        for wrong in ["iprange 192.0.2.0", "iprange 192.0.2.0/33", "iprange /8", "iprange 192.0.2.0/-1"] {
            assert!(!holds(wrong, "192.0.2.1"), "{wrong}");
        }
        let utc = rfc3339_seconds("2027-01-15T08:00:00Z").unwrap();
        assert_eq!(rfc3339_seconds("2027-01-15T09:30:00+01:30"), Some(utc));
        assert_eq!(rfc3339_seconds("2027-01-15T03:00:00.5-05:00"), Some(utc));
        for wrong in ["2027-01-15T08:00:00", "2027-01-15T08:00:00+25:00", "2027-01-15T08:00:00+0100", "+01:00", ""] {
            assert_eq!(rfc3339_seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_says_what_it_allows() {
        let allowed = RootKey::permissions_of(&RootKey::new([7; 32]).bake(INVOICE, [1; 16]).to_bytes()).unwrap();
        let wanted = INVOICE.iter().map(|one| (one.entity.to_owned(), one.action.to_owned()));
        let sorted = |mut pairs: Vec<(String, String)>| {
            pairs.sort();
            pairs
        };
        assert_eq!(sorted(allowed), sorted(wanted.collect()));
        assert!(RootKey::permissions_of(b"x").is_err());
    }

    #[test]
    fn another_first_key_takes_back_what_the_one_before_has_made_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("macaroons.key");
        let keys = RootKey::open(&path).unwrap();
        let one = || [("info".to_owned(), "read".to_owned())];
        let [first, second] = [0, 7].map(|id| keys.bake_with(id, one(), [1; 16]).unwrap().to_bytes());
        let needed = permission("info", "read");
        let call = Call { path: "/a.B/C", needed: std::slice::from_ref(&needed), now: NOW, from: None };
        let shown = keys.check(&first, &call).unwrap();
        keys.replace_first().unwrap();
        assert!(shown.term.key_deleted.is_cancelled(), "what is open with it ends");
        let made_since = keys.bake_with(0, one(), [1; 16]).unwrap().to_bytes();
        for keys in [keys, RootKey::open(&path).unwrap()] {
            assert_eq!(keys.check_one(&first, &needed, NOW), Err(MacaroonError::WrongSignature));
            assert_eq!(keys.check_one(&second, &needed, NOW), Ok(()));
            assert_eq!(keys.check_one(&made_since, &needed, NOW), Ok(()));
        }
    }

    #[test]
    fn a_deleted_key_takes_its_tokens_back_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("macaroons.key");
        let keys = RootKey::open(&path).unwrap();
        let one = || [("info".to_owned(), "read".to_owned())];
        let [first, second] = [0, 7].map(|id| keys.bake_with(id, one(), [1; 16]).unwrap().to_bytes());
        let needed = permission("info", "read");
        drop(keys);
        let keys = RootKey::open(&path).unwrap();
        assert_eq!(keys.ids(), [0, 7]);
        for token in [&first, &second] {
            assert_eq!(keys.check_one(token, &needed, NOW), Ok(()));
        }
        assert_eq!((keys.delete(7).unwrap(), keys.delete(7).unwrap(), keys.delete(0).unwrap()), (true, false, false));
        let keys = RootKey::open(&path).unwrap();
        assert_eq!(keys.check_one(&second, &needed, NOW), Err(MacaroonError::UnknownKey));
        assert_eq!(keys.check_one(&first, &needed, NOW), Ok(()));
        // The same id again is another key.
        keys.bake_with(7, one(), [1; 16]).unwrap();
        assert_eq!(keys.check_one(&second, &needed, NOW), Err(MacaroonError::WrongSignature));
        fs::write(path.with_extension("keys.json"), "{\"1\": \"00\"}").unwrap();
        assert!(RootKey::open(&path).is_err());
    }

    #[test]
    fn a_token_may_name_single_calls_and_addresses() {
        let keys = root();
        let pair = (URI.to_owned(), "/a.B/C".to_owned());
        let token = keys.bake_with(0, [pair], [1; 16]).unwrap();
        let needed = [permission("onchain", "write")];
        let call = Call { path: "/a.B/C", needed: &needed, now: NOW, from: Some([10, 0, 0, 1].into()) };
        assert!(keys.check(&token.to_bytes(), &call).is_ok());
        let other = Call { path: "/a.B/D", ..call };
        assert!(matches!(keys.check(&token.to_bytes(), &other), Err(MacaroonError::NotAllowed { .. })));
        let here = token.clone().narrowed(b"ipaddr 10.0.0.1").to_bytes();
        assert!(keys.check(&here, &call).is_ok());
        let mapped = Call { from: Some("::ffff:10.0.0.1".parse().unwrap()), ..call };
        assert!(keys.check(&here, &mapped).is_ok());
        for from in [None, Some([10, 0, 0, 2].into())] {
            let refused = keys.check(&here, &Call { from, ..call });
            assert!(matches!(refused, Err(MacaroonError::OtherAddress { .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_token_says_until_when_it_is_taken_and_whose_connections_it_opens() {
        let keys = root();
        let any = || [("info".to_owned(), "read".to_owned())];
        let token = keys.bake_with(7, any(), [1; 16]).unwrap();
        let narrowed = token.clone().narrowed(time_before(NOW + 20).as_bytes());
        let narrowed = narrowed.narrowed(time_before(NOW + 10).as_bytes());
        let call = Call { path: "/a.B/C", needed: &[permission("info", "read")], now: NOW, from: None };
        let (whole, part) = (keys.check(&token.to_bytes(), &call), keys.check(&narrowed.to_bytes(), &call));
        let (whole, part) = (whole.unwrap(), part.unwrap());
        assert_eq!((whole.term.until, part.term.until), (None, Some(NOW + 10)));
        assert_eq!(whole.holder, TokenHolder { id: [1; 16], has_all_rights: false });
        assert_eq!(whole.holder, part.holder);
        assert_eq!(RootKey::key_of(&narrowed.to_bytes()), Some(7));
        assert!(!part.term.key_deleted.is_cancelled());
        keys.delete(7).unwrap();
        assert!(whole.term.key_deleted.is_cancelled() && part.term.key_deleted.is_cancelled());
        // The same id again is another key, whose tokens are taken.
        let again = keys.bake_with(7, any(), [2; 16]).unwrap();
        assert!(!keys.check(&again.to_bytes(), &call).unwrap().term.key_deleted.is_cancelled());
        let admin = keys.bake(ADMIN, [3; 16]);
        assert!(keys.check(&admin.to_bytes(), &call).unwrap().holder.has_all_rights);
    }

    fn root() -> RootKey {
        RootKey::new([3; 32])
    }

    #[test]
    fn token_allows_what_it_says_and_nothing_else() {
        let token = root().bake(READONLY, [1; 16]).to_bytes();
        assert_eq!(root().check_one(&token, &permission("offchain", "read"), NOW), Ok(()));
        assert!(matches!(
            root().check_one(&token, &permission("offchain", "write"), NOW),
            Err(MacaroonError::NotAllowed { .. })
        ));
        let other = RootKey::new([4; 32]);
        assert_eq!(other.check_one(&token, &permission("offchain", "read"), NOW), Err(MacaroonError::WrongSignature));
    }

    #[test]
    fn narrowed_token_expires() {
        let token = root().bake(ADMIN, [1; 16]).narrowed(b"time-before 2027-01-15T08:00:00Z").to_bytes();
        let needed = permission("onchain", "write");
        assert_eq!(root().check_one(&token, &needed, NOW - 1), Ok(()));
        assert_eq!(root().check_one(&token, &needed, NOW), Err(MacaroonError::Expired));
        let strange = root().bake(ADMIN, [1; 16]).narrowed(b"moon full").to_bytes();
        assert!(matches!(root().check_one(&strange, &needed, NOW), Err(MacaroonError::UnknownCaveat(_))));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let token = root().bake(ADMIN, [9; 16]).narrowed(b"time-before 2027-01-15T08:00:00Z").to_bytes();
        let location_end = 1 + 2 + 3; // the location is a hint and is not signed
        for index in location_end..token.len() {
            let mut changed = token.clone();
            changed[index] ^= 1;
            assert!(root().check_one(&changed, &permission("info", "read"), 0).is_err(), "byte {index}");
        }
        for length in 0..token.len() {
            assert!(root().check_one(&token[..length], &permission("info", "read"), 0).is_err());
        }
    }
}
