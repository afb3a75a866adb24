//! What a domain publishes about its Authentication Server, and what each address of that server says when it is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Report, streams};
use addrauth::case::{Found, KeyStatus, Limited, Why};
use addrauth::config::{Config, FixedAs, Limits};
use addrauth::proto::address::{Address, Domain};
use addrauth::proto::key::AuthKey;
use addrauth::proto::record::{Claim, Record};
use addrauth::verify::{Endpoint, Endpoints, Failure, Published, Records, Texts, Verifier, is_internal};

/// Addresses that are asked, more than a verifier asks: a dead one far down the list is worth knowing.
const ENDPOINTS: usize = 16;

/// Looks at one domain.
pub(super) async fn examine(domain: &Domain, config: &Config, report: &mut Report) {
    let usual = Limits::default();
    let limits = Arc::new(usual.clone().with(|limits| limits.verify.endpoints = ENDPOINTS));
    let verifier = match Verifier::new(&config.verify, &config.hostname, &limits) {
        Ok(verifier) => verifier,
        Err(e) => return report.unknown(domain, e.to_string()),
    };
    let texts = verifier.texts(domain).await;
    both_names(domain, &texts, report);
    let (published, endpoints) = verifier.locate(domain).await;
    let own = config.authority.domains.contains(domain);
    match &published {
        Published::Nothing if own => report.wrong(
            domain,
            format!("it publishes no AS= record, so nobody finds our server: `addrauth record {domain}` prints what to publish"),
        ),
        Published::Nothing => report.good(domain, "it publishes no AS= record: it does not take part"),
        Published::Failed(failure @ (Failure::Dns { .. } | Failure::Timeout(_))) => {
            report.unknown(domain, failure.to_string());
        }
        Published::Failed(failure) => report.wrong(domain, failure.to_string()),
        Published::Fixed(address) => {
            report.good(domain, format!("verify.domain fixes its server at {address}: DNS is not asked here"));
        }
        Published::Records(records) => read(domain, records, own, config, report),
    }
    targets(domain, &published, &endpoints, &usual, report);
    let over_udp: Vec<&Endpoint> = endpoints.usable.iter().filter(|endpoint| endpoint.offers.udp).collect();
    let asked = over_udp.iter().map(|endpoint| ask(domain, endpoint, config));
    for (endpoint, answer) in over_udp.iter().zip(futures_util::future::join_all(asked).await) {
        let about = format!("{domain} at {} ({})", endpoint.address, endpoint.authority);
        match answer {
            Ok((found, took)) => judge(&about, &found, took, report),
            Err(text) => report.unknown(&about, text),
        }
    }
    streams::examine(domain, &endpoints.usable, config, report).await;
}

/// The names must agree: those who publish at one and forget the other wonder for long.
fn both_names(domain: &Domain, texts: &[(String, Texts); 2], report: &mut Report) {
    let [(special, Ok(special_texts)), (_, Ok(plain_texts))] = texts else { return };
    let sorted = |texts: &Vec<Vec<u8>>| {
        let mut texts = texts.clone();
        texts.sort();
        texts
    };
    if !special_texts.is_empty() && !plain_texts.is_empty() && sorted(special_texts) != sorted(plain_texts) {
        report.warn(
            domain,
            format!("{special} and {domain} hold different AS= records: those at {special} count, remove the others"),
        );
    }
    let winner = if special_texts.is_empty() { plain_texts } else { special_texts };
    let all = sorted(winner);
    if all.windows(2).any(|pair| pair.first() == pair.last()) {
        report.warn(domain, "it holds the same AS= record twice: remove one");
    }
    let usable = winner.iter().filter(|text| Record::parse(text).is_ok()).count();
    let used = Limits::default().verify.as_used;
    if usable > used && winner.len() <= Limits::default().verify.as_records {
        report.warn(domain, format!("of its {usable} AS= records the {used} with the lowest p= are used: remove some"));
    }
}

