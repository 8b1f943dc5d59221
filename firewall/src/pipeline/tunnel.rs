//! What an exchange becomes when another protocol has been agreed on: two streams, each octet of which
//! passes to the other side.

mod way;

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use self::way::{Ended, Way};
use super::frames::{CloseCode, Fault, Frames, Sender, close_frame};
use super::ruleset::Mode;
use super::tunnels::Seat;
use crate::access_log::Settlement;
use crate::address::{ClientAddr, PeerAddr};
use crate::ban::keeper::KeeperHandle;
use crate::clock::Monotonic;
use crate::metrics::{ApiMetrics, Metrics, Outcome};
use crate::upstream::pool::Upgraded;
use crate::violation::{Rule, Violation};

/// How long the other side may go on once one has ended its own.
const HALF_CLOSED: Duration = Duration::from_secs(10);
/// How long the frames in hand may take to their end, and what we have to say behind them.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long what still comes is thrown away once all is said, and how much at most: a socket closed
/// with octets unread would reset the connection under our last frame.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;

/// Longest times of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelTimes {
    /// Without an octet from either side.
    pub idle: Duration,
    /// In all.
    pub age: Duration,
}

/// What the tunnel's connection is ordered to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    GoOn,
    /// The process stops: say so, and end.
    GoAway,
    /// The client is banned: say so, and end.
    TurnAway,
    /// End at once.
    End,
}

/// Whether the client's stream may be closed in the common way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Farewell {
    Close,
    /// It is to be reset: the order was to end at once.
    Reset,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// The client ended it, or was gone.
    Client,
    Upstream,
    Idle,
    Age,
    Drained,
    Banned,
    ClientFrame,
    UpstreamFrame,
    /// It was given up before it was used.
    Unused,
}

impl Reason {
    const fn id(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Drained => "drained",
            Self::Banned => "banned",
            Self::ClientFrame => "client-frame",
            Self::UpstreamFrame => "upstream-frame",
            Self::Unused => "unused",
        }
    }
}

/// What a tunnel needs to know of the exchange that it was.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) times: TunnelTimes,
    pub(super) client: ClientAddr,
    pub(super) socket: PeerAddr,
    pub(super) keeper: KeeperHandle,
    pub(super) metrics: ApiMetrics,
    pub(super) counts: TunnelCounts,
    pub(super) request_mode: Mode,
    pub(super) response_mode: Mode,
}

/// What is counted of the tunnels of an API.
#[derive(Debug)]
pub(super) struct TunnelCounts {
    open: IntGauge,
    up: IntCounter,
    down: IntCounter,
    ended: prometheus::IntCounterVec,
    api: Box<str>,
}

impl TunnelCounts {
    pub(super) fn new(metrics: &Metrics, api: &str) -> Self {
        let octets = |direction| metrics.tunnel_octets.with_label_values(&[api, direction]);
        let open = metrics.tunnels.with_label_values(&[api]);
        open.inc();
        let (up, down) = (octets("up"), octets("down"));
        Self { open, up, down, ended: metrics.tunnels_ended.clone(), api: api.into() }
    }
}

/// An upgraded connection to the upstream, and all that its client's is to be joined to it by.
///
/// When it is dropped the exchange is settled, used or not.
#[derive(Debug)]
pub struct Tunnel {
    upstream: Upgraded,
    terms: Terms,
    seat: Seat,
    up: Way,
    down: Way,
    settlement: Option<Box<Settlement>>,
    begun: Monotonic,
    moved: Monotonic,
    /// The side whose close frame was first.
    said: Option<Reason>,
    /// The side that ended first, and when.
    first: Option<(Reason, Monotonic)>,
    reason: Reason,
    is_ups_turn: bool,
}

impl Tunnel {
    /// `frames` judge the client's and the upstream's, where they are looked at.
    pub(super) fn new(
        upstream: Upgraded,
        seat: Seat,
        frames: Option<(Frames, Frames)>,
        terms: Terms,
    ) -> Self {
        let (client, server) = frames.unzip();
        let up = Way::new(client.filter(|_| terms.request_mode != Mode::Off));
        let down = Way::new(server.filter(|_| terms.response_mode != Mode::Off));
        let now = Monotonic::now();
        Self {
            upstream,
            terms,
            seat,
            up,
            down,
            settlement: None,
            begun: now,
            moved: now,
            said: None,
            first: None,
            reason: Reason::Unused,
            is_ups_turn: true,
        }
    }

    /// Settles the exchange when the tunnel has ended. That it came to this is counted now.
    #[must_use]
    pub(super) fn settled_by(mut self, settlement: Settlement) -> Self {
        settlement.count();
        self.settlement = Some(Box::new(settlement));
        self
    }

