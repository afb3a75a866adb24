//! What `postconf` tells of the Postfix on this machine, asked in bounded time and judged as data.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Args, Report};
use addrauth::config::{Config, Limits, Listen};
use addrauth::files;

mod delivery;
mod doors;
mod milters;
mod reach;
mod roles;
mod settings;

/// How long another program may take: postconf reads two files.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where OpenDKIM is set up: it may write what we believe.
const OPENDKIM: &str = "/etc/opendkim.conf";
/// Octets of another program's answer that are read: a main.cf of this length would be a curiosity.
const ANSWER: u64 = 4 * 1024 * 1024;
/// The parameters that are looked at.
const NAMES: [&str; 30] = [
    "always_bcc",
    "compatibility_level",
    "config_directory",
    "header_checks",
    "lmtp_send_xforward_command",
    "local_header_rewrite_clients",
    "local_transport",
    "mail_owner",
    "mail_version",
    "mailbox_transport",
    "milter_command_timeout",
    "milter_content_timeout",
    "milter_default_action",
    "milter_macro_daemon_name",
    "milter_protocol",
    "mydestination",
    "mydomain",
    "myhostname",
    "myorigin",
    "non_smtpd_milters",
    "queue_directory",
    "recipient_delimiter",
    "relay_domains",
    "remote_header_rewrite_domain",
    "smtpd_milters",
    "relay_transport",
    "transport_maps",
    "virtual_alias_domains",
    "virtual_mailbox_domains",
    "virtual_transport",
];

/// A Postfix as postconf shows it, `$name` expanded.
#[derive(Clone, Debug, Default)]
struct Setup {
    main: BTreeMap<String, String>,
    services: Vec<Service>,
}

/// A line of master.cf, with the parameters that it sets by `-o`.
#[derive(Clone, Debug, Default)]
struct Service {
    /// As postconf names it: `smtp/inet`.
    name: String,
    /// The column as it stands: `y`, `n` or `-`.
    chroot: String,
    program: String,
    own: BTreeMap<String, String>,
}

impl Setup {
    /// Reads what `postconf -x`, `postconf -M` and `postconf -Px` print.
    fn parse(main: &str, master: &str, own: &str) -> Setup {
        let mut setup = Setup { main: main.lines().filter_map(setting).collect(), services: Vec::new() };
        for line in master.lines().filter(|line| !line.starts_with([' ', '\t', '#'])) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if let [name, kind, _, _, chroot, _, _, program, ..] = words[..] {
                let (name, chroot, program) = (format!("{name}/{kind}"), chroot.to_owned(), program.to_owned());
                setup.services.push(Service { name, chroot, program, own: BTreeMap::new() });
            }
        }
        for (name, value) in own.lines().filter_map(setting) {
            let Some((service, parameter)) = name.rsplit_once('/') else { continue };
            if let Some(found) = setup.services.iter_mut().find(|known| known.name == service) {
                found.own.insert(parameter.to_owned(), value);
            }
        }
        setup
    }

    fn of(&self, name: &str) -> &str {
        self.main.get(name).map_or("", String::as_str)
    }

    /// A parameter as a service sees it.
    fn of_service<'a>(&'a self, service: &'a Service, name: &str) -> &'a str {
        service.own.get(name).map_or_else(|| self.of(name), String::as_str)
    }

    fn queue(&self) -> &Path {
        Path::new(self.of("queue_directory"))
    }

    /// Whether a service runs in its chroot; `-` meant yes until compatibility level 1.
    fn is_chrooted(&self, service: &Service) -> bool {
        let level = self.of("compatibility_level").split('.').next().and_then(|level| level.parse().ok()).unwrap_or(0);
        match service.chroot.as_str() {
            "y" => true,
            "-" => level < 1_u32,
            _ => false,
        }
    }
}

fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(" =")?;
    Some((name.trim().to_owned(), value.trim().to_owned()))
}

/// Looks at Postfix, where there is one.
pub(super) async fn examine(args: &Args, config: &Config, report: &mut Report) {
    let about = "Postfix";
    let Some(postconf) = find(&args.postconf) else {
        return report
            .good(about, "postconf is not here: how the mail server is set up is not looked at (--postconf FILE)");
    };
    let setup = match gather(&postconf, args.postfix.as_deref()).await {
        Ok(setup) => setup,
        Err(text) => return report.unknown(about, text),
    };
    report.good(about, format!("version {}, {}", setup.of("mail_version"), setup.of("config_directory")));
    delivery::judge(&setup, config, report);
    if config.milter.listen.is_empty() && !config.lmtp.listen.is_empty() {
        // There is no milter that an smtpd could name.
        let tables =
            Tables { postmap: postconf.with_file_name("postmap"), etc: setup.of("config_directory").to_owned() };
        return settings::domains(&setup, &tables, config, report).await;
    }
    doors::judge(&setup, config, report);
    match files::read_text(Path::new(OPENDKIM), Limits::default().files.config) {
        Ok(text) => doors::clash(&text, config, report),
        Err(e) if e.is_absent() => {}
        Err(e) => report.unknown(OPENDKIM, format!("it cannot be read: {e}")),
    }
    for place in &config.milter.listen {
        if let Listen::Unix(path) = place {
            reach::judge(path, setup.of("mail_owner"), report);
        }
    }
    settings::judge(&setup, config, report);
    roles::judge(&setup, config, report);
    let tables = Tables { postmap: postconf.with_file_name("postmap"), etc: setup.of("config_directory").to_owned() };
    settings::header_checks(&setup, &tables, report).await;
    settings::domains(&setup, &tables, config, report).await;
}

