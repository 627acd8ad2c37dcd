//! A channel that a watchtower guards: Alice, her tower, and Bob, who can be what he was before. What the story of the
//! tower and the tests of nodes with towers share.

use std::path::{Path, PathBuf};

use bitcoin::hashes::{Hash as _, sha256};
use leyden_proto::{
    invoicesrpc::{AddHoldInvoiceRequest, SettleInvoiceMsg},
    leyden::{
        AddTowerRequest, ChannelCoverage, GetTowerStatsRequest, ListCoverageRequest, ListTowersRequest, TowerClaim,
        TowerInfo, TowerPenalty, TowerStats, tower_claim::State,
    },
    lnrpc::CommitmentType,
    watchtowerrpc,
};
use tokio::task::JoinSet;

use super::{
    NOBODY,
    stage::{DEEP, FINAL},
};
use crate::cluster::{ClusterError, DaemonProcess, own_ip, wait_for, wait_until};

/// Alice and Bob with a channel that she opens, and the tower, whose node mines for all.
pub struct Guarded {
    /// Uses the tower.
    pub alice: DaemonProcess,
    /// Her peer.
    pub bob: DaemonProcess,
    /// A node of its own, which runs the tower.
    pub tower: DaemonProcess,
    /// The tower as KEY@HOST:PORT.
    pub tower_at: String,
    /// Of the tower, to be found again.
    tower_flags: Vec<String>,
    /// Bob's disk as it was when it was copied.
    bobs_past: PathBuf,
}

/// A channel that Alice opens to Bob.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Satoshi in it.
    pub capacity: i64,
    /// Satoshi that Alice gives to Bob at once.
    pub pushed: i64,
    /// Of its commitments.
    pub commitment_type: CommitmentType,
}

/// A payment that its payee holds until it is settled.
#[derive(Clone, Copy, Debug)]
pub struct HeldPayment {
    /// Satoshi.
    pub amount: i64,
    /// What takes it.
    pub preimage: [u8; 32],
}

impl HeldPayment {
    /// `number` tells payments apart.
    pub fn new(number: u8, amount: i64) -> Self {
        Self { amount, preimage: [number; 32] }
    }
}

/// Blocks that an HTLC has left at its payee: few, so that it soon expires, and as many as a held payment needs.
const HELD_BLOCKS: u64 = 20;

impl Guarded {
    /// Starts all three. Alice and Bob have one block reward each, which they can spend.
    pub async fn start(folder: &Path, alice_flags: &[&str]) -> Result<Self, ClusterError> {
        let listen = format!("{}:{TOWER_PORT}", own_ip());
        let tower_flags =
            ["--tower", "--tower-listen", &listen, "--metrics", "127.0.0.1:0"].map(str::to_owned).to_vec();
        let flags: Vec<&str> = tower_flags.iter().map(String::as_str).collect();
        let mut tower = DaemonProcess::new(folder, "tower", &flags)?;
        tower.start().await?;
        let hub = tower.chain_address()?;
        let near = ["--chain-connect", hub.as_str()];
        let mut alice = DaemonProcess::new(folder, "alice", &[&near, alice_flags].concat())?;
        alice.start().await?;
        // Whoever is away, the others have each other.
        let beside = alice.chain_address()?;
        let around = [&near[..], &["--chain-connect", beside.as_str()]].concat();
        let mut bob = DaemonProcess::new(folder, "bob", &around)?;
        bob.start().await?;
        let info = tower.client()?.watchtower().get_info(watchtowerrpc::GetInfoRequest {}).await;
        let info = info.map_err(|status| tower.call_error(status))?.into_inner();
        let tower_at = info.uris.into_iter().next().unwrap_or_default();
        let guarded = Self { alice, bob, tower, tower_at, tower_flags, bobs_past: folder.join("bob-before") };
        for node in [&guarded.alice, &guarded.bob] {
            guarded.tower.mine(1, Some(&node.new_address().await?)).await?;
        }
        guarded.mine(FINAL).await?;
        Ok(guarded)
    }

