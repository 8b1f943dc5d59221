//! The command line, the admin socket, reload and drain.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::contract::{NOTES, notes};
use crate::kit::client::{Client, bodiless, exchange, with_body};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};
use crate::kit::{Scratch, eventually};

/// Runs `firewall check`; gives its exit code and output.
fn check(files: &[&std::path::Path], json: bool) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firewall"));
    command.arg("check").args(files);
    if json {
        command.arg("--json");
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn check_tells_every_problem_with_its_place() {
    let scratch = Scratch::new();
    let good = scratch.file("good.yaml", NOTES);
    let broken = NOTES
        .replace(
            "operationId: newestNote",
            "operationId: newestNote\n      security: [{ key: [] }]",
        )
        .replace("pattern: \"^[a-z]+$\"", "pattern: \"[\"")
        .replace("maxLength: 40", "maxLength: 40, const: x");
    let broken = scratch.file("broken.yaml", &broken);
    let missing = scratch.path().join("missing.yaml");
    let config = scratch.file(
        "firewall.toml",
        "[listen]\naddress = \"127.0.0.1:0\"\n[[api]]\nname = \"a\"\nspec = \"good.yaml\"\n\
         upstream = \"ftp://x\"\n",
    );

    let (code, text) = check(&[&good], false);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("5 operations"), "{text}");

    let (code, text) = check(&[&broken], true);
    assert_eq!(code, Some(1), "{text}");
    let found: Value = serde_json::from_str(&text).unwrap();
    let errors = found["errors"].as_array().unwrap();
    let pointers: Vec<_> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
    assert!(errors.len() >= 3, "{text}");
    for part in ["/newest/get/security", "/schema/pattern", "/text"] {
        assert!(
            pointers.iter().any(|pointer| pointer.replace("~1", "/").contains(part)),
            "{part} is not in {pointers:?}"
        );
    }
    for error in errors {
        assert!(error["line"].as_u64().is_some_and(|line| line > 1), "{error}");
        assert!(error["file"].as_str().is_some_and(|file| file.ends_with("broken.yaml")));
    }

    assert_eq!(check(&[&missing], false).0, Some(2));
    let (code, text) = check(&[&config], false);
    assert_eq!(code, Some(1));
    assert!(text.contains("firewall.toml: api.upstream") || text.contains("ftp"), "{text}");
}

