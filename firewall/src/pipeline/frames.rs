//! WebSocket frames as they pass (RFC 6455 section 5): the headers of one direction, judged octet by
//! octet. Payload is counted and never kept.

/// The opcodes that there are; three bits of reserve for data, as many for control.
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const FINAL: u8 = 0x80;
/// The three bits that extensions may give a meaning, and the one that RFC 7692 does.
const RESERVED: u8 = 0x70;
const COMPRESSED: u8 = 0x40;
const MASKED: u8 = 0x80;

/// Octets that a control frame may carry.
const CONTROL_OCTETS: u8 = 125;

/// Who sends the frames of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Masks every frame (section 5.1).
    Client,
    /// Masks none.
    Upstream,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its header is against section 5.
    Malformed,
    /// The message that it belongs to is longer than it may be.
    TooLarge,
}

/// One direction's octets as a sequence of frames.
///
/// The verdict does not depend on how the octets are cut into reads.
#[derive(Clone, Debug)]
pub struct Frames {
    sender: Sender,
    message_octets: u64,
    is_compressed: bool,
    /// Octets left of the payload in hand.
    payload: u64,
    /// Octets so far of a message that has not ended.
    message: Option<u64>,
    has_closed: bool,
    fault: Option<Fault>,
}

/// One header that could be read.
struct Header {
    octets: usize,
    opcode: u8,
    is_final: bool,
    payload: u64,
}

impl Frames {
    /// Messages may have at most `message_octets`, as they are sent; where `is_compressed` they may be
    /// marked as such.
    pub fn new(sender: Sender, message_octets: u64, is_compressed: bool) -> Self {
        let (payload, message, has_closed, fault) = (0, None, false, None);
        Self { sender, message_octets, is_compressed, payload, message, has_closed, fault }
    }

    /// How many of the first octets of `unjudged` may be passed on.
    ///
    /// `unjudged` begins with the first octet that no earlier call has let pass. A header is let pass
    /// whole, so the few octets of an incomplete one must be kept, and shown again with what follows
    /// them. Where it `stops`, nothing is let pass behind the frame in hand. After a fault nothing more
    /// is: see [`Frames::fault`].
    pub fn scan(&mut self, unjudged: &[u8], stops: bool) -> usize {
        let mut judged = 0;
        loop {
            let rest = unjudged.get(judged..).unwrap_or_default();
            if self.fault.is_some() || rest.is_empty() {
                return judged;
            }
            if self.payload > 0 {
                let here =
                    u64::try_from(rest.len()).map_or(self.payload, |it| it.min(self.payload));
                self.payload -= here;
                judged += usize::try_from(here).unwrap_or(rest.len());
                continue;
            }
            if stops {
                return judged;
            }
            match self.header(rest) {
                Ok(None) => return judged,
                Ok(Some(header)) => {
                    judged += header.octets;
                    self.begin(&header);
                }
                Err(fault) => self.fault = Some(fault),
            }
        }
    }

    /// Why no more octets pass.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Whether all that was let pass are whole frames, so that another may be put behind them.
    pub fn is_between(&self) -> bool {
        self.payload == 0
    }

    /// Whether the sender has said that it will send nothing more (section 5.5.1).
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    fn begin(&mut self, header: &Header) {
        self.payload = header.payload;
        match header.opcode {
            CLOSE => self.has_closed = true,
            CONTINUATION | TEXT | BINARY => {
                let octets = self.message.unwrap_or(0).saturating_add(header.payload);
                self.message = (!header.is_final).then_some(octets);
            }
            _ => {}
        }
    }

    /// Reads one header; none if it is not here whole. What is wrong with its first octets is told
    /// before the others are here.
    fn header(&self, octets: &[u8]) -> Result<Option<Header>, Fault> {
        let Some(&first) = octets.first() else { return Ok(None) };
        let (opcode, is_final) = (first & 0x0f, first & FINAL != 0);
        let meant = match opcode {
            TEXT | BINARY if self.is_compressed => COMPRESSED,
            CONTINUATION | TEXT | BINARY => 0,
            CLOSE | PING | PONG if is_final => 0,
            _ => return Err(Fault::Malformed),
        };
        let is_control = opcode >= CLOSE;
        let is_out_of_order = match opcode {
            CONTINUATION => self.message.is_none(),
            TEXT | BINARY => self.message.is_some(),
            _ => false,
        };
        if first & RESERVED & !meant != 0 || is_out_of_order || (self.has_closed && !is_control) {
            return Err(Fault::Malformed);
        }
        let Some(&second) = octets.get(1) else { return Ok(None) };
        let (is_masked, length) = (second & MASKED != 0, second & !MASKED);
        let is_masked_well = is_masked == (self.sender == Sender::Client);
        // A close frame begins with a status of two octets, if with anything (section 5.5.1).
        if !is_masked_well
            || (is_control && length > CONTROL_OCTETS)
            || (opcode == CLOSE && length == 1)
        {
            return Err(Fault::Malformed);
        }
        let Some((payload, length_octets)) =
            length_of(length, octets.get(2..).unwrap_or_default())?
        else {
            return Ok(None);
        };
        let before = self.message.unwrap_or(0);
        if !is_control && before.saturating_add(payload) > self.message_octets {
            return Err(Fault::TooLarge);
        }
        let octets_all = 2 + length_octets + if is_masked { 4 } else { 0 };
        let header = Header { octets: octets_all, opcode, is_final, payload };
        Ok((octets.len() >= octets_all).then_some(header))
    }
}

/// The payload's length, and the octets behind the first that it takes; none if they are not here. It
/// must be written as short as it can be (section 5.2).
fn length_of(length: u8, more: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    match length {
        126 => {
            let Some(&octets) = more.first_chunk::<2>() else { return Ok(None) };
            let length = u16::from_be_bytes(octets);
            if length < 126 { Err(Fault::Malformed) } else { Ok(Some((length.into(), 2))) }
        }
        127 => {
            let Some(&octets) = more.first_chunk::<8>() else { return Ok(None) };
            let length = u64::from_be_bytes(octets);
            let is_sound = (1 << 16..1 << 63).contains(&length);
            if is_sound { Ok(Some((length, 8))) } else { Err(Fault::Malformed) }
        }
        short => Ok(Some((short.into(), 0))),
    }
}

/// The status codes by which we close a connection (section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    GoingAway = 1001,
    ProtocolError = 1002,
    PolicyViolation = 1008,
    TooLarge = 1009,
    InternalError = 1011,
}

/// A close frame, as the client or the upstream would send it; `mask` hides nothing, and is there
/// because a client's must be.
pub fn close_frame(sender: Sender, code: CloseCode, mask: [u8; 4]) -> Vec<u8> {
    let [high, low] = (code as u16).to_be_bytes();
    match sender {
        Sender::Upstream => vec![FINAL | CLOSE, 2, high, low],
        Sender::Client => {
            let [first, second, third, fourth] = mask;
            vec![
                FINAL | CLOSE,
                MASKED | 2,
                first,
                second,
                third,
                fourth,
                high ^ first,
                low ^ second,
            ]
        }
    }
}

#[cfg(test)]
mod tests;
