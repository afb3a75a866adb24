//! A door is its bytes alone: the toy door gives every message the fate that the milter gives it, in scenarios and in trouble.

mod scenarios;
mod trouble;
