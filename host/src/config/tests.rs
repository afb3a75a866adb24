use super::*;

const SAMPLE: &str = include_str!("../../cli/etc/addrauth.toml");

/// The sample with its defaults switched on: `#key = value` becomes `key = value`, except below a commented section.
fn switched_on() -> String {
    let mut example = false;
    let mut text = String::new();
    for line in SAMPLE.lines() {
        example = !line.starts_with('[') && (example || line.starts_with("#["));
        let key = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        text += if example { line } else { key.unwrap_or(line) };
        text.push('\n');
    }
    text
}

#[test]
fn the_sample_shows_every_setting_with_its_default() {
    let shown = Config::parse(&switched_on(), Path::new("addrauth.toml")).unwrap();
    assert_eq!(shown, Config::default());
    let default = toml::Value::try_from(Config::default()).unwrap();
    for (section, value) in default.as_table().unwrap() {
        let keys: Vec<&String> = match value.as_table() {
            Some(table) => table.keys().collect(),
            None => vec![section],
        };
        let alone =
            keys.is_empty() && [format!("#{section} = "), format!("[{section}.")].iter().any(|l| SAMPLE.contains(l));
        assert!(alone || !keys.is_empty(), "the sample lacks {section}");
        for key in keys {
            let table = matches!(key.as_str(), "domain" | "recipient");
            let line = if table { format!("[{section}.{key}.") } else { format!("#{key} = ") };
            assert!(SAMPLE.contains(&line), "the sample lacks {section}.{key}");
        }
    }
}

#[test]
fn the_sample_as_it_ships_is_the_default() {
    assert_eq!(Config::parse(SAMPLE, Path::new("addrauth.toml")).unwrap(), Config::default());
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let error = Config::parse("observe = true\nfinal_domain = [\"a.example\"]\n", Path::new("x.toml")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("x.toml") && text.contains("final_domain") && text.contains("line 2"), "{text}");
}

#[test]
fn a_wrong_place_to_listen_is_refused_with_the_right_spelling() {
    for wrong in ["8891", "inet:8891@localhost", "unix:relative", "tcp:127.0.0.1:1"] {
        let text = format!("[milter]\nlisten = [\"{wrong}\"]\n");
        let error = Config::parse(&text, Path::new("x.toml")).unwrap_err().to_string();
        assert!(error.contains("inet:127.0.0.1:8891"), "{error}");
    }
}

#[test]
fn a_time_out_that_postfix_would_not_wait_for_is_refused() {
    let error = Config::parse("[verify]\ntimeout = \"25s\"\n", Path::new("x.toml")).unwrap_err();
    assert!(error.to_string().contains("20s"), "{error}");
}

#[test]
fn domains_are_taken_in_any_spelling_and_kept_as_addresses_have_them() {
    let text = "final_domains = [\"Example.COM.\", \"b\u{fc}cher.example\"]\n[authority]\ndomains = [\"B\u{dc}CHER.Example\"]\n\
                [verify.domain.\"B\u{fc}cher.example\"]\nas = \"10.0.0.5:4410\"\n";
    let config = Config::parse(text, Path::new("x.toml")).unwrap();
    let [example, umlaut] = ["example.com", "xn--bcher-kva.example"].map(|text| Domain::parse(text).unwrap());
    assert_eq!(config.final_domains, [example, umlaut.clone()]);
    assert_eq!(config.authority.domains, std::slice::from_ref(&umlaut));
    assert_eq!(config.verify.domain.into_keys().collect::<Vec<_>>(), [umlaut]);
}

#[test]
fn what_is_no_domain_is_refused_by_its_name_and_place() {
    for (text, place, name) in [
        ("final_domains = [\"alice@example.com\"]", "final_domains", "alice@example.com"),
        ("[authority]\ndomains = [\"\"]", "authority.domains", "\"\""),
        ("[verify.domain.\"exa mple.com\"]\nas = \"10.0.0.5:1\"", "verify.domain", "exa mple.com"),
        (
            "[verify.domain.\"a.example\"]\nas = \"10.0.0.5:1\"\n[verify.domain.\"A.example\"]\nas = \"10.0.0.5:2\"",
            "verify.domain",
            "twice",
        ),
    ] {
        let error = Config::parse(text, Path::new("x.toml")).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains(name), "{error}");
    }
}

#[test]
fn each_setting_of_domains_takes_the_same_names_and_keeps_them_in_one_spelling() {
    let label = "d".repeat(63);
    let long = format!("{label}.{label}.{label}.{}", "d".repeat(60));
    let names = [
        ("example.com", Some("example.com")),
        ("Example.COM", Some("example.com")),
        ("example.com.", Some("example.com")),
        ("B\u{dc}cher.Example.", Some("xn--bcher-kva.example")),
        ("bu\u{308}cher.example", Some("xn--bcher-kva.example")),
        ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
        ("fa\u{df}.example", Some("xn--fa-hia.example")),
        ("example\u{3002}com", Some("example.com")),
        ("1.a-b.example", Some("1.a-b.example")),
        (&format!("{label}.example"), Some(&*format!("{label}.example"))),
        (&long, Some(&long)),
        (&format!("{long}dd"), None),
        (&format!("{label}d.example"), None),
        ("localhost", None),
        ("localhost.", None),
        ("example.com..", None),
        ("example..com", None),
        (".example.com", None),
        (".", None),
        ("", None),
        ("192.0.2.1", None),
        ("[192.0.2.1]", None),
        ("[IPv6:2001:db8::1]", None),
        ("example.1", None),
        ("-a.example", None),
        ("a-.example", None),
        ("my_host.example", None),
        ("*.example", None),
        ("exa mple.com", None),
        (" example.com", None),
        ("@example.com", None),
        ("alice@example.com", None),
        ("a\u{ff20}example.com", None),
        ("xn--a.example", None),
        ("$myorigin", None),
    ];
    let shown = |text: &str| {
        let config = Config::parse(text, Path::new("x.toml")).ok()?;
        let lists = config.final_domains.iter().chain(&config.authority.domains).map(ToString::to_string);
        let tables = config.policy.domain.keys().chain(config.verify.domain.keys()).map(ToString::to_string);
        let whole = toml::Value::try_from(&config).unwrap().to_string();
        let [name] = lists.chain(tables).collect::<Vec<_>>().try_into().unwrap();
        assert!(whole.contains(&format!("{name:?}")) || whole.contains(&name), "{whole}");
        Some(name)
    };
    for (name, kept) in names {
        let name = format!("\"{name}\"");
        for text in [
            format!("final_domains = [{name}]"),
            format!("authority.domains = [{name}]"),
            format!("[policy.domain.{name}]\n"),
            format!("[verify.domain.{name}]\nas = \"10.0.0.5:4410\""),
        ] {
            assert_eq!(shown(&text).as_deref(), kept, "{text}");
        }
    }
}

