//! What `leydend` prints for `leyden bench`.

use serde::{Deserialize, Serialize};

/// A made-up network that was stored and loaded again; JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GraphLoaded {
    /// Records of the database.
    pub records: usize,
    /// Bytes of all keys and values.
    pub bytes: usize,
    /// From opening the database to a graph that routes are found in.
    pub seconds: f64,
}
