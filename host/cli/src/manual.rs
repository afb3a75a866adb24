//! `addrauth man` and `addrauth completions`: manual pages and completions, made of the definitions that `--help` prints.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{exit, fail};

/// The section of the manual.
const SECTION: &str = "1";
/// The date of the pages: that of addrauth(1), the overview.
const DATE: &str = "2026-11-30";

/// Write a manual page for each verb, addrauth-VERB.1, into a directory
///
/// Packages are built with it. addrauth(1) is the overview beside these pages.
#[derive(Debug, clap::Args)]
pub(crate) struct Pages {
    /// The directory; it is made where there is none
    dir: PathBuf,
}

/// Print the completions of a shell: `source <(addrauth completions bash)`
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Exit code 0: the pages are written, one file name a line; 2: they could not be.
pub(crate) fn write_pages(args: &Pages, program: Command) -> ExitCode {
    match written(args, program) {
        Ok(names) => {
            names.iter().for_each(|name| println!("{name}"));
            exit::YES
        }
        Err(error) => fail(format!("{}: {error}", args.dir.display())),
    }
}

/// Exit code 0: the completions are printed.
pub(crate) fn print_completions(args: &Completions, mut program: Command) -> ExitCode {
    let mut octets = Vec::new();
    clap_complete::generate(args.shell, &mut program, "addrauth", &mut octets);
    print!("{}", String::from_utf8_lossy(&octets));
    exit::YES
}

fn written(args: &Pages, program: Command) -> std::io::Result<Vec<String>> {
    std::fs::create_dir_all(&args.dir)?;
    let mut names = Vec::new();
    for (name, octets) in pages(program)? {
        std::fs::write(args.dir.join(&name), octets)?;
        names.push(name);
    }
    Ok(names)
}

/// The file names and octets of all pages.
fn pages(mut program: Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    program.build();
    let shown = |verb: &&Command| !verb.is_hide_set() && verb.get_name() != "help";
    program
        .get_subcommands()
        .filter(shown)
        .map(|verb| Ok((format!("addrauth-{}.1", verb.get_name()), page(verb)?)))
        .collect()
}

/// A page: the verb, and a section for each verb below it.
fn page(verb: &Command) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let man = Man::new(verb.clone()).title(format!("addrauth-{}", verb.get_name())).section(SECTION).date(DATE);
    let man = man.source(format!("addrauth {}", env!("CARGO_PKG_VERSION"))).manual("Address Authentication");
    man.render_title(&mut octets)?;
    man.render_name_section(&mut octets)?;
    man.render_synopsis_section(&mut octets)?;
    man.render_description_section(&mut octets)?;
    if has_options(verb) {
        man.render_options_section(&mut octets)?;
    }
    for inner in verb.get_subcommands() {
        section(inner, "", &mut octets)?;
    }
    writeln!(octets, ".SH \"SEE ALSO\"\n\\fBaddrauth\\fR(1)")?;
    // The library begins a list of values with two line breaks and an empty line, which readers of pages complain about.
    Ok(String::from_utf8_lossy(&octets).replace(".br\n\n.br\n", ".sp\n").into_bytes())
}

/// The section of a verb below another one: how it is called, what it does, and the options that only it has.
fn section(verb: &Command, above: &str, octets: &mut Vec<u8>) -> std::io::Result<()> {
    if verb.is_hide_set() || verb.get_name() == "help" {
        return Ok(());
    }
    let name = format!("{above}{}", verb.get_name());
    writeln!(octets, ".SH \"{}\"", name.to_uppercase().replace('-', "\\-"))?;
    let verb = verb.clone().mut_args(|arg| if is_everywhere(&arg) { arg.hide(true) } else { arg });
    let man = Man::new(verb.clone());
    octets.extend(without_heading(|part| man.render_synopsis_section(part))?);
    writeln!(octets, ".PP")?;
    octets.extend(without_heading(|part| man.render_description_section(part))?);
    if has_options(&verb) {
        octets.extend(without_heading(|part| man.render_options_section(part))?);
    }
    verb.get_subcommands().try_for_each(|inner| section(inner, &format!("{name} "), octets))
}

fn is_everywhere(arg: &clap::Arg) -> bool {
    arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str())
}

fn has_options(verb: &Command) -> bool {
    verb.get_arguments().any(|arg| !arg.is_hide_set())
}

/// What is rendered, but for the request that begins the section.
fn without_heading(render: impl Fn(&mut dyn std::io::Write) -> std::io::Result<()>) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    render(&mut octets)?;
    let lines = octets.split_inclusive(|octet| *octet == b'\n');
    Ok(lines.filter(|line| !line.starts_with(b".SH ")).flatten().copied().collect())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Every option and verb that `--help` knows, with the page that has to have it.
    #[test]
    fn each_page_has_each_verb_and_option() {
        let pages: std::collections::BTreeMap<_, _> = pages(crate::Arguments::command())
            .unwrap()
            .into_iter()
            .map(|(name, octets)| (name, String::from_utf8(octets).unwrap()))
            .collect();
        let mut program = crate::Arguments::command();
        program.build();
        let mut seen = 0;
        let mut open: Vec<(String, &Command)> =
            program.get_subcommands().map(|verb| (format!("addrauth-{}.1", verb.get_name()), verb)).collect();
        while let Some((page, verb)) = open.pop() {
            if verb.is_hide_set() || verb.get_name() == "help" || page == "addrauth-help.1" {
                assert!(!pages.contains_key(&page) || page != "addrauth-try-component.1");
                continue;
            }
            let text = &pages[&page];
            for long in verb.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long) {
                assert!(text.contains(&format!("\\-\\-{}", long.replace('-', "\\-"))), "{page} lacks --{long}");
                seen += 1;
            }
            open.extend(verb.get_subcommands().map(|inner| (page.clone(), inner)));
        }
        assert!(seen > 100 && !pages.contains_key("addrauth-try-component.1"), "{seen}");
    }
}
