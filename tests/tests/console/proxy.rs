//! A proxy that says who the user is: believed on its own socket, and nowhere else.

use addrauth_tests::http::request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::bed::Bed;

/// The status of the answer to a GET with these fields, over the proxy's socket, and its text.
async fn by_proxy(bed: &Bed, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let mut stream = UnixStream::connect(&bed.proxy).await.unwrap();
    let mut said = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    fields.iter().for_each(|(name, value)| said += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{said}\r\n").as_bytes()).await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    (heard.split(' ').nth(1).unwrap().parse().unwrap(), heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_proxy_names_is_believed_on_its_socket_alone() {
    let bed = Bed::start("").await;
    for (fields, path, wanted) in [
        (vec![("X-Remote-User", "ann")], "/overview", 200),
        (vec![("X-Remote-User", "bob")], "/overview", 403),
        (vec![("X-Remote-User", "bob")], "/me", 200),
        (vec![("X-Remote-User", "carol@home.example")], "/me", 200),
        (vec![("X-Remote-User", "carol@home.example")], "/overview", 403),
        (vec![("X-Remote-User", "x@elsewhere.example")], "/me", 303),
        (vec![("X-Remote-User", "nobody")], "/me", 303),
        (vec![("X-Remote-User", "")], "/me", 303),
        (vec![], "/me", 303),
        (vec![("X-Remote-User", "ann"), ("X-Remote-User", "bob")], "/me", 403),
    ] {
        assert_eq!(by_proxy(&bed, path, &fields).await.0, wanted, "{fields:?} {path}");
    }
    // Where it names nobody, a session counts.
    let ann = bed.signed_in("ann").await;
    for fields in [vec![("cookie", ann.cookie.as_str())], vec![("cookie", ann.cookie.as_str()), ("X-Remote-User", "")]]
    {
        let (status, text) = by_proxy(&bed, "/overview", &fields).await;
        assert!(status == 200 && text.contains("Sign out"), "{status}");
    }
    assert!(!by_proxy(&bed, "/overview", &[("X-Remote-User", "ann")]).await.1.contains("Sign out"));
    for name in ["ann", "carol@home.example"] {
        let answer = request(bed.place, "GET /overview", &[("X-Remote-User", name)], b"").await;
        assert_eq!(answer.status, 303, "{name}");
    }
    // The mode of the sockets lets nobody else in.
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&bed.proxy).unwrap().permissions().mode() & 0o777, 0o660);
}
