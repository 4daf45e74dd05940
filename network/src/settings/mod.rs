//! What users type about the network: blocks that components put into their own configurations.

pub mod server;
