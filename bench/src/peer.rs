//! The peers of a comparison: how each is found, started, told apart and stopped.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;

use crate::clock;
use crate::pin;
use crate::workload::{CONTRACT, Conduct, Door};

/// The name of the peer that the ratios are taken against.
pub(crate) const YARDSTICK: &str = "nginx";

/// How long a peer may take until it accepts connections.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How long a peer may take to stop before it is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(3);

/// One party that is asked.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// As its program prints it.
    pub(crate) version: String,
    pub(crate) door: Door,
    pub(crate) address: SocketAddr,
    pub(crate) conduct: Conduct,
    /// `None` for the upstream itself, asked without a proxy.
    pub(crate) running: Option<Running>,
}

impl Door {
    /// For the names of files.
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
        }
    }
}

/// What the peers of a run share.
pub(crate) struct Site<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) upstream: SocketAddr,
    /// The CPU that each proxy is kept on.
    pub(crate) cpu: Option<usize>,
}

/// What proves, of each peer, that it is one.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    chain: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// A certificate for this host's loopback address, with a key on P-256.
    pub(crate) fn create(scratch: &Scratch) -> anyhow::Result<Self> {
        let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let chain = scratch.write("bench.pem", &issued.cert.pem())?;
        let key = scratch.write("bench.key", &issued.signing_key.serialize_pem())?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        Ok(Self { certificate: issued.cert.der().clone(), chain, key })
    }
}

/// A peer's processes; they are stopped when this is dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

/// A directory that is removed when this is dropped.
pub(crate) struct Scratch(PathBuf);

impl Peer {
    /// The upstream without a proxy: what generator and upstream can do at most.
    pub(crate) fn direct(upstream: SocketAddr) -> Self {
        let version = format!("bench {}", env!("CARGO_PKG_VERSION"));
        Self {
            name: "no proxy",
            version,
            door: Door::Plain,
            address: upstream,
            conduct: Conduct::Passes,
            running: None,
        }
    }

    /// The firewall with one worker, the bench's contract enforced in both directions, and no
    /// access log.
    pub(crate) async fn firewall(
        program: &Path,
        door: Door,
        identity: &Identity,
        site: &Site<'_>,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let contract = site.scratch.write("contract.yaml", CONTRACT)?;
        let admin = site.scratch.path(&format!("admin-{}.sock", door.name()));
        let config = firewall_config(address, site.upstream, &contract, &admin)?;
        let config = match door {
            Door::Plain => config,
            Door::Tls => {
                let Identity { chain, key, .. } = identity;
                let [chain, key] = [serde_json::to_string(chain)?, serde_json::to_string(key)?];
                let certificate = format!("{{ chain = {chain}, key = {key} }}");
                config.replace(PLAINTEXT, &format!("tls.certificate = [{certificate}]\n"))
            }
        };
        let config = site.scratch.write(&format!("firewall-{}.toml", door.name()), &config)?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config);
        let version = version(Command::new(program).arg("--version"))?;
        let running =
            Running::start(&format!("firewall-{}", door.name()), command, address, site).await?;
        let conduct = Conduct::Refuses;
        Ok(Self { name: "firewall", version, door, address, conduct, running: Some(running) })
    }

    /// nginx with one worker as a plain proxy, kept-alive connections on both sides, and no access
    /// log.
    pub(crate) async fn nginx(
        program: &Path,
        door: Door,
        identity: &Identity,
        site: &Site<'_>,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let directory = &site.scratch.0;
        let listen = match door {
            Door::Plain => format!("listen {address};"),
            Door::Tls => {
                let Identity { chain, key, .. } = identity;
                let (chain, key) = (chain.display(), key.display());
                format!(
                    "listen {address} ssl http2; ssl_protocols TLSv1.2 TLSv1.3; \
                     ssl_certificate {chain}; ssl_certificate_key {key};"
                )
            }
        };
        let config = nginx_config(&listen, site.upstream, directory, door.name());
        let config = site.scratch.write(&format!("nginx-{}.conf", door.name()), &config)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(config);
        let version = version(Command::new(program).arg("-v"))?;
        let running =
            Running::start(&format!("{YARDSTICK}-{}", door.name()), command, address, site).await?;
        let conduct = Conduct::Passes;
        Ok(Self { name: YARDSTICK, version, door, address, conduct, running: Some(running) })
    }
}

