//! When which of several channels of one transaction goes on.

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, TxIn, WPubkeyHash, WScriptHash, absolute::LockTime, hashes::Hash as _,
    transaction::Version,
};
use tokio::sync::mpsc;

use super::*;

const A: ChannelId = ChannelId([1; 32]);
const B: ChannelId = ChannelId([2; 32]);

struct Bench {
    fundings: Arc<PsbtFundings>,
    peer: PublicKey,
    commands: mpsc::UnboundedReceiver<Command>,
}

fn output(of: ChannelId) -> TxOut {
    TxOut { value: Amount::from_sat(100_000), script_pubkey: ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(of.0)) }
}

/// A PSBT that pays these channels.
fn psbt(channels: &[ChannelId]) -> Psbt {
    let input = TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 0 },
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        ..TxIn::default()
    };
    let output = channels.iter().map(|id| output(*id)).collect();
    let transaction = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output };
    let mut psbt = Psbt::from_unsigned_tx(transaction).unwrap();
    let script_pubkey = ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros());
    psbt.inputs[0].witness_utxo = Some(TxOut { value: Amount::from_sat(1_000_000), script_pubkey });
    psbt
}

impl Bench {
    fn new() -> Self {
        let peers = Peers::new(1_000);
        let peer = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap();
        let (mailbox, commands) = mpsc::unbounded_channel();
        peers.enter(peer, || mailbox, None);
        Self { fundings: Arc::new(PsbtFundings::new(peers)), peer, commands }
    }

    /// Its peer has accepted.
    fn accepted(&self, id: ChannelId, publishes: bool) {
        self.fundings.begin(id, self.peer, publishes).unwrap();
        self.fundings.output_known(&id, output(id));
    }

    fn finalize(&self, id: ChannelId, psbt: &Psbt) -> Result<(), FundingStepError> {
        self.fundings.finalize(&id, psbt.unsigned_tx.clone())
    }

    /// What the peer's task was told: which channel goes on and who publishes its transaction, or why it ends.
    fn told(&mut self) -> Vec<(ChannelId, Result<Publisher, String>)> {
        let mut told = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            told.push(match command {
                Command::Fund { channel, publisher, .. } => (channel, Ok(publisher)),
                Command::CancelOpening { channel, reason } => (channel, Err(reason)),
                _ => panic!("another command"),
            });
        }
        told
    }
}

#[tokio::test]
async fn of_two_channels_that_publish_one_transaction_the_last_does_and_waits_for_the_other() {
    let mut bench = Bench::new();
    bench.accepted(A, true);
    bench.accepted(B, true);
    let psbt = psbt(&[A, B]);
    for id in [A, B] {
        bench.fundings.verify(&id, &psbt, false).unwrap();
    }
    assert!(bench.told().is_empty(), "nothing is told to a peer before the transaction is signed");
    bench.finalize(A, &psbt).unwrap();
    assert_eq!(bench.told(), [(A, Ok(Publisher::Maker))]);
    bench.finalize(B, &psbt).unwrap();
    assert!(bench.told().is_empty(), "it is published when both have a commitment");
    assert_eq!(bench.fundings.signed(&A), Some(Publisher::Maker));
    assert_eq!(bench.told(), [(B, Ok(Publisher::Channel))]);
    assert_eq!(bench.fundings.signed(&B), Some(Publisher::Channel));
}

#[tokio::test]
async fn a_transaction_is_not_published_if_a_channel_that_it_pays_for_has_ended() {
    let mut bench = Bench::new();
    bench.accepted(A, false);
    bench.accepted(B, true);
    let both = psbt(&[A, B]);
    bench.fundings.verify(&A, &both, false).unwrap();
    bench.fundings.verify(&B, &both, false).unwrap();
    bench.finalize(A, &both).unwrap();
    bench.finalize(B, &both).unwrap();
    assert_eq!(bench.told(), [(A, Ok(Publisher::Maker))]);
    // The peer's funding_signed does not come.
    drop(PsbtFunding::new(Arc::clone(&bench.fundings), A));
    let told = bench.told();
    assert!(matches!(&told[..], [(B, Err(reason))] if reason.contains("has no commitment")), "{told:?}");

    // Whoever comes later with such a transaction is told so, too.
    let c = ChannelId([3; 32]);
    bench.accepted(c, true);
    let other = bench.fundings.verify(&c, &psbt(&[A, c]), false);
    assert!(matches!(other, Err(FundingStepError::OtherEnded { channel: A, .. })), "{other:?}");
    bench.fundings.verify(&c, &psbt(&[c]), false).unwrap();
}

#[tokio::test]
async fn a_channel_that_its_user_signs_for_elsewhere_goes_on_when_it_is_verified() {
    let mut bench = Bench::new();
    bench.accepted(A, true);
    let psbt = psbt(&[A]);
    assert_eq!(bench.fundings.verify(&A, &psbt, true), Err(FundingStepError::SkipsAndPublishes));
    bench.accepted(B, false);
    bench.fundings.verify(&B, &self::psbt(&[B]), true).unwrap();
    assert_eq!(bench.told(), [(B, Ok(Publisher::Maker))]);
    let again = bench.fundings.verify(&B, &self::psbt(&[B]), true);
    assert!(matches!(again, Err(FundingStepError::State { got: "funding_tx_compiled", .. })), "{again:?}");
}

#[tokio::test]
async fn steps_out_of_order_and_of_unknown_channels_change_nothing() {
    let mut bench = Bench::new();
    let psbt = psbt(&[A]);
    assert_eq!(bench.fundings.verify(&A, &psbt, false), Err(FundingStepError::Unknown(A)));
    assert_eq!(bench.fundings.cancel(&A, "no more"), Err(FundingStepError::Unknown(A)));
    bench.fundings.begin(A, bench.peer, true).unwrap();
    assert_eq!(bench.fundings.begin(A, bench.peer, true), Err(FundingStepError::Duplicate(A)));
    let early = bench.fundings.verify(&A, &psbt, false);
    assert!(matches!(early, Err(FundingStepError::State { got: "shim_registered", .. })), "{early:?}");
    bench.fundings.output_known(&A, output(A));
    let early = bench.finalize(A, &psbt);
    assert!(matches!(early, Err(FundingStepError::State { got: "output_known", .. })), "{early:?}");
    bench.fundings.verify(&A, &psbt, false).unwrap();
    let other = bench.finalize(A, &self::psbt(&[A, B]));
    assert!(matches!(other, Err(FundingStepError::State { .. })), "another transaction: {other:?}");
    assert!(bench.told().is_empty());
    bench.finalize(A, &psbt).unwrap();
    assert_eq!(bench.told(), [(A, Ok(Publisher::Channel))]);
    assert!(!bench.fundings.expire(&A, "too late"), "its peer has to answer, not its user");
    bench.fundings.signed(&A);
    assert_eq!(bench.fundings.cancel(&A, "no more"), Err(FundingStepError::Unknown(A)));
}

#[tokio::test]
async fn an_id_may_be_used_again_if_what_it_named_ended_before_anybody_could_pay_it() {
    let mut bench = Bench::new();
    bench.fundings.begin(A, bench.peer, true).unwrap();
    drop(PsbtFunding::new(Arc::clone(&bench.fundings), A));
    bench.accepted(A, true);
    assert!(bench.fundings.expire(&A, "too late"));
    assert_eq!(bench.told(), [(A, Err("too late".to_owned()))]);
    drop(PsbtFunding::new(Arc::clone(&bench.fundings), A));
    assert_eq!(bench.fundings.begin(A, bench.peer, true), Err(FundingStepError::Duplicate(A)));
}
