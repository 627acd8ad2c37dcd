//! The methods that are served: what they take, and what they do in a line.

/// One method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// As it is called.
    pub name: &'static str,
    /// Its parameters in their order; of several names for one, parted by `|`, the first is the newest.
    pub parameters: &'static [&'static str],
    /// The heading under which `help` lists it.
    pub group: Group,
    /// What it does, for people.
    pub text: &'static str,
}

/// Headings of `help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Blocks, headers, outputs, the mempool.
    Blockchain,
    /// The server itself.
    Control,
    /// Blocks that are made.
    Mining,
    /// Peers.
    Network,
    /// Transactions as such.
    RawTransactions,
    /// What belongs nowhere else.
    Util,
    /// What is published over ZeroMQ.
    Zmq,
}

impl Group {
    /// All of them, as `help` lists them.
    pub const ALL: [Self; 7] =
        [Self::Blockchain, Self::Control, Self::Mining, Self::Network, Self::RawTransactions, Self::Util, Self::Zmq];

    /// The heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Blockchain => "Blockchain",
            Self::Control => "Control",
            Self::Mining => "Mining",
            Self::Network => "Network",
            Self::RawTransactions => "Rawtransactions",
            Self::Util => "Util",
            Self::Zmq => "Zmq",
        }
    }
}

/// The method of this name.
pub fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

