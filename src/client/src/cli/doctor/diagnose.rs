//! What is made of what was seen.

use super::examine::{Backup, Chain, Channel, Disk, Examined, Files, Node, Port, Reach, Wallet};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// It may cost money, or keeps the node from working.
    Trouble,
    /// It may become trouble.
    Advice,
    Fine,
}

impl Level {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Advice => "advice",
            Self::Fine => "fine",
        }
    }

    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Trouble => "✗",
            Self::Advice => "!",
            Self::Fine => "✓",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub level: Level,
    pub about: &'static str,
    pub says: String,
    /// What to do; empty if nothing.
    pub advice: String,
}

/// Below this a block, a compaction of the database or a log may not fit any more.
const LITTLE_DISK: u64 = 1 << 30;
/// Below this it may be full within days on a busy chain.
const SCARCE_DISK: u64 = 10 << 30;
/// Consensus lets a block be two hours ahead of its receiver's clock (Bitcoin Core: MAX_FUTURE_BLOCK_TIME).
const CLOCK_TOLERANCE: u64 = 2 * 3600;
/// An HTLC that ends within so many blocks makes its channel close: the margin of BOLT 2's `cltv_expiry_delta`, and an hour.
const HTLC_URGENT: u32 = 18;
/// Beyond this a restore with the usual window may miss coins.
const GAP_SHARE: f64 = 0.8;

fn trouble(about: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Trouble, about, says: says.into(), advice: advice.into() }
}

fn advice(about: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Advice, about, says: says.into(), advice: advice.into() }
}

fn fine(about: &'static str, says: impl Into<String>) -> Finding {
    Finding { level: Level::Fine, about, says: says.into(), advice: String::new() }
}

/// All findings, the worst first, otherwise in the order in which they were looked at.
pub(super) fn diagnose(examined: &Examined) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(examined.disk.as_ref().map(disk));
    findings.extend(examined.files.as_ref().map(files));
    let node = match &examined.reach {
        Reach::Silent(why) => {
            findings.push(trouble("node", why.clone(), ""));
            None
        }
        Reach::NoWallet => {
            findings.push(advice("wallet", "there is no wallet yet", "Make one with `leyden create`"));
            None
        }
        Reach::Locked => {
            let what = "Unlock it with `leyden unlock`; until then nobody watches your channels";
            findings.push(trouble("wallet", "the wallet is locked", what));
            None
        }
        Reach::Open(node) => Some(node),
    };
    if let Some(chain) = &examined.chain {
        findings.push(clock(chain, examined.now));
        findings.push(sync(chain));
        findings.push(chain_peers(chain));
    }
    if let Some(node) = node {
        findings.extend(node.warnings.iter().map(|text| trouble("warning", text.clone(), "")));
        findings.push(backup(node));
        findings.extend(node.wallet.as_ref().map(wallet));
        findings.extend(recovery(node));
        findings.push(channels(&node.channels));
        findings.push(htlcs(node));
        findings.push(towers(node));
        findings.push(ports(&node.ports));
        findings.extend(node.unseen.iter().map(|what| {
            advice(
                "macaroon",
                format!("this macaroon does not let {what} be looked at"),
                "Use admin.macaroon or readonly.macaroon",
            )
        }));
    }
    findings.sort_by_key(|one| one.level);
    findings
}

fn disk(disk: &Disk) -> Finding {
    let free = format!("{} free of {}", size(disk.free), size(disk.total));
    if disk.free < LITTLE_DISK {
        let what = "Make room: a daemon whose disk is full stops, and watches nothing. `leydend --prune` keeps the chain small";
        trouble("disk", free, what)
    } else if disk.free < SCARCE_DISK && disk.free < disk.total / 10 {
        advice("disk", free, "Make room soon, or keep the chain small with `leydend --prune`")
    } else {
        fine("disk", free)
    }
}

fn files(files: &Files) -> Finding {
    match &files.readable_by_others {
        Some(path) => trouble(
            "files",
            format!("other users of this machine can read {path}"),
            format!("Take that away: chmod -R go-rwx {}", files.folder),
        ),
        None => fine("files", "the data directory is its owner's alone"),
    }
}

