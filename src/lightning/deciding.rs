//! Programs that decide about channels of others and about forwards.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use leyden_channels::{
    switch::{HtlcRef, InterceptedHtlc, Interception, SwitchEvent},
    types::{ChannelId, HtlcId, ShortChannelId},
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{
    StreamExt as _,
    wrappers::{ReceiverStream, UnboundedReceiverStream},
};
use tracing::{info, warn};

use super::LightningNode;
use crate::{
    api::{ApiError, ChannelAnswer, ChannelQuestion, ChannelVerdict, Deciding, InterceptionAnswer, Updates},
    driver::{acceptors::Acceptor, interceptor::Intercepting, services::Services},
};

/// Questions that are on their way to a program.
const QUESTIONS: usize = 8;

#[async_trait]
impl Deciding for LightningNode {
    async fn accept_channels(&self, answers: Updates<ChannelAnswer>) -> Result<Updates<ChannelQuestion>, ApiError> {
        let (acceptor, questions) = self.services().acceptors.add();
        let (sender, receiver) = mpsc::channel(QUESTIONS);
        tokio::spawn(accepting(acceptor, questions, answers, sender));
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn intercept(&self, answers: Updates<InterceptionAnswer>) -> Result<Updates<InterceptedHtlc>, ApiError> {
        let services = Arc::clone(self.services());
        let (intercepting, questions, came) = services.begin_intercepting().ok_or_else(|| {
            ApiError::exists("interceptor already exists: one program decides about forwards at a time")
        })?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let task =
            InterceptorTask { services: Arc::clone(&services), _intercepting: intercepting, names: HashMap::new() };
        tokio::spawn(task.run(questions, answers, sender));
        // What is held already is asked about now.
        self.carry_out(came).await?;
        Ok(Box::pin(UnboundedReceiverStream::new(receiver)))
    }
}

/// Hands questions to a program, and its answers to who waits for them, until it goes.
async fn accepting(
    acceptor: Acceptor,
    mut questions: mpsc::Receiver<crate::driver::acceptors::Asked>,
    mut answers: Updates<ChannelAnswer>,
    program: mpsc::Sender<Result<ChannelQuestion, ApiError>>,
) {
    // However this ends, the program is asked no more.
    let _acceptor = acceptor;
    let mut waiting: HashMap<ChannelId, oneshot::Sender<ChannelVerdict>> = HashMap::new();
    loop {
        tokio::select! {
            () = program.closed() => return,
            asked = questions.recv() => {
                let Some(asked) = asked else { return };
                // Those that were given up are forgotten.
                waiting.retain(|_, answer| !answer.is_closed());
                // Another node that takes the same id would get the first one's answer.
                let id = asked.question.id;
                if waiting.contains_key(&id) || program.try_send(Ok(asked.question)).is_err() {
                    continue;
                }
                waiting.insert(id, asked.answer);
            }
            answer = answers.next() => match answer {
                Some(Ok(ChannelAnswer { id, verdict })) => {
                    if let Some(waits) = waiting.remove(&id) {
                        let _ = waits.send(verdict);
                    }
                }
                Some(Err(error)) => {
                    let _ = program.try_send(Err(error));
                    return;
                }
                None => return,
            },
        }
    }
}

struct InterceptorTask {
    services: Arc<Services>,
    _intercepting: Intercepting,
    /// What incoming channels are called for the program.
    names: HashMap<(ShortChannelId, HtlcId), HtlcRef>,
}

impl InterceptorTask {
    async fn run(
        mut self,
        mut questions: mpsc::UnboundedReceiver<InterceptedHtlc>,
        mut answers: Updates<InterceptionAnswer>,
        program: mpsc::UnboundedSender<Result<InterceptedHtlc, ApiError>>,
    ) {
        info!("a program decides about forwards");
        loop {
            tokio::select! {
                () = program.closed() => break,
                question = questions.recv() => {
                    let Some(question) = question else { break };
                    // Answered, failed in time, or closed: the switch knows.
                    let services = &self.services;
                    self.names.retain(|_, incoming| services.is_held(incoming));
                    self.names.insert((question.incoming_channel, question.incoming.id), question.incoming);
                    if program.send(Ok(question)).is_err() {
                        break;
                    }
                }
                answer = answers.next() => {
                    let done = match answer {
                        Some(Ok(answer)) => self.answer(answer).await,
                        Some(Err(error)) => Err(error),
                        None => break,
                    };
                    if let Err(error) = done {
                        warn!(%error, "the program that decides about forwards is let go");
                        let _ = program.send(Err(error));
                        break;
                    }
                }
            }
        }
        info!("no program decides about forwards any more");
        let Self { services, _intercepting, .. } = self;
        drop(_intercepting);
        let gone = services.end_intercepting();
        let _ = services.run(gone).await;
    }

    /// A second answer, or one that comes too late, changes nothing.
    async fn answer(&mut self, answer: InterceptionAnswer) -> Result<(), ApiError> {
        let InterceptionAnswer { channel, htlc, answer } = answer;
        let Some(incoming) = self.names.get(&(channel, htlc)).copied() else { return Ok(()) };
        if let Interception::Settle(preimage) = &answer
            && self.services.held_hash(&incoming).is_some_and(|hash| hash != preimage.hash())
        {
            return Err(ApiError::invalid("preimage does not match hash: the HTLC is not taken with it"));
        }
        let underway = self.services.tell_switch(SwitchEvent::Intercepted { incoming, answer });
        self.services.run(underway).await.map_err(|_| ApiError::unavailable("the daemon is stopping"))
    }
}
