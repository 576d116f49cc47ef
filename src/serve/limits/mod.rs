//! What one client may cost us: who counts as one client, and how much that one may ask for.
//!
//! [`blocks`] says who a visitor is; called by the door for every request.

pub mod blocks;
