//! The APIs as meant.

use std::collections::BTreeSet;

use super::{ApiSettings, SettingsError, headers, upstreams};
use crate::contract::{DEPTH_MAX, LoadOptions};
use crate::control::config::{Api, Headers, Limits};
use crate::feeds;
use crate::pipeline::ruleset::ExchangeLimits;
use crate::pipeline::tunnel::TunnelTimes;
use crate::upstream::Protocol;

/// APIs that one process serves.
const APIS_MAX: usize = 64;

impl ApiSettings {
    /// What the contract is compiled with.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            unenforced: self.unenforced.clone(),
            policy: self.contract.clone(),
            references: self.references.clone(),
            body_limit: self.body_octets,
            response_limit: self.response_octets,
            depth_limit: self.json_depth,
            http2_upstream: self.upstream.protocol == Protocol::Http2,
        }
    }
}

/// Every API, or every problem of theirs.
pub(super) fn apis(
    apis: Vec<Api>,
    limits: &Limits,
    headers: &Headers,
) -> Result<Vec<ApiSettings>, Vec<SettingsError>> {
    let mut problems = Vec::new();
    if !(1..=APIS_MAX).contains(&apis.len()) {
        problems.push(SettingsError::Apis { found: apis.len() });
    }
    let mut names = BTreeSet::new();
    for api in &apis {
        if !feeds::is_name(&api.name) || !names.insert(&api.name) {
            problems.push(SettingsError::ApiName { found: api.name.clone() });
        }
    }
    let mut settings = Vec::new();
    for api in apis {
        let depth = api.limits.json_depth.unwrap_or(limits.json_depth);
        if api.limits.json_depth.is_some() && !(1..=DEPTH_MAX).contains(&depth) {
            let (api, key, expected) = (api.name.clone(), "limits.json_depth", "1 to 1024");
            problems.push(SettingsError::ApiBound { api, key, expected });
        }
        match upstreams::upstream(&api.name, &api.upstream) {
            Ok(upstream) => settings.push(api_settings(api, upstream, limits, headers)),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

fn api_settings(
    api: Api,
    upstream: crate::upstream::UpstreamSettings,
    limits: &Limits,
    headers: &Headers,
) -> ApiSettings {
    let own = &api.limits;
    ApiSettings {
        limits: ExchangeLimits {
            body_timeout: own.body_timeout.unwrap_or(limits.body_timeout).0,
            response_timeout: own.response_timeout.unwrap_or(limits.response_timeout).0,
            response_body_timeout: own
                .response_body_timeout
                .unwrap_or(limits.response_body_timeout)
                .0,
            tunnel: TunnelTimes { idle: limits.tunnel_idle_timeout.0, age: limits.tunnel_age.0 },
        },
        body_octets: own.body_octets.unwrap_or(limits.body_octets),
        response_octets: own.response_octets.unwrap_or(limits.response_octets),
        json_depth: own.json_depth.unwrap_or(limits.json_depth),
        answers: headers::rules(headers, &api.headers),
        name: api.name,
        spec: api.spec,
        upstream,
        requests: api.requests,
        responses: api.responses,
        unenforced: api.unenforced,
        references: api.references,
        contract: api.contract,
        client_certificate: api.client_certificate,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::control::config::ConfigFile;
    use crate::control::settings::Settings;
    use crate::control::settings::tests::{SOUND, problems};

    const SECOND: &str =
        "[[api]]\nname = \"b\"\nspec = \"b.yaml\"\nupstream = \"http://127.0.0.1:2\"\n";

    #[test]
    fn each_has_a_name_of_its_own() {
        assert_eq!(problems(&format!("{SOUND}{SECOND}")), Vec::<String>::new());
        for (text, part) in [
            (format!("{SOUND}{}", SECOND.replace("\"b\"", "\"a\"")), "given once"),
            (SOUND.replace("\"a\"", "\"a b\""), "a b"),
            (SOUND.replace("\"a\"", "\"\""), "letters"),
            ("api = []\n[listen]\naddress = \"127.0.0.1:0\"\n".to_owned(), "1 to 64"),
        ] {
            let found = problems(&text);
            assert!(found.iter().any(|problem| problem.contains(part)), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_an_api_says_itself_counts() {
        let text = format!(
            "{SOUND}[api.limits]\nbody_octets = 7\nresponse_timeout = \"9s\"\n{SECOND}[limits]\n\
             body_octets = 8\njson_depth = 9\n"
        );
        let file = ConfigFile::parse(Path::new("f.toml"), &text).unwrap();
        let apis = Settings::of(file).unwrap().apis;
        let found =
            apis.iter().map(|api| (api.body_octets, api.json_depth, api.limits.response_timeout));
        let expected = [(7, 9, Duration::from_secs(9)), (8, 9, Duration::from_mins(1))];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let found = problems(&format!("{SOUND}[api.limits]\njson_depth = 1025\n"));
        assert!(found[0].contains("limits.json_depth"), "{found:?}");
    }
}
