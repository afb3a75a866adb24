//! Many decisions into one reply, pure.
