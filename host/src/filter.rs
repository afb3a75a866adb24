//! Examine a message, keep what is owed.
