//! What of a scanner's answers does not conform: what a mail server would not understand, or would make something else of than was
//! meant. Each was seen at a real one.

pub(super) mod draft01;
pub(super) mod stalwart;
