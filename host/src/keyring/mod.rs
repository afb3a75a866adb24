//! The keys of our own addresses: learn them from the mail that brings them, stamp the mail that our logins send.