/// The records that count.
fn read(domain: &Domain, records: &Records, own: bool, config: &Config, report: &mut Report) {
    let Records { name, used, bad, claim } = records;
    report.good(domain, format!("{} usable AS= records at {name}, m={}", used.len(), claim.word()));
    for bad in bad {
        report.warn(domain, format!("a record at {name} cannot be used: {bad}"));
    }
    if used.iter().any(|record| record.claim != *claim) {
        report.warn(domain, format!("its records claim different things: the weakest counts, m={}", claim.word()));
    }
    if !own {
        return;
    }
    offered_by_us(domain, used, config, report);
    let listen = &config.authority.listen;
    for record in used.iter().filter(|record| listen.iter().all(|place| place.port() != record.port)) {
        report.warn(domain, format!("its record names port {}, and authority.listen does not", record.port));
    }
    let ours = config.final_domains.contains(domain);
    if *claim == Claim::All {
        let here = if ours { ", this one too," } else { "" };
        report.warn(
            domain,
            format!("m=all: whatever leaves without a key counts as forged, so all servers that send for it{here} must stamp"),
        );
    }
}

/// Whether our records say over what our server answers.
fn offered_by_us(domain: &Domain, used: &[Record], config: &Config, report: &mut Report) {
    let speaks_tls = config.authority.tls.is_on();
    for record in used {
        let place = format!("{}:{}", record.host, record.port);
        match (record.udp, record.tls) {
            (true, true) if !speaks_tls => {
                report.warn(domain, format!("{place}: t= names tls, and authority.tls is not set here: t=udp"));
            }
            (false, true) if !speaks_tls => {
                report.wrong(domain, format!("{place}: t= names tls alone, and authority.tls is not set here: t=udp"));
            }
            (_, false) if speaks_tls => report.warn(
                domain,
                format!("{place}: our server speaks TLS, and t= does not say so: `addrauth record {domain}` prints what does"),
            ),
            _ => {}
        }
    }
}

/// Where the records lead.
fn targets(domain: &Domain, published: &Published, endpoints: &Endpoints, usual: &Limits, report: &mut Report) {
    for (host, refused) in &endpoints.refused {
        report.wrong(domain, format!("{host} leads to a place that nobody asks: {refused}"));
    }
    for failure in &endpoints.failed {
        match failure {
            Failure::Timeout(_) => report.unknown(domain, failure.to_string()),
            failure => report.wrong(domain, failure.to_string()),
        }
    }
    let Published::Records(_) = published else { return };
    for endpoint in endpoints.usable.iter().filter(|endpoint| is_internal(endpoint.address.ip())) {
        report.warn(
            domain,
            format!(
                "{} is internal and asked because verify.allow_targets permits it: others do not",
                endpoint.address
            ),
        );
    }
    if endpoints.usable.len() > usual.verify.endpoints {
        let (count, most) = (endpoints.usable.len(), usual.verify.endpoints);
        report.warn(domain, format!("its servers have {count} addresses: a question goes to the first {most}"));
    }
}

/// Asks this endpoint alone, about an address that nobody has, with a key that nobody has.
async fn ask(domain: &Domain, endpoint: &Endpoint, config: &Config) -> Result<(Found, Duration), String> {
    let mut verify = config.verify.clone();
    verify.domain.insert(domain.clone(), FixedAs { endpoint: endpoint.address });
    let verifier = Verifier::new(&verify, &config.hostname, &Arc::new(Limits::default())).map_err(|e| e.to_string())?;
    let nobody = format!("addrauth-doctor-{:016x}", rand::random::<u64>());
    let address = Address::at(&nobody, domain).map_err(|e| e.to_string())?;
    let key = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let key = AuthKey::parse(key.as_bytes()).map_err(|e| e.to_string())?;
    let start = Instant::now();
    let found = verifier.question(&address, &key).await.unwrap_or_else(|later| later.found);
    Ok((found, start.elapsed()))
}

