//! Files that make a server, and files that do not; names, versions and sessions by handshakes in memory.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption as ClientResumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::*;
use crate::tls::session::Session;

/// A directory that is removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("firewall-tls-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key, as PEM.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn options(certificates: Vec<CertificateFiles>) -> ServerOptions {
    ServerOptions {
        certificates,
        preset: Preset::Standard,
        unknown_name: UnknownName::Default,
        client_certificates: ClientCertificates::Off,
        client_ca: None,
        client_crls: Vec::new(),
        resumption: true,
        alpn: vec![b"http/1.1".to_vec()],
    }
}

fn files(chain: &Path, key: &Path) -> CertificateFiles {
    CertificateFiles { chain: chain.into(), key: key.into(), ocsp: None }
}

fn problem(chain: &Path, key: &Path) -> String {
    let loaded = Server::load(&options(vec![files(chain, key)]), None);
    loaded.map_or_else(|error| crate::causes::Causes(&error).to_string(), |_| String::new())
}

#[test]
fn files_that_belong_together_and_files_that_do_not() {
    let (folder, ca, other_ca) = (Folder::new(), Authority::new("one"), Authority::new("two"));
    let (leaf, key) = ca.issue(&["api.example"]);
    let (other, other_key) = ca.issue(&["other.example"]);
    let chain = folder.file("chain", &leaf, 0o644);
    let good = folder.file("key", &key, 0o640);
    for (sound, mode) in [(&key, 0o600), (&key, 0o640), (&key, 0o660)] {
        assert_eq!(problem(&chain, &folder.file("other", sound, mode)), "", "{mode:o}");
    }
    assert_eq!(problem(&folder.file("c", &(leaf.clone() + &ca.pem), 0o644), &good), "");
    // Whatever else is in it is passed over, as it is by others.
    assert_eq!(problem(&folder.file("c", &format!("# text\n{leaf}"), 0o644), &good), "");

    for (name, chain_text, key_text, mode, part) in [
        ("another's key", leaf.as_str(), other_key.as_str(), 0o600, "not the key of"),
        ("readable by all", &leaf, &key, 0o644, "others than its owner"),
        ("writable by all", &leaf, &key, 0o602, "others than its owner"),
        ("no key", &leaf, &leaf, 0o600, "no private key"),
        ("two keys", &leaf, &(key.clone() + &other_key), 0o600, "two private keys"),
        ("no certificate", &key, &key, 0o600, "no certificate"),
        ("nothing", "", &key, 0o600, "no certificate"),
        ("another's issuer", &(leaf.clone() + &other_ca.pem), &key, 0o600, "not the issuer"),
        ("the wrong way round", &(ca.pem.clone() + &leaf), &key, 0o600, "not the issuer"),
        ("two leaves", &(leaf.clone() + &other), &key, 0o600, "not the issuer"),
        (
            "encrypted",
            &leaf,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            0o600,
            "encrypted",
        ),
        (
            "no DER",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
            0o600,
            "certificate 1",
        ),
        (
            "no key's DER",
            &leaf,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            0o600,
            "cannot be used",
        ),
    ] {
        let chain = folder.file("chain-of-it", chain_text, 0o644);
        let key = folder.file("key-of-it", key_text, mode);
        let said = problem(&chain, &key);
        assert!(said.contains(part) && said.contains("-of-it"), "{name}: {said}");
        assert!(!said.contains("AAAA"), "{name}: nothing of the content is told");
    }
    assert!(problem(&folder.0.join("none"), &good).contains("cannot read"));
    assert!(problem(&chain, &folder.0.join("none")).contains("none"));
}

struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    fn new(ca: &Authority, versions: &[&'static SupportedProtocolVersion]) -> Self {
        Self::showing(ca, versions, None)
    }

    /// One with a certificate and key of its own.
    fn showing(
        ca: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<(String, String)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap();
        roots.add(der).unwrap();
        let builder = ClientConfig::builder_with_provider(provider());
        let builder =
            builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((leaf, key)) => {
                let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![leaf], key).unwrap()
            }
        };
        config.resumption = ClientResumption::in_memory_sessions(4);
        Self { config: config.into() }
    }

    /// A handshake in memory, and one record each way; gives its kind as the server sees it.
    fn meets(&self, server: &Server, name: &str) -> Result<HandshakeKind, rustls::Error> {
        let connection = self.connects(server, name)?;
        Ok(connection.handshake_kind().expect("a whole handshake"))
    }

    fn connects(&self, server: &Server, name: &str) -> Result<ServerConnection, rustls::Error> {
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::clone(&self.config), name)?;
        let mut server = ServerConnection::new(Arc::clone(server.config()))?;
        for _ in 0..8 {
            let mut octets = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut octets).unwrap();
            }
            let mut rest = &octets[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets()?;
            }
            let mut octets = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut octets).unwrap();
            }
            let mut rest = &octets[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(server)
    }
}

