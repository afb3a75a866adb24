//! The contract's side of a policy, called as a filter calls it.

use super::*;
use crate::wit::exports::addrauth::policy::policy as contract;
use contract::Guest as _;

/// Marks mail that has the field which its setting names.
struct Named;

impl Policy for Named {
    fn describe() -> Description {
        Description::new("named", "1.0.0", "Marks mail with a field.").text("field", "the field's name", None).flag(
            "lists",
            "mail of lists too",
            false,
        )
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        if settings.text("field").is_empty() {
            return Err("field is empty".into());
        }
        let wanted = Wanted::nothing().header("List-Id").header(settings.text("field"));
        Ok(if settings.flag("lists") { wanted } else { wanted.and(Wants::TRAIL) })
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        let list = facts.trail != Some(Trail::empty()) && !settings.flag("lists");
        match facts.header(settings.text("field")) {
            [value, ..] if !list => mark(value.as_str()),
            _ => accept(),
        }
    }
}

fn values(field: &str, lists: bool) -> Vec<Value> {
    vec![Value::Text(field.into()), Value::Flag(lists)]
}

#[test]
fn what_a_policy_wants_follows_from_its_settings() {
    let wanted = |lists| Exported::<Named>::check_settings(values("X-Spam", lists));
    let headers = vec!["List-Id".to_owned(), "X-Spam".to_owned()];
    let all = contract::Wanted { facts: Wants::TRAIL, headers: headers.clone() };
    assert_eq!(wanted(false), Ok(all));
    assert_eq!(wanted(true), Ok(contract::Wanted { facts: Wants::empty(), headers }));
    assert_eq!(Exported::<Named>::check_settings(values("", true)), Err("field is empty".into()));
}

#[test]
fn fields_are_found_by_the_names_that_the_settings_gave() {
    let mut told = Facts::of(KeyStatus::None).clone();
    told.headers = vec![Vec::new(), vec!["yes".into()]];
    told.trail = Some(Trail::empty());
    let decide = |lists| Exported::<Named>::decide((*told).clone(), values("x-spam", lists));
    assert_eq!((decide(false).disposition, decide(false).reason.as_str()), (Disposition::Mark, "yes"));
    told.trail = Some(Trail::FORWARDED);
    let decide = |lists| Exported::<Named>::decide((*told).clone(), values("x-spam", lists));
    assert_eq!(decide(false).disposition, Disposition::Accept);
    assert_eq!(decide(true).disposition, Disposition::Mark);
}

/// Wants nothing, and has no settings.
struct Silent;

impl Policy for Silent {
    fn describe() -> Description {
        Description::new("silent", "1.0.0", "Accepts.")
    }

    fn decide(_: &Facts, _: &Settings) -> Decision {
        accept()
    }
}

#[test]
fn a_policy_that_says_nothing_of_what_it_wants_sees_the_result_alone() {
    let nothing = contract::Wanted { facts: Wants::empty(), headers: Vec::new() };
    assert_eq!(Exported::<Silent>::check_settings(Vec::new()), Ok(nothing));
    let described = Exported::<Silent>::describe();
    assert_eq!((described.name.as_str(), described.settings.len()), ("silent", 0));
}
