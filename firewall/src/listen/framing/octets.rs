//! Which octets may stand where in a head, and how far a run of them goes.

/// Octets that make up a token (RFC 9110 section 5.6.2): methods and field names.
pub(super) const TOKEN: u8 = 1;
/// Octets of a path: those of RFC 3986 section 3.3, and of the ones that clients send although they
/// should encode them, those that no server takes for a separator.
pub(in crate::listen) const PATH: u8 = 2;
/// Octets of a query, with the question mark before it; as for the path, and the backslash.
pub(in crate::listen) const QUERY: u8 = 4;

/// The kinds of each octet.
static KINDS: [u8; 256] = kinds();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, over the whole array")]
const fn kinds() -> [u8; 256] {
    let mut kinds = [0; 256];
    let mut octet = 0_u8;
    while octet < 128 {
        let is_token = matches!(octet,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
            | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        let is_path =
            matches!(octet, b'!' | b'$'..=b';' | b'=' | b'@'..=b'[' | b']'..=b'_' | b'a'..=b'~');
        let is_query = is_path || matches!(octet, b'?' | b'\\' | b'`');
        kinds[octet as usize] =
            (is_token as u8 * TOKEN) | (is_path as u8 * PATH) | (is_query as u8 * QUERY);
        octet += 1;
    }
    kinds
}

/// How many octets from `at` on are of the kind.
pub(in crate::listen) fn run(kind: u8, octets: &[u8], at: usize) -> usize {
    let is_kind =
        |octet: &u8| KINDS.get(usize::from(*octet)).is_some_and(|kinds| kinds & kind != 0);
    let rest = octets.get(at..).unwrap_or_default();
    rest.iter().position(|octet| !is_kind(octet)).unwrap_or(rest.len())
}

/// How many octets come before the first control character (horizontal tab is one), eight at a
/// time: most of a head is values.
pub(in crate::listen) fn printable(octets: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let (words, rest) = octets.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each octet below 0x20, and of each that is 0x7f. A borrow can set a bit
        // too many, but only above the lowest true one, which is the one that counts.
        let low = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let delete = word ^ (ONES * 0x7f);
        let delete = delete.wrapping_sub(ONES) & !delete & HIGH;
        let control = low | delete;
        if control != 0 {
            return index * 8 + usize::try_from(control.trailing_zeros() / 8).unwrap_or(0);
        }
    }
    let is_printable = |octet: &&u8| **octet >= 0x20 && **octet != 0x7f;
    octets.len() - rest.len() + rest.iter().take_while(is_printable).count()
}