fn judge(about: &str, found: &Found, took: Duration, report: &mut Report) {
    let took = format!("{:.1} ms", took.as_secs_f64() * 1_000.0);
    let answered = found.authority.is_some();
    match (found.status, found.why) {
        (KeyStatus::Invalid, Some(Why::Wrong)) => {
            report.good(about, format!("INVALIDKEY for a key of nobody, after {took}"))
        }
        (KeyStatus::Valid, _) => {
            report.wrong(about, format!("VALIDKEY for a key of nobody, after {took}: it would vouch for everybody"));
        }
        (KeyStatus::Invalid, _) => report.wrong(about, format!("it calls a key of nobody expired, after {took}")),
        (_, Some(Why::Dns)) => report.wrong(
            about,
            format!(
                "it answers after {took}, but does not speak for {} (e=domain, e=version or e=syntax)",
                domain_of(found)
            ),
        ),
        _ if found.limited == Some(Limited::There) => {
            report.unknown(about, format!("it asks for TLS or is over its limit (e=stream, e=limit), after {took}"));
        }
        (_, Some(Why::Timeout)) if answered => {
            report.wrong(
                about,
                format!("it has trouble of its own (e=temp, or an answer that nobody knows), after {took}"),
            );
        }
        (_, Some(Why::Timeout)) => {
            report.wrong(about, format!("no answer within {took}: does it run, and does UDP pass the firewalls?"));
        }
        (_, why) => report.unknown(about, format!("nothing came of asking it: {}", why.map_or("no reason", Why::word))),
    }
}

