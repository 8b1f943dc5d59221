//! Packets in the pcapng format (draft-ietf-opsawg-pcapng): what Wireshark and tcpdump read.
//!
//! Only what a capture needs is written, which is four kinds of blocks; the crates for the format
//! read and write all of it, and none has had a release in two years.

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// Options, each within its kind of block.
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const INTERFACE_DROPPED: u16 = 5;
const SYSTEM_DROPPED: u16 = 7;
/// Times are counted in units of 10^-9 seconds.
const NANOSECONDS: u8 = 9;

/// The head of a capture.
pub fn section(application: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    // The section's length is not known before its end.
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, APPLICATION, application.as_bytes());
    end(&mut body);
    block(SECTION, &body)
}

/// An interface, which packets name by its place among those of the section, from 0 on. Of each
/// packet at most `octets` are there.
pub fn interface(name: &str, octets: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(ETHERNET.to_le_bytes());
    body.extend([0; 2]);
    body.extend(octets.to_le_bytes());
    option(&mut body, NAME, name.as_bytes());
    option(&mut body, RESOLUTION, &[NANOSECONDS]);
    end(&mut body);
    block(INTERFACE, &body)
}

/// One packet: when, in nanoseconds of Unix time; its first octets, and how many it had.
pub fn packet(interface: u32, unix_ns: u64, sample: &[u8], octets: u32, comment: &str) -> Vec<u8> {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = unix_ns.to_le_bytes();
    let mut body = Vec::new();
    body.extend(interface.to_le_bytes());
    // The upper half comes first, in either order of octets.
    body.extend([t4, t5, t6, t7, t0, t1, t2, t3]);
    body.extend(length(sample).to_le_bytes());
    body.extend(octets.to_le_bytes());
    body.extend(sample);
    pad(&mut body);
    option(&mut body, COMMENT, comment.as_bytes());
    end(&mut body);
    block(ENHANCED_PACKET, &body)
}

/// How many packets of an interface a capture has lost by that moment.
pub fn statistics(interface: u32, unix_ns: u64, losses: Losses) -> Vec<u8> {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = unix_ns.to_le_bytes();
    let mut body = interface.to_le_bytes().to_vec();
    body.extend([t4, t5, t6, t7, t0, t1, t2, t3]);
    option(&mut body, INTERFACE_DROPPED, &losses.behind.to_le_bytes());
    option(&mut body, SYSTEM_DROPPED, &losses.in_kernel.to_le_bytes());
    end(&mut body);
    block(STATISTICS, &body)
}

/// Packets that belong to a capture and are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Losses {
    /// Its reader was too slow for them.
    pub behind: u64,
    /// The kernel had no room for any more samples of any kind.
    pub in_kernel: u64,
}

impl Losses {
    pub const fn total(self) -> u64 {
        self.behind.saturating_add(self.in_kernel)
    }
}

/// What a capture that passes by says of its losses. It sees octets as they come, in any portions.
#[derive(Debug, Default)]
pub struct LossReader {
    /// The block that is passing, as far as it is looked at.
    seen: Vec<u8>,
    /// Octets of it that have not passed yet; none while its length is not known.
    left: Option<usize>,
    found: std::collections::BTreeMap<u32, Losses>,
}

/// Octets of a block that are looked at: more than its statistics have.
const LOOKED_AT: usize = 64;

impl LossReader {
    pub fn see(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let wanted = self.left.unwrap_or_else(|| 8 - self.seen.len());
            let (now, later) = octets.split_at(wanted.min(octets.len()));
            let room = LOOKED_AT.saturating_sub(self.seen.len());
            self.seen.extend(now.get(..room).unwrap_or(now));
            octets = later;
            match &mut self.left {
                Some(left) => *left -= now.len(),
                None if self.seen.len() == 8 => {
                    let length = word(&self.seen, 4).unwrap_or(8);
                    self.left = Some(usize::try_from(length).unwrap_or(8).saturating_sub(8));
                }
                None => {}
            }
            if self.left == Some(0) {
                self.note();
                (self.left, self.seen) = (None, Vec::new());
            }
        }
    }

    /// The losses of all interfaces.
    pub fn losses(&self) -> Losses {
        self.found.values().fold(Losses::default(), |sum, losses| Losses {
            behind: sum.behind.saturating_add(losses.behind),
            in_kernel: sum.in_kernel.saturating_add(losses.in_kernel),
        })
    }

    /// What the block has told, which [`statistics`] wrote if it is one of losses.
    fn note(&mut self) {
        if word(&self.seen, 0) != Some(STATISTICS) {
            return;
        }
        let long = |at| {
            let octets = self.seen.get(at..at + 8).and_then(|octets| octets.try_into().ok());
            octets.map(u64::from_le_bytes)
        };
        if let (Some(interface), Some(behind), Some(in_kernel)) =
            (word(&self.seen, 8), long(24), long(36))
        {
            self.found.insert(interface, Losses { behind, in_kernel });
        }
    }
}

