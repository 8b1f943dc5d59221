//! The octets of a message while they pass: whole where they were checked, a stream where not.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::access_log::Settlement;
use crate::clock::Monotonic;
use crate::upstream::flow::Flow;
use crate::upstream::pool::Lease;

/// A message's body in either direction.
///
/// When an answer's body is dropped, sent whole or not, the exchange is settled: logged and counted.
#[derive(Debug)]
pub struct Body {
    /// What is already here and goes first.
    ready: Option<Bytes>,
    /// What is still to come.
    rest: Option<Incoming>,
    settlement: Option<Box<Settlement>>,
    /// Octets that may still come.
    left: u64,
    /// Where those look who wait for the answer to this request.
    flow: Option<Rc<Flow>>,
    /// The upstream connection that `rest` comes from; goes back to its pool when all is read.
    lease: Option<Lease>,
}

impl Body {
    pub fn empty() -> Self {
        Self::of(None, None)
    }

    fn of(ready: Option<Bytes>, rest: Option<Incoming>) -> Self {
        let ready = ready.filter(|octets| !octets.is_empty());
        Self { ready, rest, settlement: None, left: u64::MAX, flow: None, lease: None }
    }

    pub fn full(octets: Bytes) -> Self {
        Self::of(Some(octets), None)
    }

    pub fn stream(rest: Incoming) -> Self {
        Self::of(None, Some(rest))
    }

    /// What was read before it was given up to check the whole, then what was not.
    pub fn resumed(read: Bytes, rest: Incoming) -> Self {
        Self::of(Some(read), Some(rest))
    }

    /// Breaks off when it turns out to have more octets than this.
    #[must_use]
    pub fn within(mut self, limit: usize) -> Self {
        self.left = limit as u64;
        self
    }

    /// How a request's body flows that is not all here; none where it is.
    pub fn flow(&mut self) -> Option<Rc<Flow>> {
        self.rest.as_ref()?;
        let new = || Rc::new(Flow::new(Monotonic::now()));
        Some(Rc::clone(self.flow.get_or_insert_with(new)))
    }

    /// Settles the exchange when this body has been sent or given up.
    #[must_use]
    pub fn settled_by(mut self, settlement: Box<Settlement>) -> Self {
        self.settlement = Some(settlement);
        self
    }

    /// Keeps the upstream connection until this body has been sent or given up.
    #[must_use]
    pub fn leased(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// The same octets once more, where all of them are here.
    pub fn replica(&self) -> Option<Self> {
        self.rest.is_none().then(|| Self::of(self.ready.clone(), None))
    }

    /// The octets, where all of them are here.
    pub fn into_bytes(mut self) -> Option<Bytes> {
        if self.rest.is_some() {
            return None;
        }
        Some(self.ready.take().unwrap_or_default())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(settlement) = self.settlement.take() {
            settlement.settle();
        }
    }
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    #[error("the body is longer than it may be")]
    TooLarge,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { ready, rest, settlement, left, flow, .. } = &mut *self;
        let flow = flow.as_ref();
        let mut count = |octets: usize| {
            if let Some(settlement) = settlement {
                settlement.sent(octets);
            }
            if let Some(flow) = flow {
                flow.passed(octets, Monotonic::now());
            }
        };
        if let Some(octets) = ready.take() {
            count(octets.len());
            return Poll::Ready(Some(Ok(Frame::data(octets))));
        }
        let Some(rest) = rest else { return Poll::Ready(None) };
        loop {
            match Pin::new(&mut *rest).poll_frame(context) {
                Poll::Pending => {
                    if let Some(flow) = flow {
                        flow.awaits_client(Monotonic::now());
                    }
                    return Poll::Pending;
                }
                // Trailers are the previous hop's framing: no contract declares them yet.
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let Some(less) = left.checked_sub(length as u64) else {
                        if let Some(flow) = flow {
                            flow.exceeded();
                        }
                        return Poll::Ready(Some(Err(BodyError::TooLarge)));
                    };
                    *left = less;
                    count(length);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(end) => {
                    count(0);
                    return Poll::Ready(end.map(|frame| frame.map_err(BodyError::from)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ready = self.ready.as_ref().map_or(0, Bytes::len) as u64;
        let Some(rest) = &self.rest else { return SizeHint::with_exact(ready) };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(ready.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(ready)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// What came of reading a body whole.
#[derive(Debug)]
pub enum Collected {
    Whole(Bytes),
    /// It is longer than the limit: what was read, and what was not.
    TooLarge(Bytes, Incoming),
    /// The other side broke off, or broke the framing.
    Failed,
}

/// Reads at most `limit` octets and what the last frame brings beyond. A body of one frame is not
/// copied.
pub async fn collect(mut body: Incoming, limit: usize) -> Collected {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Collected::TooLarge(Bytes::new(), body);
    }
    let mut first: Option<Bytes> = None;
    let mut whole: Option<BytesMut> = None;
    let mut length = 0usize;
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let data = match frame {
            None => break,
            Some(Err(_)) => return Collected::Failed,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_trailers) => continue,
            },
        };
        length = length.saturating_add(data.len());
        match (&mut whole, first.take()) {
            (Some(whole), _) => whole.extend_from_slice(&data),
            (None, None) => first = Some(data),
            (None, Some(start)) => {
                let capacity = announced.max(start.len().saturating_add(data.len())).min(limit);
                let mut both = BytesMut::with_capacity(capacity);
                both.extend_from_slice(&start);
                both.extend_from_slice(&data);
                whole = Some(both);
            }
        }
        if length > limit {
            return Collected::TooLarge(joined(first, whole), body);
        }
    }
    Collected::Whole(joined(first, whole))
}

/// Reads the beginning of a body that will not be used into `read`: at least `limit` octets, if there
/// are as many. Whether that is all of it.
pub async fn beginning(mut body: Incoming, limit: usize, read: &mut BytesMut) -> bool {
    while read.len() < limit {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        match frame {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    read.extend_from_slice(data);
                }
            }
        }
    }
    body.is_end_stream()
}

fn joined(first: Option<Bytes>, whole: Option<BytesMut>) -> Bytes {
    whole.map(BytesMut::freeze).or(first).unwrap_or_default()
}
