//! Ways to write one mailbox in RCPT: the grammars of RFC 5321 and RFC 822 walked through, and what lies beside them.
//!
//! Nothing here says what a spelling means: the mail server says that, and the test looks where the message lies afterwards.

/// Ways to write a local part; `U` stands for it.
const LOCALS: [&str; 24] = [
    "U",
    "^U",
    "\"U\"",
    "\\U",
    "\"\\U\"",
    "(c)U",
    "U(c)",
    "(a(b))U",
    " U",
    "U ",
    "\tU",
    "U+tag",
    "\"U\"+tag",
    "\"U+tag\"",
    "U.",
    ".U",
    "\"\"U",
    "U\"\"",
    "\"U",
    "U\"",
    "(U",
    "U)",
    "U,",
    ",U",
];
/// Ways to write the sign between the two.
const SIGNS: [&str; 9] = ["@", " @", "@ ", "(c)@", "@(c)", "\t@\t", "@@", "\\@", "\"@\""];
/// Ways to write a domain; `D` stands for it, `M` for its middle cut by what the next sign says.
const DOMAINS: [&str; 22] = [
    "D", "^D", "D.", "D..", ".D", "D(c)", "(c)D", "D ", " D", "D\t", "\"D\"", "\\D", "M\\.", "M .", "M. ", "M.(c)",
    "M..", "[D]", "D:25", "D,", "#D", "D\\",
];
/// Ways to put it into a path; `A` stands for the address.
const PATHS: [&str; 24] = [
    "<A>",
    "A",
    "< A>",
    "<A >",
    "<\tA>",
    "<A\t>",
    "<(c)A>",
    "<A(c)>",
    "(c)<A>",
    "<A>(c)",
    " <A>",
    "Name <A>",
    "\"Name\" <A>",
    "<<A>>",
    "<A",
    "A>",
    "<@r.test:A>",
    "<@r.test,@s.test:A>",
    "<@D:A>",
    "<@r.test: A>",
    "<@r.test A>",
    "<:A>",
    "<g:A;>",
    "<A>;",
];

/// All paths that differ from `<user@domain>` in at most two of four places, and the forms that route: with `%`, `!`, a second
/// `@`, no domain, or too much of everything. None is twice; the plain one comes first.
pub fn of(user: &str, domain: &str) -> Vec<String> {
    let mut all = Vec::new();
    let places = [LOCALS.len(), SIGNS.len(), DOMAINS.len(), PATHS.len()];
    let one = |at: [usize; 4]| written(user, domain, at);
    all.push(one([0; 4]));
    for (first, &ways) in places.iter().enumerate() {
        for way in 1..ways {
            let mut at = [0; 4];
            at[first] = way;
            all.push(one(at));
        }
    }
    for first in 0..places.len() {
        for second in first + 1..places.len() {
            for (one_way, other_way) in
                (1..places[first]).flat_map(|one| (1..places[second]).map(move |other| (one, other)))
            {
                let mut at = [0; 4];
                (at[first], at[second]) = (one_way, other_way);
                all.push(one(at));
            }
        }
    }
    all.splice(1..1, routed(user, domain));
    let mut seen = std::collections::HashSet::new();
    all.retain(|path| seen.insert(path.clone()));
    all
}

