//! The task that keeps the feeds: asks their origins, takes what is believable, and gives it to both
//! planes.

mod job;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use self::job::{Candidate, Done, Found, Job};
pub use self::report::FeedReport;
use super::origin::{Identity, Origin, Validators};
use super::screen::{Screened, Surprise};
use super::{FEEDS_MAX, FeedPlane, FeedSettings, FeedsEnvironment};
use crate::ban::feed_set::{FeedSet, Intervals, Listed};
use crate::ban::shared::Shared;
use crate::causes::Causes;
use crate::clock::{Monotonic, Wall};
use crate::metrics::Metrics;

/// How often files are looked at, and what is due is done.
const TICK: Duration = Duration::from_secs(1);
/// How long after a failure a server is asked again, or after the feed's own time if that is less.
const RETRY: Duration = Duration::from_mins(5);
/// How long after a failure a list is written to the kernel again.
const KERNEL_RETRY: Duration = Duration::from_secs(30);
/// Orders that may wait.
const COMMANDS_MAX: usize = 32;

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedsError {
    #[error("no feed is called {name:?}")]
    Unknown { name: String },
    #[error("{name}: nothing waits to be accepted")]
    NothingHeld { name: String },
    #[error("the keeper of the feeds is busy, or has ended")]
    Ended,
}

type Reply = oneshot::Sender<Result<Vec<FeedReport>, FeedsError>>;

enum Command {
    List(Reply),
    /// Asks the origin of one feed, or of all, now.
    Refresh(Option<String>, Reply),
    /// Takes what waits because it surprised.
    Accept(String, Reply),
}

/// The way to the keeper of the feeds.
#[derive(Clone)]
pub struct FeedsHandle {
    commands: mpsc::Sender<Command>,
    settings: Arc<watch::Sender<Arc<[FeedSettings]>>>,
}

impl FeedsHandle {
    pub async fn list(&self) -> Result<Vec<FeedReport>, FeedsError> {
        self.order(Command::List).await
    }

    /// Asks the origin of the feed, or of every feed, and tells what came of it.
    pub async fn refresh(&self, name: Option<String>) -> Result<Vec<FeedReport>, FeedsError> {
        self.order(|reply| Command::Refresh(name, reply)).await
    }

    /// Takes what waits because it surprised.
    pub async fn accept(&self, name: String) -> Result<Vec<FeedReport>, FeedsError> {
        self.order(|reply| Command::Accept(name, reply)).await
    }

    /// Makes these the feeds from now on; those that are as before keep what they list.
    pub fn configure(&self, settings: &Arc<[FeedSettings]>) {
        self.settings.send_if_modified(|present| {
            let differs = **present != **settings;
            present.clone_from(settings);
            differs
        });
    }

    async fn order(
        &self,
        command: impl FnOnce(Reply) -> Command,
    ) -> Result<Vec<FeedReport>, FeedsError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|_full_or_closed| FeedsError::Ended)?;
        answer.await.unwrap_or(Err(FeedsError::Ended))
    }
}

/// One feed, and what is known of it.
struct Feed {
    settings: FeedSettings,
    /// The kernel's list that is this feed's.
    list: u8,
    /// What is enforced.
    current: Option<Current>,
    /// What came last, whether it was taken or not.
    digest: Option<[u8; 32]>,
    held: Option<(Candidate, Surprise)>,
    /// Why the last attempt gave nothing.
    problem: Option<String>,
    /// Why the kernel does not hold the list.
    kernel_problem: Option<String>,
    validators: Validators,
    /// The file as it was when it was last read.
    identity: Seen,
    /// When the origin is asked next, and when the kernel is.
    due: Monotonic,
    kernel_due: Option<Monotonic>,
    is_running: bool,
}

/// A feed's file when it was last read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    Missing,
    As(Identity),
}

impl Seen {
    fn of(identity: Option<Identity>) -> Self {
        identity.map_or(Self::Missing, Self::As)
    }
}

struct Current {
    screened: Arc<Screened>,
    addresses: Arc<Intervals>,
    /// When the origin last said so; of a file, when it was written.
    since: Wall,
}

/// An order to refresh, and the feeds that it still waits for.
struct Waiting {
    names: BTreeSet<Arc<str>>,
    reply: Reply,
}

/// All feeds.
pub struct Feeds<P> {
    environment: FeedsEnvironment,
    kept: Vec<Feed>,
    plane: Option<P>,
    /// Which of the plane's tables holds what is listed.
    epoch: Option<u64>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    settings: watch::Receiver<Arc<[FeedSettings]>>,
    commands: mpsc::Receiver<Command>,
    jobs: JoinSet<Done>,
    waiting: Vec<Waiting>,
}

