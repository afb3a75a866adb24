//! `addrauth ask`
