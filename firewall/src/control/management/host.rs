//! What a host's files say of those whom it depends on: gateways, name servers, who is logged in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::sockets::{established, gateways_v4, gateways_v6};

/// Files are a few kilobytes; a table of a million sockets is read no further.
const FILE_OCTETS_MAX: u64 = 64 << 20;
/// Files of one directory that are looked at.
const FILES_MAX: usize = 4_096;
const SSH_PORT: u16 = 22;

/// The gateways of the main table's default routes.
pub(super) fn gateways(root: &Path) -> Vec<IpAddr> {
    let mut gateways = gateways_v4(&text(root, "proc/self/net/route"));
    gateways.extend(gateways_v6(&text(root, "proc/self/net/ipv6_route")));
    gateways
}

/// The name servers of `resolv.conf`, and those behind systemd's stub resolver.
pub(super) fn name_servers(root: &Path) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for file in ["etc/resolv.conf", "run/systemd/resolve/resolv.conf"] {
        servers.extend(text(root, file).lines().filter_map(name_server));
    }
    servers
}

fn name_server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    if words.next()? != "nameserver" {
        return None;
    }
    // A link-local address may name its interface: fe80::1%eth0.
    let address = words.next()?.split('%').next()?;
    address.parse().ok()
}

/// Those whose SSH session must go on: whoever started this process, and the peers of established
/// connections to the SSH server.
///
/// Anybody can open such a connection. Where the host keeps records of sessions, as with
/// systemd-logind, only peers with one count: who is logged in, not who is guessing passwords.
pub(super) fn ssh_peers(root: &Path, ssh_connection: Option<&str>) -> Vec<IpAddr> {
    // Client, client's port, server, server's port.
    let words: Vec<&str> = ssh_connection.unwrap_or_default().split_ascii_whitespace().collect();
    let parsed = |word: &str| word.split('%').next()?.parse::<IpAddr>().ok();
    let mut peers: BTreeSet<IpAddr> =
        words.first().and_then(|word| parsed(word)).into_iter().collect();
    let mut ports = ssh_ports(root);
    ports.extend(words.get(3).and_then(|port| port.parse::<u16>().ok()));
    let mut connected = BTreeSet::new();
    for table in ["proc/self/net/tcp", "proc/self/net/tcp6"] {
        connected.extend(established(&text(root, table), &ports));
    }
    match sessions(root) {
        Some(sessions) => peers.extend(connected.intersection(&sessions)),
        None => peers.extend(connected),
    }
    peers.into_iter().collect()
}

/// The ports that `sshd_config` and the files beside it name; 22 if none does.
fn ssh_ports(root: &Path) -> Vec<u16> {
    let mut configurations = vec![text(root, "etc/ssh/sshd_config")];
    for name in names(&root.join("etc/ssh/sshd_config.d")).unwrap_or_default() {
        configurations.push(text(root, &format!("etc/ssh/sshd_config.d/{name}")));
    }
    let ports = configurations.iter().flat_map(|text| text.lines()).filter_map(ssh_port);
    let mut ports: Vec<u16> = ports.collect();
    if ports.is_empty() {
        ports.push(SSH_PORT);
    }
    ports
}

fn ssh_port(line: &str) -> Option<u16> {
    let mut words = line.split(|c: char| c.is_ascii_whitespace() || c == '=');
    let mut words = words.by_ref().filter(|word| !word.is_empty());
    let (keyword, value) = (words.next()?, words.next()?);
    if keyword.eq_ignore_ascii_case("port") {
        return value.parse().ok();
    }
    if keyword.eq_ignore_ascii_case("listenaddress") {
        // `host:port`, `[address]:port`; an IPv6 address without brackets has no port.
        let (host, port) = value.rsplit_once(':')?;
        let has_port = !host.contains(':') || host.ends_with(']');
        return has_port.then(|| port.parse().ok())?;
    }
    None
}

/// The remote addresses of systemd-logind's sessions; none where nobody keeps such records.
fn sessions(root: &Path) -> Option<BTreeSet<IpAddr>> {
    let directory = root.join("run/systemd/sessions");
    let remote = |name: String| {
        let session = text(root, &format!("run/systemd/sessions/{name}"));
        let host = session.lines().find_map(|line| line.strip_prefix("REMOTE_HOST="))?;
        let address = host.trim_matches('"').split('%').next()?.parse::<IpAddr>().ok()?;
        Some(address.to_canonical())
    };
    Some(names(&directory)?.into_iter().filter_map(remote).collect())
}

