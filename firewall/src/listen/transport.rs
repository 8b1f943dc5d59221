//! What carries a connection's octets, encrypted or plain, and which version of HTTP they are.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// A version of HTTP, as far as its octets differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/1.0.
    Http1,
    Http2,
}

impl Protocol {
    /// Its name where protocols are negotiated (RFC 7301 section 6).
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    /// What TLS offers to clients, the best first.
    pub fn offered(is_http2_served: bool) -> Vec<Vec<u8>> {
        let http2 = is_http2_served.then_some(Self::Http2);
        http2.into_iter().chain([Self::Http1]).map(|protocol| protocol.alpn().to_vec()).collect()
    }

    /// What was agreed on; HTTP/1.1 where the client did not ask.
    fn agreed(alpn: Option<&[u8]>) -> Self {
        if alpn == Some(Self::Http2.alpn()) { Self::Http2 } else { Self::Http1 }
    }
}

/// A connection's stream. Plain text pays one predictable branch for that there is TLS.
pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What the client wants to speak: what TLS has agreed on, HTTP/1.1 in plain text.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Plain(_) => Protocol::Http1,
            Self::Tls(stream) => Protocol::agreed(stream.get_ref().1.alpn_protocol()),
        }
    }

    /// Lets the stream end with a reset when it is dropped. That takes the kernel's buffers and timers
    /// along, of which a banned source could otherwise make us keep many. Where it fails, the socket
    /// is closed in the common way.
    pub fn reset(&self) {
        reset(self.socket());
    }
}

/// Lets the stream end with a reset, which leaves nothing behind on either side.
pub(super) fn reset(stream: &TcpStream) {
    stream.set_zero_linger().unwrap_or_else(|error| debug!(%error, "no reset"));
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_can_be_agreed_on() {
        for (is_http2_served, offered) in
            [(true, &[Protocol::Http2, Protocol::Http1][..]), (false, &[Protocol::Http1])]
        {
            let names = Protocol::offered(is_http2_served);
            let agreed: Vec<_> = names.iter().map(|name| Protocol::agreed(Some(name))).collect();
            assert_eq!(agreed, offered);
        }
        assert_eq!(Protocol::agreed(None), Protocol::Http1);
    }
}