/// What a listener says that has no certificate.
const PLAINTEXT: &str = "plaintext = true\n";

pub(crate) fn firewall_config(
    address: SocketAddr,
    upstream: SocketAddr,
    contract: &Path,
    admin: &Path,
) -> anyhow::Result<String> {
    // A JSON string is a TOML basic string for every path without a DEL character.
    let [contract, admin] = [serde_json::to_string(contract)?, serde_json::to_string(admin)?];
    Ok(format!(
        "[listen]\naddress = \"{address}\"\n{PLAINTEXT}workers = 1\n\n\
         [[api]]\nname = \"bench\"\nspec = {contract}\nupstream = \"http://{upstream}\"\n\n\
         [admin]\nsocket = {admin}\n\n\
         [log]\naccess = \"off\"\n"
    ))
}

fn nginx_config(listen: &str, upstream: SocketAddr, directory: &Path, name: &str) -> String {
    let directory = directory.display();
    // The limits on kept-alive requests are out of reach: reopening is not what is measured.
    format!(
        "daemon off;
worker_processes 1;
pid {directory}/nginx-{name}.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_buffer_size 128k;
  proxy_buffers 8 32k;
  client_body_temp_path {directory}/nginx-body;
  proxy_temp_path {directory}/nginx-proxy;
  fastcgi_temp_path {directory}/nginx-fastcgi;
  uwsgi_temp_path {directory}/nginx-uwsgi;
  scgi_temp_path {directory}/nginx-scgi;
  keepalive_requests 1000000000;
  upstream bench {{
    server {upstream};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    {listen}
    location / {{
      proxy_pass http://bench;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

impl Running {
    /// Starts the command in a process group of its own, and waits until `address` accepts.
    pub(crate) async fn start(
        name: &str,
        mut command: Command,
        address: SocketAddr,
        site: &Site<'_>,
    ) -> anyhow::Result<Self> {
        let log = site.scratch.path(&format!("{name}.log"));
        let output = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child =
            pin::spawn(&mut command, site.cpu).with_context(|| format!("starting {name}"))?;
        let mut running = Self { child, log };
        running.ready(address).await.with_context(|| format!("{name}\n{}", running.log_end()))?;
        Ok(running)
    }

    async fn ready(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = clock::monotonic() + READY_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("ended before it was ready: {status}");
            }
            if TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            anyhow::ensure!(clock::monotonic() < deadline, "not ready within {READY_WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that the peer wrote.
    pub(crate) fn log_end(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // By its group: a master that is killed alone leaves its workers behind.
        let group = Pid::from_child(&self.child);
        let asked = kill_process_group(group, Signal::TERM).is_ok();
        let deadline = clock::monotonic() + STOPPED_WITHIN;
        while asked && clock::monotonic() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Fails where it should: when no process of the group is left.
        kill_process_group(group, Signal::KILL).ok();
        if let Err(error) = self.child.wait() {
            eprintln!("waiting for process {}: {error}", self.child.id());
        }
    }
}

impl Scratch {
    /// A new directory below the system's temporary one.
    pub(crate) fn create(name: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("firewall-{name}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("removing {}: {error}", self.0.display());
        }
    }
}

/// The program of that name in `PATH`, or where Debian puts daemons, which `PATH` often lacks.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// A loopback address whose port nobody listens on now.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// The first line that the command prints, wherever it prints it.
fn version(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", output.status);
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests;
