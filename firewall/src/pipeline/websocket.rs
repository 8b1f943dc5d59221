//! The opening handshake of a WebSocket (RFC 6455 section 4.2), as asked and as accepted.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::header::{
    CONNECTION, CONTENT_LENGTH, Entry, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::exchange::Exchange;
use super::frames::{Frames, Sender};
use super::headers::strip_hop_by_hop;
use super::origin::Origin;
use super::ruleset::Mode;
use crate::contract::{Matched, UpgradeRule};
use crate::violation::{Rule, Violation};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// What a server shows that it has read the key as one (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only extension whose frames are known (RFC 7692).
const DEFLATE: &str = "permessage-deflate";

/// A WebSocket as it was asked for, by all rules.
pub(super) struct Handshake<'a> {
    rule: &'a UpgradeRule,
    accept: String,
    protocols: Vec<String>,
    /// The names of those that the upstream is offered.
    extensions: Vec<String>,
}

/// The WebSocket that the request asks for; none where it asks for none, and need not.
///
/// An offer that the contract does not declare is refused in any mode: what follows it could not be
/// judged.
pub(super) fn asked<'a>(
    exchange: &mut Exchange<'_>,
    origin: &Origin,
    matched: Option<&Matched<'a>>,
) -> Result<Option<Handshake<'a>>, Violation> {
    let rule = matched.and_then(|matched| matched.operation.upgrade());
    let mode = exchange.api.request_mode;
    let Some(rule) = rule else {
        let offers = origin.offers_upgrade();
        return if offers { Err(Violation::new(Rule::Upgrade)) } else { Ok(None) };
    };
    if !origin.offers_upgrade() {
        if !rule.answers_otherwise() {
            exchange.settle::<()>(mode, Err(Violation::new(Rule::UpgradeRequired)))?;
        }
        return Ok(None);
    }
    if !rule.admits(exchange.request.headers.get_all(ORIGIN).iter()) {
        exchange.settle::<()>(mode, Err(Violation::new(Rule::UpgradeOrigin)))?;
    }
    let headers = &mut exchange.request.headers;
    let handshake = read(headers, rule).map_err(Violation::new)?;
    if [mode, exchange.api.response_mode].contains(&Mode::Enforce) {
        return Ok(Some(handshake.within_contract(headers)));
    }
    Ok(Some(handshake))
}

fn read<'a>(headers: &HeaderMap, rule: &'a UpgradeRule) -> Result<Handshake<'a>, Rule> {
    match single(headers, &SEC_WEBSOCKET_VERSION) {
        Ok(Some("13")) => {}
        Ok(Some(other)) if is_version(other) => return Err(Rule::WebSocketVersion),
        _ => return Err(Rule::Handshake),
    }
    let key = single(headers, &SEC_WEBSOCKET_KEY)?.filter(|key| is_key(key));
    let accept = accept(key.ok_or(Rule::Handshake)?);
    let protocols: Vec<String> = list(headers, &SEC_WEBSOCKET_PROTOCOL)?;
    let is_twice = |(place, name): (usize, &String)| {
        protocols.iter().take(place).any(|earlier| earlier == name)
    };
    if !protocols.iter().all(|name| is_token(name)) || protocols.iter().enumerate().any(is_twice) {
        return Err(Rule::Handshake);
    }
    let offered: Vec<String> = list(headers, &SEC_WEBSOCKET_EXTENSIONS)?;
    let extensions: Option<Vec<_>> = offered.iter().map(|offer| extension(offer)).collect();
    let extensions = extensions.ok_or(Rule::Handshake)?.into_iter().map(Into::into).collect();
    // What a server says is not for a client to say.
    if headers.contains_key(SEC_WEBSOCKET_ACCEPT) {
        return Err(Rule::Handshake);
    }
    Ok(Handshake { rule, accept, protocols, extensions })
}