/// The forms of which RFC 822 makes routes, or of which nobody knows what to make.
fn routed(user: &str, domain: &str) -> Vec<String> {
    let upper = user.to_ascii_uppercase();
    let local = "l".repeat(65);
    let long = format!("{}.{domain}", "d".repeat(250));
    let specs = [
        format!("{user}%{domain}"),
        format!("{user}%{domain}@{domain}"),
        format!("{user}%{domain}@else.test"),
        format!("{user}%else.test@{domain}"),
        format!("{user}%{domain}%else.test"),
        format!("{user}%{domain}@[127.0.0.1]"),
        format!("{user}%{domain}@mx.recv.test"),
        format!("{user}%{domain}@localhost"),
        format!("\"{user}%{domain}\"@{domain}"),
        format!("{domain}!{user}"),
        format!("{domain}!{user}@else.test"),
        format!("{domain}!{user}@{domain}"),
        format!("else.test!{domain}!{user}"),
        format!("{domain}!else.test!{user}"),
        format!("{domain}!{user}%else.test"),
        format!("{user}@{domain}@else.test"),
        format!("{user}@else.test@{domain}"),
        format!("{user}@{domain}@{domain}"),
        format!("\"{user}@{domain}\"@else.test"),
        format!("\"{user}@else.test\"@{domain}"),
        format!("\"{user}@{domain}\""),
        format!("\"{user}@{domain}\"@{domain}"),
        format!("{user}\\@{domain}"),
        format!("{user}\\@{domain}@else.test"),
        format!("{user}\\@else.test@{domain}"),
        user.to_owned(),
        upper,
        format!("\"{user}\""),
        format!("({domain}){user}"),
        format!("{user}@"),
        format!("@{domain}"),
        format!("@{domain}:{user}"),
        format!("@else.test:{user}@{domain}"),
        format!("@{domain}:{user}@else.test"),
        format!("@else.test,@{domain}:{user}"),
        format!("{user}@[127.0.0.1]"),
        format!("{user}@[IPv6:::1]"),
        format!("{user}@127.0.0.1"),
        format!("{user}@localhost"),
        format!("{user}@mx.recv.test"),
        format!("{user}@{domain}, x@else.test"),
        format!("x@else.test, {user}@{domain}"),
        format!("x@else.test {user}@{domain}"),
        format!("{user}@{domain} x@else.test"),
        format!("{user}@{domain}\u{ff0e}"),
        format!("{user}@{}", domain.replace('.', "\u{3002}")),
        format!("{user}\u{200b}@{domain}"),
        format!("{user}@\u{200b}{domain}"),
        format!("{}@{domain}", wide(user)),
        format!("{user}@{}", wide(domain)),
        format!("{local}@{domain}"),
        format!("{user}@{long}"),
        format!("{user}({})@{domain}", "c".repeat(400)),
        format!("{user}{}@{domain}", " ".repeat(300)),
        format!("=?utf-8?q?{user}?=@{domain}"),
        format!("{user}=40{domain}"),
        format!("{user}/{domain}"),
        format!("{user}:{domain}"),
        format!("{user}.{domain}"),
        format!("|{user}@{domain}"),
        format!("/{user}@{domain}"),
        format!("-{user}@{domain}"),
    ];
    specs.into_iter().flat_map(|spec| [format!("<{spec}>"), spec]).collect()
}

fn written(user: &str, domain: &str, at: [usize; 4]) -> String {
    let mixed = |word: &str| {
        let turn = |(n, c): (usize, char)| if n % 2 == 0 { c.to_ascii_uppercase() } else { c };
        word.chars().enumerate().map(turn).collect::<String>()
    };
    let local = LOCALS[at[0]].replace("^U", &mixed(user)).replace('U', user);
    let host = DOMAINS[at[2]];
    let host = match host.strip_prefix('M') {
        Some(dot) => domain.replacen('.', dot, 1),
        None => host.replace("^D", &mixed(domain)).replace('D', domain),
    };
    let address = format!("{local}{}{host}", SIGNS[at[1]]);
    PATHS[at[3]].replace("@D:", &format!("@{domain}:")).replace('A', &address)
}

/// The same letters in full width, which UTS 46 maps to ASCII.
fn wide(word: &str) -> String {
    let wide = |c: char| match c {
        '!'..='~' if c != '.' && c != '-' => char::from_u32(u32::from(c) + 0xfee0).unwrap(),
        other => other,
    };
    word.chars().map(wide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_many_all_different_and_the_plain_one_is_the_first() {
        let all = of("bob", "recv.test");
        assert!(all.len() > 1_500, "{}", all.len());
        assert_eq!(all[0], "<bob@recv.test>");
        for known in [
            "<bob@recv.test >",
            "<bob@recv.test(c)>",
            "<\"bob\"@\"recv.test\">",
            "<bob@\\recv.test>",
            "<bob%recv.test>",
        ] {
            assert!(all.iter().any(|path| path == known), "{known}");
        }
        assert!(all.iter().all(|path| !path.contains(['\r', '\n', '\0'])));
    }
}
