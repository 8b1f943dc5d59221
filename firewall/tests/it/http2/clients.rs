//! Clients that others wrote.

use std::process::Command;

use xtask::skip::skipped;

use super::plain;
use crate::contract::notes;
use crate::kit::gateway::Gateway;

/// Runs a program that may not be there.
fn run(test: &str, program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output();
    let Ok(output) = output else {
        skipped(test, &format!("there is no {program}"));
        return None;
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program}: {printed} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(printed)
}

#[test]
fn curl() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let url = format!("http://{}/notes", gateway.address);
    let test = "http2::clients::curl";
    let common = ["-sS", "--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code}"];
    let body = ["-H", "Content-Type: application/json", "-d", r#"{"text":"a"}"#];
    for (more, ending) in [(&[][..], "2 200"), (&body[..], "2 201")] {
        let arguments: Vec<_> = common.iter().chain(more).copied().chain([url.as_str()]).collect();
        let Some(answer) = run(test, "curl", &arguments) else { return };
        assert!(answer.ends_with(ending), "{answer}");
        assert!(answer.contains("hello"), "{answer}");
    }
}

#[test]
fn h2load() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let url = format!("http://{}/notes", gateway.address);
    let arguments = ["-n", "2000", "-c", "10", "-m", "20", &url];
    let Some(report) = run("http2::clients::h2load", "h2load", &arguments) else { return };
    assert!(report.contains("2000 succeeded, 0 failed"), "{report}");
}
