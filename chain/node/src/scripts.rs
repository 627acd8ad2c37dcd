//! Script checks on all cores, each transaction's at most once.
//!
//! A transaction that was verified for the mempool need not be verified again in a block: its wtxid commits to its
//! witnesses and, through the outpoints, to the outputs that it spends. Every flag only forbids more, so a success
//! under some flags also stands for a success under fewer.

use std::sync::Mutex;

use bitcoin::Wtxid;
use leyden_consensus::keyed_hash::IdMap;
use leyden_consensus::script::ScriptFlags;
use leyden_consensus::{ScriptCheck, ScriptFailure, ScriptJobs};
use rayon::prelude::*;

use crate::sync::lock;

/// Remembers successes and runs the checks.
pub struct ScriptVerifier {
    verified: Mutex<Generations>,
    capacity: usize,
}

#[derive(Default)]
struct Generations {
    young: IdMap<Wtxid, ScriptFlags>,
    old: IdMap<Wtxid, ScriptFlags>,
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
    /// failure of the first check in their order that has one, when all have ended. Those behind a failure need not run.
    pub(crate) fn verify_while<'b, R>(
        &self,
        produce: impl FnOnce(&mut dyn ScriptJobs<'b>) -> R,
    ) -> (R, Result<(), ScriptFailure>) {
        let first: Mutex<Option<(usize, ScriptFailure)>> = Mutex::new(None);
        let result = rayon::in_place_scope(|scope| {
            let mut handed_out = 0usize;
            let mut start = |checks: Vec<ScriptCheck<'b>>| {
                let place = handed_out;
                handed_out = handed_out.saturating_add(1);
                let first = &first;
                scope.spawn(move |_| {
                    let fails_before = |first: &Option<(usize, ScriptFailure)>| {
                        first.as_ref().is_some_and(|(earlier, _)| *earlier < place)
                    };
                    if fails_before(&lock(first)) {
                        return;
                    }
                    let Err(failure) = self.verify_in_turn(&checks) else { return };
                    let mut first = lock(first);
                    if !fails_before(&first) {
                        *first = Some((place, failure));
                    }
                });
            };
            let mut jobs = Jobs { verifier: self, waiting: Vec::new(), inputs: 0, start: &mut start };
            let result = produce(&mut jobs);
            jobs.start();
            result
        });
        let first = first.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        (result, first.map_or(Ok(()), |(_, failure)| Err(failure)))
    }

    /// Runs checks one after the other, up to the first that fails, and remembers those that succeed.
    fn verify_in_turn(&self, checks: &[ScriptCheck<'_>]) -> Result<(), ScriptFailure> {
        let failed =
            checks.iter().enumerate().find_map(|(place, check)| run(check).err().map(|failure| (place, failure)));
        let succeeded = failed.as_ref().map_or(checks.len(), |(place, _)| *place);
        let mut verified = lock(&self.verified);
        for check in checks.iter().take(succeeded) {
            self.remember(&mut verified, check.wtxid(), check.flags());
        }
        failed.map_or(Ok(()), |(_, failure)| Err(failure))
    }

    pub(crate) fn is_verified(&self, wtxid: &Wtxid, flags: ScriptFlags) -> bool {
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

/// Inputs that are begun together while a block is looked at: some milliseconds of work.
const INPUTS_TOGETHER: usize = 64;
/// Inputs of one transaction from which on it is worth spreading them over threads, and that many to each.
const INPUTS_APART: usize = 16;

/// The checks of a block on their way to the threads.
struct Jobs<'f, 'b> {
    verifier: &'f ScriptVerifier,
    waiting: Vec<ScriptCheck<'b>>,
    /// Of the transactions that wait.
    inputs: usize,
    start: &'f mut dyn FnMut(Vec<ScriptCheck<'b>>),
}

impl Jobs<'_, '_> {
    fn start(&mut self) {
        if !self.waiting.is_empty() {
            self.inputs = 0;
            (self.start)(std::mem::take(&mut self.waiting));
        }
    }
}

impl<'b> ScriptJobs<'b> for Jobs<'_, 'b> {
    fn is_needed(&self, wtxid: &Wtxid, flags: ScriptFlags) -> bool {
        !self.verifier.is_verified(wtxid, flags)
    }

    fn take(&mut self, check: ScriptCheck<'b>) {
        self.inputs = self.inputs.saturating_add(check.transaction().input.len());
        self.waiting.push(check);
        if self.inputs >= INPUTS_TOGETHER {
            self.start();
        }
    }
}

/// For a block whose scripts are not run.
pub(crate) struct NoScripts;

impl<'b> ScriptJobs<'b> for NoScripts {
    fn is_needed(&self, _: &Wtxid, _: ScriptFlags) -> bool {
        false
    }

    fn take(&mut self, _: ScriptCheck<'b>) {}
}

fn run(check: &ScriptCheck<'_>) -> Result<(), ScriptFailure> {
    let spending = check.prepare()?;
    let inputs = check.transaction().input.len();
    if inputs < INPUTS_APART {
        return (0..inputs).try_for_each(|input| check.run_input(&spending, input));
    }
    (0..inputs)
        .into_par_iter()
        .with_min_len(INPUTS_APART)
        .map(|input| check.run_input(&spending, input))
        .find_first(Result::is_err)
        .unwrap_or(Ok(()))
}
