//! `firewall checks`: what the kernel program checks of packets, how, and what it has counted.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::cli::{member, text};
use crate::control::config::CheckMode;
use crate::control::enforcement::{Enforcement, Judged};
use crate::control::settings::{check_mode, check_of};
use crate::kernel::{Check, CheckSetting, Count, Reason, Role};

/// What an operator must know of a check before changing its mode.
struct About {
    what: &'static str,
    basis: &'static str,
    /// Whom it may hit that means no harm.
    risk: &'static str,
}

macro_rules! about {
    ($($reason:ident: $what:literal, $basis:literal, $risk:literal;)*) => {
        /// None of what is no check.
        const fn about(reason: Reason) -> Option<About> {
            match reason {
                $(Reason::$reason => {
                    Some(About { what: $what, basis: $basis, risk: $risk })
                })*
                Reason::Passed | Reason::Allowed | Reason::Ban | Reason::BanRange => None,
            }
        }
    };
}

about! {
    E1: "frame cut within its Ethernet header or a VLAN tag", "IEEE 802.3, 802.1Q", "none";
    E2: "more than two VLAN tags", "IEEE 802.1ad", "a provider's layer 2 VPN handed over";
    E3: "frame from a group address", "IEEE 802.3 3.2.3", "none known";
    E4: "datagram for one host in a frame for many", "RFC 1122 3.3.6",
        "load balancers that share a multicast MAC (Windows NLB)";
    I1: "IPv4 header cut short, of another version or too short", "RFC 791 3.1", "none";
    I2: "IPv4 total length below the header or beyond the frame", "RFC 791 3.1",
        "none; zero, as of coalesced frames, passes";
    I3: "wrong IPv4 header checksum", "RFC 1122 3.2.1.2", "none on a wire; interfaces check it already";
    I4: "IPv4 source route", "RFC 7126 4.3, 4.4", "none on the Internet";
    I5: "any other IPv4 option", "RFC 7126", "router alert of IGMP and RSVP, traceroute -R";
    I6: "reserved IPv4 flag", "RFC 791 3.1", "rare stacks";
    I7: "fragment that must not be fragmented", "RFC 6864 4.1", "broken middleboxes";
    I8: "time to live or hop limit of zero", "RFC 1122 3.2.1.7", "traceroute; a host must not drop for it";
    I9: "IPv4 source that is no host", "RFC 1122 3.2.1.3, RFC 6890",
        "experiments with 240/4 inside of clouds; DHCP and IGMP without an address pass";
    I10: "source that is not routed on the Internet", "RFC 6890",
        "high but on interfaces that face the Internet alone: LANs, health checks of clouds, VPNs";
    I11: "source and destination are the same (LAND)", "CERT CA-1997-28", "none";
    I12: "TCP, or UDP to a served port, to many", "RFC 1122 4.2.3.10", "none";
    I13: "destination is none of the host's addresses", "RFC 1122 3.3.4.2", "hosts that forward";
    I14: "source reserved for documentation", "RFC 5737, RFC 3849", "laboratories";
    I15: "source is one of the host's own addresses", "RFC 2827",
        "an address that two machines share (VRRP, anycast)";
    F1: "first fragment too short for ports and flags", "RFC 1858 3", "none";
    F2: "TCP fragment over the flags of the first", "RFC 3128", "none";
    F3: "fragment that ends beyond the longest datagram", "RFC 791 3.1", "none";
    F4: "fragment before the last of an uneven length", "RFC 791 3.1, RFC 8200 4.5", "none";
    F5: "fragmented datagram to a QUIC port", "RFC 9000 14", "none; only where QUIC is served";
    F6: "fragmented SYN to a served port", "RFC 9293 3.7.1", "none";
    V1: "IPv6 header cut short, of another version or beyond the frame", "RFC 8200 3",
        "none; zero, as of jumbograms, passes";
    V2: "TCP or UDP from an IPv6 source that is no host", "RFC 4291, RFC 6666, RFC 3879", "none";
    V3: "link-local source to a global destination", "RFC 4291 2.5.6",
        "routers, health checks of Kubernetes";
    V4: "routing header of type 0", "RFC 5095", "none";
    V5: "any other routing header", "RFC 9288 3.5", "segment routing, mobile IPv6";
    V6: "extension headers cut, misplaced, or too many", "RFC 8200 4.1, RFC 9288",
        "measurements; below 0.1 % of packets";
    V7: "first IPv6 fragment without its transport header", "RFC 7112", "none";
    T1: "TCP header cut short or too short", "RFC 9293 3.1", "none";
    T2: "TCP port of zero", "RFC 6335 6", "none";
    T3: "neither ACK, SYN nor RST", "RFC 9293 3.10.7.4", "none";
    T4: "SYN with FIN", "RFC 6247", "none today";
    T5: "SYN with RST", "RFC 9293 3.10.7", "none";
    T6: "RST with FIN, or FIN, PSH and URG at once", "RFC 9293 3.1", "middleboxes that write resets";
    T7: "urgent data to a served port", "RFC 6093", "some Windows clients";
    T9: "SYN with data and without Fast Open", "RFC 9293 3.10.7.2, RFC 7413",
        "allowed, but nobody is known to send it";
    T10: "malformed TCP options of a SYN", "RFC 9293 3.1", "nearly none";
    T11: "SYN with a segment size below 48", "CVE-2019-11479", "none";
    T12: "SYN as scanners write it", "RFC 9293 3.4.1, 3.7.1", "embedded stacks, narrow VPNs";
    T13: "SYN and ACK to a served port", "RFC 9293 3.10.7.2", "hosts that forward or route asymmetrically";
    T14: "TCP segment that no socket waits for", "RFC 9293 3.10.7.1",
        "hosts that forward; restarts. Costs a socket lookup for each packet";
    U1: "UDP length below eight or beyond the datagram", "RFC 768", "none";
    U2: "UDP to port zero, or QUIC from it", "RFC 6335 6", "none";
    U3: "UDP from an amplifying port, no socket waits", "CERT TA14-017A",
        "hosts that forward. Costs a socket lookup for each packet";
    U4: "UDP that no socket waits for", "RFC 1122 4.1.3.1",
        "traceroute, hosts that forward. Costs a socket lookup for each packet";
    U5: "QUIC Initial in less than 1,200 octets", "RFC 9000 14.1", "none; only where QUIC is served";
    U6: "UDP to a served port without QUIC", "RFC 9000",
        "another service at the same port of UDP";
    C3: "ICMP redirect, timestamp, mask, large echo or echo to many", "RFC 6918, RFC 4890", "tooling";
    G1: "neither TCP, UDP nor ICMP", "RFC 7126", "GRE, ESP, VRRP, OSPF, SCTP";
}

