//! `addrauth key`
