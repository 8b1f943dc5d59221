//! Feeds over time: with files, a plane that records, and no kernel.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ipnet::IpNet;
use tokio::task::LocalSet;

use super::*;
use crate::feeds::Format;

/// The lists that a kernel would hold.
#[derive(Clone, Default)]
struct Lists(Rc<RefCell<BTreeMap<u8, Vec<IpNet>>>>);

impl Lists {
    fn all(&self) -> Vec<(u8, Vec<String>)> {
        let text = |list: &Vec<IpNet>| list.iter().map(ToString::to_string).collect();
        let lists = self.0.borrow();
        let full = lists.iter().filter(|(_, list)| !list.is_empty());
        full.map(|(number, list)| (*number, text(list))).collect()
    }
}

impl FeedPlane for Lists {
    type Error = std::io::Error;

    fn replace(&mut self, list: u8, prefixes: &[IpNet]) -> Result<(), std::io::Error> {
        self.0.borrow_mut().insert(list, prefixes.to_vec());
        Ok(())
    }
}

/// A directory with feeds' files in it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fw-feeds-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Replaced as fetchers do it, so that the file is another one each time.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join("new"), text).unwrap();
        std::fs::rename(self.0.join("new"), self.0.join(name)).unwrap();
    }

    fn feed(&self, name: &str) -> FeedSettings {
        FeedSettings {
            name: name.into(),
            origin: Origin::File(self.0.join(name)),
            format: Format::Auto,
            refresh: Duration::from_hours(1),
            is_observed: false,
            entries_max: 1_000_000,
            octets_max: 1 << 20,
            lists_private: false,
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A keeper that runs while the test does.
struct Running {
    handle: FeedsHandle,
    lists: Lists,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(directory: &Path, settings: &[FeedSettings]) -> Self {
        let environment = FeedsEnvironment {
            directory: Some(directory.join("kept")),
            exempt: Arc::new(["192.0.2.9/32".parse::<IpNet>().unwrap()].into_iter().collect()),
        };
        let (lists, shared, metrics) = (Lists::default(), Arc::default(), Arc::default());
        let (feeds, handle) = Feeds::start(
            environment,
            settings.into(),
            Some(lists.clone()),
            Arc::clone(&shared),
            Arc::clone(&metrics),
        )
        .await;
        let task = tokio::task::spawn_local(feeds.run());
        Self { handle, lists, shared, metrics, task }
    }

    fn finds(&self, address: &str) -> Option<String> {
        self.shared.feeds().find(address.parse().unwrap()).map(|feed| feed.name.to_string())
    }

    async fn refresh(&self) -> Vec<FeedReport> {
        self.handle.refresh(None).await.unwrap()
    }

    fn refreshes(&self, result: &str) -> u64 {
        self.metrics.feed_refreshes.with_label_values(&["a", result]).get()
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_feed_is_taken_renewed_and_dropped() {
    let directory = Directory::new("renewed");
    directory.write("a", "192.0.2.0/30\n");
    let mut watched = directory.feed("b");
    watched.is_observed = true;
    directory.write("b", "192.0.2.1\n198.51.100.1\n");
    run(async {
        let running = Running::start(&directory.0, &[directory.feed("a"), watched.clone()]).await;
        let reports = running.refresh().await;
        assert_eq!((reports[0].entries, reports[1].entries), (1, 2), "{reports:?}");
        assert_eq!((reports[0].in_kernel, reports[1].in_kernel), (true, false));
        assert_eq!(running.finds("192.0.2.1").as_deref(), Some("a"));
        assert_eq!(running.finds("198.51.100.1").as_deref(), Some("b"));
        assert_eq!(running.lists.all(), [(0, vec!["192.0.2.0/30".to_owned()])]);

        // The allowlisted neighbour is spared.
        directory.write("a", "192.0.2.8/31\n");
        running.refresh().await;
        assert_eq!(running.finds("192.0.2.8").as_deref(), Some("a"));
        assert_eq!(running.finds("192.0.2.9"), None);
        assert_eq!(running.finds("192.0.2.2"), None);
        assert_eq!(running.lists.all(), [(0, vec!["192.0.2.8/32".to_owned()])]);
        assert_eq!(running.refreshes("changed"), 2);
        running.refresh().await;
        assert_eq!((running.refreshes("changed"), running.refreshes("unchanged")), (2, 1));

        running.handle.configure(&[watched].into());
        let reports = running.handle.list().await.unwrap();
        assert_eq!(reports.len(), 1);
        assert_eq!(running.finds("192.0.2.8"), None);
        assert_eq!(running.lists.all(), []);
        assert_eq!(
            running.handle.refresh(Some("a".into())).await,
            Err(FeedsError::Unknown { name: "a".into() })
        );
        let exposed = String::from_utf8(running.metrics.exposition().unwrap()).unwrap();
        assert!(exposed.contains("firewall_feed_entries{feed=\"b\"} 2"), "{exposed}");
        assert!(!exposed.contains("firewall_feed_entries{feed=\"a\"}"), "{exposed}");
    });
}

#[test]
fn what_is_broken_changes_nothing_and_is_forgotten_by_no_restart() {
    let directory = Directory::new("broken");
    directory.write("a", "192.0.2.1\n");
    run(async {
        let running = Running::start(&directory.0, &[directory.feed("a")]).await;
        running.refresh().await;
        for text in ["", "<html>", "no\nlist\nat all", "0.0.0.0/0"] {
            directory.write("a", text);
            let reports = running.refresh().await;
            assert!(reports[0].problem.is_some(), "{text:?}: {reports:?}");
            assert_eq!(running.finds("192.0.2.1").as_deref(), Some("a"), "{text:?}");
        }
        std::fs::remove_file(directory.0.join("a")).unwrap();
        assert!(running.refresh().await[0].problem.is_some());
        assert_eq!(running.refreshes("failed"), 5);
        running.task.abort();

        // Nobody can be asked: the copy serves, before anything runs.
        let running = Running::start(&directory.0, &[directory.feed("a")]).await;
        assert_eq!(running.finds("192.0.2.1").as_deref(), Some("a"));
        assert_eq!(running.lists.all(), [(0, vec!["192.0.2.1/32".to_owned()])]);
        let problem = running.refresh().await.remove(0).problem;
        assert!(problem.is_some_and(|problem| problem.contains("cannot be read")));
        // It is there again.
        directory.write("a", "192.0.2.2\n");
        running.refresh().await;
        assert_eq!(running.finds("192.0.2.2").as_deref(), Some("a"));
    });
}

#[test]
fn what_shrinks_too_much_waits() {
    let directory = Directory::new("shrinks");
    // None touch, or they would be joined.
    let scattered = (0..250).fold(String::new(), |text, n| text + &format!("198.51.{n}.1\n"));
    directory.write("a", &scattered);
    run(async {
        let running = Running::start(&directory.0, &[directory.feed("a")]).await;
        assert_eq!(running.refresh().await[0].entries, 250);
        directory.write("a", "198.51.100.9\n");
        let reports = running.refresh().await;
        assert_eq!(reports[0].entries, 250);
        let held = reports[0].held.as_deref();
        assert_eq!(held, Some("250 of 250 entries would vanish"), "{reports:?}");
        // The same again changes nothing, and forgets nothing.
        let reports = running.refresh().await;
        assert!(reports[0].held.is_some());
        assert_eq!(running.finds("198.51.7.1").as_deref(), Some("a"));

        let reports = running.handle.accept("a".into()).await.unwrap();
        assert_eq!((reports[0].entries, &reports[0].held), (1, &None));
        assert_eq!(running.finds("198.51.7.1"), None);
        let nothing = FeedsError::NothingHeld { name: "a".into() };
        assert_eq!(running.handle.accept("a".into()).await, Err(nothing));

        // What is believable takes the place of what waits.
        directory.write("a", &scattered);
        assert_eq!(running.refresh().await[0].entries, 250);
        directory.write("a", "198.51.100.9\n");
        assert!(running.refresh().await[0].held.is_some());
        directory.write("a", &(scattered.clone() + "203.0.113.1\n"));
        let reports = running.refresh().await;
        assert_eq!((reports[0].entries, &reports[0].held), (251, &None));
    });
}

#[test]
fn a_changed_file_is_seen_without_an_order() {
    let directory = Directory::new("polled");
    directory.write("a", "192.0.2.1\n");
    run(async {
        let running = Running::start(&directory.0, &[directory.feed("a")]).await;
        let seen = async |address: &str| {
            for _ in 0..200 {
                if running.finds(address).is_some() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            false
        };
        assert!(seen("192.0.2.1").await);
        directory.write("a", "192.0.2.2\n");
        assert!(seen("192.0.2.2").await);
    });
}

#[test]
fn times_are_spread() {
    let hour = Duration::from_hours(1);
    let waits: BTreeSet<Duration> =
        (0..100).map(|n| jittered(hour, "a", Monotonic::from_ns(n))).collect();
    assert!(waits.len() > 20, "{waits:?}");
    assert!(waits.iter().all(|wait| (hour * 9 / 10..=hour * 11 / 10).contains(wait)), "{waits:?}");
}