#[test]
fn the_command_line_works_the_running_firewall() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let (code, text) = gateway.cli(&["status"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("l7-only") && text.contains("no interface"), "{text}");

    let (code, text) = gateway.cli(&["ban", "add", "192.0.2.9", "--for", "10m", "--reason", "x y"]);
    assert_eq!(code, Some(0), "{text}");
    let (_, text) = gateway.cli(&["ban", "list", "--json"]);
    let bans: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bans[0]["target"], "192.0.2.9/32");
    assert_eq!(bans[0]["reason"], "x y");
    assert!(bans[0]["remaining_seconds"].as_u64().is_some_and(|s| (590..=600).contains(&s)));
    let (_, text) = gateway.cli(&["explain", "192.0.2.9"]);
    assert!(text.contains("banned"), "{text}");
    let (_, text) = gateway.cli(&["explain", "192.0.2.10"]);
    assert!(text.contains("not banned"), "{text}");
    let (code, text) = gateway.cli(&["ban", "del", "192.0.2.9"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = gateway.cli(&["ban", "del", "192.0.2.9"]);
    assert_eq!(code, Some(2), "lifting what is not banned: {text}");
    let (code, text) = gateway.cli(&["ban", "add", "127.0.0.1"]);
    assert_eq!(code, Some(2), "banning what is exempt: {text}");
}

#[test]
fn a_reload_takes_the_new_document_and_a_broken_one_changes_nothing() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let mut kept = Client::connect(gateway.address);
    let mut ask = |line: &str| kept.send(bodiless(line)).answer().unwrap().status;
    assert_eq!((ask("GET /notes"), ask("GET /memos")), (200, 404));

    gateway.scratch.file("spec.yaml", "openapi: 3.0.3\ninfo: [");
    let (code, text) = gateway.cli(&["reload"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("spec.yaml"), "{text}");
    assert_eq!((ask("GET /notes"), ask("GET /memos")), (200, 404));
    assert!(gateway.metrics().contains("firewall_config_last_reload_successful 0"));

    gateway.scratch.file("spec.yaml", &NOTES.replace("  /notes:", "  /memos:"));
    let (code, text) = gateway.cli(&["reload"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!((ask("GET /notes"), ask("GET /memos")), (404, 200));
    assert!(gateway.metrics().contains("firewall_config_last_reload_successful 1"));

    // The file is watched: no order is needed.
    gateway.scratch.file("spec.yaml", NOTES);
    eventually("the changed file is in force", || (ask("GET /notes") == 200).then_some(()));

    // No file changes here, so that the watch has nothing to reload.
    let generation = || gateway.status()["generation"].as_u64();
    let before = generation();
    gateway.signal(Signal::HUP);
    eventually("SIGHUP reloads", || (generation() > before).then_some(()));
    assert_eq!(ask("GET /notes"), 200);
}

/// A reload that fails for a file that is not there is tried again when it is: so files may come in any
/// order.
#[test]
fn what_a_reload_lacks_is_waited_for() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let ask = |line: &str| exchange(gateway.address, bodiless(line)).status;
    let text = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, text.replace("spec.yaml", "memos.yaml")).unwrap();
    let failed = |what: &str| {
        eventually(what, || {
            let errors = gateway.errors();
            (errors.contains("not reloaded") && errors.contains(what)).then_some(())
        });
    };
    failed("memos.yaml");
    assert_eq!((ask("GET /notes"), ask("GET /memos")), (200, 404));
    // It refers to one that is not there either.
    let memos = NOTES.replace("  /notes:", "  /memos:");
    let (memos, components) = memos.split_once("components:").unwrap();
    let memos = memos.replace("#/components", "shared.yaml#/components");
    gateway.scratch.file("memos.yaml", &memos);
    failed("shared.yaml");
    let components = components.replace("#/components", "shared.yaml#/components");
    gateway.scratch.file("shared.yaml", &format!("components:{components}"));
    eventually("all files are there", || (ask("GET /memos") == 200).then_some(()));
    // The same of a drop-in that is mended where it is.
    let directory = gateway.scratch.path().join("firewall.d");
    std::fs::create_dir(&directory).unwrap();
    let dropin = directory.join("50-a.toml");
    std::fs::write(&dropin, "[[api]]\nname = \"test\"\nrequest = \"observe\"\n").unwrap();
    failed("50-a.toml");
    assert_eq!(ask("GET /nothing"), 404);
    std::fs::write(
        &dropin,
        "[[api]]\nname = \"test\"\nrequests = \"observe\"\nresponses = \"off\"\n",
    )
    .unwrap();
    eventually("it is mended", || (ask("GET /nothing") == 200).then_some(()));
}

#[test]
fn what_cannot_change_while_running_is_refused_by_name() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let text = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, text.replace("workers = 2", "workers = 3")).unwrap();
    let (code, text) = gateway.cli(&["reload"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("listen.workers cannot change without a restart"), "{text}");
}

