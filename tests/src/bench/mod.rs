//! What the benches share: load and its latency, what processes cost, figures with their spread, and the programs beside ours.

pub mod cost;
pub mod figures;
pub mod mail;
pub mod peers;
pub mod site;
