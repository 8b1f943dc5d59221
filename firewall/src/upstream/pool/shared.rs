//! One endpoint's try on connections that exchanges share: HTTP/2.

use std::cell::RefCell;

use http::{Request, Response};
use hyper::body::Incoming;

use super::super::UpstreamError;
use super::super::body::Body;
use super::super::multiplexed::{How, NotOpened, Unanswered, convert};
use super::member::{Lease, Used};
use super::{Again, Failure, Holder, Pool, STALE_ATTEMPTS, copy};
use crate::clock::Monotonic;

impl Pool {
    /// Sends on a connection that is open, or on a new one. What the endpoint has not acted upon by its
    /// own word, and what is idempotent where a connection ended that others had used, is sent to it
    /// once more, within the budget.
    pub(super) async fn attempt_shared(
        &self,
        lease: Lease,
        mut request: Request<Body>,
        is_whole: bool,
        holder: &RefCell<Option<Holder>>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let settings = self.upstream.settings();
        let member = std::rc::Rc::clone(lease.member());
        let how = How {
            tls: self.upstream.0.tls.as_ref(),
            connect_timeout: settings.limits.connect_timeout,
            pings: settings.pings,
        };
        let mut was_sent = false;
        let mut error = UpstreamError::Protocol;
        for _ in 0..STALE_ATTEMPTS {
            holder.take();
            let mut place = match member.shared.place(&member.endpoint, &how).await {
                Ok(place) => place,
                Err(NotOpened { error, is_first }) => {
                    if is_first {
                        self.failed(&member);
                    }
                    return Err(Failure { error, again: Some(Again::new(request, was_sent)) });
                }
            };
            if place.is_new { &self.new } else { &self.reused }.inc();
            convert(&mut request, member.endpoint.scheme)?;
            let is_idempotent = request.method().is_idempotent();
            let copy = copy(&request);
            holder.replace(Some(Holder::new(&member)));
            let (unanswered, is_new) = match place.send(request).await {
                Ok(response) => return self.answered(lease, Used::Shared(place), response),
                Err(unanswered) => (unanswered, place.is_new),
            };
            let again = match unanswered {
                Unanswered::Unsent(unsent) => {
                    request = *unsent;
                    continue;
                }
                Unanswered::Unprocessed => {
                    error = UpstreamError::Refused;
                    copy
                }
                Unanswered::Closed => {
                    error = UpstreamError::Protocol;
                    was_sent = true;
                    copy.filter(|_| is_idempotent)
                }
                Unanswered::Broken => None,
            };
            let Some(again) = again else {
                // Where the body is the client's stream, so may be what broke off.
                if is_whole {
                    self.failed(&member);
                }
                return Err(error.into());
            };
            if was_sent && is_new {
                self.failed(&member);
                return Err(Failure { error, again: Some(Again::new(again, was_sent)) });
            }
            if !self.budget.borrow_mut().withdraw(&settings.retry, Monotonic::coarse()) {
                return Err(error.into());
            }
            if was_sent { &self.replayed } else { &self.unsent }.inc();
            request = again;
        }
        self.failed(&member);
        Err(Failure { error, again: Some(Again::new(request, was_sent)) })
    }
}
