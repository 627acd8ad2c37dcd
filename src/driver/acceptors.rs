//! Programs that are asked whether a channel of another node is opened.
//!
//! ```text
//!   open_channel ──checked──► each program is asked ──all accept──► accept_channel, with what they fix
//!                                      └── one refuses, goes away or is silent ──► error
//! ```
//!
//! Strangers can make it ask: so there is a bound on questions at a time, and each ends by itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bitcoin::{Amount, ScriptBuf, constants::ChainHash};
use futures_util::future::join_all;
use leyden_channels::{
    channel::{AcceptOverrides, ChannelType},
    types::{ChannelId, FeeratePerKw, Msat},
};
use secp256k1::PublicKey;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// How long a program may take: LND's number.
const ACCEPTOR_TIMEOUT: Duration = Duration::from_secs(15);
/// Questions at a time; more are refused. A program that answers at once never has more than a few.
const MAX_QUESTIONS: usize = 64;
/// What the other node is told if nothing better is known: LND's words.
pub(crate) const REJECTED: &str = "channel rejected";

/// A channel that another node wants to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelQuestion {
    pub node_id: PublicKey,
    pub chain: ChainHash,
    pub id: ChannelId,
    pub capacity: Amount,
    pub push: Msat,
    pub dust_limit: Amount,
    pub max_in_flight: Msat,
    pub reserve: Amount,
    pub htlc_minimum: Msat,
    pub feerate: FeeratePerKw,
    pub delay: u16,
    pub max_htlcs: u16,
    pub flags: u8,
    pub channel_type: ChannelType,
}

/// What is decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChannelVerdict {
    Accept(Box<ChannelTerms>),
    /// The words are for the other node.
    Refuse(String),
}

/// What the answer fixes; the rest is the node's usual choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelTerms {
    pub overrides: AcceptOverrides,
    /// Where our part goes at a cooperative close.
    pub shutdown_script: Option<ScriptBuf>,
    /// It is used before it is confirmed.
    pub zero_conf: bool,
}

/// A question and where its answer goes.
pub(crate) struct Asked {
    pub question: ChannelQuestion,
    pub answer: oneshot::Sender<ChannelVerdict>,
}

/// All programs that are asked.
#[derive(Default)]
pub(crate) struct Acceptors {
    programs: Mutex<Programs>,
    questions: AtomicUsize,
}

#[derive(Default)]
struct Programs {
    next: u64,
    all: BTreeMap<u64, mpsc::Sender<Asked>>,
}

impl Acceptors {
    fn lock(&self) -> MutexGuard<'_, Programs> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody is to be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().all.is_empty()
    }

    /// One more program; it is asked until what is returned first is dropped.
    pub(crate) fn add(self: &Arc<Self>) -> (Acceptor, mpsc::Receiver<Asked>) {
        let (sender, questions) = mpsc::channel(MAX_QUESTIONS);
        let mut programs = self.lock();
        let id = programs.next;
        programs.next = programs.next.wrapping_add(1);
        programs.all.insert(id, sender);
        (Acceptor { acceptors: Arc::clone(self), id }, questions)
    }

    /// What all of them say.
    pub(crate) async fn decide(&self, question: ChannelQuestion) -> ChannelVerdict {
        self.decide_within(ACCEPTOR_TIMEOUT, question).await
    }

    async fn decide_within(&self, limit: Duration, question: ChannelQuestion) -> ChannelVerdict {
        let _count = Counted(&self.questions);
        if self.questions.fetch_add(1, Ordering::Relaxed) >= MAX_QUESTIONS {
            return refuse();
        }
        let programs: Vec<mpsc::Sender<Asked>> = self.lock().all.values().cloned().collect();
        let ask = |program: mpsc::Sender<Asked>| {
            let (answer, verdict) = oneshot::channel();
            let asked = Asked { question: question.clone(), answer };
            async move {
                // One that reads nothing, and one that has just gone, does not agree.
                if program.try_send(asked).is_err() {
                    return refuse();
                }
                timeout(limit, verdict).await.ok().and_then(Result::ok).unwrap_or_else(refuse)
            }
        };
        let verdicts = join_all(programs.into_iter().map(ask)).await;
        let mut terms = ChannelTerms::default();
        for verdict in verdicts {
            match verdict {
                ChannelVerdict::Refuse(words) => return ChannelVerdict::Refuse(words),
                ChannelVerdict::Accept(more) => match both(terms, *more) {
                    Some(both) => terms = both,
                    // They contradict each other.
                    None => return refuse(),
                },
            }
        }
        ChannelVerdict::Accept(Box::new(terms))
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refuse() -> ChannelVerdict {
    ChannelVerdict::Refuse(REJECTED.to_owned())
}

/// What both fix; `None` if they fix something differently.
fn both(a: ChannelTerms, b: ChannelTerms) -> Option<ChannelTerms> {
    fn one<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
        match (a, b) {
            (Some(a), Some(b)) => (a == b).then_some(Some(a)),
            (a, b) => Some(a.or(b)),
        }
    }
    let (left, right) = (a.overrides, b.overrides);
    let zero_conf = a.zero_conf || b.zero_conf;
    let minimum_depth = one(left.minimum_depth, right.minimum_depth)?;
    if zero_conf && minimum_depth.is_some() {
        return None;
    }
    Some(ChannelTerms {
        overrides: AcceptOverrides {
            to_self_delay: one(left.to_self_delay, right.to_self_delay)?,
            reserve: one(left.reserve, right.reserve)?,
            max_in_flight: one(left.max_in_flight, right.max_in_flight)?,
            max_accepted_htlcs: one(left.max_accepted_htlcs, right.max_accepted_htlcs)?,
            htlc_minimum: one(left.htlc_minimum, right.htlc_minimum)?,
            minimum_depth,
        },
        shutdown_script: one(a.shutdown_script, b.shutdown_script)?,
        zero_conf,
    })
}

