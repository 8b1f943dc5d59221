//! The daemon's listening sockets: opened by itself, by a service manager, or by the process before it.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::control::settings::Settings;
use crate::control::upgrade::predecessor::HandedOver;
use crate::control::{admin, exposition};
use crate::listen::inherit::{self, Inherited};
use crate::listen::socket;

/// What all of the daemon listens on.
#[derive(Debug)]
pub struct Sockets {
    pub clients: Vec<TcpListener>,
    pub admin: UnixListener,
    pub metrics: Option<TcpListener>,
    /// The admin socket's name, while it is this process's.
    name: Option<PathBuf>,
}

impl Sockets {
    /// Takes those that were given, where they are as configured, and opens the others. Clients'
    /// sockets are given all or none.
    ///
    /// # Errors
    ///
    /// When one cannot be opened, or one that was given is not as configured.
    pub fn open(
        settings: &Settings,
        announced: Vec<Inherited>,
        handed_over: Option<HandedOver>,
    ) -> anyhow::Result<Self> {
        let context = || format!("listening on {}", settings.listen);
        if let Some(HandedOver { clients, admin, metrics }) = handed_over {
            let clients = inherit::listeners(clients, settings.listen).with_context(context)?;
            let path = admin.local_addr().context("admin.socket")?;
            let is_same = path.as_pathname() == Some(&settings.admin_socket);
            ensure!(is_same, "admin.socket cannot change without a restart");
            ensure!(
                are_same(metrics.as_ref(), settings.metrics)?,
                "metrics.listen cannot change without a restart"
            );
            return Ok(Self { clients, admin, metrics, name: None });
        }
        let clients = if announced.is_empty() {
            socket::bind(settings.listen, settings.workers, settings.backlog)
                .with_context(context)?
        } else {
            tracing::info!(sockets = announced.len(), "the service manager's sockets are used");
            inherit::listeners(announced, settings.listen).with_context(context)?
        };
        let metrics = exposition::bind(settings.metrics)?;
        let admin = admin::bind("admin socket", &settings.admin_socket)?;
        let name = Some(settings.admin_socket.clone());
        Ok(Self { clients, admin, metrics, name })
    }

    /// Where clients connect.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.clients.first().context("no socket")?.local_addr()?)
    }

    /// Whether several accept from one socket.
    pub fn are_shared(&self, workers: usize) -> bool {
        self.clients.len() < workers
    }

    /// The admin socket's name is this process's from now on.
    pub fn keep_name(&mut self, settings: &Settings) {
        self.name = Some(settings.admin_socket.clone());
    }

    /// It is another's.
    pub fn give_name(&mut self) {
        self.name = None;
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // The next start would take it for a running firewall's only until it is not answered.
            drop(std::fs::remove_file(name));
        }
    }
}

/// Whether a socket is where it is configured to be; of an address with port 0 any port will do.
fn are_same(before: Option<&TcpListener>, configured: Option<SocketAddr>) -> anyhow::Result<bool> {
    let before = before.map(TcpListener::local_addr).transpose().context("metrics.listen")?;
    Ok(match (before, configured) {
        (Some(before), Some(now)) => {
            before.ip() == now.ip() && [0, before.port()].contains(&now.port())
        }
        (before, now) => before.is_none() && now.is_none(),
    })
}
