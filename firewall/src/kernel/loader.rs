//! The loader: a process that has the capabilities which the kernel program takes, and reads nothing
//! from strangers. It attaches, keeps attached, and answers the other half, which has none.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use firewall_common::maps::{BANS, CONFIG, EVENTS};
use firewall_common::{Config, table};
use tokio::sync::Notify;

use super::attach::{Event, InterfaceReport};
use super::attacher::Attacher;
use super::checks::CheckSetting;
use super::log::LogStream;
use super::maps::{Allowlist, Others, failed};
use super::pin::{Access, NotPinned, Pins};
use super::probation::Trial;
use super::split::{PROTOCOL, REQUEST_MAX, Reply, Request, State, Welcome, WireCheck};
use super::split::{receive, send};
use super::turns::{Turn, Turns};
use super::watch::Watch;
use super::{KernelError, Options, table as tables};
use crate::clock::Monotonic;

/// How long other modes of checks wait for what is being attached.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long an answer may take to be read, and a greeting to come.
const WRITING: Duration = Duration::from_secs(2);

/// The privileged half.
pub struct Loader {
    attacher: Turns<Attacher>,
    /// What there is to tell of interfaces.
    told: Mutex<State>,
    /// Wakes whoever is to look at the interfaces.
    wanted: Arc<Notify>,
    is_filled: AtomicBool,
    is_attached: AtomicBool,
    connections: AtomicUsize,
    welcome: Welcome,
    directory: PathBuf,
}

impl Loader {
    /// Loads the program and pins its maps for the group of this process. It is not attached yet.
    ///
    /// # Errors
    ///
    /// As [`Kernel::load`](super::Kernel::load); and where nothing can be pinned.
    pub fn load(options: &Options) -> Result<Self, KernelError> {
        Self::open(options).map_err(KernelError::behind_what_is_lacking)
    }

    fn open(options: &Options) -> Result<Self, KernelError> {
        let pins = Pins::open(&options.pin_dir, Access::Group).map_err(|error| match error {
            NotPinned::InUse(error) | NotPinned::Newer(error) => error,
            other => KernelError::NotPinned { reason: other.to_string() },
        })?;
        let (directory, maps) = (pins.directory().to_owned(), pins.maps());
        let mut attacher = Attacher::load(options, Some(pins), Access::Group, EVENTS.entries)?;
        let mut source = attacher.maps();
        // In force before there is anything to drop by, and whoever runs.
        Allowlist::open(&mut source, &options.allow, Others::Removed)?;
        let mut config: Array<MapData, Config> = source.open(CONFIG)?;
        let found = config.get(&0, 0).map_err(|error| failed(CONFIG, "read", error))?;
        // Whoever writes it keeps the allowlist asked; nobody may have written it yet.
        let asked = table::ALLOW4 | table::ALLOW6;
        if found.tables & asked != asked {
            let known = if found == Config::default() { Config::new() } else { found };
            let written = config.set(0, Config { tables: known.tables | asked, ..known }, 0);
            written.map_err(|error| failed(CONFIG, "take a value", error))?;
        }
        let Map::ArrayOfMaps(bans) = source.take(BANS)? else {
            return Err(KernelError::NoMap { map: BANS.name });
        };
        let bans = bans.info().map_err(|error| failed(BANS, "tell its kind", error))?.id();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let welcome = Welcome { version, pid: std::process::id(), maps, bans };
        Ok(Self {
            attacher: Turns::new(attacher),
            told: Mutex::default(),
            wanted: Arc::default(),
            is_filled: AtomicBool::new(false),
            is_attached: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            welcome,
            directory,
        })
    }

    /// Whether attaching has to wait for the other half: an earlier program is attached, and what it
    /// bans is not in the tables of this one yet.
    ///
    /// # Errors
    ///
    /// When the pinned links cannot be listed.
    pub fn must_wait(&self) -> Result<bool, KernelError> {
        let is_filled = self.is_filled.load(Ordering::Acquire);
        Ok(!is_filled && self.attacher().replaces_another_layout()?)
    }

    /// Attaches to the interfaces, in place of an earlier program without a gap.
    ///
    /// # Errors
    ///
    /// As [`Kernel::attach`](super::Kernel::attach).
    pub fn attach(&self) -> Result<(), KernelError> {
        let mut attacher = self.attacher();
        let result = attacher.attach().map_err(KernelError::behind_what_is_lacking);
        self.is_attached.store(true, Ordering::Release);
        self.tell(&attacher);
        result
    }

