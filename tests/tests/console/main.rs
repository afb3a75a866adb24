//! The console as browsers meet it: the real program over a real store, with mail that a real filter judged.

mod bed;
mod candidate;
mod hostile;
mod links;
mod proxy;
mod roles;
mod story;
mod walk;
