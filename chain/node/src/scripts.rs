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

/// Takes a check that is to be run.
pub(crate) type HandOut<'f, 'b> = &'f mut dyn FnMut(ScriptCheck<'b>);

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
                let wtxid = check.wtxid();
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

    /// Runs checks while they are handed out by `produce`, which is called on this thread. Returns what it returns, and the
    /// failure of the first check in their order that has one, when all have ended.
    pub(crate) fn verify_while<'b, R>(
        &self,
        produce: impl FnOnce(HandOut<'_, 'b>) -> R,
    ) -> (R, Result<(), ScriptFailure>) {
        let first: Mutex<Option<(usize, ScriptFailure)>> = Mutex::new(None);
        let result = rayon::in_place_scope(|scope| {
            let (mut waiting, mut handed_out) = (Vec::with_capacity(CHECKED_TOGETHER), 0usize);
            let mut start = |checks: &mut Vec<ScriptCheck<'b>>| {
                let checks = std::mem::replace(checks, Vec::with_capacity(CHECKED_TOGETHER));
                let place = handed_out;
                handed_out = handed_out.saturating_add(1);
                let first = &first;
                scope.spawn(move |_| {
                    let Err(failure) = self.verify(&checks) else { return };
                    let mut first = lock(first);
                    if first.as_ref().is_none_or(|(earlier, _)| place < *earlier) {
                        *first = Some((place, failure));
                    }
                });
            };
            let result = produce(&mut |check| {
                waiting.push(check);
                if waiting.len() == CHECKED_TOGETHER {
                    start(&mut waiting);
                }
            });
            if !waiting.is_empty() {
                start(&mut waiting);
            }
            result
        });
        let first = first.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        (result, first.map_or(Ok(()), |(_, failure)| Err(failure)))
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

/// Checks that are begun together while a block is looked at: some milliseconds of work.
const CHECKED_TOGETHER: usize = 32;
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
