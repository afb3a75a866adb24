//! An MTA played over the real milter socket: the demonstration and the tests drive the daemon with it.