fn clock(chain: &Chain, now: u64) -> Finding {
    if chain.tip_time > now + CLOCK_TOLERANCE {
        let behind = (chain.tip_time - now) / 60;
        let what = "Set the clock, or have the system do it (NTP): with a clock so far behind new blocks are refused";
        trouble("clock", format!("this machine's clock is some {behind} min behind the last block"), what)
    } else if chain.is_public && now > chain.tip_time + 24 * 3600 {
        let hours = (now - chain.tip_time) / 3600;
        advice(
            "clock",
            format!("the last block is {hours} h old"),
            "If other nodes know newer ones the connection is down; else the clock is wrong",
        )
    } else {
        fine("clock", "the clock fits the chain")
    }
}

fn sync(chain: &Chain) -> Finding {
    if !chain.doubt.is_empty() {
        trouble("chain", format!("not synced, so nothing is paid, taken or opened: {}", chain.doubt), "")
    } else if chain.header_height > chain.height {
        advice(
            "chain",
            format!("catching up: block {} of {}", chain.height, chain.header_height),
            "Wait; `leyden chain tip` shows how far it is",
        )
    } else {
        fine("chain", format!("synced, block {}", chain.height))
    }
}

fn chain_peers(chain: &Chain) -> Finding {
    match chain.peers {
        0 if chain.is_public => trouble(
            "chain peers",
            "no node of the chain is connected",
            "Name one: `leydend --chain-connect HOST:PORT`; does a firewall stand in the way?",
        ),
        0 => advice(
            "chain peers",
            "no other node of the chain is connected",
            "Fine for a chain of your own; else `leydend --chain-connect HOST:PORT`",
        ),
        1 if chain.is_public => advice(
            "chain peers",
            "a single node of the chain is connected",
            "If it lies by silence you do not hear of a breach: connect to more",
        ),
        count => fine("chain peers", format!("{count} connected")),
    }
}

fn backup(node: &Node) -> Finding {
    match &node.backup {
        Backup::Missing(path) if node.channels.is_empty() => {
            fine("backup", format!("no channel needs one yet ({path})"))
        }
        Backup::Missing(path) => trouble(
            "backup",
            format!("the channel backup {path} is not there"),
            "Write one elsewhere: `leyden exportchanbackup --output FILE`, then restart leydend so that it makes its own again",
        ),
        Backup::Elsewhere => fine("backup", "it lies on the node's machine, which is not this one"),
        Backup::There(path) => {
            fine("backup", format!("{path} is there: copy it to another disk whenever a channel opens"))
        }
    }
}

fn wallet(wallet: &Wallet) -> Finding {
    if wallet.reserve_wanted > wallet.confirmed {
        let what = "Send coins to `leyden newaddress`: claims of closed channels pay their fees with them";
        let says = format!("{} sat are confirmed, {} should be kept for fees", wallet.confirmed, wallet.reserve_wanted);
        trouble("coins", says, what)
    } else {
        fine("coins", format!("{} sat are confirmed", wallet.confirmed))
    }
}

fn recovery(node: &Node) -> Vec<Finding> {
    let mut findings = Vec::new();
    let recovery = &node.recovery;
    if recovery.lost_channels > 0 {
        let says = format!("{} channels are known from a backup alone", recovery.lost_channels);
        findings.push(trouble(
            "recovery",
            says,
            "Stay online until their peers have closed them; `leyden recoveryinfo` shows how far it is",
        ));
    }
    if recovery.window > 0 && f64::from(recovery.widest_gap) > f64::from(recovery.window) * GAP_SHARE {
        let says = format!("{} unused addresses in a row; a restore looks at {}", recovery.widest_gap, recovery.window);
        findings.push(advice("recovery", says, "Look further: `leyden rescan --recovery-window` with twice as many"));
    }
    findings
}

fn channels(channels: &[Channel]) -> Finding {
    let asleep = channels.iter().filter(|one| !one.active).count();
    match (channels.len(), asleep) {
        (0, _) => fine("channels", "none is open"),
        (all, 0) => fine("channels", format!("all {all} are usable")),
        (all, asleep) if asleep == all => {
            let what = "Their peers are not connected: is this node online? `leyden listpeers`; a peer that is gone for good is left with `leyden closechannel --force`";
            advice("channels", format!("none of {all} is usable"), what)
        }
        (all, asleep) => advice(
            "channels",
            format!("{asleep} of {all} wait for their peers"),
            "A peer that stays away for weeks is better closed: `leyden listchannels`",
        ),
    }
}

