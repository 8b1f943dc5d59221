//! Interfaces as they come and go.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Enforcement, RELIST_INTERVAL, SETTLE_TIME};
use crate::kernel::{Kernel, Watch};
use crate::metrics::Metrics;

/// Keeps what is attached up to date with the interfaces that there are.
pub(super) async fn follow(
    enforcement: Rc<RefCell<Enforcement>>,
    mut watch: Watch,
    metrics: Arc<Metrics>,
) {
    let mut relist = interval(RELIST_INTERVAL);
    relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = watch.changed() => match heard {
                Ok(heard) => {
                    enforcement.borrow_mut().link_messages += heard.messages;
                    if heard.has_lost {
                        metrics.interface_events.with_label_values(&["missed"]).inc();
                    }
                }
                Err(error) => {
                    // Interfaces that appear are found with the next listing.
                    tracing::error!(%error, "the kernel's messages about interfaces cannot be read");
                    sleep(RELIST_INTERVAL).await;
                }
            },
            _ = relist.tick() => {}
        }
        reconcile(&enforcement, &metrics).await;
        sleep(SETTLE_TIME).await;
    }
}

/// Attaches to what has appeared, and lets go of what is gone, on a thread of its own: while a driver
/// takes its time, the ban keeper does not wait.
async fn reconcile(enforcement: &RefCell<Enforcement>, metrics: &Metrics) {
    enforcement.borrow_mut().refresh_own();
    let work = enforcement.borrow_mut().kernel.as_mut().and_then(Kernel::reconciliation);
    let Some(work) = work else { return };
    match tokio::task::spawn_blocking(|| work.run()).await {
        Ok(done) => {
            let mut enforcement = enforcement.borrow_mut();
            let Some(kernel) = &mut enforcement.kernel else { return };
            let happened = kernel.reconciled(done);
            enforcement.note(happened, metrics);
        }
        // The runtime ends, or the thread has panicked: what is attached stays.
        Err(error) => tracing::error!(%error, "interfaces are looked after no more"),
    }
}
