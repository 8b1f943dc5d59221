//! URLs that are refused, files that are none, servers that misbehave.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;

#[test]
fn urls_as_configured() {
    let here = |url: &str| HttpOrigin::parse(url, None, false).map(|origin| origin.to_string());
    for url in [
        "http://127.0.0.1:8000/drop.txt?a=b",
        "http://localhost/drop",
        "http://[::1]:81/",
        "http://127.9.9.9/x",
        "https://www.spamhaus.org/drop/drop_v4.json",
        "https://192.0.2.1:8443/drop",
        "https://[2001:db8::1]/drop",
    ] {
        assert_eq!(here(url).as_deref(), Ok(url));
    }
    for (url, error) in [
        ("https://user@www.spamhaus.org/", UrlError::Credentials),
        ("https://-/x", UrlError::Malformed { found: "https://-/x".into() }),
        ("https://a.test:/", UrlError::Malformed { found: "https://a.test:/".into() }),
        ("https://a.test:65536/", UrlError::Malformed { found: "https://a.test:65536/".into() }),
        ("ftp://127.0.0.1/x", UrlError::Scheme),
        ("http://user:secret@127.0.0.1/x", UrlError::Credentials),
        ("http://192.0.2.1/x", UrlError::Insecure { host: "192.0.2.1".into() }),
        ("http://localhost.example/x", UrlError::Insecure { host: "localhost.example".into() }),
        ("/drop.txt", UrlError::Malformed { found: "/drop.txt".into() }),
        ("127.0.0.1/x y", UrlError::Malformed { found: "127.0.0.1/x y".into() }),
    ] {
        assert_eq!(here(url), Err(error), "{url}");
    }
    assert!(HttpOrigin::parse("http://192.0.2.1/x", None, true).is_ok());
    let ca = || Some(PathBuf::from("ca.pem"));
    assert!(HttpOrigin::parse("https://192.0.2.1/x", ca(), false).is_ok());
    for (url, ca, is_insecure, key) in
        [("https://192.0.2.1/x", None, true, "insecure"), ("http://127.0.0.1/x", ca(), false, "ca")]
    {
        let error = HttpOrigin::parse(url, ca, is_insecure).unwrap_err();
        assert!(matches!(error, UrlError::Pointless { key: found, .. } if found == key), "{error}");
    }
}

#[test]
fn files_up_to_their_limit() {
    let path = std::env::temp_dir().join(format!("fw-origin-{}", std::process::id()));
    assert!(matches!(read(&path, 4), Err(FetchError::File { .. })));
    assert_eq!(Identity::of(&path), None);
    std::fs::write(&path, "1234").unwrap();
    assert_eq!(read(&path, 4).unwrap(), b"1234");
    assert!(matches!(read(&path, 3), Err(FetchError::TooLarge { most: 3 })));
    let before = Identity::of(&path).unwrap().0;
    std::fs::write(&path, "12345").unwrap();
    assert_ne!(Identity::of(&path).unwrap().0, before);
    assert!(matches!(read(&std::env::temp_dir(), 4), Err(FetchError::File { .. })), "a directory");
    std::fs::remove_file(&path).unwrap();
}

/// Answers one request with these octets, and gives what was asked.
fn server(answer: &'static str) -> (HttpOrigin, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/list", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut octet = [0];
        while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut octet).unwrap() > 0 {
            asked.push(octet[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (HttpOrigin::parse(&url, None, false).unwrap(), thread)
}

fn ask(
    answer: &'static str,
    validators: &Validators,
    most: usize,
) -> (Result<Fetched, FetchError>, String) {
    let (origin, thread) = server(answer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fetched = runtime.block_on(fetch(&origin, validators, most));
    (fetched, thread.join().unwrap().to_lowercase())
}

#[test]
fn answers_that_can_be_used() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: \"7\"\r\n\r\n1234",
        "HTTP/1.1 200 OK\r\nETag: \"7\"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nETag: \"7\"\r\n\r\n1234",
    ] {
        let (fetched, asked) = ask(answer, &Validators::default(), 4);
        let Ok(Fetched::Content { octets, validators }) = fetched else {
            panic!("{answer}: {fetched:?}")
        };
        assert_eq!(octets, b"1234");
        assert!(asked.starts_with("get /list http/1.1\r\n"), "{asked}");
        assert!(asked.contains("accept-encoding: identity\r\n"), "{asked}");
        assert!(!asked.contains("if-none-match"), "{asked}");

        let (fetched, asked) = ask("HTTP/1.1 304 Not Modified\r\n\r\n", &validators, 4);
        assert_eq!(fetched.unwrap(), Fetched::Unchanged);
        assert!(asked.contains("if-none-match: \"7\"\r\n"), "{asked}");
    }
}

#[test]
fn answers_that_cannot() {
    for (answer, part) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "found 404"),
        ("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n", "302"),
        // Nothing was asked that could have stayed as it was.
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "304"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345", "at most 4 octets"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12", "broke off"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n", "broke off"),
        ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n1", "encoded"),
        ("garbage\r\n\r\n", "exchange failed"),
        ("", "exchange failed"),
    ] {
        let (fetched, _) = ask(answer, &Validators::default(), 4);
        let error = fetched.expect_err(answer).to_string();
        assert!(error.contains(part), "{answer}: {error}");
    }
}

#[test]
fn a_server_that_is_not_there() {
    let (origin, port) = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (HttpOrigin::parse(&format!("http://127.0.0.1:{port}/"), None, false).unwrap(), port)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fetched = runtime.block_on(fetch(&origin, &Validators::default(), 4));
    assert!(matches!(fetched, Err(FetchError::Connect { .. })), "port {port}: {fetched:?}");
}
