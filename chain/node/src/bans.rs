//! Addresses with which the user of this node wants no connection, over restarts too.
//!
//! ```text
//!   leyden bans 1
//!   203.0.113.0/24 1800000000 1800086400      subnet, banned since, until (seconds since 1970)
//!   end 1                                     how many there are
//! ```
//!
//! The file is replaced as a whole. One that does not follow this to its end is not used, and the log says so. Peers that
//! misbehave are kept away by the driver itself, for a while, and are not listed here.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;

use crate::sync::lock;

/// Bans at a time: a person makes them, and each costs a look at every connection.
pub const MAX_BANS: usize = 1_000;
const FIRST_LINE: &str = "leyden bans 1";
/// Far more than the bans take.
const MAX_BYTES: u64 = 1 << 20;

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    /// How many bits.
    length: u8,
}

/// What is no subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is neither an IP address nor a subnet such as 203.0.113.0/24")]
pub struct NoSubnet;

impl Subnet {
    /// The addresses that share so many first bits with this one.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, NoSubnet> {
        let address = address.to_canonical();
        let (bits, all) = bits(address);
        let unused = all.checked_sub(length).ok_or(NoSubnet)?;
        // What lies behind the length does not count.
        let kept = bits.checked_shr(u32::from(unused)).unwrap_or(0).checked_shl(u32::from(unused)).unwrap_or(0);
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(kept).map_err(|_| NoSubnet)?.into()),
            IpAddr::V6(_) => IpAddr::V6(kept.into()),
        };
        Ok(Self { address, length })
    }

    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self::new(address, self.length) == Ok(*self)
    }
}

/// An address as a number, and how many bits that has.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl FromStr for Subnet {
    type Err = NoSubnet;

    fn from_str(text: &str) -> Result<Self, NoSubnet> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoSubnet)?;
        let length = match length {
            None => bits(address.to_canonical()).1,
            Some(length) => match (length.parse::<u8>(), length.parse::<IpAddr>()) {
                (Ok(length), _) => length,
                // A mask such as 255.255.255.0.
                (Err(_), Ok(mask)) if mask.is_ipv4() == address.is_ipv4() => {
                    let (mask, all) = bits(mask);
                    let spare = 128u32.saturating_sub(u32::from(all));
                    let ones = mask.checked_shl(spare).unwrap_or(0).leading_ones();
                    if mask.count_ones() != ones {
                        return Err(NoSubnet);
                    }
                    u8::try_from(ones).map_err(|_| NoSubnet)?
                }
                (Err(_), _) => return Err(NoSubnet),
            },
        };
        Self::new(address, length)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// No connection with these addresses for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The addresses.
    pub subnet: Subnet,
    /// Seconds since 1970.
    pub since: u64,
    /// Seconds since 1970 from which on they may connect again.
    pub until: u64,
}

/// Why a ban is not changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum BanError {
    #[error("{0} is banned already")]
    Known(Subnet),
    #[error("{0} is not banned")]
    Unknown(Subnet),
    #[error("{MAX_BANS} bans are kept at most: take one back first")]
    TooMany,
    #[error("the file of bans cannot be written: {0}")]
    File(#[from] io::Error),
}

/// All bans. What is changed is on the disk when the call returns.
#[derive(Debug)]
pub struct BanList {
    path: PathBuf,
    bans: Mutex<Vec<Ban>>,
}

impl BanList {
    /// Reads the file, if there is one.
    pub fn open(path: PathBuf) -> Self {
        let bans = match read(&path) {
            Ok(bans) => bans,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "nobody is banned: the file of bans is of no use");
                Vec::new()
            }
        };
        Self { path, bans: Mutex::new(bans) }
    }

    /// Those that hold at this time.
    pub fn list(&self, now: u64) -> Vec<Ban> {
        lock(&self.bans).iter().filter(|ban| ban.until > now).copied().collect()
    }

    /// Whether no connection with this address is wanted.
    pub fn is_banned(&self, address: IpAddr, now: u64) -> bool {
        lock(&self.bans).iter().any(|ban| ban.until > now && ban.subnet.contains(address))
    }

    /// Bans a subnet.
    pub fn add(&self, ban: Ban) -> Result<(), BanError> {
        self.change(|bans| {
            bans.retain(|known| known.until > ban.since);
            if bans.iter().any(|known| known.subnet == ban.subnet) {
                return Err(BanError::Known(ban.subnet));
            }
            if bans.len() >= MAX_BANS {
                return Err(BanError::TooMany);
            }
            bans.push(ban);
            Ok(())
        })
    }

    /// Takes the ban of exactly this subnet back.
    pub fn remove(&self, subnet: Subnet) -> Result<(), BanError> {
        self.change(|bans| {
            let place = bans.iter().position(|known| known.subnet == subnet);
            bans.remove(place.ok_or(BanError::Unknown(subnet))?);
            Ok(())
        })
    }

    /// Takes all back.
    pub fn clear(&self) -> Result<(), BanError> {
        self.change(|bans| {
            bans.clear();
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Ban>) -> Result<(), BanError>) -> Result<(), BanError> {
        let mut bans = lock(&self.bans);
        let mut changed = bans.clone();
        change(&mut changed)?;
        let unfinished = self.path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        let lines = changed.iter().map(|ban| format!("{} {} {}\n", ban.subnet, ban.since, ban.until));
        let text: String = lines.collect();
        write!(file, "{FIRST_LINE}\n{text}end {}\n", changed.len())?;
        file.sync_all()?;
        fs::rename(unfinished, &self.path)?;
        *bans = changed;
        Ok(())
    }
}

