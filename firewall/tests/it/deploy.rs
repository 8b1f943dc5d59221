//! Units and manifests: what they start exists, and their hardening holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use firewall::control::cli::Cli;
use firewall::control::config;
use firewall::kernel;
use serde_json::{Value, json};
use xtask::skip::skipped;

use crate::kit::Scratch;

const PROGRAM: &str = "/usr/bin/firewall";
/// The most that `systemd-analyze security` may find exposed, of 10.
const EXPOSURE_MAX: f64 = 2.0;
const UNITS: [&str; 3] =
    ["firewall.service", "split/firewall-loader.service", "split/firewall-proxy.service"];
const SOCKET: &str = "firewall.socket";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

/// The values of a unit's key, in their order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(value).collect()
}

#[test]
fn units_start_what_there_is() {
    for name in UNITS {
        let unit = read(&format!("systemd/{name}"));
        let starts = ["ExecStart", "ExecStartPre", "ExecReload"];
        let lines: Vec<&str> = starts.iter().flat_map(|key| values(&unit, key)).collect();
        assert!(!lines.is_empty(), "{name}");
        for line in lines {
            let Some(arguments) = line.strip_prefix(PROGRAM) else {
                assert_eq!(line, "/bin/kill -HUP $MAINPID", "{name}");
                continue;
            };
            let words = ["firewall"].into_iter().chain(arguments.split_whitespace());
            assert!(Cli::try_parse_from(words).is_ok(), "{name}: {line}");
        }
        assert_eq!(values(&unit, "Type"), ["notify"], "{name}");
        assert_eq!(values(&unit, "WatchdogSec"), ["20s"], "{name}");
        // What the program says of them is tested; these hold no privilege back that it needs.
        assert_eq!(values(&unit, "PrivateUsers"), [""; 0], "{name}");
        assert_eq!(values(&unit, "ExecStopPost"), [""; 0], "{name}");
    }
}

#[test]
fn the_socket_is_where_the_example_listens() {
    let socket = read("systemd/firewall.socket");
    let example: toml::Table = toml::from_str(config::EXAMPLE).unwrap();
    assert_eq!(values(&socket, "ListenStream"), [example["listen"]["address"].as_str().unwrap()]);
    let backlog = example["listen"]["backlog"].as_integer().unwrap();
    assert_eq!(values(&socket, "Backlog"), [backlog.to_string()]);
}

#[test]
fn units_hold_what_they_need_and_no_more() {
    for (name, capabilities, user, users) in [
        (
            "firewall.service",
            "CAP_BPF CAP_NET_ADMIN CAP_PERFMON CAP_NET_BIND_SERVICE",
            "firewall",
            "sysusers.d",
        ),
        (
            "split/firewall-loader.service",
            "CAP_BPF CAP_NET_ADMIN CAP_PERFMON",
            "firewall-loader",
            "split/sysusers.d",
        ),
        ("split/firewall-proxy.service", "", "firewall", "split/sysusers.d"),
    ] {
        let unit = read(&format!("systemd/{name}"));
        for (key, expected) in [
            ("AmbientCapabilities", capabilities),
            ("CapabilityBoundingSet", capabilities),
            ("User", user),
            ("Group", "firewall"),
            ("NoNewPrivileges", "yes"),
        ] {
            assert_eq!(values(&unit, key), [expected], "{name}");
        }
        let accounts = read(&format!("systemd/{users}/firewall.conf"));
        let is_made = |line: &str| line.split_whitespace().take(2).eq(["u", user]);
        assert!(accounts.lines().any(is_made), "{name}: {user}");
        // `@privileged` has bpf(2) in it: what comes later counts.
        let calls = values(&unit, "SystemCallFilter");
        assert_eq!(calls, ["@system-service", "~@privileged @resources", "bpf"], "{name}");
    }
}

#[test]
fn halves_meet() {
    let [loader, proxy] = ["loader", "proxy"].map(|half| {
        let unit = read(&format!("systemd/split/firewall-{half}.service"));
        let start = values(&unit, "ExecStart")[0].to_owned();
        (start.split_once("--loader ").unwrap().1.to_owned(), unit)
    });
    assert_eq!(loader.0, proxy.0);
    let directory = values(&loader.1, "RuntimeDirectory")[0];
    assert_eq!(loader.0, format!("/run/{directory}/loader.sock"));
    // The group may pass, and ask.
    assert_eq!(values(&loader.1, "RuntimeDirectoryMode"), ["0750"]);
    let pins = read("systemd/split/tmpfiles.d/firewall.conf");
    let pins = pins.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found: Vec<_> = pins.filter(|words| words.get(1) == Some(&kernel::PIN_DIR)).collect();
    assert_eq!(found, [["d", kernel::PIN_DIR, "0750", "firewall-loader", "firewall"]]);
    for (unit, other) in [(&loader.1, "firewall.service"), (&proxy.1, "firewall.service")] {
        assert_eq!(values(unit, "Conflicts"), [other]);
    }
}

/// Runs systemd-analyze; none, said aloud, where there is none.
fn analyze(test: &str, arguments: &[&str], unit: &Path) -> Option<(bool, String)> {
    let Ok(output) = Command::new("systemd-analyze").args(arguments).arg(unit).output() else {
        skipped(test, "there is no systemd-analyze (package systemd)");
        return None;
    };
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), said))
}