impl Handshake<'_> {
    /// Offers the upstream no extension but the one whose frames are known, where the contract lets
    /// messages be compressed.
    fn within_contract(mut self, headers: &mut HeaderMap) -> Self {
        let lines = list(headers, &SEC_WEBSOCKET_EXTENSIONS).unwrap_or_default();
        let is_kept = |name: Option<&str>| self.rule.compresses() && name == Some(DEFLATE);
        let kept: Vec<_> = lines.into_iter().filter(|offer| is_kept(extension(offer))).collect();
        self.extensions.retain(|name| is_kept(Some(name)));
        let Entry::Occupied(mut entry) = headers.entry(SEC_WEBSOCKET_EXTENSIONS) else {
            return self;
        };
        match HeaderValue::try_from(kept.join(", ")) {
            Ok(value) if !kept.is_empty() => {
                entry.insert(value);
            }
            _ => {
                entry.remove_entry_mult();
            }
        }
        self
    }

    /// Whether the fields of a 101 accept what was asked for, and nothing else (section 4.1).
    pub(super) fn is_accepted(&self, headers: &HeaderMap) -> bool {
        let is_websocket = matches!(
            single(headers, &UPGRADE), Ok(Some(name)) if name.eq_ignore_ascii_case("websocket")
        );
        let is_named = list(headers, &CONNECTION)
            .is_ok_and(|names| names.iter().any(|name| name.eq_ignore_ascii_case("upgrade")));
        let is_of_key =
            matches!(single(headers, &SEC_WEBSOCKET_ACCEPT), Ok(Some(it)) if it == self.accept);
        let is_protocol_known = match single(headers, &SEC_WEBSOCKET_PROTOCOL) {
            Ok(None) => true,
            Ok(Some(chosen)) => self.protocols.iter().any(|offered| offered == chosen),
            Err(_) => false,
        };
        let has_length =
            headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        let are_offered = agreed(headers).is_some_and(|agreed| {
            agreed.iter().all(|name| self.extensions.contains(name)) && is_unique(&agreed)
        });
        is_websocket && is_named && is_of_key && is_protocol_known && are_offered && !has_length
    }

    /// What judges the frames of a connection that was accepted so: the client's, and the upstream's.
    /// None where an extension gives them a meaning that is not known.
    pub(super) fn frames(&self, accepted: &HeaderMap) -> Option<(Frames, Frames)> {
        let agreed = agreed(accepted)?;
        if agreed.iter().any(|name| name != DEFLATE) {
            return None;
        }
        let (rule, is_compressed) = (self.rule, !agreed.is_empty());
        Some((
            Frames::new(Sender::Client, rule.client_message_octets(), is_compressed),
            Frames::new(Sender::Upstream, rule.upstream_message_octets(), is_compressed),
        ))
    }
}

/// Asks the next hop what the client has asked this one.
pub(super) fn ask(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// Makes the fields of an answer that was accepted those of this hop's.
pub(super) fn accept_as_asked(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    ask(headers);
}

/// The only line of a field, if there is one.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Rule> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => line.to_str().map(Some).map_err(|_opaque| Rule::Handshake),
        (Some(_), Some(_)) => Err(Rule::Handshake),
    }
}

/// The elements of a list, of all its lines.
fn list(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<String>, Rule> {
    let mut elements = Vec::new();
    for line in headers.get_all(name) {
        let line = line.to_str().map_err(|_opaque| Rule::Handshake)?;
        elements.extend(line.split(',').map(|element| element.trim().to_owned()));
    }
    Ok(elements)
}

/// The name of an extension that is well-formed: a token, and parameters behind semicolons (section
/// 9.1). A quoted value is a token too, so that none holds a comma.
fn extension(text: &str) -> Option<&str> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| is_token(name))?;
    let is_sound = parts.all(|part| match part.split_once('=') {
        None => is_token(part),
        Some((key, value)) => {
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            is_token(key) && is_token(quoted.unwrap_or(value))
        }
    });
    is_sound.then_some(name)
}

/// The names of the extensions that an answer agrees to; none where they cannot be read.
fn agreed(headers: &HeaderMap) -> Option<Vec<String>> {
    let agreed = list(headers, &SEC_WEBSOCKET_EXTENSIONS).ok()?;
    agreed.iter().map(|text| extension(text).map(ToOwned::to_owned)).collect()
}

fn is_unique(names: &[String]) -> bool {
    names.iter().enumerate().all(|(place, name)| !names.iter().take(place).any(|it| it == name))
}

fn is_token(text: &str) -> bool {
    let is_mark = |octet: u8| b"!#$%&'*+-.^_`|~".contains(&octet);
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || is_mark(octet))
}

/// 0 to 255, without a superfluous zero (section 4.3).
fn is_version(text: &str) -> bool {
    text.parse::<u8>().is_ok_and(|number| number.to_string() == text)
}

/// Sixteen octets in base64 (section 4.1), whose last character has four bits to spare.
fn is_key(text: &str) -> bool {
    let is_of_alphabet = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    text.len() == 24
        && text.strip_suffix("==").is_some_and(|data| {
            data.bytes().all(is_of_alphabet) && data.ends_with(['A', 'Q', 'g', 'w'])
        })
}

/// What a server answers to a key (section 4.2.2).
fn accept(key: &str) -> String {
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat()).as_ref())
}

/// RFC 4648 section 4.
fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let at = |place| group.get(place).copied().map_or(0, u32::from);
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let value = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET.get(value as usize).copied().unwrap_or(b'=');
            text.push(if place <= group.len() { letter.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests;
