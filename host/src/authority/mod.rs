//! The AS role: issue keys, answer VERIFY.
