//! `make bench-peers WHAT=route`: our router and LDK's on one network, for the same payments, in turns.
//!
//! Both know what gossip would tell them and have learnt nothing yet; both have the parameters that they come with (LDK
//! splits into at most 10 parts, we into 16), and the same limit on fees. What they find is checked and judged by
//! [`leyden_channels::routing::trial`], which favours neither: by the balances of the made-up network and the law that
//! they were drawn by. Fees and chances are compared over the payments that both found a route for, at three prices of a
//! chance; a factor of *e* more is worth half a thousandth of the amount to LDK's defaults, a thousandth to ours.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

mod ldk;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use leyden_channels::{
    gossip::synthetic::Size,
    routing::{
        Router, Scorer,
        trial::{Answer, Trial, Verdict},
    },
    types::Msat,
};

/// 0.01 of a coin.
const AMOUNT: Msat = Msat(1_000_000_000);
const QUERIES: usize = 1_000;
/// So many times as fast at the median.
const GOAL: f64 = 10.0;
/// What a factor of *e* in the chance is worth, as a share of the amount.
const PRICES: [f64; 3] = [0.0005, 0.001, 0.002];

/// One router's answers.
#[derive(Default)]
struct Answers {
    times: Vec<Duration>,
    /// With the number of parts.
    verdicts: Vec<Option<(Verdict, usize)>>,
}

impl Answers {
    fn note(&mut self, trial: &Trial, pair: usize, time: Duration, answer: Option<&Answer>) {
        self.times.push(time);
        let judge = |answer: &Answer| {
            let verdict = trial.judge(trial.pairs[pair], answer).expect("a route that the network has");
            (verdict, answer.parts.len())
        };
        self.verdicts.push(answer.map(judge));
    }

    fn percentile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3
    }

    fn found(&self) -> usize {
        self.verdicts.iter().flatten().count()
    }

    /// The mean over the payments that both found a route for.
    fn mean(&self, other: &Self, of: impl Fn(&Verdict, usize) -> f64) -> f64 {
        let both = self.verdicts.iter().zip(&other.verdicts).filter(|(_, other)| other.is_some());
        let values: Vec<f64> = both.filter_map(|(own, _)| own.as_ref()).map(|(own, parts)| of(own, *parts)).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    }
}

fn main() -> ExitCode {
    // `cargo bench` passes flags of its own.
    let queries = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(QUERIES);
    let trial = Trial::new(Size::PUBLIC, queries, AMOUNT);
    eprintln!(
        "finding {queries} routes twice through {} nodes and {} channels",
        Size::PUBLIC.nodes,
        Size::PUBLIC.channels
    );
    let (graph, scorer, mut router) = (trial.network.graph(), Scorer::new(), Router::new());
    let peer = ldk::Ldk::new(&trial.network);
    let (mut ours, mut theirs) = (Answers::default(), Answers::default());
    for (index, &pair) in trial.pairs.iter().enumerate() {
        let begun = Instant::now();
        let plan = router.find(&graph, &scorer, &trial.request(pair.0, pair.1)).ok();
        let time = begun.elapsed();
        ours.note(&trial, index, time, plan.as_ref().map(Answer::from).as_ref());
        let question = ldk::question(&trial, pair.1);
        let begun = Instant::now();
        let route = peer.find(pair.0, &question);
        let time = begun.elapsed();
        theirs.note(&trial, index, time, route.as_ref().map(ldk::answer).as_ref());
    }

    println!("{:<44}{:>14}{:>14}", "", "leyden", "LDK");
    let line = |name: &str, ours: String, theirs: String| println!("{name:<44}{ours:>14}{theirs:>14}");
    for percent in [50, 99] {
        let ms = |answers: &Answers| format!("{:.3} ms", answers.percentile(percent));
        line(&format!("time for a route, p{percent}"), ms(&ours), ms(&theirs));
    }
    line("routes found", ours.found().to_string(), theirs.found().to_string());
    let means = |of: &dyn Fn(&Verdict, usize) -> f64| (ours.mean(&theirs, of), theirs.mean(&ours, of));
    let amount = AMOUNT.0 as f64;
    let percent = |share: f64| format!("{:.4} %", share * 100.0);
    println!("of those that both found, on average");
    let parts = means(&|_, parts| parts as f64);
    line("  parts", format!("{:.2}", parts.0), format!("{:.2}", parts.1));
    let fee = means(&|verdict, _| verdict.fee.0 as f64 / amount);
    line("  fee", percent(fee.0), percent(fee.1));
    let chance = means(&|verdict, _| (-verdict.nats).exp());
    line("  chance to arrive at the first try", percent(chance.0), percent(chance.1));
    let arrives = means(&|verdict, _| f64::from(u8::from(verdict.arrives)));
    line("  arrive, with the balances that are there", percent(arrives.0), percent(arrives.1));
    let mut no_worse = true;
    for price in PRICES {
        let cost = means(&|verdict, _| verdict.cost(price * amount) / amount);
        line(&format!("  fee and chance, e times at {:.2} %", price * 100.0), percent(cost.0), percent(cost.1));
        no_worse &= cost.0 <= cost.1;
    }
    let ratio = theirs.percentile(50) / ours.percentile(50);
    println!("ratio: {ratio:.0}");
    if ratio >= GOAL && no_worse { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
