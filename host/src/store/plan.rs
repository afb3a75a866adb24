//! The migration plan: which versions each database has had, and the step that leads from each to the next.
//!
//! A change of tables is a new file in `schema/`, numbered one higher, and a line here; a step that is on main is not edited
//! any more. A step is SQL without BEGIN and COMMIT: all that are missing run in one transaction, with the new version.
//! [`AUTHORITY`] and [`KEYRING`] are the same tables as [`POSTGRES`]: a step of the one comes with a step of the other, and new
//! columns with their names in `postgres/copy.rs`. The log of changes is in [`AUTHORITY`] alone, and is not copied.

/// The steps of one database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The file's name in `state_dir`, or the schema's in PostgreSQL.
    pub(super) of: &'static str,
    /// `steps[n]` leads from version n to version n + 1; version 0 has no tables.
    pub(super) steps: &'static [&'static str],
}

/// Journal, quarantine, outbox, the choices of users, and known senders.
pub(super) const FILTER: Plan = Plan {
    of: "filter.db",
    steps: &[
        include_str!("schema/filter.1.sql"),
        include_str!("schema/filter.2.sql"),
        include_str!("schema/filter.3.sql"),
        include_str!("schema/filter.4.sql"),
        include_str!("schema/filter.5.sql"),
    ],
};

/// The AS's addresses, keys, posts and counts.
pub(super) const AUTHORITY: Plan = Plan {
    of: "authority.db",
    steps: &[
        include_str!("schema/authority.1.sql"),
        include_str!("schema/authority.2.sql"),
        include_str!("schema/authority.3.sql"),
        include_str!("schema/authority.4.sql"),
    ],
};

/// The keyring of our own addresses.
pub(super) const KEYRING: Plan = Plan { of: "keyring.db", steps: &[include_str!("schema/keyring.1.sql")] };

#[cfg(feature = "postgres")]
/// What several hosts share.
pub(super) const POSTGRES: Plan = Plan { of: "addrauth", steps: &[include_str!("schema/postgres.1.sql")] };

/// What the console keeps for itself.
pub(super) const CONSOLE: Plan = Plan { of: "console.db", steps: &[include_str!("schema/console.1.sql")] };

/// How a version that was found stands to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// It is the newest one.
    Current,
    /// It is older: these steps lead to the newest.
    Older(&'static [&'static str]),
    /// A newer program wrote it.
    Newer,
}

impl Plan {
    /// The newest version.
    pub(super) fn known(self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }

    /// How a version stands to this plan; one that cannot be (below 0) counts as newer, and is left alone.
    pub(super) fn at(self, version: i64) -> Stand {
        match usize::try_from(version).ok().and_then(|done| self.steps.get(done..)) {
            Some([]) => Stand::Current,
            Some(missing) => Stand::Older(missing),
            None => Stand::Newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn a_version_is_current_older_by_the_steps_that_are_missing_or_newer() {
        let plan = Plan { of: "x.db", steps: &["a", "b", "c"] };
        assert_eq!(plan.known(), 3);
        assert_eq!(plan.at(0), Stand::Older(&["a", "b", "c"]));
        assert_eq!(plan.at(2), Stand::Older(&["c"]));
        assert_eq!(plan.at(3), Stand::Current);
        for newer in [4, i64::MAX, -1, i64::MIN] {
            assert_eq!(plan.at(newer), Stand::Newer, "{newer}");
        }
    }

    #[test]
    fn every_step_in_the_folder_is_in_the_plan_and_none_ends_the_transaction_it_runs_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/schema");
        let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let files: Vec<String> = names.collect();
        for (name, plan) in [
            ("filter", FILTER),
            ("authority", AUTHORITY),
            ("keyring", KEYRING),
            ("postgres", POSTGRES),
            ("console", CONSOLE),
        ] {
            let of_it = files.iter().filter(|file| {
                let middle = file.strip_prefix(name).and_then(|rest| rest.strip_suffix(".sql"));
                middle.is_some_and(|middle| middle.trim_start_matches('.').parse::<u32>().is_ok())
            });
            assert_eq!(of_it.count(), plan.steps.len(), "{name}");
            for (at, step) in plan.steps.iter().enumerate() {
                let file = format!("{folder}/{name}.{}.sql", at + 1);
                assert_eq!(*step, std::fs::read_to_string(&file).unwrap(), "{file} is step {}", at + 1);
                // The BEGIN of a trigger is no transaction's.
                let words = step.lines().filter(|line| !line.trim_start().starts_with("--"));
                let words = words.filter(|line| !line.starts_with("CREATE TRIGGER"));
                let words: Vec<_> = words.flat_map(str::split_whitespace).map(str::to_uppercase).collect();
                for word in ["BEGIN", "BEGIN;", "COMMIT;", "ROLLBACK;", "VACUUM", "VACUUM;"] {
                    assert!(!words.iter().any(|found| found == word), "{file}: {word}");
                }
            }
        }
    }
    /// A database that has taken a step never takes it again: what is changed in one reaches new databases alone. The newest steps may
    /// still be on no server.
    #[test]
    fn no_step_is_edited_once_another_one_follows() {
        let steps = [
            ("filter.1.sql", "10e54dc43c044b52778973f4d9360e43e5062d7b94e3bd76cd8d68fd901fc708"),
            ("filter.2.sql", "812da806406b91a4e513124dff7fb877c1543bc3e411cdc5ee601f7b11ec107d"),
            ("filter.3.sql", "384648f011bcab57005b6b0db0f47a2097858bf48f54efc038c1809e3c8c9985"),
            ("filter.4.sql", "ab50fc820c6f350c7a553de3be5376623a96190ca83949bd5c8863899b849532"),
            ("authority.1.sql", "a385c9394b0bda249111563879a8f5400e5be32fdcd6aaddcbba14afe2fbb320"),
            ("authority.2.sql", "adb5475e5d8c6eab1daf421814cf680fa4a6f6097be6e1af04a960a0f7512ee2"),
            ("authority.3.sql", "830e8856c48904ca531bd8e80fc67d4ded893a654587dafa3712bd6460028cab"),
        ];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/schema");
        for (file, digest) in steps {
            let octets = std::fs::read(format!("{folder}/{file}")).unwrap();
            let found: String = Sha256::digest(&octets).iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(found, digest, "{file}: write a new step instead");
        }
        for (name, plan) in [("filter", FILTER), ("authority", AUTHORITY)] {
            let pinned = steps.iter().filter(|(file, _)| file.starts_with(name)).count();
            assert_eq!(pinned + 1, plan.steps.len(), "{name}: every step but the newest is written down here");
        }
    }
}
