//! Where the demonstration happens: in namespaces of its own, or on the loopback interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{self, Topology};

/// The addresses of three clients, a gateway and an API, and the means to act as each of them.
#[derive(Debug)]
pub(super) enum Network {
    /// Three namespaces: a packet from a client passes the gateway's interface.
    Lab(Topology),
    /// All on one interface, on which XDP would see everything twice: contract and bans only.
    Loopback,
}

impl Network {
    /// The `n`th client's address.
    pub(super) fn client(&self, n: u8) -> IpAddr {
        match self {
            Self::Lab(_) => Topology::client_v4(n).into(),
            Self::Loopback => Ipv4Addr::new(127, 0, 0, 2 + n).into(),
        }
    }

    /// Where the firewall is to listen.
    pub(super) fn listen(&self) -> SocketAddr {
        match self {
            // Nothing else lives in the namespace: a port that is easy to type is free.
            Self::Lab(_) => (Topology::GATEWAY_V4, 8080).into(),
            Self::Loopback => (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    /// Where the firewall is to answer for its metrics.
    pub(super) fn metrics(&self) -> SocketAddr {
        let port = if matches!(self, Self::Lab(_)) { 9090 } else { 0 };
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// A listening socket for the API.
    pub(super) fn api(&self) -> Result<TcpListener> {
        match self {
            Self::Lab(lab) => Ok(lab.api.bind((Topology::API_V4, 3000).into())?),
            Self::Loopback => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .context("binding a socket for the demonstration's API"),
        }
    }

    /// Starts a process on the gateway.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<Child> {
        match self {
            Self::Lab(lab) => Ok(lab.gateway.spawn(command)?),
            Self::Loopback => Ok(command.spawn()?),
        }
    }

    /// A connection from a client; the inner error is what the network said to it.
    pub(super) fn connect(
        &self,
        from: IpAddr,
        to: SocketAddr,
        patience: Duration,
    ) -> Result<io::Result<TcpStream>> {
        match self {
            Self::Lab(lab) => Ok(lab.client.connect((from, 0).into(), to, patience)?),
            Self::Loopback => Ok(lab::connect((from, 0).into(), to, patience)),
        }
    }
}
