//! A stranger's tower that is full, and one of the user's own that has not been reached.

use std::str::FromStr;

use async_trait::async_trait;
use bitcoin::{OutPoint, constants::ChainHash, secp256k1::PublicKey, secp256k1::SecretKey};
use leyden_channels::types::{CommitmentNumber, FeeratePerKw, Height};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, ClientId, FundingIndex},
    client::{TowerChain, record::Proof},
    message::{ChainSeen, Mode, Registered, SignedHeld},
    receipt::{Audit, Closed, Contradiction, Digest, Held, Holding, Says},
};

use super::{Fake, funding, node_id};
use crate::api::*;

pub(crate) const OWN_TOWER: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

fn held() -> Held {
    Held { first: CommitmentNumber(3), up_to: CommitmentNumber(9), digest: Digest([7; 32]) }
}

fn proof() -> Proof {
    let key = SecretKey::from_slice(&[5; 32]).unwrap();
    let channel = ChannelName { tag: ChannelTag([3; 16]), funding: FundingIndex(0) };
    let (chain, client) = (ChainHash::REGTEST, ClientId([2; 33]));
    let receipt = Holding { chain, client, channel, held: held(), until: Height(52_560) };
    let audit = Audit { chain, client, channel, nonce: [8; 32], at: Height(400), says: Says::Nothing };
    Proof {
        receipt_key: key.public_key(bitcoin::secp256k1::SECP256K1),
        receipt_signature: receipt.sign(&key),
        audit_signature: audit.sign(&key),
        receipt,
        audit,
    }
}

fn receipt() -> SignedHeld {
    SignedHeld { held: held(), until: Height(52_560), signature: proof().receipt_signature }
}

fn towers() -> Vec<Tower> {
    let full = Tower {
        key: node_id(),
        address: "127.0.0.1:9911".to_owned(),
        mode: Mode::Blind,
        active: true,
        connected: true,
        reached: true,
        chain: Some(TowerChain { seen: ChainSeen { height: Height(700), is_sure: true }, ours: Height(701) }),
        trouble: None,
        held: 7,
        waiting: 2,
        granted: Some(Registered {
            mode: Mode::Blind,
            sweep_feerate: FeeratePerKw(2_500),
            states: 7,
            bytes: 1_000_000,
            until: Height(52_560),
            receipt_key: node_id(),
        }),
        client: ClientId([2; 33]),
        proof: None,
    };
    let own = Tower {
        key: PublicKey::from_str(OWN_TOWER).unwrap(),
        address: "10.0.0.2:9911".to_owned(),
        mode: Mode::Own,
        connected: false,
        reached: false,
        chain: None,
        trouble: Some("nobody answers".to_owned()),
        held: 0,
        waiting: 9,
        granted: None,
        ..full.clone()
    };
    vec![full, own]
}

#[async_trait]
impl Towers for Fake {
    async fn add_tower(&self, tower: AddTower) -> Result<ClientId, ApiError> {
        self.asked(tower, ClientId([2; 33]))
    }

    async fn remove_tower(&self, key: PublicKey, address: Option<String>) -> Result<(), ApiError> {
        self.asked(("remove", key, address), ())
    }

    async fn deactivate_tower(&self, key: PublicKey) -> Result<(), ApiError> {
        self.asked(("deactivate", key), ())
    }

    async fn towers(&self) -> Result<TowerList, ApiError> {
        let (required, sweep_feerate) = (1, FeeratePerKw(2_500));
        self.answer(TowerList { towers: towers(), required, sweep_feerate, failed: 1, registered: 3 })
    }

    async fn coverage(&self, channel: Option<OutPoint>) -> Result<Vec<ChannelCoverage>, ApiError> {
        let of = |tower: Tower| TowerCoverage {
            key: tower.key,
            mode: tower.mode,
            receipts: tower.granted.map(|_| receipt()).into_iter().collect(),
            waiting: tower.waiting,
            waited_for: tower.trouble.is_some(),
            why_not: tower.trouble,
        };
        let one = ChannelCoverage {
            funding: channel.unwrap_or_else(funding),
            peer: node_id().into(),
            revoked: Some(CommitmentNumber(9)),
            towers: towers().into_iter().map(of).collect(),
            payments_wait: true,
        };
        self.asked(channel, vec![one])
    }

    async fn audit_tower(&self, key: PublicKey, channel: Option<OutPoint>) -> Result<Vec<ChannelAudit>, ApiError> {
        let contradiction = Contradiction::HoldsNothing { up_to: CommitmentNumber(9) };
        let broken = AuditOutcome::BrokeItsWord { contradiction, proof: Box::new(proof()) };
        let closed = Closed { txid: funding().txid, height: Height(300) };
        let closed = AuditOutcome::Closed(closed);
        let not_shown = AuditOutcome::NotShown(CommitmentNumber(4));
        let audits =
            [AuditOutcome::Holds(held()), broken, AuditOutcome::NoReceipt, closed, AuditOutcome::TermOver, not_shown];
        let audits = audits.map(|outcome| ChannelAudit { funding: channel.unwrap_or_else(funding), outcome });
        self.asked((key, channel), audits.to_vec())
    }
}