fn domain_of(found: &Found) -> &str {
    found.sender.as_ref().map_or("the domain", |sender| sender.domain().as_str())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::net::UdpSocket;

    use super::super::State;
    use super::*;
    use addrauth::proto::wire::{self, DATAGRAM_MAX, Reason, Request, Status};
    use addrauth_lab::zone::{Fault, Records as Zoned, Zone};

    const LOOPBACK: &str = "127.0.0.1";

    /// An AS that says this to everybody; its port.
    async fn saying(status: Status, reason: Option<Reason>) -> u16 {
        let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut line = [0; DATAGRAM_MAX];
            while let Ok((length, peer)) = socket.recv_from(&mut line).await {
                let Request::Asked { seq, address, .. } = Request::read(&line[..length], DATAGRAM_MAX) else {
                    continue;
                };
                let reply = wire::reply(seq, address, status, None, reason, DATAGRAM_MAX).unwrap();
                socket.send_to(&reply, peer).await.unwrap();
            }
        });
        port
    }

    /// What is told of example.com, of which this zone knows; the server is allowed on loopback where `inside` says so.
    async fn told(records: Zoned, inside: bool, change: impl Fn(&mut Config)) -> Report {
        let zone = Zone::start(records.address("as.example.com", LOOPBACK.parse::<IpAddr>().unwrap())).await.unwrap();
        let mut config = Config { hostname: "mx.example.net".into(), ..Config::default() };
        config.verify.dns = vec![zone.addr];
        if inside {
            config.verify.allow_targets = vec!["127.0.0.0/8".parse().unwrap()];
        }
        change(&mut config);
        let mut report = Report::default();
        examine(&"example.com".parse().unwrap(), &config, &mut report).await;
        report
    }

    fn says(report: &Report, state: State, words: &str) {
        let found = report.0.iter().any(|check| check.state == state && check.text.contains(words));
        assert!(found, "{words}:\n{}", report.text());
    }

    fn at(port: u16, rest: &str) -> Zoned {
        Zoned::default().txt("example.com", &format!("AS=as.example.com:{port}{rest}"))
    }

    #[tokio::test]
    async fn a_server_that_denies_a_key_of_nobody_is_good_and_any_other_answer_is_told() {
        for (status, reason, state, words) in [
            (Status::Invalid, None, State::Good, "INVALIDKEY for a key of nobody"),
            (Status::Valid, None, State::Wrong, "vouch for everybody"),
            (Status::Invalid, Some(Reason::Expired), State::Wrong, "expired"),
            (Status::Unverified, Some(Reason::Domain), State::Wrong, "does not speak for example.com"),
            (Status::Unverified, Some(Reason::Temp), State::Wrong, "trouble of its own"),
            (Status::Unverified, Some(Reason::Limit), State::Unknown, "over its limit"),
        ] {
            let report = told(at(saying(status, reason).await, ""), true, |_| {}).await;
            says(&report, state, words);
            assert_eq!(report.has(State::Wrong), state == State::Wrong, "{}", report.text());
        }
    }

    #[tokio::test]
    async fn every_endpoint_is_asked_by_itself() {
        let (good, bad) = (saying(Status::Invalid, None).await, saying(Status::Valid, None).await);
        let records = at(good, "; p=1").txt("example.com", &format!("AS=as.example.com:{bad}; p=2"));
        let report = told(records, true, |_| {}).await;
        says(&report, State::Good, "INVALIDKEY");
        says(&report, State::Wrong, "vouch for everybody");
    }

    #[tokio::test]
    async fn a_server_that_keeps_silent_is_wrong() {
        let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let report = told(at(socket.local_addr().unwrap().port(), ""), true, |_| {}).await;
        says(&report, State::Wrong, "no answer within");
    }

    #[tokio::test]
    async fn what_is_wrong_in_dns_is_told() {
        let many =
            (0..17).fold(Zoned::default(), |all, n| all.txt("example.com", &format!("AS=as.example.com:{}", 4000 + n)));
        for (records, state, words) in [
            (Zoned::default().txt("example.com", "AS=as.example.com"), State::Wrong, "no usable AS= record"),
            (many, State::Wrong, "17 records"),
            (Zoned::default().fault("_addrauth.example.com", Fault::ServFail), State::Unknown, "DNS failed"),
            (at(4410, ""), State::Wrong, "127.0.0.1 is an internal or reserved address"),
            (at(25, ""), State::Wrong, "port 25 is below 1024"),
            (at(4410, "").txt("example.com", "AS=as.example.com:4410;p=x"), State::Warning, "cannot be used"),
            (at(4410, "").txt("example.com", "AS=as.example.com:4410"), State::Warning, "twice"),
            (
                at(4410, "; m=all").txt("example.com", "AS=as.example.com:4411"),
                State::Warning,
                "the weakest counts, m=some",
            ),
            (at(4410, "").txt("_addrauth.example.com", "AS=as.example.com:4411"), State::Warning, "hold different"),
            (Zoned::default().txt("example.com", "AS=nobody.example.com:4410"), State::Wrong, "it has no address"),
            (Zoned::default(), State::Good, "does not take part"),
        ] {
            says(&told(records, false, |_| {}).await, state, words);
        }
    }

    #[tokio::test]
    async fn our_own_domain_must_lead_to_our_own_server() {
        let own = |config: &mut Config| {
            config.authority.domains = vec!["example.com".parse().unwrap()];
            config.final_domains = config.authority.domains.clone();
        };
        says(&told(Zoned::default(), true, own).await, State::Wrong, "`addrauth record example.com`");
        let port = saying(Status::Invalid, None).await;
        let report = told(at(port, "; t=udp,tls; m=all"), true, own).await;
        for words in ["authority.listen does not", "authority.tls is not set", "must stamp", "others do not"] {
            says(&report, State::Warning, words);
        }
        // Nobody answers TLS at that port, and the record says that somebody does.
        let wrong: Vec<_> = report.0.iter().filter(|check| check.state == State::Wrong).collect();
        assert!(wrong.len() == 1 && wrong[0].about.ends_with("over TLS"), "{}", report.text());
        let fixed = |config: &mut Config| {
            let endpoint = format!("{LOOPBACK}:{port}").parse().unwrap();
            config.verify.domain.insert("example.com".parse().unwrap(), FixedAs { endpoint });
        };
        let report = told(Zoned::default(), false, fixed).await;
        says(&report, State::Good, "fixes its server");
        says(&report, State::Good, "INVALIDKEY");
    }
}
