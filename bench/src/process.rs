//! What a peer's processes have used, from `/proc` (proc(5)).

use std::collections::BTreeSet;
use std::fs;
use std::io;

use anyhow::Context;

/// One process, from its `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pid: u32,
    parent: u32,
    /// User and system time of the process and of its children that have been waited for, in
    /// clock ticks: a child that ends between two readings is still counted.
    cpu_ticks: u64,
}

/// What a process tree has used since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_ticks: u64,
    /// The sum of each process's own peak, in KiB; pages shared between processes count in each.
    pub(crate) peak_rss_kib: u64,
}

/// The clock ticks of one second of CPU time.
pub(crate) fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

impl Stat {
    /// Parses the file's text. The name in parentheses may hold spaces and parentheses itself, so
    /// the fields are counted from the last one.
    fn parse(text: &str) -> Option<Self> {
        let (pid, rest) = text.split_once(" (")?;
        let (_name, fields) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // proc(5) numbers pid 1, the name 2 and the state 3.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let parent = u32::try_from(number(4)?).ok()?;
        // utime, stime, cutime, cstime.
        let cpu_ticks = (14..=17).map(number).sum::<Option<u64>>()?;
        Some(Self { pid: pid.parse().ok()?, parent, cpu_ticks })
    }
}

/// The process `root` and all that descend from it.
fn tree(root: u32, processes: &[Stat]) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    let mut unvisited = vec![root];
    while let Some(parent) = unvisited.pop() {
        for child in processes.iter().filter(|process| process.parent == parent) {
            if found.insert(child.pid) {
                unvisited.push(child.pid);
            }
        }
    }
    found
}

/// The `VmHWM` of a `/proc/PID/status`, in KiB; a zombie has none.
fn peak_rss_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

/// The peak of one process up to now, in KiB; none where it is gone.
pub(crate) fn peak_rss_kib_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    peak_rss_kib(&status)
}

/// What `root` and its descendants have used up to now.
pub(crate) fn usage(root: u32) -> anyhow::Result<Usage> {
    let processes = running().context("reading /proc")?;
    let tree = tree(root, &processes);
    anyhow::ensure!(processes.iter().any(|process| process.pid == root), "process {root} is gone");
    let mut usage = Usage::default();
    for process in processes.iter().filter(|process| tree.contains(&process.pid)) {
        usage.cpu_ticks += process.cpu_ticks;
        usage.peak_rss_kib += peak_rss_kib_of(process.pid).unwrap_or(0);
    }
    Ok(usage)
}

/// Fails if a thread of `root` or of its descendants may run on another CPU than this one.
pub(crate) fn ensure_on(root: u32, cpu: usize) -> anyhow::Result<()> {
    for pid in tree(root, &running().context("reading /proc")?) {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).context("reading the threads")?;
        for thread in threads {
            // A thread may end between the listing and the reading.
            let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let allowed = allowed.context("a status without its CPUs")?.trim();
            anyhow::ensure!(allowed == cpu.to_string(), "a thread of {pid} runs on CPU {allowed}");
        }
    }
    Ok(())
}

fn running() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        // A process may end between the listing and the reading.
        if is_process && let Ok(text) = fs::read_to_string(entry.path().join("stat")) {
            found.extend(Stat::parse(&text));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const REST: &str = "4194304 812 0 3 0 120 34 5 6 20 0 1 0 8815 8622080 2213";

    #[test]
    fn stat_is_read_from_behind_the_name() {
        for name in ["nginx", "a b", "(sd-pam)", "x) S 1 (y", ")", "", ") R 9 9 9"] {
            let text = format!("731 ({name}) S 12 731 731 0 -1 {REST}\n");
            let expected = Stat { pid: 731, parent: 12, cpu_ticks: 120 + 34 + 5 + 6 };
            assert_eq!(Stat::parse(&text), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn stat_cut_short_is_nothing() {
        let text = format!("731 (nginx) S 12 731 731 0 -1 {REST}");
        let last_needed = text.find(" 20 0 1").expect("the field after cstime");
        for end in 0..last_needed - 1 {
            assert_eq!(Stat::parse(&text[..end]), None, "{:?}", &text[..end]);
        }
        assert!(Stat::parse(&text[..last_needed]).is_some());
    }

    #[test]
    fn stat_of_this_process_is_read() {
        let text = fs::read_to_string("/proc/self/stat").expect("a stat file");
        let stat = Stat::parse(&text).expect(&text);
        assert_eq!(stat.pid, std::process::id());
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
    }

    #[test]
    fn tree_holds_descendants_and_no_one_else() {
        let process = |pid, parent| Stat { pid, parent, cpu_ticks: 0 };
        let processes = [process(1, 0), process(5, 1), process(4, 5), process(9, 4), process(6, 1)];
        let cases: &[(u32, &[u32])] =
            &[(5, &[4, 5, 9]), (9, &[9]), (1, &[1, 4, 5, 6, 9]), (77, &[77])];
        for (root, expected) in cases {
            assert_eq!(tree(*root, &processes), expected.iter().copied().collect(), "{root}");
        }
    }

    #[test]
    fn tree_of_a_cycle_ends() {
        // A pid that was given anew while /proc was read can look so.
        let process = |pid, parent| Stat { pid, parent, cpu_ticks: 0 };
        assert_eq!(tree(2, &[process(2, 3), process(3, 2)]), BTreeSet::from([2, 3]));
    }

    #[test]
    fn peak_is_read_from_status() {
        let cases = [
            ("Name:\tnginx\nVmHWM:\t    6420 kB\nVmRSS:\t 100 kB\n", Some(6420)),
            ("Name:\tVmHWM: 1 kB\n", None),
            ("VmHWM:\t x kB\n", None),
            ("VmHWM:\t 6420 MB\n", None),
            ("", None),
        ];
        for (status, expected) in cases {
            assert_eq!(peak_rss_kib(status), expected, "{status:?}");
        }
    }

    #[test]
    fn usage_counts_what_a_child_burned() {
        // The shell works in a child of its own, and both are there until its input ends.
        let script =
            "sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo; read x'; read x";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut done = [0];
        let mut output = shell.stdout.take().expect("an output");
        io::Read::read_exact(&mut output, &mut done).expect("the loop's end");
        let usage = usage(shell.id()).expect("a usage");
        drop(shell.stdin.take());
        shell.wait().expect("its end");
        assert!(usage.cpu_ticks >= 1, "{usage:?}");
        assert!(usage.peak_rss_kib > 200, "{usage:?}");
    }

    #[test]
    fn process_that_may_run_elsewhere_is_found() {
        let status = fs::read_to_string("/proc/self/status").expect("a status");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let digits = |c: char| !c.is_ascii_digit();
        let cpu = allowed.and_then(|list| list.trim().split(digits).next()?.parse().ok());
        let cpu: usize = cpu.expect("the first allowed CPU");
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'read x'; read x"]).stdin(Stdio::piped());
        let mut shell = crate::pin::spawn(&mut command, Some(cpu)).expect("a shell");
        let (right, wrong) = (ensure_on(shell.id(), cpu), ensure_on(shell.id(), cpu + 1));
        drop(shell.stdin.take());
        shell.wait().expect("its end");
        assert!(right.is_ok(), "{right:?}");
        let error = wrong.expect_err("another CPU").to_string();
        assert!(error.ends_with(&format!("runs on CPU {cpu}")), "{error}");
    }

    #[test]
    fn usage_of_a_process_that_ended_is_an_error() {
        let mut child = Command::new("true").spawn().expect("a child");
        child.wait().expect("its end");
        assert!(usage(child.id()).is_err());
    }
}
