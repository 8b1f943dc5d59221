//! Programs that others wrote: curl, and OpenSSL's client and responder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::skip::skipped;

use super::{Authority, NAME, Scratch, Served};
use crate::kit::eventually;
use crate::kit::tls::{install, program};

/// Where it is; says so where the machine has none.
fn found(test: &str, name: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        skipped(test, &format!("there is no {name}"));
    }
    found
}

/// What it said, on either side, and whether it was content.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn curl() {
    let Some(curl) = found("tls::programs::curl", "curl") else { return };
    let served = Served::start("");
    let ca = served.folder.file("ca.pem", &served.ca.pem);
    let port = served.gateway.address.port();
    let ask = |more: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(&ca);
        command.args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")]);
        command.args(["--write-out", "%{http_code} %{http_version}"]).args(more);
        run(command.arg(format!("https://{NAME}:{port}/page")))
    };
    for (versions, http) in [
        (&["--tlsv1.2", "--tls-max", "1.2"][..], "2"),
        (&["--tlsv1.3"], "2"),
        (&["--http1.1"], "1.1"),
        (&["--no-alpn"], "1.1"),
    ] {
        assert_eq!(ask(versions), (true, format!("204 {http}")), "{versions:?}");
    }
    eventually("the log names HTTP/2 over TLS", || {
        let mut lines = served.gateway.access_log().into_iter();
        lines.find(|line| line["protocol"] == "HTTP/2" && line["tls"] == "TLSv1.3")
    });
    let (is_content, said) = ask(&["--tls-max", "1.1"]);
    assert!(!is_content, "{said}");
}

fn s_client(openssl: &Path, served: &Served, more: &[&str]) -> (bool, String) {
    let ca = served.folder.file("ca.pem", &served.ca.pem);
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &served.gateway.address.to_string()]);
    command.args(["-servername", NAME, "-verify_return_error", "-CAfile"]).arg(ca);
    run(command.args(more))
}

#[test]
fn openssl() {
    let Some(openssl) = found("tls::programs::openssl", "openssl") else { return };
    let served = Served::start("preset = \"fapi2\"");
    for (more, is_content) in [
        (&["-tls1_3"][..], true),
        (&["-tls1_2"], true),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], true),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], false),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"], false),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], false),
        (&["-alpn", "http/1.1"], true),
        (&["-alpn", "gopher"], false),
    ] {
        let (found, said) = s_client(&openssl, &served, more);
        assert_eq!(found, is_content, "{more:?}: {said}");
    }
    let session = served.folder.path().join("session").display().to_string();
    let (is_content, said) = s_client(&openssl, &served, &["-tls1_2", "-sess_out", &session]);
    assert!(is_content && said.contains("New, TLSv1.2"), "{said}");
    let (_, said) = s_client(&openssl, &served, &["-tls1_2", "-sess_in", &session]);
    assert!(said.contains("Reused, TLSv1.2"), "{said}");
}

/// A response for the certificate with number 1, made by OpenSSL's responder.
fn response(openssl: &Path, ca: &Authority, folder: &Scratch, status: &str) -> (bool, String) {
    let path = |name: &str| folder.path().join(name).display().to_string();
    folder.file("ca.pem", &ca.pem);
    folder.file("ca.key", &ca.key());
    let revoked = if status == "R" { "240101000000Z" } else { "" };
    folder.file("index", &format!("{status}\t541231000000Z\t{revoked}\t01\tunknown\t/CN=any\n"));
    run(Command::new(openssl)
        .args(["ocsp", "-index", &path("index"), "-CA", &path("ca.pem")])
        .args([
            "-rsigner",
            &path("ca.pem"),
            "-rkey",
            &path("ca.key"),
            "-issuer",
            &path("ca.pem"),
            "-cert",
            &path("one.pem"),
            "-respout",
            &path("one.ocsp"),
            "-ndays",
            "7",
            "-noverify",
        ]))
}

#[test]
fn statuses_are_stapled() {
    let Some(openssl) = found("tls::programs::statuses_are_stapled", "openssl") else { return };
    let served = Served::start("");
    let (_, said) = s_client(&openssl, &served, &["-status"]);
    assert!(said.contains("OCSP response: no response sent"), "{said}");

    let (is_made, said) = response(&openssl, &served.ca, &served.folder, "V");
    assert!(is_made, "{said}");
    let staple = served.folder.path().join("one.ocsp").display().to_string();
    let config = std::fs::read_to_string(&served.gateway.config).unwrap();
    let stapled = config.replace("one.key\" }", &format!("one.key\", ocsp = {staple:?} }}"));
    assert_ne!(stapled, config);
    std::fs::write(&served.gateway.config, stapled).unwrap();
    let (code, said) = served.gateway.cli(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    for version in ["-tls1_3", "-tls1_2"] {
        let (_, said) = s_client(&openssl, &served, &["-status", version]);
        assert!(said.contains("Cert Status: good"), "{said}");
    }
    served.counts("kind=\"ocsp\"");

    // Of a revoked certificate, and of another one: the reload is refused, and the file named.
    let refused = |part: &str| {
        let (code, said) = served.gateway.cli(&["reload"]);
        assert!(code != Some(0) && said.contains("one.ocsp") && said.contains(part), "{said}");
    };
    assert!(response(&openssl, &served.ca, &served.folder, "R").0);
    refused("revoked");
    assert!(response(&openssl, &served.ca, &served.folder, "V").0);
    install(&served.folder, "one", &served.ca.issue(&[NAME], None, 2));
    refused("another certificate");
}