fn read(path: &PathBuf) -> io::Result<Vec<Ban>> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "it is damaged, or of another program"))
}

fn parse(text: &str) -> Option<Vec<Ban>> {
    let mut lines = text.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let mut bans = Vec::new();
    for line in lines {
        if let Some(count) = line.strip_prefix("end ") {
            return (count.parse() == Ok(bans.len())).then_some(bans);
        }
        let mut words = line.split(' ');
        bans.push(Ban {
            subnet: words.next()?.parse().ok()?,
            since: words.next()?.parse().ok()?,
            until: words.next()?.parse().ok()?,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_is_what_its_first_bits_say() {
        for (text, shown, inside, outside) in [
            ("203.0.113.7", "203.0.113.7/32", "203.0.113.7", "203.0.113.8"),
            ("203.0.113.7/24", "203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
            ("203.0.113.7/255.255.255.0", "203.0.113.0/24", "203.0.113.1", "203.0.112.255"),
            ("10.0.0.0/9", "10.0.0.0/9", "10.127.255.255", "10.128.0.0"),
            ("0.0.0.0/0", "0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::1/32", "2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
            ("::/0", "::/0", "2001:db8::1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1/32", "::ffff:10.0.0.1", "10.0.0.2"),
        ] {
            let subnet = subnet(text);
            assert_eq!(subnet.to_string(), shown);
            assert!(subnet.contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!subnet.contains(outside.parse().unwrap()), "{outside} in {text}");
        }
        for wrong in ["", "10", "10.0.0.1/33", "10.0.0.1/-1", "::1/129", "10.0.0.1/255.0.255.0", "10.0.0.1/::1", "x/8"]
        {
            assert_eq!(wrong.parse::<Subnet>(), Err(NoSubnet), "{wrong}");
        }
    }

    #[test]
    fn bans_are_kept_over_a_restart_until_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bans");
        let list = BanList::open(path.clone());
        let ban = |text: &str, since: u64, until: u64| Ban { subnet: subnet(text), since, until };
        list.add(ban("10.0.0.0/8", 100, 200)).unwrap();
        list.add(ban("203.0.113.7", 100, 300)).unwrap();
        assert!(matches!(list.add(ban("10.1.2.3/8", 110, 400)), Err(BanError::Known(_))));
        assert!(matches!(list.remove(subnet("10.0.0.0/9")), Err(BanError::Unknown(_))));
        let again = BanList::open(path.clone());
        assert_eq!(again.list(150), list.list(150));
        assert!(
            again.is_banned("10.9.9.9".parse().unwrap(), 199) && !again.is_banned("10.9.9.9".parse().unwrap(), 200)
        );
        assert_eq!(again.list(250).len(), 1);
        again.remove(subnet("203.0.113.7/32")).unwrap();
        assert_eq!(BanList::open(path.clone()).list(150).len(), 1);
        again.clear().unwrap();
        assert_eq!(BanList::open(path.clone()).list(150), []);
        // A damaged file is none, and nothing is made of its parts.
        fs::write(&path, "leyden bans 1\n10.0.0.0/8 1 99999999999\n").unwrap();
        assert_eq!(BanList::open(path.clone()).list(150), []);
        let list = BanList::open(path);
        for number in 0..MAX_BANS as u32 {
            list.change_in_memory(ban(&std::net::Ipv4Addr::from(number).to_string(), 1, 2_000));
        }
        assert!(matches!(list.add(ban("203.0.113.7", 100, 300)), Err(BanError::TooMany)));
    }

    impl BanList {
        /// A thousand files need not be written for a test.
        fn change_in_memory(&self, ban: Ban) {
            lock(&self.bans).push(ban);
        }
    }
}
