//! One command line of LMTP (RFC 2033, RFC 5321 §4.1), read without looking at what came before it.

/// A command; its words are octets of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// LHLO and the name.
    Lhlo(&'a [u8]),
    /// MAIL FROM: the path with its angle brackets, and the parameters.
    Mail(&'a [u8], Vec<&'a [u8]>),
    /// RCPT TO: the same.
    Rcpt(&'a [u8], Vec<&'a [u8]>),
    /// DATA.
    Data,
    /// BDAT (RFC 3030 §2): so many octets follow, and whether they are the last.
    Bdat(u64, bool),
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// QUIT.
    Quit,
    /// XFORWARD: the attributes and their decoded values. One that is not available has none.
    Xforward(Vec<(&'a [u8], Option<Vec<u8>>)>),
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCommand {
    /// Its verb is not known here; HELO and EHLO are not (RFC 2033 §4.1).
    Unknown,
    /// Its words are wrong.
    Syntax,
    /// A MAIL whose path cannot be read. A stranger may have written it.
    Sender,
    /// A RCPT whose path cannot be read.
    Recipient,
}

impl NoCommand {
    /// What is wrong with a line that begins so, where it is wrong.
    pub fn of(line: &[u8]) -> NoCommand {
        match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_slice() {
            b"MAIL" => NoCommand::Sender,
            b"RCPT" => NoCommand::Recipient,
            _ => NoCommand::Syntax,
        }
    }
}

impl<'a> Command<'a> {
    /// Reads a line, given without its line ending.
    ///
    /// # Errors
    /// [`NoCommand`]: in a line with any control octet, since the next hop could take a CR or LF for a line's end.
    pub fn read(line: &'a [u8]) -> Result<Command<'a>, NoCommand> {
        if line.iter().any(u8::is_ascii_control) {
            return Err(NoCommand::of(line));
        }
        let end = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
        let (verb, rest) = line.split_at_checked(end).unwrap_or((line, b""));
        let rest = rest.trim_ascii();
        let alone = |command| if rest.is_empty() { Ok(command) } else { Err(NoCommand::Syntax) };
        match verb.to_ascii_uppercase().as_slice() {
            b"LHLO" if rest.is_empty() || rest.contains(&b' ') => Err(NoCommand::Syntax),
            b"LHLO" => Ok(Command::Lhlo(rest)),
            b"MAIL" => {
                let (path, parameters) = path(rest, b"FROM:").ok_or(NoCommand::Sender)?;
                Ok(Command::Mail(path, parameters))
            }
            b"RCPT" => match path(rest, b"TO:").ok_or(NoCommand::Recipient)? {
                (b"<>", _) => Err(NoCommand::Recipient),
                (path, parameters) => Ok(Command::Rcpt(path, parameters)),
            },
            b"DATA" => alone(Command::Data),
            b"BDAT" => bdat(rest),
            b"RSET" => alone(Command::Rset),
            b"QUIT" => alone(Command::Quit),
            b"NOOP" => Ok(Command::Noop),
            b"VRFY" => Ok(Command::Vrfy),
            b"XFORWARD" => xforward(rest),
            _ => Err(NoCommand::Unknown),
        }
    }
}

/// The path behind `FROM:` or `TO:`, and the parameters behind it.
fn path<'a>(words: &'a [u8], before: &[u8]) -> Option<(&'a [u8], Vec<&'a [u8]>)> {
    let (begin, rest) = words.split_at_checked(before.len())?;
    let rest = rest.trim_ascii_start();
    if !begin.eq_ignore_ascii_case(before) || rest.first() != Some(&b'<') {
        return None;
    }
    let (mut quoted, mut escaped, mut end) = (false, false, None);
    for (at, octet) in rest.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => {
                end = Some(at + 1);
                break;
            }
            _ => {}
        }
    }
    let (path, parameters) = end.and_then(|end| rest.split_at_checked(end))?;
    if !matches!(parameters.first(), None | Some(b' ')) {
        return None;
    }
    let parameters = parameters.split(|octet| *octet == b' ').filter(|word| !word.is_empty()).collect();
    Some((path, parameters))
}

fn bdat<'a>(words: &[u8]) -> Result<Command<'a>, NoCommand> {
    let mut words = words.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let size = words.next().filter(|word| word.iter().all(u8::is_ascii_digit) && word.len() <= 18);
    let size = size.and_then(|word| std::str::from_utf8(word).ok()?.parse().ok()).ok_or(NoCommand::Syntax)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return Err(NoCommand::Syntax),
    };
    if words.next().is_some() { Err(NoCommand::Syntax) } else { Ok(Command::Bdat(size, last)) }
}

