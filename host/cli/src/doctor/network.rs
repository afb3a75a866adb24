//! What this machine is connected to: the clock, the server for notices, our own door, the name servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::time::timeout;

use super::Report;
use addrauth::config::{Config, Listen};
use addrauth::verify::NameServers;

/// How long anybody may take to answer: a person waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// A name server that is asked once more after half of this is dead.
const DNS_PATIENCE: Duration = Duration::from_secs(2);
/// A line of an SMTP server is at most so long (RFC 5321 §4.5.3.1.5).
const SMTP_LINE: usize = 512;
/// systemd-timesyncd makes this file when the clock is set.
const TIMESYNC: &str = "/run/systemd/timesync/synchronized";

/// Whether the clock is set by others: keys end by it. Told only where something on this machine knows.
pub(super) async fn clock(report: &mut Report) {
    let about = "clock";
    if Path::new(TIMESYNC).exists() {
        return report.good(about, "it is synchronised, says systemd-timesyncd");
    }
    let arguments = ["show", "--property=NTPSynchronized", "--value"];
    let said = super::postfix::output("timedatectl".as_ref(), &arguments.map(String::from)).await;
    match said.as_deref().map(str::trim) {
        Ok("yes") => report.good(about, "it is synchronised, says timedatectl"),
        Ok("no") => {
            report.warn(about, "it is not synchronised, says timedatectl: keys end by it, so run an NTP client")
        }
        _ => report.unknown(
            about,
            "nothing here tells whether it is synchronised; keys end by it, so an NTP client should run",
        ),
    }
}

/// Whether the server that takes our notices greets us.
pub(super) async fn notices(config: &Config, report: &mut Report) {
    let via = &config.notices.notify_via;
    let about = format!("notices.notify_via {via}");
    match timeout(PATIENCE, greeting(via)).await {
        Ok(Ok(line)) if line.starts_with("220") => report.good(&about, line),
        Ok(Ok(line)) => {
            report.wrong(&about, format!("the server does not greet with 220, so no notice goes out: {line}"))
        }
        Ok(Err(e)) => {
            report.wrong(
                &about,
                format!("no notice goes out: {e}. Name an SMTP server of your own that takes mail from here"),
            );
        }
        Err(_) => report.wrong(&about, format!("no greeting within {PATIENCE:?}, so no notice goes out")),
    }
}