    /// Brings what is attached up to date; see [`Kernel::reconcile`](super::Kernel::reconcile).
    ///
    /// # Errors
    ///
    /// As that.
    pub fn reconcile(&self) -> Result<Vec<(Event, InterfaceReport)>, KernelError> {
        let mut attacher = self.attacher();
        let happened = attacher.reconcile();
        self.tell(&attacher);
        happened
    }

    /// Looks after a program on probation; see [`Kernel::tend`](super::Kernel::tend).
    ///
    /// # Errors
    ///
    /// As that.
    pub fn tend(&self, now: Monotonic) -> Result<Option<Trial>, KernelError> {
        let mut attacher = self.attacher();
        let trial = attacher.tend(now)?.cloned();
        if trial.is_some() {
            self.tell(&attacher);
        }
        Ok(trial)
    }

    /// What is known of the interfaces.
    pub fn interfaces(&self) -> Vec<InterfaceReport> {
        self.attacher().interfaces().to_vec()
    }

    /// Judges by these modes of checks instead.
    ///
    /// # Errors
    ///
    /// When the map of policies does not take a value.
    pub fn set_checks(&self, settings: Vec<CheckSetting>) -> Result<(), KernelError> {
        self.attacher().set_checks(settings)
    }

    /// What tells when to [`reconcile`](Self::reconcile); none the second time.
    pub fn watch(&self) -> Option<Watch> {
        self.attacher().watch()
    }

    /// What the program logs; none unless it was asked for, or the second time.
    pub fn log_stream(&self) -> Option<LogStream> {
        self.attacher().log_stream()
    }

    /// Wakes when somebody asks about interfaces.
    pub fn wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.wanted)
    }

    /// Where links and maps are pinned.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// How many processes this one answers.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Answers one process until it goes away.
    ///
    /// # Errors
    ///
    /// When it does not keep to what is agreed, or does not read its answers.
    pub fn serve(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_write_timeout(Some(WRITING))?;
        // Who has nothing to say takes nobody's place.
        stream.set_read_timeout(Some(WRITING))?;
        let (greeting, _) = receive(stream, REQUEST_MAX)?;
        stream.set_read_timeout(None)?;
        if !matches!(greeting, Request::Hello { protocol: PROTOCOL }) {
            let version = &self.welcome.version;
            let reason = format!("it is of version {version}, which speaks otherwise");
            return send(stream, &Reply::Refused { reason }, None);
        }
        send(stream, &Reply::Welcome(self.welcome.clone()), None)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        let served = self.answer(stream);
        self.connections.fetch_sub(1, Ordering::Relaxed);
        match served {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            served => served,
        }
    }

    fn answer(&self, stream: &UnixStream) -> io::Result<()> {
        loop {
            let (request, _) = receive(stream, REQUEST_MAX)?;
            let reply = match request {
                Request::Hello { .. } => Err("it was greeted already".to_owned()),
                Request::Lines { lines } => match tables::create(lines) {
                    Ok(array) => {
                        send(stream, &Reply::Lines, Some(array.as_fd()))?;
                        continue;
                    }
                    Err(error) => Err(error.told()),
                },
                Request::Interfaces => Ok(self.known()),
                Request::Filled => {
                    self.is_filled.store(true, Ordering::Release);
                    Ok(self.known())
                }
                Request::Checks(checks) => self.take_checks(&checks),
            };
            let reply = match reply {
                Ok(state) => Reply::State(state),
                Err(reason) => Reply::Refused { reason },
            };
            send(stream, &reply, None)?;
        }
    }

    /// What is known of interfaces, at once, since whoever asks does nothing else meanwhile; they are
    /// looked at again for the next question.
    fn known(&self) -> State {
        self.wanted.notify_one();
        self.told().clone()
    }

    fn take_checks(&self, checks: &[WireCheck]) -> Result<State, String> {
        let settings = checks.iter().map(CheckSetting::try_from).collect::<Result<Vec<_>, _>>()?;
        let Some(mut attacher) = self.attacher.wait_for(PATIENCE) else {
            return Err("it is busy attaching".into());
        };
        let set = attacher.set_checks(settings);
        self.tell(&attacher);
        drop(attacher);
        set.map_err(|error| error.told())?;
        Ok(self.told().clone())
    }

    fn tell(&self, attacher: &Attacher) {
        if !self.is_attached.load(Ordering::Acquire) {
            return;
        }
        let state = State::new(attacher.interfaces(), attacher.admitted(), attacher.trial());
        *self.told() = state;
    }

    fn attacher(&self) -> Turn<'_, Attacher> {
        self.attacher.wait()
    }

    fn told(&self) -> MutexGuard<'_, State> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
