//! Trees of blocks, right and wrong ones, given to both in any order: the tips must be the same after each.
//!
//! ```text
//!   base ─┬─▶ ▢ ─▶ ▢ ─▶ ▢ wrong ─▶ ▢          blocks come with or without their headers first, late, twice,
//!         └─▶ ▢ ─▶ ▢ ─▶ ▢ ─▶ ▢ ─▶ ▢           or first as a copy that was tampered with
//! ```

mod coins;
mod draft;
mod judges;

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Mutex;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use leyden_consensus::Params;
use leyden_consensus::script::opcodes::OP_RETURN;

use self::coins::{Known, Lock, Open};
use self::draft::{Draft, Fault};
use self::judges::{Ours, Theirs};
use crate::draw::Draw;
use crate::scripts::keys::Keys;
use crate::scripts::{Locks, Spend, core_accepts, mutate_bytes, sign_all};

/// What was met on the way: verdicts by fault, reorganisations.
#[derive(Default)]
pub struct Met(pub Mutex<BTreeMap<String, usize>>);

impl Met {
    fn note(&self, what: String) {
        *self.0.lock().expect("no panic").entry(what).or_default() += 1;
    }
}

/// A place to build on.
struct Place {
    hash: BlockHash,
    parent: Option<usize>,
    height: u32,
    times: Vec<u32>,
    coins: Rc<BTreeMap<OutPoint, Known>>,
    block: Option<Block>,
}

impl Place {
    fn median_time(&self) -> u32 {
        let mut last: Vec<u32> = self.times.iter().rev().take(11).copied().collect();
        last.sort_unstable();
        last[last.len() / 2]
    }
}

struct Tree<'k> {
    keys: &'k Keys,
    places: Vec<Place>,
    /// Places whose blocks one of the judges has refused.
    refused: HashSet<usize>,
    ours: Ours,
    theirs: Theirs,
    met: &'k Met,
    /// What was given to the judges beyond the base, and what they said.
    trail: Vec<String>,
}

/// Grows a tree of so many blocks beyond its base.
pub fn compare(seed: u64, keys: &Keys, met: &Met) -> Result<(), String> {
    let draw = &mut Draw::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Ours::open(folder.path(), draw.percent(50));
    let theirs = Theirs::open(folder.path());
    let genesis = Params::regtest().genesis;
    let root = Place {
        hash: genesis.block_hash(),
        parent: None,
        height: 0,
        times: vec![genesis.header.time],
        coins: Rc::default(),
        block: None,
    };
    let mut tree = Tree { keys, places: vec![root], refused: HashSet::new(), ours, theirs, met, trail: Vec::new() };
    let grown = tree.base(draw).and_then(|()| tree.grow(draw)).and_then(|()| tree.compare_ends());
    match grown {
        Err(Stop::Tie) => {
            met.note(TIE.to_owned());
            Ok(())
        }
        Err(Stop::Complaint(complaint)) => Err(complaint),
        Ok(()) => Ok(()),
    }
}

/// Why a tree is not grown any further.
enum Stop {
    Complaint(String),
    /// One late body completed several tips, and the best of them turned out wrong. Of two others with equal work Bitcoin
    /// Core takes the one whose chain was complete first, even if it stands on the other by then; we stay where we are,
    /// which saves a reorganisation. Both are valid, and the next block decides; but from here on the two may differ.
    Tie,
}

/// How often a tree ended in a tie.
pub const TIE: &str = "tie";