#[test]
fn drop_ins_come_and_go() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let ask = || exchange(gateway.address, bodiless("GET /nothing")).status;
    assert_eq!(ask(), 404);
    let directory = gateway.scratch.path().join("firewall.d");
    std::fs::create_dir(&directory).unwrap();
    let dropin = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    // The entry of this name is amended; the upstream has an answer for whatever it is asked.
    dropin(
        "50-observe.toml",
        "[[api]]\nname = \"test\"\nrequests = \"observe\"\nresponses = \"off\"\n",
    );
    eventually("a drop-in that comes is noticed", || (ask() == 200).then_some(()));
    dropin("60-enforce.toml", "[[api]]\nname = \"test\"\nrequests = \"enforce\"\n");
    eventually("the last one counts", || (ask() == 404).then_some(()));

    dropin("70-wrong.toml", "# nothing\n[limits]\nbody_octet = 7\n");
    let (code, text) = gateway.cli(&["reload"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("firewall.d/70-wrong.toml:3: unknown field `body_octet`"), "{text}");
    let (code, text) = check(&[&gateway.config], true);
    assert_eq!(code, Some(1), "{text}");
    let found: Value = serde_json::from_str(&text).unwrap();
    let error = &found["errors"][0];
    assert!(error["file"].as_str().unwrap().ends_with("70-wrong.toml"), "{error}");
    assert_eq!(error["line"], 3);
    dropin("70-wrong.toml", "[limits]\nbody_octets = 7\n");
    eventually("one that changes is noticed", || {
        let note = with_body("POST /notes", "application/json", r#"{"text":"a"}"#);
        (exchange(gateway.address, note).status == 413).then_some(())
    });
    std::fs::remove_file(directory.join("60-enforce.toml")).unwrap();
    eventually("one that goes is noticed", || (ask() == 200).then_some(()));
    std::fs::remove_dir_all(directory).unwrap();
    eventually("and so is all of them going", || (ask() == 404).then_some(()));
}

#[test]
fn there_are_as_many_workers_as_configured() {
    let upstream = notes();
    for workers in [1, 3] {
        let setup = Setup { listen: format!("workers = {workers}"), ..Setup::of(NOTES) };
        let gateway = Gateway::start(&setup, &upstream);
        eventually("every worker has named itself", || {
            let found = gateway.threads("worker-").len();
            assert!(found <= workers, "{found} workers");
            (found == workers).then_some(())
        });
    }
}

#[test]
fn sigterm_lets_what_is_in_flight_finish() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |_| {
        held.lock().unwrap().recv().unwrap();
        json("200 OK", "[]")
    });
    let mut gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let mut slow = Client::connect(gateway.address);
    slow.send(bodiless("GET /notes"));
    eventually("the request is at the upstream", || upstream.received().pop());
    gateway.signal(Signal::TERM);
    eventually("new connections are refused", || {
        std::net::TcpStream::connect(gateway.address).is_err().then_some(())
    });
    release.send(()).unwrap();
    let answer = slow.answer().expect("the answer in flight");
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.ended(), Some(0), "{}", gateway.errors());
    assert_eq!(gateway.access_log().len(), 1, "the log is whole");
}

#[test]
fn the_access_log_tells_each_exchange() {
    let upstream = notes();
    // Each worker writes for itself, in no order between them.
    let setup = Setup { listen: "workers = 1".into(), ..Setup::of(NOTES) };
    let gateway = Gateway::start(&setup, &upstream);
    exchange(gateway.address, bodiless("GET /notes/7"));
    let refused =
        exchange(gateway.address, with_body("POST /notes", "application/json", r#"{"text":7}"#));
    let log = eventually("two lines", || Some(gateway.access_log()).filter(|log| log.len() == 2));
    let (passed, other) = (&log[0], &log[1]);
    assert_eq!(passed["operation"], "getNote");
    assert_eq!((&passed["status"], &passed["upstream_status"]), (&200.into(), &200.into()));
    assert_eq!(passed["verdict"], "passed");
    assert_eq!(passed["client"], "127.0.0.1");
    assert_eq!(passed["response_octets"], 23);
    assert!(passed["upstream_us"].as_u64() <= passed["duration_us"].as_u64());
    assert_eq!(other["operation"], "addNote");
    assert_eq!(other["rule"], "body.schema");
    assert_eq!(other["pointer"], "/text");
    assert_eq!(other["keyword"], "type");
    assert_eq!(other["request_octets"], 10);
    assert_eq!(other["id"], refused.json()["request_id"]);
    let metrics = gateway.metrics();
    for line in [
        r#"firewall_http_requests_total{api="test",operation="getNote",outcome="passed"} 1"#,
        r#"firewall_http_requests_total{api="test",operation="addNote",outcome="refused"} 1"#,
        r#"firewall_http_request_duration_seconds_count{api="test",operation="getNote"} 1"#,
        r#"firewall_contract_violations_total{action="refused",api="test",rule="body.schema"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn a_start_that_cannot_be_sound_is_refused() {
    let scratch = Scratch::new();
    let spec = scratch.file("spec.yaml", "openapi: 2.9.0\npaths: {}\n");
    for (arguments, part) in [
        (vec!["--upstream", "http://127.0.0.1:9"], "spec.yaml"),
        (vec!["--upstream", "ftp://127.0.0.1:9"], "ftp"),
        (vec![], "--upstream"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_firewall"))
            .args(["run", "--listen", "127.0.0.1:0", "--spec"])
            .arg(&spec)
            .args(&arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