    /// Opens the channel, and waits until both can use it.
    pub async fn open(&self, opening: Opening) -> Result<(), ClusterError> {
        let Opening { capacity, pushed, commitment_type } = opening;
        self.alice.connect(&self.bob).await?;
        self.alice.open_channel_of_type(&self.bob, capacity, pushed, commitment_type).await?;
        wait_until("the tower's node to see the funding transaction", || async {
            Ok(!self.tower.waiting_txids().await?.is_empty())
        })
        .await?;
        self.mine(DEEP).await?;
        self.alice.wait_for_active_channels(1).await?;
        self.bob.wait_for_active_channels(1).await
    }

    /// Has Alice use the tower, as her own or as a stranger's, and waits until it is reached. Her own is started again with
    /// her key as one that it serves.
    pub async fn add_tower(&mut self, own: bool) -> Result<(), ClusterError> {
        let (pubkey, address) = self.tower_at.split_once('@').unwrap_or_default();
        let request = AddTowerRequest { pubkey: pubkey.to_owned(), address: address.to_owned(), own };
        let added = self.alice.client()?.towers().add_tower(request).await;
        let client = added.map_err(|status| self.alice.call_error(status))?.into_inner().client_pubkey;
        if own {
            self.tower.terminate();
            self.tower_flags.extend(["--tower-allow".to_owned(), client]);
            self.tower.set_flags(&self.tower_flags.iter().map(String::as_str).collect::<Vec<_>>());
            self.tower.start().await?;
        }
        wait_until("the tower to be connected", || async { Ok(self.alice.the_tower().await?.connected) }).await
    }

    /// Mines for nobody; whoever runs sees it.
    pub async fn mine(&self, blocks: u32) -> Result<(), ClusterError> {
        self.tower.mine(blocks, Some(NOBODY)).await?;
        let height = self.tower.height().await?;
        for node in [&self.alice, &self.bob] {
            if node.pid().is_some() {
                node.wait_for_height(height).await?;
            }
        }
        Ok(())
    }

    /// Until the tower holds every state that Bob has revoked, and there is one; gives what it holds then.
    pub async fn wait_until_covered(&self) -> Result<ChannelCoverage, ClusterError> {
        wait_for("the tower to hold every revoked state", || async {
            let channels = self.alice.coverage().await?;
            Ok(channels.into_iter().find(|channel| channel.covered && channel.revoked.is_some()))
        })
        .await
    }

    /// Has payments of both held by their payees: all are in both commitments.
    pub async fn hold(&self, alices: &[HeldPayment], bobs: &[HeldPayment]) -> Result<JoinSet<()>, ClusterError> {
        let mut paying = JoinSet::new();
        for (payer, payee, payments) in [(&self.alice, &self.bob, alices), (&self.bob, &self.alice, bobs)] {
            let mut invoices = Vec::new();
            for payment in payments {
                invoices.push(payee.hold_invoice(payment).await?);
            }
            payer.pay_all(invoices, &mut paying)?;
        }
        let count = alices.len() + bobs.len();
        wait_until("the payments to be held", || async {
            let (alice, bob) = (self.alice.only_channel().await?, self.bob.only_channel().await?);
            let all =
                |htlcs: &[leyden_proto::lnrpc::Htlc]| htlcs.len() == count && htlcs.iter().all(|htlc| htlc.locked_in);
            Ok(all(&alice.pending_htlcs) && all(&bob.pending_htlcs))
        })
        .await?;
        Ok(paying)
    }

    /// Kills Bob's process and copies his disk.
    pub fn keep_bobs_past(&mut self) -> Result<(), ClusterError> {
        self.bob.kill();
        self.bob.copy_disk(&self.bobs_past)
    }

