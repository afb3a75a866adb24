//! Handing one mail to the SMTP server, step by step: which step failed decides whether trying again makes sense.

use std::time::Duration;

use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::net::TcpStream;

use crate::proto::address::Address;
use crate::proto::text::ascii;

/// A farewell is a courtesy: the mail is handed over, or not, before it.
const FAREWELL: Duration = Duration::from_secs(1);

/// The SMTP server that takes our mail.
#[derive(Clone, Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    hello: ClientId,
    step: Duration,
    last: Duration,
}

/// Why a mail was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// It makes no sense to try again.
    pub lasting: bool,
    /// Which step failed, and how: printable, in one line.
    pub text: String,
}

impl Failure {
    pub(super) fn lasting(text: impl Into<String>) -> Failure {
        Failure { lasting: true, text: text.into() }
    }
}

impl Server {
    /// The server at this host and port, to which we call ourselves `hello`. Each step has the time `step`, the message itself
    /// `last`. It connects to nothing yet.
    pub(super) fn new(host: &str, port: u16, hello: &str, step: Duration, last: Duration) -> Server {
        Server { host: host.to_owned(), port, hello: ClientId::Domain(hello.to_owned()), step, last }
    }

    /// Hands over one mail with this reverse-path (empty: the null one) to this recipient. Plain SMTP: the server is one of
    /// our own, and it is the one that speaks to others.
    pub(super) async fn take(&self, from: &str, to: &str, message: &[u8]) -> Result<(), Failure> {
        let from = match from {
            "" => None,
            from => Some(path(from)?),
        };
        let to = path(to)?;
        let mut connection = self.connect().await?;
        let taken = self.converse(&mut connection, from, to, message).await;
        farewell(connection).await;
        taken
    }

    /// Without Nagle's delay: a mail goes out in several small writes, and the last two of them have no answer between.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let lost = |text: &str| Failure { lasting: false, text: format!("the connection: {text}") };
        let connecting = tokio::time::timeout(self.step, TcpStream::connect((self.host.as_str(), self.port))).await;
        let stream = connecting.map_err(|_| lost(&format!("no answer within {:?}", self.step)))?;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|e| lost(&in_one_line(&e)))?;
        let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello);
        self.step("the connection", greeting).await.map_err(|(failure, _)| failure)
    }

    async fn converse(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: Option<lettre::Address>,
        to: lettre::Address,
        message: &[u8],
    ) -> Result<(), Failure> {
        let ascii = |address: &lettre::Address| AsRef::<str>::as_ref(address).is_ascii();
        let offers = |extension| connection.server_info().supports_feature(extension);
        let mut parameters = Vec::new();
        if !(ascii(&to) && from.as_ref().is_none_or(ascii)) {
            if !offers(Extension::SmtpUtfEight) {
                return Err(Failure::lasting("the server offers no SMTPUTF8, which this address needs"));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !message.is_ascii() {
            if !offers(Extension::EightBitMime) {
                return Err(Failure::lasting("the server offers no 8BITMIME, which this mail needs"));
            }
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        // Until the recipient is named, a refusal is about us and our settings: the postmaster can put it right meanwhile.
        self.step("MAIL", connection.command(Mail::new(from, parameters))).await.map_err(|(failure, _)| failure)?;
        let about_it = |(failure, refused): (Failure, bool)| Failure { lasting: refused, ..failure };
        self.step("RCPT", connection.command(Rcpt::new(to, Vec::new()))).await.map_err(about_it)?;
        self.step("DATA", connection.command(Data)).await.map_err(about_it)?;
        // The server may have the whole message before it says so: to give up early is to send it twice (RFC 5321 §4.5.3.2.6).
        self.within(self.last, "the message", connection.message(message)).await.map_err(about_it)?;
        Ok(())
    }

    /// One step within its time; of a failure also whether the server refused for good.
    async fn step<T>(
        &self,
        what: &str,
        doing: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
    ) -> Result<T, (Failure, bool)> {
        self.within(self.step, what, doing).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        doing: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
    ) -> Result<T, (Failure, bool)> {
        match tokio::time::timeout(limit, doing).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(e)) => {
                let text = format!("{what}: {}", said(&e));
                Err((Failure { lasting: false, text }, e.is_permanent()))
            }
            Err(_) => {
                let text = format!("{what}: no answer within {limit:?}");
                Err((Failure { lasting: false, text }, false))
            }
        }
    }
}

/// A connection that several mails may go over, one after another; it is opened for the first one.
pub(super) struct Round<'a> {
    server: &'a Server,
    connection: Option<AsyncSmtpConnection>,
}

impl<'a> Round<'a> {
    pub(super) fn new(server: &'a Server) -> Round<'a> {
        Round { server, connection: None }
    }

    /// Hands over one mail with the null reverse-path to this recipient. After a failure the next one has a new connection.
    pub(super) async fn take(&mut self, to: &str, message: &[u8]) -> Result<(), Failure> {
        let to = path(to)?;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.server.connect().await?,
        };
        let taken = self.server.converse(&mut connection, None, to, message).await;
        match taken {
            Ok(()) => self.connection = Some(connection),
            Err(_) => farewell(connection).await,
        }
        taken
    }

    pub(super) async fn end(self) {
        if let Some(connection) = self.connection {
            farewell(connection).await;
        }
    }
}

async fn farewell(mut connection: AsyncSmtpConnection) {
    let _ = tokio::time::timeout(FAREWELL, connection.abort()).await;
}

/// Whether this reverse-path, empty or an address, can stand in a MAIL command.
pub(super) fn carries(reverse_path: &str) -> bool {
    reverse_path.is_empty() || path(reverse_path).is_ok()
}

/// An address of ours as lettre's. It was read strictly when the mail was composed; lettre's own reading differs in quoted
/// and international local parts.
fn path(address: &str) -> Result<lettre::Address, Failure> {
    let address = Address::parse(address.as_bytes(), true);
    let address = address.map_err(|e| Failure::lasting(format!("no address for SMTP: {e}")))?;
    Ok(lettre::Address::new_dangerous(address.local(), address.domain().as_str()))
}

/// A server's reply, its code and its words once; of another failure what happened, and why.
fn said(e: &lettre::transport::smtp::Error) -> String {
    match (e.status(), std::error::Error::source(e)) {
        (Some(code), Some(words)) => printable(&format!("{code} {words}")),
        // It ends with its cause already.
        _ => printable(&e.to_string()),
    }
}

/// The error and its causes.
fn in_one_line(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    printable(&text)
}

/// Without line ends: a server's words go to the log and the journal.
fn printable(text: &str) -> String {
    ascii(text, 200)
}