impl Tree<'_> {
    /// Blocks without faults until coinbases can be spent; the subsidy halves at 150.
    fn base(&mut self, draw: &mut Draw) -> Result<(), Stop> {
        for _ in 0..draw.pick(&[101, 101, 102, 103, 110, 148]) {
            let parent = self.places.len() - 1;
            let place = self.build(draw, parent, None, 0);
            self.deliver(place, "base")?;
        }
        Ok(())
    }

    fn grow(&mut self, draw: &mut Draw) -> Result<(), Stop> {
        let base = self.places.len() - 1;
        let mut late: Vec<usize> = Vec::new();
        for _ in 0..draw.within(20, 40) {
            let parent = self.choose_parent(draw, base);
            let fault = draw.percent(20).then(|| Fault::draw(draw));
            let transactions = draw.below(5);
            let place = self.build(draw, parent, fault, transactions);
            let name = fault.map_or("none".to_owned(), |fault| format!("{fault:?}"));
            if draw.percent(20) {
                self.deliver_header(place)?;
            }
            if draw.percent(12) {
                late.push(place);
                continue;
            }
            if draw.percent(10) {
                self.deliver_tampered(draw, place)?;
            }
            self.deliver(place, &name)?;
            if draw.percent(5) {
                self.deliver_again(draw, base)?;
            }
            if !late.is_empty() && draw.percent(20) {
                let place = late.swap_remove(draw.below(late.len()));
                self.deliver(place, "late")?;
            }
        }
        while !late.is_empty() {
            let place = late.swap_remove(draw.below(late.len()));
            self.deliver(place, "late")?;
        }
        // A block whose parent was late had no place yet when it came.
        for place in base..self.places.len() {
            self.deliver(place, "again")?;
        }
        Ok(())
    }

    /// Mostly on the branch that is growing, until it is wrong or another one begins somewhere behind an end.
    fn choose_parent(&self, draw: &mut Draw, base: usize) -> usize {
        let last = self.places.len() - 1;
        let tip = self.ours.tip();
        let wrong = self.refused.contains(&last) || self.has_refused_ancestor(last);
        match draw.below(100) {
            0..=19 => draw.within(last.saturating_sub(4).max(base.saturating_sub(2)), last),
            20..=22 => draw.within(base.saturating_sub(4), last),
            23..=85 if wrong => self.places.iter().position(|place| place.hash == tip).unwrap_or(last),
            _ => last,
        }
    }

    fn build(&mut self, draw: &mut Draw, parent: usize, fault: Option<Fault>, transactions: usize) -> usize {
        let at = &self.places[parent];
        let height = at.height + 1;
        let lock = Open::draw(draw);
        let step = draw.pick(&[600, 600, 1, 511, 512, 513, 1_200]);
        let mut draft = Draft {
            parent: at.hash,
            height,
            median_time: at.median_time(),
            time: (at.times[at.times.len() - 1] + step).max(at.median_time() + 1),
            transactions: Vec::new(),
            fees: 0,
            sigop_cost: 0,
            nonce: draw.bits(),
            script_pubkey: lock.script_pubkey(),
        };
        // Every coin that the chain has, and what the block itself adds and spends.
        let mut coins = (*at.coins).clone();
        for _ in 0..transactions {
            self.add_transaction(draw, &mut draft, &mut coins);
        }
        let block = draft.finish(draw, fault);
        let mut times = at.times.clone();
        times.push(block.header.time);
        let mut after = (*at.coins).clone();
        for (index, tx) in block.txdata.iter().enumerate() {
            let txid = tx.compute_txid();
            tx.input.iter().for_each(|input| drop(after.remove(&input.previous_output)));
            for (vout, output) in (0u32..).zip(&tx.output) {
                let script = output.script_pubkey.as_bytes();
                if script.first() == Some(&OP_RETURN) || script.len() > 10_000 {
                    continue;
                }
                let outpoint = OutPoint { txid, vout };
                let drawn = coins.get(&outpoint).map(|known| known.lock.clone());
                let lock =
                    if index == 0 && vout == 0 { Lock::Open(lock.clone()) } else { drawn.unwrap_or(Lock::Closed) };
                let known = Known { output: output.clone(), height, is_coinbase: index == 0, lock };
                after.insert(outpoint, known);
            }
        }
        let (hash, block) = (block.block_hash(), Some(block));
        self.places.push(Place { hash, parent: Some(parent), height, times, coins: Rc::new(after), block });
        self.places.len() - 1
    }

    /// One that is valid, as far as Bitcoin Core's script check says; sometimes not.
    fn add_transaction(&self, draw: &mut Draw, draft: &mut Draft, coins: &mut BTreeMap<OutPoint, Known>) {
        // Coinbases from 100 blocks on; sometimes one block too early.
        let maturity = if draw.percent(2) { 99 } else { 100 };
        let can_spend = |known: &Known| {
            let mature = !known.is_coinbase || draft.height - known.height >= maturity;
            mature && !matches!(known.lock, Lock::Closed)
        };
        let spendable: Vec<OutPoint> =
            coins.iter().filter(|(_, known)| can_spend(known)).map(|(outpoint, _)| *outpoint).collect();
        if spendable.is_empty() {
            return;
        }
        let mut chosen: Vec<OutPoint> = (0..draw.within(1, 3)).map(|_| draw.pick(&spendable)).collect();
        chosen.sort();
        chosen.dedup();
        // Drawn scripts look at the lock time and at the sequence: one of them a transaction, alone.
        if let Some(drawn) = chosen.iter().find(|outpoint| matches!(coins[outpoint].lock, Lock::Drawn(..))) {
            chosen = vec![*drawn];
        }
        let known: Vec<Known> = chosen.iter().map(|outpoint| coins[outpoint].clone()).collect();
        let locks = match &known[0].lock {
            Lock::Drawn(_, locks) => *locks,
            Lock::Open(_) | Lock::Closed => Locks { lock_time: 0, sequence: draw.pick(&[u32::MAX, 0, 1, 0xffff_fffd]) },
        };
        let total: u64 = known.iter().map(|known| known.output.value.to_sat()).sum();
        let fee = (draw.below(3) as u64 * 500).min(total);
        let (mut output, mut locked) = (Vec::new(), Vec::new());
        let outputs = draw.within(1, 3) as u64;
        for index in 0..outputs {
            let value = if index + 1 == outputs {
                total - fee - (total - fee) / outputs * index
            } else {
                (total - fee) / outputs
            };
            let lock = self.draw_lock(draw, draft.height);
            let script_pubkey = match &lock {
                Lock::Open(open) => open.script_pubkey(),
                Lock::Drawn(spend, _) => spend.script_pubkey.clone(),
                Lock::Closed => ScriptBuf::new(),
            };
            output.push(TxOut { value: Amount::from_sat(value), script_pubkey });
            locked.push(lock);
        }
        let input = |outpoint: &OutPoint| TxIn {
            previous_output: *outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence(locks.sequence),
            witness: Witness::new(),
        };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(locks.lock_time),
            input: chosen.iter().map(input).collect(),
            output,
        };
        let mut spent: Vec<TxOut> = known.iter().map(|known| known.output.clone()).collect();
        let mut cost = 0;
        for (input, known) in tx.input.iter_mut().zip(&known) {
            if let Lock::Open(open) = &known.lock {
                (input.script_sig, input.witness) = open.unlock();
                cost += open.sigop_cost();
            }
        }
        if let Lock::Drawn(spend, _) = &known[0].lock {
            sign_all(&mut tx, &mut spent, std::slice::from_ref(spend.as_ref()), self.keys);
        }
        if !core_accepts(&tx, &spent) && draw.percent(90) {
            return;
        }
        draft.sigop_cost += cost;
        draft.fees += fee;
        let txid = tx.compute_txid();
        chosen.iter().for_each(|outpoint| drop(coins.remove(outpoint)));
        for ((vout, output), lock) in (0u32..).zip(&tx.output).zip(locked) {
            let known = Known { output: output.clone(), height: draft.height, is_coinbase: false, lock };
            coins.insert(OutPoint { txid, vout }, known);
        }
        draft.transactions.push(tx);
    }

    fn draw_lock(&self, draw: &mut Draw, height: u32) -> Lock {
        if draw.percent(50) {
            return Lock::Open(Open::draw(draw));
        }
        let locks =
            Locks { lock_time: draw.pick(&[0, 0, 1, height - 1]), sequence: draw.pick(&[u32::MAX, 0xffff_fffe, 0, 1]) };
        let spend = Spend::draw(draw, self.keys, locks);
        // What signs itself cannot be paid to before it is signed.
        if spend.is_complete() { Lock::Drawn(Rc::new(spend), locks) } else { Lock::Open(Open::Bare) }
    }

    fn deliver_header(&mut self, place: usize) -> Result<(), Stop> {
        let block = self.places[place].block.clone().expect("not the genesis block");
        let (we, they) = (self.ours.submit_header(&block), self.theirs.submit_header(&block));
        self.trail.push(format!("{place} header: we {we}, they {they}"));
        if we != they && !self.has_refused_ancestor(place) {
            return Err(self.complaint(place, "header", &format!("we take it: {we}, Bitcoin Core takes it: {they}")));
        }
        self.same_tip(place, "header")
    }

    fn deliver(&mut self, place: usize, name: &str) -> Result<(), Stop> {
        let Some(block) = &self.places[place].block else { return Ok(()) };
        let bytes = serialize(block);
        let before = self.ours.tip();
        let (we, they) = (self.ours.submit(&bytes), self.theirs.submit(&bytes));
        if name != "base" {
            self.trail.push(format!("{place} {name}: we {we:?}, they {they:?}"));
        }
        // What stands on a refused block can never be a tip; when it is refused is not a rule. Nor is it one for a block
        // that comes twice.
        let known = name == "again" || self.has_refused_ancestor(place);
        if we.is_ok() != they.is_ok() && !known {
            return Err(self.complaint(place, name, &format!("we say {we:?}, Bitcoin Core {they:?}")));
        }
        // Bitcoin Core does not remember a block that is wrong without a look at its chain, so it may keep what stands on it.
        if we.is_err() && they.is_err() {
            self.refused.insert(place);
        } else if we.is_ok() && they.is_ok() {
            self.refused.remove(&place);
        }
        self.met.note(format!("{name} {}", if they.is_ok() { "taken" } else { "refused" }));
        self.same_tip(place, name)?;
        let after = self.ours.tip();
        let parent = self.places[place].parent.map(|parent| self.places[parent].hash);
        if before != after && parent != Some(before) {
            self.met.note("reorganisation".to_owned());
        }
        Ok(())
    }

    /// A copy of a block that is not what its header says, before the block itself.
    fn deliver_tampered(&mut self, draw: &mut Draw, place: usize) -> Result<(), Stop> {
        let mut block = self.places[place].block.clone().expect("not the genesis block");
        let mut bytes = None;
        match draw.below(6) {
            // CVE-2012-2459: the same root.
            0 if block.txdata.len() > 1 => {
                let last = block.txdata.len() - 1;
                let again = if block.txdata.len() % 2 == 1 {
                    vec![block.txdata[last].clone()]
                } else {
                    block.txdata[last - 1..].to_vec()
                };
                block.txdata.extend(again);
            }
            1 => block.txdata.iter_mut().flat_map(|tx| &mut tx.input).for_each(|input| input.witness.clear()),
            2 => {
                let tx = draw.below(block.txdata.len().max(1));
                let Some(tx) = block.txdata.get_mut(tx) else { return Ok(()) };
                tx.input[0].witness.push([1, 2]);
            }
            3 => drop(block.txdata.pop()),
            4 if !block.txdata.is_empty() => block.txdata[0].output[0].value = Amount::from_sat(1),
            _ => {
                let mut all = serialize(&block);
                let mut body = all.split_off(80);
                mutate_bytes(draw, &mut body);
                bytes = Some([all, body].concat());
            }
        }
        let bytes = bytes.unwrap_or_else(|| serialize(&block));
        let (we, they) = (self.ours.submit(&bytes), self.theirs.submit(&bytes));
        self.trail.push(format!("{place} tampered: we {we:?}, they {they:?}"));
        if we.is_ok() != they.is_ok() && !self.has_refused_ancestor(place) {
            return Err(self.complaint(place, "tampered", &format!("we say {we:?}, Bitcoin Core {they:?}")));
        }
        self.met.note(format!("tampered {}", if they.is_ok() { "taken" } else { "refused" }));
        self.same_tip(place, "tampered")
    }

    fn deliver_again(&mut self, draw: &mut Draw, base: usize) -> Result<(), Stop> {
        let place = draw.within(base, self.places.len() - 1);
        self.deliver(place, "again")
    }

    /// Refused when it came, or later: a late body completes several tips, of which Bitcoin Core tries the one that was
    /// complete first and we the one that needs no reorganisation. A wrong block that only one has tried, the other keeps.
    fn has_refused_ancestor(&self, place: usize) -> bool {
        let mut parent = self.places[place].parent;
        while let Some(at) = parent {
            if self.refused.contains(&at) || self.theirs.has_tried_in_vain(&self.places[at].hash) {
                return true;
            }
            parent = self.places[at].parent;
        }
        false
    }

    fn same_tip(&self, place: usize, name: &str) -> Result<(), Stop> {
        let (we, they) = (self.ours.tip(), self.theirs.tip());
        if we == they {
            return Ok(());
        }
        let height = |hash: BlockHash| self.places.iter().find(|place| place.hash == hash).map(|place| place.height);
        // On regtest every block has the same work.
        let is_tie = height(we) == height(they) && matches!(name, "late" | "again");
        if is_tie {
            Err(Stop::Tie)
        } else {
            Err(self.complaint(place, name, &format!("our tip {we}, Bitcoin Core's {they}")))
        }
    }

    fn complaint(&self, place: usize, name: &str, what: &str) -> Stop {
        let Place { hash, height, .. } = &self.places[place];
        let bytes = self.places[place].block.as_ref().map_or(Vec::new(), serialize);
        let shown: String = bytes.iter().take(4_000).map(|byte| format!("{byte:02x}")).collect();
        // The last blocks of the tree: number, height, the block before, whether it was refused.
        let near: Vec<String> = (self.places.len().saturating_sub(40)..self.places.len())
            .map(|at| {
                let near = &self.places[at];
                let refused = if self.refused.contains(&at) { ", refused" } else { "" };
                format!("{at}: {} {} on {:?}{refused}", near.hash, near.height, near.parent)
            })
            .collect();
        let (near, trail) = (near.join("\n"), self.trail.join("\n"));
        Stop::Complaint(format!("block {place} at height {height}, {hash}, {name}: {what}\n{shown}\n{near}\n{trail}"))
    }

    /// Coins and undo data at the end, against both and against the account that was kept here.
    fn compare_ends(&self) -> Result<(), Stop> {
        let tip = self.ours.tip();
        let end = self.places.iter().rposition(|place| place.hash == tip).expect("the tip is a block of the tree");
        let coins = &self.places[end].coins;
        let counted = (coins.len() as u64, coins.values().map(|known| known.output.value.to_sat()).sum::<u64>());
        let unspent = self.ours.unspent();
        if unspent != counted {
            let what = format!("we have {unspent:?} coins and satoshis, the blocks make {counted:?}");
            return Err(self.complaint(end, "end", &what));
        }
        let mut at = Some(end);
        while let Some(place) = at.filter(|place| self.places[*place].block.is_some()) {
            let hash = self.places[place].hash;
            if self.ours.spent(&hash) != self.theirs.spent(&hash) {
                return Err(self.complaint(place, "end", "the undo data differ"));
            }
            at = self.places[place].parent;
        }
        Ok(())
    }
}