/// The configuration's word.
const fn mode_name(mode: Check) -> &'static str {
    match mode {
        Check::Drop => "drop",
        Check::Observe => "observe",
        Check::Off => "off",
    }
}

/// Every check, as JSON.
pub fn list(enforcement: &Enforcement) -> Value {
    let checks = Reason::ALL.iter().filter_map(|&reason| {
        let About { what, basis, risk } = about(reason)?;
        let interfaces: Vec<Value> = enforcement.judged(reason).iter().map(judged).collect();
        Some(json!({
            "id": reason.id(),
            "what": what,
            "basis": basis,
            "risk": risk,
            "default": {
                "internet": mode_name(reason.default_mode(Role::Internet)),
                "lan": mode_name(reason.default_mode(Role::Lan)),
            },
            "interfaces": interfaces,
        }))
    });
    Value::Array(checks.collect())
}

fn judged(judged: &Judged) -> Value {
    let count = |count: Count| json!({ "packets": count.packets, "bytes": count.bytes });
    let both = |[ipv4, ipv6]: [Count; 2]| json!({ "ipv4": count(ipv4), "ipv6": count(ipv6) });
    json!({
        "name": judged.interface,
        "role": match judged.role { Role::Internet => "internet", Role::Lan => "lan" },
        "mode": mode_name(judged.mode),
        "dropped": both(judged.acted),
        "observed": both(judged.observed),
    })
}

