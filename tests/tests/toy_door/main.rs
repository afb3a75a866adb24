//! A door is its bytes alone: the toy door gives every message the fate that the milter gives it, in scenarios and in trouble. The
//! LMTP door gives it what belongs between queue and mailbox.

mod delivery;
mod scenarios;
mod trouble;
