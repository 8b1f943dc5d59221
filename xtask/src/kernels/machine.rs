//! One virtual machine: qemu, from its start to its end, which always comes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::guest;
use crate::end::End;
use crate::report::{Stopwatch, say};

const QEMU: &str = "qemu-system-x86_64";
/// A machine that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(15);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const MEMORY_MIB: u32 = 2048;
/// Of the console of a machine that failed.
const LINES_SHOWN: usize = 40;

/// Installs qemu by apt where it is missing, and says so.
pub(super) fn install() -> Result<()> {
    if Command::new(QEMU).arg("--version").stdout(Stdio::null()).status().is_ok() {
        return Ok(());
    }
    say("installing qemu-system-x86 by apt");
    for arguments in [
        ["update", "-qq"].as_slice(),
        &["install", "-y", "-qq", "--no-install-recommends", "qemu-system-x86"],
    ] {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .context("there is no qemu, and no apt-get to install it with")?;
        ensure!(status.success(), "apt-get {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// Boots the kernel `image` with `archive` in memory, runs `tests` there, and gives what they wrote.
pub(super) fn boot(
    image: &Path,
    archive: &Path,
    folder: &Path,
    tests: &[&str],
    end: &End,
) -> Result<String> {
    let (console, results) = (folder.join("console"), folder.join("results"));
    let line = |path: &Path| format!("file:{}", path.display());
    // Without `no_timer_check` emulated machines now and then find that their timer does not work.
    // What follows `--` is for the first process.
    let kernel_line = format!(
        "console=ttyS0 quiet no_timer_check panic=-1 rdinit={} -- kernel-guest {}",
        guest::INIT,
        tests.join(" ")
    );
    let mut command = Command::new(QEMU);
    command
        // Emulated even where there is KVM: inside of another virtual machine that may hang, and
        // the verifier's work is the same.
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "1"])
        .args(["-m", &MEMORY_MIB.to_string()])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-net", "none", "-serial", &line(&console), "-serial", &line(&results)])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", &kernel_line])
        .stdin(Stdio::null())
        .stderr(fs::File::create(folder.join("qemu"))?);
    let mut machine = Running(command.spawn().context("starting qemu")?);
    let ended = machine.wait(end);
    drop(machine);
    let text = |path| fs::read(path).map(|log| String::from_utf8_lossy(&log).replace('\r', ""));
    let log = text(results)?;
    let is_done = log.lines().any(|line| line.starts_with(guest::ENDED));
    if ended.is_err() || !is_done {
        let console = text(console)? + &text(folder.join("qemu"))?;
        for text in [&console, &log] {
            let lines: Vec<&str> = text.lines().collect();
            let hidden = lines.len().saturating_sub(LINES_SHOWN);
            say(lines.get(hidden..).unwrap_or_default().join("\n"));
        }
    }
    ended?;
    ensure!(is_done, "the machine ended before its tests did");
    Ok(log)
}

struct Running(Child);

impl Running {
    fn wait(&mut self, end: &End) -> Result<()> {
        let waiting = Stopwatch::start();
        loop {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "qemu ended with {status}");
                return Ok(());
            }
            end.not_yet()?;
            if waiting.elapsed() > PATIENCE {
                bail!("the machine did not end within {PATIENCE:?}");
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
