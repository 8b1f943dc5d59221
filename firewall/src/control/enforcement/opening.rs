//! The kernel's half where another process, the loader, loads the program: opened when it is there,
//! and anew when it has made new tables.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Enforcement, SETTLE_TIME, follow_events, is_missing, tell_of_interface};
use crate::ban::keeper::KeeperHandle;
use crate::causes::Causes;
use crate::clock::Monotonic;
use crate::kernel::{self, CheckSetting, Kernel, KernelError, Watch};
use crate::metrics::Metrics;

/// How long a start waits for a loader without which it fails.
const LOADER_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it is there meanwhile.
const LOADER_RETRY: Duration = Duration::from_millis(100);
/// How often the loader is asked unless something happens.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How what the loader has pinned is opened.
#[derive(Debug)]
pub(super) struct Opening {
    options: kernel::Options,
    /// Why it is not open.
    problem: Option<String>,
    /// How often it was opened.
    epoch: u64,
}

impl Enforcement {
    /// Opens what the loader has pinned. Where that is not there yet, the firewall goes on without,
    /// unless an interface is required; then it waits a while.
    ///
    /// # Errors
    ///
    /// When another process writes these tables, and when there are none for a required interface.
    pub(super) fn open_pinned(
        &mut self,
        options: kernel::Options,
        is_required: bool,
    ) -> anyhow::Result<()> {
        let began = Monotonic::now();
        loop {
            let error = match Kernel::load(&options) {
                Ok(kernel) => {
                    self.kernel = Some(kernel);
                    self.opening = Some(Opening { options, problem: None, epoch: 1 });
                    return Ok(());
                }
                Err(error @ KernelError::InUse { .. }) => return Err(error.into()),
                Err(error) => error,
            };
            if is_required && Monotonic::now().since(began) < LOADER_PATIENCE {
                std::thread::sleep(LOADER_RETRY);
            } else if is_required {
                return Err(anyhow::Error::from(error).context("a required interface"));
            } else {
                let problem = Causes(&error).to_string();
                tracing::warn!(
                    reason = problem,
                    "no kernel program yet: bans are enforced when a client connects"
                );
                self.opening = Some(Opening { options, problem: Some(problem), epoch: 0 });
                return Ok(());
            }
        }
    }

    /// Gives a loader time to attach to what is required.
    pub(super) fn await_loader(&mut self) {
        let (Some(kernel), Some(_)) = (&mut self.kernel, &self.opening) else { return };
        let began = Monotonic::now();
        while kernel.requires_interface() && Monotonic::now().since(began) < LOADER_PATIENCE {
            let is_asked = kernel.attach().is_ok() && kernel.loader_problem().is_none();
            if is_asked && !kernel.interfaces().iter().any(is_missing) {
                return;
            }
            std::thread::sleep(LOADER_RETRY);
        }
    }

    /// Opens what the loader has pinned by now, and tells it all that it would have been told.
    pub(super) fn reopen(&mut self) {
        let Some(opening) = self.opening.as_ref().filter(|_| self.kernel.is_none()) else { return };
        let options = opening.options.clone();
        let opened = self.open(&options);
        let Some(opening) = self.opening.as_mut() else { return };
        match opened {
            Ok(kernel) => {
                opening.problem = None;
                opening.epoch += 1;
                tracing::info!("the loader's tables are open");
                for report in kernel.interfaces() {
                    tell_of_interface(report);
                }
                self.counted.take();
                self.kernel = Some(kernel);
            }
            Err(error) => {
                let problem = Causes(&error).to_string();
                if opening.problem.as_ref() != Some(&problem) {
                    tracing::warn!(reason = problem, "no kernel program yet");
                }
                opening.problem = Some(problem);
            }
        }
    }

    /// Lets go of tables that no program reads any more.
    pub(super) fn close(&mut self, error: &KernelError) {
        tracing::warn!(reason = %Causes(error), "other tables are opened");
        self.kernel = None;
        if let Some(opening) = &mut self.opening {
            opening.problem = Some(Causes(error).to_string());
        }
    }

