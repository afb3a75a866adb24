//! Locate the AS in DNS, ask it, remember the answer.
