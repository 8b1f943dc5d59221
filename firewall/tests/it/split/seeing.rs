//! What an operator sees and orders where two processes share the work: captures, pressure, the doctor.

use super::*;

#[test]
fn drops_are_captured_by_who_has_no_capability() {
    let Some(site) = Site::new("split::seeing::drops_are_captured_by_who_has_no_capability") else {
        return;
    };
    let _loader = site.load();
    let gateway = site.start(&site.setup());
    site.offend(1);
    let file = site.scratch.path().join("drops.pcapng");
    let mut capture = gateway.command(&["capture", "--reason", "ban", "--count", "2"]);
    let mut capture = site.spawn(capture.arg("--write").arg(&file));
    let status = eventually("two packets are captured", || {
        site.assert_dropped(1);
        capture.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
    let written = std::fs::read(&file).unwrap();
    let holds = |text: &[u8]| written.windows(text.len()).filter(|octets| *octets == text).count();
    assert_eq!(holds(b"ban dropped"), 2);
    assert!(holds(Topology::PUBLIC_INTERFACE.as_bytes()) > 0, "the interface has its name");
}

#[test]
fn pressure_is_told_to_the_program_of_another_process() {
    let test = "split::seeing::pressure_is_told_to_the_program_of_another_process";
    let Some(site) = Site::new(test) else { return };
    let _loader = site.load();
    let setup = site.setup();
    let standing = "\n[kernel.standing]\nrequests = 2\nage = \"0s\"\n";
    let gateway = site.start(&Setup { kernel: setup.kernel.clone() + standing, ..setup });
    let order = |level: &str| {
        gateway.admin(&Method::POST, &format!("/v1/pressure?level={level}"), None)["level"].clone()
    };
    site.assert_served(1);
    site.assert_served(1);
    eventually("who kept the contract stands", || {
        (gateway.status()["good_standing"] == 1).then_some(())
    });
    assert_eq!(order("3"), 3);
    site.assert_served(1);
    site.assert_dropped(2);
    let status = gateway.status();
    assert!(status["packets"]["S1"]["packets"].as_u64() > Some(0), "{status}");
    assert_eq!(order("auto"), 0);
    site.assert_served(2);
}

#[test]
fn the_doctor_finds_the_loader_or_misses_it() {
    let test = "split::seeing::the_doctor_finds_the_loader_or_misses_it";
    let Some(site) = Site::new(test) else { return };
    let loader = site.load();
    let gateway = site.start(&site.setup());
    let asked = || {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_firewall"));
        doctor.args(["doctor", "--json", "--config"]).arg(&gateway.config);
        let output = site.spawn(doctor.stdout(Stdio::piped())).wait_with_output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["id"] == "kernel.loader").unwrap().clone()
    };
    let found = asked();
    assert_eq!(found["severity"], "ok", "{found}");
    let process = format!("process {} ", loader.0.id());
    assert!(found["what"].as_str().unwrap().contains(&process), "{found}");
    kill(loader);
    let missed = asked();
    assert_eq!(missed["severity"], "fatal", "{missed}");
    assert!(missed["do"].as_str().unwrap().contains("firewall load"), "{missed}");
    // It only looks: what is attached goes on.
    site.offend(3);
    site.assert_dropped(3);
}
