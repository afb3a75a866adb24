//! `addrauth policy prove`: proves properties, or prints a counterexample as a case.

use addrauth::policy::rehearse::{Malformed, Outcome, Proof, Property, Relation, Samples, prove, relate};
use serde_json::json;

use super::named::Workshop;
use super::{Error, Setting, Told};

/// Proves what the words say.
pub(super) fn run(
    workshop: &Workshop,
    words: &[String],
    bindings: Option<&str>,
    set: &[Setting],
    json: bool,
) -> Result<Told, Error> {
    let proofs = match (words, bindings) {
        (properties, Some(recipient)) => {
            let properties = read(properties)?;
            let subject = workshop.site(Some(recipient).filter(|word| !word.is_empty()))?;
            prove(&subject, &properties, &Samples::default(), &workshop.limits)
        }
        ([relation, one, other], None) if relation == "equivalent" || relation == "implies" => {
            let relation = if relation == "implies" { Relation::Implies } else { Relation::Equivalent };
            let (one, other) = (workshop.load(one, set)?, workshop.load(other, set)?);
            let mut samples = one.samples(workshop)?;
            samples.extend(&other.samples(workshop)?);
            vec![relate(relation, &one.subject()?, &other.subject()?, &samples, &workshop.limits)]
        }
        ([relation, ..], None) if relation == "equivalent" || relation == "implies" => {
            return Err(Malformed(format!("`{relation}` needs two policies behind it: {relation} A B")).into());
        }
        ([policy, properties @ ..], None) => {
            let properties = read(properties)?;
            let named = workshop.load(policy, set)?;
            prove(&named.subject()?, &properties, &named.samples(workshop)?, &workshop.limits)
        }
        ([], None) => {
            return Err(Malformed("name a policy, or --bindings for all that the configuration binds".into()).into());
        }
    };
    if json {
        println!("{:#}", serde_json::Value::from(proofs.iter().map(told).collect::<Vec<_>>()));
    } else {
        proofs.iter().for_each(print);
    }
    let told = |proof: &Proof| match proof.outcome {
        Outcome::Holds => Told::Good,
        Outcome::Fails(_) => Told::Finding,
        Outcome::Unknown(_) => Told::Unknown,
    };
    Ok(proofs.iter().map(told).max().unwrap_or(Told::Good))
}

fn read(words: &[String]) -> Result<Vec<Property>, Error> {
    if words.is_empty() { Ok(Property::standard()) } else { Ok(Property::read(words)?) }
}

fn print(proof: &Proof) {
    let took = format!("{} rows in {:.0} ms", proof.extent.rows, proof.took.as_secs_f64() * 1_000.0);
    match &proof.outcome {
        Outcome::Holds if proof.extent.is_exact() => println!("proved   {} ({took})", proof.property),
        Outcome::Holds => println!("holds    {} for these samples ({took}; {})", proof.property, proof.extent.words()),
        Outcome::Unknown(why) => {
            println!("UNKNOWN  {}: {why}", proof.property);
            if !proof.extent.probed.is_empty() {
                println!("  --exhaustive asks about all of them, which may take minutes");
            }
        }
        Outcome::Fails(counterexample) => {
            println!("FAILS    {} ({took})\n  {}; as a case:\n", proof.property, counterexample.text);
            for case in &counterexample.cases {
                case.0.lines().for_each(|line| println!("  {line}"));
                println!();
            }
        }
    }
}

fn told(proof: &Proof) -> serde_json::Value {
    let (outcome, text, cases) = match &proof.outcome {
        Outcome::Holds if proof.extent.is_exact() => ("proved", None, None),
        Outcome::Holds => ("holds for these samples", None, None),
        Outcome::Unknown(why) => ("unknown", Some(why), None),
        Outcome::Fails(counterexample) => ("fails", Some(&counterexample.text), Some(&counterexample.cases)),
    };
    json!({
        "property": proof.property, "outcome": outcome, "why": text, "cases": cases, "extent": proof.extent,
        "milliseconds": proof.took.as_secs_f64() * 1_000.0,
    })
}
