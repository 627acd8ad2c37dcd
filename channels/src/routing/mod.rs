//! Finding routes for payments, and learning from how they end.
//!
//! ```text
//!   RouteRequest ──► Router::find ──► Plan { routes }            route.rs, split.rs
//!                        │ for each part
//!                        ▼
//!                    Search: the cheapest path, from both ends   search.rs
//!                        │ for each edge
//!                        ▼
//!                    fee + time locked + chance of failing       cost.rs
//!                        │ what was learnt about a channel
//!                        ▼
//!                    Scorer ◄── how each attempt ended           scorer.rs
//! ```
//!
//! Promises: a route that comes out obeys every policy and limit exactly as they are known (amounts, fees and expiries
//! are computed in integers, hop by hop from the payee); a search touches no memory but its own reusable arrays;
//! nothing here reads a clock or an RNG, so the same question to the same knowledge has the same answer.

pub mod cost;
mod ends;
pub mod failure_update;
mod hint;
mod pricing;
pub mod route;
pub mod scorer;
pub mod search;
pub mod split;
pub mod trial;

pub use cost::CostParams;
pub use failure_update::UpdateFromFailure;
pub use hint::HintHop;
pub use route::{LocalChannel, Route, RouteError, RouteHop, RouteRequest, Source};
pub use scorer::Scorer;
pub use search::Search;
pub use split::{Plan, Router};

#[cfg(test)]
mod tests;
