//! The forward-path of RCPT: whom it names, where that is certain.

use std::fmt;

use super::{Address, Domain};

/// A name behind the `@` of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A domain.
    Domain(Domain),
    /// A name that DNS or a hosts file may hold although no address has it: one label, an underscore. In lower case.
    Loose(String),
}

impl Name {
    /// Reads a name without its final dot, of a path whose length its caller bounds. Absent for what is an IP address to some.
    fn read(text: &str) -> Option<Name> {
        if let Ok(domain) = Domain::canonical(text) {
            return Some(Name::Domain(domain));
        }
        let good = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        let labels = text.split('.').all(|label| !label.is_empty() && label.bytes().all(good));
        let last = text.rsplit('.').next()?;
        let number =
            last.bytes().all(|octet| octet.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
        (labels && !number).then(|| Name::Loose(text.to_ascii_lowercase()))
    }

    /// The domain, where it is one.
    pub fn domain(&self) -> Option<&Domain> {
        match self {
            Name::Domain(domain) => Some(domain),
            Name::Loose(_) => None,
        }
    }

    /// The label of a name that has only one: an MTA may complete it by a domain of its own.
    pub fn single_label(&self) -> Option<&str> {
        match self {
            Name::Loose(name) if !name.contains('.') => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Domain(domain) => domain.fmt(f),
            Name::Loose(name) => f.write_str(name),
        }
    }
}

/// Whom a forward-path names.
///
/// An MTA that says itself whom it takes a path for is believed ([`Reading::by_mta`]). Without its word
/// ([`Reading::of`]) a path is read as RFC 822 reads an address, and counts only where no MTA could read it otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// This mailbox.
    Mailbox(Address),
    /// A mailbox of this domain whose local part is none by the strict grammar, or a domain of one label.
    Domain {
        /// What the local part means, without quotes and escapes.
        local: String,
        /// The name behind the `@`.
        domain: Name,
    },
    /// This domain, which may send it on to wherever the local part says: it holds `%`, `!` or `@`.
    Routed {
        /// The name behind the last `@`.
        domain: Name,
        /// What stands between these signs, where it could be a name too.
        hops: Vec<Name>,
    },
    /// A mailbox of the MTA itself, which the path names without a domain, or by an address literal. The address is what
    /// the MTA makes of it; absent where it does not say.
    Own(Option<Address>),
    /// Two MTAs could read it in two ways, or it cannot be read.
    Unclear,
}

impl Reading {
    /// Reads the octets of RCPT, angle brackets included.
    ///
    /// Comments, blanks, quotes, escapes and a source route are taken as RFC 822 §6 has them, and a final dot of the domain
    /// is none of it. A bare name is [`Reading::Unclear`], since its domain is the MTA's secret; `postmaster` alone is the
    /// MTA's own (RFC 5321 §4.1.1.3).
    pub fn of(path: &[u8]) -> Reading {
        let Some(tokens) = std::str::from_utf8(path).ok().and_then(tokens) else { return Reading::Unclear };
        let Some(spec) = within_brackets(&tokens).and_then(without_route) else { return Reading::Unclear };
        if spec.iter().any(|token| matches!(token, Token::Sign('<' | '>' | ':' | ';' | ','))) {
            return Reading::Unclear;
        }
        let mut parts = spec.split(|token| *token == Token::Sign('@'));
        match (parts.next(), parts.next(), parts.next()) {
            (Some(local), Some(domain), None) => full(local, domain),
            (Some(local), None, None) => match content(local) {
                Some(name) if name.eq_ignore_ascii_case("postmaster") => Reading::Own(None),
                _ => Reading::Unclear,
            },
            _ => Reading::Unclear,
        }
    }

    /// Reads what the MTA makes of a path: the address in Postfix's internal form, without quotes, whose last `@` separates.
    ///
    /// A mailbox whose domain the path did not name is the MTA's own, and so is one at an address literal or at a name of
    /// one label. Postfix 3.7 tells a local part in lower case: where the path says the same, its letters count. One with an
    /// `@` is routed even so: where `$myorigin` is a virtual domain, Postfix delivers `bob@x@x` to bob@x (measured).
    pub fn by_mta(path: &[u8], said: &[u8]) -> Reading {
        let said = String::from_utf8_lossy(said);
        let Some((local, domain)) = said.rsplit_once('@') else { return Reading::Unclear };
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        if domain.starts_with('[') {
            return Reading::Own(None);
        }
        match named(local, domain) {
            Reading::Mailbox(address) if local.contains('@') => routed(local, Name::Domain(address.domain().clone())),
            Reading::Domain { domain, .. } if local.contains('@') => routed(local, domain),
            Reading::Domain { domain, .. } if domain.single_label().is_some() => Reading::Own(None),
            Reading::Mailbox(address) if is_completed(path, domain) => Reading::Own(Some(address)),
            Reading::Mailbox(address) => match Reading::of(path) {
                Reading::Mailbox(own) if is_same(&own, &address) => Reading::Mailbox(own),
                _ => Reading::Mailbox(address),
            },
            reading => reading,
        }
    }

    /// Whether an MTA notes a path letter by letter as it stands in its one pair of angle brackets, so that the same octets
    /// name it again: no source route, group or list.
    pub fn is_echoed(path: &[u8]) -> bool {
        let tokens = std::str::from_utf8(path).ok().and_then(tokens);
        let Some([Token::Sign('<'), inside @ .., Token::Sign('>')]) = tokens.as_deref() else { return false };
        !inside.iter().any(|token| matches!(token, Token::Sign('<' | '>' | ':' | ';' | ',')))
    }

