//! The proof-of-work search: SHA-256 twice over an 80-byte header, for all nonces, until a hash meets its target.
//!
//! ```text
//!   header ──Job::new──▶ midstate of bytes 0..64 + tail words of bytes 64..76 + target
//!                                     │
//!                        search: threads draw ranges of nonces from one cursor
//!                                     │
//!                        kernel::scan(job, range) ──▶ the lowest nonce that meets the target
//! ```
//!
//! A search covers one header's 2^32 nonces. [`mine_block`] goes on with other times and extra nonces until the block
//! has its proof of work or is told to stop; whoever assembles blocks stops it when there is something better to mine.
//!
//! Every kernel gives the same answers; [`kernel::best`] measures which one is fastest here. `unsafe` is only where a
//! kernel calls processor instructions, and rests on a proof value that only their detection makes.

pub mod job;
pub mod kernel;
pub mod roll;
pub mod search;

pub use job::{Found, Job};
pub use kernel::{Kernel, NonceRange};
pub use roll::{Rolls, mine_block};
pub use search::{search, search_with};
