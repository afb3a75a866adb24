//! `addrauth policy`