fn word(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let total = length(body) + 12;
    let mut block = kind.to_le_bytes().to_vec();
    block.extend(total.to_le_bytes());
    block.extend(body);
    block.extend(total.to_le_bytes());
    block
}

/// A value longer than an option may be is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(value.get(..usize::from(length)).unwrap_or(value));
    pad(body);
}

fn end(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// Each field begins at a multiple of four.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Blocks are made of samples and names, far below 4 GiB.
fn length(octets: &[u8]) -> u32 {
    u32::try_from(octets.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_the_format_has_them() {
        let mut expected = vec![6, 0, 0, 0, 52, 0, 0, 0, 2, 0, 0, 0];
        expected.extend([0x88, 0x99, 0xaa, 0xbb, 0x44, 0x55, 0x66, 0x77]);
        expected.extend([5, 0, 0, 0, 60, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0]);
        expected.extend([1, 0, 2, 0, b'T', b'3', 0, 0, 0, 0, 0, 0, 52, 0, 0, 0]);
        let found = packet(2, 0xbbaa_9988_7766_5544, &[1, 2, 3, 4, 5], 60, "T3");
        assert_eq!(found, expected);
    }

    #[test]
    fn losses_are_read_in_any_portions() {
        let (some, more) =
            (Losses { behind: 3, in_kernel: 0 }, Losses { behind: 5, in_kernel: 1 << 40 });
        let other = Losses { behind: 1, in_kernel: 0 };
        // The later word on an interface is the whole of its losses.
        let capture = [
            section("a"),
            interface("eth0", 148),
            statistics(0, 1, some),
            packet(0, 1, &[5; 148], 1500, "T3 dropped"),
            statistics(0, 2, more),
            statistics(1, 2, other),
        ];
        let capture = capture.concat();
        for portion in [1, 3, 8, 13, capture.len()] {
            let mut reader = LossReader::default();
            capture.chunks(portion).for_each(|octets| reader.see(octets));
            assert_eq!(reader.losses(), Losses { behind: 6, in_kernel: 1 << 40 }, "{portion}");
        }
        assert_eq!(more.total(), (1 << 40) + 5);
        let mut none = LossReader::default();
        none.see(&packet(0, 1, &[5; 148], 1500, "T3 dropped"));
        assert_eq!(none.losses(), Losses::default());
    }

    #[test]
    fn statistics_are_as_the_format_has_them() {
        let mut expected = vec![5, 0, 0, 0, 52, 0, 0, 0, 2, 0, 0, 0];
        expected.extend([0x88, 0x99, 0xaa, 0xbb, 0x44, 0x55, 0x66, 0x77]);
        expected.extend([5, 0, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 7, 0, 8, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0, 0, 0, 0, 52, 0, 0, 0]);
        let losses = Losses { behind: 7, in_kernel: 9 };
        assert_eq!(statistics(2, 0xbbaa_9988_7766_5544, losses), expected);
    }

    #[test]
    fn every_block_says_its_length_twice_and_ends_at_a_word() {
        for block in [section("a"), section(""), interface("eth0", 148), packet(0, 1, &[], 0, "")] {
            let length = u32::try_from(block.len()).unwrap().to_le_bytes();
            assert_eq!(block[4..8], length);
            assert_eq!(block[block.len() - 4..], length);
            assert_eq!(block.len() % 4, 0);
        }
    }
}