    /// The address; absent where it is no strict one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Reading::Mailbox(address) | Reading::Own(Some(address)) => Some(address),
            _ => None,
        }
    }
}

/// Whether the MTA completed a path by this domain: the path named none.
fn is_completed(path: &[u8], domain: &str) -> bool {
    let path = String::from_utf8_lossy(path).to_ascii_lowercase();
    !path.contains('@') && !path.contains(&domain.to_ascii_lowercase())
}

/// Whether two addresses differ in letter case at most.
fn is_same(one: &Address, other: &Address) -> bool {
    one.domain() == other.domain() && one.local().to_lowercase() == other.local().to_lowercase()
}

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// An atom or a quoted string: what it means.
    Word(String),
    /// An address literal.
    Literal,
    /// One of `@ . : , ; < >`.
    Sign(char),
}

/// The tokens of RFC 822 §3.3; comments and blanks are none. Absent where something stays open, or for a control character.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => {}
            '@' | '.' | ':' | ',' | ';' | '<' | '>' => tokens.push(Token::Sign(c)),
            '(' => comment(&mut chars)?,
            '[' => {
                delimited(&mut chars, ']')?;
                tokens.push(Token::Literal);
            }
            '"' => tokens.push(Token::Word(delimited(&mut chars, '"')?)),
            ')' | ']' => return None,
            _ => {
                let mut word = String::new();
                let mut next = Some(c);
                while let Some(c) = next {
                    word.push(if c == '\\' { chars.next()? } else { c });
                    next = chars.next_if(|c| !" \t@.:,;<>()[]\"".contains(*c));
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    let plain = |token: &Token| !matches!(token, Token::Word(word) if word.chars().any(char::is_control));
    tokens.iter().all(plain).then_some(tokens)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What stands before the closing sign, without escapes.
fn delimited(chars: &mut Chars<'_>, end: char) -> Option<String> {
    let mut content = String::new();
    loop {
        match chars.next()? {
            '\\' => content.push(chars.next()?),
            c if c == end => return Some(content),
            c => content.push(c),
        }
    }
}

/// Skips the rest of a comment, which may nest.
fn comment(chars: &mut Chars<'_>) -> Option<()> {
    let mut depth = 1_usize;
    while depth > 0 {
        match chars.next()? {
            '\\' => drop(chars.next()?),
            '(' => depth += 1,
            ')' => depth -= 1,
            c if c.is_control() && c != '\t' => return None,
            _ => {}
        }
    }
    Some(())
}

/// What stands in the angle brackets; all of it where there are none.
fn within_brackets(tokens: &[Token]) -> Option<&[Token]> {
    match tokens {
        [Token::Sign('<'), inside @ .., Token::Sign('>')] => Some(inside),
        [Token::Sign('<'), ..] | [.., Token::Sign('>')] => None,
        bare => Some(bare),
    }
}

/// The path without its source route `@one,@two:`, which every MTA drops (RFC 5321 §4.1.1.3). Absent where it is none.
fn without_route(tokens: &[Token]) -> Option<&[Token]> {
    let [Token::Sign('@'), ..] = tokens else { return Some(tokens) };
    let end = tokens.iter().position(|token| *token == Token::Sign(':'))?;
    let (route, rest) = (tokens.get(..end)?, tokens.get(end + 1..)?);
    let hop = |hop: &[Token]| matches!(hop, [Token::Sign('@'), domain @ ..] if is_hop(domain));
    route.split(|token| *token == Token::Sign(',')).all(hop).then_some(rest)
}

fn is_hop(domain: &[Token]) -> bool {
    !domain.is_empty() && domain.iter().all(|token| matches!(token, Token::Word(_) | Token::Literal | Token::Sign('.')))
}

/// Words and dots as one text; absent for a literal, and where two words stand side by side.
fn content(tokens: &[Token]) -> Option<String> {
    let mut text = String::new();
    let mut after_word = false;
    for token in tokens {
        let is_word = matches!(token, Token::Word(_));
        match token {
            Token::Word(word) if !after_word => text.push_str(word),
            Token::Sign('.') => text.push('.'),
            _ => return None,
        }
        after_word = is_word;
    }
    Some(text)
}

/// Whom a path with one `@` names.
fn full(local: &[Token], domain: &[Token]) -> Reading {
    let Some(local) = content(local).filter(|local| !local.is_empty()) else { return Reading::Unclear };
    let is_routed = local.contains(ROUTES);
    if *domain == [Token::Literal] {
        return if is_routed { Reading::Unclear } else { Reading::Own(None) };
    }
    let Some(domain) = content(domain) else { return Reading::Unclear };
    let reading = named(&local, domain.strip_suffix('.').unwrap_or(&domain));
    match reading {
        Reading::Mailbox(address) if is_routed => routed(&local, Name::Domain(address.domain().clone())),
        Reading::Domain { domain, .. } if is_routed => routed(&local, domain),
        reading => reading,
    }
}

/// By these signs a local part may name where mail goes on to.
const ROUTES: [char; 3] = ['%', '!', '@'];

fn routed(local: &str, domain: Name) -> Reading {
    let hop = |part: &str| Name::read(part.strip_suffix('.').unwrap_or(part));
    Reading::Routed { domain, hops: local.split(ROUTES).filter_map(hop).collect() }
}

/// The mailbox of this local part, by what it means, at this domain.
fn named(local: &str, domain: &str) -> Reading {
    match Name::read(domain) {
        None => Reading::Unclear,
        Some(name) => match name.domain().map(|domain| Address::from_parts(local, domain)) {
            Some(Ok(address)) => Reading::Mailbox(address),
            _ => Reading::Domain { local: local.to_owned(), domain: name },
        },
    }
}

#[cfg(test)]
mod tests;