fn file_name(unit: &str) -> &str {
    unit.rsplit('/').next().unwrap()
}

#[test]
fn units_are_sound() {
    let scratch = Scratch::new();
    // Side by side, since they name each other; with the program where it is.
    for name in UNITS.into_iter().chain([SOCKET]) {
        let unit = read(&format!("systemd/{name}"));
        scratch.file(file_name(name), &unit.replace(PROGRAM, env!("CARGO_BIN_EXE_firewall")));
    }
    for name in UNITS.into_iter().chain([SOCKET]) {
        let unit = scratch.path().join(file_name(name));
        let Some((is_sound, text)) = analyze("deploy::units_are_sound", &["verify"], &unit) else {
            return;
        };
        assert!(is_sound && text.is_empty(), "{name}: {text}");
    }
}

#[test]
fn units_expose_little() {
    for name in UNITS {
        let unit = deploy("systemd").join(name);
        let arguments = ["security", "--offline=true", "--no-pager"];
        let Some((_, text)) = analyze("deploy::units_expose_little", &arguments, &unit) else {
            return;
        };
        let exposure: f64 = text
            .lines()
            .find_map(|line| line.split_once("Overall exposure level for ")?.1.split_once(": "))
            .and_then(|(_, level)| level.split_whitespace().next()?.parse().ok())
            .expect(&text);
        assert!(exposure <= EXPOSURE_MAX, "{name}: {exposure}\n{text}");
    }
}

fn manifest(path: &str) -> Value {
    serde_saphyr::from_str(&read(&format!("kubernetes/{path}"))).unwrap()
}

#[test]
fn the_daemon_set_is_on_the_host_and_confined() {
    let set = manifest("base/daemonset.yaml");
    let pod = &set["spec"]["template"]["spec"];
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    for (key, expected) in [
        ("hostNetwork", json!(true)),
        ("dnsPolicy", json!("ClusterFirstWithHostNet")),
        ("priorityClassName", json!("system-node-critical")),
        ("automountServiceAccountToken", json!(false)),
        ("tolerations", json!([{ "operator": "Exists" }])),
    ] {
        assert_eq!(pod[key], expected, "{key}");
    }
    // Draining must end by itself.
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 30);
    let firewall = &pod["containers"][0];
    let security = &firewall["securityContext"];
    let capabilities = json!({
        "drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON", "NET_BIND_SERVICE"]
    });
    assert_eq!(security["capabilities"], capabilities);
    for (key, expected) in [
        ("privileged", false),
        ("allowPrivilegeEscalation", false),
        ("readOnlyRootFilesystem", true),
    ] {
        assert_eq!(security[key], expected, "{key}");
    }
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    let arguments = words(&firewall["args"]);
    assert!(Cli::try_parse_from([vec!["firewall"], arguments].concat()).is_ok());
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let command = words(&firewall[probe]["exec"]["command"]);
        assert!(Cli::try_parse_from(command).is_ok(), "{probe}");
    }
}

#[test]
fn bpffs_is_the_nodes_own() {
    let set = manifest("base/daemonset.yaml");
    let pod = &set["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    let path = |name: &Value| {
        let volume = volumes.iter().find(|volume| &volume["name"] == name).unwrap();
        volume["hostPath"]["path"].as_str().map(str::to_owned)
    };
    let mount = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        for mount in mounts {
            assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
        }
        let mount = mounts.iter().find(|mount| mount["mountPath"] == "/sys/fs/bpf").unwrap();
        assert_eq!(path(&mount["name"]).as_deref(), Some("/sys/fs/bpf"));
        mount["mountPropagation"].clone()
    };
    // What the first mounts reaches the node, and from there the second.
    assert_eq!(mount(&pod["initContainers"][0]), "Bidirectional");
    assert_eq!(pod["initContainers"][0]["securityContext"]["privileged"], true);
    assert_eq!(mount(&pod["containers"][0]), "HostToContainer");
}

#[test]
fn kustomizations_name_what_there_is() {
    for folder in ["base", "overlays/privileged"] {
        let kustomization = manifest(&format!("{folder}/kustomization.yaml"));
        let resources = kustomization["resources"].as_array().into_iter().flatten();
        let patches = kustomization["patches"].as_array().into_iter().flatten();
        let paths = resources.chain(patches.map(|patch| &patch["path"]));
        for path in paths {
            let path = deploy("kubernetes").join(folder).join(path.as_str().unwrap());
            assert!(path.exists(), "{}", path.display());
        }
    }
    let patch = manifest("overlays/privileged/daemonset.yaml");
    let base = manifest("base/daemonset.yaml");
    assert_eq!(patch["metadata"]["name"], base["metadata"]["name"]);
    let container = |set: &Value| set["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(container(&patch)["name"], container(&base)["name"]);
    assert_eq!(container(&patch)["securityContext"]["privileged"], true);
}

#[test]
fn the_example_can_be_enforced() {
    let scratch = Scratch::new();
    let map = manifest("base/configmap.yaml");
    for (name, text) in map["data"].as_object().unwrap() {
        scratch.file(name, text.as_str().unwrap());
    }
    let output = Command::new(env!("CARGO_BIN_EXE_firewall"))
        .arg("check")
        .arg(scratch.path().join("firewall.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}