fn issued(folder: &Folder, ca: &Authority, name: &str, names: &[&str]) -> CertificateFiles {
    let (leaf, key) = ca.issue(names);
    let chain = folder.file(&format!("{name}.pem"), &leaf, 0o644);
    files(&chain, &folder.file(&format!("{name}.key"), &key, 0o600))
}

#[test]
fn the_name_chooses_the_certificate() {
    let (folder, ca) = (Folder::new(), Authority::new("one"));
    let client = Client::new(&ca, &[&version::TLS13, &version::TLS12]);
    let certificates = vec![
        issued(&folder, &ca, "first", &["api.example", "www.example"]),
        issued(&folder, &ca, "wild", &["*.wild.example"]),
        issued(&folder, &ca, "exact", &["one.wild.example"]),
    ];
    let server = Server::load(&options(certificates), None).unwrap();
    for name in ["api.example", "API.example", "www.example", "a.wild.example", "one.wild.example"]
    {
        assert!(client.meets(&server, name).is_ok(), "{name}");
        assert!(server.certificates.are_for(name), "{name}");
    }
    // The first one answers, and is for other names: so the client refuses it.
    for name in ["other.example", "wild.example", "a.b.wild.example"] {
        let refused = client.meets(&server, name).unwrap_err();
        assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{name}: {refused}");
        assert!(!server.certificates.are_for(name), "{name}");
    }
    assert_eq!(server.expiries().count(), 3);
}

#[test]
fn presets_choose_versions_and_suites() {
    let (folder, ca) = (Folder::new(), Authority::new("one"));
    let files = issued(&folder, &ca, "a", &["api.example"]);
    let (latest, both) =
        (Client::new(&ca, &[&version::TLS13]), Client::new(&ca, &[&version::TLS12]));
    for (preset, takes_12) in
        [(Preset::Standard, true), (Preset::Fapi2, true), (Preset::Modern, false)]
    {
        let options = ServerOptions { preset, ..options(vec![files.clone()]) };
        let server = Server::load(&options, None).unwrap();
        assert!(latest.meets(&server, "api.example").is_ok(), "{preset:?}");
        assert_eq!(both.meets(&server, "api.example").is_ok(), takes_12, "{preset:?}");
    }
    for suite in suites(Preset::Fapi2) {
        let name = suite.suite().as_str().unwrap();
        let is_allowed = name.starts_with("TLS13_")
            || (name.starts_with("TLS_ECDHE_") && name.contains("_GCM_"));
        assert!(is_allowed, "{name}");
    }
}

#[test]
fn sessions_outlive_a_reload_and_no_change_of_who_may_come() {
    let (folder, ca) = (Folder::new(), Authority::new("one"));
    let files = issued(&folder, &ca, "a", &["api.example"]);
    for version in [&version::TLS13, &version::TLS12] {
        let plain = options(vec![files.clone()]);
        let client = Client::new(&ca, &[version]);
        let first = Server::load(&plain, None).unwrap();
        assert_eq!(client.meets(&first, "api.example"), Ok(HandshakeKind::Full));
        assert_eq!(client.meets(&first, "api.example"), Ok(HandshakeKind::Resumed));
        let second = Server::load(&plain, Some(&first)).unwrap();
        assert_eq!(client.meets(&second, "api.example"), Ok(HandshakeKind::Resumed));

        let ca_file = folder.file("ca.pem", &ca.pem, 0o644);
        let asking = ServerOptions {
            client_certificates: ClientCertificates::Optional,
            client_ca: Some(ca_file),
            ..plain.clone()
        };
        let third = Server::load(&asking, Some(&second)).unwrap();
        assert_eq!(client.meets(&third, "api.example"), Ok(HandshakeKind::Full));
        let without = ServerOptions { resumption: false, ..plain };
        let fourth = Server::load(&without, Some(&second)).unwrap();
        for _ in 0..2 {
            assert_eq!(client.meets(&fourth, "api.example"), Ok(HandshakeKind::Full));
        }
    }
}

