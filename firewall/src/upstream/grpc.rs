//! Messages of gRPC in a stream of octets: five before each say whether it is compressed and how long it
//! is. What stands in them is not looked into.

mod passing;

pub use passing::{Call, JudgeTrailers, Passing, Tell};

/// Octets before each message: a flag, and a length in network order.
const PREFIX_OCTETS: usize = 5;

/// What is wrong with a message's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its flag is neither 0 nor 1, or 1 where no coding was agreed upon.
    Flag,
    TooLarge,
}

/// A fault, and what of the octets stood before the message that has it; none where that begins in
/// octets that have been passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faulty {
    pub(super) fault: Fault,
    pub(super) sound: Option<usize>,
}

/// One direction of a call. Keeps the beginning of one prefix, whatever passes.
#[derive(Debug)]
pub(super) struct Messages {
    prefix: [u8; PREFIX_OCTETS],
    have: usize,
    /// Octets of the message that are still to come.
    left: u32,
    octets_max: u32,
    may_be_compressed: bool,
}

impl Messages {
    pub(super) const fn new(octets_max: u32, may_be_compressed: bool) -> Self {
        Self { prefix: [0; PREFIX_OCTETS], have: 0, left: 0, octets_max, may_be_compressed }
    }

    /// Whether the next octet begins a message, or nothing follows.
    pub(super) const fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Looks at the next octets, however they are cut.
    pub(super) fn read(&mut self, mut octets: &[u8]) -> Result<(), Faulty> {
        let whole = octets.len();
        let mut begun_at = self.is_between().then_some(0);
        while let Some(first) = octets.first() {
            if self.left > 0 {
                let now = octets.len().min(self.left as usize);
                octets = octets.get(now..).unwrap_or_default();
                self.left = self.left.saturating_sub(u32::try_from(now).unwrap_or(u32::MAX));
                continue;
            }
            if self.have == 0 {
                begun_at = Some(whole - octets.len());
            }
            if let Some(place) = self.prefix.get_mut(self.have) {
                *place = *first;
            }
            self.have += 1;
            octets = octets.get(1..).unwrap_or_default();
            let [flag, length @ ..] = self.prefix;
            let is_known = flag == 0 || flag == 1 && self.may_be_compressed;
            let faulty = |fault| Err(Faulty { fault, sound: begun_at });
            if !is_known {
                return faulty(Fault::Flag);
            }
            if self.have == PREFIX_OCTETS {
                self.have = 0;
                self.left = u32::from_be_bytes(length);
                if self.left > self.octets_max {
                    return faulty(Fault::TooLarge);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, body].concat()
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let sound = [message(0, b"one"), message(1, b""), message(0, &[7; 10])].concat();
        for size in 1..=sound.len() {
            let mut messages = Messages::new(10, true);
            let mut read = 0;
            for part in sound.chunks(size) {
                assert_eq!(messages.read(part), Ok(()), "cut into {size}");
                read += part.len();
                assert_eq!(
                    messages.is_between(),
                    [0, 8, 13, 28].contains(&read),
                    "{read} of {size}"
                );
            }
        }
    }

    #[test]
    fn faults_by_what_stands_before_them() {
        let first = message(0, b"one");
        for (second, may_be_compressed, fault) in [
            (message(2, b""), true, Fault::Flag),
            (message(255, b""), true, Fault::Flag),
            (message(1, b""), false, Fault::Flag),
            (message(0, &[0; 11]), true, Fault::TooLarge),
            (vec![0, 255, 255, 255, 255], true, Fault::TooLarge),
        ] {
            let both = [&first[..], &second].concat();
            let new = || Messages::new(10, may_be_compressed);
            let found = new().read(&both);
            assert_eq!(found, Err(Faulty { fault, sound: Some(first.len()) }), "{second:?}");
            for at in 1..=both.len().min(first.len() + PREFIX_OCTETS) {
                let (one, other) = both.split_at(at);
                let mut messages = new();
                let found = messages.read(one).and_then(|()| messages.read(other));
                let begins_in_other = at <= first.len();
                let sound = match messages.prefix.first() {
                    // Found by its first octet.
                    _ if fault == Fault::Flag && !begins_in_other => Some(first.len()),
                    _ => begins_in_other.then(|| first.len() - at),
                };
                let is_found_in_one = at == first.len() + PREFIX_OCTETS;
                let sound = if is_found_in_one { Some(first.len()) } else { sound };
                assert_eq!(found, Err(Faulty { fault, sound }), "{second:?} cut at {at}");
            }
        }
    }
}
