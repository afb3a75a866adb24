//! Verifies one key: finds the Authentication Server of an address in DNS, asks it, and prints the result.
//! usage: verify ADDRESS KEY-FILE [DNS-SERVER [ALLOWED-NETWORK]]

use std::error::Error;
use std::sync::Arc;

use addrauth::config::{Limits, Verify};
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::verify::Verifier;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, key_file, rest @ ..] = arguments.as_slice() else {
        return Err("usage: verify ADDRESS KEY-FILE [DNS-SERVER [ALLOWED-NETWORK]]".into());
    };
    let address = Address::parse(address.as_bytes(), true).map_err(|_| "that is no address")?;
    let key = AuthKey::parse(std::fs::read(key_file)?.trim_ascii()).map_err(|_| "that is no key")?;

    // Without these the system's name servers are asked, and no server in an internal network is.
    let settings = Verify {
        dns: rest.first().map(|server| server.parse()).transpose()?.into_iter().collect(),
        allow_targets: rest.get(1).map(|network| network.parse()).transpose()?.into_iter().collect(),
        ..Verify::default()
    };

    let verifier = Verifier::new(&settings, "mx.example.net", &Arc::new(Limits::default()))?;
    match verifier.question(&address, &key).await {
        Ok(found) => println!(
            "{} {}",
            found.status.status_word(),
            found.authority.map_or_else(String::new, |answerer| answerer.to_string())
        ),
        Err(later) => println!("later: {}", later.postponed().text()),
    }
    Ok(())
}