async fn greeting(via: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(via).await?;
    let (mut line, mut octet) = (Vec::new(), [0]);
    while line.len() < SMTP_LINE && !line.ends_with(b"\n") {
        if stream.read(&mut octet).await? == 0 {
            break;
        }
        line.extend_from_slice(&octet);
    }
    // A farewell is a courtesy.
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Whether a milter answers where ours is to listen.
pub(super) async fn door(config: &Config, report: &mut Report) {
    for place in &config.milter.listen {
        let about = format!("milter.listen {place}");
        let hint = "is `addrauth filter` running?";
        match timeout(PATIENCE, answers(place)).await {
            Ok(Ok(true)) => report.good(&about, "a milter answers"),
            Ok(Ok(false)) => {
                report.wrong(&about, "what listens there is no milter: does another program have this place?")
            }
            Ok(Err(e)) => report.wrong(&about, format!("nobody can be reached there: {e}; {hint}")),
            Err(_) => report.wrong(&about, format!("no answer within {PATIENCE:?}; {hint}")),
        }
    }
}

/// Whether a milter answers at this place.
pub(crate) async fn is_milter(place: &Listen) -> bool {
    matches!(timeout(PATIENCE, answers(place)).await, Ok(Ok(true)))
}

async fn answers(place: &Listen) -> std::io::Result<bool> {
    match place {
        Listen::Inet(address) => negotiate(TcpStream::connect(within_reach(*address)).await?).await,
        Listen::Unix(path) => negotiate(UnixStream::connect(path).await?).await,
    }
}

/// Where one listens on every address, this machine's own is meant.
pub(crate) fn within_reach(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Offers version 6 of the milter protocol and nothing else, and takes its leave; whether the other side negotiates.
async fn negotiate(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<bool> {
    let offer = [0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff];
    stream.write_all(&offer).await?;
    let mut answer = [0; 5];
    let read = stream.read_exact(&mut answer).await;
    let _ = stream.write_all(&[0, 0, 0, 1, b'Q']).await;
    match read {
        Ok(_) => Ok(answer.starts_with(&[0, 0]) && answer.ends_with(b"O")),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether each name server answers that is asked, by the configuration or by /etc/resolv.conf.
pub(super) async fn name_servers(config: &Config, report: &mut Report) {
    let NameServers { servers, from, unusable } = NameServers::of(&config.verify);
    for text in unusable {
        report.warn(from, text);
    }
    for server in servers {
        let about = format!("DNS server {server} ({from})");
        let start = Instant::now();
        match ask_root(server).await {
            Ok(code @ (0 | 3)) => {
                let word = if code == 0 { "NOERROR" } else { "NXDOMAIN" };
                let took = start.elapsed().as_secs_f64() * 1_000.0;
                report.good(&about, format!("answers ({word}) after {took:.1} ms"));
            }
            Ok(code) => report.warn(&about, format!("answers with the error {code}: may this machine ask it?")),
            Err(e) => report.wrong(&about, format!("does not answer: {e}. No domain's server is found through it")),
        }
    }
}

/// Asks for the name servers of the root, the one name that everybody knows; returns the response code.
async fn ask_root(server: SocketAddr) -> std::io::Result<u8> {
    let any = if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let [high, low] = rand::random::<u16>().to_be_bytes();
    // RD; one question: the root, type NS, class IN (RFC 1035 §4.1).
    let question = [high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    for _ in 0..2 {
        socket.send(&question).await?;
        match timeout(DNS_PATIENCE / 2, response(&socket, [high, low])).await {
            Ok(Ok(code)) => return Ok(code),
            Ok(Err(e)) => last = e,
            Err(_) => {}
        }
    }
    Err(last)
}

async fn response(socket: &UdpSocket, id: [u8; 2]) -> std::io::Result<u8> {
    let mut answer = [0; 1_500];
    loop {
        let length = socket.recv(&mut answer).await?;
        if let Some([a, b, flags, code]) = answer.get(..length).and_then(|octets| octets.first_chunk())
            && [*a, *b] == id
            && flags & 0x80 != 0
        {
            return Ok(code & 0x0f);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::State;
    use super::*;
    use addrauth_lab::zone::{Records, Zone};

    fn states(report: &Report) -> Vec<State> {
        report.0.iter().map(|check| check.state).collect()
    }

    #[tokio::test]
    async fn a_name_server_that_answers_is_good_and_a_silent_one_is_wrong() {
        let zone = Zone::start(Records::default()).await.unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::default();
        config.verify.dns = vec![zone.addr, silent.local_addr().unwrap()];
        let mut report = Report::default();
        name_servers(&config, &mut report).await;
        assert_eq!(states(&report), [State::Good, State::Wrong], "{}", report.text());
    }

    /// Speaks this to each who connects; where.
    async fn speaking(words: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(words).await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        });
        place
    }

    #[tokio::test]
    async fn only_a_server_that_greets_takes_notices() {
        // Bound and not listened on: it refuses, and nobody else gets it meanwhile.
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let closed = held.local_addr().unwrap();
        let [good, busy] = [speaking(b"220 mx ESMTP\r\n").await, speaking(b"554 no\r\n").await];
        let mut report = Report::default();
        for place in [good, busy, closed] {
            let mut config = Config::default();
            config.notices.notify_via = place.to_string();
            notices(&config, &mut report).await;
        }
        assert_eq!(states(&report), [State::Good, State::Wrong, State::Wrong], "{}", report.text());
    }

    #[tokio::test]
    async fn only_a_milter_is_taken_for_one() {
        let milter = speaking(&[0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]).await;
        let other = speaking(b"220 mx ESMTP\r\n").await;
        let mut config = Config::default();
        let nowhere = Listen::Unix("/nonexistent/milter".into());
        config.milter.listen = vec![Listen::Inet(milter), Listen::Inet(other), nowhere];
        let mut report = Report::default();
        door(&config, &mut report).await;
        assert_eq!(states(&report), [State::Good, State::Wrong, State::Wrong], "{}", report.text());
    }
}
