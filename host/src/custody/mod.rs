//! What we took responsibility for, durable before the MTA hears of it.
