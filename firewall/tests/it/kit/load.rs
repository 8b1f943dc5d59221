//! Honest clients who keep asking, and count what they do not get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::client::{Client, bodiless};

/// Clients at work until they are told to stop.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// `keeping` clients ask on a connection that they keep for as long as it is kept for them, and
    /// `coming` ones connect for each request.
    pub(crate) fn on(address: SocketAddr, keeping: usize, coming: usize) -> Self {
        let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |keeps: bool| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            std::thread::spawn(move || work(address, keeps, &over, &served))
        };
        let kinds = [true].repeat(keeping).into_iter().chain([false].repeat(coming));
        let clients = kinds.map(client).collect();
        Self { over, served, clients }
    }

    /// Answers so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Ends it; gives the number of answers, and what went wrong.
    pub(crate) fn end(self) -> (u64, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let lost = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.served.load(Ordering::Relaxed), lost)
    }
}

fn work(address: SocketAddr, keeps: bool, over: &AtomicBool, served: &AtomicU64) -> Vec<String> {
    let mut lost = Vec::new();
    let mut kept: Option<Client> = None;
    while !over.load(Ordering::Relaxed) {
        let was_kept = kept.is_some();
        let mut client = match kept.take() {
            Some(client) => client,
            None => match Client::connect_from([127, 0, 0, 1].into(), address) {
                Ok(client) => client,
                Err(error) => {
                    lost.push(format!("connecting: {error}"));
                    continue;
                }
            },
        };
        match client.send(bodiless("GET /notes")).answer() {
            Some(answer) if answer.status == 200 => {
                served.fetch_add(1, Ordering::Relaxed);
                if keeps && answer.header("connection") != Some("close") {
                    kept = Some(client);
                }
            }
            Some(answer) => lost.push(format!("{} {}", answer.status, answer.text())),
            None => lost.push(format!("no answer; the connection was kept: {was_kept}")),
        }
    }
    lost
}
