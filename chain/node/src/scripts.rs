//! Script checks on all cores, each transaction's at most once.
//!
//! A transaction that was verified for the mempool need not be verified again in a block: its wtxid commits to its
//! witnesses and, through the outpoints, to the outputs that it spends. Every flag only forbids more, so a success
//! under some flags also stands for a success under fewer.

use std::collections::HashMap;
use std::sync::Mutex;

use bitcoin::Wtxid;
use leyden_consensus::script::ScriptFlags;
use leyden_consensus::{ScriptCheck, ScriptFailure};
use rayon::prelude::*;

use crate::sync::lock;

/// Remembers successes and runs the checks.
pub struct ScriptVerifier {
    verified: Mutex<Generations>,
    capacity: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Wtxid, ScriptFlags>,
    old: HashMap<Wtxid, ScriptFlags>,
}

impl ScriptVerifier {
    /// Remembers about `capacity` transactions (some 50 bytes each).
    pub fn new(capacity: usize) -> Self {
        Self { verified: Mutex::default(), capacity }
    }

    /// Runs all checks in parallel, and remembers those that succeed. Returns the failure of the first in the list that
    /// has one, when all have ended: none outlives the call (CVE-2024-52911).
    pub fn verify(&self, checks: &[ScriptCheck<'_>]) -> Result<(), ScriptFailure> {
        let results: Vec<Option<(Wtxid, Result<(), ScriptFailure>)>> = checks
            .par_iter()
            .map(|check| {
                let wtxid = check.transaction().compute_wtxid();
                (!self.is_verified(&wtxid, check.flags())).then(|| (wtxid, run(check)))
            })
            .collect();
        let mut first = None;
        let mut verified = lock(&self.verified);
        for (check, result) in checks.iter().zip(results) {
            match result {
                None => {}
                Some((wtxid, Ok(()))) => self.remember(&mut verified, wtxid, check.flags()),
                Some((_, Err(failure))) => first = first.or(Some(failure)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn is_verified(&self, wtxid: &Wtxid, flags: ScriptFlags) -> bool {
        let verified = lock(&self.verified);
        let known = verified.young.get(wtxid).or_else(|| verified.old.get(wtxid));
        known.is_some_and(|known| known.contains(flags))
    }

    fn remember(&self, verified: &mut Generations, wtxid: Wtxid, flags: ScriptFlags) {
        if verified.young.len() >= self.capacity / 2 {
            verified.old = std::mem::take(&mut verified.young);
        }
        verified.young.insert(wtxid, flags);
    }
}

/// Inputs of one transaction below which it is not worth spreading them over threads.
const INPUTS_TOGETHER: usize = 4;

fn run(check: &ScriptCheck<'_>) -> Result<(), ScriptFailure> {
    let spending = check.prepare()?;
    (0..check.transaction().input.len())
        .into_par_iter()
        .with_min_len(INPUTS_TOGETHER)
        .map(|input| check.run_input(&spending, input))
        .find_first(Result::is_err)
        .unwrap_or(Ok(()))
}