/// What `firewall checks list` prints: a check's mode where it differs, by interface.
pub fn list_text(checks: &Value) -> String {
    let mut lines = vec![format!(
        "{:<4} {:<8} {:<17} {:>10} {:>10} {}",
        "ID", "DEFAULT", "MODE", "DROPPED", "OBSERVED", "WHAT (BASIS; RISK)"
    )];
    for check in checks.as_array().into_iter().flatten() {
        let interfaces = member(check, "interfaces").as_array().map_or(&[][..], Vec::as_slice);
        let total = |what: &str| -> u64 {
            let families = interfaces.iter().flat_map(|interface| {
                ["ipv4", "ipv6"].map(|family| member(member(interface, what), family))
            });
            families.filter_map(|count| member(count, "packets").as_u64()).sum()
        };
        lines.push(format!(
            "{:<4} {:<8} {:<17} {:>10} {:>10} {} ({}; {})",
            text(member(check, "id")),
            text(member(member(check, "default"), "lan")),
            modes(interfaces),
            total("dropped"),
            total("observed"),
            text(member(check, "what")),
            text(member(check, "basis")),
            text(member(check, "risk")),
        ));
    }
    lines.join("\n")
}

/// The mode of what nothing is told of, and of each interface that has another.
fn modes(interfaces: &[Value]) -> String {
    let [others, named @ ..] = interfaces else { return "-".into() };
    let common = text(member(others, "mode"));
    let different = named.iter().filter(|named| text(member(named, "mode")) != common);
    let different = different
        .map(|named| format!("{}={}", text(member(named, "name")), text(member(named, "mode"))));
    std::iter::once(common.clone()).chain(different).collect::<Vec<_>>().join(",")
}

/// A mode to be set, as the command sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMode {
    id: String,
    mode: CheckMode,
    interface: Option<String>,
}

impl NewMode {
    /// What it means to the kernel.
    ///
    /// # Errors
    ///
    /// When there is no such check, or no interface can be called so.
    pub fn setting(&self) -> Result<CheckSetting, String> {
        let reason = check_of(&self.id).map_err(|error| error.to_string())?;
        let pattern = self.interface.as_ref().map(|name| name.parse());
        let interface = pattern.transpose().map_err(|error| format!("{error}"))?;
        Ok(CheckSetting { reason, mode: check_mode(self.mode), interface })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/checks.md");

    /// The row of each check that the document must hold.
    fn row(reason: Reason, about: &About) -> String {
        let modes = [Role::Internet, Role::Lan].map(|role| mode_name(reason.default_mode(role)));
        let [internet, lan] = modes;
        let About { what, basis, risk } = about;
        format!("| {} | {what} | {basis} | {internet} | {lan} | {risk} |", reason.id())
    }

    #[test]
    fn the_document_holds_every_check_as_it_is() {
        let rows: Vec<String> =
            Reason::ALL.iter().filter_map(|&reason| Some(row(reason, &about(reason)?))).collect();
        let found: Vec<&str> = DOCUMENT
            .lines()
            .skip_while(|line| !line.starts_with("|--"))
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .collect();
        assert_eq!(found, rows, "docs/checks.md should hold:\n{}", rows.join("\n"));
    }

    #[test]
    fn every_check_and_nothing_else_is_described() {
        for &reason in Reason::ALL {
            assert_eq!(about(reason).is_some(), reason.is_check(), "{}", reason.id());
        }
    }

    #[test]
    fn a_mode_is_set_for_all_interfaces_or_for_some() {
        let parse = |text: &str| {
            serde_json::from_str::<NewMode>(text).map_err(|error| error.to_string())?.setting()
        };
        let common = parse(r#"{"id":"I5","mode":"drop","interface":null}"#).unwrap();
        assert_eq!((common.reason, common.mode, common.interface), (Reason::I5, Check::Drop, None));
        let one = parse(r#"{"id":"T14","mode":"observe","interface":"eth*"}"#).unwrap();
        assert_eq!(one.interface.map(|pattern| pattern.matches("eth1")), Some(true));
        for (wrong, part) in [
            (r#"{"id":"X9","mode":"drop"}"#, "X9"),
            (r#"{"id":"ban","mode":"off"}"#, "ban"),
            (r#"{"id":"I5","mode":"maybe"}"#, "maybe"),
            (r#"{"id":"I5","mode":"off","interface":"a b"}"#, "a b"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
