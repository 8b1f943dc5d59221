//! What new connections are opened by: the limits of the present generation.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::control::settings::{Settings, http2};
use crate::listen::connection::ConnectionSettings;
use crate::listen::connections::Connections;
use crate::listen::framing::HeadLimits;
use crate::listen::http2::OnViolation;
use crate::listen::judged::Patience;
use crate::listen::proxy_protocol::Balancers;
use crate::listen::tls::Encryption;
use crate::pipeline::tunnels::{TunnelLimits, Tunnels};

/// How many tunnels a worker keeps.
pub(super) fn tunnel_limits(settings: &Settings) -> TunnelLimits {
    let limits = &settings.limits;
    TunnelLimits { total: limits.tunnels_per_worker, per_source: limits.tunnels_per_source }
}

/// One worker's hold on the present settings. A connection keeps those that it was opened with.
pub(super) struct Terms {
    shared: Arc<ArcSwap<Settings>>,
    connections: Rc<Connections>,
    tunnels: Rc<Tunnels>,
    on_violation: OnViolation,
    encryption: Option<Encryption>,
    cached: RefCell<(Arc<Settings>, Rc<ConnectionSettings>)>,
}

impl Terms {
    pub(super) fn new(
        shared: &Arc<ArcSwap<Settings>>,
        (connections, tunnels): (Rc<Connections>, Rc<Tunnels>),
        on_violation: OnViolation,
        encryption: Option<Encryption>,
    ) -> Self {
        let settings = shared.load_full();
        let terms = Self {
            shared: Arc::clone(shared),
            connections,
            tunnels,
            on_violation,
            encryption,
            cached: RefCell::new((Arc::clone(&settings), Rc::default())),
        };
        terms.cached.replace((Arc::clone(&settings), terms.of(&settings)));
        terms
    }

    /// What the next connection is opened by.
    pub(super) fn current(&self) -> Rc<ConnectionSettings> {
        let mut cached = self.cached.borrow_mut();
        let present = self.shared.load();
        if !Arc::ptr_eq(&present, &cached.0) {
            *cached = (Arc::clone(&present), self.of(&present));
        }
        Rc::clone(&cached.1)
    }

    /// Takes these settings' limits of numbers too, which hold for all connections together.
    fn of(&self, settings: &Settings) -> Rc<ConnectionSettings> {
        let limits = &settings.limits;
        self.connections.limit(limits.connections_per_worker, limits.connections_per_source);
        self.tunnels.limit(tunnel_limits(settings));
        let encryption = self.encryption.clone().map(|encryption| {
            let (total, per_source) =
                (limits.tls_handshakes_per_worker, limits.tls_handshakes_per_source);
            encryption.handshakes.limit(total, per_source);
            Encryption { timeout: limits.tls_handshake_timeout.0, ..encryption }
        });
        Rc::new(ConnectionSettings {
            head: HeadLimits {
                head_octets: limits.head_octets,
                fields: limits.head_fields,
                target_octets: limits.target_octets,
            },
            patience: Patience {
                head: limits.head_timeout.0,
                idle: limits.idle_timeout.0,
                ..Patience::default()
            },
            balancers: Balancers {
                networks: settings.balancers.as_slice().into(),
                header_timeout: limits.proxy_header_timeout.0,
            },
            http2: settings.http2,
            http2_limits: http2::limits(&limits.http2),
            on_violation: self.on_violation.clone(),
            encryption,
        })
    }
}
