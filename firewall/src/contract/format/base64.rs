//! Octets as text: `byte` and `base64url` (RFC 4648).

/// Of an octet that is none of the alphabet.
const NONE: u8 = 64;

/// What each octet stands for, with `last` as the two last of the 64.
const fn values(last: [u8; 2]) -> [u8; 256] {
    let mut values = [NONE; 256];
    let mut rest = values.as_mut_slice();
    let mut octet = 0_u8;
    while let Some((value, behind)) = rest.split_first_mut() {
        *value = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            _ if octet == last[0] => 62,
            _ if octet == last[1] => 63,
            _ => NONE,
        };
        rest = behind;
        octet = octet.wrapping_add(1);
    }
    values
}

const BASE64: [u8; 256] = values(*b"+/");
const BASE64_URL: [u8; 256] = values(*b"-_");

/// RFC 4648 section 4, with padding; unused bits of the last character must be zero (section 3.5).
pub(super) fn is_base64(text: &str) -> bool {
    text.len().is_multiple_of(4) && is_encoded(text, &BASE64)
}

/// RFC 4648 section 5, with padding or, as section 3.2 allows, without.
pub(super) fn is_base64url(text: &str) -> bool {
    (text.len().is_multiple_of(4) || !text.ends_with('=')) && is_encoded(text, &BASE64_URL)
}

/// The content of a binary item in a structured field (RFC 9651 section 4.2.7), whose padding may be
/// missing and whose unused bits may be anything.
pub(super) fn is_lenient(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    let padding = text.len() - data.len();
    let is_whole = padding == 0 || padding < 3 && text.len().is_multiple_of(4);
    is_whole && data.len() % 4 != 1 && is_of(data, &BASE64)
}

/// The octets that [`is_base64`] or [`is_base64url`] has accepted.
pub(super) fn decode(text: &str, is_url: bool) -> Vec<u8> {
    let values = if is_url { &BASE64_URL } else { &BASE64 };
    let data = text.trim_end_matches('=').as_bytes();
    let mut octets = Vec::with_capacity(data.len() / 4 * 3 + 2);
    for group in data.chunks(4) {
        let joined = group
            .iter()
            .fold(0_u32, |joined, octet| joined << 6 | u32::from(value(*octet, values)));
        let missing = 4 - group.len();
        let [_, bytes @ ..] = (joined << (6 * missing)).to_be_bytes();
        octets.extend(bytes.iter().take(3 - missing));
    }
    octets
}

fn is_encoded(text: &str, values: &[u8; 256]) -> bool {
    let data = text.trim_end_matches('=');
    if text.len() - data.len() > 2 {
        return false;
    }
    let unused_bits = match data.len() % 4 {
        0 => 0,
        2 => 0b1111,
        3 => 0b11,
        _ => return false,
    };
    is_of(data, values)
        && data.bytes().next_back().is_none_or(|last| value(last, values) & unused_bits == 0)
}

fn is_of(data: &str, values: &[u8; 256]) -> bool {
    // No early end: a loop without branches takes several octets at once.
    data.bytes().fold(0, |all, octet| all | value(octet, values)) < NONE
}

fn value(octet: u8, values: &[u8; 256]) -> u8 {
    values.get(usize::from(octet)).copied().unwrap_or(NONE)
}