/// The names of a directory's files, in order; none if it cannot be read.
fn names(directory: &Path) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(directory).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.take(FILES_MAX).collect();
    names.sort_unstable();
    Some(names)
}

/// A file's text; empty if it is missing, too large for what it is, or no text.
fn text(root: &Path, path: &str) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(root.join(path));
    let read = file.and_then(|file| file.take(FILE_OCTETS_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => text,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(%error, path, "not read for the management allowlist");
            }
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host's files in a directory of their own.
    struct Host(std::path::PathBuf);

    impl Host {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("fw-host-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn texts(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    fn socket(peer: [u8; 4], port: u16) -> String {
        let peer = u32::from_ne_bytes(peer);
        format!("   0: 0100000A:{port:04X} {peer:08X}:C350 01 0:0\n")
    }

    #[test]
    fn name_servers_as_written() {
        let resolv = "# by hand\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch a.example\n\
                      nameserver\nnameserver x\n;nameserver 192.0.2.54\n nameserver  2001:db8::53 # b";
        let host = Host::new("dns", &[("etc/resolv.conf", resolv)]);
        assert_eq!(texts(&name_servers(&host.0)), ["192.0.2.53", "fe80::1", "2001:db8::53"]);
    }

    #[test]
    fn nothing_is_found_where_nothing_is_shown() {
        let host = Host::new("none", &[]);
        assert_eq!(gateways(&host.0), [] as [IpAddr; 0]);
        assert_eq!(name_servers(&host.0), [] as [IpAddr; 0]);
        assert_eq!(ssh_peers(&host.0, None), [] as [IpAddr; 0]);
        assert_eq!(texts(&ssh_peers(&host.0, Some("192.0.2.7 1 10.0.0.1 22"))), ["192.0.2.7"]);
        assert_eq!(ssh_peers(&host.0, Some("x")), [] as [IpAddr; 0]);
    }

    #[test]
    fn peers_are_those_of_the_servers_ports() {
        let table = "head\n".to_owned()
            + &socket([192, 0, 2, 1], 22)
            + &socket([192, 0, 2, 2], 2222)
            + &socket([192, 0, 2, 3], 443);
        let tcp = ("proc/self/net/tcp", table.as_str());
        let host = Host::new("ports-default", &[tcp]);
        assert_eq!(texts(&ssh_peers(&host.0, None)), ["192.0.2.1"]);
        let connection = "192.0.2.9 50000 10.0.0.1 443";
        let both = ["192.0.2.1", "192.0.2.3", "192.0.2.9"];
        assert_eq!(texts(&ssh_peers(&host.0, Some(connection))), both);
        let host = Host::new(
            "ports",
            &[
                tcp,
                ("etc/ssh/sshd_config", "#Port 443\nPort 2222\n"),
                (
                    "etc/ssh/sshd_config.d/a.conf",
                    "ListenAddress [::]:22\nListenAddress 2001:db8::443",
                ),
            ],
        );
        assert_eq!(texts(&ssh_peers(&host.0, None)), ["192.0.2.1", "192.0.2.2"]);
    }

    #[test]
    fn who_guesses_passwords_is_not_logged_in() {
        let table = "head\n".to_owned() + &socket([192, 0, 2, 1], 22) + &socket([192, 0, 2, 2], 22);
        let host = Host::new(
            "sessions",
            &[
                ("proc/self/net/tcp", &table),
                ("run/systemd/sessions/4", "UID=0\nREMOTE=1\nREMOTE_HOST=192.0.2.1\n"),
                // Logged in once; the connection is gone.
                ("run/systemd/sessions/5", "REMOTE_HOST=192.0.2.3\n"),
                ("run/systemd/sessions/6", "REMOTE=0\n"),
                ("run/systemd/sessions/7", "REMOTE_HOST=a.example\n"),
            ],
        );
        assert_eq!(texts(&ssh_peers(&host.0, None)), ["192.0.2.1"]);
    }
}
