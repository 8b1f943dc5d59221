//! What comes back at a start, or with a table that comes later.

use super::*;
use crate::ban::record::DropCount;

fn row(target: &str, until: Monotonic, observed: bool, at: &Moment) -> (IpNet, BanRow) {
    let ban = Ban {
        target: net(target),
        since: at.monotonic,
        until,
        ttl: Some(HOUR),
        origin: Origin::Automatic,
        rule: None,
        reason: "stored".into(),
        step: 0,
        planes: Planes::Both,
        observed,
        drops: DropCount::resumed(0, 0, at.monotonic),
        joined: 0,
    };
    (ban.target, BanRow::new(&ban, at))
}

#[tokio::test]
async fn a_kernels_ban_outlives_a_row_that_is_over() {
    let at = Moment::now();
    let (over, later) = (at.monotonic, at.monotonic.after(HOUR));
    let loaded = Loaded {
        bans: vec![
            row("192.0.2.1/32", over, false, &at),
            row("192.0.2.2/32", over, false, &at),
            row("192.0.2.3/32", over, true, &at),
            row("192.0.2.4/32", later, true, &at),
        ],
        ..Loaded::default()
    };
    let plane = Recorder::with(&[
        ("192.0.2.1/32", later, 4),
        ("192.0.2.2/32", over, 4),
        ("192.0.2.3/32", later, 4),
        ("192.0.2.4/32", later, 4),
    ]);
    let scratch = Scratch::new();
    let (store, _) = Store::open(scratch.path()).unwrap();
    let saved = Some((store, loaded));
    let (keeper, _handle) = Keeper::new(settings(BanMode::Enforce), saved, Some(plane.clone()), at);
    assert_eq!(plane.until("192.0.2.1/32"), Some(later), "it was made anew");
    assert_eq!(keeper.ledger.get(net("192.0.2.1/32")).unwrap().origin, Origin::Kernel);
    for gone in ["192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32"] {
        assert_eq!(plane.until(gone), None, "{gone}");
        assert!(keeper.ledger.get(net(gone)).is_none(), "{gone}");
    }
}

/// A table that is away at times, and is another one when it is back.
struct Passing {
    table: Recorder,
    epoch: Arc<Mutex<Option<u64>>>,
}

impl Passing {
    fn with<T: Default>(
        &self,
        work: impl FnOnce(Recorder) -> Result<T, Broken>,
    ) -> Result<T, Broken> {
        self.epoch().map_or_else(|| Ok(T::default()), |_| work(self.table.clone()))
    }
}

impl Plane for Passing {
    type Error = Broken;

    fn epoch(&self) -> Option<u64> {
        *self.epoch.lock().unwrap()
    }

    fn ban(&mut self, target: IpNet, until: Monotonic) -> Result<(), Broken> {
        self.with(|mut table| table.ban(target, until))
    }

    fn unban(&mut self, target: IpNet) -> Result<bool, Broken> {
        self.with(|mut table| table.unban(target))
    }

    fn drops(&self, target: IpNet) -> Result<Option<u64>, Broken> {
        self.with(|table| table.drops(target))
    }

    fn stand(&mut self, source: IpAddr) -> Result<(), Broken> {
        self.with(|mut table| table.stand(source))
    }

    fn fall(&mut self, source: IpAddr) -> Result<(), Broken> {
        self.with(|mut table| table.fall(source))
    }

    fn held(&self) -> Result<Vec<Held>, Broken> {
        self.with(|table| table.held())
    }
}

#[test]
fn what_is_lifted_while_there_is_no_table_stays_lifted() {
    let at = Moment::now();
    let later = at.monotonic.after(HOUR);
    let targets = ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"];
    let table = Recorder::with(&targets.map(|target| (target, later, 0)));
    let epoch = Arc::new(Mutex::new(Some(0)));
    let plane = Passing { table: table.clone(), epoch: Arc::clone(&epoch) };
    let (mut keeper, _handle) = Keeper::new(settings(BanMode::Enforce), None, Some(plane), at);
    let set_epoch = |of| *epoch.lock().unwrap() = of;

    set_epoch(None);
    keeper.tick(at);
    for lifted in ["192.0.2.1/32", "192.0.2.2/32"] {
        let changes = keeper.ledger.remove(net(lifted), at.monotonic).unwrap();
        keeper.apply(&changes, &at, None);
    }
    let again = keeper.ledger.add(net("192.0.2.2/32"), None, String::new(), at.monotonic).unwrap();
    keeper.apply(&again, &at, None);
    set_epoch(Some(1));
    keeper.tick(at);

    assert_eq!(table.until("192.0.2.1/32"), None);
    assert!(keeper.ledger.get(net("192.0.2.1/32")).is_none());
    assert_eq!(table.until("192.0.2.2/32"), Some(Monotonic::NEVER));
    assert_eq!(table.until("192.0.2.3/32"), Some(later));
    assert!(keeper.lifted.is_empty(), "it is done with");
}
