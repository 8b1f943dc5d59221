//! The streams of one connection: a task for each, which ends when its client takes nothing of its
//! answer for too long, and at the latest with the connection.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::task::JoinSet;

use crate::access_log::Ending;
use crate::clock::Monotonic;
use crate::pipeline::origin::{GivenUp, Judgement};

use super::super::judged::Alarm;

/// How much of an answer is handed to h2 at once: what waits there for the client's window cannot be
/// taken back.
const PIECE_OCTETS: usize = 16 * 1024;

/// The tasks. hyper holds clones of it within them, so that it must be told to let go of them.
#[derive(Clone)]
pub(super) struct Streams(Rc<Inner>);

struct Inner {
    tasks: RefCell<JoinSet<()>>,
    /// Whose task is the next one that hyper makes.
    begun: Cell<Option<Rc<Turn>>>,
    /// From one piece of an answer that the client takes to the next.
    patience: Duration,
}

/// Ends the tasks when it is dropped.
pub(super) struct Tasks(Streams);

impl Drop for Tasks {
    fn drop(&mut self) {
        drop(self.0.0.tasks.take());
    }
}

impl Streams {
    pub(super) fn new(patience: Duration) -> (Self, Tasks) {
        let (tasks, begun) = (RefCell::default(), Cell::default());
        let streams = Self(Rc::new(Inner { tasks, begun, patience }));
        (streams.clone(), Tasks(streams))
    }

    /// The turn of the request that hyper's service was just called with; its task is made next.
    pub(super) fn begin(&self, judgement: &Rc<Judgement>) -> Rc<Turn> {
        let turn = Rc::new(Turn { judgement: Rc::clone(judgement), waiting: Cell::new(None) });
        self.0.begun.set(Some(Rc::clone(&turn)));
        turn
    }

    /// Forgets the tasks that have ended; the connection's task runs again when another does.
    pub(super) fn reap(&self, cx: &mut Context<'_>) {
        let mut tasks = self.0.tasks.borrow_mut();
        while let Poll::Ready(Some(_)) = tasks.poll_join_next(cx) {}
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, task: F) {
        let (turn, patience) = (self.0.begun.take(), self.0.patience);
        self.0.tasks.borrow_mut().spawn_local(async move {
            // It outlives the task: what the task leaves behind is settled by what it says.
            let given_up = Cell::new(None);
            let (mut task, mut alarm) = (pin!(task), Alarm::default());
            poll_fn(|cx| {
                if task.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                let Some((turn, since)) =
                    turn.as_ref().and_then(|turn| Some((turn, turn.waiting.get()?)))
                else {
                    return Poll::Pending;
                };
                ready!(alarm.poll(cx, since.after(patience)));
                // Dropped, it resets the stream.
                given_up.set(Some(GivenUp::new(&turn.judgement, Ending::Untaken)));
                Poll::Ready(())
            })
            .await;
        });
    }
}

/// One request's turn: from its call of the service until its answer is handed over or given up.
pub(super) struct Turn {
    judgement: Rc<Judgement>,
    /// Since when a piece of the answer waits for the client.
    waiting: Cell<Option<Monotonic>>,
}

impl Turn {
    /// A piece of the answer is handed over, and waits for the client.
    fn wait(&self) {
        let now = Monotonic::coarse();
        if self.waiting.replace(Some(now)).is_none() {
            self.judgement.piece_waits(now);
        }
    }

    /// It has gone.
    fn go_on(&self) {
        if self.waiting.take().is_some() {
            self.judgement.piece_went();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.go_on();
        self.judgement.end(Monotonic::coarse());
    }
}

/// An answer's body in pieces, and the turn that ends with it.
pub(super) struct Answer<B> {
    pub(super) body: B,
    pub(super) turn: Rc<Turn>,
    /// What is left of a piece that was too large.
    pub(super) rest: Bytes,
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, turn: Rc<Turn>) -> Self {
        Self { body, turn, rest: Bytes::new() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        // Who asks for more has got rid of what there was.
        this.turn.go_on();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(octets) => this.rest = octets,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_OCTETS));
        this.turn.wait();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if rest == 0 {
            return body;
        }
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}
