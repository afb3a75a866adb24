//! What is refused, at which place and in which words.

use super::*;

#[test]
fn an_error_names_line_and_column_and_what_was_possible() {
    for (line, expected) in [
        (
            "when result is mising: mark",
            "column 16: `mising` is no result; did you mean `missing`? Possible here: valid, invalid, missing, none, unverified, unusable",
        ),
        (
            "When result is valid: mark",
            "column 1: `When` is no beginning of a rule; did you mean `when`? Possible here: when, otherwise",
        ),
        (
            "when sendr is a@b.example: mark",
            "column 6: `sendr` is no condition; did you mean `sender`? Possible here: result, why, claim, trail, spf, dkim, dmarc, tls, client, helo, sender, recipient, envelope, size, last, never, not, (",
        ),
        ("when result valid: mark", "column 13: `valid` is no word that can stand here; possible here: is"),
        ("when result is valid mark", "column 22: `mark` is no end of the condition; possible here: and, or, :"),
        (
            "when result is valid: makr",
            "column 23: `makr` is no decision; did you mean `mark`? Possible here: accept, mark, quarantine, reject, defer",
        ),
        (
            "when result is valid:",
            "column 22: the line ends here, which is no decision; possible here: accept, mark, quarantine, reject, defer",
        ),
        ("when tls:mark", "column 6: `tls:mark` is no condition; possible here: result"),
        (
            "when tls and size over 1 or size under 9: mark",
            "column 26: put brackets around what belongs together: `and` and `or` stand side by side here",
        ),
        ("when (tls: mark", "column 10: `:` is no end of the bracket; possible here: and, or, )"),
        ("when tls): mark", "column 9: `)` is no end of the condition; possible here: and, or, :"),
        (
            "when why is wrongg: mark",
            "column 13: `wrongg` is no reason; did you mean `wrong`? Possible here: wrong, expired",
        ),
        ("when trail is direct: mark", "column 15: `direct` is no mark of a trail; possible here: none, mailing-list"),
        (
            "when spf is passed: mark",
            "column 13: `passed` is no result of this method; did you mean `pass`? Possible here: pass",
        ),
        ("when spf pass: mark", "column 10: `pass` is no word that can stand here; possible here: is, aligned"),
        ("when client is 192.0.2.1: mark", "column 13: `is` is no word about the client; possible here: ip, name"),
        (
            "when client ip is 192.0.2.1/24: mark",
            "column 19: `192.0.2.1/24` is no network: its address has more bits than its length says",
        ),
        (
            "when client ip is mx.example: mark",
            "column 19: `mx.example` is no network: write 192.0.2.1 or 2001:db8::/32",
        ),
        (
            "when sender is bank.example: mark",
            "column 16: `bank.example` is no address: write a@b.example, @b.example for a domain, *.b.example for its subdomains",
        ),
        (
            "when sender is *@bank.example: mark",
            "column 16: `*@bank.example` is no address: write a@b.example, @b.example for",
        ),
        ("when recipient is in [a*@b.example]: mark", "column 23: `a*@b.example` is no address"),
        ("when envelope sender is '*.@b.example': mark", "column 25: `*.@b.example` is no address"),
        ("when sender is @bank: mark", "column 16: `@bank` has no domain such as b.example"),
        (
            "when sender is \"a@b\u{fc}ro.example\": mark",
            "column 16: `a@b\u{fc}ro.example` is not ASCII: write its domain as DNS does, xn--...",
        ),
        (
            "when recipient is bob+x@ours.example: mark",
            "column 19: `bob+x@ours.example` never occurs: a recipient's +tag does not matter, so leave it out",
        ),
        ("when recipient is in []: mark", "column 23: `]` is no value; possible here: a value, a list in ["),
        (
            "when recipient is in [a@b.example c@d.example]: mark",
            "column 35: `c@d.example` is no end of the list; possible here: ,, ]",
        ),
        (
            "when size is 10M: mark",
            "column 14: `10M` is no word about the size; possible here: over, under, is unknown",
        ),
        ("when size over 10MB: mark", "column 16: `10MB` is no size; possible here: 500000, 500K, 10M, 1G"),
        ("when size over 99999999999999999999: mark", "column 16: `99999999999999999999` is no size"),
        ("when size over 99999999999G: mark", "column 16: `99999999999G` is no size"),
        (
            "when last valid within 3 weeks: mark",
            "column 26: `weeks` is no word that can stand here; possible here: days",
        ),
        ("when last valid within ten days: mark", "column 24: `ten` is no number of days; possible here: 30 days"),
        (
            "when tls: reject",
            "column 11: say who hears of it: `reject, tell the sender`, `tell the recipient`, `tell both` or `tell nobody`",
        ),
        (
            "when tls: quarantine, tell the sender",
            "column 23: the sender cannot be told of mail that is kept back: `tell the recipient`, or nobody",
        ),
        (
            "when tls: mark, tell the recipient",
            "column 17: nobody is told of mail that is delivered or comes again: leave `tell` out",
        ),
        (
            "when tls: reject, tell the admin",
            "column 28: `admin` is no one who can be told; possible here: the sender, the recipient, both, nobody",
        ),
        (
            "when tls: mark because",
            "column 16: `because` is no part of a decision; possible here: a reason in quotes, the end of the line",
        ),
        ("when tls: mark \"100 %\"", "column 16: a reason has 1 to 400 characters of ASCII, none of them %"),
        ("when tls: mark \"caf\u{e9}\"", "column 16: a reason has 1 to 400"),
        ("when tls: mark ''", "column 16: a reason has 1 to 400"),
        ("when tls: mark,", "column 16: nothing after the comma"),
        ("when tls: mark, , 'a'", "column 17: `,` is no part of a decision"),
        ("when tls: reject, tell both,", "column 29: nothing after the comma"),
        ("when tls: mark, # 'a'", "column 17: nothing after the comma"),
        (
            "when tls: mark 'the sender's key'",
            "column 28: nothing follows a reason; one with ' in it stands in \"double quotes\"",
        ),
        ("when tls: mark 'don't'", "column 21: nothing follows a reason"),
        ("when tls: mark 'so' 'and so'", "column 21: nothing follows a reason"),
        ("when tls: mark \"open", "column 16: this quote is not closed on its line"),
        (
            "when tls: mark \u{201c}so\u{201d}",
            "column 16: `\u{201c}so\u{201d}` is no part of a decision; write straight quotes (\") around a text",
        ),
        ("when tls:\tmark \"a\0b\"", "column 18: a control character; a rule is one line of plain text"),
        ("when tls: mark\r", "column 15: a control character"),
        ("when tls: mark\nwhen not tls: mark", "column 15: a control character"),
        ("\u{e9}\u{e9} x", "column 1: `\u{e9}\u{e9}` is no beginning of a rule"),
        (
            "when sender is \"\u{e9}@b.example\" adn tls: mark",
            "column 30: `adn` is no end of the condition; did you mean `and`? Possible here: and, or, :",
        ),
    ] {
        let text = refused(&["when claim is all: mark", line, "otherwise accept"]);
        let place = format!("rules, line 2, {expected}");
        assert!(text == place || (text.starts_with(&place) && text.len() > place.len()), "{line}\n{text}\n{place}");
        assert!(text.len() <= 400, "{text}");
    }
}