const fn method(group: Group, name: &'static str, parameters: &'static [&'static str], text: &'static str) -> Method {
    Method { name, parameters, group, text }
}

use Group::{Blockchain, Control, Mining, Network, RawTransactions, Util, Zmq};

/// All that are served, those of a group in the order of their names.
#[rustfmt::skip]
pub const METHODS: &[Method] = &[
    method(Blockchain, "getbestblockhash", &[], "The hash of the last block of the active chain."),
    method(Blockchain, "getblock", &["blockhash", "verbosity|verbose"],
        "A block: in hexadecimal (0), with its transactions' ids (1), with its transactions (2), and with what they spend (3)."),
    method(Blockchain, "getblockchaininfo", &[], "How far the chain is, its work and difficulty."),
    method(Blockchain, "getblockcount", &[], "The height of the active chain."),
    method(Blockchain, "getblockfilter", &["blockhash", "filtertype"], "A block's filter (BIP 158) and its header."),
    method(Blockchain, "getblockfrompeer", &["blockhash", "peer_id"], "Asks a peer for a block of which only the header is here."),
    method(Blockchain, "getblockhash", &["height"], "The hash of the active chain's block at a height."),
    method(Blockchain, "getblockheader", &["blockhash", "verbose"], "A header: its fields, or 80 bytes in hexadecimal."),
    method(Blockchain, "getblockstats", &["hash_or_height", "stats"], "A block's fees, sizes and counts, all or those that are named."),
    method(Blockchain, "getchainstates", &[], "How far each set of unspent outputs is; there is one."),
    method(Blockchain, "getchaintips", &[], "The ends of all known branches, and what is known of each."),
    method(Blockchain, "getchaintxstats", &["nblocks", "blockhash"], "How many transactions the chain and its last blocks have."),
    method(Blockchain, "getdeploymentinfo", &["blockhash"], "Which soft forks hold for the block after this one."),
    method(Blockchain, "getdifficulty", &[], "How many times harder than Bitcoin's easiest block the last one was to find."),
    method(Blockchain, "getmempoolancestors", &["txid", "verbose"], "What a transaction of the mempool depends on in it."),
    method(Blockchain, "getmempooldescendants", &["txid", "verbose"], "What in the mempool depends on a transaction."),
    method(Blockchain, "getmempoolentry", &["txid"], "A transaction of the mempool: size, fees, relatives."),
    method(Blockchain, "getmempoolinfo", &[], "The mempool's size and the lowest feerate that it takes."),
    method(Blockchain, "getorphantxs", &["verbosity"],
        "Transactions that wait for their parents: their ids (0), what they are and who brought them (1), and they themselves (2)."),
    method(Blockchain, "getrawmempool", &["verbose", "mempool_sequence"], "The transactions of the mempool."),
    method(Blockchain, "gettxout", &["txid", "n", "include_mempool"], "An unspent output, or null."),
    method(Blockchain, "gettxoutproof", &["txids", "blockhash"], "A proof that a block holds transactions."),
    method(Blockchain, "gettxoutsetinfo", &["hash_type", "hash_or_height", "use_index"],
        "All unspent outputs together: how many, how much, and their hash (hash_serialized_3, muhash or none)."),
    method(Blockchain, "gettxspendingprevout", &["outputs", "options"], "Which transactions of the mempool spend these outputs."),
    method(Blockchain, "invalidateblock", &["blockhash"],
        "Treats a block and all after it as invalid, also after a restart, until it is reconsidered."),
    method(Blockchain, "preciousblock", &["blockhash"], "Prefers a block to others whose chains have the same work."),
    method(Blockchain, "pruneblockchain", &["height"],
        "Gives up the blocks up to a height, or up to a time, that nobody needs; the last 288 stay."),
    method(Blockchain, "reconsiderblock", &["blockhash"], "Takes back invalidateblock, for the block and all before and after it."),
    method(Blockchain, "savemempool", &[], "Writes the mempool to the disk now; it is also done when the node stops."),
    method(Blockchain, "scantxoutset", &["action", "scanobjects"],
        "The unspent outputs of descriptors: start a scan, ask for its status, or abort it."),
    method(Blockchain, "verifychain", &["checklevel", "nblocks"], "Whether the last blocks are stored as they were connected."),
    method(Blockchain, "verifytxoutproof", &["proof"], "The transactions of which a proof proves that a block holds them."),
    method(Blockchain, "waitforblock", &["blockhash", "timeout"], "Waits until a block is the tip, or for so many milliseconds."),
    method(Blockchain, "waitforblockheight", &["height", "timeout"], "Waits until the chain is so high, or for so many milliseconds."),
    method(Blockchain, "waitfornewblock", &["timeout", "current_tip"], "Waits for another tip, or for so many milliseconds."),
    method(Control, "getmemoryinfo", &["mode"], "Memory that is kept from being swapped out: none (stats)."),
    method(Control, "getrpcinfo", &[], "The calls that are being answered."),
    method(Control, "help", &["command"], "All calls, or what one of them takes and does."),
    method(Control, "logging", &["include", "exclude"], "The categories of Bitcoin Core's log: none, the log is set when the daemon starts."),
    method(Control, "setmocktime", &["timestamp"], "Sets the clock on regtest, and stops it; 0 makes it the machine's again."),
    method(Control, "stop", &[], "Stops the daemon."),
    method(Control, "uptime", &[], "Seconds since the daemon began to serve."),
    method(Mining, "generatetoaddress", &["nblocks", "address", "maxtries"], "Mines blocks that pay to an address; for chains of little work."),
    method(Mining, "getblocktemplate", &["template_request|template"],
        "A block to be mined, for {\"rules\": [\"segwit\"]}; with a longpollid once there is other work; or checks a proposal."),
    method(Mining, "getmininginfo", &[], "Height and difficulty of the last block and the next, and all miners' hashes a second."),
    method(Mining, "getnetworkhashps", &["nblocks", "height"], "The hashes a second that all miners did over some blocks."),
    method(Mining, "getprioritisedtransactions", &[], "What was added to transactions' fees, in satoshi."),
    method(Mining, "prioritisetransaction", &["txid", "dummy", "fee_delta"],
        "Has a transaction count as paying so many satoshi more, or less, when this node makes blocks. Nobody pays them."),
    method(Mining, "submitblock", &["hexdata", "dummy"], "Offers a block: null if it is taken, else the reason in a word."),
    method(Mining, "submitheader", &["hexdata"], "Offers a header that follows a known one."),
    method(Network, "addnode", &["node", "command", "v2transport"], "Adds a peer, removes it, or tries it once (onetry)."),
    method(Network, "clearbanned", &[], "Takes back all bans."),
    method(Network, "disconnectnode", &["address", "nodeid"], "Closes the connection with a peer."),
    method(Network, "getaddednodeinfo", &["node"], "The peers that were added, and whether they are connected."),
    method(Network, "getaddrmaninfo", &[], "How many addresses of other nodes are known, and of how many one was reached."),
    method(Network, "getconnectioncount", &[], "How many peers are connected."),
    method(Network, "getnettotals", &[], "Bytes to and from all peers since the start."),
    method(Network, "getnetworkinfo", &[], "This node as its peers see it."),
    method(Network, "getnodeaddresses", &["count", "network"], "Addresses of other nodes, drawn by lot; all of them for a count of 0."),
    method(Network, "getpeerinfo", &[], "The connected peers."),
    method(Network, "listbanned", &[], "The addresses that are banned, and for how long."),
    method(Network, "ping", &[], "Asks all peers how long they take to answer, which getpeerinfo tells then."),
    method(Network, "setban", &["subnet", "command", "bantime", "absolute"],
        "Bans an address or a subnet (add), for a day or for so many seconds, over restarts too; or takes it back (remove)."),
    method(Network, "setnetworkactive", &["state"],
        "Closes all connections and makes no more, or has them again; until the daemon stops."),
    method(RawTransactions, "createrawtransaction", &["inputs", "outputs", "locktime", "replaceable", "version"],
        "A transaction without signatures that spends these outputs and pays to these addresses."),
    method(RawTransactions, "decoderawtransaction", &["hexstring", "iswitness"], "The parts of a transaction."),
    method(RawTransactions, "decodescript", &["hexstring"], "What a script is, and the addresses of outputs that are made of it."),
    method(RawTransactions, "getrawtransaction", &["txid", "verbosity|verbose", "blockhash"],
        "A transaction of the chain or the mempool: in hexadecimal (0), its parts (1), with what it spends (2)."),
    method(RawTransactions, "sendrawtransaction", &["hexstring", "maxfeerate", "maxburnamount"], "Offers a transaction to the mempool and the network."),
    method(RawTransactions, "submitpackage", &["package", "maxfeerate", "maxburnamount"], "Offers a child together with its parents, for which it may pay."),
    method(RawTransactions, "testmempoolaccept", &["rawtxs", "maxfeerate"], "Whether transactions would be taken, each with those before it."),
    method(Util, "deriveaddresses", &["descriptor", "range"], "The addresses that a descriptor stands for, of a range of indexes if it has one."),
    method(Util, "estimatesmartfee", &["conf_target", "estimate_mode"], "The feerate that should confirm a transaction within some blocks."),
    method(Util, "getdescriptorinfo", &["descriptor"], "A descriptor without private keys, its checksum, and what kind it is of."),
    method(Util, "getindexinfo", &["index_name"], "Which indexes there are, and how far they are."),
    method(Util, "validateaddress", &["address"], "Whether an address is one of this network, and what it stands for."),
    method(Zmq, "getzmqnotifications", &[], "What is published over ZeroMQ, and where."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_listed_once_in_order() {
        let places: Vec<_> = METHODS
            .iter()
            .map(|method| (Group::ALL.iter().position(|group| *group == method.group), method.name))
            .collect();
        assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
    }
}
