//! Files that can be used, and that cannot.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A directory of the test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("firewall-upstream-tls-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A certificate that signs for itself, and its key.
fn issued() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["api.test".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn what_is_made_of_the_same_files_is_the_same() {
    let folder = Folder::new("same");
    let (chain, key) = issued();
    let ca = Some(folder.file("ca.pem", &chain));
    let identity = Some((folder.file("own.pem", &chain), folder.file("own.key", &key)));
    let only_ca = TlsSettings { ca, ..TlsSettings::default() };
    let both = TlsSettings { identity, ..only_ca.clone() };
    let named = TlsSettings { server_name: Some("api.test".into()), ..only_ca.clone() };
    let load = |settings: &TlsSettings| UpstreamTls::load(settings).unwrap();
    assert_eq!(load(&both), load(&both));
    assert_ne!(load(&both), load(&only_ca));
    assert_ne!(load(&named), load(&only_ca));
    assert_eq!(load(&both).files().len(), 3);
    let before = load(&only_ca);
    folder.file("ca.pem", &issued().0);
    assert_ne!(load(&only_ca), before, "what is in the files counts, not their names");
}

#[test]
fn what_cannot_be_used_is_told() {
    let folder = Folder::new("unusable");
    let (chain, key) = issued();
    let ca = folder.file("ca.pem", &chain);
    let sound = TlsSettings { ca: Some(ca.clone()), ..TlsSettings::default() };
    let with_ca = |path: PathBuf| TlsSettings { ca: Some(path), ..TlsSettings::default() };
    let with_identity = |chain: PathBuf, key: PathBuf| TlsSettings {
        identity: Some((chain, key)),
        ..sound.clone()
    };
    let others = folder.file("others.key", &issued().1);
    let public = folder.file("public.key", &key);
    std::fs::set_permissions(&public, std::fs::Permissions::from_mode(0o644)).unwrap();
    for (settings, part) in [
        (with_ca(folder.0.join("absent.pem")), "cannot read"),
        (with_ca(folder.file("key.pem", &key)), "no certificate"),
        (TlsSettings { server_name: Some("not a name".into()), ..sound.clone() }, "server_name"),
        (with_identity(ca.clone(), others), "certificate and key"),
        (with_identity(ca, public), "chmod"),
    ] {
        let error = UpstreamTls::load(&settings).unwrap_err();
        let text = crate::causes::Causes(&error).to_string();
        assert!(text.contains(part), "{part}: {text}");
    }
}