    /// Passes octets on until one side ends, or something ends both. `begun` is what the client has
    /// sent already; `order` is asked each time anything happens, and sees to it that its task is
    /// woken when its answer changes.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        client: &mut S,
        begun: &[u8],
        mut order: impl FnMut(&mut Context<'_>) -> Order,
    ) -> Farewell {
        self.up.begin_with(begun);
        let mut alarm = Box::pin(sleep(Duration::ZERO));
        loop {
            self.reason = poll_fn(|cx| self.poll(cx, client, &mut order, alarm.as_mut())).await;
            let rule = match self.reason {
                Reason::ClientFrame => self.client_fault(),
                Reason::UpstreamFrame => self.upstream_fault(),
                _ => None,
            };
            let Some(rule) = rule else { break };
            if !self.violated(rule) {
                // Observed: the rest of this direction is not looked at.
                continue;
            }
            if let Some(offence) = rule.offence() {
                // Where that makes a ban, the order to end follows.
                let Terms { keeper, client, socket, .. } = &self.terms;
                keeper.offend(*client, *socket, offence, rule.id()).await;
            }
            break;
        }
        let codes = match self.reason {
            Reason::Client | Reason::Upstream | Reason::Unused => {
                return self.farewell(&mut order).await;
            }
            Reason::Idle | Reason::Age | Reason::Drained => {
                (CloseCode::GoingAway, CloseCode::GoingAway)
            }
            Reason::Banned => (CloseCode::PolicyViolation, CloseCode::GoingAway),
            Reason::ClientFrame => (self.up.close_code(), CloseCode::GoingAway),
            Reason::UpstreamFrame => (CloseCode::InternalError, self.down.close_code()),
        };
        self.part(client, codes, &mut order).await
    }

