//! Choices that a seed makes, and the run of many of them.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Choices that follow from a seed alone, whatever the machine (SplitMix64).
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    pub fn byte(&mut self) -> u8 {
        self.bits() as u8
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    /// The limit itself, or one less or more.
    pub fn near(&mut self, limit: usize) -> usize {
        limit + self.below(3) - 1
    }
}

/// How many cases, and from which seed on: case number n has the seed `first + n`, so that it can be run alone.
pub struct Run {
    first: u64,
    cases: usize,
    variable: &'static str,
}

impl Run {
    /// `cases` unless the variable asks for another number; `LEYDEN_KERNEL_TIMES` multiplies.
    pub fn from_env(variable: &'static str, cases: usize) -> Self {
        let number = |name: &str| {
            let text = env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is {text:?}: give a number")))
        };
        let times = number("LEYDEN_KERNEL_TIMES").map_or(1, |times| times as usize);
        let cases = number(variable).map_or(cases * times, |cases| cases as usize);
        // Small enough that the seeds of all cases are numbers that a person can copy.
        let first = number("LEYDEN_KERNEL_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()) << 20);
        println!("LEYDEN_KERNEL_SEED={first} {variable}={cases}");
        Self { first, cases, variable }
    }

    /// Runs `case` for every seed on all cores, and fails with the first few complaints.
    pub fn each(&self, case: impl Fn(u64) -> Result<(), String> + Sync) {
        let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.cases || complaints.lock().expect("no panic").len() >= 5 {
                    return;
                }
                let seed = self.first.wrapping_add(number as u64);
                // A panic is one more complaint, with its seed.
                let judged = catch_unwind(AssertUnwindSafe(|| case(seed)));
                if let Err(complaint) = judged.unwrap_or_else(|_| Err("a panic, above".to_owned())) {
                    let again = format!("LEYDEN_KERNEL_SEED={seed} {}=1", self.variable);
                    complaints.lock().expect("no panic").push(format!("{again}\n{complaint}"));
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        let complaints = complaints.into_inner().expect("no panic");
        assert!(complaints.is_empty(), "the two disagree:\n{}", complaints.join("\n\n"));
    }

    pub fn cases(&self) -> usize {
        self.cases
    }
}
