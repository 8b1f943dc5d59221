//! Who may speak for clients.

use ipnet::IpNet;

use crate::ban::canonical;

/// The networks as addresses are compared with them: an IPv4-mapped one is IPv4.
pub(super) fn networks(written: &[IpNet]) -> Vec<IpNet> {
    written.iter().copied().map(canonical).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::control::config::ConfigFile;
    use crate::control::management::{AllowSource, Allowed};
    use crate::control::settings::Settings;
    use crate::control::settings::tests::SOUND;

    fn settings(listen: &str, clients: &str) -> Settings {
        let listen = format!("[listen]\nproxy_protocol = {listen}");
        let text = SOUND.replace("[listen]", &listen)
            + &format!("[clients]\ntrusted_proxies = {clients}\n");
        Settings::of(ConfigFile::parse(Path::new("f.toml"), &text).unwrap()).unwrap()
    }

    #[test]
    fn mapped_networks_are_ipv4_ones_and_nobody_in_them_is_banned() {
        let settings = settings(r#"["::ffff:192.0.2.9/120"]"#, r#"["::ffff:10.0.0.1/128"]"#);
        let net = |text: &str| text.parse().unwrap();
        assert_eq!(settings.balancers, [net("192.0.2.0/24")]);
        assert_eq!(settings.trusted_proxies, [net("10.0.0.1/32")]);
        for network in ["192.0.2.0/24", "10.0.0.1/32"] {
            let allowed = Allowed { network: net(network), source: AllowSource::TrustedProxy };
            assert!(settings.allowlist.contains(&allowed), "{network}");
        }
    }

    #[test]
    fn only_a_restart_changes_them() {
        let none = settings("[]", "[]");
        for (listen, clients, key) in [
            (r#"["192.0.2.0/24"]"#, "[]", &["listen.proxy_protocol"][..]),
            ("[]", r#"["192.0.2.0/24"]"#, &["clients.trusted_proxies"]),
            ("[]", "[]", &[]),
        ] {
            assert_eq!(none.fixed_differences(&settings(listen, clients)), key);
        }
    }
}
