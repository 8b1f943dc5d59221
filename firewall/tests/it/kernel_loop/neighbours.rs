//! Bans of neighbours become one ban of their prefix, and that reaches the kernel.

use http::Method;
use serde_json::Value;
use xtask::skip::skipped;

use super::{Family, NEIGHBOUR, PROXY, SCANNER, Site};
use crate::contract::NOTES;
use crate::kit::gateway::Setup;

/// The gateway is in the clients' /24, and in their /56: what is its own is never covered.
const NOT_OWN: &str = "own_addresses = false\ndetect = []";

fn setup(management: &str) -> Setup {
    let bans = "aggregate = { ipv4 = 2, ipv6 = 2, watermark = 90, crowded = 8 }".into();
    Setup { bans, management: management.into(), ..Setup::of(NOTES) }
}

fn targets(site: &Site) -> Vec<String> {
    let target = |ban: &Value| ban["target"].as_str().unwrap().to_owned();
    site.gateway.bans().iter().map(target).collect()
}

#[test]
fn two_of_a_block_ban_it_in_the_kernel() {
    let test = "kernel_loop::neighbours::two_of_a_block_ban_it_in_the_kernel";
    let Some(site) = Site::start(test, &setup(NOT_OWN)) else { return };
    for (family, block) in [(Family::V4, "10.77.0.0/24"), (Family::V6, "fd77:0:0:c100::/56")] {
        if family == Family::V6 && !site.topology.ipv6 {
            skipped(test, "the kernel has no IPv6");
            continue;
        }
        site.assert_served(family, NEIGHBOUR);
        site.scan_from(family, SCANNER);
        site.assert_served(family, NEIGHBOUR);
        site.scan_from(family, PROXY);
        assert!(targets(&site).contains(&block.to_owned()), "{:?}", targets(&site));
        // Who has done nothing is covered, and both planes say by what.
        site.assert_dropped(family, NEIGHBOUR);
        let neighbour = family.client(NEIGHBOUR);
        let explained = site.explain(neighbour);
        assert!(explained["kernel"].is_object(), "{explained}");
        assert_eq!(explained["ban"]["target"], block, "{explained}");
        assert_eq!(
            (&explained["ban"]["origin"], &explained["ban"]["joined"]),
            (&"aggregate".into(), &2.into())
        );
        let (_, said) = site.gateway.cli(&["explain", &neighbour.to_string()]);
        let expected = format!("banned as {block}, an aggregate of 2 bans: the kernel drops");
        assert!(said.contains(&expected), "{said}");

        // An operator gives the neighbour back; the others stay banned.
        let (code, said) = site.gateway.cli(&["ban", "del", &neighbour.to_string()]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("which {block} covered, an aggregate of 2 bans")), "{said}");
        site.assert_served(family, NEIGHBOUR);
        for banned in [SCANNER, PROXY] {
            site.assert_dropped(family, banned);
        }
        assert!(!targets(&site).contains(&block.to_owned()), "{:?}", targets(&site));
        for ban in site.gateway.bans() {
            let target = ban["target"].as_str().unwrap();
            site.gateway.admin(&Method::DELETE, &format!("/v1/bans?target={target}"), None);
        }
        for n in [SCANNER, PROXY] {
            site.assert_served(family, n);
        }
    }
}

#[test]
fn a_block_with_somebody_exempt_is_not_joined() {
    let test = "kernel_loop::neighbours::a_block_with_somebody_exempt_is_not_joined";
    // The gateway's own address lies in the /24.
    let Some(site) = Site::start(test, &setup("")) else { return };
    for n in [SCANNER, PROXY] {
        site.scan_from(Family::V4, n);
    }
    assert_eq!(targets(&site), ["10.77.0.3/32", "10.77.0.5/32"]);
    site.assert_served(Family::V4, NEIGHBOUR);
}
