//! Which CPU each party of a measurement runs on.

use std::io;
use std::process::{Child, Command};

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// One CPU for the proxy under test, another for the load generator and the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Placement {
    pub(crate) proxy: usize,
    pub(crate) load: usize,
}

impl Placement {
    /// The first two CPUs that this process may run on; `None` if there is only one.
    pub(crate) fn choose() -> io::Result<Option<Self>> {
        let allowed = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        Ok(cpus.next().zip(cpus.next()).map(|(proxy, load)| Self { proxy, load }))
    }
}

/// Keeps the calling thread, and what it starts from now on, on this CPU.
pub(crate) fn this_thread(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    anyhow::ensure!(cpu < CpuSet::MAX_CPU, "CPU {cpu} is beyond {}", CpuSet::MAX_CPU);
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("pinning to CPU {cpu}"))
}

/// Starts the command on this CPU alone, if one is given.
pub(crate) fn spawn(command: &mut Command, cpu: Option<usize>) -> anyhow::Result<Child> {
    let Some(cpu) = cpu else { return Ok(command.spawn()?) };
    // A child inherits the mask of the thread that starts it: a thread that ends right after
    // needs neither `unsafe` between fork and exec nor a mask to put back.
    std::thread::scope(|scope| {
        let spawned = scope.spawn(|| {
            this_thread(cpu)?;
            Ok(command.spawn()?)
        });
        spawned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn spawned_process_is_pinned_and_this_thread_is_not() {
        let before = sched_getaffinity(None).expect("a mask");
        let cpu = (0..CpuSet::MAX_CPU).rfind(|cpu| before.is_set(*cpu)).expect("a CPU");
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        let output = spawn(&mut command, Some(cpu)).and_then(|child| Ok(child.wait_with_output()?));
        let status = String::from_utf8(output.expect("an output").stdout).expect("text");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
        assert_eq!(allowed, Some(cpu.to_string().as_str()));
        assert!(before == sched_getaffinity(None).expect("a mask"));
    }

    #[test]
    fn cpu_beyond_the_set_is_refused() {
        let refused = this_thread(CpuSet::MAX_CPU).expect_err("no such CPU");
        assert!(refused.to_string().contains("is beyond"), "{refused}");
    }
}