fn htlcs(node: &Node) -> Finding {
    let urgent: Vec<(&Channel, u32)> = node
        .channels
        .iter()
        .filter_map(|one| Some((one, one.first_expiry?.saturating_sub(node.height))))
        .filter(|(_, left)| *left < HTLC_URGENT)
        .collect();
    match urgent.as_slice() {
        [] => fine("payments", "none is stuck"),
        [(channel, left), rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" (and in {} more channels)", rest.len()) };
            trouble(
                "payments",
                format!("a payment in {} ends in {left} blocks{more}", channel.point),
                "Its channel closes by force then: connect to its peer now (`leyden connect`), so that it can be settled",
            )
        }
    }
}

fn towers(node: &Node) -> Finding {
    if node.channels.is_empty() {
        return fine("watchtowers", "no channel needs one yet");
    }
    match (node.towers, node.uncovered.as_slice()) {
        (0, _) => advice(
            "watchtowers",
            "none guards your channels",
            "While this node is off nobody would punish an old state: `leyden tower add`",
        ),
        (_, []) => fine("watchtowers", "every channel is covered"),
        (_, [(point, why), rest @ ..]) => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            trouble(
                "watchtowers",
                format!("{point} is not covered{more}: {why}"),
                "`leyden tower list` shows what is wrong with the tower",
            )
        }
    }
}

fn ports(ports: &[Port]) -> Finding {
    match ports.iter().find(|port| !port.answers) {
        _ if ports.is_empty() => advice(
            "port",
            "no address is announced, so others cannot open channels to this node",
            "Name yours: `leydend --listen 0.0.0.0:9735 --announce HOST:9735`",
        ),
        Some(port) => advice(
            "port",
            format!("{} does not answer from here", port.address),
            "Open or forward that port, or announce another address (`leydend --announce`)",
        ),
        None => fine(
            "port",
            format!("{} answers", ports.iter().map(|port| port.address.as_str()).collect::<Vec<_>>().join(", ")),
        ),
    }
}

fn size(bytes: u64) -> String {
    const GIGABYTE: f64 = 1e9;
    format!("{:.1} GB", bytes as f64 / GIGABYTE)
}

#[cfg(test)]
mod tests {
    use super::super::examine::Recovery;
    use super::*;

    /// A node with which all is well.
    fn healthy() -> Examined {
        let channel = Channel { point: "aa:0".to_owned(), active: true, first_expiry: Some(300) };
        Examined {
            now: 1_000_000,
            disk: Some(Disk { free: 500 << 30, total: 1000 << 30 }),
            files: Some(Files { folder: "/data".to_owned(), readable_by_others: None }),
            chain: Some(Chain {
                tip_time: 999_500,
                height: 100,
                header_height: 100,
                doubt: String::new(),
                peers: 8,
                is_public: true,
            }),
            reach: Reach::Open(Box::new(Node {
                height: 100,
                warnings: Vec::new(),
                backup: Backup::There("/data/channel.backup".to_owned()),
                wallet: Some(Wallet { confirmed: 100_000, reserve_wanted: 10_000 }),
                recovery: Recovery { lost_channels: 0, widest_gap: 3, window: 250 },
                channels: vec![channel],
                towers: 1,
                uncovered: Vec::new(),
                ports: vec![Port { address: "1.2.3.4:9735".to_owned(), answers: true }],
                unseen: Vec::new(),
            })),
        }
    }

    fn node(examined: &mut Examined) -> &mut Node {
        match &mut examined.reach {
            Reach::Open(node) => node,
            Reach::Silent(_) | Reach::NoWallet | Reach::Locked => unreachable!("it is open"),
        }
    }

    #[test]
    fn nothing_is_wrong_with_a_healthy_node() {
        let findings = diagnose(&healthy());
        assert!(findings.iter().all(|one| one.level == Level::Fine), "{findings:?}");
        assert!(findings.len() >= 10, "{findings:?}");
    }

