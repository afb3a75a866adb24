//! Whether Postfix's user may connect to our socket: every directory above it, and its own mode and group.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::super::Report;

/// A user, as the kernel judges his rights.
struct User {
    name: String,
    uid: u32,
    groups: Vec<u32>,
}

/// Looks at our socket as the user `owner` would.
pub(super) fn judge(socket: &Path, owner: &str, report: &mut Report) {
    let about = format!("milter.listen unix:{}", socket.display());
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let Some(user) = User::find(owner, &read("/etc/passwd"), &read("/etc/group")) else {
        return report.unknown(&about, format!("there is no user {owner} in /etc/passwd, whom Postfix runs as"));
    };
    match obstacle(socket, &user) {
        Ok(None) => report.good(&about, format!("user {owner} may connect")),
        Ok(Some(text)) => report.wrong(&about, text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            report.wrong(&about, "there is no such socket: is `addrauth filter` running?");
        }
        Err(e) => report.unknown(&about, format!("it cannot be looked at: {e}")),
    }
}

impl User {
    fn find(name: &str, passwd: &str, group: &str) -> Option<User> {
        let row = |text: &str| -> Vec<String> { text.split(':').map(String::from).collect() };
        let [uid, gid] = passwd.lines().map(row).find_map(|row| match &row[..] {
            [known, _, uid, gid, ..] if known == name => Some([uid.parse().ok()?, gid.parse().ok()?]),
            _ => None,
        })?;
        let named = group.lines().map(row).filter_map(|row| match &row[..] {
            [_, _, gid, members, ..] if members.split(',').any(|member| member == name) => gid.parse().ok(),
            _ => None,
        });
        Some(User { name: name.to_owned(), uid, groups: named.chain([gid]).collect() })
    }

    /// Whether the mode gives him this right: 1 to pass a directory, 2 to write, as connecting needs.
    fn may(&self, right: u32, file: &Metadata) -> bool {
        let shift = match () {
            () if self.uid == 0 => return true,
            () if file.uid() == self.uid => 6,
            () if self.groups.contains(&file.gid()) => 3,
            () => 0,
        };
        (file.mode() >> shift) & right == right
    }
}

/// What keeps a user from connecting, and the way out.
fn obstacle(socket: &Path, user: &User) -> std::io::Result<Option<String>> {
    let name = &user.name;
    let mut folders: Vec<&Path> = socket.ancestors().skip(1).filter(|folder| folder.is_absolute()).collect();
    folders.reverse();
    for folder in folders {
        let found = std::fs::metadata(folder)?;
        if !user.may(1, &found) {
            let (folder, mode) = (folder.display(), found.mode() & 0o7777);
            return Ok(Some(format!(
                "user {name} may not pass {folder} (mode {mode:o}): `chgrp {name} {folder}` and chmod g+x"
            )));
        }
    }
    let found = std::fs::metadata(socket)?;
    if !found.file_type().is_socket() {
        return Ok(Some("this is no socket: remove the file".into()));
    }
    let mode = found.mode() & 0o777;
    let text = format!(
        "user {name} may not connect (mode {mode:o}, group {gid}): `usermod -aG {gid} {name}` where that group is for mail servers \
         (addrauth-mta), else set milter.group = \"{name}\"",
        gid = found.gid()
    );
    Ok((!user.may(2, &found)).then_some(text))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_user_is_found_with_all_his_groups() {
        let passwd = "root:x:0:0::/:/bin/sh\npostfix:x:106:113::/:/bin/false\nx\n";
        let user = User::find("postfix", passwd, "a:x:7:bob,postfix\npostfix:x:113:\nb:x:8:postfixer\n").unwrap();
        assert_eq!((user.uid, user.groups), (106, vec![7, 113]));
        assert!(User::find("nobody", passwd, "").is_none());
    }

    #[test]
    fn mode_and_group_of_the_socket_and_of_every_directory_count() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let socket = inner.join("milter");
        let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(dir.path(), 0o755);
        mode(&inner, 0o755);
        let gid = fs::metadata(&inner).unwrap().gid();
        let member = User { name: "postfix".into(), uid: 4_711, groups: vec![gid] };
        let stranger = User { name: "postfix".into(), uid: 4_711, groups: vec![gid + 1] };
        let told = |user: &User| obstacle(&socket, user).unwrap().unwrap_or_default();
        assert!(obstacle(&socket, &member).is_err());
        fs::write(&socket, "x").unwrap();
        mode(&socket, 0o666);
        assert!(told(&member).contains("no socket"));
        fs::remove_file(&socket).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        mode(&socket, 0o660);
        assert_eq!(told(&member), "");
        assert!(told(&stranger).contains("milter.group = \"postfix\""), "{}", told(&stranger));
        mode(&inner, 0o750);
        assert_eq!(told(&member), "");
        assert!(told(&stranger).contains("may not pass"), "{}", told(&stranger));
    }
}
