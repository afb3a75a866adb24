//! Verbs over the database.
