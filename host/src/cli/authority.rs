//! `addrauth authority`
