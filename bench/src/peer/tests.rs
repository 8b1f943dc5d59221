//! Starting and stopping, shown with programs that every machine has.

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn is_running(pid: u32) -> bool {
    // A zombie has ended; where the test runs without an init that reaps, it stays one.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

#[test]
fn peer_that_ends_early_is_reported_with_its_last_words() {
    let scratch = Scratch::create("early").expect("a directory");
    let site = Site { scratch: &scratch, upstream: ([127, 0, 0, 1], 1).into(), cpu: None };
    let address = free_address().expect("an address");
    let started = Running::start("sh", shell("echo no such key; exit 3"), address, &site);
    let error = format!("{:#}", block_on(started).err().expect("an error"));
    assert!(error.contains("no such key"), "{error}");
    assert!(error.contains("ended before it was ready: exit status: 3"), "{error}");
}

#[test]
fn dropped_peer_leaves_no_process() {
    // The second shell does not heed the request to stop, as a stuck worker would not.
    for script in ["sleep 100 & echo $!; wait", "trap '' TERM; sleep 100 & echo $!; wait"] {
        let scratch = Scratch::create(&format!("drop-{}", script.len())).expect("a directory");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("listening");
        let address = listener.local_addr().expect("its address");
        let site = Site { scratch: &scratch, upstream: address, cpu: None };
        let running =
            block_on(Running::start("sh", shell(script), address, &site)).expect("started");
        let deadline = clock::monotonic() + Duration::from_secs(5);
        let child: u32 = loop {
            if let Ok(pid) = running.log_end().parse() {
                break pid;
            }
            assert!(clock::monotonic() < deadline, "{script}: its child's id");
            std::thread::yield_now();
        };
        let pids = [running.pid(), child];
        assert!(pids.iter().all(|pid| is_running(*pid)), "{script}");
        drop(running);
        while pids.iter().any(|pid| is_running(*pid)) {
            assert!(clock::monotonic() < deadline + STOPPED_WITHIN, "{script}: still running");
            std::thread::yield_now();
        }
    }
}

#[test]
fn scratch_directory_goes_with_its_owner() {
    let scratch = Scratch::create("scratch").expect("a directory");
    let file = scratch.write("a", "text").expect("written");
    assert!(file.is_file());
    drop(scratch);
    assert!(!file.exists());
}

#[test]
fn programs_are_found_in_the_path() {
    assert!(program("sh").is_some_and(|path| path.ends_with("sh")));
    assert_eq!(program("no-such-program-anywhere"), None);
}

#[test]
fn configurations_name_both_addresses() {
    let (listen, upstream) = (([127, 0, 0, 1], 11).into(), ([127, 0, 0, 1], 22).into());
    let (contract, admin) = (Path::new("/tmp/a \"b/c.yaml"), Path::new("/tmp/a b/admin.sock"));
    let firewall = firewall_config(listen, upstream, contract, admin).expect("text");
    assert!(firewall.contains("spec = \"/tmp/a \\\"b/c.yaml\""), "{firewall}");
    assert!(firewall.contains("address = \"127.0.0.1:11\""), "{firewall}");
    assert!(firewall.contains("upstream = \"http://127.0.0.1:22\""), "{firewall}");
    assert!(firewall.contains("socket = \"/tmp/a b/admin.sock\""), "{firewall}");
    let nginx = nginx_config("listen 127.0.0.1:11;", upstream, Path::new("/tmp/x"), "plain");
    assert!(nginx.contains(" listen 127.0.0.1:11;\n"), "{nginx}");
    assert!(nginx.contains("server 127.0.0.1:22;"), "{nginx}");
}