/// A program by its path, or by its name in $PATH and where administrators' programs are.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

async fn gather(postconf: &Path, etc: Option<&Path>) -> Result<Setup, String> {
    let place: Vec<OsString> = etc.map_or_else(Vec::new, |etc| vec!["-c".into(), etc.into()]);
    let with =
        |words: &[&str]| -> Vec<OsString> { place.iter().cloned().chain(words.iter().map(OsString::from)).collect() };
    let names: Vec<&str> = ["-x"].into_iter().chain(NAMES).collect();
    let main = output(postconf.as_ref(), &with(&names)).await?;
    let master = output(postconf.as_ref(), &with(&["-M"])).await?;
    let own = output(postconf.as_ref(), &with(&["-Px"])).await?;
    let setup = Setup::parse(&main, &master, &own);
    if setup.queue().is_absolute() { Ok(setup) } else { Err("postconf tells no queue_directory".into()) }
}

/// Postfix's tables, asked as Postfix asks them.
struct Tables {
    postmap: PathBuf,
    etc: String,
}

impl Tables {
    /// What a table has for a key; `None` where it has nothing.
    async fn find(&self, table: &str, key: &str) -> Result<Option<String>, String> {
        let arguments = ["-c", &self.etc, "-q", key, table];
        match run(self.postmap.as_ref(), &arguments).await? {
            (true, text) => Ok(Some(text.trim_end().to_owned())),
            // postmap says no by 1, and by words that its table cannot be read.
            (false, text) if text.is_empty() => Ok(None),
            (false, text) => Err(text.trim_end().to_owned()),
        }
    }
}

/// What a program prints, if it ends well and in time.
pub(super) async fn output<A: AsRef<OsStr>>(program: &OsStr, arguments: &[A]) -> Result<String, String> {
    match run(program, arguments).await? {
        (true, text) => Ok(text),
        (false, text) => Err(format!("{} failed: {}", program.display(), text.trim_end())),
    }
}

/// Whether a program ended well, and what it printed: where it did not, what it complained of.
async fn run<A: AsRef<OsStr>>(program: &OsStr, arguments: &[A]) -> Result<(bool, String), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let wrong = |e: std::io::Error| format!("cannot run {}: {e}", program.display());
    // Files, not pipes: nobody need read while the program runs.
    let [mut out, mut err] = [tempfile::tempfile().map_err(wrong)?, tempfile::tempfile().map_err(wrong)?];
    command.stdout(out.try_clone().map_err(wrong)?).stderr(err.try_clone().map_err(wrong)?);
    let mut child = command.spawn().map_err(wrong)?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(wrong)? {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            // It may have ended meanwhile; both ways it is gone.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{} did not end within {PATIENCE:?}", program.display()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let file = if status.success() { &mut out } else { &mut err };
    let mut octets = Vec::new();
    file.rewind().map_err(wrong)?;
    file.take(ANSWER).read_to_end(&mut octets).map_err(wrong)?;
    Ok((status.success(), String::from_utf8_lossy(&octets).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_program_is_heard_and_its_failure_told() {
        assert_eq!(output("echo".as_ref(), &["a"]).await.unwrap(), "a\n");
        let error = output("sh".as_ref(), &["-c", "echo why >&2; exit 3"]).await.unwrap_err();
        assert!(error.contains("sh failed: why"), "{error}");
        assert!(output("/nonexistent/x".as_ref(), &["a"]).await.is_err());
        assert!(find(Path::new("/nonexistent/x")).is_none() && find(Path::new("sh")).is_some());
    }

    #[test]
    fn what_postconf_prints_is_read() {
        let main = "always_bcc =\nqueue_directory = /var/spool/postfix\ncompatibility_level = 3.6\n";
        let master = "smtp       inet  n       -       y       -       -       smtpd\n    -o x=y\n\
                      127.0.0.1:10025 inet n - - - - smtpd\nqmgr       unix  n       -       n       300     1       qmgr\n";
        let own =
            "smtp/inet/smtpd_milters = { unix:a, default_action=tempfail }\n127.0.0.1:10025/inet/smtpd_milters =\n";
        let mut setup = Setup::parse(main, master, own);
        assert_eq!((setup.of("always_bcc"), setup.queue()), ("", Path::new("/var/spool/postfix")));
        let names: Vec<_> =
            setup.services.iter().map(|s| (s.name.as_str(), s.program.as_str(), setup.is_chrooted(s))).collect();
        assert_eq!(
            names,
            [("smtp/inet", "smtpd", true), ("127.0.0.1:10025/inet", "smtpd", false), ("qmgr/unix", "qmgr", false)]
        );
        setup.main.insert("smtpd_milters".into(), "inet:localhost:1".into());
        let of = |index: usize| setup.of_service(&setup.services[index], "smtpd_milters");
        assert_eq!([of(0), of(1), of(2)], ["{ unix:a, default_action=tempfail }", "", "inet:localhost:1"]);
        setup.main.insert("compatibility_level".into(), "0".into());
        assert!(setup.is_chrooted(&setup.services[1]));
    }
}