    /// Each broken set-up, what breaks it, what is found and of which level, with words that say what to do.
    #[test]
    fn each_broken_set_up_is_found_and_nothing_beside_it() {
        type Break = fn(&mut Examined);
        let cases: [(Break, &str, Level, &str); 17] = [
            (|one| one.disk = Some(Disk { free: 100 << 20, total: 1000 << 30 }), "disk", Level::Trouble, "--prune"),
            (|one| one.disk = Some(Disk { free: 5 << 30, total: 1000 << 30 }), "disk", Level::Advice, "--prune"),
            (
                |one| {
                    one.files =
                        Some(Files { folder: "/data".to_owned(), readable_by_others: Some("/data/node".to_owned()) })
                },
                "files",
                Level::Trouble,
                "chmod -R go-rwx /data",
            ),
            (|one| one.now = 900_000, "clock", Level::Trouble, "NTP"),
            (
                |one| one.chain.iter_mut().for_each(|chain| chain.doubt = "no peer".to_owned()),
                "chain",
                Level::Trouble,
                "no peer",
            ),
            (
                |one| one.chain.iter_mut().for_each(|chain| chain.header_height = 900),
                "chain",
                Level::Advice,
                "100 of 900",
            ),
            (
                |one| one.chain.iter_mut().for_each(|chain| chain.peers = 0),
                "chain peers",
                Level::Trouble,
                "--chain-connect",
            ),
            (
                |one| node(one).backup = Backup::Missing("/data/channel.backup".to_owned()),
                "backup",
                Level::Trouble,
                "exportchanbackup",
            ),
            (
                |one| node(one).wallet = Some(Wallet { confirmed: 5, reserve_wanted: 10_000 }),
                "coins",
                Level::Trouble,
                "newaddress",
            ),
            (|one| node(one).recovery.lost_channels = 2, "recovery", Level::Trouble, "recoveryinfo"),
            (|one| node(one).recovery.widest_gap = 249, "recovery", Level::Advice, "rescan"),
            (
                |one| node(one).channels.iter_mut().for_each(|channel| channel.active = false),
                "channels",
                Level::Advice,
                "listpeers",
            ),
            (
                |one| node(one).channels.iter_mut().for_each(|channel| channel.first_expiry = Some(110)),
                "payments",
                Level::Trouble,
                "leyden connect",
            ),
            (|one| node(one).towers = 0, "watchtowers", Level::Advice, "tower add"),
            (
                |one| node(one).uncovered = vec![("aa:0".to_owned(), "its chain is behind".to_owned())],
                "watchtowers",
                Level::Trouble,
                "its chain is behind",
            ),
            (
                |one| node(one).ports.iter_mut().for_each(|port| port.answers = false),
                "port",
                Level::Advice,
                "--announce",
            ),
            (
                |one| node(one).warnings = vec!["a claim needs coins".to_owned()],
                "warning",
                Level::Trouble,
                "a claim needs coins",
            ),
        ];
        for (damage, about, level, words) in cases {
            let mut examined = healthy();
            damage(&mut examined);
            let findings = diagnose(&examined);
            let wrong: Vec<&Finding> = findings.iter().filter(|one| one.level != Level::Fine).collect();
            assert_eq!(
                wrong.iter().map(|one| (one.about, one.level)).collect::<Vec<_>>(),
                [(about, level)],
                "{findings:?}"
            );
            let said = format!("{} {}", wrong[0].says, wrong[0].advice);
            assert!(said.contains(words), "{said} does not say {words}");
            assert_eq!(findings[0], *wrong[0], "the worst comes first");
        }
    }

    #[test]
    fn a_node_that_is_silent_locked_or_new_is_told_apart() {
        for (reach, words) in [
            (Reach::Silent("no leydend runs on /data".to_owned()), "no leydend runs"),
            (Reach::Locked, "leyden unlock"),
            (Reach::NoWallet, "leyden create"),
        ] {
            let findings = diagnose(&Examined { reach, chain: None, ..healthy() });
            assert!(findings.iter().any(|one| format!("{} {}", one.says, one.advice).contains(words)), "{findings:?}");
        }
    }
}
