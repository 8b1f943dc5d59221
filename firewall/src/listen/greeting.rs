//! Which version of HTTP a client speaks in plain text, as its first octets tell.

use std::io::Result;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock::Monotonic;

use super::connections::Ticket;

/// With which HTTP/2 begins (RFC 9113 section 3.4). No request of HTTP/1 does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a client that has just come speaks HTTP/2; what was read to find out stands in `read`.
///
/// One that does not say so in time is left to HTTP/1, and so is one that must end: there its silence
/// is judged.
pub(super) async fn tells_http2(
    stream: &mut TcpStream,
    ticket: &Ticket,
    patience: Duration,
    read: &mut Vec<u8>,
) -> bool {
    let waited = Monotonic::now().since(ticket.accepted_at());
    let heard = timeout(patience.saturating_sub(waited), hear(stream, read));
    tokio::select! {
        biased;
        () = ticket.must_end() => false,
        heard = heard => matches!(heard, Ok(Ok(true))),
    }
}

/// Reads until it is known which version it is, into `read`: what is there remains there if nobody
/// waits for the end.
async fn hear(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> Result<bool> {
    loop {
        if !PREFACE.starts_with(read) {
            return Ok(false);
        }
        let left = PREFACE.len() - read.len();
        if left == 0 {
            return Ok(true);
        }
        // Never beyond the preface: what follows is the reader's of it.
        let mut rest = (&mut *stream).take(left as u64);
        if rest.read_buf(read).await? == 0 {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn by_the_first_octet_that_differs() {
        let preface = PREFACE.as_slice();
        for (sent, is_http2, expected) in [
            (preface, true, preface),
            (&[preface, b"\0\0\0\x04"].concat()[..], true, preface),
            (b"POST /a HTTP/1.1\r\nHost: a\r\n\r\n", false, b"POST /a HTTP/1.1\r\nHost: "),
            (b"P", false, b"P"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", false, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"),
            (b"", false, b""),
        ] {
            for size in [1, 7, 64] {
                let (mut client, mut server) = tokio::io::duplex(4096);
                for part in sent.chunks(size) {
                    client.write_all(part).await.unwrap();
                }
                drop(client);
                let mut read = Vec::new();
                assert_eq!(hear(&mut server, &mut read).await.unwrap(), is_http2, "{sent:?}");
                assert!(expected.starts_with(&read) && sent.starts_with(&read), "{read:?}");
            }
        }
    }
}