    /// Kills Alice's process, and has Bob begin again with the disk that was copied: all since then he has forgotten. Nobody
    /// finds him, and he looks for nobody.
    pub async fn alice_dies_and_bob_goes_back(&mut self) -> Result<(), ClusterError> {
        self.bob.kill();
        self.alice.kill();
        self.bob.put_back(&self.bobs_past)?;
        self.bob.forget_addresses();
        self.bob.set_flags(&[]);
        self.bob.start().await
    }

    /// Has the tower's node and Bob's find each other; whoever has fewer blocks takes those of the other.
    pub async fn bob_shows_his_blocks(&self) -> Result<(), ClusterError> {
        self.tower.connect_chain(&self.bob).await?;
        let height = self.bob.height().await?.max(self.tower.height().await?);
        self.tower.wait_for_height(height).await?;
        self.bob.wait_for_height(height).await
    }

    /// What the tower says of itself.
    pub async fn tower_stats(&self) -> Result<TowerStats, ClusterError> {
        let stats = self.tower.client()?.tower().get_tower_stats(GetTowerStatsRequest {}).await;
        Ok(stats.map_err(|status| self.tower.call_error(status))?.into_inner())
    }

    /// Mines, once every penalty can be mined, until the tower has nothing left to claim; gives what it says of the breach then.
    pub async fn let_the_tower_act(&self) -> Result<TowerPenalty, ClusterError> {
        loop {
            let penalty = wait_for("the tower's penalties to be in the mempool, or through", || async {
                let waiting = self.tower.waiting_txids().await?;
                let is_out = |claim: &TowerClaim| match claim.state() {
                    State::Waiting => false,
                    State::Broadcast => waiting.contains(&claim.txid),
                    State::Claimed | State::Lost => true,
                };
                let penalty = self.tower_stats().await?.penalties.into_iter().next();
                Ok(penalty.filter(|penalty| !penalty.claims.is_empty() && penalty.claims.iter().all(is_out)))
            })
            .await?;
            if penalty.claims.iter().all(|claim| matches!(claim.state(), State::Claimed | State::Lost)) {
                return Ok(penalty);
            }
            self.mine(1).await?;
        }
    }
}

/// Where towers listen.
const TOWER_PORT: u16 = 9911;

impl DaemonProcess {
    /// What each of its towers covers of each channel.
    pub async fn coverage(&self) -> Result<Vec<ChannelCoverage>, ClusterError> {
        let coverage = self.client()?.towers().list_coverage(ListCoverageRequest::default()).await;
        Ok(coverage.map_err(|status| self.call_error(status))?.into_inner().channels)
    }

    /// Its one tower; an error if it has none.
    pub async fn the_tower(&self) -> Result<TowerInfo, ClusterError> {
        let towers = self.client()?.towers().list_towers(ListTowersRequest {}).await;
        let towers = towers.map_err(|status| self.call_error(status))?.into_inner().towers;
        towers.into_iter().next().ok_or(ClusterError::Waited { what: format!("the one tower of {}", self.name()) })
    }

    /// An invoice whose payment it holds until [`Self::settle`].
    pub async fn hold_invoice(&self, payment: &HeldPayment) -> Result<String, ClusterError> {
        let request = AddHoldInvoiceRequest {
            hash: sha256::Hash::hash(&payment.preimage).to_byte_array().to_vec(),
            value: payment.amount,
            cltv_expiry: HELD_BLOCKS,
            ..AddHoldInvoiceRequest::default()
        };
        let added = self.client()?.invoices().add_hold_invoice(request).await;
        Ok(added.map_err(|status| self.call_error(status))?.into_inner().payment_request)
    }

    /// Takes payments that it holds.
    pub async fn settle(&self, payments: &[HeldPayment]) -> Result<(), ClusterError> {
        for payment in payments {
            let message = SettleInvoiceMsg { preimage: payment.preimage.to_vec() };
            let settled = self.client()?.invoices().settle_invoice(message).await;
            settled.map_err(|status| self.call_error(status))?;
        }
        Ok(())
    }
}
