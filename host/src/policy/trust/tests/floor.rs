//! Which versions may follow each other, over restarts.

use super::super::floor::{self, Error, FILE};
use super::*;

/// A signed component of this version; `octets` stands for what it is made of.
fn signed(policy: &str, version: &str, octets: &str) -> InForce {
    let key = TrustedKey::parse("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3").unwrap();
    let signed = Signed { policy: policy.into(), version: version.parse().unwrap(), key };
    InForce::of(signed, format!("{octets}-{version}"))
}

fn comes(dir: &Path, version: &str) -> Result<(), Error> {
    let in_force = [signed("strict", version, "a")];
    let looked = floor::check(dir, &in_force);
    let raised = floor::raise(dir, &in_force).and_then(floor::Raise::commit);
    assert_eq!(looked.is_ok(), raised.is_ok(), "looking says what raising does");
    raised
}

#[test]
fn an_older_version_never_comes_back_and_the_same_one_always_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    comes(dir, "1.2.0").unwrap();
    comes(dir, "1.2.0").unwrap();
    assert!(matches!(comes(dir, "1.1.9"), Err(Error::Older { last, .. }) if last.as_str() == "1.2.0"));
    comes(dir, "1.10.0").unwrap();
    for older in ["1.2.0", "1.9.9", "0", "1.9.999999999"] {
        assert!(matches!(comes(dir, older), Err(Error::Older { .. })), "{older}");
    }
    // The same version, and yet another component: 1.10 is 1.10.0.
    assert!(matches!(comes(dir, "1.10"), Err(Error::Other { .. })));
    // Another policy has its own.
    floor::raise(dir, &[signed("mild", "0.1", "a")]).unwrap().commit().unwrap();
    comes(dir, "2").unwrap();
    assert!(matches!(floor::check(dir, &[signed("mild", "0.0.9", "a")]), Err(Error::Older { .. })));
}

#[test]
fn what_is_prepared_and_given_up_is_no_floor() {
    let dir = tempfile::tempdir().unwrap();
    comes(dir.path(), "1").unwrap();
    drop(floor::raise(dir.path(), &[signed("strict", "2", "a")]).unwrap());
    comes(dir.path(), "1").unwrap();
    let left = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(left, [FILE], "nothing is left beside it");
}

#[test]
fn a_rollback_is_allowed_by_digest_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    comes(dir, "1").unwrap();
    comes(dir, "2").unwrap();
    floor::allow(dir, "strict", Some("a-1")).unwrap();
    comes(dir, "2").unwrap();
    assert!(matches!(comes(dir, "1.5"), Err(Error::Older { .. })), "no other one");
    comes(dir, "1").unwrap();
    comes(dir, "1").unwrap();
    comes(dir, "2").unwrap();
    assert!(matches!(comes(dir, "1"), Err(Error::Older { .. })), "it counted once");
    // A newer one ends it too, and nothing is known of a policy that never was.
    floor::allow(dir, "strict", Some("a-1")).unwrap();
    comes(dir, "3").unwrap();
    assert!(matches!(comes(dir, "1"), Err(Error::Older { .. })));
    floor::allow(dir, "never", Some("a-1")).unwrap();
    // Another component of the version in force, too.
    floor::allow(dir, "strict", Some("b-3")).unwrap();
    floor::raise(dir, &[signed("strict", "3", "b")]).unwrap().commit().unwrap();
    assert!(matches!(comes(dir, "3"), Err(Error::Other { .. })));
}

#[test]
fn two_components_of_one_name_cannot_be_in_force_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let two = [signed("strict", "1", "a"), signed("strict", "2", "a")];
    assert!(matches!(floor::check(dir.path(), &two), Err(Error::Twice { .. })));
    let same = [signed("strict", "1", "a"), signed("strict", "1", "a")];
    floor::raise(dir.path(), &same).unwrap().commit().unwrap();
}

#[test]
fn a_floor_that_cannot_be_read_or_written_is_refused_and_where_nothing_is_signed_none_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    comes(dir.path(), "1").unwrap();
    for text in
        ["junk", "[strict]\nversion = \"x\"\nsha256 = \"a\"\n", "[strict]\nversion = \"1\"\nsha256 = \"a\"\nmore = 1\n"]
    {
        fs::write(dir.path().join(FILE), text).unwrap();
        assert!(matches!(comes(dir.path(), "2"), Err(Error::Damaged { .. })), "{text}");
    }
    fs::write(dir.path().join(FILE), vec![b'#'; 2 << 20]).unwrap();
    assert!(matches!(comes(dir.path(), "2"), Err(Error::Read { .. })));
    fs::remove_file(dir.path().join(FILE)).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join(FILE)).unwrap();
    assert!(matches!(comes(dir.path(), "2"), Err(Error::Read { .. })), "a link that leads nowhere is not absent");
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(floor::raise(&nowhere, &[signed("strict", "1", "a")]), Err(Error::Write { .. })));
    floor::raise(&nowhere, &[]).unwrap().commit().unwrap();
    floor::check(&nowhere, &[]).unwrap();
}

#[test]
fn of_many_that_write_at_once_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for at in 0..4 {
            let dir = dir.path();
            scope.spawn(move || {
                let in_force = [signed(&format!("policy-{at}"), "1", "a")];
                floor::raise(dir, &in_force).unwrap().commit().unwrap();
            });
        }
    });
    for at in 0..4 {
        let older = [signed(&format!("policy-{at}"), "0", "a")];
        assert!(matches!(floor::check(dir.path(), &older), Err(Error::Older { .. })), "{at}");
    }
}
