//! The octets of a message while they pass: whole where they were checked, a stream where not.

use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::access_log::Settlement;
use crate::clock::Monotonic;
use crate::upstream::flow::Flow;
use crate::upstream::grpc::Passing;
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
    /// When the upstream has sent nothing for too long; made when it is first waited for.
    stall: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// How it is looked at while it flows, where it is one of a call of gRPC.
    passing: Option<Box<Passing>>,
}

/// A body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the message broke off")]
    Broken(#[from] hyper::Error),
    #[error("the upstream sent nothing for too long")]
    Stalled,
    #[error("it has more octets than it may")]
    TooLarge,
    /// Says so to an endpoint of HTTP/2 that the answer is no longer waited for.
    #[error("the answer is over")]
    GivenUp(#[source] h2::Error),
    /// Of a call of gRPC: what is wrong with it is told elsewhere.
    #[error("a message is cut off, or none")]
    Cut,
}

impl Body {
    pub fn empty() -> Self {
        Self::of(None, None)
    }

    fn of(ready: Option<Bytes>, rest: Option<Incoming>) -> Self {
        let ready = ready.filter(|octets| !octets.is_empty());
        Self {
            ready,
            rest,
            settlement: None,
            left: u64::MAX,
            flow: None,
            lease: None,
            stall: None,
            is_waiting: false,
            passing: None,
        }
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

    /// Is looked at as one direction of a call, and ends as such. Its upstream is waited for until the
    /// call's deadline.
    #[must_use]
    pub fn passing(mut self, passing: Passing) -> Self {
        self.passing = Some(Box::new(passing));
        self
    }

    /// Whether all of it is here.
    pub fn is_whole(&self) -> bool {
        self.rest.is_none()
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

impl Body {
    /// Counts what goes on; nothing when it is the end.
    fn passed(&mut self, octets: usize) {
        if let Some(settlement) = &mut self.settlement {
            settlement.sent(octets);
        }
        if let Some(flow) = &self.flow {
            flow.passed(octets, Monotonic::now());
        }
    }

    /// Ready when the upstream has kept us waiting for too long. A client that is slow to take what
    /// is there is not waited for here.
    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(lease) = self.lease.as_mut().filter(|_| self.passing.is_none()) else {
            return Poll::Pending;
        };
        let patience = lease.read_timeout();
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            stall.as_mut().reset(Instant::now() + patience);
        }
        let is_over = stall.as_mut().poll(context);
        if is_over.is_ready() {
            lease.stalled();
        }
        is_over
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(mut settlement) = self.settlement.take() {
            if let Some(passing) = &self.passing {
                passing.conclude(&mut settlement);
            }
            settlement.settle();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.flow.as_ref().is_some_and(|flow| flow.is_given_up()) {
            let cancel = h2::Error::from(h2::Reason::CANCEL);
            return Poll::Ready(Some(Err(BodyError::GivenUp(cancel))));
        }
        if let Some(octets) = self.ready.take() {
            self.passed(octets.len());
            return Poll::Ready(Some(Ok(Frame::data(octets))));
        }
        loop {
            let end = self.passing.as_mut().map_or(Poll::Pending, |call| call.poll_end(context));
            if let Poll::Ready(end) = end {
                // Neither side of the exchange goes on.
                (self.rest, self.lease) = (None, None);
                return Poll::Ready(end);
            }
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            let Poll::Ready(frame) = Pin::new(rest).poll_frame(context) else {
                if let Some(flow) = &self.flow {
                    flow.awaits_client(Monotonic::now());
                    flow.watch(context.waker());
                }
                return self.poll_stall(context).map(|()| Some(Err(BodyError::Stalled)));
            };
            match frame {
                // Trailers are the previous hop's framing: calls of gRPC alone declare them.
                Some(Ok(frame)) if frame.is_trailers() => {
                    let fields = frame.into_trailers().unwrap_or_default();
                    if let Some(end) = self.passing.as_mut().and_then(|call| call.trailers(fields))
                    {
                        self.rest = None;
                        return Poll::Ready(Some(end));
                    }
                }
                Some(Ok(frame)) => {
                    let mut octets = frame.into_data().unwrap_or_default();
                    if let Some(passing) = &mut self.passing {
                        octets = passing.data(octets)?;
                        if octets.is_empty() {
                            continue;
                        }
                    }
                    let length = octets.len();
                    self.is_waiting = false;
                    let Some(left) = self.left.checked_sub(length as u64) else {
                        if let Some(flow) = &self.flow {
                            flow.exceeded();
                        }
                        return Poll::Ready(Some(Err(BodyError::TooLarge)));
                    };
                    self.left = left;
                    self.passed(length);
                    return Poll::Ready(Some(Ok(Frame::data(octets))));
                }
                None => {
                    self.passed(0);
                    return Poll::Ready(self.passing.as_mut().and_then(|call| call.end()));
                }
                Some(Err(error)) => {
                    self.passed(0);
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // The end of a call is looked at too.
        if let Some(passing) = &self.passing {
            return passing.is_over();
        }
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
    /// The same, with trailer fields behind it, which are no part of it.
    Trailed(Bytes),
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
    let mut has_trailers = false;
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let data = match frame {
            None => break,
            Some(Err(_)) => return Collected::Failed,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_trailers) => {
                    has_trailers = true;
                    continue;
                }
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
    let octets = joined(first, whole);
    if has_trailers { Collected::Trailed(octets) } else { Collected::Whole(octets) }
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