impl<P: FeedPlane> Feeds<P> {
    /// Takes the last good copies of the feeds. No origin is asked before [`Feeds::run`].
    pub async fn start(
        environment: FeedsEnvironment,
        settings: Arc<[FeedSettings]>,
        plane: Option<P>,
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
    ) -> (Self, FeedsHandle) {
        let (command, commands) = mpsc::channel(COMMANDS_MAX);
        let (configure, configured) = watch::channel(Arc::clone(&settings));
        let mut feeds = Self {
            environment,
            kept: Vec::new(),
            epoch: plane.as_ref().and_then(FeedPlane::epoch),
            plane,
            shared,
            metrics,
            settings: configured,
            commands,
            jobs: JoinSet::new(),
            waiting: Vec::new(),
        };
        feeds.configure(&settings).await;
        // What an earlier process left in the kernel is nobody's now.
        let is_used =
            |list: u8| feeds.kept.iter().any(|feed| feed.list == list && feed.current.is_some());
        let lists = (0..FEEDS_MAX).filter_map(|list| u8::try_from(list).ok());
        for list in lists.filter(|list| !is_used(*list)).collect::<Vec<_>>() {
            feeds.clear(list);
        }
        (feeds, FeedsHandle { commands: command, settings: Arc::new(configure) })
    }