#[test]
fn keys_that_would_end_as_they_are_made_are_refused() {
    let text = "[authority]\nagi = \"0s\"\navt = \"0s\"\n";
    let error = Config::parse(text, Path::new("x.toml")).unwrap_err().to_string();
    assert!(error.contains("authority.agi"), "{error}");
}

#[test]
fn recipients_are_taken_in_any_spelling_and_kept_as_they_are_looked_up() {
    let text = "[policy.recipient.\"Bob+news@B\u{fc}cher.Example\"]\ninvalid = \"quarantine\"\n\
                [policy.recipient.'\"A b+c\"@EXAMPLE.com']\n[policy.domain.\"B\u{dc}CHER.example.\"]\n";
    let config = Config::parse(text, Path::new("x.toml")).unwrap();
    let names: Vec<_> = config.policy.recipient.keys().map(|mailbox| mailbox.as_str()).collect();
    assert_eq!(names, ["\"a b+c\"@example.com", "bob@xn--bcher-kva.example"]);
    assert_eq!(config.policy.domain.keys().map(Domain::as_str).collect::<Vec<_>>(), ["xn--bcher-kva.example"]);
}

#[test]
fn one_mailbox_with_two_lines_is_refused_by_its_name() {
    for (one, other) in [
        ("bob@example.com", "BOB@example.com"),
        ("bob@example.com", "bob+news@Example.com"),
        ("bob@b\u{fc}cher.example", "bob@xn--bcher-kva.example"),
        ("\\\"bob\\\"@example.com", "bob@example.com"),
    ] {
        let text = format!("[policy.recipient.\"{one}\"]\n[policy.recipient.\"{other}\"]\n");
        let error = Config::parse(&text, Path::new("x.toml")).unwrap_err().to_string();
        assert!(error.contains("policy.recipient") && error.contains("twice") && error.contains("bob@"), "{error}");
    }
    let error = Config::parse("[policy.recipient.\"bob\"]\n", Path::new("x.toml")).unwrap_err().to_string();
    assert!(error.contains("\"bob\" is no address"), "{error}");
}

#[test]
fn a_network_of_everybody_is_not_trusted() {
    for setting in ["trusted_hops", "trusted_relays"] {
        for network in ["0.0.0.0/0", "::/0"] {
            let text = format!("{setting} = [\"192.0.2.0/24\", \"{network}\"]");
            let error = Config::parse(&text, Path::new("x")).unwrap_err().to_string();
            assert!(error.contains(setting) && error.contains(network), "{error}");
        }
    }
    assert!(Config::parse("trusted_hops = [\"192.0.2.0/24\"]", Path::new("x")).is_ok());
}

#[test]
fn a_spam_folder_behind_what_may_be_part_of_a_name_is_refused() {
    let check = |folder: &str| Config::parse(&format!("[policy]\nspam_folder = {folder:?}"), Path::new("x"));
    assert!(check("+Junk").is_ok() && check("").is_ok());
    for folder in ["-Junk", "=Junk", "Junk", "+Ju nk", "+@x"] {
        let error = check(folder).unwrap_err().to_string();
        assert!(error.contains("spam_folder") && error.contains("+Junk"), "{error}");
    }
}

#[test]
fn common_slips_are_named() {
    let said = |text: &str| Config::parse(text, Path::new("x")).unwrap_err().to_string();
    assert!(said("[verify]\ntimeout = 5").contains("\"5s\""), "{}", said("[verify]\ntimeout = 5"));
    assert!(said("[authority]\nfinal_domains = []").contains("before the first one"));
}

#[test]
fn a_large_policy_is_bound_by_the_administrator_and_no_users_choice() {
    let parse = |text: &str| Config::parse(text, Path::new("x.toml"));
    let text = |size: &str| {
        format!("[policy]\ninvalid = \"mine\"\nuser_may = [\"accept\", \"mine\"]\n[policies.mine]\nsize = \"{size}\"\n")
    };
    assert_eq!(parse(&text("small")).unwrap().policies["mine"].size, Size::Small);
    let refused = parse(&text("large")).unwrap_err().to_string();
    assert!(refused.contains("policy.user_may has \"mine\"") && refused.contains("Take it out"), "{refused}");
    let bound = parse(&text("large").replace(", \"mine\"]", "]")).unwrap();
    assert_eq!(bound.policies["mine"].size, Size::Large);
    assert!(parse(&text("huge")).unwrap_err().to_string().contains("`small` or `large`"));
}
