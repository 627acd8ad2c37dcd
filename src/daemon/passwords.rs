//! Who may try the wallet's password next, to log in or to unlock.
//!
//! ```text
//!   a try ─► its address has to wait, or tries already ─► refused, with the seconds
//!     └────► too many wait: of other machines, of this one ─► refused ─► its turn: one at a time ─► wrong: this address waits longer
//! ```
//!
//! Promises: after each wrong password the next one from the same address waits longer; nobody else waits for that. Each try costs a
//! second of work, and there is one at a time; those who wait are few, and some places are for this machine alone.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{admission::neighbourhood, api::ApiError};

/// What is waited after the first wrong password, twice as long after each other, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// Tries that wait for their turn, of this machine and of all others, each: a turn takes a second.
const MAX_WAITING: usize = 4;
/// Addresses of which wrong passwords are remembered. Whoever has more of them than this may begin anew with some: a try still
/// takes its second, and its turn.
const MAX_REMEMBERED: usize = 1_024;

/// The tries of all addresses.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    attempts: Mutex<Attempts>,
}

/// A try, until this is dropped.
#[derive(Debug)]
pub(super) struct Try<'a> {
    of: &'a Passwords,
    from: IpAddr,
}

impl Passwords {
    /// Begins a try of somebody at this address; `None`: of this process.
    pub(super) fn begin(&self, from: Option<IpAddr>) -> Result<Try<'_>, ApiError> {
        let from = neighbourhood(from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        match self.attempts().begin(from, Instant::now()) {
            Ok(()) => Ok(Try { of: self, from }),
            Err(Later::Wait(wait)) => {
                let seconds = wait.as_secs().max(1);
                Err(ApiError::unavailable(format!("too many wrong passwords: try again in {seconds} s")))
            }
            Err(Later::Busy) => Err(ApiError::unavailable("other passwords are being tried: try again in a moment")),
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Try<'_> {
    /// The password was the right one.
    pub(super) fn was_right(self) {
        self.of.attempts().was_right(self.from);
    }

    pub(super) fn was_wrong(self) {
        self.of.attempts().was_wrong(self.from, Instant::now());
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        self.of.attempts().ended(self.from);
    }
}

/// Why a password is not tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Wait(Duration),
    Busy,
}

#[derive(Debug, Default)]
struct Attempts(HashMap<IpAddr, OfAddress>);

#[derive(Clone, Copy, Debug, Default)]
struct OfAddress {
    wrong: u32,
    not_before: Option<Instant>,
    is_trying: bool,
}

impl Attempts {
    fn begin(&mut self, from: IpAddr, now: Instant) -> Result<(), Later> {
        let known = self.0.get(&from).copied().unwrap_or_default();
        let wait = known.not_before.map(|moment| moment.saturating_duration_since(now));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Err(Later::Wait(wait));
        }
        let is_alike = |other: &IpAddr| other.is_loopback() == from.is_loopback();
        let waiting = self.0.iter().filter(|(other, of)| of.is_trying && is_alike(other)).count();
        if known.is_trying || waiting >= MAX_WAITING {
            return Err(Later::Busy);
        }
        if !self.0.contains_key(&from) && self.0.len() >= MAX_REMEMBERED {
            let idle = self.0.iter().filter(|(_, of)| !of.is_trying);
            if let Some(oldest) = idle.min_by_key(|(_, of)| of.not_before).map(|(oldest, _)| *oldest) {
                self.0.remove(&oldest);
            }
        }
        self.0.entry(from).or_default().is_trying = true;
        Ok(())
    }

    fn was_wrong(&mut self, from: IpAddr, now: Instant) {
        let of = self.0.entry(from).or_default();
        let wait = FIRST_WAIT.saturating_mul(1 << of.wrong.min(16)).min(LONGEST_WAIT);
        of.wrong = of.wrong.saturating_add(1);
        of.not_before = Some(now + wait);
    }

    fn was_right(&mut self, from: IpAddr) {
        self.0.remove(&from);
    }

    fn ended(&mut self, from: IpAddr) {
        let Some(of) = self.0.get_mut(&from) else { return };
        of.is_trying = false;
        if of.wrong == 0 {
            self.0.remove(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    impl Attempts {
        fn wrong_one(&mut self, from: IpAddr, now: Instant) -> Result<(), Later> {
            self.begin(from, now)?;
            self.was_wrong(from, now);
            self.ended(from);
            Ok(())
        }
    }

    #[test]
    fn after_each_wrong_password_its_address_waits_longer_until_one_is_right_and_nobody_else_waits() {
        let mut attempts = Attempts::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            attempts.wrong_one(at(1), now).unwrap();
            let Err(Later::Wait(wait)) = attempts.begin(at(1), now) else { panic!("it may go on at once") };
            waits.push(wait.as_secs());
            assert_eq!(attempts.begin(at(2), now), Ok(()));
            attempts.ended(at(2));
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
        attempts.begin(at(1), now).unwrap();
        attempts.was_right(at(1));
        attempts.ended(at(1));
        assert!(attempts.0.is_empty());
        attempts.wrong_one(at(1), now).unwrap();
        assert_eq!(attempts.begin(at(1), now), Err(Later::Wait(FIRST_WAIT)));
    }

    #[test]
    fn few_wait_one_of_an_address_and_this_machine_has_places_of_its_own() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        for last in 1..=4 {
            attempts.begin(at(last), now).unwrap();
            assert_eq!(attempts.begin(at(last), now), Err(Later::Busy), "one of an address");
        }
        assert_eq!(attempts.begin(at(5), now), Err(Later::Busy));
        assert_eq!(attempts.begin(IpAddr::from([127, 0, 0, 1]), now), Ok(()));
        attempts.ended(at(1));
        assert_eq!(attempts.begin(at(5), now), Ok(()));
    }

    #[test]
    fn very_many_addresses_are_not_remembered_for_ever() {
        let mut attempts = Attempts::default();
        let mut now = Instant::now();
        for number in 0..3_000_u16 {
            let [high, low] = number.to_be_bytes();
            attempts.wrong_one(IpAddr::from([198, 51, high, low]), now).unwrap();
            now += Duration::from_millis(1);
        }
        assert_eq!(attempts.0.len(), MAX_REMEMBERED);
        assert!(attempts.0.contains_key(&IpAddr::from([198, 51, 0x0b, 0xb7])), "the last one is");
    }
}
