//! A client of HTTP/1.1 that says what it is told, octet for octet, and reads one answer.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its content.
    pub content: Vec<u8>,
}

impl Answer {
    /// A field of it; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Its content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// Sends a request over a connection of its own. The fields `host`, `connection` and `content-length` are added.
pub async fn request(place: SocketAddr, line: &str, fields: &[(&str, &str)], content: &[u8]) -> Answer {
    let mut said = format!("{line} HTTP/1.1\r\nhost: {place}\r\nconnection: close\r\n");
    fields.iter().for_each(|(name, value)| said += &format!("{name}: {value}\r\n"));
    said += &format!("content-length: {}\r\n\r\n", content.len());
    exchange(place, &[said.as_bytes(), content].concat()).await
}

/// Sends octets, and reads the answer to the end of the connection.
pub async fn exchange(place: SocketAddr, octets: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(place).await.unwrap();
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(octets).await;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    read(&heard).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&heard)))
}

/// An answer in its parts, whose content ends with the connection or by its length.
pub fn read(heard: &[u8]) -> Option<Answer> {
    let end = heard.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&heard[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    let field =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let fields: Vec<(String, String)> = lines.map(field).collect::<Option<_>>()?;
    let answer = Answer { status, fields, content: heard[end + 4..].to_vec() };
    let length = answer.field("content-length");
    (length.is_empty() || length == answer.content.len().to_string()).then_some(answer)
}