    /// Whether the order stands to end at once.
    async fn farewell(&self, order: &mut impl FnMut(&mut Context<'_>) -> Order) -> Farewell {
        poll_fn(|cx| {
            let is_over = order(cx) == Order::End;
            Poll::Ready(if is_over { Farewell::Reset } else { Farewell::Close })
        })
        .await
    }

    fn client_fault(&self) -> Option<Rule> {
        self.up.fault().map(|fault| match fault {
            Fault::Malformed => Rule::Frame,
            Fault::TooLarge => Rule::MessageTooLarge,
        })
    }

    fn upstream_fault(&self) -> Option<Rule> {
        self.down.fault().map(|fault| match fault {
            Fault::Malformed => Rule::ResponseFrame,
            Fault::TooLarge => Rule::ResponseTooLarge,
        })
    }

    /// Counts a violation and keeps it for the log; whether it ends the tunnel.
    fn violated(&mut self, rule: Rule) -> bool {
        let is_clients = self.reason == Reason::ClientFrame;
        let (mode, way) = if is_clients {
            (self.terms.request_mode, &mut self.up)
        } else {
            (self.terms.response_mode, &mut self.down)
        };
        let is_refused = mode == Mode::Enforce;
        let outcome = if is_refused { Outcome::Refused } else { Outcome::Observed };
        if !is_refused {
            way.look_away();
        }
        self.terms.metrics.violation(rule, outcome);
        if let Some(settlement) = &mut self.settlement {
            settlement.outcome = outcome;
            settlement.record.violation.get_or_insert_with(|| Violation::new(rule));
        }
        is_refused
    }

    /// Ready when there is a reason to end.
    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut S,
        order: &mut impl FnMut(&mut Context<'_>) -> Order,
        mut alarm: Pin<&mut Sleep>,
    ) -> Poll<Reason> {
        match order(cx) {
            Order::GoOn => {}
            Order::GoAway => return Poll::Ready(Reason::Drained),
            Order::TurnAway | Order::End => return Poll::Ready(Reason::Banned),
        }
        if self.seat.poll_unwanted(cx).is_ready() {
            return Poll::Ready(Reason::Banned);
        }
        if let Poll::Ready(reason) = self.poll_ways(cx, client) {
            return Poll::Ready(reason);
        }
        loop {
            let now = Monotonic::coarse();
            let (due, reason) = self.due();
            if now >= due {
                return Poll::Ready(reason);
            }
            // It moves only when it rings, or must ring earlier: most octets should not pay for it.
            let at = Instant::now() + due.since(now);
            if alarm.is_elapsed() || alarm.deadline() > at {
                alarm.as_mut().reset(at);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// When its time is up, and why.
    fn due(&self) -> (Monotonic, Reason) {
        let TunnelTimes { idle, age } = self.terms.times;
        let (idle, age) = (self.moved.after(idle), self.begun.after(age));
        let (due, reason) = if age < idle { (age, Reason::Age) } else { (idle, Reason::Idle) };
        match self.first {
            None => (due, reason),
            Some((reason, since)) => (due.min(since.after(HALF_CLOSED)), reason),
        }
    }

    /// Passes on what can be, both ways.
    fn poll_ways<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut S,
    ) -> Poll<Reason> {
        let (up_before, down_before) = (self.up.octets(), self.down.octets());
        // tokio lets a task do so much at a time: each way begins it every other time.
        let is_first = self.is_ups_turn;
        self.is_ups_turn = !is_first;
        let mut ended = [None, None];
        for is_up in [is_first, !is_first] {
            let (way, place) = if is_up { (&mut self.up, 0) } else { (&mut self.down, 1) };
            if way.has_ended() {
                continue;
            }
            let polled = if is_up {
                way.poll(cx, client, &mut self.upstream)
            } else {
                way.poll(cx, &mut self.upstream, client)
            };
            if let (Poll::Ready(end), Some(ended)) = (polled, ended.get_mut(place)) {
                *ended = Some(end);
            }
        }
        let (up, down) = (self.up.octets() - up_before, self.down.octets() - down_before);
        if up + down > 0 || self.up.has_read() | self.down.has_read() {
            self.moved = Monotonic::coarse();
            self.terms.counts.up.inc_by(up);
            self.terms.counts.down.inc_by(down);
        }
        if self.said.is_none() {
            self.said = match (self.up.has_closed(), self.down.has_closed()) {
                (true, _) => Some(Reason::Client),
                (false, true) => Some(Reason::Upstream),
                (false, false) => None,
            };
        }
        let [up, down] = ended;
        // Before any fault: where that is only observed, the tunnel goes on, and one way has ended.
        match (up, down) {
            (_, Some(Ended::Writer)) | (Some(Ended::Reader), _) => self.note_end(Reason::Client),
            (Some(Ended::Writer), _) | (_, Some(Ended::Reader)) => self.note_end(Reason::Upstream),
            (_, _) => {}
        }
        match (up, down) {
            (Some(Ended::Faulty), _) => return Poll::Ready(Reason::ClientFrame),
            (_, Some(Ended::Faulty)) => return Poll::Ready(Reason::UpstreamFrame),
            // Nobody is there to be told anything.
            (_, Some(Ended::Writer)) => {
                return Poll::Ready(self.first.map_or(Reason::Client, |(reason, _)| reason));
            }
            (_, _) => {}
        }
        let Some((reason, _)) = self.first else { return Poll::Pending };
        // Behind a close frame from each side nothing more can follow (section 7.1.1 of RFC 6455).
        let is_said = self.up.has_closed() && self.down.has_closed();
        let is_over = self.down.has_ended() && (self.up.has_ended() || is_said);
        if is_over { Poll::Ready(reason) } else { Poll::Pending }
    }

    /// Notes which side ended first: whoever said so by a frame, where one did.
    fn note_end(&mut self, reason: Reason) {
        let reason = self.said.unwrap_or(reason);
        self.first.get_or_insert_with(|| (reason, Monotonic::coarse()));
    }

    /// Tells both sides why it ends, behind the frames in hand, and closes.
    async fn part<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        client: &mut S,
        (to_client, to_upstream): (CloseCode, CloseCode),
        order: &mut impl FnMut(&mut Context<'_>) -> Order,
    ) -> Farewell {
        let [.., first, second, third, fourth] = self.begun.ns().to_be_bytes();
        let mask = [first, second, third, fourth];
        self.up.end_with(close_frame(Sender::Client, to_upstream, mask));
        self.down.end_with(close_frame(Sender::Upstream, to_client, mask));
        let parting = poll_fn(|cx| {
            if order(cx) == Order::End {
                return Poll::Ready(Farewell::Reset);
            }
            let up = self.up.has_ended() || self.up.poll(cx, client, &mut self.upstream).is_ready();
            let down =
                self.down.has_ended() || self.down.poll(cx, &mut self.upstream, client).is_ready();
            if up && down { Poll::Ready(Farewell::Close) } else { Poll::Pending }
        });
        let farewell = timeout(LAST_WORDS, parting).await.unwrap_or(Farewell::Reset);
        if farewell == Farewell::Close {
            let mut left = LINGER_OCTETS;
            let lingering = poll_fn(|cx| {
                if order(cx) == Order::End {
                    return Poll::Ready(());
                }
                let client = poll_discard(cx, client, &mut left);
                let upstream = poll_discard(cx, &mut self.upstream, &mut left);
                if client.is_ready() && upstream.is_ready() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            drop(timeout(LINGER, lingering).await);
        }
        farewell
    }
}

/// Throws away what can be read; ready at the end, or when enough was thrown away.
fn poll_discard<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    left: &mut usize,
) -> Poll<()> {
    let mut scrap = [MaybeUninit::uninit(); 4096];
    loop {
        let mut buf = ReadBuf::uninit(&mut scrap);
        match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => {}
        }
        let octets = buf.filled().len();
        match left.checked_sub(octets) {
            Some(rest) if octets > 0 => *left = rest,
            _ => return Poll::Ready(()),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let TunnelCounts { open, ended, api, .. } = &self.terms.counts;
        open.dec();
        ended.with_label_values(&[&**api, self.reason.id()]).inc();
        if let Some(mut settlement) = self.settlement.take() {
            settlement.record.request_octets = self.up.octets();
            settlement.record.ended = Some(self.reason.id());
            settlement.sent(usize::try_from(self.down.octets()).unwrap_or(usize::MAX));
            settlement.log();
        }
    }
}
