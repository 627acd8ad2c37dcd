//! The Lightning paper's payment, three times: Alice pays Dave 0.05 over Bob and Carol, who keep 0.001 each; the locks end
//! three, two and one days from now.
//!
//! - [`paid`]: all goes well.
//! - [`silent`]: Dave has it within reach and says nothing. Everybody is refunded, from the end of the way to its start.
//! - [`offline`]: Dave takes it, so that Carol learns the preimage, and Bob is away. She is paid by the chain, and Bob
//!   reads there what he needs to be paid by Alice.

mod cast;
mod offline;
mod paid;
mod silent;

use std::collections::{BTreeMap, BTreeSet};

use super::{DataFolder, DemoError, DemoOptions, Narrator, calls::settled_balance, ledger::Ledger, narrator::coins};
use cast::Cast;

const CAPACITY: i64 = 100_000_000;
const AMOUNT: i64 = 5_000_000;
/// What Bob and Carol keep each.
const FEE: i64 = 100_000;
const DAY_BLOCKS: u32 = 144;
/// Blocks after which a channel is told to the network.
const DEEP: u32 = 6;
/// Blocks after which the spend of an output of a closed channel is final (BOLT 5).
const FINAL: u32 = 100;

/// Plays the story. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    let folder = DataFolder::new(options.folder)?;
    let mut narrator = Narrator::default();
    let mut cast = Cast::start(&mut narrator, folder.path()).await?;
    let result = tell(&mut narrator, &mut cast).await;
    if options.keep {
        let folder = folder.keep();
        println!("\nThe nodes keep running in {}. Talk to them, for example:", folder.display());
        for node in cast.all_mut() {
            println!("  leyden --data-dir {} getinfo", node.data_dir().display());
            node.keep_running();
        }
        println!("Stop them with `leyden --data-dir … stop`.");
    }
    result?;
    narrator.finish()
}

async fn tell(narrator: &mut Narrator, cast: &mut Cast) -> Result<(), DemoError> {
    cast.prepare(narrator).await?;
    let (before, height) = (cast.fortunes().await?, cast.alice.height().await?);
    paid::tell(narrator, cast).await?;
    let carol_closes = silent::tell(narrator, cast).await?;
    let bobs_closed = offline::tell(narrator, cast).await?;

    narrator.step("Carol's delays run out, and a hundred blocks more make all of it final");
    cast.mine_until_matured().await?;
    cast.mine_slowly(4).await?;
    cast.mine(FINAL).await?;
    cast.wait_for_closings().await?;

    // Whoever opened a channel bears the cost of its commitment transaction; everybody pays for transactions of their own.
    let ledger = Ledger::since(&cast.alice, height).await?;
    let (mut borne, mut commitments) = (BTreeMap::new(), Vec::new());
    let everybodys: BTreeSet<String> = ledger.txids().collect();
    for (opener, channel_point) in [("carol", carol_closes), ("bob", bobs_closed)] {
        let commitment = ledger.spender(&channel_point).unwrap_or_default();
        let cost = ledger.commitment_cost(commitment, CAPACITY);
        narrator.say(&format!("the commitment of {opener}'s channel paid {} to miners and for anchors", coins(cost)));
        borne.insert(opener, cost + ledger.anchors_swept(commitment, &everybodys));
        commitments.push(commitment);
    }
    narrator.step("Every satoshi is where it belongs: two of the three payments were made");
    let gains = [-(AMOUNT + 2 * FEE), FEE, FEE, AMOUNT].map(|gain| 2 * gain);
    let mut all = [0, 0];
    for ((node, gain), before) in cast.all().into_iter().zip(gains).zip(before) {
        let txids = node.wallet_txids().await?;
        let (fees, count) = ledger.fees(&txids);
        let swept: i64 = commitments.iter().map(|commitment| ledger.anchors_swept(commitment, &txids)).sum();
        let costs = fees + borne.get(node.name()).copied().unwrap_or_default() - swept;
        narrator.say(&format!("{}: {count} transactions paid {} to miners", node.name(), coins(fees)));
        let in_channels = cast::in_channels(node).await?;
        let expected = before + gain - costs;
        let wallet = settled_balance(node, expected - in_channels).await?;
        narrator.check(&format!("{} has in channels and wallet", node.name()), expected, in_channels + wallet);
        all = [all[0] + before - costs, all[1] + in_channels + wallet];
    }
    narrator.check("all of them together, less what miners got", all[0], all[1]);
    Ok(())
}
