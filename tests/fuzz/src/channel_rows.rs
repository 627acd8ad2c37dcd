//! A channel's rows, damaged: a restart ends in the same channel or in an error, never in a panic, nor does anything that
//! the restored channel is asked afterwards.

use std::sync::Arc;

use bitcoin::ScriptBuf;
use bitcoin::constants::ChainHash;
use leyden_channels::channel::{
    Channel, ChannelPolicy, Ctx, Event, Feerates, FixedEnvironment, Key, Outbox, TowerPolicy,
};
use leyden_channels::keys::KeysSigner;
use leyden_channels::onchain::{ClosingChannel, tree};
use leyden_channels::types::{Height, TipTrust, UnixTime};

use crate::channel_pair::{KeptRows, ready_rows};
use crate::input::Input;
use crate::mutation::{Random, mutate};

pub fn channel_rows(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut rows = ready_rows().clone();
    while !input.is_empty() {
        damage(&mut rows, &mut input);
    }
    let live = Key::all_live_prefix();
    let live: Vec<_> = rows.into_iter().filter(|(key, _)| key.encode().starts_with(&live)).collect();
    let signer = Arc::new(KeysSigner::from_channel_seed(&[1; 32]).expect("keys"));
    let untouched = bytes.is_empty();
    let restored = Channel::restore(live, |_| Some(signer));
    assert!(restored.is_ok() || !untouched);
    if let Ok(channel) = restored {
        ask(channel, untouched);
    }
}

fn damage(rows: &mut KeptRows, input: &mut Input<'_>) {
    let choice = input.byte();
    let place = usize::from(choice >> 2) % rows.len().max(1);
    let Some(key) = rows.keys().nth(place).copied() else { return };
    let Some(row) = rows.get_mut(&key) else { return };
    match choice % 4 {
        0 => {
            let (at, value) = (usize::from(input.u16()), input.byte());
            let length = row.len().max(1);
            if let Some(byte) = row.get_mut(at % length) {
                *byte = value;
            }
        }
        1 => *row = mutate(row, &row.clone(), &mut Random::new(u64::from(input.u16()))),
        2 => {
            // Another row's place.
            let moved = row.clone();
            let to = usize::from(input.byte()) % rows.len();
            let key = rows.keys().nth(to).copied();
            rows.extend(key.map(|key| (key, moved)));
        }
        _ if input.byte() == 0 => drop(rows.remove(&key)),
        _ => *row = input.short().to_vec(),
    }
}

fn ask(mut channel: Channel, untouched: bool) {
    let (policy, environment) = (ChannelPolicy::default(), FixedEnvironment::default());
    let ctx = Ctx {
        chain: ChainHash::REGTEST,
        now: UnixTime(1_700_000_000),
        tip: Height(120),
        trust: TipTrust::Current,
        feerates: Feerates::default(),
        policy: &policy,
        towers: TowerPolicy::None,
        environment: &environment,
    };
    let _ = (channel.summary(), channel.sendable(), channel.exposure(&ctx), channel.backup(Vec::new()));
    let close = channel.local_close();
    assert!(!untouched || matches!(close, Ok(Some(_))));
    if let Ok(Some(closing)) = channel.closing_channel(ScriptBuf::from_bytes(vec![0x51])) {
        let kept = ClosingChannel { local_may_be_revoked: false, ..closing.clone() };
        assert_eq!(ClosingChannel::decode(&closing.encode()), Ok(kept));
        assert!(tree(&closing).is_ok() || !untouched);
    }
    for event in [Event::Restarted, Event::NewTip(Height(121)), Event::Connected, Event::Flush, Event::ForceClose] {
        // A damaged channel may be stopped; its driver then leaves it alone.
        let handled: Result<Outbox, _> = channel.handle(event, &ctx);
        if handled.is_err() {
            assert!(!untouched);
            return;
        }
    }
}
