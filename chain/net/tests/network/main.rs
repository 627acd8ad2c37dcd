//! Several nodes under a simulated clock: honest ones that must agree, and others that must not keep them from it.

mod chain;
mod malformed;
mod relay;
mod sync;
mod world;