    /// Keeps the feeds until it is dropped.
    pub async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What was configured before an order was given holds for it.
                biased;
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let settings = Arc::clone(&self.settings.borrow_and_update());
                    self.configure(&settings).await;
                }
                Some(command) = self.commands.recv() => self.obey(command).await,
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    match done {
                        Ok(done) => self.settle(done).await,
                        Err(error) => tracing::error!(%error, "a feed's task failed"),
                    }
                }
                _ = tick.tick() => self.tick(Monotonic::now()),
            }
        }
    }

    async fn configure(&mut self, settings: &[FeedSettings]) {
        let (kept, dropped): (Vec<Feed>, Vec<Feed>) =
            self.kept.drain(..).partition(|feed| settings.contains(&feed.settings));
        for feed in dropped {
            self.clear(feed.list);
            self.metrics.forget_feed(&feed.settings.name);
        }
        let mut kept: Vec<Option<Feed>> = kept.into_iter().map(Some).collect();
        let mut taken: BTreeSet<u8> = kept.iter().flatten().map(|feed| feed.list).collect();
        for settings in settings.iter().take(FEEDS_MAX) {
            let same = |feed: &&mut Option<Feed>| {
                feed.as_ref().is_some_and(|feed| feed.settings == *settings)
            };
            if let Some(feed) = kept.iter_mut().find(same).and_then(Option::take) {
                self.kept.push(feed);
                continue;
            }
            let list = (0..=u8::MAX).find(|list| !taken.contains(list)).unwrap_or(u8::MAX);
            taken.insert(list);
            let mut feed = Feed::new(settings.clone(), list);
            match job::kept(settings, &self.environment).await {
                Ok(Some((screened, since))) => feed.take(screened, since),
                Ok(None) => {}
                Err(error) => {
                    let error = Causes(&*error).to_string();
                    tracing::error!(feed = %settings.name, error, "no last good copy");
                }
            }
            self.kept.push(feed);
            if let Some(feed) = self.kept.last_mut() {
                write_kernel(feed, self.plane.as_mut());
            }
        }
        self.publish().await;
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::List(reply) => answer(reply, Ok(self.reports(|_| true))),
            Command::Refresh(name, reply) => {
                let is_meant =
                    |feed: &Feed| name.as_deref().is_none_or(|name| *feed.settings.name == *name);
                let names: BTreeSet<Arc<str>> = self
                    .kept
                    .iter()
                    .filter(|feed| is_meant(feed))
                    .map(|feed| Arc::clone(&feed.settings.name))
                    .collect();
                match name {
                    Some(name) if names.is_empty() => {
                        return answer(reply, Err(FeedsError::Unknown { name }));
                    }
                    None if names.is_empty() => return answer(reply, Ok(Vec::new())),
                    _ => {}
                }
                for feed in self.kept.iter_mut().filter(|feed| names.contains(&feed.settings.name))
                {
                    start(feed, &self.environment, &mut self.jobs);
                }
                self.waiting.push(Waiting { names, reply });
            }
            Command::Accept(name, reply) => {
                let feed = self.kept.iter_mut().find(|feed| *feed.settings.name == *name);
                let Some(feed) = feed else {
                    return answer(reply, Err(FeedsError::Unknown { name }));
                };
                let Some((candidate, surprise)) = feed.held.take() else {
                    return answer(reply, Err(FeedsError::NothingHeld { name }));
                };
                tracing::warn!(feed = name, %surprise, "accepted");
                self.take(&name, candidate).await;
                answer(reply, Ok(self.reports(|feed| *feed.settings.name == *name)));
            }
        }
    }

    fn reports(&self, is_meant: impl Fn(&Feed) -> bool) -> Vec<FeedReport> {
        let now = Wall::now();
        let meant = self.kept.iter().filter(|feed| is_meant(feed));
        meant.map(|feed| FeedReport::new(feed, self.epoch.is_some(), now)).collect()
    }

    fn tick(&mut self, now: Monotonic) {
        let wall = Wall::now();
        let epoch = self.plane.as_ref().and_then(FeedPlane::epoch);
        if std::mem::replace(&mut self.epoch, epoch) != epoch && epoch.is_some() {
            for feed in &mut self.kept {
                feed.kernel_due = Some(now);
            }
        }
        for feed in &mut self.kept {
            let is_due = match &feed.settings.origin {
                Origin::Http(_) => feed.due <= now,
                Origin::File(path) => {
                    let identity = Identity::of(path).map(|(identity, _)| identity);
                    feed.identity != Seen::of(identity)
                }
            };
            if is_due {
                start(feed, &self.environment, &mut self.jobs);
            }
            if feed.kernel_due.is_some_and(|due| due <= now) {
                write_kernel(feed, self.plane.as_mut());
            }
            feed.tell_age(&self.metrics, wall);
        }
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
    }

    /// Takes what came of asking an origin.
    async fn settle(&mut self, done: Done) {
        let Done { settings, found, identity } = done;
        let name = Arc::clone(&settings.name);
        // Configured otherwise meanwhile, or away.
        if let Some(feed) = self.kept.iter_mut().find(|feed| feed.settings == settings) {
            feed.is_running = false;
            feed.identity = Seen::of(identity);
            let refresh = feed.settings.refresh;
            let wait = if found.is_ok() { refresh } else { refresh.min(RETRY) };
            let now = Monotonic::now();
            feed.due = now.after(jittered(wait, &name, now));
            let result = match found {
                Err(error) => {
                    let problem = Causes(&*error).to_string();
                    let age = feed.current.as_ref().map(|current| current.since.to_string());
                    tracing::error!(feed = %name, problem, keeps = age, "a feed is not renewed");
                    feed.problem = Some(problem);
                    "failed"
                }
                Ok(Found::Unchanged { since }) => {
                    feed.problem = None;
                    let current = feed.current.as_mut().filter(|_| feed.held.is_none());
                    if let Some(current) = current {
                        current.since = since;
                    }
                    "unchanged"
                }
                Ok(Found::New { candidate, surprise: Some(surprise) }) => {
                    tracing::error!(feed = %name, %surprise, "a feed is not renewed until accepted");
                    feed.problem = None;
                    feed.note(&candidate);
                    feed.held = Some((*candidate, surprise));
                    "held"
                }
                Ok(Found::New { candidate, surprise: None }) => {
                    feed.problem = None;
                    feed.note(&candidate);
                    feed.held = None;
                    self.take(&name, *candidate).await;
                    "changed"
                }
            };
            self.metrics.feed_refreshes.with_label_values(&[&*name, result]).inc();
        }
        for waiting in &mut self.waiting {
            waiting.names.remove(&name);
        }
        let ready = self.waiting.extract_if(.., |waiting| waiting.names.is_empty());
        for waiting in ready.collect::<Vec<_>>() {
            answer(waiting.reply, Ok(self.reports(|_| true)));
        }
    }

    /// Makes a candidate what is enforced, and keeps a copy.
    async fn take(&mut self, name: &str, candidate: Candidate) {
        let Candidate { screened, since, .. } = candidate;
        let Some(feed) = self.kept.iter_mut().find(|feed| *feed.settings.name == *name) else {
            return;
        };
        let (broken, too_wide, entries) =
            (screened.broken, screened.too_wide, screened.prefixes.len());
        tracing::info!(feed = name, entries, broken, too_wide, "a feed is renewed");
        feed.take(screened, since);
        write_kernel(feed, self.plane.as_mut());
        let screened = feed.current.as_ref().map(|current| Arc::clone(&current.screened));
        self.publish().await;
        if let Some(screened) = screened
            && let Err(error) = job::keep(name, screened, since, &self.environment).await
        {
            tracing::error!(feed = name, %error, "no copy is kept: a restart would begin without");
        }
    }

    /// Gives the workers what all feeds list now.
    async fn publish(&self) {
        let listed: Vec<Listed> = self.kept.iter().filter_map(Feed::listed).collect();
        // A million prefixes take a while, in which the bans must go on.
        match tokio::task::spawn_blocking(move || FeedSet::new(listed)).await {
            Ok(set) => self.shared.replace_feeds(set),
            Err(error) => tracing::error!(%error, "the feeds cannot be joined"),
        }
        let now = Wall::now();
        for feed in &self.kept {
            feed.tell_age(&self.metrics, now);
            let entries =
                feed.current.as_ref().map_or(0, |current| current.screened.prefixes.len());
            let gauge = self.metrics.feed_entries.with_label_values(&[&*feed.settings.name]);
            gauge.set(i64::try_from(entries).unwrap_or(i64::MAX));
        }
    }

    fn clear(&mut self, list: u8) {
        if let Some(plane) = &mut self.plane
            && let Err(error) = plane.replace(list, &[])
        {
            tracing::error!(list, %error, "a list stays in the kernel that no feed has any more");
        }
    }
}

