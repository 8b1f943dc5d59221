//! How tunnels end, and how many there may be.
