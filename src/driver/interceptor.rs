//! The program that decides about forwards, if there is one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leyden_channels::{
    switch::{HtlcRef, InterceptedHtlc, Interceptor, SwitchEvent},
    types::PaymentHash,
};
use tokio::sync::mpsc;

use super::{committer::PendingEffects, services::Services};

/// Whom the switch's questions go to. They are no more than the HTLCs that channels hold, so that they need no bound.
#[derive(Debug)]
pub(crate) struct InterceptorPlace {
    program: Mutex<Option<mpsc::UnboundedSender<InterceptedHtlc>>>,
    /// Forwards wait while there is no program.
    required: bool,
}

impl InterceptorPlace {
    pub(crate) fn new(required: bool) -> Self {
        Self { program: Mutex::default(), required }
    }

    fn lock(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<InterceptedHtlc>>> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who decides while no program does.
    pub(crate) fn alone(&self) -> Interceptor {
        if self.required { Interceptor::Absent } else { Interceptor::None }
    }
}

/// A program has the place until this is dropped.
pub(crate) struct Intercepting(Arc<InterceptorPlace>);

impl Drop for Intercepting {
    fn drop(&mut self) {
        self.0.lock().take();
    }
}

impl Services {
    /// Takes the place, if it is free: the questions, and what follows of taking it.
    pub(crate) fn begin_intercepting(
        &self,
    ) -> Option<(Intercepting, mpsc::UnboundedReceiver<InterceptedHtlc>, PendingEffects)> {
        let (sender, questions) = mpsc::unbounded_channel();
        let mut place = self.interceptor.lock();
        if place.is_some() {
            return None;
        }
        *place = Some(sender);
        drop(place);
        let came = self.tell_switch(SwitchEvent::Interceptor(Interceptor::Present));
        Some((Intercepting(Arc::clone(&self.interceptor)), questions, came))
    }

    /// The program has gone. Another one may have come meanwhile.
    pub(crate) fn end_intercepting(&self) -> PendingEffects {
        let place = self.interceptor.lock();
        let by_whom = if place.is_some() { Interceptor::Present } else { self.interceptor.alone() };
        self.tell_switch(SwitchEvent::Interceptor(by_whom))
    }

    /// Asks the program about a forward. If it has just gone, the switch is told so by whoever notices it.
    pub(super) fn ask_interceptor(&self, htlc: InterceptedHtlc) {
        if let Some(program) = self.interceptor.lock().as_ref() {
            let _ = program.send(htlc);
        }
    }

    /// What a preimage must fit for a held HTLC; `None` if it is not held.
    pub(crate) fn held_hash(&self, incoming: &HtlcRef) -> Option<PaymentHash> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner).held_hash(incoming)
    }

    pub(crate) fn is_held(&self, incoming: &HtlcRef) -> bool {
        self.held_hash(incoming).is_some()
    }
}