fn xforward(words: &[u8]) -> Result<Command<'_>, NoCommand> {
    let mut all = Vec::new();
    for word in words.split(|octet| *octet == b' ').filter(|word| !word.is_empty()) {
        let at = word.iter().position(|octet| *octet == b'=').ok_or(NoCommand::Syntax)?;
        let (name, value) = word.split_at_checked(at).ok_or(NoCommand::Syntax)?;
        let value = value.get(1..).unwrap_or_default();
        let told = !value.is_empty()
            && !value.eq_ignore_ascii_case(b"[UNAVAILABLE]")
            && !value.eq_ignore_ascii_case(b"[TEMPUNAVAIL]");
        all.push((name, if told { Some(xtext(value).ok_or(NoCommand::Syntax)?) } else { None }));
    }
    if all.is_empty() { Err(NoCommand::Syntax) } else { Ok(Command::Xforward(all)) }
}

/// Decodes xtext (RFC 3461 §4).
fn xtext(value: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(value.len());
    let mut octets = value.iter();
    while let Some(octet) = octets.next() {
        if *octet == b'+' {
            let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (high, low) = (digit(octets.next()?)?, digit(octets.next()?)?);
            text.push(high << 4 | low);
        } else {
            text.push(*octet);
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_parameters_are_the_octets_of_the_line() {
        let read = Command::read(b"mail FROM: <a@b.example> SIZE=12  body=8BITMIME");
        assert_eq!(read, Ok(Command::Mail(b"<a@b.example>", vec![b"SIZE=12", b"body=8BITMIME"])));
        assert_eq!(Command::read(b"MAIL FROM:<>"), Ok(Command::Mail(b"<>", vec![])));
        let quoted = br#"RCPT TO:<"a >\" b"@c.example> NOTIFY=NEVER"#;
        assert_eq!(Command::read(quoted), Ok(Command::Rcpt(br#"<"a >\" b"@c.example>"#, vec![b"NOTIFY=NEVER"])));
        for wrong in ["MAIL FROM:a@b", "MAIL FROM:<a@b", "MAIL", "RCPT TO:<>", "RCPT FROM:<a>", "MAIL FROM:<a>x"] {
            assert_eq!(Command::read(wrong.as_bytes()), Err(NoCommand::of(wrong.as_bytes())), "{wrong}");
        }
        assert_eq!(NoCommand::of(b"rcpt"), NoCommand::Recipient);
        assert_eq!(NoCommand::of(b"MAIL FROM"), NoCommand::Sender);
    }

    #[test]
    fn no_octet_that_may_end_a_line_gets_into_a_word() {
        for wrong in [&b"RCPT TO:<a\rQUIT>"[..], b"RCPT TO:<a\nQUIT>", b"NOOP \0", b"LHLO a\x7f", b"NOOP\t"] {
            assert_eq!(Command::read(wrong), Err(NoCommand::of(wrong)));
        }
    }

    #[test]
    fn chunks_and_client_facts_are_read() {
        assert_eq!(Command::read(b"BDAT 0 last"), Ok(Command::Bdat(0, true)));
        assert_eq!(Command::read(b"BDAT 77"), Ok(Command::Bdat(77, false)));
        for wrong in ["BDAT", "BDAT -1", "BDAT 1 2", "BDAT 1 LAST x", "BDAT 9999999999999999999"] {
            assert_eq!(Command::read(wrong.as_bytes()), Err(NoCommand::Syntax), "{wrong}");
        }
        let told = Command::read(b"XFORWARD NAME=mail+2Eexample ADDR=[UNAVAILABLE] IDENT=4XyZ");
        let value = |text: &str| Some(text.as_bytes().to_vec());
        let all = vec![(&b"NAME"[..], value("mail.example")), (b"ADDR", None), (b"IDENT", value("4XyZ"))];
        assert_eq!(told, Ok(Command::Xforward(all)));
        assert_eq!(Command::read(b"XFORWARD NAME=+2"), Err(NoCommand::Syntax));
        assert_eq!(Command::read(b"EHLO a"), Err(NoCommand::Unknown));
    }
}
