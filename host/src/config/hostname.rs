//! The system's host name.

/// What the system calls itself, or `localhost` where that is no host name. The kernel is asked: /proc/sys may be hidden.
pub fn system_hostname() -> String {
    let told = rustix::system::uname();
    let name = told.nodename().to_str().unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if !name.is_empty() && name.chars().all(good) { name.into() } else { "localhost".into() }
}