    /// Which tables are open: changes when it is other ones.
    pub fn epoch(&self) -> u64 {
        self.opening.as_ref().map_or(0, |opening| opening.epoch) + self.returns
    }

    /// Whether there are tables, or may be later.
    pub fn may_have_kernel(&self) -> bool {
        self.kernel.is_some() || self.opening.is_some()
    }

    /// Keeps the budgets for tables that are opened later.
    pub fn note_limits(&mut self, limits: &kernel::Limits) {
        self.limits = Some(limits.clone());
        if let Some(opening) = &mut self.opening {
            opening.options.limits.clone_from(limits);
        }
    }

    /// The same for the modes of checks.
    pub(super) fn note_checks(&mut self, checks: &[CheckSetting]) {
        if let Some(opening) = &mut self.opening {
            opening.options.checks = checks.to_vec();
        }
    }

    /// What is wrong with the loader, where there should be one.
    pub(super) fn loader_problem(&self) -> Option<&str> {
        let opening = self.opening.as_ref()?;
        opening.problem.as_deref().or_else(|| self.kernel.as_ref()?.loader_problem())
    }

    /// The loader, for `status`; null where this process needs none.
    pub fn loader(&self) -> Value {
        let Some(opening) = &self.opening else { return Value::Null };
        let (version, pid) = self.kernel.as_ref().and_then(Kernel::loader).unzip();
        json!({
            "socket": opening.options.loader,
            "version": version,
            "pid": pid,
            "problem": self.loader_problem(),
        })
    }
}

/// Asks the loader what it has attached to, opens what it has pinned, and follows the events there.
pub(super) async fn follow_loader(
    enforcement: Rc<RefCell<Enforcement>>,
    keeper: KeeperHandle,
    metrics: Arc<Metrics>,
) {
    let mut watch = match Watch::open() {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::error!(%error, "changes of interfaces are seen late");
            None
        }
    };
    let mut ask = interval(ASK_INTERVAL);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events: Option<Following> = None;
    let mut problem = None;
    loop {
        let epoch = {
            let mut enforcement = enforcement.borrow_mut();
            enforcement.reconcile(&metrics);
            let found = enforcement.loader_problem().map(str::to_owned);
            match (&problem, &found) {
                (None, Some(reason)) => tracing::warn!(reason, "the loader does not answer"),
                (Some(_), None) => tracing::info!("the loader answers"),
                _ => {}
            }
            problem = found;
            enforcement.epoch()
        };
        if events.as_ref().is_none_or(|following| following.epoch != epoch) {
            let taken = enforcement.borrow_mut().kernel.as_mut().and_then(Kernel::events);
            events = taken.map(|taken| {
                let (enforcement, keeper) = (Rc::clone(&enforcement), keeper.clone());
                let follow = follow_events(enforcement, taken, keeper, Arc::clone(&metrics));
                Following { epoch, task: tokio::task::spawn_local(follow) }
            });
        }
        tokio::select! {
            heard = heard(&mut watch) => {
                let mut enforcement = enforcement.borrow_mut();
                enforcement.link_messages += heard.messages;
                if heard.has_lost {
                    metrics.interface_events.with_label_values(&["missed"]).inc();
                }
            }
            _ = ask.tick() => {}
        }
        sleep(SETTLE_TIME).await;
    }
}

/// Events of one ring buffer are followed until another one is.
struct Following {
    epoch: u64,
    task: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was heard of interfaces; nothing, for ever, where that cannot be.
async fn heard(watch: &mut Option<Watch>) -> kernel::Heard {
    if let Some(open) = watch {
        match open.changed().await {
            Ok(heard) => return heard,
            Err(error) => {
                tracing::error!(%error, "the kernel's messages about interfaces cannot be read");
                *watch = None;
            }
        }
    }
    std::future::pending().await
}