/// A program that is asked; no longer, when this is dropped.
pub(crate) struct Acceptor {
    acceptors: Arc<Acceptors>,
    id: u64,
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.acceptors.lock().all.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use bitcoin::Network;
    use leyden_channels::types::CommitmentType;

    use super::*;

    fn question() -> ChannelQuestion {
        let node = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        ChannelQuestion {
            node_id: PublicKey::from_str(node).unwrap(),
            chain: ChainHash::using_genesis_block(Network::Regtest),
            id: ChannelId([7; 32]),
            capacity: Amount::from_sat(1_000_000),
            push: Msat(0),
            dust_limit: Amount::from_sat(354),
            max_in_flight: Msat(1_000_000_000),
            reserve: Amount::from_sat(10_000),
            htlc_minimum: Msat(1),
            feerate: FeeratePerKw(1_000),
            delay: 144,
            max_htlcs: 483,
            flags: 1,
            channel_type: ChannelType { commitment: CommitmentType::Anchors, scid_alias: false, zero_conf: false },
        }
    }

    fn accepting(terms: ChannelTerms) -> ChannelVerdict {
        ChannelVerdict::Accept(Box::new(terms))
    }

    fn delay(blocks: u16) -> ChannelTerms {
        let overrides = AcceptOverrides { to_self_delay: Some(blocks), ..AcceptOverrides::default() };
        ChannelTerms { overrides, ..ChannelTerms::default() }
    }

    /// What is decided if these programs say this.
    async fn decided(verdicts: Vec<ChannelVerdict>) -> ChannelVerdict {
        let acceptors = Arc::new(Acceptors::default());
        let mut keep = Vec::new();
        for verdict in verdicts {
            let (acceptor, mut questions) = acceptors.add();
            keep.push(acceptor);
            tokio::spawn(async move {
                let asked: Asked = questions.recv().await.unwrap();
                let _ = asked.answer.send(verdict);
            });
        }
        acceptors.decide(question()).await
    }

    #[tokio::test]
    async fn all_programs_must_agree_and_what_each_fixes_counts() {
        let reserve = ChannelTerms {
            overrides: AcceptOverrides { reserve: Some(Amount::from_sat(20_000)), ..AcceptOverrides::default() },
            zero_conf: true,
            ..ChannelTerms::default()
        };
        let ChannelVerdict::Accept(terms) = decided(vec![accepting(delay(99)), accepting(reserve)]).await else {
            panic!()
        };
        assert_eq!(terms.overrides.to_self_delay, Some(99));
        assert_eq!(terms.overrides.reserve, Some(Amount::from_sat(20_000)));
        assert!(terms.zero_conf);
        let no = ChannelVerdict::Refuse("not today".to_owned());
        assert_eq!(decided(vec![accepting(delay(99)), no.clone()]).await, no);
        assert_eq!(decided(vec![accepting(delay(99)), accepting(delay(100))]).await, refuse());
        assert!(matches!(decided(vec![accepting(delay(99)), accepting(delay(99))]).await, ChannelVerdict::Accept(_)));
    }

    #[tokio::test]
    async fn a_silent_program_refuses_after_its_time_and_one_that_has_gone_is_not_asked() {
        let acceptors = Arc::new(Acceptors::default());
        assert!(acceptors.is_empty());
        let (silent, questions) = acceptors.add();
        assert_eq!(acceptors.decide_within(Duration::from_millis(20), question()).await, refuse());
        drop(questions);
        assert_eq!(acceptors.decide(question()).await, refuse(), "it goes at this moment");
        drop(silent);
        assert!(acceptors.is_empty());
        assert_eq!(acceptors.decide(question()).await, accepting(ChannelTerms::default()));
    }

    #[tokio::test]
    async fn a_crowd_that_asks_for_channels_has_a_bound() {
        let acceptors = Arc::new(Acceptors::default());
        let (silent, mut questions) = acceptors.add();
        let waiting: Vec<_> = (0..MAX_QUESTIONS)
            .map(|_| {
                let acceptors = Arc::clone(&acceptors);
                tokio::spawn(async move { acceptors.decide(question()).await })
            })
            .collect();
        let mut asked = Vec::new();
        for _ in 0..MAX_QUESTIONS {
            asked.push(questions.recv().await.unwrap());
        }
        assert_eq!(acceptors.decide(question()).await, refuse(), "at once");
        assert!(questions.try_recv().is_err(), "and nobody is asked");
        // The program goes: all that waited for it are refused.
        drop((silent, questions, asked));
        for one in waiting {
            assert_eq!(one.await.unwrap(), refuse());
        }
        assert_eq!(acceptors.questions.load(Ordering::Relaxed), 0);
    }
}
