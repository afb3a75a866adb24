//! The mail that brings a new key to its address, in `X-New-Auth-Key`: composed when it is sent, and kept nowhere.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mail_builder::MessageBuilder;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::compose::{Sender, seconds, when};
use super::send::{Failure, Round, Server};
use super::{Error, on_the_wire, server};
use crate::config::{Config, Limits};
use crate::proto::address::Address;
use crate::proto::header::NEW_KEY_FIELD;
use crate::proto::key::AuthKey;

/// Octets of the hash that a Message-ID is made of: 120 bits, as many as a random one has.
const ID_OCTETS: usize = 15;

/// A new key on its way to its address.
#[derive(Debug)]
pub struct KeyMail<'a> {
    /// The address: the one recipient, and the one in To.
    pub address: &'a Address,
    /// The key.
    pub key: &'a AuthKey,
    /// Which of the address's keys it is.
    pub generation: i64,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
}

/// Who writes mails that bring keys, in which words, and through which server.
#[derive(Clone, Debug)]
pub struct KeyMails {
    sender: Sender,
    server: Server,
}

/// Several mails over one connection, one after another.
pub struct Tour<'a> {
    mails: &'a KeyMails,
    round: Round<'a>,
}

impl KeyMails {
    /// From `authority.from`, or else as notices; `key-mail.txt` of `notices.templates`; through `notices.notify_via`. It
    /// connects to nothing yet.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn from_config(config: &Config, limits: &Limits) -> Result<KeyMails, Error> {
        let mut sender = Sender::from_config(config, limits)?;
        if let Some(from) = config.authority.from()? {
            sender.from = from.to_string();
        }
        let server = server(config, &sender, limits)?;
        Ok(KeyMails { sender, server })
    }

    /// Begins to send.
    pub fn tour(&self) -> Tour<'_> {
        Tour { mails: self, round: Round::new(&self.server) }
    }

    /// What the mail is called, in angle brackets: the same each time it is sent, so that a second copy shows as one.
    pub fn message_id(&self, mail: &KeyMail<'_>) -> String {
        format!("<{}>", self.id(mail))
    }

    fn id(&self, mail: &KeyMail<'_>) -> String {
        let hash = Sha256::new()
            .chain_update(b"addrauth-key-mail-v1\0")
            .chain_update(mail.address.to_string())
            .chain_update(format!("\0{}\0{}", mail.generation, seconds(mail.created)))
            .finalize();
        format!("{}@{}", URL_SAFE_NO_PAD.encode(hash.get(..ID_OCTETS).unwrap_or(&hash)), self.sender.host)
    }

    /// The mail as SMTP carries it. The key stands on one line, the first, and nowhere else.
    fn compose(&self, mail: &KeyMail<'_>, now: SystemTime) -> Option<Zeroizing<Vec<u8>>> {
        let (address, text) = (mail.address.to_string(), &self.sender.texts.key_mail);
        let values = [
            ("address", address.clone()),
            ("domain", mail.address.domain().to_string()),
            ("expires", when(mail.expires)),
            ("postmaster", self.sender.from.clone()),
        ];
        let letter = MessageBuilder::new()
            .header("Date", Date::new(seconds(now)))
            .header("From", Raw::new(format!("Mail system <{}>", self.sender.from)))
            .header("To", Raw::new(format!("<{address}>")))
            .message_id(self.id(mail))
            .subject(text.subject(&values))
            .header("Auto-Submitted", Raw::new("auto-generated"))
            .header("X-Auto-Response-Suppress", Raw::new("All"))
            .text_body(text.body(&values))
            .write_to_vec()
            .ok()?;
        let field = Zeroizing::new(format!("{NEW_KEY_FIELD}: {}\r\n", mail.key.expose()));
        Some(Zeroizing::new(on_the_wire(&field, &letter)))
    }
}

impl Tour<'_> {
    /// Sends one mail: with the null reverse-path, since a bounce would carry the key to whoever it went to.
    ///
    /// # Errors
    /// Why it was not taken, and whether it makes sense to try again.
    pub async fn send(&mut self, mail: &KeyMail<'_>, now: SystemTime) -> Result<(), Failure> {
        let message = self.mails.compose(mail, now);
        let message = message.ok_or_else(|| Failure::lasting("the mail cannot be written"))?;
        self.round.take(&mail.address.to_string(), &message).await
    }

    /// Says goodbye to the server, where one was spoken to.
    pub async fn end(self) {
        self.round.end().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";

    fn mails(from: &str) -> Result<KeyMails, Error> {
        let mut config = Config { hostname: "as.example.com".into(), ..Config::default() };
        config.authority.from = from.into();
        KeyMails::from_config(&config, &Limits::default())
    }

    fn composed(address: &str, generation: i64, now: u64, key: &str) -> String {
        let (address, key) =
            (Address::parse(address.as_bytes(), true).unwrap(), AuthKey::parse(key.as_bytes()).unwrap());
        let at = |days: u64| UNIX_EPOCH + Duration::from_secs(1_800_000_000 + days * 86_400);
        let mail = KeyMail { address: &address, key: &key, generation, created: at(0), expires: at(12) };
        let text = mails("keys@example.com").unwrap().compose(&mail, at(now)).unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn the_key_stands_on_one_line_of_the_header_and_nowhere_else() {
        for key in [KEY.to_owned(), "k".repeat(128), "-".repeat(22)] {
            let text = composed("alice@example.com", 7, 0, &key);
            let (header, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(header.starts_with(&format!("X-New-Auth-Key: {key}\r\n")), "{header}");
            assert!(!header[16 + key.len()..].contains(&key[..22]) && !body.contains(&key[..22]));
            assert!(text.lines().all(|line| line.len() <= 145), "{text}");
        }
    }

    #[test]
    fn its_fields_and_words_say_what_it_is() {
        let text = composed("alice@example.com", 7, 3, KEY);
        for line in [
            "From: Mail system <keys@example.com>",
            "To: <alice@example.com>",
            "Auto-Submitted: auto-generated",
            "Subject: A new key for your mail address: nothing to do",
            "Date: Mon, 18 Jan 2027 08:00:00 +0000",
            "    alice@example.com",
            "2027-01-27 at 08:00 UTC. Nobody will ever ask you for it.",
            "Questions? Write to your postmaster: keys@example.com",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn the_message_id_is_of_the_key_and_not_of_the_try() {
        let id = |text: String| text.lines().find(|line| line.starts_with("Message-ID:")).unwrap().to_owned();
        let first = id(composed("alice@example.com", 7, 0, KEY));
        assert_eq!(id(composed("alice@example.com", 7, 3, KEY)), first);
        assert_ne!(id(composed("alice@example.com", 8, 0, KEY)), first);
        assert_ne!(id(composed("bob@example.com", 7, 0, KEY)), first);
        assert!(first.ends_with("@as.example.com>"), "{first}");
    }

    #[test]
    fn a_from_that_is_no_address_is_refused_and_an_empty_one_is_that_of_notices() {
        assert!(mails("nobody").unwrap_err().to_string().contains("authority.from"));
        assert_eq!(mails("").unwrap().sender.from, "postmaster@as.example.com");
    }
}
