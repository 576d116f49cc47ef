//! Hotcell builds Go modules that nobody trusts.