impl Feed {
    fn new(settings: FeedSettings, list: u8) -> Self {
        Self {
            settings,
            list,
            current: None,
            digest: None,
            held: None,
            problem: None,
            kernel_problem: None,
            validators: Validators::default(),
            identity: Seen::Never,
            due: Monotonic::default(),
            kernel_due: None,
            is_running: false,
        }
    }

    fn take(&mut self, screened: Screened, since: Wall) {
        let addresses = Arc::new(screened.addresses.clone());
        self.current = Some(Current { screened: Arc::new(screened), addresses, since });
    }

    /// Remembers what came, so that it is not judged again while it is the same.
    fn note(&mut self, candidate: &Candidate) {
        self.digest = Some(candidate.digest);
        self.validators.clone_from(&candidate.validators);
    }

    fn tell_age(&self, metrics: &Metrics, now: Wall) {
        let Some(current) = &self.current else { return };
        let age = now.since(current.since).as_secs();
        let gauge = metrics.feed_age.with_label_values(&[&*self.settings.name]);
        gauge.set(i64::try_from(age).unwrap_or(i64::MAX));
    }

    fn listed(&self) -> Option<Listed> {
        let current = self.current.as_ref()?;
        Some(Listed {
            name: Arc::clone(&self.settings.name),
            is_observed: self.settings.is_observed,
            addresses: Arc::clone(&current.addresses),
        })
    }
}

/// Asks a feed's origin, unless that is being done.
fn start(feed: &mut Feed, environment: &FeedsEnvironment, jobs: &mut JoinSet<Done>) {
    if std::mem::replace(&mut feed.is_running, true) {
        return;
    }
    let job = Job {
        settings: feed.settings.clone(),
        exempt: Arc::clone(&environment.exempt),
        validators: feed.validators.clone(),
        digest: feed.digest,
        current: feed.current.as_ref().map(|current| Arc::clone(&current.screened)),
    };
    jobs.spawn(job.run());
}

/// Makes the kernel's list what the feed lists; a feed that is observed has nothing there.
fn write_kernel<P: FeedPlane>(feed: &mut Feed, plane: Option<&mut P>) {
    feed.kernel_due = None;
    let (Some(plane), Some(current)) = (plane, &feed.current) else { return };
    let prefixes: &[_] = if feed.settings.is_observed { &[] } else { &current.screened.prefixes };
    feed.kernel_problem = plane.replace(feed.list, prefixes).err().map(|error| {
        let problem = Causes(&error).to_string();
        tracing::error!(feed = %feed.settings.name, problem, "the kernel does not take a feed");
        feed.kernel_due = Some(Monotonic::now().after(KERNEL_RETRY));
        problem
    });
}

/// A time, less or more by up to a tenth, so that the gateways of a fleet do not ask at once.
fn jittered(wait: Duration, name: &str, now: Monotonic) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one((name, now.ns()));
    let share = u32::try_from(random % 201).unwrap_or(0);
    wait / 1000 * (900 + share)
}

fn answer(reply: Reply, answer: Result<Vec<FeedReport>, FeedsError>) {
    // Whoever asked may have gone away.
    drop(reply.send(answer));
}

#[cfg(test)]
mod tests;
