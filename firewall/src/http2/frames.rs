//! HTTP/2 frames in a stream of octets (RFC 9113 section 4.1): which begin and end, and how their
//! payloads begin. Nothing is decoded here; that is the h2 crate's work.

/// Octets of a frame's header.
const HEADER_OCTETS: usize = 9;

/// Octets of a payload that are kept: the whole of `RST_STREAM`, and of GOAWAY the code with the
/// beginning of what h2 says beside it.
const KEPT_OCTETS: usize = 40;

/// Kinds of frames (RFC 9113 section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) const END_STREAM: u8 = 0x1;
/// Of SETTINGS and PING.
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// A frame's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Octets of the payload.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Header {
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    const fn read(octets: [u8; HEADER_OCTETS]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = octets;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }
}

/// What was found in the octets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Begun(Header),
    /// With the beginning of its payload.
    Ended(Header, &'a [u8]),
}

/// One direction of a connection, after its preface.
#[derive(Debug)]
pub(crate) struct Frames {
    head: [u8; HEADER_OCTETS],
    have: usize,
    header: Header,
    /// Octets of the payload that are still to come.
    left: usize,
    kept: [u8; KEPT_OCTETS],
    kept_octets: usize,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            head: [0; HEADER_OCTETS],
            have: 0,
            header: Header::default(),
            left: 0,
            kept: [0; KEPT_OCTETS],
            kept_octets: 0,
        }
    }

    /// The next octet begins a frame.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Looks at the next octets, however they are cut.
    pub(crate) fn read(&mut self, octets: &[u8], mut each: impl FnMut(Found<'_>)) {
        self.read_with_places(octets, |found, _| each(found));
    }

    /// The same; each is given with the place in `octets` behind what it was found by.
    pub(crate) fn read_with_places(
        &mut self,
        mut octets: &[u8],
        mut each: impl FnMut(Found<'_>, usize),
    ) {
        let whole = octets.len();
        while let Some(first) = octets.first() {
            if self.left == 0 {
                if let Some(place) = self.head.get_mut(self.have) {
                    *place = *first;
                }
                self.have += 1;
                octets = octets.get(1..).unwrap_or_default();
                if self.have < HEADER_OCTETS {
                    continue;
                }
                (self.have, self.kept_octets) = (0, 0);
                self.header = Header::read(self.head);
                self.left = self.header.length;
                each(Found::Begun(self.header), whole - octets.len());
            } else {
                let (now, later) = octets.split_at(self.left.min(octets.len()));
                self.keep(now);
                self.left -= now.len();
                octets = later;
            }
            if self.left == 0 {
                let kept = self.kept.get(..self.kept_octets).unwrap_or_default();
                each(Found::Ended(self.header, kept), whole - octets.len());
            }
        }
    }

    fn keep(&mut self, octets: &[u8]) {
        let room = self.kept.get_mut(self.kept_octets..).unwrap_or_default();
        let count = room.len().min(octets.len());
        for (place, octet) in room.iter_mut().zip(octets) {
            *place = *octet;
        }
        self.kept_octets += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u8, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut octets = vec![0, 0, length, kind, flags];
        octets.extend(stream.to_be_bytes());
        octets.extend(payload);
        octets
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut octets = frame(0, 4, 0, 0, b"");
        octets.extend(frame(3, kind::DATA, END_STREAM, 0x8000_0001, b"abc"));
        octets.extend(frame(50, kind::GOAWAY, 0, 0, &[7; 50]));
        let header = |length, kind, flags, stream| Header { length, kind, flags, stream };
        let expected = [
            (header(0, 4, 0, 0), vec![]),
            (header(3, kind::DATA, END_STREAM, 1), b"abc".to_vec()),
            (header(50, kind::GOAWAY, 0, 0), vec![7; KEPT_OCTETS]),
        ];
        for size in 1..=octets.len() {
            let (mut frames, mut begun, mut ended) = (Frames::new(), Vec::new(), Vec::new());
            for part in octets.chunks(size) {
                frames.read(part, |found| match found {
                    Found::Begun(header) => begun.push(header),
                    Found::Ended(header, payload) => ended.push((header, payload.to_vec())),
                });
            }
            assert_eq!(ended, expected, "cut into {size}");
            assert!(begun.iter().eq(expected.iter().map(|(header, _)| header)));
            assert!(frames.is_between());
            frames.read(&octets[..12], |_| {});
            assert!(!frames.is_between());
        }
    }
}
