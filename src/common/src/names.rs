//! Names in the API that no `.proto` holds.

/// The metadata key by which a call insists on spending what is kept back for claims of channels.
pub const SPEND_RESERVE: &str = "leyden-spend-reserve";

/// The metadata key by which a call asks for a refusal of a fee that is more than half of what is sent. LND sends at any
/// fee, and so do we for its clients.
pub const REFUSE_HIGH_FEE: &str = "leyden-refuse-high-fee";

/// The metadata key by which `InitWallet` is told how keys follow from the words: `coin` or `chain`. Without it they follow as
/// those of a new wallet on the network do.
pub const KEYS: &str = "leyden-keys";

/// The metadata key by which a call names the network that it is for, of a daemon that holds more than one.
pub const NETWORK: &str = "network";

/// The metadata key under which a status carries advice beside LND's words.
pub const ADVICE: &str = "leyden-advice-bin";

/// The metadata key under which the answer of `VerifyChanBackup` says how many swaps the backup holds.
pub const SWAPS: &str = "leyden-swaps";

/// The account of `WalletBalance` under which rewards of mining are listed until they can be spent.
pub const IMMATURE: &str = "immature";