#[test]
fn what_was_shown_is_verified_again() {
    use ClientCertificates::{Off, Optional, Required};

    let (folder, ca, other) = (Folder::new(), Authority::new("one"), Authority::new("two"));
    let files = issued(&folder, &ca, "a", &["api.example"]);
    let [ca_file, other_file] = [("ca.pem", &ca), ("other.pem", &other)]
        .map(|(name, ca)| folder.file(name, &ca.pem, 0o644));
    let with = |client_certificates, authority: Option<&PathBuf>| {
        let client_ca = authority.cloned();
        let options =
            ServerOptions { client_certificates, client_ca, ..options(vec![files.clone()]) };
        Server::load(&options, None).unwrap()
    };
    let (off, optional) = (with(Off, None), with(Optional, Some(&ca_file)));
    let (required, elsewhere) = (with(Required, Some(&ca_file)), with(Optional, Some(&other_file)));
    let begun = UnixTime::now();
    let after = |seconds| {
        let since = begun.as_secs() + seconds;
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(since))
    };
    let (soon, late) = (after(1), after(100_000_000_000));
    for version in [&version::TLS13, &version::TLS12] {
        let mute = Client::new(&ca, &[version]);
        let of = |client: &Client, server: &Server| {
            Session::of(&client.connects(server, "api.example").unwrap(), None, server)
        };
        let (plain, asked) = (of(&mute, &off), of(&mute, &optional));
        for (server, expected) in [(&off, true), (&optional, true), (&required, false)] {
            for session in [&plain, &asked] {
                assert_eq!(session.is_accepted_at(server, soon), expected, "{server:?}");
            }
        }

        let shows = Client::showing(&ca, &[version], Some(ca.issue(&["client.example"])));
        let [full, resumed] = [(); 2].map(|()| of(&shows, &required));
        assert!(!full.is_resumed && resumed.is_resumed);
        for session in [full, resumed] {
            for (server, time, expected) in [
                (&required, soon, true),
                (&elsewhere, soon, false),
                (&elsewhere, soon, false),
                (&required, soon, true),
                (&required, late, false),
                (&off, late, true),
                (&optional, soon, true),
            ] {
                assert_eq!(session.is_accepted_at(server, time), expected, "{server:?} {time:?}");
            }
        }
    }
}

#[test]
fn the_policy_is_of_what_was_read() {
    let (folder, ca) = (Folder::new(), Authority::new("one"));
    let files = issued(&folder, &ca, "a", &["api.example"]);
    let policy = |authority: PathBuf| {
        let asking = ServerOptions {
            client_certificates: ClientCertificates::Required,
            client_ca: Some(authority),
            ..options(vec![files.clone()])
        };
        Server::load(&asking, None).unwrap().policy()
    };
    let read_often = policy(folder.file("ca.pem", &ca.pem, 0o644));
    // What a pipe holds can be read once.
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(ca.pem.as_bytes()).unwrap();
    drop(writer);
    let read_once = policy(format!("/proc/self/fd/{}", reader.as_raw_fd()).into());
    assert_eq!(read_once, read_often);
    let other = folder.file("other.pem", &Authority::new("two").pem, 0o644);
    assert_ne!(policy(other), read_often);
}

#[test]
fn authorities_and_lists_that_are_none() {
    let (folder, ca) = (Folder::new(), Authority::new("one"));
    let files = issued(&folder, &ca, "a", &["api.example"]);
    let with = |ca: PathBuf, crls: Vec<PathBuf>| {
        let options = ServerOptions {
            client_certificates: ClientCertificates::Required,
            client_ca: Some(ca),
            client_crls: crls,
            ..options(vec![files.clone()])
        };
        Server::load(&options, None).map_err(|error| crate::causes::Causes(&error).to_string())
    };
    let sound = folder.file("ca.pem", &ca.pem, 0o644);
    assert!(with(sound.clone(), Vec::new()).unwrap().binds_names());
    let said = with(folder.file("key.pem", "no PEM", 0o644), Vec::new()).unwrap_err();
    assert!(said.contains("key.pem: no certificate"), "{said}");
    let said = with(sound, vec![folder.file("crl.pem", &ca.pem, 0o644)]).unwrap_err();
    assert!(said.contains("crl.pem: no certificate revocation list"), "{said}");
}