#[test]
fn a_line_that_no_mail_can_come_to_is_refused() {
    let wrong = "when result is invalid and why is wrong: mark";
    for (text, expected) in [
        (&["otherwise accept", "when tls: mark"][..], "line 2: no mail comes here, since `otherwise` above takes all"),
        (&["otherwise accept", "otherwise mark"], "line 2: no mail comes here, since `otherwise`"),
        (&["when tls: mark"], "rules: the last line must say what happens to all other mail: add \"otherwise accept\""),
        (&[], "rules: the last line must say"),
        (&["", "# nothing"], "rules: the last line must say"),
        (
            &["when tls: mark", "", "when tls: accept", "otherwise accept"],
            "line 3: no mail comes here, since this is the condition of line 1",
        ),
        (&["when result is missing and why is wrong: mark", "otherwise accept"], "line 1: no mail can match this"),
        (&["when result is invalid and why is dns: mark", "otherwise accept"], "line 1: no mail can match this"),
        (&["when result is valid and not result is valid: mark", "otherwise accept"], "line 1: no mail can match this"),
        (
            &["when result is invalid: mark", wrong, "otherwise accept"],
            "line 2: no mail comes here, since the lines above",
        ),
        (
            &["when result is not invalid: mark", "when result is invalid: mark", "when tls: mark", "otherwise accept"],
            "line 3: no mail comes here",
        ),
        (
            &["when result is invalid: reject, tell nobody", "otherwise accept"],
            "line 1: `tell nobody` is for wrong keys alone",
        ),
        (&["otherwise reject, tell nobody"], "line 1: `tell nobody` is for wrong keys alone"),
        (
            &["when why is wrong or tls: reject, tell nobody", "otherwise accept"],
            "line 1: `tell nobody` is for wrong keys",
        ),
    ] {
        let said = refused(text);
        assert!(said.trim_start_matches("rules, ").starts_with(expected), "{said}");
    }
    for text in [
        // A reason that is absent is neither wrong nor another.
        &[
            "when result is invalid and why is wrong: mark",
            "when result is invalid and not why is wrong: mark",
            "when result is invalid: accept",
            "otherwise accept",
        ][..],
        &["when result is invalid and why is wrong: reject, tell nobody", "otherwise accept"],
        &["when why is wrong and not tls: reject, tell nobody", "otherwise accept"],
        &[
            "when result is not invalid: accept",
            "when why is not wrong: accept",
            "when why is unknown: accept",
            "otherwise reject, tell nobody",
        ],
        &["when tls: mark", "when result is invalid and tls: mark", "otherwise accept"],
    ] {
        assert!(Rules::check_settings(&settings(text)).is_ok(), "{:?}", Rules::check_settings(&settings(text)));
    }
}
